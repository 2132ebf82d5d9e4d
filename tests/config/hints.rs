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

#[test]
fn other_words_and_old_names_are_understood() {
    for (lines, wanted) in [
        (
            "[domain-fronting]\ndomain-fronting-port = 8443",
            "4:1: warning: \"domain-fronting-port\": has no effect in [domain-fronting]; write \
             port",
        ),
        (
            "[network]\ndomain-fronting-port = 8443",
            "4:1: warning: \"domain-fronting-port\": has no effect in [network]; write port below \
             [domain-fronting]",
        ),
        (
            "[network]\ntolerate-time-skewness = \"5s\"",
            "4:1: warning: \"tolerate-time-skewness\": has no effect in [network]; it is a global \
             key: move it above the first [table]",
        ),
        (
            "[network]\ntolerate_time_skewness = \"5s\"",
            "4:1: warning: \"tolerate_time_skewness\": has no effect in [network]; it is a global \
             key: move it above the first [table]",
        ),
        (
            "[network]\nproxy = \"socks5://127.0.0.1:1\"",
            "4:1: warning: unknown key \"proxy\"; write proxies = [\"socks5://…\"] below [network]",
        ),
        (
            "[secrets]\nprefer_ip = \"prefer-ipv4\"",
            "4:13: error: prefer_ip: below [secrets] this names a user; it is a global key: move \
             it above the first [table]",
        ),
        (
            "domain-fronting-host = \"a.b\"",
            "3:1: warning: \"domain-fronting-host\": has no effect at the top level; write host \
             below [domain-fronting]",
        ),
        (
            "[users]\nalice = \"x\"",
            "3:2: warning: unknown table \"users\"; users are lines NAME = \"SECRET\" below \
             [secrets]",
        ),
    ] {
        assert_eq!(diagnostics_below(lines), [format!("mtbox.toml:{wanted}")], "{lines}");
    }
    let found = diagnostics_below("[api]\nbind-to = \"127.0.0.1:1\"");
    assert!(found[1].contains("for /stats, api-bind-to there"), "{found:#?}");
    let found = diagnostics_below("[upstream]\nprefer-ip = \"prefer-ipv4\"");
    assert!(found[1].contains("global key: move it above"), "{found:#?}");
    let found = diagnostics_below("[access.users]\nme = \"00\"");
    assert!(found[1].contains("users are lines NAME"), "{found:#?}");
    let found = diagnostics_below("[nonsense]\nprefer-ip = \"only-ipv4\"\nfoo = 1");
    assert_eq!(
        found,
        [
            "mtbox.toml:3:2: warning: unknown table \"nonsense\", so it has no effect; remove it",
            "mtbox.toml:4:1: warning: \"prefer-ip\": has no effect in [nonsense]; it is a global \
             key: move it above the first [table]",
        ]
    );
}

#[test]
fn a_setting_that_keeps_clients_out_is_never_passed_over() {
    for (lines, position, guard) in [
        ("[secret-limits.me]\ndisabled = true", "3:2", "disabled"),
        ("[secret-limits.me]\nquota = \"10GB\"", "3:2", "quota"),
        ("[secret-limits.me]\nmax-devices = 2", "3:2", "max-devices"),
        ("[secret-limits.me]\nnew = 2", "3:2", "secret-limits"),
        ("[network]\ndisabled-users = [\"me\"]", "4:1", "disabled-users"),
        ("disabled_users = [\"me\"]", "3:1", "disabled_users"),
        ("disabeld-users = [\"me\"]", "3:1", "disabeld-users"),
        ("[allowlist]\nenabled = true", "3:2", "allowlist"),
        ("[defense.alowlist]\nenabled = true", "3:10", "alowlist"),
        ("[defense.blocklist]\nenable = true", "4:1", "enable"),
        ("[access.alice]\nexpires = \"2027-01-01\"", "3:2", "expires"),
        ("[access.user_expirations]\nalice = \"2027-01-01\"", "3:2", "user_expirations"),
        ("[access.user_max_tcp_conns]\nalice = 1", "3:2", "user_max_tcp_conns"),
        ("[access.user_enabled]\nalice = false", "3:2", "user_enabled"),
        ("[defense.blocklist]\nfiles = [\"/a\"]", "4:1", "files"),
        ("[defense.geoip]\ndeny = [\"XX\"]", "3:10", "deny"),
        ("[defense.rate-limit]\nper-minute = 3", "3:10", "rate-limit"),
        ("suspended = [\"me\"]", "3:1", "suspended"),
        ("[firewall]\ndrop = [\"192.0.2.0/24\"]", "3:2", "drop"),
        ("[valid-until]\nme = \"2027-01-01\"", "3:2", "valid-until"),
        ("per-user-limit = 3", "3:1", "per-user-limit"),
        ("users-off = [\"me\"]", "3:1", "users-off"),
        ("enabled-users = [\"me\"]", "3:1", "enabled-users"),
        ("[limits]\nmax-ips = 2", "3:2", "max-ips"),
        ("[throttle]\nuser-limit = 2", "4:1", "user-limit"),
        ("[users.alice]\nmax_connections = 5", "3:2", "max_connections"),
        ("[users.alice]\nenabled = false", "3:2", "enabled"),
        ("proxy-protocol-trustet = [\"10.0.0.0/8\"]", "3:1", "proxy-protocol-trustet"),
    ] {
        let found = diagnostics_below(lines);
        let start = format!("mtbox.toml:{position}: error: ");
        let end = format!(
            " (now \"{guard}\" keeps no user out: every user may connect who is not in \
             disabled-users)"
        );
        assert!(found[0].starts_with(&start) && found[0].ends_with(&end), "{lines}\n{found:#?}");
    }
    for lines in [
        "[secret-limits.me]\ndisabled = false",
        "[secret-limits]",
        "disabled_users = []",
        "[allowlist]\nenabled = false",
        "[users.alice]\nenabled = true",
        "[prometheus]\nenabled = false",
        "[limits]\nmax-ips = 0",
        "[network]\nallow-fallback-on-unknown-dc = true",
        "[network]\ndisable-ipv6 = true",
        "block-ads = true",
        "[network.keepalive]\ndisabled = true",
    ] {
        let found = diagnostics_below(lines);
        assert!(!found.is_empty() && !found[0].contains("error"), "{lines}\n{found:#?}");
    }
}

