//! `mtbox doctor`: every check with and without a problem, exit codes, JSON, and no secrets in the
//! output. The fronts are in `doctor_fronts.rs`, `--as-censor` is in `doctor_as_censor.rs`.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;

use crate::support::authority::Authority;
use crate::support::dc::{Dc, res_pq};
use crate::support::doctor::{examine, examine_file, folder, hybrid_server, run, time_server};
use crate::support::eventually;
use crate::support::fixture::HOST;
use crate::support::front::Front;
use crate::support::hello::Secret;
use crate::support::name_server::NameServer;
use crate::support::peer::Peer;
use crate::support::program;
use crate::support::proxy::{Config, free_port};
use crate::support::socks::{SocksBehaviour, SocksServer};
use crate::support::web::WebServer;

/// An address without a listener.
fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// One user, all servers on this machine, no query for the public address.
fn config(dc: SocketAddr, front: SocketAddr) -> Config {
    Config::new(dc, front)
        .user("alice", &Secret::new("127.0.0.1"))
        .set("", "public-ipv4", "\"127.0.0.1\"")
        .set("", "prefer-ip", "\"prefer-ipv4\"")
        .set("network", "public-ip-url", "\"\"")
}

#[test]
fn without_a_problem_the_exit_code_is_0() {
    let authority = Authority::new();
    let front = hybrid_server(authority.server(&[HOST]));
    let names =
        NameServer::listen(|question| question.with_address([127, 0, 0, 1].into()).actions());
    let socks = SocksServer::listen(SocksBehaviour::default());
    let folder = folder("well");
    let mut config = Config::new(Dc::honest(), front)
        .user("alice", &Secret::new(HOST))
        .set("", "public-ipv4", "\"127.0.0.1\"")
        .set("", "prefer-ip", "\"prefer-ipv4\"")
        .set("", "pid-file", &format!("{:?}", folder.join("mtbox.pid")))
        .set("", "state-file", &format!("{:?}", folder.join("mtbox.state")))
        .set("network", "dns", &names.url())
        .set("network", "proxies", &format!("[{:?}]", socks.url()))
        .set("defense", "cache-dir", &format!("{folder:?}"));
    if cfg!(feature = "tls") {
        config = config.set("network", "ca-file", &authority.quoted());
    }
    let proxy = config.start();
    fs::set_permissions(proxy.file(), fs::Permissions::from_mode(0o600)).expect("a mode");
    let clock = time_server(0).to_string();
    let report = examine_file(proxy.file(), &["--ntp-server", &clock]);
    report.has("files", "ok", "only its owner can read ");
    report.has("dns", "ok", &format!("name server udp://{} answers in ", names.addr));
    assert_eq!(report.others(&["ok", "skipped"]), [""; 0], "{:#}", report.json);
    assert_eq!((report.code, &report.json["verdict"]), (0, &"ok".into()));
    for dc in [1, 2, 3, 4, 5, 203] {
        report.has("native", "ok", &format!("DC {dc} (rpc "));
        report.has("proxy", "ok", &format!("DC {dc} (rpc "));
    }
    report.has("clock", "ok", "tolerance is 2m");
    report.has("sni-dns", "ok", "front.example resolves to 127.0.0.1");
    report.has(
        "fronting",
        "ok",
        "TLS 1.3, X25519MLKEM768, suite 1301, flight of 1 record (3953 by",
    );
    report.has("listeners", "ok", &format!("{} answers", proxy.addr));
    report.has("listeners", "ok", &format!("api-bind-to: {} answers", proxy.api));
    report.has("files", "ok", "state-file: ");
    if cfg!(feature = "tls") {
        report.has("fronting", "ok", "front.example: the certificate is valid");
    } else {
        report.has("fronting", "skipped", "certificate not checked");
    }
}

