//! `mtbox user …`: changes to the people of a config file, in place (D12). `cli/file.rs` replaces
//! the file, `tell.rs` tells the running proxy; what changes in the text decides `config/edit.rs`.

mod notify;

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::{Failure, access, complain, file, generate_secret, qr, run, say};
use crate::cli::args::{Flag, ParsedArgs};
use crate::cli::json::Json;
use crate::cli::public_addrs::{AddressFlags, PublicAddrs};
use crate::config::edit::{self, Edit};
use crate::config::load;
use crate::config::report::Severity;
use crate::config::settings::{Settings, UserSettings};
use crate::config::uci::mapping::MADE_FROM;
use crate::io::ifaces;

/// `mtbox user add NAME`.
pub fn add(given: &ParsedArgs) -> Result<(), Failure> {
    let (path, name) = (to_change(given)?, given.text_at(0, "NAME")?);
    let host = match given.text("host")? {
        Some(host) => host.to_owned(),
        None => usual_host(&path)?,
    };
    let secret = generate_secret::fresh(&host)?;
    if let Some(doubt) = generate_secret::doubt(&host) {
        complain(&format!("warning: {doubt}"));
    }
    let settings = change(&path, Edit::Add(name, &secret.to_base64()))?;
    say_links(given, settings.as_ref(), name, "Added");
    notify::tell(settings.as_ref());
    Ok(())
}

/// `mtbox user remove NAME`.
pub fn remove(given: &ParsedArgs) -> Result<(), Failure> {
    plainly(given, Edit::Remove, "Removed")
}

/// `mtbox user rotate NAME`.
pub fn rotate(given: &ParsedArgs) -> Result<(), Failure> {
    let (path, name) = (to_change(given)?, given.text_at(0, "NAME")?);
    let host = match given.text("host")? {
        Some(host) => host.to_owned(),
        None => host_of(&path, name)?,
    };
    let secret = generate_secret::fresh(&host)?;
    let settings = change(&path, Edit::Rotate(name, &secret.to_base64()))?;
    say_links(given, settings.as_ref(), name, "Another secret for");
    notify::tell(settings.as_ref());
    Ok(())
}

/// `mtbox user disable NAME`.
pub fn disable(given: &ParsedArgs) -> Result<(), Failure> {
    plainly(given, Edit::Disable, "Disabled")
}

/// `mtbox user enable NAME`.
pub fn enable(given: &ParsedArgs) -> Result<(), Failure> {
    plainly(given, Edit::Enable, "Enabled")
}

/// `mtbox user list`.
pub fn list(given: &ParsedArgs) -> Result<(), Failure> {
    let settings = run::load(&config_path(given)?)?.settings;
    let host = |user: &UserSettings| String::from_utf8_lossy(user.secret.host()).into_owned();
    if given.is_on("json") {
        let user = |user: &UserSettings| {
            Json::object([
                ("name", Json::text(&user.name)),
                ("host", Json::text(host(user))),
                ("enabled", Json::Bool(user.enabled)),
            ])
        };
        say(&Json::List(settings.users.iter().map(user).collect()).print());
        return Ok(());
    }
    let width = settings.users.iter().map(|user| user.name.chars().count()).max().unwrap_or(0);
    for user in &settings.users {
        let off = if user.enabled { "" } else { "  disabled" };
        say(&format!("{:width$}  {}{off}\n", shown(&user.name), host(user)));
    }
    Ok(())
}

/// A change after which there is nothing more to show.
fn plainly<'a>(
    given: &'a ParsedArgs,
    edit: impl FnOnce(&'a str) -> Edit<'a>,
    done: &str,
) -> Result<(), Failure> {
    let (path, name) = (to_change(given)?, given.text_at(0, "NAME")?);
    let settings = change(&path, edit(name))?;
    say(&format!("{done} {}.\n", shown(name)));
    notify::tell(settings.as_ref());
    Ok(())
}

/// Changes the file, if it is no worse than before. Gives back what it says now, if it can be
/// used.
fn change(path: &Path, edit: Edit<'_>) -> Result<Option<Settings>, Failure> {
    let trouble = |why: String| Failure::trouble(format!("{}: {why}", path.display()));
    let before = file::read(path).map_err(trouble)?;
    let after = edit::apply(&before, edit).map_err(|why| trouble(why.to_string()))?;
    let faults = |text: &str| match load::load(text.as_bytes(), &path.to_string_lossy()) {
        Ok(loaded) => Ok(loaded.settings),
        Err(complaints) => {
            let errors = complaints.into_iter().filter(|one| one.severity == Severity::Error);
            Err(errors.map(|one| one.text).collect::<Vec<String>>())
        }
    };
    let settings = match faults(&after) {
        Ok(settings) => Some(settings),
        Err(new) => {
            let old = faults(&before).err().unwrap_or_default();
            if let Some(worse) = new.iter().find(|fault| !old.contains(fault)) {
                return Err(trouble(worse.clone()));
            }
            complain(&format!(
                "warning: {} cannot be used yet: {}",
                path.display(),
                new.join("; ")
            ));
            None
        }
    };
    file::replace(path, &before, &after).map_err(trouble)?;
    Ok(settings)
}

