//! `mtbox user …`: edits the users of a config file in place (DECISIONS D12). `config/edit.rs`
//! changes the text, `atomic_file.rs` replaces the file, `user/notify.rs` reloads the running
//! proxy.

mod notify;

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::cli::access::{self, LinkFormat};
use crate::cli::args::{Flag, ParsedArgs};
use crate::cli::failure::Failure;
use crate::cli::output::{print, report};
use crate::cli::public_addrs::{AddressFlags, PublicAddrs, port_warning};
use crate::cli::{atomic_file, config_file, generate_secret, qr};
use crate::config::edit::{self, Edit};
use crate::config::load;
use crate::config::report::Severity;
use crate::config::settings::{Settings, UserSettings};
use crate::config::uci::mapping::MADE_FROM;
use crate::io::ifaces;
use crate::util::json::Json;

pub(super) fn add(args: &ParsedArgs) -> Result<(), Failure> {
    let (path, name) = (editable_path(args)?, args.text_at(0, "NAME")?);
    let host = match args.text("host")? {
        Some(host) => host.to_owned(),
        None => default_host(&path)?,
    };
    let secret = generate_secret::generate(&host)?;
    let settings = edit_file(&path, Edit::Add(name, &secret.to_base64()))?;
    print_links(args, settings.as_ref(), name, "Added");
    notify::reload(settings.as_ref());
    Ok(())
}

pub(super) fn remove(args: &ParsedArgs) -> Result<(), Failure> {
    edit_and_confirm(args, Edit::Remove, "Removed")
}

pub(super) fn rotate(args: &ParsedArgs) -> Result<(), Failure> {
    let (path, name) = (editable_path(args)?, args.text_at(0, "NAME")?);
    let host = match args.text("host")? {
        Some(host) => host.to_owned(),
        None => host_of(&path, name)?,
    };
    let secret = generate_secret::random_secret(&host)?;
    let settings = edit_file(&path, Edit::Rotate(name, &secret.to_base64()))?;
    print_links(args, settings.as_ref(), name, "New secret for");
    notify::reload(settings.as_ref());
    Ok(())
}

pub(super) fn disable(args: &ParsedArgs) -> Result<(), Failure> {
    edit_and_confirm(args, Edit::Disable, "Disabled")
}

pub(super) fn enable(args: &ParsedArgs) -> Result<(), Failure> {
    edit_and_confirm(args, Edit::Enable, "Enabled")
}

pub(super) fn list(args: &ParsedArgs) -> Result<(), Failure> {
    let settings = config_file::load(&config_path(args)?)?.settings;
    if args.is_on("json") {
        fn user(user: &UserSettings) -> Json<'_> {
            Json::Object(vec![
                ("name", user.name.as_str().into()),
                ("host", Json::text(host_text(user))),
                ("enabled", user.enabled.into()),
            ])
        }
        print(&format!("{:#}\n", Json::List(settings.users.iter().map(user).collect())));
        return Ok(());
    }
    let width = settings.users.iter().map(|user| user.name.chars().count()).max().unwrap_or(0);
    for user in &settings.users {
        let state = if user.enabled { "" } else { "  disabled" };
        print(&format!("{:width$}  {}{state}\n", printable(&user.name), host_text(user)));
    }
    Ok(())
}

/// For edits without new links.
fn edit_and_confirm<'a>(
    args: &'a ParsedArgs,
    edit: fn(&'a str) -> Edit<'a>,
    done: &str,
) -> Result<(), Failure> {
    let (path, name) = (editable_path(args)?, args.text_at(0, "NAME")?);
    let settings = edit_file(&path, edit(name))?;
    print(&format!("{done} {}.\n", printable(name)));
    notify::reload(settings.as_ref());
    Ok(())
}

/// Edits the file. Refuses an edit that adds errors; an edit of a file that already has errors is
/// allowed, since a first config grows step by step. Returns the new settings if the file is valid.
fn edit_file(path: &Path, edit: Edit<'_>) -> Result<Option<Settings>, Failure> {
    let failed = |cause: String| Failure::error(format!("{}: {cause}", path.display()));
    let before = atomic_file::read(path).map_err(|e| failed(e.to_string()))?;
    let after = edit::apply(&before, edit).map_err(|e| failed(e.to_string()))?;
    let settings = match load_text(path, &after) {
        Ok(settings) => Some(settings),
        Err(errors) => {
            let old_errors = load_text(path, &before).err().unwrap_or_default();
            if let Some(new_error) = errors.iter().find(|error| !old_errors.contains(error)) {
                return Err(failed(new_error.clone()));
            }
            report(&format!(
                "warning: {} cannot be used yet: {}",
                path.display(),
                errors.join("; ")
            ));
            None
        }
    };
    atomic_file::replace(path, &before, &after).map_err(|e| failed(e.to_string()))?;
    Ok(settings)
}

