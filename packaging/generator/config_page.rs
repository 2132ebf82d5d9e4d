//! The page mtbox.toml(5): every key of the config file with its values and its default.

use mtbox::config::key::Key;
use mtbox::config::keys::KEYS;
use mtbox::config::value::ValueKind;

use super::roff::{Page, bold, italic, plain};

/// The text of the page.
pub fn render() -> String {
    let mut page = Page::new("mtbox.toml", 5);
    page.section("NAME");
    page.line("mtbox.toml \\- config file of the Telegram proxy mtbox");
    page.section("DESCRIPTION");
    DESCRIPTION.iter().for_each(|text| page.paragraph(text));
    page.section("EXAMPLE");
    page.example(EXAMPLE);
    page.section("VALUES");
    VALUES.iter().for_each(|(name, text)| page.item(&bold(name), text));
    page.section("KEYS");
    keys(&mut page);
    page.section("OLD NAMES");
    page.paragraph("Old names still load, with a warning.");
    for key in KEYS {
        if let Some(instead) = key.instead {
            page.item(&bold(key.path), &format!("Instead: {instead}."));
        }
    }
    page.section("SEE ALSO");
    page.line(".BR mtbox (1)");
    page.finish()
}

fn keys(page: &mut Page) {
    let mut table = None;
    for key in KEYS.iter().filter(|key| key.instead.is_none()) {
        let (parent, name) = key.split();
        let header = if key.is_whole_table() { key.path } else { parent };
        if table != Some(header) {
            match header {
                "" => page.subsection("Above all tables"),
                header => page.subsection(&format!("[{header}]")),
            }
            table = Some(header);
        }
        let value = key.value();
        let term = if key.is_whole_table() { value.split(' ').next() } else { Some(name) };
        let term = bold(term.unwrap_or(name));
        page.item(&format!("{term} = {}", italic(&values(key))), &key.text());
        page.line(".br");
        page.line(&default(key));
    }
}

/// The values of a key: its choices, or the name of its type.
fn values(key: &Key) -> String {
    match key.kind {
        ValueKind::Choice(_, words) => {
            let words = words.iter().map(|(word, _)| format!("\"{word}\""));
            words.collect::<Vec<String>>().join(" | ")
        }
        ValueKind::Secrets => "secret".to_string(),
        ValueKind::DcOverrides => "list of IP:port".to_string(),
        kind => kind.name().to_string(),
    }
}

fn default(key: &Key) -> String {
    match key.is_unset() {
        true => format!("For example: {}", plain(&key.value())),
        false => format!("Default: {}", plain(&key.value())),
    }
}

const DESCRIPTION: &[&str] = &[
    "The file is in TOML format, at most 1 MiB. `bind-to` and one user are required; everything \
     else is optional. Keys without a [table] belong above the first header: TOML assigns every \
     key to the header above it.",
    "`mtbox check` FILE reports the mistakes in a file, with line and column. `mtbox \
     example-config` prints every key. On the signal HUP, a running mtbox reads the file again.",
    "The front is the web site that unauthenticated clients see: by default, the host in the \
     secret. A secret consists of a key and a host.",
    "The file contains the secrets of the users. Only mtbox and its owner should be able to read \
     it.",
];

const EXAMPLE: &[&str] = &[
    "bind-to = \"0.0.0.0:443\"",
    "api-bind-to = \"127.0.0.1:9090\"",
    "[secrets]",
    "me = \"ee...\"     # mtbox generate-secret www.example.com",
];

const VALUES: &[(&str, &str)] = &[
    ("duration", "One or more numbers with units: `\"500ms\"`, `\"30s\"`, `\"1h30m\"`."),
    ("bytes", "A number and a unit: `\"512kib\"`, `\"16mib\"`."),
    (
        "IP:port",
        "An IP address and a port, with IPv6 in brackets: `\"0.0.0.0:443\"`, `\"[::]:443\"`.",
    ),
    ("unix:/path", "A Unix socket instead of an address and a port."),
    ("secret", "The output of `mtbox generate-secret`, in base64 or hexadecimal."),
];
