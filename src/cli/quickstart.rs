//! `mtbox quickstart`: from nothing to a running proxy with one user. Later starts use the same
//! file, so links that were handed out keep working.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::cli::args::ParsedArgs;
use crate::cli::failure::Failure;
use crate::cli::output::{print, report};
use crate::cli::public_addrs::{AddressFlags, PublicAddrs};
use crate::cli::{config_file, generate_secret, log_flags, run};
use crate::config::addresses;
use crate::config::settings::{HttpBind, Settings};
use crate::io::ifaces;
use crate::proto::secret::{Secret, tg_link, tme_link};

/// Writes the file if there is none, prints how to use it, and runs.
pub fn quickstart(given: &ParsedArgs) -> Result<(), Failure> {
    let path = config_file::expanded(given.raw("config").unwrap_or(FILE.as_ref()));
    let bind = given.parsed("bind", addresses::socket_addr)?;
    let host = given.text("host")?;
    let log = log_flags::read(given)?;
    let is_first = match path.symlink_metadata() {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            first_start(&path, bind, host.unwrap_or(HOST))?;
            true
        }
        _ => false,
    };
    if !is_first && (bind.is_some() || host.is_some()) {
        report(&format!("{path:?} exists, so --bind and --host have no effect; edit the file"));
    }
    let loaded = config_file::load(&path)?;
    let reach = PublicAddrs::of(&loaded.settings, AddressFlags::default(), &ifaces::addresses());
    print(&guide(&path, is_first, &loaded.settings, &reach));
    run::serve(loaded, path, log, None)
}

fn first_start(path: &Path, bind: Option<SocketAddr>, host: &str) -> Result<(), Failure> {
    let secret = generate_secret::fresh(host)?;
    if let Some(doubt) = generate_secret::doubt(host) {
        report(&format!("warning: {doubt}"));
    }
    let any = |port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    let bind = match bind {
        Some(bind) => bind,
        None => free(PORTS.iter().map(|port| any(*port))).ok_or_else(|| {
            let text =
                format!("none of the ports {PORTS:?} is free; choose one with --bind IP:PORT");
            Failure::error(text)
        })?,
    };
    let local = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let api = free([API_PORT, ANY_PORT].into_iter().map(local));
    write_new(path, &config(bind, api, &secret))
        .map_err(|fault| Failure::error(format!("cannot write {path:?}: {fault}")))
}

/// The first address on which we could listen just now; port 0 stands for any free one.
fn free(candidates: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    candidates.filter_map(|addr| TcpListener::bind(addr).ok()?.local_addr().ok()).next()
}

/// Writes a file that was not there before, readable by its owner only.
///
/// # Errors
/// The system's; `AlreadyExists` if it is there after all. Nothing half-written stays behind.
pub fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// The text of a first config; `api` is left out when no port was to be had.
pub fn config(bind: SocketAddr, api: Option<SocketAddr>, secret: &Secret) -> String {
    let api = match api {
        Some(api) => format!(
            "# Statistics, for this machine only: curl http://{api}/stats\n\
             api-bind-to = \"{api}\"\n"
        ),
        None => "#api-bind-to = \"127.0.0.1:9090\"\n".to_string(),
    };
    let secret = secret.to_base64();
    format!(
        "# Made by `mtbox quickstart`. After an edit, `mtbox check` tells what is wrong and\n\
         # where; `mtbox example-config` prints every key.\n\
         \n\
         # Where Telegram apps connect.\n\
         bind-to = \"{bind}\"\n\
         \n\
         {api}\
         \n\
         # Your address as the outside sees it, for the links that `mtbox access` prints.\n\
         #public-ipv4 = \"192.0.2.1\"\n\
         \n\
         # One line for each person: a name, and a secret from `mtbox generate-secret HOST`.\n\
         [secrets]\n\
         {USER} = \"{secret}\"\n"
    )
}

