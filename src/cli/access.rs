//! `mtbox access CONFIG`: prints the links of the users as JSON with the fields of mtg-multi
//! (COMPATIBILITY 4.3), followed by fields of our own. If the config and the interfaces give no
//! public address, `public_ip.rs` queries a web service for it.

use std::net::IpAddr;
use std::rc::Rc;

use crate::cli::args::{Flag, ParsedArgs};
use crate::cli::failure::Failure;
use crate::cli::output::{print, report};
use crate::cli::public_addrs::{AddressFlags, LinkServer, PublicAddrs, port_warning};
use crate::cli::{config_file, public_ip, qr};
use crate::config::addresses;
use crate::config::settings::{Settings, UserSettings};
use crate::io::ifaces;
use crate::proto::secret::{tg_link, tme_link};
use crate::util::json::Json;
use crate::util::spelling::nearest;

/// What all links of one output have in common.
#[derive(Clone, Copy)]
pub(super) struct LinkFormat {
    /// Hexadecimal secrets instead of base64.
    pub(super) hex: bool,
}

impl LinkFormat {
    fn secret(self, user: &UserSettings) -> String {
        if self.hex { user.secret.to_hex() } else { user.secret.to_base64() }
    }
}

pub(super) fn access(args: &ParsedArgs) -> Result<(), Failure> {
    let port = args.parsed("port", |text| text.parse::<u16>().map_err(|_| NOT_A_PORT))?;
    let flags = AddressFlags {
        ipv4: args.parsed("ipv4", addresses::ip)?,
        ipv6: args.parsed("ipv6", addresses::ip)?,
        // As in mtg-multi, `--port 0` means the default.
        port: port.filter(|port| *port != 0),
    };
    let settings = Rc::new(config_file::load(&config_file::path(args)?)?.settings);
    let users = selected_users(&settings, args.text("user")?)?;

    let mut addrs = PublicAddrs::of(&settings, flags, &ifaces::addresses());
    if let Err(fault) = public_ip::complete(&mut addrs, flags, &settings) {
        report(&fault.to_string());
    }
    if addrs.public_servers().is_empty() {
        report(
            "no public address is known; state it with --ipv4 IP, or as public-host or public-ipv4 \
             in the config",
        );
    }
    if let Some(warning) = port_warning(&settings, &addrs).filter(|_| flags.port.is_none()) {
        report(&warning);
    }

    let format = LinkFormat { hex: args.is_on("hex") };
    if args.is_on("qr") {
        return print_qr_codes(&users, &addrs, format);
    }
    if args.is_on("plain") {
        print_plain(&users, &addrs, format);
    } else {
        print(&format!("{:#}\n", document(&users, &addrs, format)));
    }
    Ok(())
}

/// The `tg://` links of a user: those for public addresses, then those for the local network.
pub(super) fn links(user: &UserSettings, addrs: &PublicAddrs, format: LinkFormat) -> Vec<String> {
    let secret = format.secret(user);
    let servers = addrs.public_servers().into_iter().chain(addrs.lan_servers());
    servers.map(|server| tg_link(&server.host, server.port, &secret)).collect()
}

fn print_plain(users: &[&UserSettings], addrs: &PublicAddrs, format: LinkFormat) {
    for user in users {
        let name = if users.len() > 1 { format!("{}\t", user.name) } else { String::new() };
        for link in links(user, addrs, format) {
            print(&format!("{name}{link}\n"));
        }
    }
}

/// Prints the first link of each user as a QR code, with the link as text below it.
fn print_qr_codes(
    users: &[&UserSettings],
    addrs: &PublicAddrs,
    format: LinkFormat,
) -> Result<(), Failure> {
    for user in users {
        let links = links(user, addrs, format);
        let Some(link) = links.first() else {
            return Err(Failure::error("no address is known to draw; state it with --ipv4 IP"));
        };
        let code = qr::draw(link).map_err(Failure::error)?;
        print(&format!("{}\n{code}{link}\n", user.name));
    }
    Ok(())
}

