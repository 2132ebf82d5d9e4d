//! Every key of the file, in the order of `example.config.toml`. The loader, the example, the
//! table in the README and the suggestions for unknown keys all come from [`KEYS`].

use crate::config::key::Key;
use crate::config::partial::PartialSettings;
use crate::config::value::ValueKind::{
    Address, Addresses, Bytes, Choice, Count, DcOverrides, Duration, ErrorRate, Flag, Host,
    HttpBind, HttpPath, Ip, Ips, KernelName, ListSources, NameServer, Names, Networks, Number,
    PageOrNone, Pages, Path, Port, Prefix, Proxies, Secret, Secrets,
};
use crate::config::value::{
    LOG_FORMAT, LOG_LEVEL, LOG_TO, PREFER_IP, READ_COALESCING, SHAPING, TAG_FORMAT,
};
use crate::config::{addresses, urls};

/// The key at a path in lower case.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Is this the path of a table that holds keys?
pub fn is_table(path: &str) -> bool {
    let below = |key: &Key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    KEYS.iter().any(below)
}

/// Takes values that nothing reads, once they are known to be valid.
fn unused<T>(_: &mut PartialSettings, _: T) {}

/// Every key that the file may hold.
pub const KEYS: &[Key] = &[
    Key::new("debug", Flag(|d, v| d.debug = v), "false", "As `log-level = \"debug\"`."),
    Key::new(
        "secret",
        Secret,
        r#""ee...""#,
        "The secret of a lone user, who is called `default`; `[secrets]` takes its place.",
    )
    .unset(),
    Key::new(
        "bind-to",
        Addresses(|d, v| d.binds = Some(v)),
        r#""0.0.0.0:443""#,
        "Where clients connect: one `IP:port` or a list; `0.0.0.0` takes IPv6 too. Required.",
    )
    .unset(),
    Key::new(
        "disabled-users",
        Names(|d, v| d.disabled = v),
        "[]",
        "Users who may not connect for now: names from `[secrets]`.",
    ),
    Key::new(
        "api-bind-to",
        HttpBind(|d, v| d.api_bind = Some(v)),
        r#""127.0.0.1:9090""#,
        "Serve statistics at `http://IP:port/stats`, or on `unix:/run/mtbox.sock`; keep it \
         private, nothing asks who reads.",
    )
    .unset(),
    Key::new(
        "proxy-protocol-listener",
        Flag(|d, v| d.proxy_protocol = v),
        "false",
        "Accept PROXY protocol headers, version 1 or 2, on every listener.",
    ),
    Key::new(
        "proxy-protocol-trusted",
        Networks(|d, v| d.trusted = v),
        "[]",
        "Whose headers count, such as `[\"127.0.0.1\", \"10.0.0.0/8\"]`; empty = everybody's.",
    ),
    Key::new(
        "concurrency",
        Count(|d, v| d.concurrency = Some(v)),
        "4096",
        "Most connections at once, strangers included.",
    ),
    Key::new(
        "prefer-ip",
        Choice(PREFER_IP),
        r#""prefer-ipv6""#,
        "Which of Telegram's addresses to dial: `prefer-ipv4`, `prefer-ipv6`, `only-ipv4`, \
         `only-ipv6`.",
    ),
    Key::new(
        "public-ipv4",
        Ip(|d, v| d.public_ipv4 = Some(v)),
        r#""192.0.2.1""#,
        "The address that links for IPv4 name.",
    )
    .unset(),
    Key::new(
        "public-ipv6",
        Ip(|d, v| d.public_ipv6 = Some(v)),
        r#""2001:db8::1""#,
        "The address that links for IPv6 name.",
    )
    .unset(),
    Key::new(
        "auto-update",
        Flag(|d, v| d.auto_update = v),
        "false",
        "Fetch Telegram's list of addresses every hour; data centre 203 is taken from it.",
    ),
    Key::new(
        "tolerate-time-skewness",
        Duration(|d, v| d.time_skew = Some(v)),
        r#""2m""#,
        "How far a client's clock may be off; the default is 5s when anti-replay is off.",
    ),
    Key::new(
        "allow-fallback-on-unknown-dc",
        Flag(|d, v| d.fallback_on_unknown_dc = v),
        "false",
        "Send clients that ask for an unknown data centre to data centre 2.",
    ),
    Key::new(
        "log-level",
        Choice(LOG_LEVEL),
        r#""info""#,
        "What to log: `error`, `warn`, `info`, or `debug` for every connection's story too.",
    ),
    Key::new(
        "log-format",
        Choice(LOG_FORMAT),
        r#""text""#,
        "`text`: one line of `key=value` per event; `json`: one object per line.",
    ),
    Key::new(
        "log-to",
        Choice(LOG_TO),
        r#""stderr""#,
        "Where the log goes: `stderr`, `syslog`, or `journal` (of systemd).",
    ),
    Key::new(
        "log-addresses",
        Flag(|d, v| d.log_addresses = v),
        "false",
        "Log whole client addresses instead of their /24 or /48.",
    ),
    Key::new(
        "pid-file",
        Path(urls::writable_file, |d, v| d.pid_file = Some(v)),
        r#""/run/mtbox.pid""#,
        "Write our process number there, so that `mtbox user` can tell us of changes.",
    )
    .unset(),
    Key::new(
        "state-file",
        Path(urls::writable_file, |d, v| d.state_file = Some(v)),
        r#""/var/lib/mtbox/state""#,
        "Keep each user's totals there, so that they survive a restart.",
    )
    .unset(),
    Key::new(
        "state-interval",
        Duration(|d, v| d.state_interval = Some(v)),
        r#""10m""#,
        "How often to write them, if they have changed.",
    ),
    Key::new(
        "domain-fronting-port",
        Port(|d, v| d.old_front_port = Some(v)),
        "443",
        "As `port` in `[domain-fronting]`.",
    )
    .instead("write port below [domain-fronting]"),
    Key::new("domain-fronting-ip", Ip(unused), r#""192.0.2.1""#, "Has no effect.")
        .unset()
        .instead("it has no effect; write host below [domain-fronting]"),
    Key::new(
        "domain-fronting-proxy-protocol",
        Flag(|d, v| d.front_proxy_protocol |= v),
        "false",
        "As `proxy-protocol` in `[domain-fronting]`.",
    )
    .instead("write proxy-protocol below [domain-fronting]"),
    Key::new(
        "domain-fronting.host",
        Host(|d, v| d.front_host = Some(v)),
        r#""127.0.0.1""#,
        "Where strangers go instead of the host in the secret; a web server of your own is best.",
    )
    .unset(),
    Key::new(
        "domain-fronting.port",
        Port(|d, v| d.front_port = Some(v)),
        "443",
        "The port that strangers are sent to.",
    ),
    Key::new("domain-fronting.ip", Ip(unused), r#""192.0.2.1""#, "Has no effect.")
        .unset()
        .instead("it has no effect; write host instead"),
    Key::new(
        "domain-fronting.proxy-protocol",
        Flag(|d, v| d.front_proxy_protocol |= v),
        "false",
        "Tell that host the stranger's address in a PROXY protocol header, version 2.",
    ),
    Key::new(
        "domain-fronting.scout",
        Flag(|d, v| d.probe_front = Some(v)),
        "true",
        "Look at how that site answers TLS, at start and every `raid-each`, and answer alike.",
    ),
    Key::new(
        "domain-fronting.mimic-latency",
        Flag(|d, v| d.mimic_latency = v),
        "false",
        "Answer only after as long as that site takes.",
    ),
    Key::new(
        "throttle.max-connections",
        Count(|d, v| d.max_connections = Some(v)),
        "0",
        "Connections that all users share fairly; 0 = no such limit.",
    )
    .allows_zero(),
    Key::new(
        "throttle.check-interval",
        Duration(|d, v| d.check_interval = Some(v)),
        r#""5s""#,
        "How often the shares are computed anew.",
    ),
    Key::new(
        "network.dns",
        NameServer(|d, v| d.dns = Some(v)),
        r#""udp://1.1.1.1""#,
        "The name server instead of the system's: an IPv4 address, `udp://IP:port`, \
         `tls://host` or `https://host/path`.",
    )
    .unset(),
    Key::new(
        "network.dns-bootstrap",
        Ip(|d, v| d.dns_bootstrap = Some(v)),
        r#""1.1.1.1""#,
        "The address of a name server that is given by name; asked of the system if not set.",
    )
    .unset(),
    Key::new(
        "network.doh-ip",
        Ip(|d, v| d.doh_ip = Some(v)),
        r#""1.1.1.1""#,
        "As `dns = \"https://IP\"`.",
    )
    .unset()
    .instead("write dns below [network]"),
    Key::new(
        "network.proxies",
        Proxies(|d, v| d.upstreams = v),
        "[]",
        "SOCKS5 proxies on the way to Telegram, tried in random order: \
         `socks5://user:password@host:1080`.",
    ),
    Key::new(
        "network.bind-device",
        KernelName(addresses::device_name, |d, v| d.device = Some(v)),
        r#""wan""#,
        "The network device for our own connections; loopback is never bound.",
    )
    .unset(),
    Key::new(
        "network.bind-address",
        Ips(|d, v| d.source_addrs = v),
        r#"["192.0.2.1", "2001:db8::1"]"#,
        "The source address of our own connections, one of each family; a family without one is \
         not used.",
    )
    .unset(),
    Key::new(
        "network.mark",
        Number(1, u32::MAX, |d, v| d.mark = Some(v)),
        "1",
        "The firewall mark of our own connections (`SO_MARK`).",
    )
    .unset(),
    Key::new(
        "network.tcp-congestion",
        KernelName(addresses::congestion_name, |d, v| d.congestion = Some(v)),
        r#""bbr""#,
        "The congestion control of every connection, where the kernel has it.",
    )
    .unset(),
    Key::new(
        "network.max-segment",
        Number(88, 32_767, |d, v| d.max_segment = u16::try_from(v).ok()),
        "536",
        "Largest TCP segment that clients may send; small ones cut their hello, and cost speed.",
    )
    .unset(),
    Key::new(
        "network.multipath-tcp",
        Flag(|d, v| d.multipath = v),
        "false",
        "Speak Multipath TCP where the kernel and the peer can.",
    ),
    Key::new(
        "network.reuse-port",
        Flag(|d, v| d.reuse_port = v),
        "false",
        "Let several processes listen on the same port.",
    ),
    Key::new(
        "network.ca-file",
        Path(urls::existing_file, |d, v| d.ca_file = Some(v)),
        r#""/etc/mtbox/ca.pem""#,
        "Certificates to trust besides the built-in ones, in PEM.",
    )
    .unset(),
    Key::new(
        "network.public-ip-url",
        PageOrNone(urls::http_url, |d, v| d.public_ip_url = Some(v)),
        r#""https://ifconfig.co""#,
        "Asked for our own address by `mtbox access` and `mtbox doctor`, where it is not set \
         above; `\"\"` = nobody.",
    ),
    Key::new(
        "network.tcp-not-sent-lowat",
        Bytes(|d, v| d.not_sent_lowat = Some(v)),
        r#""128kib""#,
        "Most unsent bytes that the kernel queues per socket; `0b` = the kernel's default.",
    )
    .allows_zero()
    .max(i32::MAX as u64),
    Key::new(
        "network.re-encrypt",
        Flag(|d, v| d.re_encrypt = v),
        "false",
        "Encrypt downloads anew, instead of agreeing with Telegram on the client's own keys.",
    ),
    Key::new(
        "network.moderation",
        Choice(READ_COALESCING),
        r#""auto""#,
        "`auto`: rest 1 to 2 ms between rounds of many small reads, to save CPU; `off`: never.",
    ),
    Key::new(
        "network.timeout.tcp",
        Duration(|d, v| d.timeout_tcp = Some(v)),
        r#""5s""#,
        "How long to wait for one address to answer a dial.",
    ),
    Key::new(
        "network.timeout.http",
        Duration(|d, v| d.timeout_http = Some(v)),
        r#""10s""#,
        "How long a download may stand still.",
    ),
    Key::new(
        "network.timeout.idle",
        Duration(|d, v| d.timeout_idle = Some(v)),
        r#""5m""#,
        "Silence after which a connection ends.",
    ),
    Key::new(
        "network.timeout.handshake",
        Duration(|d, v| d.timeout_handshake = Some(v)),
        r#""10s""#,
        "How long a client may take to say what it wants.",
    ),
    Key::new(
        "network.keep-alive.disabled",
        Flag(|d, v| d.keep_alive_disabled = v),
        "false",
        "Send no TCP keep-alive probes.",
    ),
    Key::new(
        "network.keep-alive.idle",
        Duration(|d, v| d.keep_alive_idle = Some(v)),
        r#""15s""#,
        "Silence before the first probe.",
    )
    .max(KEEP_ALIVE_SECONDS),
    Key::new(
        "network.keep-alive.interval",
        Duration(|d, v| d.keep_alive_interval = Some(v)),
        r#""15s""#,
        "Time between probes.",
    )
    .max(KEEP_ALIVE_SECONDS),
    Key::new(
        "network.keep-alive.count",
        Count(|d, v| d.keep_alive_count = Some(v)),
        "9",
        "Probes without an answer after which the connection is dead.",
    )
    .max(KEEP_ALIVE_PROBES),
    Key::new(
        "telegram.dc-list-urls",
        Pages(urls::http_url, |d, v| d.dc_list = Some(v)),
        concat!(
            r#"["https://core.telegram.org/getProxyConfig", "#,
            r#""https://core.telegram.org/getProxyConfigV6"]"#
        ),
        "What `auto-update` reads.",
    ),
    Key::new(
        "telegram.dc-overrides",
        DcOverrides,
        r#"203 = ["192.0.2.1:443"]"#,
        "Addresses to dial instead of the built-in ones, for each data centre you name.",
    )
    .unset(),
    Key::new(
        "memory.buffers",
        Bytes(|d, v| d.buffer_bytes = Some(v)),
        r#""16mib""#,
        "Most memory for data that a peer has not taken yet; a sixteenth of the machine's, 1 to \
         64 mib, if not set.",
    )
    .unset(),
    Key::new(
        "defense.cache-dir",
        Path(urls::directory, |d, v| d.cache_dir = Some(v)),
        r#""/var/cache/mtbox""#,
        "A folder for copies of fetched lists, so that a start without a network has them.",
    )
    .unset(),
    Key::new(
        "defense.anti-replay.enabled",
        Flag(|d, v| d.replay = Some(v)),
        "true",
        "Remember accepted hellos, so that nobody can use a recorded one.",
    ),
    Key::new(
        "defense.anti-replay.max-size",
        Bytes(|d, v| d.replay_bytes = Some(v)),
        r#""1mib""#,
        "Most memory for them; it grows with use.",
    ),
    Key::new(
        "defense.anti-replay.error-rate",
        ErrorRate,
        "0.001",
        "Has no effect: the store makes no errors.",
    ),
    Key::new(
        "defense.blocklist.enabled",
        Flag(|d, v| d.blocklist.enabled = v),
        "false",
        "Close connections from listed addresses.",
    ),
    Key::new(
        "defense.blocklist.download-concurrency",
        Count(|d, v| d.blocklist.concurrency = Some(v)),
        "1",
        "How many lists to fetch at once.",
    ),
    Key::new(
        "defense.blocklist.urls",
        ListSources(|d, v| d.blocklist.sources = v),
        "[]",
        "Files or web addresses of FireHOL lists.",
    ),
    Key::new(
        "defense.blocklist.update-each",
        Duration(|d, v| d.blocklist.interval = Some(v)),
        r#""6h""#,
        "How often to read them again.",
    ),
    Key::new(
        "defense.allowlist.enabled",
        Flag(|d, v| d.allowlist.enabled = v),
        "false",
        "Close connections from addresses that are not listed.",
    ),
    Key::new(
        "defense.allowlist.download-concurrency",
        Count(|d, v| d.allowlist.concurrency = Some(v)),
        "1",
        "How many lists to fetch at once.",
    ),
    Key::new(
        "defense.allowlist.urls",
        ListSources(|d, v| d.allowlist.sources = v),
        "[]",
        "Files or web addresses of FireHOL lists.",
    ),
    Key::new(
        "defense.allowlist.update-each",
        Duration(|d, v| d.allowlist.interval = Some(v)),
        r#""6h""#,
        "How often to read them again.",
    ),
    Key::new(
        "defense.doppelganger.enabled",
        Flag(|d, v| d.shape = Some(v)),
        "true",
        "Imitate the pace and the record sizes of a web site on downloads.",
    ),
    Key::new(
        "defense.doppelganger.mode",
        Choice(SHAPING),
        r#""burst""#,
        "`burst`: only the first records after a pause; `always`: all of them, at most 2.4 MB/s.",
    ),
    Key::new(
        "defense.doppelganger.urls",
        Pages(urls::https_url, |d, v| d.timing_pages = v),
        "[]",
        "Pages of the site in your secret, whose pace downloads should imitate.",
    ),
    Key::new(
        "defense.doppelganger.repeats-per-raid",
        Count(|d, v| d.page_repeats = Some(v)),
        "10",
        "How often to fetch each page per visit.",
    ),
    Key::new(
        "defense.doppelganger.raid-each",
        Duration(|d, v| d.page_interval = Some(v)),
        r#""6h""#,
        "How often to visit them.",
    ),
    Key::new(
        "defense.doppelganger.drs",
        Flag(|d, v| d.drs = v),
        "false",
        "Start each download with small records, as web servers do.",
    ),
    Key::new(
        "stats.statsd.enabled",
        Flag(|d, v| d.statsd.enabled = v),
        "false",
        "Send metrics to statsd.",
    ),
    Key::new(
        "stats.statsd.address",
        Address(|d, v| d.statsd.address = Some(v)),
        r#""127.0.0.1:8125""#,
        "Where statsd listens, over UDP.",
    )
    .unset(),
    Key::new(
        "stats.statsd.metric-prefix",
        Prefix(|d, v| d.statsd.prefix = Some(v)),
        r#""mtg""#,
        "First part of metric names.",
    ),
    Key::new(
        "stats.statsd.tag-format",
        Choice(TAG_FORMAT),
        r#""datadog""#,
        "`datadog`, `influxdb` or `graphite`.",
    ),
    Key::new(
        "stats.prometheus.enabled",
        Flag(|d, v| d.prometheus.enabled = v),
        "false",
        "Serve metrics to Prometheus.",
    ),
    Key::new(
        "stats.prometheus.bind-to",
        HttpBind(|d, v| d.prometheus.bind = Some(v)),
        r#""127.0.0.1:3129""#,
        "Where Prometheus reads them: `IP:port` or `unix:/path`; required with `enabled`.",
    )
    .unset(),
    Key::new(
        "stats.prometheus.http-path",
        HttpPath(|d, v| d.prometheus.path = Some(v)),
        r#""/""#,
        "Under which path; `/` = any.",
    ),
    Key::new(
        "stats.prometheus.metric-prefix",
        Prefix(|d, v| d.prometheus.prefix = Some(v)),
        r#""mtg""#,
        "First part of metric names.",
    ),
    Key::new(
        "stats.prometheus.per-user",
        Flag(|d, v| d.prometheus.per_user = v),
        "false",
        "Tell the names and the traffic of the users too.",
    ),
    Key::new(
        "secrets",
        Secrets,
        r#"me = "ee...""#,
        "The users: a name and a secret each; `mtbox generate-secret HOST` makes secrets.",
    )
    .unset(),
];

/// Linux refuses more (tcp(7), `MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`).
const KEEP_ALIVE_SECONDS: u64 = 32767;
/// Linux refuses more (`MAX_TCP_KEEPCNT`).
const KEEP_ALIVE_PROBES: u64 = 127;

#[cfg(test)]
mod tests;