#[test]
fn a_list_without_its_switch_is_told() {
    for (list, switch, count) in
        [("blocklist", "", 1), ("allowlist", "", 1), ("allowlist", "enabled = false\n", 0)]
    {
        let lines = format!("[defense.{list}]\n{switch}urls = [\"http://127.0.0.1:1/a\"]");
        let found = diagnostics_below(&lines);
        assert_eq!(found.len(), count, "{lines}\n{found:#?}");
        assert!(found.iter().all(|one| one.contains(": warning: defense.")), "{found:#?}");
    }
}

#[test]
fn a_misspelt_disabled_user_is_an_error() {
    let of = |name: &str| {
        let users = format!("[secrets]\nmarina = \"{SECRET}\"");
        super::diagnostics_of(&format!(
            "bind-to = \"192.0.2.1:1\"\ndisabled-users = [\"{name}\"]\n{users}"
        ))
    };
    assert_eq!(
        of("Marina"),
        ["mtbox.toml:2:19: error: disabled-users: no user is called \"Marina\", and \
             \"marina\" may connect; correct the name"]
    );
    let removed = of("bob");
    assert!(removed[0].contains(": warning: "), "{removed:?}");
}

#[test]
fn mistakes_in_secrets_and_their_names_have_a_remedy() {
    for (line, wanted) in [
        (format!("ivan.petrov = \"{SECRET}\""), "\"ivan.petrov\": put the name in quotes: "),
        (format!("a.b.c = \"{SECRET}\""), "\"a.b.c\": put the name in quotes: "),
        (format!("a = \" {SECRET}\""), "\"a\": this has a blank or an invisible character; delete"),
        (format!("a = \"{SECRET}\u{a0}\""), "\"a\": this has a blank or an invisible character"),
        (
            format!("a = \"tg://proxy?server=a&port=1&secret={SECRET}\""),
            "\"a\": this is a link; write only its secret",
        ),
        (
            "a = \"00112233445566778899aabbccddeeff\"".to_owned(),
            "\"a\": this is a key without a host, which FakeTLS needs; `mtbox generate-secret \
             --key KEY HOST`",
        ),
    ] {
        let found = diagnostics_below(&format!("[secrets]\n{line}"));
        assert_eq!(found.len(), 1, "{found:?}");
        let (_, text) = found[0].split_once(": error: ").unwrap();
        assert!(text.starts_with(wanted), "{line}: {text}");
    }
}

