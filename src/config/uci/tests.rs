//! From the text of an OpenWrt config to settings and messages.

use super::*;
use crate::config::features::HAS_METRICS;
use crate::config::keys::KEYS;
use crate::config::load::load;
use crate::config::settings::Settings;
use crate::config::value::ValueKind;

const SECRET: &str = "ee00112233445566778899aabbccddeeff6578616d706c652e6f7267";
const OTHER: &str = "eeffeeddccbbaa998877665544332211006578616d706c652e6f7267";

fn made(text: &str) -> GeneratedConfig {
    convert(text.as_bytes(), "/etc/config/mtbox", "mtbox")
}

/// The settings and warnings of sections, with a user added to them.
#[track_caller]
fn settings(text: &str) -> (Settings, Vec<String>) {
    let GeneratedConfig { toml, errors, warnings } =
        made(&format!("{text}\nconfig user 'me'\n\toption secret '{SECRET}'\n"));
    assert_eq!(errors, [""; 0], "{text}");
    let toml = toml.expect("it can be used");
    (load(toml.as_bytes(), "a.toml").unwrap().settings, warnings)
}

/// The only error of a text, without the name of the file.
#[track_caller]
fn error(text: &str) -> String {
    let GeneratedConfig { toml, errors, .. } = made(text);
    assert_eq!((toml, errors.len()), (None, 1), "{text}\n{errors:?}");
    errors[0].strip_prefix("/etc/config/mtbox: ").unwrap_or(&errors[0]).to_owned()
}

#[track_caller]
fn warning(text: &str) -> String {
    let (_, warnings) = settings(text);
    assert_eq!(warnings.len(), 1, "{text}\n{warnings:?}");
    warnings[0].strip_prefix("/etc/config/mtbox: ").unwrap_or(&warnings[0]).to_owned()
}

#[test]
fn a_config_with_only_a_user_has_the_defaults_of_the_package() {
    let (settings, warnings) = settings("config mtbox 'main'\n\toption enabled '0'\n");
    assert_eq!(warnings, [""; 0]);
    assert_eq!(settings.binds, ["0.0.0.0:443".parse().unwrap()]);
    assert_eq!(format!("{:?}", settings.api_bind), "Some(Unix(\"/var/run/mtbox/stats.sock\"))");
    assert_eq!(settings.users[0].name, "me");
}

#[test]
fn the_first_line_names_the_source() {
    let made = made(&format!("config user anna\noption secret {SECRET}"));
    let first = "# Made from /etc/config/mtbox by \"mtbox uci\"; edit that file instead.\n";
    assert!(made.toml.unwrap().starts_with(first));
}

/// The example of a key as an option.
fn as_option(name: &str, value: &str) -> String {
    let document = toml_edit::Document::parse(format!("x = {value}")).unwrap();
    let list = document["x"].as_array();
    let lines = match (list, document["x"].as_str()) {
        (Some(list), _) => {
            let entries = list.iter().map(|entry| entry.as_str().unwrap());
            entries.map(|entry| format!("\tlist {name} '{entry}'\n")).collect()
        }
        (None, Some(text)) => format!("\toption {name} '{text}'\n"),
        (None, None) => format!("\toption {name} '{value}'\n"),
    };
    format!("config mtbox 'main'\n{lines}")
}