/// The titles and signs of mtg-multi in its order, and the same content in JSON.
#[test]
fn sections_have_the_order_and_findings_the_signs_of_mtg_multi() {
    let socks = SocksServer::listen(SocksBehaviour::default());
    let proxies = format!("[{:?}, \"direct\"]", socks.url());
    let dc = Dc::answering(|_| Vec::new());
    let file = config(dc, nowhere()).set("network", "proxies", &proxies).write();
    let ((code, text), report) = (run(&file, &[]), examine_file(&file, &[]));
    let _ = fs::remove_file(file);
    assert_eq!((code, report.code), (1, 1));
    let titles: Vec<&str> = text.lines().filter(|line| !line.starts_with(' ')).collect();
    let want = [
        "Deprecated options",
        "Time skewness",
        "Validate native network connectivity",
        &format!("Validate network connectivity with proxy {}", socks.url()),
        "Validate fronting domain connectivity",
        "Validate SNI-DNS match",
    ];
    assert_eq!(titles[..want.len()], want);
    let findings: Vec<&str> = text.lines().filter(|line| line.starts_with("  ")).collect();
    let signs = ["  ✅ ", "  ⚠️ ", "  ❌ ", "  ‼️ ", "  ⏭ ", "     → "];
    let has_sign = |line: &&str| signs.iter().any(|sign| line.starts_with(sign));
    assert!(findings.iter().all(has_sign), "{findings:#?}");
    let sections = report.json["checks"].as_array().expect("sections");
    let same: Vec<&str> = sections.iter().map(|s| s["title"].as_str().expect("a title")).collect();
    assert_eq!(same, titles);
    for result in report.others(&[]) {
        let line = result["text"].as_str().expect("a text");
        assert!(text.contains(line), "{line}");
        let is_bad = ["failed", "warning", "could-not-run"].iter().any(|v| result["verdict"] == *v);
        assert!(!is_bad || result["remedy"].is_string(), "no remedy: {line}");
    }
}

#[test]
fn other_servers_are_told_from_data_centres() {
    let refusal = |_| [&4u32.to_le_bytes()[..], &(-404i32).to_le_bytes()].concat();
    for (dc, words) in [
        (Dc::answering(|_| res_pq([7; 16])), "the response belongs to another request"),
        (Dc::answering(refusal), "Telegram refuses with error -404"),
        (Dc::answering(|_| b"HTTP/1.1 400 Bad Request".to_vec()), "not MTProto: a frame of "),
        (Dc::answering(|_| Vec::new()), "closed without an answer"),
        (nowhere(), "TCP connection to 127.0.0.1:"),
    ] {
        let report = examine(&config(dc, nowhere()), &[]);
        for number in [1, 203] {
            report.has("native", "failed", &format!("DC {number}: "));
        }
        report.has("native", "failed", words);
        assert_eq!(report.lines("native").len(), 6);
        assert_eq!(report.code, 1);
    }
}

#[test]
fn a_data_centre_is_reachable_if_one_of_its_addresses_answers() {
    let (dead, dc) = (nowhere(), Dc::honest());
    let both = format!("[\"{dead}\", \"{dc}\"]");
    let report = examine(&config(dc, nowhere()).set("telegram.dc-overrides", "4", &both), &[]);
    report.has("native", "ok", "DC 4 (rpc ");
    let result = &report.results("native")[3];
    assert_eq!(result["addresses"][0]["address"], dead.to_string());
    assert!(result["addresses"][0]["error"].is_string(), "{result}");
    assert!(result["addresses"][1]["rpc_us"].is_u64(), "{result}");
    let skipped = examine(&config(dead, nowhere()), &["--skip-native-check"]);
    assert_eq!(skipped.lines("native"), ["skipped: turned off by --skip-native-check"]);
}

#[test]
fn each_proxy_is_checked_separately() {
    let dc = Dc::honest();
    let good = SocksServer::listen(SocksBehaviour::default());
    let bad = SocksServer::listen(SocksBehaviour { refuse: Some(5), ..SocksBehaviour::default() });
    let proxies = format!("[{:?}, {:?}]", bad.url(), good.url());
    let config = config(dc, nowhere()).set("network", "proxies", &proxies);
    let report = examine(&config, &["--skip-native-check"]);
    let lines = report.lines("proxy");
    assert_eq!(lines.len(), 12);
    assert!(lines[..6].iter().all(|line| line.starts_with("failed: DC ")), "{lines:#?}");
    assert!(lines[6..].iter().all(|line| line.starts_with("ok: DC ")), "{lines:#?}");
    assert_eq!(good.destinations().len(), 6);
    assert!(
        good.destinations().iter().all(|goal| *goal == dc.to_string()),
        "{:?}",
        good.destinations()
    );
}

