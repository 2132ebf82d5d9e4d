//! Every key of the config file, in the order of `example.config.toml`. The loader, the example,
//! docs/CONFIGURATION.md, the man page, and the suggestions for unknown keys use [`KEYS`].

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

/// Looks up a key by its path in lower case.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether the path is a table that contains keys.
pub fn is_table(path: &str) -> bool {
    let below = |key: &Key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    KEYS.iter().any(below)
}

/// Discards a valid value that has no effect.
fn unused<T>(_: &mut PartialSettings, _: T) {}

/// Every key that the file may contain.
pub const KEYS: &[Key] = &[
    Key::new("debug", Flag(|d, v| d.debug = v), "false", "Same as `log-level = \"debug\"`."),
    Key::new(
        "secret",
        Secret,
        r#""ee...""#,
        "Secret of a single user, named `default`. Has no effect beside `[secrets]`.",
    )
    .unset(),
    Key::new(
        "bind-to",
        Addresses(|d, v| d.binds = Some(v)),
        r#""0.0.0.0:443""#,
        "Listen addresses for clients: one `IP:port` or a list. `0.0.0.0` includes IPv6. Required.",
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
        "Address of the statistics: `http://IP:port/stats`, or `unix:/run/mtbox.sock`. No \
         authentication: keep it private.",
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
        "Networks with trusted headers, such as `[\"127.0.0.1\", \"10.0.0.0/8\"]`. Empty: all.",
    ),
    Key::new(
        "concurrency",
        Count(|d, v| d.concurrency = Some(v)),
        "4096",
        "Maximum number of connections, including those of unauthenticated clients.",
    ),
    Key::new(
        "prefer-ip",
        Choice(PREFER_IP),
        r#""prefer-ipv6""#,
        "Address family of connections to Telegram: `prefer-ipv4`, `prefer-ipv6`, `only-ipv4` or \
         `only-ipv6`.",
    ),
    Key::new(
        "public-ipv4",
        Ip(|d, v| d.public_ipv4 = Some(v)),
        r#""192.0.2.1""#,
        "IPv4 address to put into links.",
    )
    .unset(),
    Key::new(
        "public-ipv6",
        Ip(|d, v| d.public_ipv6 = Some(v)),
        r#""2001:db8::1""#,
        "IPv6 address to put into links.",
    )
    .unset(),
    Key::new(
        "auto-update",
        Flag(|d, v| d.auto_update = v),
        "false",
        "Fetch Telegram's address list every hour and take the addresses of data centre 203 from \
         it.",
    ),
    Key::new(
        "tolerate-time-skewness",
        Duration(|d, v| d.time_skew = Some(v)),
        r#""2m""#,
        "Maximum difference between the clocks of client and proxy. Default without anti-replay: \
         5s.",
    ),
    Key::new(
        "allow-fallback-on-unknown-dc",
        Flag(|d, v| d.fallback_on_unknown_dc = v),
        "false",
        "Connect clients that request an unknown data centre to data centre 2.",
    ),
    Key::new(
        "log-level",
        Choice(LOG_LEVEL),
        r#""info""#,
        "Events to log: `error`, `warn`, `info`, or `debug` to follow every connection.",
    ),
    Key::new(
        "log-format",
        Choice(LOG_FORMAT),
        r#""text""#,
        "`text`: one line of `key=value` pairs per event. `json`: one object per line.",
    ),
    Key::new(
        "log-to",
        Choice(LOG_TO),
        r#""stderr""#,
        "Log destination: `stderr`, `syslog`, or `journal` (systemd).",
    ),
    Key::new(
        "log-addresses",
        Flag(|d, v| d.log_addresses = v),
        "false",
        "Log full client addresses instead of their /24 (IPv4) or /48 (IPv6) prefix.",
    ),
    Key::new(
        "pid-file",
        Path(urls::writable_file, |d, v| d.pid_file = Some(v)),
        r#""/run/mtbox.pid""#,
        "File for the process ID. `mtbox user` reads it to reload the running proxy.",
    )
    .unset(),
    Key::new(
        "state-file",
        Path(urls::writable_file, |d, v| d.state_file = Some(v)),
        r#""/var/lib/mtbox/state""#,
        "File for each user's traffic totals, which then survive a restart.",
    )
    .unset(),
    Key::new(
        "state-interval",
        Duration(|d, v| d.state_interval = Some(v)),
        r#""10m""#,
        "Interval between writes of the totals. Unchanged totals are not written.",
    ),
    Key::new(
        "domain-fronting-port",
        Port(|d, v| d.old_front_port = Some(v)),
        "443",
        "Same as `port` in `[domain-fronting]`.",
    )
    .instead("write port below [domain-fronting]"),
    Key::new("domain-fronting-ip", Ip(unused), r#""192.0.2.1""#, "Has no effect.")
        .unset()
        .instead("it has no effect; write host below [domain-fronting]"),
    Key::new(
        "domain-fronting-proxy-protocol",
        Flag(|d, v| d.front_proxy_protocol |= v),
        "false",
        "Same as `proxy-protocol` in `[domain-fronting]`.",
    )
    .instead("write proxy-protocol below [domain-fronting]"),
    Key::new(
        "domain-fronting.host",
        Host(|d, v| d.front_host = Some(v)),
        r#""127.0.0.1""#,
        "Front, the web site that unauthenticated clients see, instead of the host in the \
         secret. Your own web server is best.",
    )
    .unset(),
    Key::new(
        "domain-fronting.port",
        Port(|d, v| d.front_port = Some(v)),
        "443",
        "Port of the front.",
    ),
    Key::new("domain-fronting.ip", Ip(unused), r#""192.0.2.1""#, "Has no effect.")
        .unset()
        .instead("it has no effect; write host instead"),
    Key::new(
        "domain-fronting.proxy-protocol",
        Flag(|d, v| d.front_proxy_protocol |= v),
        "false",
        "Send the client's address to the front in a PROXY protocol header, version 2.",
    ),
    Key::new(
        "domain-fronting.scout",
        Flag(|d, v| d.probe_front = Some(v)),
        "true",
        "Probe the front's TLS at start and every `raid-each`, and imitate its answer.",
    ),
    Key::new(
        "domain-fronting.mimic-latency",
        Flag(|d, v| d.mimic_latency = v),
        "false",
        "Delay each answer by a response time of the front.",
    ),
    Key::new(
        "throttle.max-connections",
        Count(|d, v| d.max_connections = Some(v)),
        "0",
        "Number of connections that all users share fairly. 0: unlimited.",
    )
    .allows_zero(),
    Key::new(
        "throttle.check-interval",
        Duration(|d, v| d.check_interval = Some(v)),
        r#""5s""#,
        "Interval between computations of the fair shares.",
    ),
    Key::new(
        "network.dns",
        NameServer(|d, v| d.dns = Some(v)),
        r#""udp://1.1.1.1""#,
        "DNS server instead of the system's: an IPv4 address, `udp://IP:port`, `tls://host` or \
         `https://host/path`.",
    )
    .unset(),
    Key::new(
        "network.dns-bootstrap",
        Ip(|d, v| d.dns_bootstrap = Some(v)),
        r#""1.1.1.1""#,
        "IP address of a DNS server that has a name. Default: the system resolves the name.",
    )
    .unset(),
    Key::new(
        "network.doh-ip",
        Ip(|d, v| d.doh_ip = Some(v)),
        r#""1.1.1.1""#,
        "Same as `dns = \"https://IP\"`.",
    )
    .unset()
    .instead("write dns below [network]"),
    Key::new(
        "network.proxies",
        Proxies(|d, v| d.upstreams = v),
        "[]",
        "SOCKS5 proxies for connections to Telegram, tried in random order: \
         `socks5://user:password@host:1080`.",
    ),
    Key::new(
        "network.bind-device",
        KernelName(addresses::device_name, |d, v| d.device = Some(v)),
        r#""wan""#,
        "Network device for outgoing connections (`SO_BINDTODEVICE`), except to loopback.",
    )
    .unset(),
    Key::new(
        "network.bind-address",
        Ips(|d, v| d.source_addrs = v),
        r#"["192.0.2.1", "2001:db8::1"]"#,
        "Source address of outgoing connections, one per family. A family without one is not used.",
    )
    .unset(),
    Key::new(
        "network.mark",
        Number(1, u32::MAX, |d, v| d.mark = Some(v)),
        "1",
        "Firewall mark of outgoing connections (`SO_MARK`).",
    )
    .unset(),
    Key::new(
        "network.tcp-congestion",
        KernelName(addresses::congestion_name, |d, v| d.congestion = Some(v)),
        r#""bbr""#,
        "TCP congestion control of all connections, if the kernel has it.",
    )
    .unset(),
    Key::new(
        "network.max-segment",
        Number(88, 32_767, |d, v| d.max_segment = u16::try_from(v).ok()),
        "536",
        "Maximum TCP segment of clients (`TCP_MAXSEG`). Small ones split the hello and cost speed.",
    )
    .unset(),
    Key::new(
        "network.multipath-tcp",
        Flag(|d, v| d.multipath = v),
        "false",
        "Use Multipath TCP if the kernel and the peer support it.",
    ),
    Key::new(
        "network.reuse-port",
        Flag(|d, v| d.reuse_port = v),
        "false",
        "Let several processes listen on the same port (`SO_REUSEPORT`).",
    ),
    Key::new(
        "network.ca-file",
        Path(urls::existing_file, |d, v| d.ca_file = Some(v)),
        r#""/etc/mtbox/ca.pem""#,
        "PEM file of certificates to trust in addition to the built-in ones.",
    )
    .unset(),
    Key::new(
        "network.public-ip-url",
        PageOrNone(urls::http_url, |d, v| d.public_ip_url = Some(v)),
        r#""https://ifconfig.co""#,
        "Web service that `mtbox access` and `mtbox doctor` query for the public address, if the \
         config does not set it. `\"\"`: none.",
    ),
    Key::new(
        "network.tcp-not-sent-lowat",
        Bytes(|d, v| d.not_sent_lowat = Some(v)),
        r#""128kib""#,
        "Maximum unsent bytes per socket in the kernel (`TCP_NOTSENT_LOWAT`). `0b`: its default.",
    )
    .allows_zero()
    .max(i32::MAX as u64),
    Key::new(
        "network.re-encrypt",
        Flag(|d, v| d.re_encrypt = v),
        "false",
        "Decrypt and encrypt downloads, instead of using the same keys on both sides.",
    ),
    Key::new(
        "network.moderation",
        Choice(READ_COALESCING),
        r#""auto""#,
        "`auto`: pause 1 to 2 ms between rounds of many small reads, to save CPU. `off`: never \
         pause.",
    ),
    Key::new(
        "network.timeout.tcp",
        Duration(|d, v| d.timeout_tcp = Some(v)),
        r#""5s""#,
        "Time limit for connecting to one address.",
    ),
    Key::new(
        "network.timeout.http",
        Duration(|d, v| d.timeout_http = Some(v)),
        r#""10s""#,
        "Time limit without progress in an HTTP download.",
    ),
    Key::new(
        "network.timeout.idle",
        Duration(|d, v| d.timeout_idle = Some(v)),
        r#""5m""#,
        "Time without traffic after which a session closes.",
    ),
    Key::new(
        "network.timeout.handshake",
        Duration(|d, v| d.timeout_handshake = Some(v)),
        r#""10s""#,
        "Time limit for a client's handshake.",
    ),
    Key::new(
        "network.keep-alive.disabled",
        Flag(|d, v| d.keep_alive_disabled = v),
        "false",
        "Turn off TCP keep-alive probes.",
    ),
    Key::new(
        "network.keep-alive.idle",
        Duration(|d, v| d.keep_alive_idle = Some(v)),
        r#""15s""#,
        "Time without traffic before the first probe.",
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
        "Number of unanswered probes after which the connection closes.",
    )
    .max(KEEP_ALIVE_PROBES),
    Key::new(
        "telegram.dc-list-urls",
        Pages(urls::http_url, |d, v| d.dc_list = Some(v)),
        concat!(
            r#"["https://core.telegram.org/getProxyConfig", "#,
            r#""https://core.telegram.org/getProxyConfigV6"]"#
        ),
        "Pages that `auto-update` fetches.",
    ),
    Key::new(
        "telegram.dc-overrides",
        DcOverrides,
        r#"203 = ["192.0.2.1:443"]"#,
        "Addresses to use instead of the built-in ones, per data centre.",
    )
    .unset(),
    Key::new(
        "memory.buffers",
        Bytes(|d, v| d.buffer_bytes = Some(v)),
        r#""16mib""#,
        "Maximum memory for data that a peer has not yet accepted. Default: 1/16 of the machine's \
         memory, 1 to 64 mib.",
    )
    .unset(),
    Key::new(
        "defense.cache-dir",
        Path(urls::directory, |d, v| d.cache_dir = Some(v)),
        r#""/var/cache/mtbox""#,
        "Directory for copies of fetched lists, for a start without a network.",
    )
    .unset(),
    Key::new(
        "defense.anti-replay.enabled",
        Flag(|d, v| d.replay = Some(v)),
        "true",
        "Remember accepted ClientHellos and reject repeated ones.",
    ),
    Key::new(
        "defense.anti-replay.max-size",
        Bytes(|d, v| d.replay_bytes = Some(v)),
        r#""1mib""#,
        "Maximum memory for remembered ClientHellos. It grows with use.",
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
        "Maximum number of lists to fetch at the same time.",
    ),
    Key::new(
        "defense.blocklist.urls",
        ListSources(|d, v| d.blocklist.sources = v),
        "[]",
        "Lists in FireHOL format: files or web addresses.",
    ),
    Key::new(
        "defense.blocklist.update-each",
        Duration(|d, v| d.blocklist.interval = Some(v)),
        r#""6h""#,
        "Interval between updates of the lists.",
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
        "Maximum number of lists to fetch at the same time.",
    ),
    Key::new(
        "defense.allowlist.urls",
        ListSources(|d, v| d.allowlist.sources = v),
        "[]",
        "Lists in FireHOL format: files or web addresses.",
    ),
    Key::new(
        "defense.allowlist.update-each",
        Duration(|d, v| d.allowlist.interval = Some(v)),
        r#""6h""#,
        "Interval between updates of the lists.",
    ),
    Key::new(
        "defense.doppelganger.enabled",
        Flag(|d, v| d.shape = Some(v)),
        "true",
        "Imitate the timing and the TLS record sizes of a web site in downloads.",
    ),
    Key::new(
        "defense.doppelganger.mode",
        Choice(SHAPING),
        r#""burst""#,
        "`burst`: shape only the first records after a pause. `always`: shape all, at most 2.4 \
         MB/s.",
    ),
    Key::new(
        "defense.doppelganger.urls",
        Pages(urls::https_url, |d, v| d.timing_pages = v),
        "[]",
        "Pages of the front whose timing downloads imitate.",
    ),
    Key::new(
        "defense.doppelganger.repeats-per-raid",
        Count(|d, v| d.page_repeats = Some(v)),
        "10",
        "Number of times to fetch each page per measurement.",
    ),
    Key::new(
        "defense.doppelganger.raid-each",
        Duration(|d, v| d.page_interval = Some(v)),
        r#""6h""#,
        "Interval between measurements.",
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
        "UDP address of statsd.",
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
        "Tag format: `datadog`, `influxdb` or `graphite`.",
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
        "Address of the metrics: `IP:port` or `unix:/path`. Required with `enabled`.",
    )
    .unset(),
    Key::new(
        "stats.prometheus.http-path",
        HttpPath(|d, v| d.prometheus.path = Some(v)),
        r#""/""#,
        "URL path of the metrics. `/`: any path.",
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
        "Include the names and the traffic of users.",
    ),
    Key::new(
        "secrets",
        Secrets,
        r#"me = "ee...""#,
        "Users: a name and a secret each. `mtbox generate-secret HOST` makes a secret.",
    )
    .unset(),
];

/// Seconds. Limit of Linux (tcp(7), `MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`).
const KEEP_ALIVE_SECONDS: u64 = 32767;
/// Limit of Linux (`MAX_TCP_KEEPCNT`).
const KEEP_ALIVE_PROBES: u64 = 127;

#[cfg(test)]
mod tests;
