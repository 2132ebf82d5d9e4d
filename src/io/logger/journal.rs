//! A log line in the native protocol of systemd-journald: one datagram of fields, ours beside those
//! that every journal entry has (systemd.journal-fields(7)).

use crate::io::logger::record::FieldKind;
use crate::io::logger::syslog::severity;
use crate::util::log_settings::LogLevel;

/// One entry with these fields and the MESSAGE `shown`.
pub fn entry<'a>(
    level: LogLevel,
    shown: &str,
    fields: impl Iterator<Item = (&'a str, FieldKind, &'a str)>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * shown.len() + 64);
    put(&mut out, "PRIORITY", &severity(level).to_string());
    put(&mut out, "SYSLOG_IDENTIFIER", "mtbox");
    put(&mut out, "MESSAGE", shown);
    for (key, _, value) in fields.filter(|(key, ..)| !key.is_empty()) {
        let name = key.to_ascii_uppercase().replace('-', "_");
        if name.len() <= NAME_MAX && !RESERVED.iter().any(|start| name.starts_with(start)) {
            put(&mut out, &name, value);
        }
    }
    out
}

/// Appends a field. A value with a control character is written with its length in front.
fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(char::is_control) {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// Longest field name that the journal accepts, in bytes.
const NAME_MAX: usize = 64;
/// Prefixes of field names with a meaning of their own for the journal.
const RESERVED: [&str; 7] =
    ["PRIORITY", "MESSAGE", "SYSLOG_", "CODE_", "OBJECT_", "COREDUMP_", "TID"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::logger::record::{Record, fields};

    #[test]
    fn an_entry_holds_the_line_and_its_fields() {
        let record = Record::new(fields!(
            "refused", user = ?"al ice", off_s = -3, priority = 0, message = %"x"
        ));
        assert_eq!(
            String::from_utf8(entry(LogLevel::Warn, "shown", record.fields(usize::MAX))).unwrap(),
            "PRIORITY=4\nSYSLOG_IDENTIFIER=mtbox\nMESSAGE=shown\nEVENT=refused\n\
             USER=al ice\nOFF_S=-3\n"
        );
    }

    #[test]
    fn a_value_of_several_lines_adds_no_field() {
        let record = Record::new(fields!("a", user = ?"x\nPRIORITY=0"));
        let head = "PRIORITY=6\nSYSLOG_IDENTIFIER=mtbox\nMESSAGE=shown\nEVENT=a\n";
        let mut expected = head.as_bytes().to_vec();
        expected.extend_from_slice(b"USER\n\x0c\0\0\0\0\0\0\0x\nPRIORITY=0\n");
        assert_eq!(entry(LogLevel::Info, "shown", record.fields(usize::MAX)), expected);
    }
}
