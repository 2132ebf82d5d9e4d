//! `mtbox access CONFIG`: the links for every user, in the JSON of the reference (spec: cli 3) with
//! fields of ours behind. Where nothing on this machine tells our address, `public_ip.rs` asks.

use std::net::IpAddr;

use crate::cli::args::{Flag, ParsedArgs};
use crate::cli::failure::Failure;
use crate::cli::json::Json;
use crate::cli::output::{print, report};
use crate::cli::public_addrs::{AddressFlags, PublicAddrs};
use crate::cli::{config_file, public_ip, qr};
use crate::config::addresses;
use crate::config::settings::{Settings, UserSettings};
use crate::config::suggest::nearest;
use crate::io::ifaces;
use crate::proto::secret::{tg_link, tme_link};

/// Prints the JSON.
pub fn access(given: &ParsedArgs) -> Result<(), Failure> {
    let stated = AddressFlags {
        ipv4: given.parsed("ipv4", addresses::ip)?,
        ipv6: given.parsed("ipv6", addresses::ip)?,
    };
    let port = given.parsed("port", |text| text.parse::<u16>().map_err(|_| NOT_A_PORT))?;
    let path = config_file::path(given)?;
    let settings = config_file::load(&path)?.settings;
    let users = chosen(&settings, given.text("user")?)?;
    let reach = PublicAddrs::of(&settings, stated, &ifaces::addresses());
    let (reach, outcome) = public_ip::completed(reach, stated, &settings);
    if let Err(why) = outcome {
        report(&why);
    }
    if reach.public().is_empty() {
        report(
            "no public address is known; state it with --ipv4 IP, or as public-ipv4 in the file",
        );
    }
    let bound = settings.binds.first().map_or(0, |bind| bind.port());
    let port = port.filter(|port| *port != 0).unwrap_or(bound);
    let hex = given.is_on("hex");
    if given.is_on("qr") {
        return pictures(&users, &reach, port, hex);
    }
    if given.is_on("plain") {
        for user in &users {
            let name = if users.len() > 1 { format!("{}\t", user.name) } else { String::new() };
            for link in plain_links(user, &reach, port, hex) {
                print(&format!("{name}{link}\n"));
            }
        }
        return Ok(());
    }
    print(&document(&users, &reach, port, hex).print());
    Ok(())
}

/// The links of one user: from everywhere first, then those for the own network.
pub fn plain_links(user: &UserSettings, reach: &PublicAddrs, port: u16, hex: bool) -> Vec<String> {
    let secret = if hex { user.secret.to_hex() } else { user.secret.to_base64() };
    let ips = reach.public().into_iter().chain(reach.lan.iter().copied());
    ips.map(|ip| tg_link(&ip.to_string(), port, &secret)).collect()
}

/// The first link of each user as a picture, with the link below it.
fn pictures(
    users: &[&UserSettings],
    reach: &PublicAddrs,
    port: u16,
    hex: bool,
) -> Result<(), Failure> {
    for user in users {
        let links = plain_links(user, reach, port, hex);
        let Some(link) = links.first() else {
            return Err(Failure::error("no address is known to draw; state it with --ipv4 IP"));
        };
        let picture = qr::draw(link).map_err(Failure::error)?;
        print(&format!("{}\n{picture}{link}\n", user.name));
    }
    Ok(())
}

/// All users, or the one that is called so.
fn chosen<'a>(
    settings: &'a Settings,
    name: Option<&str>,
) -> Result<Vec<&'a UserSettings>, Failure> {
    let Some(name) = name else {
        // Whose link does not work gets none, unless by name.
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

fn document(users: &[&UserSettings], reach: &PublicAddrs, port: u16, hex: bool) -> Json {
    let mut fields = Vec::new();
    let mut put = |name: &str, value: Json| fields.push((name.to_string(), value));
    if let Some(first) = users.first() {
        for (family, ip) in [("ipv4", reach.ipv4), ("ipv6", reach.ipv6)] {
            if let Some(ip) = ip {
                put(family, family_of(first, ip, port, hex));
            }
        }
        put("secret", texts(first));
    }
    if users.len() > 1 {
        put("secrets", by_name(users, texts));
    }
    let links = |ips: &[IpAddr]| {
        by_name(users, |user| {
            Json::List(ips.iter().map(|ip| Json::object(link(user, *ip, port, hex))).collect())
        })
    };
    put("links", links(&reach.public()));
    if !reach.lan.is_empty() {
        put("lan", links(&reach.lan));
    }
    Json::Object(fields)
}

fn by_name(users: &[&UserSettings], value: impl Fn(&UserSettings) -> Json) -> Json {
    Json::Object(users.iter().map(|user| (user.name.clone(), value(user))).collect())
}

fn texts(user: &UserSettings) -> Json {
    let secret = &user.secret;
    Json::object([("hex", Json::text(secret.to_hex())), ("base64", Json::text(secret.to_base64()))])
}

fn link(user: &UserSettings, ip: IpAddr, port: u16, hex: bool) -> [(&'static str, Json); 4] {
    let secret = if hex { user.secret.to_hex() } else { user.secret.to_base64() };
    let server = ip.to_string();
    [
        ("ip", Json::text(&server)),
        ("port", Json::Number(port.into())),
        ("tg_url", Json::text(tg_link(&server, port, &secret))),
        ("tme_url", Json::text(tme_link(&server, port, &secret))),
    ]
}

/// The object of the reference. Its `*_qrcode` fields held the address of a web service that draws
/// a link; they hold what to draw, since the service would learn the secret.
fn family_of(user: &UserSettings, ip: IpAddr, port: u16, hex: bool) -> Json {
    let [ip, port, tg_url, tme_url] = link(user, ip, port, hex);
    let drawn = |name| match &tg_url.1 {
        Json::Text(link) => (name, Json::text(link)),
        _ => (name, Json::text("")),
    };
    let (tg_qrcode, tme_qrcode) = (drawn("tg_qrcode"), drawn("tme_qrcode"));
    Json::object([ip, port, tg_url, tg_qrcode, tme_url, tme_qrcode])
}

/// The flags of the reference, and `--user`.
pub const FLAGS: &[Flag] = &[
    Flag::with_value(Some('i'), "ipv4", "IP", "public IPv4 address, if the file states none"),
    Flag::with_value(Some('I'), "ipv6", "IP", "public IPv6 address, if the file states none"),
    Flag::with_value(Some('p'), "port", "PORT", "port for the links, if not the first listener's"),
    Flag::switch(Some('x'), "hex", "hexadecimal secrets in the links"),
    Flag::with_value(None, "user", "NAME", "this user only"),
    Flag::switch(None, "plain", "one link per line, with the name before it if there are several"),
    Flag::switch(None, "qr", "draw the first link of each user as a QR code"),
];

const NOT_A_PORT: &str = "not a port; write a number up to 65535";
