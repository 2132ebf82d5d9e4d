//! What is known of one key of the file; [`super::keys`] is the table of all of them.

use crate::config::value::ValueKind::{self, DcOverrides, Secrets};

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The tables and the key, joined by dots, in lower case.
    pub path: &'static str,
    /// What values it takes and where they go.
    pub kind: ValueKind,
    /// The default in TOML, or a sample where [`Key::is_unset`].
    pub value: &'static str,
    /// Without the key, nothing is set; `value` is but a sample.
    pub is_unset: bool,
    /// What it does, in one line.
    pub doc: &'static str,
    /// For keys of old that still load: what to write instead.
    pub instead: Option<&'static str>,
    /// An explicit zero is an order, not an absence.
    pub takes_zero: bool,
    /// Larger values are lowered to this one: a count, bytes, or seconds.
    pub most: Option<u64>,
}

impl Key {
    pub(super) const fn new(
        path: &'static str,
        kind: ValueKind,
        value: &'static str,
        doc: &'static str,
    ) -> Self {
        Self {
            path,
            kind,
            value,
            is_unset: false,
            doc,
            instead: None,
            takes_zero: false,
            most: None,
        }
    }

    pub(super) const fn unset(mut self) -> Self {
        self.is_unset = true;
        self
    }

    pub(super) const fn instead(mut self, instead: &'static str) -> Self {
        self.instead = Some(instead);
        self
    }

    pub(super) const fn takes_zero(mut self) -> Self {
        self.takes_zero = true;
        self
    }

    pub(super) const fn most(mut self, most: u64) -> Self {
        self.most = Some(most);
        self
    }

    /// Is the key a table itself, whose names the operator chooses?
    pub fn is_whole_table(&self) -> bool {
        matches!(self.kind, DcOverrides | Secrets)
    }

    /// The table that holds the key (empty = above all tables) and its name in there.
    pub fn split(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }
}