#[test]
fn every_key_has_an_option_with_the_same_meaning_as_in_toml() {
    let users = format!("[secrets]\nme = \"{SECRET}\"\n");
    for key in KEYS {
        let name = mapping::option_name(key);
        let (parent, last) = key.split();
        let table = match parent {
            "" => String::new(),
            _ => format!("[{parent}]\n"),
        };
        // Not the default, so that a lost option fails the test.
        let value = match (key.path, key.value().as_str()) {
            ("secret", _) => format!("\"{OTHER}\""),
            ("network.public-ip-url", _) => "\"https://127.0.0.1/ip\"".to_owned(),
            (_, "false") => "true".to_owned(),
            (_, "true") => "false".to_owned(),
            (_, "[]") if matches!(key.kind, ValueKind::Networks(_)) => {
                "[\"10.0.0.0/8\"]".to_owned()
            }
            (_, "[]") if matches!(key.kind, ValueKind::Proxies(_)) => {
                "[\"socks5://u:p@127.0.0.1:1\"]".to_owned()
            }
            (_, "[]") if matches!(key.kind, ValueKind::ListSources(_)) => {
                "[\"/tmp/list\"]".to_owned()
            }
            (_, "[]") if matches!(key.kind, ValueKind::Names(_)) => "[\"me\"]".to_owned(),
            (_, value) => value.to_owned(),
        };
        let (uci, toml) = match key.kind {
            ValueKind::Secrets => (String::new(), String::new()),
            ValueKind::DcOverrides => (
                "config mtbox main\n\tlist telegram_dc_overrides '203=192.0.2.1:443'\n".to_owned(),
                format!("[{}]\n{value}\n", key.path),
            ),
            _ => (as_option(&name, &value), format!("{table}{last} = {value}\n")),
        };
        let mut head = "api-bind-to = \"unix:/var/run/mtbox/stats.sock\"\n".to_owned();
        if key.path == "api-bind-to" {
            head.clear();
        }
        if key.path != "bind-to" {
            head.push_str("bind-to = \"0.0.0.0:443\"\n");
        }
        let by_toml = load(format!("{head}{toml}{users}").as_bytes(), "a.toml");
        let uci = format!("{uci}config user me\n\toption secret {SECRET}\n");
        let by_uci = made(&uci);
        match by_toml {
            Ok(by_toml) => {
                let text = by_uci.toml.unwrap_or_else(|| panic!("{uci}\n{:?}", by_uci.errors));
                let by_uci = load(text.as_bytes(), "a.toml").unwrap().settings;
                assert_eq!(format!("{by_uci:?}"), format!("{:?}", by_toml.settings), "{uci}");
            }
            // Such as an enabled list without sources: both have the same errors.
            Err(diagnostics) => {
                let errors = diagnostics.iter().filter(|one| one.severity == Severity::Error);
                assert_eq!(by_uci.errors.len(), errors.count(), "{uci}\n{diagnostics:?}");
                let place = format!("option {name}: ");
                assert!(by_uci.errors.iter().all(|one| one.contains(&place)), "{by_uci:?}");
            }
        }
    }
}

#[test]
fn numbers_and_flags_are_written_as_uci_users_write_them() {
    for (word, is) in [("1", true), ("on", true), ("yes", true), ("enabled", true), ("0", false)] {
        let (settings, _) =
            settings(&format!("config mtbox main\noption network_re_encrypt {word}"));
        assert_eq!(settings.re_encrypt, is, "{word}");
    }
    let (settings, _) =
        settings("config mtbox main\noption network_mark 007\noption concurrency 9");
    assert_eq!((settings.egress.mark, settings.concurrency), (Some(7), 9));
    for (option, fault) in [
        ("debug maybe", "must be 1 or 0"),
        ("concurrency many", "must be a whole number"),
        ("concurrency ' 1'", "must be a whole number"),
        ("concurrency 99999999999", "must be a whole number"),
        ("concurrency 70000", "must be a whole number from 0 to 65535, without quotes"),
        ("defense_anti_replay_error_rate 1e3", "must be a number, such as 0.001"),
        ("prefer_ip sometimes", "unknown value; write one of "),
        ("port 0", "not a port; write a number from 1 to 65535"),
        ("port http", "not a port; write a number from 1 to 65535"),
        ("telegram_dc_overrides 203", "write DC=IP:port, such as 203=192.0.2.1:443"),
        ("telegram_dc_overrides x=1.2.3.4:5", "\"x\": not a data centre"),
        ("network_proxies 'a b'", "entry 1: "),
    ] {
        let name = option.split(' ').next().unwrap();
        let text = format!("config user me\noption secret {SECRET}\nconfig mtbox main\n");
        let messages = made(&format!("{text}option {option}\n")).errors;
        let want = format!("/etc/config/mtbox: section 'main', option {name}: {fault}");
        assert!(messages.iter().all(|one| one.starts_with("/etc/config/mtbox: section 'main', ")));
        assert!(messages.iter().any(|one| one.starts_with(&want)), "{want}\n{messages:?}");
    }
}

#[test]
fn lists_are_lists_or_words_with_blanks_between() {
    for text in [
        "option bind_to '0.0.0.0:443 [::]:8443'",
        "list bind_to 0.0.0.0:443\nlist bind_to [::]:8443",
    ] {
        let (settings, warnings) = settings(&format!("config mtbox main\n{text}"));
        let wanted = ["0.0.0.0:443", "[::]:8443"].map(|bind| bind.parse().unwrap());
        assert_eq!((settings.binds.as_slice(), warnings.len()), (wanted.as_slice(), 0));
    }
    let lists = "config mtbox main\nlist log_level info\nlist log_level debug\n";
    let messages = error(&format!("{lists}config user me\noption secret {SECRET}"));
    assert_eq!(
        messages,
        "section 'main', option log_level: must be one value; write it as an option, not as a list"
    );
}

