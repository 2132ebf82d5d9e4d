//! The description of one key of the file. [`crate::config::keys`] is the table of all keys.

use std::time::Duration;

use crate::config::units;
use crate::config::value::ValueKind::{self, DcOverrides, Secrets};

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The path: tables and key joined by dots, in lower case.
    pub path: &'static str,
    /// The grammar of the value, with its default and its setter.
    pub kind: ValueKind,
    /// What the key does, in one line.
    pub doc: &'static str,
    /// For a key without a default: an example of a value, in TOML.
    pub sample: Option<&'static str>,
    /// For an old key: what to write instead.
    pub instead: Option<&'static str>,
    /// A zero is a valid value. For other keys a zero means the default.
    pub allows_zero: bool,
    /// Largest value that is used: a count, bytes, or seconds. Larger values are lowered to it.
    pub max: Option<u32>,
    /// See [`Key::least`]. In milliseconds; 0 = any.
    least_ms: u16,
}

/// A row of the table. The methods add the rest.
pub(super) const fn row(path: &'static str, kind: ValueKind) -> Key {
    let (sample, instead, max) = (None, None, None);
    Key { path, kind, doc: "", sample, instead, allows_zero: false, max, least_ms: 0 }
}

impl Key {
    pub(super) const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    pub(super) const fn sample(mut self, sample: &'static str) -> Self {
        self.sample = Some(sample);
        self
    }

    pub(super) const fn instead(mut self, instead: &'static str) -> Self {
        self.instead = Some(instead);
        self
    }

    pub(super) const fn allows_zero(mut self) -> Self {
        self.allows_zero = true;
        self
    }

    pub(super) const fn max(mut self, max: u32) -> Self {
        self.max = Some(max);
        self
    }

    pub(super) const fn at_least(mut self, least: Duration) -> Self {
        self.least_ms = least.as_millis() as u16;
        self
    }

    /// Shortest duration that is used. Shorter ones, except zero, are raised to it.
    pub fn least(&self) -> Option<Duration> {
        (self.least_ms > 0).then(|| Duration::from_millis(self.least_ms.into()))
    }

    /// What the key does, and its least value.
    pub fn text(&self) -> String {
        match self.least() {
            Some(least) => format!("{} At least `{}`.", self.doc, units::duration_text(least)),
            None => self.doc.to_owned(),
        }
    }

    /// Whether nothing is set without the key.
    pub fn is_unset(&self) -> bool {
        self.sample.is_some()
    }

    /// The default in TOML; an example if [`Key::is_unset`].
    pub fn value(&self) -> String {
        self.sample.map_or_else(|| self.kind.default().unwrap_or_default(), str::to_owned)
    }

    /// Whether the key is a table whose names the operator chooses.
    pub fn is_whole_table(&self) -> bool {
        matches!(self.kind, DcOverrides | Secrets)
    }

    /// The table of the key (empty = the top level) and the name in it.
    pub fn split(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }
}
