//! The page mtbox.toml(5): every key of the file with its values and its default.

use mtbox::config::key::Key;
use mtbox::config::keys::KEYS;
use mtbox::config::value::ValueKind;

use super::roff::{Page, bold, italic, plain};

/// The whole page.
pub fn render() -> String {
    let mut page = Page::new("mtbox.toml", 5);
    page.section("NAME");
    page.line("mtbox.toml \\- settings of the Telegram proxy mtbox");
    page.section("DESCRIPTION");
    DESCRIPTION.iter().for_each(|text| page.paragraph(text));
    page.section("EXAMPLE");
    page.example(EXAMPLE);
    page.section("VALUES");
    VALUES.iter().for_each(|(name, text)| page.item(&bold(name), text));
    page.section("KEYS");
    keys(&mut page);
    page.section("OLD NAMES");
    page.paragraph("They still load, with a warning.");
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
        let term = if key.is_whole_table() { key.value.split(' ').next() } else { Some(name) };
        let term = bold(term.unwrap_or(name));
        page.item(&format!("{term} = {}", italic(&values(key))), key.doc);
        page.line(".br");
        page.line(&default(key));
    }
}

/// What a key takes: the words themselves where there are but a few.
fn values(key: &Key) -> String {
    match key.kind {
        ValueKind::Choice(words) => {
            let words = words.iter().map(|(word, _)| format!("\"{word}\""));
            words.collect::<Vec<String>>().join(" | ")
        }
        ValueKind::Secrets => "secret".to_string(),
        ValueKind::DcOverrides => "list of IP:port".to_string(),
        kind => kind.name().to_string(),
    }
}

fn default(key: &Key) -> String {
    match key.is_unset {
        true => format!("For example: {}", plain(key.value)),
        false => format!("Default: {}", plain(key.value)),
    }
}

const DESCRIPTION: &[&str] = &[
    "A file in TOML, at most 1 MiB. `bind-to` and one user are required, everything else may be \
     left out. Keys that belong to no [table] stand above the first one: TOML gives everything \
     below a header to that table.",
    "`mtbox check` FILE tells what is wrong with a file and where. `mtbox example-config` prints \
     every key. A running mtbox reads the file anew when it gets the signal HUP.",
    "The file holds the secrets of your users: keep it readable by mtbox and its owner only.",
];

const EXAMPLE: &[&str] = &[
    "bind-to = \"0.0.0.0:443\"",
    "api-bind-to = \"127.0.0.1:9090\"",
    "[secrets]",
    "me = \"ee...\"     # mtbox generate-secret www.example.com",
];

const VALUES: &[(&str, &str)] = &[
    ("duration", "A number and a unit, or several: `\"500ms\"`, `\"30s\"`, `\"1h30m\"`."),
    ("bytes", "A number and a unit: `\"512kib\"`, `\"16mib\"`."),
    ("IP:port", "A literal address; IPv6 in brackets: `\"0.0.0.0:443\"`, `\"[::]:443\"`."),
    ("unix:/path", "A Unix socket instead of an address and a port."),
    ("secret", "What `mtbox generate-secret` prints, in base64 or hexadecimal."),
];
