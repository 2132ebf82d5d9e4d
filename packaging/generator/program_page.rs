//! The page mtbox(1): every command and flag from the table, and what no table holds.

use mtbox::cli::args::{Command, Flag};
use mtbox::cli::failure::USAGE;
use mtbox::cli::help::EVERYWHERE;

use super::calls;
use super::roff::{Page, bold, italic};

/// The whole page.
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
    page.item("0", "It is done.");
    page.item("1", "It could not be done; a line on stderr says why.");
    page.item(&USAGE.to_string(), "The arguments make no sense; some commands say 2, see above.");
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

/// The command as it is called.
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
    "mtbox relays Telegram apps to Telegram. Everyone who is invited has a named secret; to anyone \
     else the port is the web site that the secrets name, fetched from that site.",
    "`mtbox quickstart` makes a config with one user, prints the link to open in Telegram, and \
     runs. Installed as a service, mtbox runs by a config that `mtbox user` edits and \
     `mtbox.toml`(5) describes.",
];

const SIGNALS: &[(&str, &str)] = &[
    (
        "HUP",
        "Read the config anew. A file with a mistake changes nothing; otherwise only those are \
         cut off whose user is gone, disabled, or has a new secret.",
    ),
    (
        "TERM, INT",
        "Take no more clients, deliver what is on the way for up to 4.5 seconds, and leave. A \
         second one leaves at once.",
    ),
    ("USR1", "Write a summary of the state to the log."),
];

const ENVIRONMENT: &[(&str, &str)] = &[(
    "NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID",
    "Set by systemd, which is then told of start, reload, end and life.",
)];

const FILES: &[(&str, &str)] = &[
    ("/etc/mtbox/mtbox.toml", "The config of the service; made with a secret of its own."),
    ("/var/lib/mtbox, /var/cache/mtbox", "Where the service may write."),
    ("/etc/resolv.conf, /etc/hosts", "Read when they change, unless the config says otherwise."),
];
