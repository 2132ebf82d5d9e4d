//! A log record: an event, and values with names. Each format is a rendering of this value.

use std::fmt::{self, Display, Write};

/// What the value of a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// A number or a boolean.
    Number,
    /// A word or an address: what needs no quotes.
    Word,
    /// Any text.
    Text,
}

/// The event, the keys and the values of a record, from `fields!`. The keys are one text, so that a
/// call takes little memory of the program.
#[derive(Clone, Copy)]
pub struct LogFields<'a> {
    /// The event, then the keys, each with a space before it and the sign of its kind behind it:
    /// `=`, `%` or `?`.
    pub keys: &'static str,
    /// The values, formatted when the record is written.
    pub values: &'a [&'a dyn Display],
}

/// A value that may be absent; the field is left out then.
pub struct Maybe<T>(pub Option<T>);

impl<T: Display> Display for Maybe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().ok_or(fmt::Error)?.fmt(f)
    }
}

/// A number or a boolean. A formatted number is one too.
pub trait Number: Display {}

macro_rules! numbers {
    ($($number:ty)*) => {
        $(impl Number for $number {})*
    };
}

numbers!(bool u8 u16 u32 u64 u128 usize i16 i32 i64 fmt::Arguments<'_>);

impl<T: Number> Number for Maybe<T> {}

/// A number as the value of a field.
pub fn number(number: &impl Number) -> &dyn Display {
    number
}

/// The fields of a record: `fields!("event", key = number, key = %word, key = ?text)`, or
/// `fields!("event"; text)` for a text without a key.
///
/// `=` takes a number or a boolean, `= %` any `Display` as a word or an address, without quotes,
/// and `= ?` any `Display` as a text, in quotes. [`Maybe`] is a value that may be absent.
macro_rules! fields {
    (@ [$($keys:tt)*] [$($values:tt)*]) => {
        $crate::io::logger::record::LogFields { keys: concat!($($keys)*), values: &[$($values)*] }
    };
    (@ [$($keys:tt)*] [$($values:tt)*] $key:ident = %$word:expr $(, $($more:tt)*)?) => {
        $crate::io::logger::record::fields!(
            @ [$($keys)* " ", stringify!($key), "%",] [$($values)* &$word,] $($($more)*)?
        )
    };
    (@ [$($keys:tt)*] [$($values:tt)*] $key:ident = ?$text:expr $(, $($more:tt)*)?) => {
        $crate::io::logger::record::fields!(
            @ [$($keys)* " ", stringify!($key), "?",] [$($values)* &$text,] $($($more)*)?
        )
    };
    (@ [$($keys:tt)*] [$($values:tt)*] $key:ident = $number:expr $(, $($more:tt)*)?) => {
        $crate::io::logger::record::fields!(
            @ [$($keys)* " ", stringify!($key), "=",]
            [$($values)* $crate::io::logger::record::number(&$number),] $($($more)*)?
        )
    };
    ($event:literal; $text:expr) => {
        $crate::io::logger::record::fields!(@ [$event, " %"] [&$text])
    };
    ($event:literal $(, $($more:tt)*)?) => {
        $crate::io::logger::record::fields!(@ [$event,] [] $($($more)*)?)
    };
}

pub(crate) use fields;

/// A formatted record without its level. Its memory is used again for the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The keys, and the ends of the values in `values`.
    fields: Vec<(&'static str, FieldKind, usize)>,
    values: String,
}

impl Record {
    /// A record with these fields.
    pub fn new(fields: LogFields<'_>) -> Self {
        let mut record = Self::default();
        record.set(fields);
        record
    }

    /// Replaces all fields.
    pub fn set(&mut self, fields: LogFields<'_>) {
        self.fields.clear();
        self.values.clear();
        let mut keys = fields.keys.split(' ');
        self.push("event", FieldKind::Word, &keys.next().unwrap_or_default());
        for (key, value) in keys.zip(fields.values) {
            let (key, kind) = match key.split_at(key.len().saturating_sub(1)) {
                (key, "=") => (key, FieldKind::Number),
                (key, "%") => (key, FieldKind::Word),
                (key, _) => (key, FieldKind::Text),
            };
            self.push(key, kind, *value);
        }
    }

    /// Appends a field, unless its value is absent.
    pub fn push(&mut self, key: &'static str, kind: FieldKind, value: &dyn Display) {
        let before = self.values.len();
        match write!(self.values, "{value}") {
            Ok(()) => self.fields.push((key, kind, self.values.len())),
            Err(_) => self.values.truncate(before),
        }
    }

    /// Appends a count, unless it is 0.
    pub(super) fn push_count(&mut self, key: &'static str, count: u32) {
        self.push(key, FieldKind::Number, &Maybe(Some(count).filter(|count| *count > 0)));
    }

    /// The fields in the first `max` bytes of all values. A text is cut there; other values that do
    /// not fit are left out.
    pub fn fields(&self, max: usize) -> impl Iterator<Item = (&str, FieldKind, &str)> {
        let (values, mut start) = (cut(&self.values, max), 0);
        self.fields.iter().filter_map(move |(key, kind, end)| {
            let is_text = *kind == FieldKind::Text || key.is_empty();
            let rest = || values.get(start..).filter(|_| is_text);
            let value = values.get(start..*end).or_else(rest);
            start = *end;
            Some((*key, *kind, value?))
        })
    }
}

/// `event=NAME key=value key="quoted value"`, then the free text.
impl Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for (key, kind, value) in self.fields(usize::MAX) {
            let equals = if key.is_empty() { "" } else { "=" };
            write!(f, "{space}{key}{equals}")?;
            match kind {
                FieldKind::Text => write!(f, "{value:?}")?,
                _ => f.write_str(value)?,
            }
            space = " ";
        }
        Ok(())
    }
}

/// The longest prefix of at most `max` bytes that ends at a character boundary.
pub fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_typed_and_text_has_quotes() {
        let (name, none, off_s) = ("al \"ice\n", Maybe(None::<&str>), Maybe(Some(-3)));
        let record = Record::new(fields!(
            "refused",
            user = ?name,
            host = ?none,
            off_s = off_s,
            addr = %std::net::Ipv4Addr::LOCALHOST,
            error = ?format_args!("no {}", "file"),
        ));
        let text = "event=refused user=\"al \\\"ice\\n\" off_s=-3 addr=127.0.0.1 error=\"no file\"";
        assert_eq!(record.to_string(), text);
        assert_eq!(Record::new(fields!("config"; "a b=c")).to_string(), "event=config a b=c");
        let kinds: Vec<FieldKind> = record.fields(usize::MAX).map(|(_, kind, _)| kind).collect();
        use FieldKind::{Number, Text, Word};
        assert_eq!(kinds, [Word, Text, Number, Word, Text]);
    }

    #[test]
    fn a_cut_record_has_whole_numbers() {
        let record = Record::new(fields!("ab", name = ?"üü", count = 12, name = ?"x"));
        let values = |max| record.fields(max).map(|(_, _, value)| value).collect::<Vec<_>>();
        assert_eq!(values(9), ["ab", "üü", "12", "x"]);
        assert_eq!(values(7), ["ab", "üü"]);
        assert_eq!(values(5), ["ab", "ü"]);
        assert_eq!(values(1), [""; 0]);
    }
}
