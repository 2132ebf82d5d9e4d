//! The forms that libuci accepts, and those that it refuses.

use super::*;

/// `kind name: option=value list+entry+entry`, section by section.
fn shape(text: &str) -> Vec<String> {
    let option = |one: &UciOption| {
        let sign = if one.is_list { '+' } else { '=' };
        let values = one.values.iter().map(|value| format!("{sign}{value}"));
        format!(" {}{}", one.name, values.collect::<String>())
    };
    let section = |one: &UciSection| {
        let options: String = one.options.iter().map(option).collect();
        format!("{} {}:{options}", one.kind, one.name)
    };
    parse(text).unwrap().iter().map(section).collect()
}

#[track_caller]
fn check(lines: &str, options: &str) {
    assert_eq!(shape(&format!("config a b\n{lines}")), [format!("a b:{options}")], "{lines:?}");
}

#[test]
fn output_of_uci_export_is_parsed() {
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
        check(&format!("option x {value}"), &format!(" x={want}"));
        check(&format!("\tlist\tx\t{value}\r\n"), &format!(" x+{want}"));
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
    check("option x 1\noption x 2", " x=2");
    check("option x 1\noption x ''", "");
    check("option x", "");
    check("list x 1\nlist x 2\noption x 3", " x=3");
    check("option x 1\nlist x 2", " x+1+2");
    assert_eq!(
        shape("config a b\noption x 1\nconfig a\nconfig a b\noption y 2"),
        ["a b: x=1 y=2", "a :",]
    );
}

#[test]
fn errors_have_their_line() {
    for (text, line, fault) in [
        ("option x y", 1, "before the first config line"),
        ("\n\nconfig", 3, "incomplete command"),
        ("config ''", 1, "incomplete command"),
        ("config a b c", 1, "too many words"),
        ("config a b\noption x y z", 2, "too many words"),
        ("config a b\n\n option", 3, "incomplete command"),
        ("config a b\noption x-y z", 2, "an option name"),
        ("config a b-c", 1, "a section name"),
        ("config 'a b'", 1, "a section type"),
        ("config a b\nconfig c b", 2, "another type"),
        ("confg a b", 1, "unknown command"),
        ("'' a b", 1, "unknown command"),
        ("config a b\noption x 'y\n\n", 2, "never closed"),
        ("config a b\noption x \"y\\", 2, "never closed"),
        ("config a b\noption x y\0", 2, "a zero byte"),
        ("config a\\\n b c\n", 1, "too many words"),
        ("\\\n\\\nconfig", 3, "incomplete command"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.line == line && error.fault.contains(fault), "{text:?}: {error:?}");
    }
}

#[test]
fn a_hostile_file_ends_early() {
    let many = "c a\n".repeat(COMMANDS_MAX);
    assert_eq!(parse(&many).unwrap().len(), COMMANDS_MAX);
    let SyntaxError { line, fault } = parse(&(many + "c a\n")).unwrap_err();
    assert!(line == COMMANDS_MAX + 1 && fault.contains("too many entries"), "{line}: {fault}");
}