#[test]
fn the_port_means_all_addresses_and_bind_to_overrides_it() {
    assert_eq!(
        settings("config mtbox\noption port 8443").0.binds,
        ["0.0.0.0:8443".parse().unwrap()]
    );
    let both = "config mtbox main\noption port 443\noption bind_to ";
    let (same, warnings) = settings(&format!("{both}192.0.2.1:443"));
    assert_eq!((same.binds, warnings.len()), (vec!["192.0.2.1:443".parse().unwrap()], 0));
    assert_eq!(
        warning(&format!("{both}0.0.0.0:8443")),
        "section 'main', option port: has no effect, since bind_to has another port; remove one"
    );
}

#[test]
fn no_page_is_written_as_none() {
    let (settings, _) = settings("config mtbox\noption network_public_ip_url none");
    assert_eq!(settings.public_ip_url, None);
}

#[test]
fn users_are_sections() {
    let made = made(&format!(
        "config user anna\noption secret {SECRET}\noption host x\nconfig user\noption name \
         'Old \"Bob\" \\'\noption secret {OTHER}\noption enabled 0\n"
    ));
    assert_eq!((made.errors.len(), made.warnings.len()), (0, 0), "{made:?}");
    let users = load(made.toml.unwrap().as_bytes(), "a.toml").unwrap().settings.users;
    let names: Vec<_> = users.iter().map(|user| (user.name.as_str(), user.enabled)).collect();
    assert_eq!(names, [("Old \"Bob\" \\", false), ("anna", true)]);
}

#[test]
fn invalid_users_are_errors_with_their_section() {
    let anna = format!("config user anna\noption secret {SECRET}\n");
    for (text, want) in [
        ("config user bob", "user 'bob', option secret: missing; the next start or reload"),
        ("config user bob", "uci set mtbox.bob.secret=$(mtbox generate-secret --hex HOST); uci"),
        ("config user bob\noption secret ''", "user 'bob', option secret: missing"),
        ("config user bob\noption secret ee00", "user 'bob', option secret: "),
        ("config user bob\noption name anna\noption secret x", "another user has this name"),
        ("config user\noption secret x", "user @user[1], option name: a name must have 1 to 64"),
        ("config user\noption name a", "uci set mtbox.@user[1].secret="),
        (
            "config user bob\noption name 'a\nb'",
            "user 'bob', option name: a name must have 1 to 64",
        ),
        (
            "config user bob\noption enabled maybe\noption secret x",
            "user 'bob', option enabled: must be 1 or 0",
        ),
    ] {
        let messages = made(&format!("{anna}{text}")).errors;
        assert!(messages.iter().any(|line| line.contains(want)), "{want}\n{messages:?}");
        assert!(messages.iter().all(|line| !line.contains('\n')), "{messages:?}");
    }
}

#[test]
fn no_user_is_an_error_and_no_enabled_user_a_warning() {
    for text in ["", "config mtbox main\noption port 1"] {
        assert_eq!(
            error(text),
            "no user; add one: uci set mtbox.NAME=user; uci commit mtbox; /etc/init.d/mtbox restart"
        );
    }
    let messages = made(&format!("config user a\noption secret {SECRET}\noption enabled 0"));
    assert_eq!(
        messages.warnings,
        ["/etc/config/mtbox: every user is disabled, so no user can connect"]
    );
    assert!(messages.toml.is_some());
}

#[test]
fn unknown_names_are_skipped_with_a_suggestion() {
    for (text, want) in [
        (
            "config mtbox main\noption prefer_ipp 1",
            "section 'main': unknown option prefer_ipp; did you mean prefer_ip?",
        ),
        (
            "config mtbox main\noption prt 1",
            "section 'main': unknown option prt; did you mean port?",
        ),
        (
            "config mtbox\noption colour red",
            "section @mtbox[0]: unknown option \"colour\", so it has no effect",
        ),
        ("config mtbox\noption secrets a", "section @mtbox[0]: unknown option secrets; did you"),
        ("config usr x", "section 'x': unknown type usr; did you mean user?"),
        (
            "config a\nconfig a b\nconfig mtbox\nconfig mtbox b2",
            "section 'b2': has no effect, since",
        ),
        (
            "config mtbox\noption log_level debug\nconfig mtbox main",
            "section @mtbox[0]: has no effect, since only one section of its type is read; \
             remove it",
        ),
        (
            "config user a\noption hots x\noption secret \
             eeffeeddccbbaa998877665544332211006578616d706c652e6f7267",
            "user 'a': unknown option hots; did you mean host?",
        ),
    ] {
        let (_, warnings) = settings(text);
        let messages = format!("/etc/config/mtbox: {want}");
        assert!(warnings.iter().any(|line| line.starts_with(&messages)), "{want}\n{warnings:?}");
    }
}

