//! Every key of the config file, in the order of `example.config.toml`: one row is all that the
//! loader, the documents, the UCI options and the suggestions for unknown keys know of a key.

use std::time::Duration as Time;

use crate::config::addresses::{congestion_name, device_name, http_path, metric_prefix};
use crate::config::draft::SettingsDraft;
use crate::config::key::{Key, row};
use crate::config::settings::{LogFormat, LogLevel, LogTo, PreferIp, TagFormat};
use crate::config::urls::{directory, existing_file, http_url, https_url, writable_file};
use crate::config::value::Choices;
use crate::config::value::ValueKind::{
    Address, Addresses, BitRate, Bytes, Choice, Count, DcOverrides, Duration, ErrorRate, Flag,
    Host, HttpBind, Ip, Ips, ListSources, NameServer, Names, Networks, Number, PageOrNone, Pages,
    Path, Port, Proxies, Secret, Secrets, Text,
};

/// Looks up a key by its path in lower case.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether the path is a table that contains keys.
pub fn is_table(path: &str) -> bool {
    let below = |key: &Key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    KEYS.iter().any(below)
}

/// The settings of a file without keys: the default of every row. Old keys have none of their own.
pub fn defaults() -> SettingsDraft {
    let mut draft = SettingsDraft::default();
    for key in KEYS.iter().filter(|key| key.instead.is_none()) {
        key.kind.set_default(&mut draft);
    }
    draft
}

