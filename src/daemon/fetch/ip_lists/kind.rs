//! The names of the two lists.

/// One of the two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// Its addresses may not connect.
    Block,
    /// Only its addresses may connect.
    Allow,
}

impl ListKind {
    /// The key in the config.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "blocklist",
            Self::Allow => "allowlist",
        }
    }
}

/// One source of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceId {
    /// The list.
    pub list: ListKind,
    /// Its index in the list.
    pub index: usize,
}
