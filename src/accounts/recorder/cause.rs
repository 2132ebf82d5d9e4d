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
                "a hello for our site with a key that is nobody's",
                "if it is one of your people, the link is an old or a mistyped one: send the \
                 present one (mtbox access); otherwise it is a prober, who saw the site",
            ],
            Self::UnknownHost => [
                "unknown-host",
                "a TLS hello for a site that no secret names",
                "usually a visitor of the site or a scanner; a person of yours would have a link \
                 with an old host: send the present one",
            ],
            Self::NotAClient => [
                "not-a-client",
                "something that no Telegram app says",
                "a scanner or a browser; nothing to do",
            ],
            Self::UnfinishedHello => [
                "unfinished-hello",
                "a connection that never said its whole hello",
                "a port scan, or a network that swallows large packets: try a smaller MTU or \
                 network.max-segment",
            ],
            Self::ClockOff => [
                "clock-off",
                "the key is right, but the clocks differ too much",
                "set the clock of the phone and of this machine (NTP), or raise \
                 tolerate-time-skewness",
            ],
            Self::Replay => [
                "replay",
                "the key is right, but this very hello was used before",
                "somebody records and repeats the connection, most likely a censor; the app itself \
                 is not hindered",
            ],
            Self::Throttled => [
                "throttled",
                "the user has as many connections as the fair share allows",
                "raise throttle.max-connections, or ask whether the link is shared with others",
            ],
            Self::Disabled => ["disabled", "the user is switched off", "mtbox user enable NAME"],
            Self::Full => [
                "full",
                "the connection found no place left",
                "raise concurrency and the limit of open files (ulimit -n), or see who has so many",
            ],
            Self::Blocklisted => [
                "blocklisted",
                "the address is on the blocklist",
                "use a list without this network, or put a corrected copy in its place",
            ],
            Self::NotAllowlisted => [
                "not-allowlisted",
                "the address is not on the allowlist",
                "add its network to a file in defense.allowlist.urls",
            ],
            Self::BadHeader => [
                "bad-proxy-header",
                "the PROXY protocol header was broken or did not end",
                "let the balancer send PROXY protocol 1 or 2, or turn proxy-protocol-listener off",
            ],
            Self::Silent => [
                "silent",
                "the key was right, but the app never got as far as asking for Telegram",
                "often a box on the way that breaks the connection after the handshake: try \
                 another host in the secret, another port, or another network",
            ],
            Self::Garbled => [
                "garbled",
                "the key was right, but what followed was no Telegram",
                "something on the way changes the bytes, or the app is very old: update it",
            ],
            Self::UnknownDc => [
                "unknown-dc",
                "the app asked for a data centre that does not exist",
                "set allow-fallback-on-unknown-dc = true, or name it in [telegram.dc-overrides]",
            ],
            Self::DcUnreachable => [
                "dc-unreachable",
                "no address of the data centre answered",
                "see whether this machine reaches Telegram (mtbox doctor); where it is blocked, \
                 set network.proxies; without IPv6, prefer-ip = \"only-ipv4\"",
            ],
            Self::ProxyDown => [
                "proxy-down",
                "no proxy on the way to Telegram worked",
                "see whether the proxy runs and whether user and password are right \
                 (mtbox doctor, network.proxies)",
            ],
            Self::DcHungUp => [
                "dc-hung-up",
                "Telegram, or somebody in front of it, ended the session without a byte",
                "a provider that blocks Telegram does this: set network.proxies, or another \
                 network.bind-device",
            ],
            Self::FrontUnknown => [
                "front-unknown",
                "the site for strangers has no address",
                "check domain-fronting.host or the host in the secrets, and network.dns",
            ],
            Self::FrontDown => [
                "front-down",
                "the site for strangers does not answer",
                "name a site that this machine reaches: a silent port gives the proxy away",
            ],
            Self::FrontLoop => [
                "front-loop",
                "the site for strangers is this proxy itself",
                "set domain-fronting.host and port to the web server behind it",
            ],
            Self::Idle => [
                "idle",
                "no byte moved for as long as network.timeout.idle",
                "usual for apps in the background; if people complain, raise it",
            ],
            Self::Stalled => [
                "stalled",
                "one side took no bytes for 30 seconds, 5 when memory is short",
                "a phone that lost its network; with many of them at once, raise memory.buffers",
            ],
            Self::Pressure => [
                "pressure",
                "there was no memory or no place left for the connection",
                "raise memory.buffers and concurrency, or use a larger machine",
            ],
            Self::Revoked => [
                "revoked",
                "the user was removed, switched off, or given another secret",
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
