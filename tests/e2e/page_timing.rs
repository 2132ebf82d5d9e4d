//! Page timing: downloads use the delays measured on web pages (PROTOCOL 12.3, 12.4).

use std::io::Write;
use std::time::Duration;

use crate::support::authority::Authority;
use crate::support::client::Handshake;
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::front::Front;
use crate::support::hello::{App, Secret};
use crate::support::proxy::{Config, Proxy};
use crate::support::web::WebServer;

/// Sends `count` records, a millisecond apart.
fn trickle(out: &mut dyn Write, count: usize) -> std::io::Result<()> {
    write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", count * 100)?;
    for _ in 0..count {
        std::thread::sleep(Duration::from_millis(1));
        out.write_all(&[b'x'; 100])?;
        out.flush()?;
    }
    Ok(())
}

/// A proxy with one user that measures `url`, and its DC.
fn start(url: &str, authority: &Authority, secret: &Secret, more: &[(&str, &str)]) -> (Proxy, Dc) {
    let dc = Dc::listen();
    let config = Config::new(dc.addr, Front::listen().addr)
        .user("alice", secret)
        .set("network", "ca-file", &authority.quoted())
        .set("defense.doppelganger", "enabled", "true")
        .set("defense.doppelganger", "urls", &format!("[{url:?}]"));
    let set = |config: Config, (key, value): &(&str, &str)| {
        config.set("defense.doppelganger", key, value)
    };
    (more.iter().fold(config, set).start(), dc)
}

fn wait_for_log(proxy: &Proxy, what: &str) {
    eventually(what, || proxy.log().contains(what));
}

#[test]
fn the_pace_of_a_page_is_learned_from_the_configured_number_of_requests() {
    let (authority, secret) = (Authority::new(), Secret::new("front.example"));
    let web = WebServer::https(authority.server(&["127.0.0.1"]), |_, out| trickle(out, 70));
    let (proxy, _dc) = start(&web.url("/page"), &authority, &secret, &[("repeats-per-raid", "2")]);
    wait_for_log(&proxy, "event=pacing-fit k=");
    let log = proxy.log();
    let numbers = |key: &str| -> Vec<f64> {
        let values = log.split(key).skip(1).filter_map(|rest| rest.split_whitespace().next());
        values.map(|text| text.parse().expect("a number")).collect()
    };
    let learned: f64 = numbers(" records=").iter().sum();
    assert_eq!(numbers(" durations="), [learned]);
    assert!(learned > 140.0, "the records of the page and of the handshakes: {learned}");
    // Records of one segment have no delay between them and must not distort the fit.
    assert!((0.01..20.0).contains(&numbers(" lambda_ms=")[0]), "{log}");
    assert!((0.1..5.0).contains(&numbers(" k=")[0]), "{log}");
    assert_eq!(log.matches("event=page-timing page=0").count(), 2);
    let requests = web.requests();
    assert!(requests.iter().all(|head| head.starts_with("GET /page HTTP/1.1\r\n")), "{requests:?}");
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(web.requests().len(), 2, "the next requests are hours away");
}

#[test]
fn a_page_without_a_valid_certificate_is_not_measured() {
    let (authority, secret) = (Authority::new(), Secret::new("front.example"));
    let config = authority.server(&["elsewhere.example"]);
    let web = WebServer::https(config, |_, out| trickle(out, 200));
    let (proxy, _dc) = start(&web.url("/"), &authority, &secret, &[]);
    wait_for_log(&proxy, "event=page-timing-failed page=0 error=\"invalid peer certificate");
    assert!(web.requests().is_empty() && !proxy.log().contains("event=pacing-fit"));
}

#[test]
fn a_request_to_the_host_of_a_secret_measures_the_length_of_its_flight() {
    let (authority, secret) = (Authority::new(), Secret::new("127.0.0.1"));
    let web = WebServer::https(authority.server(&["127.0.0.1"]), |_, out| trickle(out, 1));
    let (proxy, _dc) = start(&web.url("/"), &authority, &secret, &[("repeats-per-raid", "1")]);
    wait_for_log(&proxy, "event=page-timing page=0");
    let noise = Handshake::connect(proxy.addr, &secret, App::PostQuantum).answer.noise;
    // A certificate of one short name is far from the 2500 to 4699 bytes of the default.
    assert!((300..2000).contains(&noise), "{noise}");
}

#[test]
fn without_doppelganger_no_page_is_requested() {
    let (authority, secret) = (Authority::new(), Secret::new("front.example"));
    let web = WebServer::https(authority.server(&["127.0.0.1"]), |_, out| trickle(out, 1));
    let (proxy, _dc) = start(&web.url("/"), &authority, &secret, &[("enabled", "false")]);
    Handshake::connect(proxy.addr, &secret, App::PostQuantum);
    std::thread::sleep(Duration::from_millis(1_000));
    assert_eq!(web.connections(), 0);
}
