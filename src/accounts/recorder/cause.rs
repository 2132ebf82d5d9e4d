//! What can go wrong with a connection, in the words of its owner, and what helps.

/// Why somebody was refused, or why a session broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A hello for one of our hosts whose key is nobody's.
    WrongKey,
    /// A hello for a host that no secret names.
    UnknownHost,
    /// A hello without a host, or something that is no TLS at all.
    NotAClient,
    /// A hello that never became whole.
    UnfinishedHello,
    /// The clocks of client and proxy are too far apart.
    ClockOff,
    /// A hello that was used before.
    Replay,
    /// Over the fair share.
    Throttled,
    /// Switched off by the operator.
    Disabled,
    /// `concurrency` is reached.
    Full,
    /// On the blocklist.
    Blocklisted,
    /// Not on the allowlist.
    NotAllowlisted,
    /// A PROXY protocol header that is none.
    BadHeader,
    /// The client was answered and never said what it wants.
    Silent,
    /// The client was answered and said what no client says.
    Garbled,
    /// A data centre that nobody knows.
    UnknownDc,
    /// No address of the data centre answers.
    DcUnreachable,
    /// No proxy on the way to Telegram works.
    ProxyDown,
    /// Telegram ended the session at once, without a byte.
    DcHungUp,
    /// The site behind us has no address.
    FrontUnknown,
    /// The site behind us does not answer.
    FrontDown,
    /// The site behind us is ourselves.
    FrontLoop,
    /// No byte either way for too long.
    Idle,
    /// A side took nothing for too long.
    Stalled,
    /// Out of memory for unsent data, or of places for strangers.
    Pressure,
    /// Removed, disabled, or given another secret by a reload.
    Revoked,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 25] = [
        Self::WrongKey,
        Self::UnknownHost,
        Self::NotAClient,
        Self::UnfinishedHello,
        Self::ClockOff,
        Self::Replay,
        Self::Throttled,
        Self::Disabled,
        Self::Full,
        Self::Blocklisted,
        Self::NotAllowlisted,
        Self::BadHeader,
        Self::Silent,
        Self::Garbled,
        Self::UnknownDc,
        Self::DcUnreachable,
        Self::ProxyDown,
        Self::DcHungUp,
        Self::FrontUnknown,
        Self::FrontDown,
        Self::FrontLoop,
        Self::Idle,
        Self::Stalled,
        Self::Pressure,
        Self::Revoked,
    ];

    /// The word for programs, what happened, and what helps.
    fn texts(self) -> [&'static str; 3] {
        match self {
            Self::WrongKey => [
                "wrong-key",
                "TLS hello with a key that matches no user",
                "if this is one of your users, the link is outdated or mistyped: send the current \
                 one (mtbox access); otherwise it is a probe, which saw only the front",
            ],
            Self::UnknownHost => [
                "unknown-host",
                "TLS hello with a host that is in no secret",
                "usually a browser or a scanner; if this is one of your users, the link has an old \
                 host: send the current one",
            ],
            Self::NotAClient => [
                "not-a-client",
                "the first bytes are not from a Telegram app",
                "a scanner or a browser; nothing to do",
            ],
            Self::UnfinishedHello => [
                "unfinished-hello",
                "the TLS hello is incomplete",
                "a port scan, or a network that drops large packets: try a smaller MTU or \
                 network.max-segment",
            ],
            Self::ClockOff => [
                "clock-off",
                "the key is correct, but the clocks of client and proxy differ too much",
                "set the clocks of the phone and of this machine (NTP), or raise \
                 tolerate-time-skewness",
            ],
            Self::Replay => [
                "replay",
                "the key is correct, but this TLS hello was used before",
                "a third party, most likely a censor, records and replays connections; the app is \
                 not affected",
            ],
            Self::Throttled => [
                "throttled",
                "the user has reached the fair share of connections",
                "raise throttle.max-connections, or check whether the link is shared with others",
            ],
            Self::Disabled => ["disabled", "the user is disabled", "mtbox user enable NAME"],
            Self::Full => [
                "full",
                "the limit of connections is reached",
                "raise concurrency and the limit of open files (ulimit -n), or find the users with \
                 most connections",
            ],
            Self::Blocklisted => [
                "blocklisted",
                "the address is on the blocklist",
                "use a list without this network, or a corrected copy of the list",
            ],
            Self::NotAllowlisted => [
                "not-allowlisted",
                "the address is not on the allowlist",
                "add its network to a file in defense.allowlist.urls",
            ],
            Self::BadHeader => [
                "bad-proxy-header",
                "the PROXY protocol header is invalid or incomplete",
                "enable PROXY protocol version 1 or 2 on the load balancer, or disable \
                 proxy-protocol-listener",
            ],
            Self::Silent => [
                "silent",
                "the key was correct, but the app sent no request for a data centre",
                "often a device on the path breaks the connection after the handshake: try another \
                 host in the secret, another port, or another network",
            ],
            Self::Garbled => [
                "garbled",
                "the key was correct, but the data after the handshake is invalid",
                "a device on the path changes the data, or the app is outdated: update the app",
            ],
            Self::UnknownDc => [
                "unknown-dc",
                "the app requested an unknown data centre",
                "set allow-fallback-on-unknown-dc = true, or add the data centre to \
                 [telegram.dc-overrides]",
            ],
            Self::DcUnreachable => [
                "dc-unreachable",
                "no address of the data centre answered",
                "check whether this machine reaches Telegram (mtbox doctor); if Telegram is \
                 blocked, set network.proxies; without IPv6, set prefer-ip = \"only-ipv4\"",
            ],
            Self::ProxyDown => [
                "proxy-down",
                "no upstream proxy is available",
                "check whether the upstream proxy runs and whether user and password are correct \
                 (mtbox doctor, network.proxies)",
            ],
            Self::DcHungUp => [
                "dc-hung-up",
                "Telegram, or a device on the path, closed the session without sending data",
                "your provider probably blocks Telegram: set network.proxies or another \
                 network.bind-device",
            ],
            Self::FrontUnknown => [
                "front-unknown",
                "the host name of the front has no address",
                "check domain-fronting.host or the host in the secrets, and network.dns",
            ],
            Self::FrontDown => [
                "front-down",
                "the front does not answer",
                "choose a web site that this machine reaches: a port without an answer reveals the \
                 proxy",
            ],
            Self::FrontLoop => [
                "front-loop",
                "the front is this proxy itself",
                "set domain-fronting.host and domain-fronting.port to the web server behind the \
                 proxy",
            ],
            Self::Idle => [
                "idle",
                "no data was transferred for network.timeout.idle",
                "normal for apps in the background; if users complain, raise the timeout",
            ],
            Self::Stalled => [
                "stalled",
                "one side received no data for 30 seconds (5 seconds when memory is low)",
                "usually a phone that lost its network; if there are many at once, raise \
                 memory.buffers",
            ],
            Self::Pressure => [
                "pressure",
                "no memory or no free slot was left for the connection",
                "raise memory.buffers and concurrency, or use a larger machine",
            ],
            Self::Revoked => [
                "revoked",
                "the user was removed or disabled, or has a new secret",
                "send the new link: mtbox access CONFIG --user NAME",
            ],
        }
    }

    /// Whether it kept somebody out, rather than ended what went well.
    pub fn is_refusal(self) -> bool {
        !matches!(self, Self::Idle | Self::Stalled | Self::Revoked)
    }

    /// The word for programs and logs.
    pub fn as_str(self) -> &'static str {
        self.texts()[0]
    }

    /// What happened, in words.
    pub fn description(self) -> &'static str {
        self.texts()[1]
    }

    /// What helps, in words.
    pub fn remedy(self) -> &'static str {
        self.texts()[2]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_cause_has_words_and_a_remedy_of_its_own() {
        for part in 0..3 {
            let told: BTreeSet<&str> = Cause::ALL.iter().map(|cause| cause.texts()[part]).collect();
            assert_eq!(told.len(), Cause::ALL.len());
            assert!(told.iter().all(|text| text.len() > 3 && !text.ends_with('.')));
        }
    }
}
