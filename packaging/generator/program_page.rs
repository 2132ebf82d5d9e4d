//! The page mtbox(1): commands and flags from the table, and signals, environment and files.

use mtbox::cli::args::{Command, Flag};
use mtbox::cli::failure::USAGE;
use mtbox::cli::help::EVERYWHERE;

use super::calls;
use super::roff::{Page, bold, italic};

/// The text of the page.
pub fn render() -> String {
    let mut page = Page::new("mtbox", 1);
    page.section("NAME");
    page.line(&format!("mtbox \\- {}", env!("CARGO_PKG_DESCRIPTION")));
    page.section("SYNOPSIS");
    let lines: Vec<String> = calls::commands().map(call).collect();
    page.line(&lines.join("\n.br\n"));
    page.section("DESCRIPTION");
    DESCRIPTION.iter().for_each(|text| page.paragraph(text));
    page.section("COMMANDS");
    calls::commands().for_each(|command| describe(&mut page, command));
    page.section("FLAGS OF EVERY COMMAND");
    EVERYWHERE.iter().for_each(|flag| page.item(&shape(flag), flag.doc));
    page.section("SIGNALS");
    SIGNALS.iter().for_each(|(name, text)| page.item(&bold(name), text));
    page.section("ENVIRONMENT");
    ENVIRONMENT.iter().for_each(|(name, text)| page.item(&bold(name), text));
    page.section("FILES");
    FILES.iter().for_each(|(name, text)| page.item(&italic(name), text));
    page.section("EXIT STATUS");
    page.item("0", "Success.");
    page.item("1", "Failure. A line on standard error gives the reason.");
    page.item(
        &USAGE.to_string(),
        "Wrong arguments. `check` and `uci` use 2 instead. For the 2 of `doctor`, see above.",
    );
    page.section("SEE ALSO");
    page.line(".BR mtbox.toml (5),");
    page.line(".BR systemctl (1)");
    page.finish()
}

fn describe(page: &mut Page, command: &'static Command) {
    page.subsection(&format!("mtbox {}", command.name));
    page.line(&call(command));
    page.paragraph(command.about);
    for argument in command.arguments {
        page.item(&italic(argument.name), argument.doc);
    }
    for flag in command.flags {
        page.item(&shape(flag), flag.doc);
    }
    if !command.notes.is_empty() {
        page.paragraph(command.notes);
    }
    if !command.examples.is_empty() {
        page.example(command.examples);
    }
}

/// The synopsis of the command.
fn call(command: &Command) -> String {
    let mut out = bold(&format!("mtbox {}", command.name));
    for argument in command.arguments {
        let name = italic(argument.name);
        let name = if argument.is_optional { format!("[{name}]") } else { name };
        out.push_str(&format!(" {name}"));
    }
    if !command.flags.is_empty() {
        out.push_str(&format!(" [{}]", italic("FLAGS")));
    }
    out
}

fn shape(flag: &Flag) -> String {
    let long = bold(&format!("--{}", flag.long));
    let short = flag.short.map(|short| format!("{}, ", bold(&format!("-{short}"))));
    let value = flag.value.map(|value| format!(" {}", italic(value)));
    format!("{}{long}{}", short.unwrap_or_default(), value.unwrap_or_default())
}

const DESCRIPTION: &[&str] = &[
    "mtbox relays connections of Telegram apps to Telegram. Each user has a named secret. A client \
     without a valid secret is connected to the front: the web site that the secret names.",
    "`mtbox quickstart` creates a config with one user, prints the link to open in Telegram, and \
     runs the proxy. As a service, mtbox uses the config /etc/mtbox/mtbox.toml. `mtbox user` edits \
     the config; `mtbox.toml`(5) describes it.",
];

const SIGNALS: &[(&str, &str)] = &[
    (
        "HUP",
        "Reads the config again. A file with a mistake changes nothing. Sessions of users that \
         were removed, disabled, or given a new secret end; all other sessions continue.",
    ),
    (
        "TERM, INT",
        "Stops accepting clients, delivers pending data for up to 4.5 seconds, and exits. A second \
         signal exits immediately.",
    ),
    ("USR1", "Writes a summary of the state to the log."),
];

const ENVIRONMENT: &[(&str, &str)] = &[(
    "NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID",
    "Set by systemd. mtbox then reports start, reload, stop and liveness to systemd.",
)];

const FILES: &[(&str, &str)] = &[
    (
        "/etc/mtbox/mtbox.toml",
        "The config of the service. The installation creates it with a fresh secret.",
    ),
    ("/var/lib/mtbox, /var/cache/mtbox", "Directories that the service may write to."),
    (
        "/etc/resolv.conf, /etc/hosts",
        "Host names and DNS servers, read again when they change; see `network.dns`.",
    ),
];
