//! `mtbox quickstart`: writes a config with one user, prints the links and runs the proxy. Later
//! starts use the same file, so the links stay valid.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::cli::args::ParsedArgs;
use crate::cli::failure::Failure;
use crate::cli::output::{print, report};
use crate::cli::public_addrs::{AddressFlags, LinkServer, PublicAddrs, port_warning};
use crate::cli::{config_file, generate_secret, log_flags, run};
use crate::config::addresses;
use crate::config::settings::{HttpBind, Settings};
use crate::io::ifaces;
use crate::proto::secret::{Secret, tg_link, tme_link};

pub(super) fn quickstart(args: &ParsedArgs) -> Result<(), Failure> {
    let path = config_file::expand_home(args.raw("config").unwrap_or(FILE.as_ref()));
    let bind = args.parsed("bind", addresses::socket_addr)?;
    let host = args.text("host")?;
    let log = log_flags::read(args)?;
    let is_first = match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            write_first_config(&path, bind, host.unwrap_or(HOST))?;
            true
        }
        _ => false,
    };
    if !is_first && (bind.is_some() || host.is_some()) {
        report(&format!("{path:?} exists, so --bind and --host have no effect; edit the file"));
    }
    let loaded = config_file::load(&path)?;
    let addrs = PublicAddrs::of(&loaded.settings, AddressFlags::default(), &ifaces::addresses());
    print(&guide(&path, is_first, &loaded.settings, &addrs));
    run::serve(loaded, path, log, None)
}

fn write_first_config(path: &Path, bind: Option<SocketAddr>, host: &str) -> Result<(), Failure> {
    let secret = generate_secret::generate(host)?;
    let any = |port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    let bind = match bind {
        Some(bind) => bind,
        None => first_free(PORTS.iter().map(|port| any(*port))).ok_or_else(|| {
            let text =
                format!("none of the ports {PORTS:?} is free; choose one with --bind IP:PORT");
            Failure::error(text)
        })?,
    };
    let local = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let api = first_free([API_PORT, ANY_PORT].into_iter().map(local));
    write_new(path, &config_text(bind, api, &secret))
        .map_err(|e| Failure::error(format!("cannot write {path:?}: {e}")))
}

/// The first address that this process can listen on. Port 0 becomes a free port.
fn first_free(candidates: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    candidates.filter_map(|addr| TcpListener::bind(addr).ok()?.local_addr().ok()).next()
}

/// Creates a file that only its owner can read. Removes it again if the write fails.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// `api` = `None`: no port is free, so the key is commented out.
fn config_text(bind: SocketAddr, api: Option<SocketAddr>, secret: &Secret) -> String {
    let api = match api {
        Some(api) => format!(
            "# Statistics, for this machine only: curl http://{api}/stats\n\
             api-bind-to = \"{api}\"\n"
        ),
        None => "#api-bind-to = \"127.0.0.1:9090\"\n".to_string(),
    };
    let secret = secret.to_base64();
    format!(
        "# Written by `mtbox quickstart`. `mtbox check` finds errors in this file;\n\
         # `mtbox example-config` prints every key.\n\
         \n\
         # Where Telegram apps connect.\n\
         bind-to = \"{bind}\"\n\
         \n\
         {api}\
         \n\
         # The public address of this machine, for the links that `mtbox access` prints.\n\
         #public-ipv4 = \"192.0.2.1\"\n\
         \n\
         # One line per user: a name and a secret from `mtbox generate-secret HOST`.\n\
         [secrets]\n\
         {USER} = \"{secret}\"\n"
    )
}

