//! Diagnostics about unknown and misplaced keys, and what no diagnostic contains.

use super::{SECRET, diagnostics_below};

#[test]
fn unknown_keys_and_tables_come_with_a_suggestion() {
    for (line, wanted) in [
        ("bind_to = \"x\"", "3:1: warning: unknown key \"bind_to\"; did you mean bind-to?"),
        ("foo = 1", "3:1: warning: unknown key \"foo\", so it has no effect; remove it"),
        ("network.dnss = \"x\"", "3:9: warning: unknown key \"dnss\"; did you mean dns?"),
        ("[netwrok]\ndns = 1", "3:2: warning: unknown table \"netwrok\"; did you mean [network]?"),
        (
            "network.timeuot.tcp = 1",
            "3:9: warning: unknown table \"timeuot\"; did you mean [network.timeout]?",
        ),
        (
            "[timeout]\ntcp = \"5s\"",
            "3:2: warning: \"timeout\": has no effect at the top level; write \
             [network.timeout]",
        ),
        (
            "throttle.concurency = 1",
            "3:10: warning: unknown key \"concurency\"; if you mean concurrency, it is a global \
             key: move it above the first [table]",
        ),
    ] {
        assert_eq!(diagnostics_below(line), [format!("mtbox.toml:{wanted}")], "{line}");
    }
}

#[test]
fn a_key_in_the_wrong_table_is_reported_with_the_right_one() {
    for (lines, wanted) in [
        (
            "[network]\nconcurrency = 5",
            "4:1: warning: \"concurrency\": has no effect in [network]; it is a global key: \
             move it above the first [table]",
        ),
        (
            "[network.timeout]\ntcp-not-sent-lowat = \"1mib\"",
            "4:1: warning: \"tcp-not-sent-lowat\": has no effect in [network.timeout]; move it \
             below [network]",
        ),
        (
            "max-connections = 5",
            "3:1: warning: \"max-connections\": has no effect at the top level; move it \
             below [throttle]",
        ),
        (
            "[secrets]\nAPI-bind-to = \"127.0.0.1:1\"",
            "4:15: error: API-bind-to: below [secrets] this names a user; it is a global key: \
             move it above the first [table]",
        ),
        (
            "[secrets]\ndebug = true",
            "4:9: error: debug: below [secrets] this names a user; it is a global key: move it \
             above the first [table]",
        ),
        (
            "[secrets]\nmax-connections = 5",
            "4:19: error: max-connections: below [secrets] this names a user; move it below \
             [throttle]",
        ),
    ] {
        assert_eq!(diagnostics_below(lines), [format!("mtbox.toml:{wanted}")], "{lines}");
    }
}

#[test]
fn no_diagnostic_contains_a_secret_or_a_password() {
    let key = "00112233445566778899aabbccddeeff";
    let base64 = "7gARIjNEVWZ3iJmqu8zd7v9leGFtcGxlLm9yZw";
    for lines in [
        format!("secrets.alice = \"dd{key}\""),
        format!("secrets.dd{key} = \"x\""),
        format!("secrets.dd{key} = true"),
        format!("secrets.\"{base64} \" = 5"),
        format!("dd{key} = 1"),
        format!("network.{base64} = 1"),
        format!("[{base64}]"),
        format!("api-bind-to = \"{base64}\""),
        format!("public-ipv4 = \"{SECRET}\""),
        format!("network.proxies = [\"socks5://user:{key}@host:0\"]"),
        format!("network.proxies = [\"http://user:{key}@host:1\"]"),
        format!("network.dns = \"https://user:{key}@host\""),
        format!("telegram.dc-overrides.{base64} = 1"),
        format!("debug = {SECRET}"),
        format!("secrets.alice = {base64}"),
        format!("secrets.alice = \"{base64}"),
    ] {
        let found = diagnostics_below(&lines).join("\n");
        assert!(!found.is_empty(), "{lines}");
        assert!(!found.contains(&key[..8]) && !found.contains(&base64[..8]), "{lines}\n{found}");
    }
}