/// Every key that the file may contain.
pub const KEYS: &[Key] = &[
    row("debug", Flag(false, |d, v| d.debug = v)).doc("Same as `log-level = \"debug\"`."),
    row("secret", Secret)
        .doc("Secret of a single user, named `default`. Has no effect beside `[secrets]`.")
        .sample(r#""ee...""#),
    row("bind-to", Addresses(|d, v| d.settings.binds = v))
        .doc(
            "Listen addresses for clients: one `IP:port` or a list. `0.0.0.0` includes IPv6. \
             Required.",
        )
        .sample(r#""0.0.0.0:443""#),
    row("disabled-users", Names(|d, v| d.disabled = v))
        .doc("Users who may not connect for now: names from `[secrets]`."),
    row("api-bind-to", HttpBind(|d, v| d.settings.api_bind = Some(v)))
        .doc(
            "Address of the statistics: `http://IP:port/stats`, or `unix:/run/mtbox.sock`. No \
             authentication: keep it private.",
        )
        .sample(r#""127.0.0.1:9090""#),
    row("proxy-protocol-listener", Flag(false, |d, v| d.enabled.proxy_protocol = v))
        .doc("Accept PROXY protocol headers, version 1 or 2, on every listener."),
    row("proxy-protocol-trusted", Networks(|d, v| d.proxy_protocol.trusted = v)).doc(
        "Networks with trusted headers, such as `[\"127.0.0.1\", \"10.0.0.0/8\"]`. Empty: all.",
    ),
    row("concurrency", Count(4096, |d, v| d.settings.concurrency = v.into()))
        .doc("Maximum number of connections, including those of unauthenticated clients."),
    row("prefer-ip", Choice("prefer-ipv6", PREFER_IP)).doc(
        "Address family of connections to Telegram: `prefer-ipv4`, `prefer-ipv6`, `only-ipv4` or \
         `only-ipv6`.",
    ),
    row("public-host", Host(|d, v| d.settings.public_host = Some(v)))
        .doc("Server to put into links instead of an IP address, such as a dynamic DNS name.")
        .sample(r#""home.example.com""#),
    row("public-port", Number(1, 65_535, |d, v| d.settings.public_port = u16::try_from(v).ok()))
        .doc(
            "Port to put into links, if clients connect to another one than that of the first \
             listener: behind a port redirect, or behind a relay such as HAProxy.",
        )
        .sample("443"),
    row("public-ipv4", Ip(|d, v| d.settings.public_ipv4 = Some(v)))
        .doc("IPv4 address to put into links.")
        .sample(r#""192.0.2.1""#),
    row("public-ipv6", Ip(|d, v| d.settings.public_ipv6 = Some(v)))
        .doc("IPv6 address to put into links.")
        .sample(r#""2001:db8::1""#),
    row("auto-update", Flag(false, |d, v| d.enabled.dc_list = v)).doc(
        "Fetch Telegram's address list every hour and take the addresses of data centre 203 from \
         it.",
    ),
    row("tolerate-time-skewness", Duration(secs(120), |d, v| d.settings.time_skew = v)).doc(
        "Maximum difference between the clocks of client and proxy. Default without anti-replay: \
         5s.",
    ),
    row("allow-fallback-on-unknown-dc", Flag(false, |d, v| d.settings.fallback_on_unknown_dc = v))
        .doc("Connect clients that request an unknown data centre to data centre 2."),
    row("log-level", Choice("info", LOG_LEVEL))
        .doc("Events to log: `error`, `warn`, `info`, or `debug` to follow every connection."),
    row("log-format", Choice("text", LOG_FORMAT))
        .doc("`text`: one line of `key=value` pairs per event. `json`: one object per line."),
    row("log-to", Choice("stderr", LOG_TO))
        .doc("Log destination: `stderr`, `syslog`, or `journal` (systemd)."),
    row("log-addresses", Flag(false, |d, v| d.settings.log_addresses = v))
        .doc("Log full client addresses instead of their /24 (IPv4) or /48 (IPv6) prefix."),
    row("pid-file", Path(writable_file, |d, v| d.settings.pid_file = Some(v)))
        .doc("File for the process ID. `mtbox user` reads it to reload the running proxy.")
        .sample(r#""/run/mtbox.pid""#),
    row("state-file", Path(writable_file, |d, v| d.state.path = v))
        .doc(
            "File for what survives a restart: each user's traffic totals, and the newest \
             ClientHellos, so that a recorded one stays refused.",
        )
        .sample(r#""/var/lib/mtbox/state""#),
    row("state-interval", Duration(secs(600), |d, v| d.state.interval = v))
        .doc("Interval between writes of the totals. Unchanged totals are not written.")
        .at_least(secs(1)),
    row("domain-fronting-port", Port(443, |d, v| d.old_front_port = Some(v)))
        .doc("Same as `port` in `[domain-fronting]`.")
        .instead("write port below [domain-fronting]"),
    row("domain-fronting-ip", Ip(unused))
        .doc("Has no effect.")
        .sample(r#""192.0.2.1""#)
        .instead("it has no effect; write host below [domain-fronting]"),
    row("domain-fronting-proxy-protocol", Flag(false, |d, v| d.settings.front.proxy_protocol |= v))
        .doc("Same as `proxy-protocol` in `[domain-fronting]`.")
        .instead("write proxy-protocol below [domain-fronting]"),
    row("domain-fronting.host", Host(|d, v| d.settings.front.host = Some(v)))
        .doc(
            "Front, the web site that unauthenticated clients see, instead of the host in the \
             secret. Your own web server is best. Only this key may lead to this machine or into \
             a private network.",
        )
        .sample(r#""127.0.0.1""#),
    row("domain-fronting.port", Port(443, |d, v| d.settings.front.port = v))
        .doc("Port of the front."),
    row("domain-fronting.ip", Ip(unused))
        .doc("Has no effect.")
        .sample(r#""192.0.2.1""#)
        .instead("it has no effect; write host instead"),
    row("domain-fronting.proxy-protocol", Flag(false, |d, v| d.settings.front.proxy_protocol |= v))
        .doc("Send the client's address to the front in a PROXY protocol header, version 2."),
    row("domain-fronting.scout", Flag(true, |d, v| d.settings.front.probe = v))
        .doc("Probe the front's TLS at start and every `raid-each`, and imitate its answer."),
    row("domain-fronting.mimic-latency", Flag(false, |d, v| d.settings.front.mimic_latency = v))
        .doc("Delay each answer by a response time of the front."),
    row("throttle.max-connections", Count(0, |d, v| d.throttle.max_connections = v.into()))
        .doc("Number of connections that all users share fairly. 0: unlimited.")
        .allows_zero(),
    row("throttle.check-interval", Duration(secs(5), |d, v| d.throttle.check_interval = v))
        .doc("Interval between computations of the fair shares.")
        .at_least(SHORT),
    row("throttle.rate", BitRate(|d, v| d.settings.relay_rate = (v > 0).then_some(v)))
        .doc(
            "Most bytes that the whole relay forwards, both directions together, shared equally by \
             the users: at least `256kbit`. Set a little less than the slower direction of the \
             line, so that the queue is here and not in the modem.",
        )
        .sample(r#""80mbit""#),
    row("network.dns", NameServer(|d, v| d.settings.dns.server = v))
        .doc(
            "DNS server instead of the system's: an IPv4 address, `udp://IP:port`, `tls://host` or \
             `https://host/path`. A server that speaks HTTP/2 only, such as unbound or Quad9, \
             needs `tls://`.",
        )
        .sample(r#""udp://1.1.1.1""#),
    row("network.dns-bootstrap", Ip(|d, v| d.settings.dns.bootstrap = Some(v)))
        .doc("IP address of a DNS server that has a name. Default: the system resolves the name.")
        .sample(r#""1.1.1.1""#),
    row("network.doh-ip", Ip(|d, v| d.doh_ip = Some(v)))
        .doc("Same as `dns = \"https://IP\"`.")
        .sample(r#""1.1.1.1""#)
        .instead("write dns below [network]"),
    row("network.proxies", Proxies(|d, v| d.settings.upstreams = v)).doc(
        "SOCKS5 proxies for connections to Telegram, tried in random order: \
         `socks5://user:password@host:1080`.",
    ),
    row("network.bind-device", Text(None, device_name, |d, v| d.settings.egress.device = Some(v)))
        .doc("Network device for outgoing connections (`SO_BINDTODEVICE`), except to loopback.")
        .sample(r#""wan""#),
    row("network.bind-address", Ips(|d, v| d.settings.egress.addrs = v))
        .doc(
            "Source address of outgoing connections, one per family. A family without one is not \
             used.",
        )
        .sample(r#"["192.0.2.1", "2001:db8::1"]"#),
    row("network.mark", Number(1, u32::MAX, |d, v| d.settings.egress.mark = Some(v)))
        .doc("Firewall mark of outgoing connections (`SO_MARK`).")
        .sample("1"),
    row(
        "network.tcp-congestion",
        Text(None, congestion_name, |d, v| d.settings.congestion = Some(v)),
    )
    .doc("TCP congestion control of all connections, if the kernel has it.")
    .sample(r#""bbr""#),
    row(
        "network.max-segment",
        Number(88, 32_767, |d, v| d.settings.max_segment = u16::try_from(v).ok()),
    )
    .doc(
        "Maximum TCP segment of clients (`TCP_MAXSEG`). Small ones split the hello and cost speed.",
    )
    .sample("536"),
    row("network.multipath-tcp", Flag(false, |d, v| d.settings.multipath = v))
        .doc("Use Multipath TCP if the kernel and the peer support it."),
    row("network.reuse-port", Flag(false, |d, v| d.settings.reuse_port = v))
        .doc("Let several processes listen on the same port (`SO_REUSEPORT`)."),
    row("network.ca-file", Path(existing_file, |d, v| d.settings.ca_file = Some(v)))
        .doc("PEM file of certificates to trust in addition to the built-in ones.")
        .sample(r#""/etc/mtbox/ca.pem""#),
    row(
        "network.public-ip-url",
        PageOrNone("https://ifconfig.co", http_url, |d, v| d.settings.public_ip_url = v),
    )
    .doc(
        "Web service that `mtbox access` and `mtbox doctor` query for the public address, if the \
         config does not set it. `\"\"`: none.",
    ),
    row(
        "network.tcp-not-sent-lowat",
        Bytes(Some(128 << 10), |d, v| d.settings.not_sent_lowat = unless_zero(v)),
    )
    .doc("Maximum unsent bytes per socket in the kernel (`TCP_NOTSENT_LOWAT`). `0b`: its default.")
    .allows_zero()
    .max(i32::MAX as u32),
    row("network.re-encrypt", Flag(false, |d, v| d.settings.re_encrypt = v))
        .doc("Decrypt and encrypt downloads, instead of using the same keys on both sides."),
    row("network.moderation", Choice("auto", READ_COALESCING)).doc(
        "`auto`: pause 1 to 2 ms between rounds of many small reads, to save CPU. `off`: never \
         pause.",
    ),
    row("network.timeout.tcp", Duration(secs(5), |d, v| d.settings.timeouts.tcp = v))
        .doc("Time limit for connecting to one address.")
        .at_least(SHORT),
    row("network.timeout.http", Duration(secs(10), |d, v| d.settings.timeouts.http = v))
        .doc("Time limit without progress in an HTTP download.")
        .at_least(SHORT),
    row("network.timeout.idle", Duration(secs(300), |d, v| d.settings.timeouts.idle = v))
        .doc("Time without traffic after which a session closes.")
        .at_least(secs(1)),
    row("network.timeout.handshake", Duration(secs(10), |d, v| d.settings.timeouts.handshake = v))
        .doc(
            "Time limit for a client's handshake; six times as long between our answer and the \
             client's next bytes, as web servers wait.",
        )
        .at_least(SHORT),
    row("network.keep-alive.disabled", Flag(false, |d, v| d.settings.keep_alive.enabled = !v))
        .doc("Turn off TCP keep-alive probes."),
    row(
        "network.keep-alive.idle",
        Duration(secs(15), |d, v| d.settings.keep_alive.idle = whole_seconds(v)),
    )
    .doc("Time without traffic before the first probe.")
    .at_least(secs(1))
    .max(KEEP_ALIVE_SECONDS),
    row(
        "network.keep-alive.interval",
        Duration(secs(15), |d, v| d.settings.keep_alive.interval = whole_seconds(v)),
    )
    .doc("Time between probes.")
    .at_least(secs(1))
    .max(KEEP_ALIVE_SECONDS),
    row("network.keep-alive.count", Count(9, |d, v| d.settings.keep_alive.count = v.into()))
        .doc("Number of unanswered probes after which the connection closes.")
        .max(KEEP_ALIVE_PROBES),
    row("telegram.dc-list-urls", Pages(DC_LIST, http_url, |d, v| d.dc_list = v))
        .doc("Pages that `auto-update` fetches."),
    row("telegram.dc-overrides", DcOverrides)
        .doc("Addresses to use instead of the built-in ones, per data centre.")
        .sample(r#"203 = ["192.0.2.1:443"]"#),
    row("memory.limit", Bytes(None, |d, v| d.settings.memory_limit = Some(v)))
        .doc(
            "Maximum memory of the process and of its sockets in the kernel. Default: 1/4 of the \
             machine's memory, 8 to 512 mib.",
        )
        .sample(r#""64mib""#),
    row("memory.buffers", Bytes(None, |d, v| d.settings.buffer_bytes = Some(v)))
        .doc(
            "Maximum memory for data that a peer has not yet accepted. Default: 1/16 of the \
             machine's memory, 1 to 64 mib.",
        )
        .sample(r#""16mib""#),
    row("defense.cache-dir", Path(directory, |d, v| d.settings.cache_dir = Some(v)))
        .doc("Directory for copies of fetched lists, for a start without a network.")
        .sample(r#""/var/cache/mtbox""#),
    row("defense.anti-replay.enabled", Flag(true, |d, v| d.enabled.replay = v))
        .doc("Remember accepted ClientHellos and reject repeated ones."),
    row("defense.anti-replay.max-size", Bytes(Some(1 << 20), |d, v| d.replay.max_bytes = v))
        .doc("Maximum memory for remembered ClientHellos. It grows with use."),
    row("defense.anti-replay.error-rate", ErrorRate(0.001))
        .doc("Has no effect: the store makes no errors."),
    row("defense.blocklist.enabled", Flag(false, |d, v| d.enabled.blocklist = v))
        .doc("Close connections from listed addresses."),
    row(
        "defense.blocklist.download-concurrency",
        Count(1, |d, v| d.blocklist.concurrency = v.into()),
    )
    .doc("Maximum number of lists to fetch at the same time."),
    row("defense.blocklist.urls", ListSources(|d, v| d.blocklist.sources = v))
        .doc("Lists in FireHOL format: files or web addresses."),
    row("defense.blocklist.update-each", Duration(secs(6 * 3600), |d, v| d.blocklist.interval = v))
        .doc("Interval between updates of the lists."),
    row("defense.allowlist.enabled", Flag(false, |d, v| d.enabled.allowlist = v))
        .doc("Close connections from addresses that are not listed."),
    row(
        "defense.allowlist.download-concurrency",
        Count(1, |d, v| d.allowlist.concurrency = v.into()),
    )
    .doc("Maximum number of lists to fetch at the same time."),
    row("defense.allowlist.urls", ListSources(|d, v| d.allowlist.sources = v))
        .doc("Lists in FireHOL format: files or web addresses."),
    row("defense.allowlist.update-each", Duration(secs(6 * 3600), |d, v| d.allowlist.interval = v))
        .doc("Interval between updates of the lists."),
    row("defense.doppelganger.enabled", Flag(true, |d, v| d.enabled.shape = v))
        .doc("Imitate the timing and the TLS record sizes of a web site in downloads."),
    row("defense.doppelganger.mode", Choice("burst", SHAPING)).doc(
        "`burst`: shape only the first records after a pause. `always`: shape all, at most 2.4 \
         MB/s.",
    ),
    row(
        "defense.doppelganger.urls",
        Pages(&[], https_url, |d, v| d.settings.page_timing.pages = v),
    )
    .doc("Pages of the front whose timing downloads imitate."),
    row(
        "defense.doppelganger.repeats-per-raid",
        Count(10, |d, v| d.settings.page_timing.repeats = v.into()),
    )
    .doc("Number of times to fetch each page per measurement."),
    row(
        "defense.doppelganger.raid-each",
        Duration(secs(6 * 3600), |d, v| d.settings.page_timing.interval = v),
    )
    .doc("Interval between measurements."),
    row("defense.doppelganger.drs", Flag(false, |d, v| d.shape.drs = v)).doc(
        "Start each download with small records, as web servers do. Over a long path, a picture \
             may take more than twice as long.",
    ),
    row("stats.statsd.enabled", Flag(false, |d, v| d.enabled.statsd = v))
        .doc("Send metrics to statsd."),
    row("stats.statsd.address", Address(|d, v| d.statsd.address = v))
        .doc("UDP address of statsd.")
        .sample(r#""127.0.0.1:8125""#),
    row("stats.statsd.metric-prefix", Text(Some("mtg"), metric_prefix, |d, v| d.statsd.prefix = v))
        .doc("First part of metric names."),
    row("stats.statsd.tag-format", Choice("datadog", TAG_FORMAT))
        .doc("Tag format: `datadog`, `influxdb` or `graphite`."),
    row("stats.prometheus.enabled", Flag(false, |d, v| d.enabled.prometheus = v))
        .doc("Serve metrics to Prometheus."),
    row("stats.prometheus.bind-to", HttpBind(|d, v| d.prometheus.bind = v))
        .doc("Address of the metrics: `IP:port` or `unix:/path`. Required with `enabled`.")
        .sample(r#""127.0.0.1:3129""#),
    row("stats.prometheus.http-path", Text(Some("/"), http_path, |d, v| d.prometheus.path = v))
        .doc("URL path of the metrics. `/`: any path."),
    row(
        "stats.prometheus.metric-prefix",
        Text(Some("mtg"), metric_prefix, |d, v| d.prometheus.prefix = v),
    )
    .doc("First part of metric names."),
    row("stats.prometheus.per-user", Flag(false, |d, v| d.prometheus.per_user = v))
        .doc("Include the names and the traffic of users."),
    row("secrets", Secrets)
        .doc("Users: a name and a secret each. `mtbox generate-secret HOST` makes a secret.")
        .sample(r#"me = "ee...""#),
];

/// The words of `prefer-ip`.
pub const PREFER_IP: Choices = &[
    ("prefer-ipv4", |d| d.settings.prefer_ip = PreferIp::PreferIpv4),
    ("prefer-ipv6", |d| d.settings.prefer_ip = PreferIp::PreferIpv6),
    ("only-ipv4", |d| d.settings.prefer_ip = PreferIp::OnlyIpv4),
    ("only-ipv6", |d| d.settings.prefer_ip = PreferIp::OnlyIpv6),
];

/// The words of `log-level`.
pub const LOG_LEVEL: Choices = &[
    ("error", |d| d.settings.log.level = LogLevel::Error),
    ("warn", |d| d.settings.log.level = LogLevel::Warn),
    ("info", |d| d.settings.log.level = LogLevel::Info),
    ("debug", |d| d.settings.log.level = LogLevel::Debug),
];

/// The words of `log-format`.
pub const LOG_FORMAT: Choices = &[
    ("text", |d| d.settings.log.format = LogFormat::Text),
    ("json", |d| d.settings.log.format = LogFormat::Json),
];

/// The words of `log-to`.
pub const LOG_TO: Choices = &[
    ("stderr", |d| d.settings.log.to = LogTo::Stderr),
    ("syslog", |d| d.settings.log.to = LogTo::Syslog),
    ("journal", |d| d.settings.log.to = LogTo::Journal),
];

const READ_COALESCING: Choices = &[
    ("auto", |d| d.settings.coalesce_reads = true),
    ("off", |d| d.settings.coalesce_reads = false),
];

const SHAPING: Choices =
    &[("burst", |d| d.shape.always = false), ("always", |d| d.shape.always = true)];

const TAG_FORMAT: Choices = &[
    ("datadog", |d| d.statsd.tags = TagFormat::Datadog),
    ("influxdb", |d| d.statsd.tags = TagFormat::Influxdb),
    ("graphite", |d| d.statsd.tags = TagFormat::Graphite),
];

/// Discards a valid value that has no effect.
fn unused<T>(_: &mut SettingsDraft, _: T) {}

/// The least time of most timers: shorter ones fire before the network can answer.
pub(crate) const SHORT: Time = Time::from_millis(100);

const fn secs(count: u64) -> Time {
    Time::from_secs(count)
}

/// Rounds up to whole seconds: the kernel counts those, and refuses 0.
fn whole_seconds(time: Time) -> Time {
    let up = u64::from(time.subsec_nanos() > 0);
    secs(time.as_secs().saturating_add(up))
}

/// `0b` leaves the kernel's default.
fn unless_zero(bytes: u64) -> Option<u32> {
    u32::try_from(bytes).ok().filter(|bytes| *bytes > 0)
}

const DC_LIST: &[&str] =
    &["https://core.telegram.org/getProxyConfig", "https://core.telegram.org/getProxyConfigV6"];
/// Seconds. Limit of Linux (tcp(7), `MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`).
const KEEP_ALIVE_SECONDS: u32 = 32767;
/// Limit of Linux (`MAX_TCP_KEEPCNT`).
const KEEP_ALIVE_PROBES: u32 = 127;

#[cfg(test)]
mod tests;