/// The next steps for the operator.
fn guide(path: &Path, is_first: bool, settings: &Settings, addrs: &PublicAddrs) -> String {
    let port = settings.binds.first().map_or(0, |bind| bind.port());
    let file = path.display();
    let mut out = match is_first {
        true => format!("Wrote {file}: one user, a new secret, port {port}.\n"),
        false => format!("Using the existing {file}: port {port}.\n"),
    };
    if is_first && port != HTTPS_PORT && PORTS.contains(&port) {
        out.push_str("(Port 443 is the least conspicuous, but it is in use or needs root.)\n");
    }
    let Some(user) = settings.users.first() else { return out };
    let secret = user.secret.to_base64();
    let mut links = |from: &str, servers: &[LinkServer]| {
        if !servers.is_empty() {
            out.push_str(&format!("\nOpen in Telegram {from} (user {:?}):\n", user.name));
        }
        for LinkServer { host, port, .. } in servers {
            let (tg, tme) = (tg_link(host, *port, &secret), tme_link(host, *port, &secret));
            out.push_str(&format!("  {tg}\n  {tme}\n"));
        }
    };
    let public = addrs.public_servers();
    links("anywhere", &public);
    links("in the local network", &addrs.lan_servers());
    if public.is_empty() && addrs.lan.is_empty() {
        let host = Ipv4Addr::LOCALHOST.to_string();
        links("on this machine", &[LinkServer { host, port, is_name: false }]);
    }
    if settings.binds.iter().all(|bind| bind.ip().is_loopback()) {
        out.push_str(&format!(
            "\nOnly this machine can reach bind-to in {file}. For access from elsewhere, set it\n\
             to 0.0.0.0:{port}, or let a relay lead to it and set public-host and public-port.\n"
        ));
    } else if public.is_empty() {
        let host = addrs.lan.first().map_or("this machine".to_string(), IpAddr::to_string);
        out.push_str(&format!(
            "\nFor access from the internet: forward TCP port {port} of your router to {host},\n\
             set public-ipv4 = \"IP\" or public-host = \"NAME\" in {file}, above [secrets],\n\
             and run mtbox access {file}\n"
        ));
    } else {
        out.push_str(&format!(
            "\nFor access from the internet: open TCP port {} in your firewall.\n",
            addrs.port
        ));
    }
    if let Some(warning) = port_warning(settings, addrs) {
        out.push_str(&format!("\nNote: {warning}.\n"));
    }
    if let Some(HttpBind::Tcp(api)) = &settings.api_bind {
        out.push_str(&format!("\nStatistics: curl http://{api}/stats\n"));
    }
    let host = user.secret.host().escape_ascii();
    out.push_str(&format!(
        "\nUnauthenticated clients see {host}.\n\
         To add a user: mtbox user add NAME --config {file}\n\
         All links: mtbox access {file}\n\n"
    ));
    out
}

/// The default of `--config`.
const FILE: &str = "mtbox.toml";
/// The default of `--host`: available everywhere, with much traffic.
const HOST: &str = "www.google.com";
const USER: &str = "me";
const HTTPS_PORT: u16 = 443;
/// HTTPS, its usual alternative, and the port of mtg-multi.
const PORTS: &[u16] = &[HTTPS_PORT, 8443, 3128];
const API_PORT: u16 = 9090;
const ANY_PORT: u16 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn the_first_config_loads_without_warnings() {
        let secret = Secret::new([7; 16], b"www.google.com").unwrap();
        let (bind, api) = ("0.0.0.0:8443".parse().unwrap(), "127.0.0.1:9090".parse().unwrap());
        for api in [Some(api), None] {
            let text = config_text(bind, api, &secret);
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
        let text = config_text("0.0.0.0:8443".parse().unwrap(), None, &secret);
        let settings = load::load(text.as_bytes(), FILE).unwrap().settings;
        let lan = vec!["192.168.1.2".parse().unwrap()];
        for (addrs, server, access) in [
            (
                PublicAddrs::default(),
                "127.0.0.1",
                "forward TCP port 8443 of your router to this machine",
            ),
            (
                PublicAddrs { lan, lan_port: 8443, ..PublicAddrs::default() },
                "192.168.1.2",
                "of your router to 192.168.1.2",
            ),
            (
                PublicAddrs {
                    ipv6: Some("2001:db8::1".parse().unwrap()),
                    port: 8443,
                    ..PublicAddrs::default()
                },
                "2001%3Adb8%3A%3A1",
                "open TCP port 8443 in your firewall",
            ),
        ] {
            let text = guide(Path::new(FILE), true, &settings, &addrs);
            let link =
                format!("tg://proxy?port=8443&secret={}&server={server}\n", secret.to_base64());
            assert!(text.contains(&link) && text.contains(access), "{text}");
        }
    }

    #[test]
    fn an_address_in_use_is_skipped() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let port = taken.local_addr().unwrap().port();
        let found = first_free([local(port), local(ANY_PORT)].into_iter()).unwrap();
        assert!(found.port() != port && found.port() != 0);
        assert_eq!(first_free([local(port)].into_iter()), None);
    }
}