/// What to do now, for a person.
fn guide(path: &Path, is_first: bool, settings: &Settings, reach: &PublicAddrs) -> String {
    let port = settings.binds.first().map_or(0, |bind| bind.port());
    let file = path.display();
    let mut out = match is_first {
        true => format!("Wrote {file}: one user, a fresh secret, port {port}.\n"),
        false => format!("Using {file}, which is there already: port {port}.\n"),
    };
    let low_port = PORTS.first().is_some_and(|first| *first != port);
    if is_first && low_port && PORTS.contains(&port) {
        out.push_str("(Port 443 hides best, but it is taken here or needs root.)\n");
    }
    let Some(user) = settings.users.first() else { return out };
    let secret = user.secret.to_base64();
    let mut links = |place: &str, ips: &[IpAddr]| {
        if !ips.is_empty() {
            out.push_str(&format!("\nOpen in Telegram {place} (user {:?}):\n", user.name));
        }
        for server in ips.iter().map(IpAddr::to_string) {
            let (tg, tme) = (tg_link(&server, port, &secret), tme_link(&server, port, &secret));
            out.push_str(&format!("  {tg}\n  {tme}\n"));
        }
    };
    let public = reach.public();
    links("from anywhere", &public);
    links("in your own network", &reach.lan);
    if public.is_empty() && reach.lan.is_empty() {
        links("on this machine", &[Ipv4Addr::LOCALHOST.into()]);
    }
    if public.is_empty() {
        let host = reach.lan.first().map_or("this machine".to_string(), IpAddr::to_string);
        out.push_str(&format!(
            "\nFrom outside: forward TCP port {port} of your router to {host}, write your public\n\
             address into {file} as public-ipv4 = \"IP\" above [secrets], and run\n\
             mtbox access {file}\n"
        ));
    } else {
        out.push_str(&format!("\nFrom outside: let TCP port {port} through your firewall.\n"));
    }
    if let Some(HttpBind::Tcp(api)) = &settings.api_bind {
        out.push_str(&format!("\nStatistics: curl http://{api}/stats\n"));
    }
    let site = user.secret.host().escape_ascii();
    out.push_str(&format!(
        "\nTo add a person: mtbox user add NAME --config {file}\n\
         (strangers see {site}). All links: mtbox access {file}\n\n"
    ));
    out
}

/// The file without `--config`.
const FILE: &str = "mtbox.toml";
/// A site that is up everywhere and that many people visit.
const HOST: &str = "www.google.com";
const USER: &str = "me";
/// Where web sites are, what they use beside it, and the reference's port.
const PORTS: &[u16] = &[443, 8443, 3128];
const API_PORT: u16 = 9090;
const ANY_PORT: u16 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn the_first_config_loads_without_a_word() {
        let secret = Secret::new([7; 16], b"www.google.com").unwrap();
        let (bind, api) = ("0.0.0.0:8443".parse().unwrap(), "127.0.0.1:9090".parse().unwrap());
        for api in [Some(api), None] {
            let text = config(bind, api, &secret);
            let loaded = load::load(text.as_bytes(), FILE).unwrap();
            assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
            assert_eq!(loaded.settings.users[0].name, USER);
            assert_eq!(loaded.settings.users[0].secret, secret);
            assert_eq!(loaded.settings.binds, [bind]);
            assert_eq!(loaded.settings.api_bind, api.map(HttpBind::Tcp));
        }
    }

    #[test]
    fn the_guide_always_has_a_link() {
        let secret = Secret::new([7; 16], b"www.google.com").unwrap();
        let text = config("0.0.0.0:8443".parse().unwrap(), None, &secret);
        let settings = load::load(text.as_bytes(), FILE).unwrap().settings;
        let lan = vec!["192.168.1.2".parse().unwrap()];
        for (reach, server, outside) in [
            (
                PublicAddrs::default(),
                "127.0.0.1",
                "forward TCP port 8443 of your router to this machine",
            ),
            (
                PublicAddrs { lan, ..PublicAddrs::default() },
                "192.168.1.2",
                "of your router to 192.168.1.2",
            ),
            (
                PublicAddrs {
                    ipv6: Some("2001:db8::1".parse().unwrap()),
                    ..PublicAddrs::default()
                },
                "2001%3Adb8%3A%3A1",
                "let TCP port 8443 through your firewall",
            ),
        ] {
            let text = guide(Path::new(FILE), true, &settings, &reach);
            let link =
                format!("tg://proxy?port=8443&secret={}&server={server}\n", secret.to_base64());
            assert!(text.contains(&link) && text.contains(outside), "{text}");
        }
    }

    #[test]
    fn a_taken_address_is_passed_over() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let port = taken.local_addr().unwrap().port();
        let found = free([local(port), local(ANY_PORT)].into_iter()).unwrap();
        assert!(found.port() != port && found.port() != 0);
        assert_eq!(free([local(port)].into_iter()), None);
    }
}