/// The settings, or the texts of the errors without their positions, which an edit moves.
fn load_text(path: &Path, text: &str) -> Result<Settings, Vec<String>> {
    match load::load(text.as_bytes(), &path.to_string_lossy()) {
        Ok(loaded) => Ok(loaded.settings),
        Err(diagnostics) => {
            let errors = diagnostics.into_iter().filter(|one| one.severity == Severity::Error);
            Err(errors.map(|one| one.text).collect())
        }
    }
}

/// Prints the links of a user with a new secret. On a terminal or with `--qr`, draws the first one.
fn print_links(args: &ParsedArgs, settings: Option<&Settings>, name: &str, done: &str) {
    let Some(settings) = settings else { return };
    let Some(user) = settings.users.iter().find(|user| user.name == name) else { return };
    let addrs = PublicAddrs::of(settings, AddressFlags::default(), &ifaces::addresses());
    print(&format!("{done} {}.\n", printable(name)));
    let links = access::links(user, &addrs, LinkFormat { hex: false });
    for link in &links {
        print(&format!("{link}\n"));
    }
    let draws = args.is_on("qr") || std::io::stdout().is_terminal() && !args.is_on("no-qr");
    match links.first().filter(|_| draws).map(|link| qr::draw(link)) {
        Some(Ok(code)) => print(&code),
        Some(Err(fault)) if args.is_on("qr") => report(fault),
        _ => {}
    }
    if addrs.public_servers().is_empty() {
        report(
            "no public address is known, so the link works in the local network only; set \
             public-host or public-ipv4 in the config, or see mtbox access --help",
        );
    }
    if let Some(warning) = port_warning(settings, &addrs) {
        report(&warning);
    }
}

/// The config file, unless it is generated from another file: then the edit would be overwritten.
fn editable_path(args: &ParsedArgs) -> Result<PathBuf, Failure> {
    let path = config_path(args)?;
    let text = atomic_file::read(&path).unwrap_or_default();
    let header = text.lines().next().and_then(|line| line.strip_prefix(MADE_FROM));
    match header.and_then(|header| header.split_once(" by ")) {
        None => Ok(path),
        Some((source, _)) => Err(Failure::error(format!(
            "{}: generated from {source}, so change that file: uci set mtbox.NAME=user, then uci \
             commit",
            path.display()
        ))),
    }
}

/// The value of `--config`, or the first default path that exists.
fn config_path(args: &ParsedArgs) -> Result<PathBuf, Failure> {
    if let Some(path) = args.raw("config") {
        return Ok(config_file::expand_home(path));
    }
    let defaults = DEFAULT_PATHS.iter().map(|path| config_file::expand_home(OsStr::new(path)));
    defaults.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let paths = DEFAULT_PATHS.join(" and no ");
        Failure::Usage(format!("no {paths}; name the file with --config PATH"))
    })
}

/// The host of a new user: that of the first user.
fn default_host(path: &Path) -> Result<String, Failure> {
    let text =
        atomic_file::read(path).map_err(|e| Failure::error(format!("{}: {e}", path.display())))?;
    let settings = load_text(path, &text).ok();
    match settings.as_ref().and_then(|settings| settings.users.first()) {
        Some(user) => Ok(host_text(user)),
        None => Err(Failure::Usage(
            "the config has no user to copy the host from; name a web site with --host".to_owned(),
        )),
    }
}

fn host_of(path: &Path, name: &str) -> Result<String, Failure> {
    let settings = config_file::load(path)?.settings;
    let user = settings.users.iter().find(|user| user.name == name);
    user.map(host_text).ok_or_else(|| Failure::error(format!("no user is called {name:?}")))
}

fn host_text(user: &UserSettings) -> String {
    String::from_utf8_lossy(user.secret.host()).into_owned()
}

/// A name without control characters, which could change the terminal.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Without `--config`, the first of these files that exists.
pub const DEFAULT_PATHS: &[&str] = &["mtbox.toml", "/etc/mtbox/mtbox.toml"];
pub(super) const CONFIG: Flag = Flag::with_value(
    None,
    "config",
    "PATH",
    "config file, default: mtbox.toml, or else /etc/mtbox/mtbox.toml",
);
/// The flags of commands that print a new link.
pub(super) const LINK_FLAGS: &[Flag] = &[
    Flag::with_value(
        None,
        "host",
        "NAME",
        "web site that unauthenticated clients see, default: the existing one",
    ),
    Flag::switch(None, "qr", "print the link as a QR code, even if stdout is not a terminal"),
    Flag::switch(None, "no-qr", "do not print a QR code"),
    CONFIG,
];
pub(super) const NOTES: &str = "Changes only the lines of the user. Reloads the running proxy if \
the config has a pid-file;\notherwise prints the command that reloads it.";
