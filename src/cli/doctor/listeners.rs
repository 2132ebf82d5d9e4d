//! Does the proxy answer where clients connect, and where it serves statistics? If not, tries to
//! listen there, to find out whether the port is in use or forbidden.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::accounts::recorder::Cause;
use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::findings::Section;
use crate::cli::{admin_client, local_addr};
use crate::config::settings::{HttpBind, Settings};
use crate::daemon::upstream::addresses::is_private;
use crate::io::folder;
use crate::io::listen::{self, Bind, ListenOptions, Listener};
use crate::util::json::Json;

pub(super) fn check(context: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("listeners", "Validate listeners");
    let settings = &context.settings;
    let is_running = settings.binds.iter().any(|bind| connect(*bind).is_ok());
    let stats = settings.api_bind.as_ref().map(|bind| (bind, request(bind, "/stats")));
    // Another program may listen on our port. The statistics show whether it is mtbox.
    let is_mtbox = stats.as_ref().is_none_or(|(_, answer)| answer.is_ok());
    for bind in listen::plan(&settings.binds, listen_options(settings)) {
        check_client_listener(bind, is_mtbox, &mut section);
    }
    if let Some((bind, answer)) = stats {
        if answer.is_ok()
            && let Ok(reply) = admin_client::get(settings, "/explain/?text")
        {
            report_headers(&reply.body, &mut section);
        }
        report_http("api-bind-to", bind, answer, is_running, &mut section);
    }
    if let Some(prometheus) = &settings.prometheus {
        let answer = request(&prometheus.bind, &prometheus.path);
        report_http("stats.prometheus.bind-to", &prometheus.bind, answer, is_running, &mut section);
    }
    vec![section]
}

fn check_client_listener(bind: Bind, is_mtbox: bool, section: &mut Section) {
    let addr = bind.addr;
    let finding = match (connect(addr), is_mtbox) {
        (Ok(()), true) => section.ok(format!("{addr} answers on this machine")).remedy(
            "to test access from the internet, use a phone without Wi-Fi; the router must forward \
             the port, and a firewall must allow it",
        ),
        (Ok(()), false) => section
            .warn(format!("{addr} answers, but the statistics do not: is it another program?"))
            .remedy("find the program with ss -ltnp, or wait until mtbox has started"),
        (Err(_), _) => match Listener::bind(bind) {
            Ok(_) => section
                .ok(format!("{addr} is free; mtbox is not running"))
                .remedy("start mtbox, and run the doctor again"),
            Err(e) => section.fail(format!("{e}")).remedy(
                "choose another bind-to, stop the other program, or allow ports below 1024 (root, \
                 CAP_NET_BIND_SERVICE)",
            ),
        },
    };
    finding.fact("bind", Json::text(addr));
}

/// Warns of relays that disagree with the config about PROXY headers, as the running proxy has seen
/// it. `page` is that of `mtbox explain`.
fn report_headers(page: &str, section: &mut Section) {
    let mut reported = Vec::new();
    let mut lines = page.lines().map(str::trim_start).peekable();
    while let Some(line) = lines.next() {
        let name = line.split(' ').next().unwrap_or_default();
        let mut about_headers = Cause::ALL.into_iter().filter(|one| one.is_about_headers());
        let Some(cause) = about_headers.find(|one| one.as_str() == name) else { continue };
        let from = lines.peek().copied().unwrap_or_default();
        if !reported.contains(&(cause, from)) && reported.len() < RELAYS_MAX {
            reported.push((cause, from));
            section.warn(format!("{from}: {}", cause.description())).remedy(cause.remedy());
        }
    }
}

fn report_http(
    key: &str,
    bind: &HttpBind,
    answer: io::Result<()>,
    is_running: bool,
    section: &mut Section,
) {
    let is_exposed = matches!(bind, HttpBind::Tcp(addr) if !is_private(addr.ip()));
    let finding = match (answer, is_running) {
        (Ok(()), _) if is_exposed => section
            .warn(format!("{key}: {bind} answers every machine that can reach it"))
            .remedy("it shows user names and traffic: use 127.0.0.1 or a Unix socket"),
        (Ok(()), _) => section.ok(format!("{key}: {bind} answers")),
        (Err(e), true) => section
            .warn(format!("{key}: {bind}: {e}"))
            .remedy("see the cause in the log (event=stats-listen-failed or similar)"),
        (Err(_), false) => match test_listen(bind) {
            Ok(()) => section.ok(format!("{key}: {bind} is free")),
            Err(e) => section
                .fail(format!("{key}: {bind}: {e}"))
                .remedy("choose another address, or let mtbox create files in that directory"),
        },
    };
    finding.fact("key", Json::text(key)).fact("bind", Json::text(bind));
}

fn test_listen(bind: &HttpBind) -> io::Result<()> {
    match bind {
        HttpBind::Tcp(addr) => listen::bind_all(&[*addr], ListenOptions::default()).map(drop),
        HttpBind::Unix(path) => folder::check_file_writable(path),
    }
}

fn connect(bind: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&local_addr::of_listener(bind), LIMIT).map(drop)
}

/// Requests a page. Succeeds if the status is 200.
fn request(bind: &HttpBind, path: &str) -> io::Result<()> {
    let reply = admin_client::parse(&admin_client::request(bind, path, LIMIT)?);
    let is_ok = reply.is_some_and(|reply| reply.status == 200);
    is_ok.then_some(()).ok_or_else(|| io::Error::other("the page does not exist there"))
}

fn listen_options(settings: &Settings) -> ListenOptions {
    ListenOptions {
        max_segment: settings.max_segment,
        multipath: settings.multipath,
        reuse_port: settings.reuse_port,
    }
}

/// Relays that are reported.
const RELAYS_MAX: usize = 8;
/// For a connect and for a whole exchange with a program of this machine.
const LIMIT: Duration = Duration::from_secs(2);