#[test]
fn a_wrong_value_is_not_called_missing_too() {
    for lines in [
        "[defense.blocklist]\nenabled = true\nurls = [\"ftp://a\"]",
        "[defense.allowlist]\nenabled = true\nurls = [\"ftp://a\"]",
        "[stats.statsd]\nenabled = true\naddress = \"x\"",
        "[stats.prometheus]\nenabled = true\nbind-to = \"x\"",
    ] {
        let found = diagnostics_below(lines);
        let is_mini = found.iter().any(|one| one.contains("this build has no"));
        assert!(found.len() == 1 || is_mini, "{lines}\n{found:#?}");
    }
    let found = super::diagnostics_of("bind-to = \"192.0.2.1:1\"\n[secret]\nme = \"x\"");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].ends_with("secret: must be a value, not a table; did you mean [secrets]?"));
}

#[test]
fn a_line_that_is_not_toml_comes_with_a_remedy() {
    for (line, wanted) in [
        ("bind-to = 0.0.0.0:443", "put the value in quotes: bind-to = \"…\""),
        ("secret = 7kOj", "put the value in quotes: secret = \"…\""),
        ("a = “ee”", "this is not a plain quote; write \""),
        ("мама = \"ee\"", "put the name in quotes: \"мама\" = …"),
        ("a =\u{a0}\"ee\"", "this is not a plain blank"),
        ("a = \"ee\"\u{a0}", "this is not a plain blank"),
        ("debug = yes", "write debug = true or debug = false"),
        ("secret: \"ee\"", "write NAME = VALUE, with = instead of :"),
        ("bind-to = [0.0.0.0:443]", "put each entry in quotes: bind-to = [\"…\"]"),
        ("secret = \"ee", "the closing quote is missing"),
    ] {
        let found = super::diagnostics_of(&format!("# a comment\n{line}\n[secrets]\n"));
        let (position, text) = found[0].split_once(": error: invalid TOML: ").unwrap();
        assert!(position.starts_with("mtbox.toml:2:"), "{position}");
        assert!(text.contains(&format!("; {wanted}")), "{line}: {text}");
    }
}

#[test]
fn an_address_that_another_one_covers_is_told() {
    for (binds, count) in [
        ("\"0.0.0.0:1\", \"127.0.0.1:1\"", 1),
        ("\"[::]:1\", \"[::1]:1\", \"127.0.0.1:1\"", 1),
        ("\"0.0.0.0:1\", \"127.0.0.1:2\", \"[::1]:1\"", 0),
    ] {
        let found = super::diagnostics_of(&format!("bind-to = [{binds}]\nsecret = \"{SECRET}\""));
        assert_eq!(found.len(), count, "{found:#?}");
        assert!(found.iter().all(|one| one.contains("too; remove one")), "{found:#?}");
    }
}

#[test]
fn a_guard_that_another_line_undoes_is_an_error() {
    let two = "disabled-users = [\"me\"]\nDisabled-Users = []";
    assert!(diagnostics_below(two)[0].contains("error: disabled-users: duplicate key"));
    let same = format!(
        "bind-to = \"192.0.2.1:1\"\ndisabled-users = [\"b\"]\n[secrets]\na = \"{SECRET}\"\nb = \
         \"{SECRET}\"\n"
    );
    let found = super::diagnostics_of(&same);
    assert!(found[0].contains("error: \"b\": same secret as \"a\", and only one"), "{found:#?}");
    let off = diagnostics_of_secrets("disabled = [\"me\"]");
    assert!(off[0].contains("write disabled-users = [\"NAME\"]"), "{off:#?}");
    let dotted = diagnostics_of_secrets("alexander.konstantinovich = \"ee00\"");
    assert!(dotted[0].contains("\"alexander.konstantinovich\": put the name in"), "{dotted:#?}");
    let table = diagnostics_of_secrets("ivan.secret = \"ee00\"");
    assert!(table[0].contains("write \"ivan\" = \"SECRET\""), "{table:#?}");
}

fn diagnostics_of_secrets(line: &str) -> Vec<String> {
    super::diagnostics_of(&format!("bind-to = \"192.0.2.1:1\"\n[secrets]\n{line}\n"))
}

#[test]
fn a_public_host_that_is_an_address_is_a_public_address() {
    let settings = |line: &str| {
        let text = format!("bind-to = \"192.0.2.1:1\"\n{line}\nsecret = \"{SECRET}\"\n");
        mtbox::config::load::load(text.as_bytes(), "a.toml").unwrap().settings
    };
    let v4 = settings("public-host = \"192.0.2.9\"");
    assert_eq!((v4.public_ipv4, v4.public_ipv6), ("192.0.2.9".parse().ok(), None));
    let v6 = settings("public-host = \"2001:db8::9\"\npublic-ipv4 = \"192.0.2.8\"");
    let both = ("192.0.2.8".parse().ok(), "2001:db8::9".parse().ok());
    assert_eq!((v6.public_ipv4, v6.public_ipv6), both);
}
