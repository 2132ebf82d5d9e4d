//! The examples of the README and of docs/HAPROXY.md load, and nothing is said about them.

use std::fs;
use std::path::Path;

use mtbox::config::HAS_TLS;

use super::{SECRET, diagnostics_of, minimal};

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The text of every fenced block in that language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let block = |rest: &str| rest.split("```").next().unwrap().to_owned();
    document.split(&fence).skip(1).map(block).collect()
}

/// Files and folders that the examples name, below a folder of ours.
fn at_home(block: &str) -> String {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme");
    fs::create_dir_all(home.join("cache")).unwrap();
    fs::write(home.join("deny.netset"), "192.0.2.0/24\n").unwrap();
    let home = home.to_str().unwrap();
    block
        .replace("/etc/mtbox", home)
        .replace("/var/cache/mtbox", &format!("{home}/cache"))
        .replace("ee…", SECRET)
}

#[test]
fn the_examples_for_people_load_without_a_word() {
    let of = |name| blocks(&document(name), "toml");
    let (readme, haproxy) = (of("README.md"), of("docs/HAPROXY.md"));
    assert!(readme.len() >= 8 && haproxy.len() >= 2, "{readme:?} {haproxy:?}");
    for block in readme.into_iter().chain(haproxy) {
        let own = at_home(&block);
        let text = match (own.contains("bind-to ="), own.contains("[secrets]")) {
            (true, true) => own,
            (true, false) => format!("secret = \"{SECRET}\"\n{own}"),
            _ => format!("{}{own}", minimal()),
        };
        let found = diagnostics_of(&text);
        let only_tls = found.iter().all(|one| one.contains("this build has no TLS"));
        assert!(if HAS_TLS { found.is_empty() } else { only_tls }, "{block}\n{found:#?}");
    }
}

/// What was tried is what is shown first.
#[test]
fn the_readme_shows_the_haproxy_config_that_was_tried() {
    let shown = blocks(&document("README.md"), "haproxy");
    assert_eq!(shown.len(), 1);
    assert!(document("docs/HAPROXY.md").contains(&shown[0]), "{}", shown[0]);
}
