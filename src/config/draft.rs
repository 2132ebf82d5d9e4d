//! The settings while a file is read. `finish.rs` makes [`Settings`] of them.

use std::net::IpAddr;

use crate::config::settings::{
    ListSettings, PrometheusSettings, ProxyProtocolSettings, ReplaySettings, Settings,
    ShapeSettings, StateSettings, StatsdSettings, ThrottleSettings,
};
use crate::proto::secret::Secret;
use crate::proto::url::Url;

/// [`Settings`], and beside them what several keys decide together. `Default` is a blank without
/// the defaults of the keys; `keys::defaults` fills it.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "an optional section has the name of its field in `Settings`")]
pub struct SettingsDraft {
    /// The settings that one key decides; the others are still blank.
    pub settings: Settings,
    /// The single secret.
    pub secret: Option<LocatedSecret>,
    /// The file has a secret, valid or not.
    pub has_secret: bool,
    /// In the order of the file; of several with one name, the last one wins.
    pub secrets: Vec<(String, LocatedSecret)>,
    /// Disabled users and the offsets of their names in bytes.
    pub disabled: Vec<(String, usize)>,
    /// `debug`, which overrides `log-level`.
    pub debug: bool,
    /// `domain-fronting-port`.
    pub old_front_port: Option<u16>,
    /// `network.doh-ip`.
    pub doh_ip: Option<IpAddr>,
    /// The optional sections that are turned on. The following fields are their settings.
    pub enabled: EnabledSections,
    pub state: StateSettings,
    pub throttle: ThrottleSettings,
    pub proxy_protocol: ProxyProtocolSettings,
    pub dc_list: Vec<Url>,
    pub replay: ReplaySettings,
    pub blocklist: ListSettings,
    pub allowlist: ListSettings,
    pub shape: ShapeSettings,
    pub statsd: StatsdSettings,
    pub prometheus: PrometheusSettings,
    /// The paths of the keys that have a value in the file.
    set: Vec<&'static str>,
}

/// Optional sections with a key that turns them on.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names are those of the fields of `Settings`")]
pub struct EnabledSections {
    pub proxy_protocol: bool,
    pub dc_list: bool,
    pub replay: bool,
    pub blocklist: bool,
    pub allowlist: bool,
    pub shape: bool,
    pub statsd: bool,
    pub prometheus: bool,
}

/// A secret and its position in the file.
#[derive(Debug)]
pub struct LocatedSecret {
    /// The secret.
    pub secret: Secret,
    /// Its offset in bytes.
    pub at: usize,
}

impl SettingsDraft {
    /// Whether the file sets the key. A neutral value, such as an empty string, sets nothing.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.set.contains(&path)
    }

    /// Not inlined, so that it is compiled once for all kinds of values.
    #[inline(never)]
    pub(super) fn mark_set(&mut self, path: &'static str) {
        if !self.is_set(path) {
            self.set.push(path);
        }
    }
}

/// The name of the user of a single `secret`.
pub const SINGLE_USER: &str = "default";
