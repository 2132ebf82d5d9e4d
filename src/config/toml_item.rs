//! The parts of a parsed file, with one type for both notations of a table. toml_edit's `TableLike`
//! would do the same, but its vtable keeps the code for editing in the program.

use std::ops::Range;

use toml_edit::{InlineTable, Item, Table, Value};

/// What a key stands for.
#[derive(Clone, Copy)]
pub(super) enum TomlItem<'a> {
    /// A value; an inline table is one too.
    Value(&'a Value),
    /// A table with a header, or with dotted keys.
    Table(&'a Table),
    /// A list of tables with headers (`[[NAME]]`), and its place.
    Tables(Option<usize>),
}

/// A table in one of its notations.
#[derive(Clone, Copy)]
pub(super) enum TomlTable<'a> {
    /// With a header, or with dotted keys.
    Standard(&'a Table),
    /// `{ NAME = VALUE }`.
    Inline(&'a InlineTable),
}

/// An entry of a table.
pub(super) struct TomlEntry<'a> {
    pub(super) name: &'a str,
    /// The offset of the name in bytes.
    pub(super) at: usize,
    pub(super) item: TomlItem<'a>,
}

impl<'a> TomlItem<'a> {
    fn of(item: &'a Item) -> Option<Self> {
        match item {
            Item::None => None,
            Item::Value(value) => Some(Self::Value(value)),
            Item::Table(table) => Some(Self::Table(table)),
            Item::ArrayOfTables(tables) => Some(Self::Tables(tables.span().map(|at| at.start))),
        }
    }

    /// The offset of the value in bytes; `fallback` if it has none.
    pub(super) fn start(self, fallback: usize) -> usize {
        match self {
            Self::Value(value) => start(value.span(), fallback),
            Self::Table(table) => start(table.span(), fallback),
            Self::Tables(at) => at.unwrap_or(fallback),
        }
    }

    /// The value, if it is one.
    pub(super) fn value(self) -> Option<&'a Value> {
        match self {
            Self::Value(value) => Some(value),
            Self::Table(_) | Self::Tables(_) => None,
        }
    }

    /// The table, if it is one.
    pub(super) fn table(self) -> Option<TomlTable<'a>> {
        match self {
            Self::Value(value) => value.as_inline_table().map(TomlTable::Inline),
            Self::Table(table) => Some(TomlTable::Standard(table)),
            Self::Tables(_) => None,
        }
    }
}

impl<'a> TomlTable<'a> {
    /// The entries, in the order of the file.
    pub(super) fn entries(self) -> Vec<TomlEntry<'a>> {
        let entry = |name, key: Option<&toml_edit::Key>, item| {
            let at = start(key.and_then(toml_edit::Key::span), 0);
            TomlEntry { name, at, item }
        };
        match self {
            Self::Standard(table) => table
                .iter()
                .filter_map(|(name, item)| Some(entry(name, table.key(name), TomlItem::of(item)?)))
                .collect(),
            Self::Inline(table) => table
                .iter()
                .map(|(name, value)| entry(name, table.key(name), TomlItem::Value(value)))
                .collect(),
        }
    }
}

/// The start of a span. A parsed document has a span for every item.
pub(super) fn start(span: Option<Range<usize>>, fallback: usize) -> usize {
    span.map_or(fallback, |span| span.start)
}
