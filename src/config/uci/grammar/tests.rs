//! Every form that libuci reads, and the ones that it refuses.

use super::*;

/// `kind name: option=value list+entry+entry`, section by section.
fn shape(text: &str) -> Vec<String> {
    let setting = |one: &UciOption| {
        let sign = if one.is_list { '+' } else { '=' };
        let values = one.values.iter().map(|value| format!("{sign}{value}"));
        format!(" {}{}", one.name, values.collect::<String>())
    };
    let section = |one: &UciSection| {
        let settings: String = one.settings.iter().map(setting).collect();
        format!("{} {}:{settings}", one.kind, one.name)
    };
    parse(text).unwrap().iter().map(section).collect()
}

#[track_caller]
fn reads(lines: &str, settings: &str) {
    assert_eq!(shape(&format!("config a b\n{lines}")), [format!("a b:{settings}")], "{lines:?}");
}

#[test]
fn what_uci_export_prints_is_read() {
    let text = "package mtbox\n\nconfig mtbox 'main'\n\toption port '443'\n\tlist x 'a b'\n\tlist \
                x ''\n\nconfig user\n\toption name 'it'\\''s'\n\n";
    assert_eq!(shape(text), ["mtbox main: port=443 x+a b+", "user : name=it's"]);
}

#[test]
fn words_may_be_quoted_in_parts_and_escaped() {
    for (value, want) in [
        ("plain", "plain"),
        ("'a b'", "a b"),
        ("\"a b\"", "a b"),
        ("a'b c'\"d e\"f", "ab cd ef"),
        (r"a\ b", "a b"),
        (r"\n\'\#\;", "n'#;"),
        (r#""a\"b\\c\nd""#, "a\"b\\cnd"),
        (r"'a\b'", r"a\b"),
        ("'#;'", "#;"),
        ("a#b", "a"),
        ("a # b 'c", "a"),
        ("a\\\nb", "ab"),
        ("a\\\r\nb", "ab"),
        ("\"a\\\nb\"", "ab"),
        ("'a\nb'", "a\nb"),
        ("'a\\\nb'", "a\\\nb"),
        ("a\r", "a"),
        ("'ä€𝄞'", "ä€𝄞"),
        ("a\\", "a"),
        ("\\\n\t'indented'", "indented"),
    ] {
        reads(&format!("option x {value}"), &format!(" x={want}"));
        reads(&format!("\tlist\tx\t{value}\r\n"), &format!(" x+{want}"));
    }
}

#[test]
fn commands_have_short_forms_and_may_share_a_line() {
    assert_eq!(shape("p m; c a b; o x 1;; l y 2 ; l y '3';\n;# end"), ["a b: x=1 y+2+3"]);
    assert_eq!(shape(""), [""; 0]);
    assert_eq!(shape("# nothing\n \t\r\n#"), [""; 0]);
}

#[test]
fn later_lines_change_earlier_ones_as_in_libuci() {
    reads("option x 1\noption x 2", " x=2");
    reads("option x 1\noption x ''", "");
    reads("option x", "");
    reads("list x 1\nlist x 2\noption x 3", " x=3");
    reads("option x 1\nlist x 2", " x+1+2");
    assert_eq!(
        shape("config a b\noption x 1\nconfig a\nconfig a b\noption y 2"),
        ["a b: x=1 y=2", "a :",]
    );
}

#[test]
fn mistakes_are_told_with_their_line() {
    for (text, line, fault) in [
        ("option x y", 1, "stands before the first config line"),
        ("\n\nconfig", 3, "something is missing"),
        ("config ''", 1, "something is missing"),
        ("config a b c", 1, "too many words"),
        ("config a b\noption x y z", 2, "too many words"),
        ("config a b\n\n option", 3, "something is missing"),
        ("config a b\noption x-y z", 2, "names of options"),
        ("config a b-c", 1, "names of sections"),
        ("config 'a b'", 1, "types of sections"),
        ("config a b\nconfig c b", 2, "another type"),
        ("confg a b", 1, "unknown command"),
        ("'' a b", 1, "unknown command"),
        ("config a b\noption x 'y\n\n", 2, "never closed"),
        ("config a b\noption x \"y\\", 2, "never closed"),
        ("config a b\noption x y\0", 2, "a zero byte"),
        ("config a\\\n b c\n", 1, "too many words"),
        ("\\\n\\\nconfig", 3, "something is missing"),
    ] {
        let (at, told) = parse(text).unwrap_err();
        assert!(at == line && told.contains(fault), "{text:?}: {at}: {told}");
    }
}

#[test]
fn a_hostile_file_ends_early() {
    let many = "c a\n".repeat(MOST_ENTRIES);
    assert_eq!(parse(&many).unwrap().len(), MOST_ENTRIES);
    let (line, fault) = parse(&(many + "c a\n")).unwrap_err();
    assert!(line == MOST_ENTRIES + 1 && fault.contains("more entries"), "{line}: {fault}");
}