#[test]
fn diagnostics_of_the_loader_name_the_option() {
    let prometheus = match HAS_METRICS {
        true => "stats_prometheus_enabled: no listener",
        false => "stats_prometheus_enabled: ignored, since this build has no metrics",
    };
    for (text, want) in [
        ("option throttle_check_interval 0s", "throttle_check_interval: 0 is not allowed"),
        ("option stats_prometheus_enabled 1", prometheus),
        (
            "option defense_allowlist_enabled 1",
            "defense_allowlist_enabled: no client could connect",
        ),
        ("list proxy_protocol_trusted 10.0.0.0/8", "proxy_protocol_trusted: has no effect without"),
        ("option domain_fronting_ip 192.0.2.1", "domain_fronting_ip: old name; it has no effect"),
    ] {
        let me = format!("config user me\noption secret {SECRET}\n");
        let GeneratedConfig { errors, warnings, .. } =
            made(&format!("{me}config mtbox main\n{text}\n"));
        let want = format!("/etc/config/mtbox: section 'main', option {want}");
        let mut all = errors.iter().chain(&warnings);
        assert!(all.any(|line| line.starts_with(&want)), "{want}\n{errors:?}{warnings:?}");
    }
}

#[test]
fn no_message_contains_a_secret() {
    let bad = "ee00112233445566778899aabbccddeeff6578616d706c652e6f72zz";
    for text in [
        format!("config user me\noption secret {bad}"),
        format!("config user me\noption {SECRET} me"),
        format!("config user {SECRET}"),
        format!("config user {SECRET}\noption secret {bad}"),
        format!("config {SECRET} me"),
        format!("config {SECRET}"),
        format!("config user me\noption secret {SECRET} {SECRET}"),
        format!("config user me\noption secret '{SECRET}"),
        format!("config user me\noption enabled {SECRET}"),
        format!("config user me\noption name {SECRET}\noption secret me"),
        format!("config mtbox main\noption secret {bad}"),
        format!("config mtbox main\noption port {SECRET}\nlist network_proxies socks5://a:{bad}"),
    ] {
        let GeneratedConfig { errors, warnings, .. } = made(&text);
        assert!(!errors.is_empty(), "{text}");
        for line in errors.iter().chain(&warnings) {
            assert!(!line.contains("00112233") && !line.contains('\n'), "{line}");
        }
    }
}

#[test]
fn text_that_is_not_utf_8_is_an_error_with_its_line() {
    let made = convert(b"config mtbox\n\toption host '\xff'\n", "a", "a");
    assert_eq!(made.errors, ["a:2: not UTF-8; write this line again"]);
}

#[test]
fn an_option_that_keeps_a_client_out_is_obeyed_or_an_error() {
    let user = format!("config user a\noption secret {OTHER}\n");
    for (value, is_on) in [("1", false), ("yes", false), ("0", true)] {
        let (settings, warnings) = settings(&format!("{user}option disabled {value}\n"));
        assert_eq!((settings.users[0].enabled, warnings.len()), (is_on, 0), "{value}");
    }
    for option in
        ["disable 1", "Disabled 1", "enable 0", "active 0", "expires 2027-01-01", "quota 5"]
    {
        let found = error(&format!("{user}option {option}\n"));
        assert!(found.contains("set option disabled '1'"), "{option}: {found}");
    }
    for option in ["blocklist_enabled 1", "blacklist 192.0.2.1", "max_ips 3"] {
        let found = error(&format!("config mtbox main\noption {option}\n{user}"));
        assert!(found.starts_with("section 'main': unknown option "), "{option}: {found}");
    }
    let off = made(&format!("config mtbox main\noption blocklist_enabled 0\n{user}"));
    assert!(off.errors.is_empty() && off.warnings.len() == 1, "{off:?}");
}
