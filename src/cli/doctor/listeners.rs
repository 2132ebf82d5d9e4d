//! Does somebody answer where clients connect, and where statistics are served? When nobody does,
//! listening is tried instead, so that a port that is taken or forbidden is known before a start.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::cli::doctor::context::{CheckContext, near};
use crate::cli::doctor::findings::Section;
use crate::cli::json::Json;
use crate::config::settings::{HttpBind, Settings};
use crate::daemon::upstream::addresses::is_private;
use crate::io::folder;
use crate::io::listen::{self, Bind, ListenOptions, Listener};

/// Looks at every listener that the config names.
pub fn check(patient: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("listeners", "Validate listeners");
    let settings = &patient.settings;
    let runs = settings.binds.iter().any(|bind| connect(*bind).is_ok());
    let stats = settings.api_bind.as_ref().map(|bind| (bind, stats_of(bind)));
    // A port that answers is ours as far as the statistics know us.
    let is_ours = stats.as_ref().is_none_or(|(_, answer)| answer.is_ok());
    for bind in listen::plan(&settings.binds, manner(settings)) {
        look_at_port(bind, is_ours, &mut section);
    }
    if let Some((bind, answer)) = stats {
        look_at_http("api-bind-to", bind, answer, runs, &mut section);
    }
    if let Some(prometheus) = &settings.prometheus {
        let answer = page_of(&prometheus.bind, &prometheus.path);
        look_at_http("stats.prometheus.bind-to", &prometheus.bind, answer, runs, &mut section);
    }
    vec![section]
}

fn look_at_port(bind: Bind, is_ours: bool, section: &mut Section) {
    let addr = bind.addr;
    let finding = match (connect(addr), is_ours) {
        (Ok(()), true) => section.ok(format!("{addr} answers on this machine")).remedy(
            "whether it can be reached from outside shows a phone without Wi-Fi; a router in \
             front must forward the port, a firewall must let it in",
        ),
        (Ok(()), false) => section
            .warn(format!("{addr} answers, but the statistics do not: is it another program?"))
            .remedy("see who listens there (ss -ltnp), or wait until mtbox has started"),
        (Err(_), _) => match Listener::bind(bind) {
            Ok(_) => section
                .ok(format!("{addr} is free; mtbox does not run now"))
                .remedy("start it with mtbox run, and ask the doctor again"),
            Err(e) => section.fail(format!("{e}")).remedy(
                "choose another bind-to, stop the other program, or allow ports below 1024 (root, \
                 CAP_NET_BIND_SERVICE)",
            ),
        },
    };
    finding.fact("bind", Json::text(addr));
}

fn look_at_http(
    key: &str,
    bind: &HttpBind,
    answer: io::Result<()>,
    runs: bool,
    section: &mut Section,
) {
    let is_open = matches!(bind, HttpBind::Tcp(addr) if !is_private(addr.ip()));
    let finding = match (answer, runs) {
        (Ok(()), _) if is_open => section
            .warn(format!("{key}: {bind} answers whoever can reach it"))
            .remedy("it tells names and traffic: listen on 127.0.0.1 or a Unix socket"),
        (Ok(()), _) => section.ok(format!("{key}: {bind} answers")),
        (Err(e), true) => section
            .warn(format!("{key}: {bind}: {e}"))
            .remedy("the log says why it is not served (event=stats-listen-failed or the like)"),
        (Err(_), false) => match may_listen(bind) {
            Ok(()) => section.ok(format!("{key}: {bind} is free")),
            Err(e) => section
                .fail(format!("{key}: {bind}: {e}"))
                .remedy("choose another address, or let mtbox make files in that folder"),
        },
    };
    finding.fact("key", Json::text(key)).fact("bind", Json::text(bind));
}

fn may_listen(bind: &HttpBind) -> io::Result<()> {
    match bind {
        HttpBind::Tcp(addr) => listen::bind_all(&[*addr], ListenOptions::default()).map(drop),
        HttpBind::Unix(path) => folder::may_write(path),
    }
}

fn connect(bind: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&near(bind), PATIENCE).map(drop)
}

fn stats_of(bind: &HttpBind) -> io::Result<()> {
    page_of(bind, "/stats")
}

/// Asks for a page; well when it comes.
fn page_of(bind: &HttpBind, path: &str) -> io::Result<()> {
    match bind {
        HttpBind::Tcp(addr) => {
            let stream = TcpStream::connect_timeout(&near(*addr), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            get(stream, path)
        }
        HttpBind::Unix(socket) => {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            get(stream, path)
        }
    }
}

fn get(mut stream: impl Read + Write, path: &str) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let (mut seen, mut chunk) = (Vec::new(), [0; 64]);
    while seen.len() < STATUS_LEN && Instant::now() < until {
        match stream.read(&mut chunk)? {
            0 => break,
            count => seen.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    }
    let is_good = seen.starts_with(b"HTTP/1.") && seen.get(8..STATUS_LEN) == Some(b" 200");
    is_good.then_some(()).ok_or_else(|| io::Error::other("no such page there"))
}

fn manner(settings: &Settings) -> ListenOptions {
    ListenOptions {
        max_segment: settings.max_segment,
        multipath: settings.multipath,
        reuse_port: settings.reuse_port,
    }
}

/// For each answer from this machine.
const PATIENCE: Duration = Duration::from_secs(2);
/// `HTTP/1.0 200`.
const STATUS_LEN: usize = 12;