/// The links of a user who has a new secret, and the first one as a picture on a terminal.
fn say_links(given: &ParsedArgs, settings: Option<&Settings>, name: &str, done: &str) {
    let Some(settings) = settings else { return };
    let Some(user) = settings.users.iter().find(|user| user.name == name) else { return };
    let reach = PublicAddrs::of(settings, AddressFlags::default(), &ifaces::addresses());
    let port = settings.binds.first().map_or(0, |bind| bind.port());
    say(&format!("{done} {}.\n", shown(name)));
    let links = access::plain_links(user, &reach, port, false);
    for link in &links {
        say(&format!("{link}\n"));
    }
    let wants = given.is_on("qr") || std::io::stdout().is_terminal() && !given.is_on("no-qr");
    match links.first().filter(|_| wants).map(|link| qr::draw(link)) {
        Some(Ok(picture)) => say(&picture),
        Some(Err(why)) if given.is_on("qr") => complain(why),
        _ => {}
    }
    if reach.public().is_empty() {
        complain(
            "no public address is known, so this link works at home only; set public-ipv4 in \
             the file, or see mtbox access --help",
        );
    }
}

/// The file to change, unless it is made from another one: then a change would soon be lost.
fn to_change(given: &ParsedArgs) -> Result<PathBuf, Failure> {
    let path = config_path(given)?;
    let text = file::read(&path).unwrap_or_default();
    let first = text.lines().next().and_then(|line| line.strip_prefix(MADE_FROM));
    match first.and_then(|first| first.split_once(" by ")) {
        None => Ok(path),
        Some((source, _)) => Err(Failure::trouble(format!(
            "{}: made from {source}, so change that one: uci set mtbox.NAME=user, then uci commit",
            path.display()
        ))),
    }
}

/// The file that is meant.
fn config_path(given: &ParsedArgs) -> Result<PathBuf, Failure> {
    if let Some(path) = given.raw("config") {
        return Ok(run::expanded(path));
    }
    let usual = FILES.iter().map(|path| run::expanded(OsStr::new(path)));
    usual.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Failure::Usage(format!("no {}; name the file with --config PATH", FILES.join(" and no ")))
    })
}

/// The host that a new user gets: the first user's.
fn usual_host(path: &Path) -> Result<String, Failure> {
    let text =
        file::read(path).map_err(|why| Failure::trouble(format!("{}: {why}", path.display())))?;
    let loaded = load::load(text.as_bytes(), &path.to_string_lossy());
    let first = loaded.ok().and_then(|loaded| loaded.settings.users.into_iter().next());
    match first {
        Some(user) => Ok(String::from_utf8_lossy(user.secret.host()).into_owned()),
        None => Err(Failure::Usage("nobody is there yet, so name the site with --host".to_owned())),
    }
}

/// The host that a user has.
fn host_of(path: &Path, name: &str) -> Result<String, Failure> {
    let settings = run::load(path)?.settings;
    let user = settings.users.iter().find(|user| user.name == name);
    let host = user.map(|user| String::from_utf8_lossy(user.secret.host()).into_owned());
    host.ok_or_else(|| Failure::trouble(format!("no user is called {name:?}")))
}

/// A name on a terminal.
fn shown(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Which config is meant where none is named: the first of these that is there.
pub const FILES: &[&str] = &["mtbox.toml", "/etc/mtbox/mtbox.toml"];
/// Which file.
pub const CONFIG: Flag = Flag::with_value(
    None,
    "config",
    "PATH",
    "the file, mtbox.toml or /etc/mtbox/mtbox.toml if not given",
);
/// For those who get a secret.
pub const ADD: &[Flag] = &[
    Flag::with_value(None, "host", "NAME", "site that strangers see, if not the usual one"),
    Flag::switch(None, "qr", "draw the link as a QR code, also where nobody looks"),
    Flag::switch(None, "no-qr", "do not draw it"),
    CONFIG,
];
/// What is true of all changes.
pub const NOTES: &str =
    "Changes only the lines concerned, and tells the running proxy (pid-file) or says how to.";