#[test]
fn a_proxy_that_fails_is_named_by_every_check_that_goes_through_it() {
    let closed = nowhere();
    let page =
        WebServer::http(|_, out| out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"));
    let config = config(Dc::honest(), nowhere())
        .set("network", "proxies", &format!("[\"socks5://u:swordfish@{closed}\"]"))
        .set("defense.blocklist", "enabled", "true")
        .set("defense.blocklist", "urls", &format!("[{:?}]", page.url("/list")));
    let report = examine(&config, &["--skip-native-check"]);
    let refused = format!("proxy {closed}: Connection refused");
    for dc in [1, 2, 3, 4, 5, 203] {
        report.has("proxy", "failed", &format!("DC {dc}: {refused}"));
    }
    report.has("lists", "failed", &format!("blocklist: http://{}: {refused}", page.addr));
    assert_eq!(page.connections(), 0);
    let silent =
        SocksServer::listen(SocksBehaviour { first_bytes: Some(b""), ..SocksBehaviour::default() });
    let config = config.set("network", "proxies", &format!("[{:?}]", silent.url()));
    let report = examine(&config, &["--skip-native-check"]);
    let words = format!("DC 2: proxy {}: the proxy closed the connection", silent.addr);
    report.has("proxy", "failed", &words);
}

/// COMPATIBILITY E8: mtg-multi prints proxy URLs with their passwords.
#[test]
fn the_output_contains_no_key_and_no_password() {
    let password = Some(("proxyuser", "hunter2hunter2"));
    let socks = SocksServer::listen(SocksBehaviour { password, ..SocksBehaviour::default() });
    let secret = Secret::new(HOST);
    let list = format!("http://reader:opensesame@{}/list-with-a-token", nowhere());
    let config = Config::new(Dc::honest(), nowhere())
        .user("alice", &secret)
        .set("", "public-ipv4", "\"127.0.0.1\"")
        .set("", "unknown-key", &format!("{:?}", secret.text()))
        .set("network", "dns", "\"udp://127.0.0.1:9\"")
        .set("network", "public-ip-url", "\"http://me:mellon@127.0.0.1:9/\"")
        .set(
            "network",
            "proxies",
            &format!("[{:?}, \"socks5://u:swordfish@127.0.0.1:9\"]", socks.url()),
        )
        .set("defense.blocklist", "enabled", "true")
        .set("defense.blocklist", "urls", &format!("[{list:?}]"));
    let file = config.write();
    let mut all = String::new();
    for flags in [&[][..], &["--json"], &["--as-censor"], &["--as-censor", "--json"]] {
        all.push_str(&run(&file, flags).1);
    }
    let _ = fs::remove_file(file);
    assert!(all.contains("DC 203 (rpc "), "the proxy accepted the password: {all}");
    let key: String = secret.key.iter().map(|byte| format!("{byte:02x}")).collect();
    let words = [
        "hunter2",
        "proxyuser",
        "swordfish",
        "opensesame",
        "reader",
        "token",
        "mellon",
        &key,
        secret.text().as_str(),
    ]
    .map(str::to_owned);
    for word in words {
        assert!(!all.contains(&word), "{word} in:\n{all}");
    }
}

/// COMPATIBILITY E10: mtg-multi exits with 1 for a warning.
#[test]
fn warnings_alone_cause_exit_code_2_and_old_names_are_warnings() {
    let authority = Authority::new();
    let front = hybrid_server(authority.server(&["127.0.0.1"]));
    let mut config = config(Dc::honest(), front).set("", "domain-fronting-port", "443");
    if cfg!(feature = "tls") {
        config = config.set("network", "ca-file", &authority.quoted());
    }
    let report = examine(&config, &[]);
    assert_eq!(report.others(&["ok", "skipped", "warning"]), [""; 0], "{:#}", report.json);
    report.has("deprecated", "warning", "domain-fronting-port: old name");
    assert_eq!((report.code, &report.json["verdict"]), (2, &"warning".into()));
}

#[test]
fn the_clock_is_compared_only_on_request_and_by_tenths_of_the_tolerance() {
    let config = config(nowhere(), nowhere()).set("", "tolerate-time-skewness", "\"100s\"");
    let check = |ahead_ms: i64| {
        let server = time_server(ahead_ms).to_string();
        examine(&config, &["--skip-native-check", "--ntp-server", &server])
    };
    check(1_000).has("clock", "ok", "time drift is ");
    check(25_000).has("clock", "ok", "time drift is 2");
    check(-50_000).has("clock", "warning", "time drift is -");
    check(60_000).has("clock", "warning", "tolerance is 1m 40s");
    check(80_000).has("clock", "failed", "time drift is ");
    check(-4_000_000).has("clock", "failed", "time drift is -");
    let silent = nowhere().to_string();
    let report = examine(&config, &["--skip-native-check", "--ntp-server", &silent]);
    report.has("clock", "could-not-run", "time server 127.0.0.1:");
    let report = examine(&config, &["--skip-native-check"]);
    report.has("clock", "skipped", "not compared with a time server");
}

#[test]
fn lists_and_files_that_cannot_be_used_are_named() {
    let folder = folder("lists");
    let good = folder.join("good.netset");
    fs::write(&good, "192.0.2.0/24\n").expect("a file");
    let web = WebServer::http(|head, out| match head.starts_with("GET /there ") {
        true => out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n192.0.2.0/24\n"),
        false => out.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
    });
    let (there, gone) = (web.url("/there"), web.url("/gone"));
    // The loader does not open the file. A pipe without a writer would block.
    let pipe = folder.join("pipe.netset");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let config = config(nowhere(), nowhere())
        .set("defense.blocklist", "enabled", "true")
        .set("defense.blocklist", "urls", &format!("[{good:?}, {pipe:?}]"))
        .set("defense.allowlist", "enabled", "true")
        .set("defense.allowlist", "urls", &format!("[{there:?}, {gone:?}]"))
        .set("defense", "cache-dir", &format!("{:?}", good.join("cache")))
        .set("", "pid-file", "\"/proc/nowhere/mtbox.pid\"")
        .set("", "state-file", &format!("{:?}", folder.join("mtbox.state")));
    let report = examine(&config, &["--skip-native-check"]);
    report.has("lists", "ok", "good.netset is readable");
    report.has("lists", "failed", "pipe.netset: not a file");
    report.has("lists", "ok", "allowlist: http://127.0.0.1:");
    report.has("lists", "failed", "the server answered 404");
    report.has("files", "failed", "defense.cache-dir: ");
    report.has("files", "failed", "pid-file: /proc/nowhere/mtbox.pid");
    report.has("files", "ok", "state-file: ");
    report.has("files", "warning", "every account of this machine can read ");
    assert!(!folder.join("mtbox.state").exists(), "nothing is written");
    fs::remove_dir_all(folder).expect("the folder");
}

#[test]
fn listeners_that_are_free_or_of_another_program_are_told_apart() {
    let free = examine(&config(nowhere(), nowhere()), &["--skip-native-check"]);
    free.has("listeners", "ok", "is free; mtbox is not running");
    free.has("listeners", "ok", "api-bind-to: 127.0.0.1:");
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("an address").port();
    let taken = config(nowhere(), nowhere()).port(port);
    let report = examine(&taken, &["--skip-native-check"]);
    report.has("listeners", "warning", "answers, but the statistics do not");
    report.has("listeners", "warning", "api-bind-to: ");
    let far = config(nowhere(), nowhere()).binds(&["192.0.2.1".parse().expect("an address")]);
    let report = examine(&far, &["--skip-native-check"]);
    report.has("listeners", "failed", "this machine has no such address");
    let socket = config(nowhere(), nowhere()).set("", "api-bind-to", "\"unix:/proc/x/a.sock\"");
    let report = examine(&socket, &["--skip-native-check"]);
    report.has("listeners", "failed", "api-bind-to: unix:/proc/x/a.sock");
}

#[test]
fn low_limits_and_a_family_without_a_route_cause_warnings() {
    let config = config(nowhere(), nowhere())
        .set("", "concurrency", "60000")
        .set("network", "bind-address", "[\"127.0.0.1\"]")
        .set("", "prefer-ip", "\"prefer-ipv6\"")
        .without("telegram.dc-overrides", "2");
    let file = config.write();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]).args(program::words());
    shell.arg("doctor").arg(&file).arg("--skip-native-check");
    let text = String::from_utf8(shell.output().expect("a shell").stdout).expect("UTF-8");
    let _ = fs::remove_file(file);
    assert!(text.contains("⚠️ 64 open files allow 24 of 60000 sessions"), "{text}");
    assert!(text.contains("⚠️ no route to Telegram over IPv6: "), "{text}");
}

#[test]
fn a_relay_whose_headers_the_running_proxy_does_not_expect_is_named() {
    let proxy = config(Dc::honest(), Front::listen().addr).start();
    let mut relay = Peer::connect("relay", proxy.addr);
    relay.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 40001 443\r\n");
    eventually("it is told", || proxy.log().contains("event=proxy-header why=proxy-header-off "));
    let report = examine_file(proxy.file(), &["--skip-native-check"]);
    let words = "from 127.0.0.1: a PROXY header came, but proxy-protocol-listener is off";
    report.has("listeners", "warning", words);
}