/// The user of this name; without a name, all enabled users. A disabled user, whose link does not
/// work, must be named.
fn selected_users<'a>(
    settings: &'a Settings,
    name: Option<&str>,
) -> Result<Vec<&'a UserSettings>, Failure> {
    let Some(name) = name else {
        return Ok(settings.users.iter().filter(|user| user.enabled).collect());
    };
    if let Some(user) = settings.users.iter().find(|user| user.name == name) {
        return Ok(vec![user]);
    }
    let names = settings.users.iter().map(|user| user.name.as_str());
    let guess =
        nearest(name, names).map_or(String::new(), |near| format!("; did you mean {near:?}?"));
    Err(Failure::error(format!("no user is called {name:?}{guess}")))
}

fn document<'a>(users: &[&'a UserSettings], addrs: &PublicAddrs, format: LinkFormat) -> Json<'a> {
    let mut fields = Vec::new();
    // mtg-multi prints these fields for one user only. They hold the first user by name.
    if let Some(first) = users.first() {
        for (family, ip) in [("ipv4", addrs.ipv4), ("ipv6", addrs.ipv6)] {
            if let Some(ip) = ip {
                fields.push((family, mtg_links(first, ip, addrs.port, format)));
            }
        }
        fields.push(("secret", secret_texts(first)));
    }
    if users.len() > 1 {
        fields.push(("secrets", by_name(users, &secret_texts)));
    }
    let links = |servers: &[LinkServer]| {
        by_name(users, &|user| {
            Json::List(servers.iter().map(|server| link_fields(user, server, format)).collect())
        })
    };
    fields.push(("links", links(&addrs.public_servers())));
    if !addrs.lan.is_empty() {
        fields.push(("lan", links(&addrs.lan_servers())));
    }
    Json::Object(fields)
}

fn by_name<'a>(
    users: &[&'a UserSettings],
    value: &dyn Fn(&'a UserSettings) -> Json<'a>,
) -> Json<'a> {
    Json::Object(users.iter().map(|user| (user.name.as_str(), value(user))).collect())
}

fn secret_texts(user: &UserSettings) -> Json<'_> {
    let secret = &user.secret;
    Json::Object(vec![("hex", secret.to_hex().into()), ("base64", secret.to_base64().into())])
}

fn link_fields<'a>(user: &UserSettings, server: &LinkServer, format: LinkFormat) -> Json<'a> {
    let [tg, tme] = urls(user, &server.host, server.port, format);
    let (host, port) = (Json::text(&server.host), Json::Number(server.port.into()));
    let key = if server.is_name { "host" } else { "ip" };
    Json::Object(vec![(key, host), ("port", port), ("tg_url", tg.into()), ("tme_url", tme.into())])
}

/// The object of mtg-multi for one address family. There, the `*_qrcode` fields hold the URL of a
/// web service that draws the link. Here they hold the link to draw: a web service would learn the
/// secret.
fn mtg_links<'a>(user: &UserSettings, ip: IpAddr, port: u16, format: LinkFormat) -> Json<'a> {
    let [tg, tme] = urls(user, &ip.to_string(), port, format);
    Json::Object(vec![
        ("ip", Json::text(ip)),
        ("port", Json::Number(port.into())),
        ("tg_url", Json::text(&tg)),
        ("tg_qrcode", Json::text(&tg)),
        ("tme_url", tme.into()),
        ("tme_qrcode", tg.into()),
    ])
}

/// The `tg://` and the `https://t.me` link of a user.
fn urls(user: &UserSettings, server: &str, port: u16, format: LinkFormat) -> [String; 2] {
    let secret = format.secret(user);
    [tg_link(server, port, &secret), tme_link(server, port, &secret)]
}

/// The flags of mtg-multi, followed by our own.
pub(super) const FLAGS: &[Flag] = &[
    Flag::with_value(Some('i'), "ipv4", "IP", "public IPv4 address, overrides the config"),
    Flag::with_value(Some('I'), "ipv6", "IP", "public IPv6 address, overrides the config"),
    Flag::with_value(
        Some('p'),
        "port",
        "PORT",
        "port in the links, default: public-port, or the first listener's",
    ),
    Flag::switch(Some('x'), "hex", "hexadecimal secrets in the links"),
    Flag::with_value(None, "user", "NAME", "only this user"),
    Flag::switch(None, "plain", "one link per line, after the name if there are several users"),
    Flag::switch(None, "qr", "print the first link of each user as a QR code"),
];

const NOT_A_PORT: &str = "not a port; write a number up to 65535";
