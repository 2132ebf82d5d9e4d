//! README.md, README.ru.md and docs/: the examples load without a warning, links lead to files,
//! and both languages of the README have the same structure and commands.

use std::fs;
use std::path::{Path, PathBuf};

use mtbox::config::HAS_TLS;

use super::{SECRET, diagnostics_of, load_without_warnings, minimal};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The README in both languages, and every page in docs/.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut pages: Vec<PathBuf> = docs.collect();
    pages.extend(["README.md", "README.ru.md"].map(|name| root().join(name)));
    pages
}

/// The parts of a Markdown text that must be the same in each language: the level of every
/// heading, and every fenced code block.
fn outline(markdown: &str) -> Vec<String> {
    let mut outline = Vec::new();
    let mut block: Option<String> = None;
    for line in markdown.lines() {
        match &mut block {
            Some(text) => {
                text.push_str(line);
                text.push('\n');
                if line.trim_end() == "```" {
                    outline.extend(block.take());
                }
            }
            None if line.starts_with("```") => block = Some(format!("{line}\n")),
            None if line.starts_with('#') => {
                let level = line.chars().take_while(|c| *c == '#').count();
                outline.push(format!("heading of level {level}"));
            }
            None => {}
        }
    }
    outline.extend(block.map(|text| format!("not closed: {text}")));
    outline
}

/// The first difference between two outlines.
fn difference(one: &str, other: &str) -> Option<String> {
    let (one, other) = (outline(one), outline(other));
    let longest = one.len().max(other.len());
    let at = (0..longest).find(|at| one.get(*at) != other.get(*at))?;
    Some(format!("{:?} beside {:?}", one.get(at), other.get(at)))
}

/// The text of every fenced block in this language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    outline(document)
        .iter()
        .filter_map(|part| part.strip_prefix(&fence)?.strip_suffix("```\n"))
        .map(str::to_owned)
        .collect()
}

/// Relative targets of links and images, without anchors and code blocks.
fn targets(markdown: &str) -> Vec<String> {
    let mut is_code = false;
    let mut targets = Vec::new();
    for line in markdown.lines() {
        is_code ^= line.starts_with("```");
        for rest in line.split("](").skip(1).filter(|_| !is_code) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') {
                targets.push(target.to_owned());
            }
        }
    }
    targets
}

/// The links of a page that do not lead to a file. `../../releases` is a page of GitHub.
fn dead_links(folder: &Path, markdown: &str) -> Vec<String> {
    let targets = targets(markdown).into_iter();
    let is_dead =
        |target: &String| !target.starts_with("../../releases/") && !folder.join(target).exists();
    targets.filter(is_dead).collect()
}

/// Replaces files, directories and secrets of the examples by existing ones.
fn with_existing_files(block: &str) -> String {
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
fn the_examples_load_without_a_warning() {
    let mut count = 0;
    for block in pages().iter().flat_map(|page| blocks(&fs::read_to_string(page).unwrap(), "toml"))
    {
        count += 1;
        let own = with_existing_files(&block);
        let mut above_tables = own.lines().take_while(|line| !line.starts_with('['));
        let binds = above_tables.any(|line| line.starts_with("bind-to ="));
        let text = match (binds, own.contains("[secrets]")) {
            (true, true) => own,
            (true, false) => format!("secret = \"{SECRET}\"\n{own}"),
            _ => format!("{}{own}", minimal()),
        };
        let said = diagnostics_of(&text);
        let only_flavour = said.iter().all(|one| one.contains("this build has no"));
        assert!(if HAS_TLS { said.is_empty() } else { only_flavour }, "{block}\n{said:#?}");
    }
    assert!(count >= 14, "{count} examples");
}

/// HAProxy connects to the address in `bind-to` and sends a PROXY header, which mtbox must expect.
#[test]
fn the_configs_of_haproxy_and_mtbox_fit_together() {
    let page = document("docs/more-than-one-core-or-machine.md");
    let [haproxy] = blocks(&page, "haproxy").try_into().unwrap();
    let configs = blocks(&page, "toml");
    let config = configs.iter().find(|block| block.contains("proxy-protocol-listener")).unwrap();
    let settings = load_without_warnings(&with_existing_files(config));
    let server = format!("server one {} send-proxy-v2\n", settings.binds[0]);
    assert!(haproxy.contains(&server), "{server}{haproxy}");
    assert!(settings.proxy_protocol.is_some());
}

#[test]
fn the_readme_is_short_and_the_same_in_both_languages() {
    let (english, russian) = (document("README.md"), document("README.ru.md"));
    assert!(english.lines().count() <= 180, "{} lines", english.lines().count());
    assert_eq!(difference(&english, &russian), None);
    assert!(outline(&english).len() > 20, "{:#?}", outline(&english));
    for (page, other) in [(&english, "](README.ru.md)"), (&russian, "](README.md)")] {
        assert!(page.lines().take(3).any(|line| line.ends_with(other)), "link to the other page");
    }
}

#[test]
fn a_difference_between_two_languages_is_found() {
    let page = "# A\n\ntext\n\n```sh\nmtbox run\n```\n\n## B\n";
    let same = "# А\n\nтекст\n\n```sh\nmtbox run\n```\n\n## Б\n";
    assert_eq!(difference(page, same), None);
    for bad in [
        "# А\n\n```sh\nmtbox run\n```\n",
        "# А\n\n```sh\nmtbox run\n```\n\n### Б\n",
        "# А\n\n## Б\n\n```sh\nmtbox run\n```\n",
        "# А\n\n```sh\nmtbox check\n```\n\n## Б\n",
        "# А\n\n```text\nmtbox run\n```\n\n## Б\n",
        "# А\n\n## Б\n",
        "# А\n\n```sh\nmtbox run\n\n## Б\n",
        "# А\n\n```sh\nmtbox run\n```\n\n## Б\n\n## В\n",
    ] {
        assert!(difference(page, bad).is_some(), "{bad}");
    }
}

#[test]
fn links_lead_to_files() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let dead = dead_links(page.parent().unwrap(), &text);
        assert_eq!(dead, [""; 0], "{}", page.display());
    }
}

#[test]
fn a_dead_link_is_found() {
    let page = "[a](README.md) [b](docs/none.md) ![c](none.png) [d](none.md#e) [e](#f) \
                [g](https://example.com/h)\n```sh\n[i](none)\n```\n[j](../../releases/latest)\n";
    assert_eq!(dead_links(root(), page), ["docs/none.md", "none.png", "none.md"]);
}
