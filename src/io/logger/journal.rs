//! A log line in the native protocol of systemd-journald: one datagram of fields, ours beside those
//! that every journal entry has (systemd.journal-fields(7)).

use log::Level;

use crate::io::logger::fields::split;
use crate::io::logger::syslog::severity;

/// One entry. `shown` becomes the MESSAGE field; the other fields are parsed from `line`.
pub fn entry(level: Level, shown: &str, line: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * line.len() + 64);
    put(&mut out, "PRIORITY", &severity(level).to_string());
    put(&mut out, "SYSLOG_IDENTIFIER", "mtbox");
    put(&mut out, "MESSAGE", shown);
    for (key, value) in split(line).fields {
        let name = key.to_ascii_uppercase().replace('-', "_");
        if name.len() <= NAME_MAX && !RESERVED.iter().any(|start| name.starts_with(start)) {
            put(&mut out, &name, value.as_str());
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

    #[test]
    fn an_entry_holds_the_line_and_its_fields() {
        let line = "event=refused user=\"al ice\" off_s=-3 priority=0 message=x";
        assert_eq!(
            String::from_utf8(entry(Level::Warn, line, line)).unwrap(),
            format!(
                "PRIORITY=4\nSYSLOG_IDENTIFIER=mtbox\nMESSAGE={line}\nEVENT=refused\n\
                 USER=al ice\nOFF_S=-3\n"
            )
        );
    }

    #[test]
    fn a_value_of_several_lines_adds_no_field() {
        let line = format!("user={:?}", "x\nPRIORITY=0");
        let head = format!("PRIORITY=6\nSYSLOG_IDENTIFIER=mtbox\nMESSAGE={line}\n");
        let mut expected = head.into_bytes();
        expected.extend_from_slice(b"USER\n\x0c\0\0\0\0\0\0\0x\nPRIORITY=0\n");
        assert_eq!(entry(Level::Info, &line, &line), expected);
    }
}
