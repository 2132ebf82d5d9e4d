//! What the rest of the program reads: plain, typed, valid. Made by `load.rs` only, so a value
//! here never needs a second check.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::proto::secret::Secret;

/// Everything that a config file or the flags of `simple-run` decide.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The users, in ascending byte order of their names; never empty.
    pub users: Vec<UserSettings>,
    /// The listeners for clients, in the order of the file; never empty, no duplicates.
    pub binds: Vec<SocketAddr>,
    /// The listener of `GET /stats`.
    pub api_bind: Option<SocketAddr>,
    /// `debug = true`: log one connection's story too.
    pub debug: bool,
    /// Most simultaneous sessions, fronted ones included (1..=65535).
    pub concurrency: u32,
    /// Order and filter of Telegram's addresses.
    pub prefer_ip: PreferIp,
    /// Our address for IPv4 links, if the operator states it.
    pub public_ipv4: Option<IpAddr>,
    /// Our address for IPv6 links, if the operator states it.
    pub public_ipv6: Option<IpAddr>,
    /// Largest accepted distance between our clock and the one in a ClientHello.
    pub time_skew: Duration,
    /// Send clients that ask for an unknown DC to DC 2.
    pub fallback_on_unknown_dc: bool,
    /// Where strangers go.
    pub front: FrontSettings,
    /// Fair share of connections; `None` = off.
    pub throttle: Option<ThrottleSettings>,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// TCP keep-alive on every relayed socket.
    pub keep_alive: KeepAlive,
    /// `TCP_NOTSENT_LOWAT` in bytes on every relayed socket; `None` = leave the kernel's default.
    pub not_sent_lowat: Option<u32>,
    /// `false`: download keys are matched, so the relay copies ciphertext untouched.
    pub re_encrypt: bool,
    /// Rest 1 to 2 ms between rounds of many small reads.
    pub moderation: bool,
    /// The store against replayed hellos; `None` = off.
    pub replay: Option<ReplaySettings>,
    /// `[telegram.dc-overrides]`: addresses that replace the built-in ones of a DC.
    pub dc_overrides: Vec<(u16, Vec<SocketAddr>)>,
    /// The name server to ask instead of the ones in `/etc/resolv.conf`.
    pub dns_server: Option<SocketAddr>,
    /// Most bytes that unsent data may occupy; `None` = chosen from the machine's memory.
    pub buffer_bytes: Option<u64>,
    /// Log full client addresses instead of /24 and /48.
    pub log_addresses: bool,
}

/// Where the settings come from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The file, when there is one.
    pub config_path: Option<std::path::PathBuf>,
    /// What the loader has to say about it, one line each.
    pub warnings: Vec<String>,
}

/// One named secret.
#[derive(Debug, Clone)]
pub struct UserSettings {
    /// The key in `[secrets]`, or `default`.
    pub name: String,
    /// Its key and host.
    pub secret: Secret,
}

/// `prefer-ip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreferIp {
    /// IPv4 first, then IPv6.
    PreferIpv4,
    /// IPv6 first, then IPv4.
    PreferIpv6,
    /// Only IPv4.
    OnlyIpv4,
    /// Only IPv6.
    OnlyIpv6,
}

/// `[domain-fronting]`.
#[derive(Debug, Clone)]
pub struct FrontSettings {
    /// A name or an address to dial instead of the secret's host.
    pub host: Option<String>,
    /// The port to dial.
    pub port: u16,
}

/// `[throttle]`.
#[derive(Debug, Clone, Copy)]
pub struct ThrottleSettings {
    /// Connections that the users share (1..=65535).
    pub max_connections: u32,
    /// How often the caps are computed anew.
    pub check_interval: Duration,
}

/// `[network.timeout]`.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Dial, per address.
    pub tcp: Duration,
    /// Silence after which a session ends.
    pub idle: Duration,
    /// From accept to the end of the 64-byte header.
    pub handshake: Duration,
}

/// `[network.keep-alive]`.
#[derive(Debug, Clone, Copy)]
pub struct KeepAlive {
    /// `SO_KEEPALIVE`.
    pub enabled: bool,
    /// `TCP_KEEPIDLE` (at most 32767 s).
    pub idle: Duration,
    /// `TCP_KEEPINTVL` (at most 32767 s).
    pub interval: Duration,
    /// `TCP_KEEPCNT` (1..=127).
    pub count: u32,
}

/// `[defense.anti-replay]`.
#[derive(Debug, Clone, Copy)]
pub struct ReplaySettings {
    /// Upper bound of the store in bytes.
    pub max_bytes: u64,
}
