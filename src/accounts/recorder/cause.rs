//! Causes of refused connections and broken sessions, with a description and a remedy for the
//! operator. LuCI translates these texts; its tests compare them with `fn texts`.

/// Why a connection was refused or a session broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A hello for one of our hosts that matches no key.
    WrongKey,
    /// A hello for a host that no secret names.
    UnknownHost,
    /// A hello without a host name, or data that is not TLS.
    NotAClient,
    /// A hello that stayed incomplete.
    UnfinishedHello,
    /// The clocks of client and proxy differ by more than `tolerate-time-skewness`.
    ClockOff,
    /// A hello that was accepted before.
    Replay,
    /// The user is over the fair share.
    Throttled,
    /// The user is in `disabled-users`.
    Disabled,
    /// `concurrency` is reached.
    Full,
    /// Closed for a newer connection, when all places were taken.
    MadeRoom,
    /// The user had most sessions when all places were taken.
    OverShare,
    /// Unauthenticated clients came faster than the local ports allow.
    DialLimit,
    /// The machine had no local port, descriptor or memory for a connection.
    Shortage,
    /// The address is on the blocklist.
    Blocklisted,
    /// The address is not on the allowlist.
    NotAllowlisted,
    /// The PROXY protocol header is invalid or incomplete.
    BadHeader,
    /// A PROXY protocol header, where no client may send one.
    HeaderOff,
    /// A PROXY protocol header from an address that is not trusted.
    HeaderUntrusted,
    /// A second PROXY protocol header.
    HeaderTwice,
    /// A user came without an announced address, where PROXY protocol headers are expected.
    HeaderMissing,
    /// The client sent nothing after our ServerHello.
    Silent,
    /// The client sent invalid data after our ServerHello.
    Garbled,
    /// The client asked for a data centre that does not exist.
    UnknownDc,
    /// No address of the data centre answered.
    DcUnreachable,
    /// No entry of `network.proxies` worked.
    ProxyDown,
    /// Telegram took the connection and sent no data.
    DcHungUp,
    /// The host name of the front has no address.
    FrontUnknown,
    /// The host name of a secret leads to this machine or into a private network.
    FrontNotPublic,
    /// The front does not answer.
    FrontDown,
    /// The address of the front is our own, or leads back to us.
    FrontLoop,
    /// No data in either direction for `network.timeout.idle`.
    Idle,
    /// One side accepted no data for too long.
    Stalled,
    /// No memory for unsent data, or no connection left for unauthenticated clients.
    Pressure,
    /// A reload removed or disabled the user, or changed the secret.
    Revoked,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 34] = [
        Self::WrongKey,
        Self::UnknownHost,
        Self::NotAClient,
        Self::UnfinishedHello,
        Self::ClockOff,
        Self::Replay,
        Self::Throttled,
        Self::Disabled,
        Self::Full,
        Self::MadeRoom,
        Self::OverShare,
        Self::DialLimit,
        Self::Shortage,
        Self::Blocklisted,
        Self::NotAllowlisted,
        Self::BadHeader,
        Self::HeaderOff,
        Self::HeaderUntrusted,
        Self::HeaderTwice,
        Self::HeaderMissing,
        Self::Silent,
        Self::Garbled,
        Self::UnknownDc,
        Self::DcUnreachable,
        Self::ProxyDown,
        Self::DcHungUp,
        Self::FrontUnknown,
        Self::FrontNotPublic,
        Self::FrontDown,
        Self::FrontLoop,
        Self::Idle,
        Self::Stalled,
        Self::Pressure,
        Self::Revoked,
    ];

    /// The identifier, the description, and the remedy.
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
                "the key is correct, but this TLS hello was used before, or comes from before the \
                 start of mtbox",
                "a third party, most likely a censor, records and replays connections; the app is \
                 not affected. Soon after a start: an app whose clock is slow, which gets in \
                 later; state-file makes this rarer",
            ],
            Self::Throttled => [
                "throttled",
                "the user has reached the fair share of connections",
                "raise throttle.max-connections or concurrency, or check whether the link is \
                 shared with others",
            ],
            Self::Disabled => ["disabled", "the user is disabled", "mtbox user enable NAME"],
            Self::Full => [
                "full",
                "the limit of connections is reached",
                "raise concurrency and the limit of open files (ulimit -n), or find the users with \
                 most connections",
            ],
            Self::MadeRoom => [
                "made-room",
                "all places were taken: this connection was closed for a newer one",
                "a flood of connections, or too few places: raise concurrency and the limit of \
                 open files (ulimit -n)",
            ],
            Self::OverShare => [
                "over-share",
                "all places were taken, and this user had most: a session was closed for another",
                "check whether the link is shared with others, or raise concurrency and the limit \
                 of open files (ulimit -n)",
            ],
            Self::DialLimit => [
                "dial-limit",
                "unauthenticated clients came faster than they may be connected to the front",
                "a flood of probes; to allow more, widen the range of local ports of the system",
            ],
            Self::Shortage => [
                "shortage",
                "this machine had no local port, descriptor or memory for a connection",
                "widen the range of local ports of the system, or raise the limit of open files \
                 (ulimit -n)",
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
            Self::HeaderOff => [
                "proxy-header-off",
                "a PROXY header came, but proxy-protocol-listener is off",
                "if a relay of yours sends it, set proxy-protocol-listener = true, and name the \
                 relay in proxy-protocol-trusted; otherwise it is a scanner",
            ],
            Self::HeaderUntrusted => [
                "proxy-header-untrusted",
                "a PROXY header came from an address that is not in proxy-protocol-trusted",
                "if a relay of yours sends it, add its address to proxy-protocol-trusted; \
                 otherwise it is a client that announces a false address, which saw only the front",
            ],
            Self::HeaderTwice => [
                "proxy-header-twice",
                "a second PROXY header came behind the first one",
                "of several relays in a row, each must read the header of the one before it; a \
                 single one must send one version only",
            ],
            Self::HeaderMissing => [
                "proxy-header-missing",
                "a session came without a PROXY header, or with one that names no address, so it \
                 counts as one of the relay",
                "enable PROXY protocol version 1 or 2 on the relay; if clients also connect \
                 directly, name the relays in proxy-protocol-trusted; without a relay, remove \
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
                "an upstream proxy does not work, or leads nowhere",
                "check whether it runs, whether user and password are correct, and whether it \
                 reaches Telegram (mtbox doctor, network.proxies)",
            ],
            Self::DcHungUp => [
                "dc-hung-up",
                "Telegram, or a device on the path, took the connection and sent no data",
                "your provider probably blocks Telegram: set network.proxies or another \
                 network.bind-device",
            ],
            Self::FrontUnknown => [
                "front-unknown",
                "the host name of the front has no address",
                "check domain-fronting.host or the host in the secrets, and network.dns",
            ],
            Self::FrontNotPublic => [
                "front-not-public",
                "the host in the secret leads to this machine or into a private network",
                "if your web server is there, set domain-fronting.host to its name or address; \
                 otherwise the name server is wrong: check network.dns",
            ],
            Self::FrontDown => [
                "front-down",
                "the front does not answer",
                "choose a web site that this machine reaches: a port without an answer reveals the \
                 proxy",
            ],
            Self::FrontLoop => [
                "front-loop",
                "the front is this proxy itself, or leads back to it",
                "set domain-fronting.host and domain-fronting.port to the web server itself, and \
                 reload: a router in front of mtbox, or a name with its address, leads back",
            ],
            Self::Idle => [
                "idle",
                "no data was transferred for network.timeout.idle",
                "normal for apps in the background; if users complain, raise the timeout",
            ],
            Self::Stalled => [
                "stalled",
                "one side acknowledged no data for 30 seconds (5 seconds when memory is low)",
                "usually a phone that lost its network, or a way to Telegram that was cut; if \
                 there are many at once, raise memory.buffers",
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

    /// Whether the connection was refused or failed. The other causes end a session that worked.
    pub fn is_refusal(self) -> bool {
        !matches!(
            self,
            Self::Idle | Self::Stalled | Self::Revoked | Self::OverShare | Self::HeaderMissing
        )
    }

    /// Whether a relay in front and the config disagree about PROXY headers.
    pub fn is_about_headers(self) -> bool {
        matches!(
            self,
            Self::BadHeader
                | Self::HeaderOff
                | Self::HeaderUntrusted
                | Self::HeaderTwice
                | Self::HeaderMissing
        )
    }

    /// The identifier in `/stats`, `/explain` and logs.
    pub fn as_str(self) -> &'static str {
        self.texts()[0]
    }

    /// What happened, for the operator.
    pub fn description(self) -> &'static str {
        self.texts()[1]
    }

    /// What the operator can do.
    pub fn remedy(self) -> &'static str {
        self.texts()[2]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_cause_has_texts_and_a_remedy_of_its_own() {
        for part in 0..3 {
            let texts: BTreeSet<&str> =
                Cause::ALL.iter().map(|cause| cause.texts()[part]).collect();
            assert_eq!(texts.len(), Cause::ALL.len());
            assert!(texts.iter().all(|text| text.len() > 3 && !text.ends_with('.')));
        }
    }
}
