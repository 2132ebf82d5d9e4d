//! The built binary as a shell runs it: exit codes, stdout and stderr.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use mtbox::config::HAS_TLS;
use mtbox::proto::secret::Secret;
use serde_json::Value;

/// Key 00112233445566778899aabbccddeeff, host example.org.
const SECRET: &str = "ee00112233445566778899aabbccddeeff6578616d706c652e6f7267";
const BASE64: &str = "7gARIjNEVWZ3iJmqu8zd7v9leGFtcGxlLm9yZw";

fn mtbox(arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mtbox"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Exit code, stdout, stderr.
#[track_caller]
fn outcome(arguments: &[impl AsRef<OsStr>]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = mtbox(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// An empty directory for a test.
fn folder(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli").join(test);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// For proxies that run: they must not probe a front outside this machine.
const NO_FRONT_PROBE: &str = "[domain-fronting]\nscout = false\n";

/// No query for the public address.
const NO_PUBLIC_IP_URL: &str = "[network]\npublic-ip-url = \"\"\n";

/// A config file in an empty directory.
fn config(test: &str, text: &str) -> String {
    let path = folder(test).join("a.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

fn minimal(more: &str) -> String {
    format!("secret = \"{SECRET}\"\nbind-to = \"192.0.2.7:443\"\n{more}")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A child process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Running {
    Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// Reads lines until one contains `last`.
#[track_caller]
fn read_until(pipe: impl Read, last: &str) -> String {
    let mut all = String::new();
    for line in BufReader::new(pipe).lines() {
        let line = line.unwrap();
        all.push_str(&line);
        all.push('\n');
        if line.contains(last) {
            return all;
        }
    }
    panic!("no line with {last:?} in:\n{all}");
}

#[test]
fn version_is_one_line_that_begins_with_the_version() {
    for flag in ["-v", "--version"] {
        let (code, out, err) = outcome(&[flag]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.starts_with(concat!(env!("CARGO_PKG_VERSION"), " (rust: ")), "{out}");
        let features = if HAS_TLS { "doctor metrics qr tls" } else { "none" };
        assert!(out.ends_with(&format!(", features: {features})\n")), "{out}");
        assert_eq!(out.lines().count(), 1, "{out}");
    }
    assert_eq!(outcome(&["run", "-v"]).0, 0);
}

#[test]
fn help_lists_every_command_and_each_command_has_a_help_text() {
    let (code, out, err) = outcome(&["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(outcome(&["-h"]).1, out);
    for name in [
        "quickstart",
        "run",
        "simple-run",
        "generate-secret",
        "access",
        "check",
        "doctor",
        "explain",
        "stats",
        "user add",
        "uci",
    ] {
        assert!(out.contains(&format!("\n  {name}")), "{name}");
        let words: Vec<&str> = name.split(' ').chain(["--help"]).collect();
        let (code, own, _) = outcome(&words);
        assert_eq!(code, 0);
        assert!(own.contains(&format!("Usage: mtbox {name}")) && own.contains("Examples:"));
        assert!(own.lines().all(|line| line.chars().count() <= 100), "{own}");
    }
    assert!(!out.contains("example-config"));
}

#[test]
fn wrong_arguments_cause_one_line_and_exit_code_80() {
    let path = config("usage", &minimal(""));
    let folder = folder("usage-folder");
    let folder = folder.to_str().unwrap();
    for (arguments, wanted) in [
        (&[][..], "no command; write one of quickstart, run, "),
        (&["rnu"][..], "unknown command \"rnu\"; did you mean run?"),
        (&["frobnicate"], "unknown command \"frobnicate\"; see mtbox --help"),
        (&["--hepl"], "unknown flag --hepl; did you mean --help?"),
        (&["run"], "CONFIG is missing (config file); see mtbox run --help"),
        (&["run", &path, "more"], "unexpected argument \"more\"; see mtbox run --help"),
        (&["run", "no/such.toml"], "no config file \"no/such.toml\": No such file"),
        (&["run", folder], "is a directory; name the config file in it"),
        (&["run", "-"], "no config file \"-\""),
        (&["access", "no/such.toml"], "no config file \"no/such.toml\""),
        (&["access", &path, "--ipv5", "::1"], "unknown flag --ipv5; did you mean --ipv4?"),
        (&["access", &path, "-z"], "unknown flag -z; see --help"),
        (&["access", &path, "-i", "x"], "--ipv4: not an IP address"),
        (&["access", &path, "-p", "65536"], "--port: not a port"),
        (&["access", &path, "-p"], "missing argument for option '-p'"),
        (&["access", &path, "--hex=maybe"], "--hex: must be true or false"),
        (&["generate-secret"], "HOST is missing"),
        (&["generate-secret", ""], "the host is empty; name a web site"),
        (&["generate-secret", &"a".repeat(183)], "the host is longer than 182 bytes"),
        (&["simple-run", "0.0.0.0:1"], "SECRET is missing"),
        (&["simple-run", "0.0.0.0:1", SECRET, "-t", "5"], "--timeout: not a duration"),
        (&["quickstart", "--bind", "443"], "--bind: not IP:port"),
    ] {
        let (code, out, err) = outcome(arguments);
        assert_eq!((code, out.as_str()), (80, ""), "{arguments:?}");
        assert!(err.starts_with("mtbox: error: ") && err.contains(wanted), "{arguments:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[test]
fn errors_have_a_position_and_cause_exit_code_1() {
    let path = config("trouble", "bind-to = \"x\"\ndebug = 1\nfoo = 1\n");
    for command in ["run", "access"] {
        let (code, out, err) = outcome(&[command, &path]);
        assert_eq!((code, out.as_str()), (1, ""));
        let lines: Vec<&str> = err.lines().collect();
        assert!(lines[0].starts_with(&format!("mtbox: error: {path}:1:1: no user; ")), "{err}");
        assert!(lines[1].starts_with(&format!("mtbox: error: {path}:1:11: bind-to: not IP:port")));
        assert!(lines[2].starts_with(&format!("mtbox: error: {path}:2:9: debug: must be ")));
        assert_eq!(lines.len(), 3, "only errors are printed: {err}");
    }
    for (arguments, wanted) in [
        (["simple-run", "x", SECRET], "mtbox: error: BIND: not IP:port; "),
        (["simple-run", "0.0.0.0:1", "dd00"], "mtbox: error: SECRET: this is not a FakeTLS (ee) "),
    ] {
        let (code, out, err) = outcome(&arguments);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.starts_with(wanted) && err.lines().count() == 1, "{err}");
    }
}

#[test]
fn an_address_in_use_ends_run_and_simple_run() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let text = format!("secret = \"{SECRET}\"\nbind-to = \"{bind}\"\n");
    let path = config("taken", &text);
    for arguments in [&["run", &path][..], &["simple-run", &bind, SECRET]] {
        let (code, out, err) = outcome(arguments);
        assert_eq!((code, out.as_str()), (1, ""));
        let last = err.lines().last().unwrap();
        assert!(last.starts_with("mtbox: error: ") && last.contains(&bind), "{err}");
    }
}

#[test]
fn the_log_of_run_starts_with_the_warnings_of_the_config() {
    let text = format!(
        "secret = \"{SECRET}\"\nbind-to = \"127.0.0.1:{}\"\nbind_to = 1\n{NO_FRONT_PROBE}",
        free_port()
    );
    let path = config("warnings", &text);
    let mut child = start(&mut mtbox(&["run", &path]));
    let log = read_until(child.0.stderr.take().unwrap(), "event=listening");
    let first = log.lines().next().unwrap();
    assert!(first.contains("level=warn") && first.contains(&format!("{path}:3:1: ")), "{log}");
    assert!(first.ends_with("unknown key \"bind_to\"; did you mean bind-to?"), "{log}");
}

#[test]
fn every_secret_is_new_and_contains_its_host() {
    let mut seen = Vec::new();
    for arguments in [
        &["generate-secret", "example.org"][..],
        &["generate-secret", "-x", "example.org"],
        &["generate-secret", "example.org", "--hex"],
        &["generate-secret", "example.org", "--hex=false"],
    ] {
        let (code, out, err) = outcome(arguments);
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
        let text = out.strip_suffix('\n').unwrap();
        let secret = Secret::parse(text).unwrap();
        assert_eq!(secret.host(), b"example.org");
        let is_hex = arguments.iter().any(|one| ["-x", "--hex"].contains(one));
        assert_eq!(text, if is_hex { secret.to_hex() } else { secret.to_base64() });
        assert!(!seen.contains(&secret));
        seen.push(secret);
    }
    let (code, out, err) = outcome(&["generate-secret", "localhost"]);
    assert_eq!(code, 0);
    assert!(Secret::parse(out.trim_end()).is_ok());
    assert!(err.starts_with("mtbox: warning: \"localhost\" has no dot"), "{err}");
}

#[test]
fn check_accepts_valid_configs_and_strict_rejects_warnings() {
    let users = format!("[secrets]\na = \"{SECRET}\"\nb = \"7g8ODQwLCgkIBwYFBAMCAQB3d3cuYS5i\"\n");
    let good = config("check-good", &format!("bind-to = [\"[::]:1\", \"0.0.0.0:1\"]\n{users}"));
    let ok = (0, format!("ok: 2 users, 2 listeners, 0 warnings\n{DEFAULT_EGRESS}"), String::new());
    assert_eq!(outcome(&["check", &good]), ok);
    assert_eq!(outcome(&["check", "--strict", &good]), ok);

    let odd = config("check-odd", &minimal("bind_to = 1\n"));
    let warning = format!("{odd}:3:1: warning: unknown key \"bind_to\"; did you mean bind-to?\n");
    let accepted =
        (0, format!("ok: 1 user, 1 listener, 1 warning\n{DEFAULT_EGRESS}"), warning.clone());
    assert_eq!(outcome(&["check", &odd]), accepted);
    assert_eq!(outcome(&["check", &odd, "--strict"]), (1, String::new(), warning));

    let bad = config("check-bad", &minimal("concurrency = -1\nnetwork.proxies = [\"http://h\"]\n"));
    let (code, out, err) = outcome(&["check", &bad]);
    assert_eq!((code, out.as_str()), (1, ""));
    let lines: Vec<&str> = err.lines().collect();
    assert!(lines[0].starts_with(&format!("{bad}:3:15: error: concurrency: must be ")), "{err}");
    assert!(
        lines[1].starts_with(&format!("{bad}:4:20: error: network.proxies, entry 1: ")),
        "{err}"
    );
    assert_eq!(lines.len(), 2);
}

/// What `check` prints for a config without network settings.
const DEFAULT_EGRESS: &str = "DNS: the system's servers; Telegram: directly\n\
                              fetches: the secrets' hosts every 6h\n";

#[test]
fn check_lists_the_outgoing_connections_without_passwords() {
    let text = minimal(
        r#"
        auto-update = true
        domain-fronting = { host = "127.0.0.1", port = 8443 }
        telegram.dc-list-urls = ["http://dc.example/a", "http://dc.example/b"]
        [network]
        dns = "udp://[::1]:5353"
        proxies = ["socks5://u:hunter2@[2001:db8::1]", "direct"]
        [defense.blocklist]
        enabled = true
        urls = ["http://u:hunter2@lists.example/x?hunter2", "Cargo.toml"]
        update-each = "90s"
        [defense.allowlist]
        enabled = true
        urls = ["Cargo.toml"]
        "#,
    );
    let (code, out, err) = outcome(&["check", &config("check-outside", &text)]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "ok: 1 user, 1 listener, 0 warnings\n\
         DNS: [::1]:5353 over UDP and TCP; Telegram: through [2001:db8::1]:1080 or directly\n\
         fetches: 127.0.0.1:8443 every 6h, lists.example (blocklist) every 90s, \
         dc.example every 1h\n"
    );
    let text = minimal("domain-fronting.scout = false\nnetwork.dns = \"tls://dns.example\"\n");
    let (_, out, _) = outcome(&["check", &config("check-quiet", &text)]);
    if HAS_TLS {
        assert!(out.contains("DNS: dns.example:853 over TLS; "), "{out}");
        assert!(out.ends_with("fetches: nothing\n"), "{out}");
    }
}

#[test]
fn check_returns_2_if_the_config_cannot_be_read() {
    let long = config("check-long", &"#".repeat((1 << 20) + 1));
    for arguments in
        [&["check"][..], &["check", "no/such.toml"], &["check", "--foo"], &["check", &long]]
    {
        let (code, out, err) = outcome(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.starts_with("mtbox: error: ") && err.lines().count() == 1, "{err}");
    }
}

#[test]
fn a_tilde_is_the_home_directory() {
    let home = folder("home");
    fs::write(home.join("a.toml"), minimal("")).unwrap();
    let output = mtbox(&["check", "~/a.toml"]).env("HOME", &home).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn access_prints_the_fields_of_mtg_multi_in_their_order() {
    let path = config("access-one", &minimal("public-ipv4 = \"192.0.2.10\"\n"));
    let tg = format!("tg://proxy?port=443&secret={BASE64}&server=192.0.2.10");
    let tme = format!("https://t.me/proxy?port=443&secret={BASE64}&server=192.0.2.10");
    let lan = tg.replace("192.0.2.10", "192.0.2.7");
    let lan_tme = tme.replace("192.0.2.10", "192.0.2.7");
    let want = format!(
        r#"{{
  "ipv4": {{
    "ip": "192.0.2.10",
    "port": 443,
    "tg_url": "{tg}",
    "tg_qrcode": "{tg}",
    "tme_url": "{tme}",
    "tme_qrcode": "{tg}"
  }},
  "secret": {{
    "hex": "{SECRET}",
    "base64": "{BASE64}"
  }},
  "links": {{
    "default": [
      {{
        "ip": "192.0.2.10",
        "port": 443,
        "tg_url": "{tg}",
        "tme_url": "{tme}"
      }}
    ]
  }},
  "lan": {{
    "default": [
      {{
        "ip": "192.0.2.7",
        "port": 443,
        "tg_url": "{lan}",
        "tme_url": "{lan_tme}"
      }}
    ]
  }}
}}
"#
    );
    assert_eq!(outcome(&["access", &path]), (0, want, String::new()));
}

fn access(arguments: &[&str]) -> Value {
    let (code, out, err) = outcome(arguments);
    assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn access_has_links_for_every_user_or_for_one() {
    let text = format!(
        "bind-to = [\"127.0.0.1:8443\", \"127.0.0.1:9443\"]\npublic-port = 8443\n\
         [secrets]\nzoe = \"{SECRET}\"\n\"ann & <co>\" = \"7g8ODQwLCgkIBwYFBAMCAQB3d3cuYS5i\"\n"
    );
    let path = config("access-many", &text);
    let all = access(&["access", &path, "-i", "198.51.100.7", "-I2001:db8::1"]);
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&all["secrets"]), ["ann & <co>", "zoe"]);
    assert_eq!(names(&all["links"]), ["ann & <co>", "zoe"]);
    assert_eq!(all["secret"], all["secrets"]["ann & <co>"], "the first by name");
    assert_eq!(all["secrets"]["zoe"]["base64"], BASE64);
    assert_eq!(all["ipv6"]["ip"], "2001:db8::1");
    assert_eq!(all["links"]["zoe"][0]["ip"], "198.51.100.7");
    assert_eq!(
        all["links"]["zoe"][1]["tme_url"],
        format!("https://t.me/proxy?port=8443&secret={BASE64}&server=2001%3Adb8%3A%3A1")
    );
    assert_eq!(all["lan"], Value::Null);

    let one = access(&["access", "--user=zoe", "-x", "-p", "1", "-i", "198.51.100.7", &path]);
    assert_eq!(one["secrets"], Value::Null);
    assert_eq!(
        one["ipv4"]["tg_url"],
        format!("tg://proxy?port=1&secret={SECRET}&server=198.51.100.7")
    );
    let same = access(&["access", &path, "--user", "zoe", "--port=0", "--ipv4=198.51.100.7"]);
    assert_eq!(same["ipv4"]["port"], 8443);

    let (code, out, err) = outcome(&["access", &path, "--user", "zoee"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(err, "mtbox: error: no user is called \"zoee\"; did you mean \"zoe\"?\n");
}

#[test]
fn access_without_a_public_address_reports_how_to_state_one() {
    let text = format!("secret = \"{SECRET}\"\nbind-to = \"127.0.0.1:443\"\n{NO_PUBLIC_IP_URL}");
    let path = config("access-none", &text);
    let (code, out, err) = outcome(&["access", &path]);
    assert_eq!(code, 0);
    assert!(err.starts_with("mtbox: no public address is known; state it with --ipv4 IP"), "{err}");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&json["ipv4"], &json["ipv6"], &json["lan"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(json["links"]["default"], Value::Array(vec![]));
    // As in mtg-multi, --ipv4 ignores an IPv6 address, while --ipv6 accepts an IPv4 address.
    let (_, out, _) = outcome(&["access", &path, "-i", "2001:db8::1", "-I", "198.51.100.7"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["ipv4"], json["ipv6"]["ip"].as_str()), (&Value::Null, Some("198.51.100.7")));
}

#[test]
fn quickstart_writes_a_private_file_once_and_keeps_its_links() {
    let home = folder("quickstart");
    let bind = format!("127.0.0.1:{}", free_port());
    let links = |more: &[&str]| {
        let mut command = mtbox(&["quickstart"]);
        let mut child = start(command.args(more).current_dir(&home));
        let text = read_until(child.0.stdout.take().unwrap(), "All links:");
        // The proxy is running too.
        read_until(child.0.stderr.take().unwrap(), &format!("event=listening addr={bind}"));
        let links: Vec<String> =
            text.lines().filter(|line| line.contains("proxy?")).map(str::to_string).collect();
        (text, links)
    };
    let (text, first) = links(&["--bind", &bind, "--host", "localhost"]);
    assert!(text.starts_with("Wrote mtbox.toml: one user, a new secret, port "), "{text}");
    assert!(
        text.contains("curl http://127.0.0.1:") && text.contains("mtbox user add NAME"),
        "{text}"
    );
    assert_eq!(first.len(), 2, "{text}");
    let file = home.join("mtbox.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&file).unwrap();

    let (text, second) = links(&[]);
    assert!(text.starts_with("Using the existing mtbox.toml: port "), "{text}");
    assert_eq!(first, second);
    assert_eq!(fs::read(&file).unwrap(), before);

    let (code, out, _) = outcome(&["check", "--strict", file.to_str().unwrap()]);
    assert_eq!((code, out), (0, format!("ok: 1 user, 1 listener, 0 warnings\n{DEFAULT_EGRESS}")));
}

#[test]
fn quickstart_refuses_a_host_that_no_client_accepts() {
    let home = folder("quickstart-host");
    let output = mtbox(&["quickstart", "--host", "two words"]).current_dir(&home).output().unwrap();
    assert_eq!(output.status.code(), Some(80));
    assert!(!home.join("mtbox.toml").exists());
}

#[test]
fn a_closed_stdout_is_no_failure() {
    let mut child =
        mtbox(&["--help"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[test]
fn the_example_can_be_printed() {
    let (code, out, _) = outcome(&["example-config"]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("example.config.toml");
    assert_eq!((code, out), (0, fs::read_to_string(path).unwrap()));
}

#[test]
fn links_have_the_public_host_and_port_and_a_doubtful_port_is_told() {
    let text = |more: &str| format!("bind-to = \"127.0.0.1:3128\"\nsecret = \"{SECRET}\"\n{more}");
    let host = "public-host = \"home.example\"\npublic-port = 443\npublic-ipv4 = \"192.0.2.1\"\n";
    let path = config("access-host", &text(host));
    let link = format!("tg://proxy?port=443&secret={BASE64}&server=home.example\n");
    assert_eq!(outcome(&["access", &path, "--plain"]), (0, link, String::new()));
    let all = access(&["access", &path]);
    assert_eq!(all["links"]["default"][0]["host"], "home.example");
    assert_eq!((&all["ipv4"]["ip"], &all["ipv4"]["port"]), (&"192.0.2.1".into(), &443.into()));
    let path = config("access-hidden", &text("public-ipv4 = \"192.0.2.10\"\n"));
    let (code, out, err) = outcome(&["access", &path, "--plain"]);
    assert!(code == 0 && out.contains("port=3128"), "{out}");
    assert!(err.contains("only this machine can reach bind-to") && err.contains("public-port"));
    let (code, out, err) = outcome(&["access", &path, "--plain", "--port", "443"]);
    assert!(code == 0 && out.contains("port=443") && err.is_empty(), "{err}");
    let (code, out, err) =
        outcome(&["user", "add", "bob", "--config", &path, "--host", "a.example"]);
    assert!(code == 0 && out.contains("port=3128") && err.contains("public-port"), "{out}{err}");
}

#[test]
fn a_key_in_use_is_kept_and_secrets_come_from_stdin_or_a_file() {
    let key = "00112233445566778899aabbccddeeff";
    for old in [key, &format!("dd{key}"), SECRET, BASE64] {
        let made = outcome(&["generate-secret", "-x", "--key", old, "example.org"]);
        assert_eq!(made, (0, format!("{SECRET}\n"), String::new()), "{old}");
    }
    let file = folder("secret-file").join("secret");
    fs::write(&file, format!("{key}\n")).unwrap();
    let at = format!("@{}", file.display());
    let made = outcome(&["generate-secret", "-x", "--key", &at, "example.org"]);
    assert_eq!(made.1, format!("{SECRET}\n"));
    let (code, _, err) = outcome(&["generate-secret", "--key", "00ff", "example.org"]);
    assert!(code == 80 && err.contains("--key: not a key"), "{err}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let mut child = mtbox(&["simple-run", &bind, "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{SECRET}").unwrap();
    let err = child.wait_with_output().unwrap().stderr;
    assert!(String::from_utf8_lossy(&err).contains("in use"), "the secret was taken");
}

/// A container often mounts the config file alone; a rename onto a mount point fails.
#[test]
fn a_config_that_is_a_mount_point_is_edited_in_place() {
    let folder = folder("mounted");
    let (file, source) = (folder.join("a.toml"), folder.join("source.toml"));
    fs::write(&file, "").unwrap();
    fs::write(&source, minimal("")).unwrap();
    let script = "mount --bind \"$1\" \"$2\" || exit 99; exec \"$3\" user add bob --config \"$2\" \
                  --host a.example";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.args([source.as_os_str(), file.as_os_str()]).arg(env!("CARGO_BIN_EXE_mtbox"));
    let Ok(Output { status, stderr, .. }) = command.stdin(Stdio::null()).output() else {
        eprintln!("skipped: no unshare");
        return;
    };
    let err = String::from_utf8_lossy(&stderr);
    if status.code() == Some(99) || err.contains("unshare") {
        eprintln!("skipped: no mount namespace: {err}");
        return;
    }
    assert!(status.success(), "{err}");
    assert!(fs::read_to_string(&source).unwrap().contains("bob = \""));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "no copy is left");
}

#[test]
fn a_file_that_is_written_is_not_the_config() {
    for key in ["pid-file", "state-file"] {
        let path = config(key, "");
        let text = format!("bind-to = \"127.0.0.1:1\"\n{key} = {path:?}\nsecret = \"{SECRET}\"\n");
        fs::write(&path, &text).unwrap();
        let out = mtbox(&["check", &path]).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(err.contains(&format!("{key}: this is the config itself")), "{err}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}
