//! The image: what its recipe says can be done here, and what it promises to who comes from mtg.

use super::{folder, read, run};

/// The instructions of the recipe, joined over line ends: a word and its argument.
fn instructions() -> Vec<(String, String)> {
    let text = read("Dockerfile");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let text = lines.collect::<Vec<&str>>().join("\n").replace("\\\n", " ");
    let cut = |line: &str| {
        let (word, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        (word.to_string(), rest.split_whitespace().collect::<Vec<&str>>().join(" "))
    };
    text.lines().map(cut).collect()
}

#[test]
fn the_image_starts_where_that_of_mtg_does_without_root() {
    let all = instructions();
    let last = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
    let (build, image) = all.split_at(last);
    assert_eq!(image[0].1, "scratch");
    let one = |wanted: &str| {
        let mut found = image.iter().filter(|(word, _)| word == wanted);
        let (_, argument) = found.next().unwrap_or_else(|| panic!("{wanted} is missing"));
        assert!(found.next().is_none(), "{wanted} comes twice");
        argument.as_str()
    };
    let list = |text: &str| serde_json::from_str::<Vec<String>>(text).unwrap();
    assert_eq!(list(one("ENTRYPOINT")), ["/mtbox"]);
    assert_eq!(list(one("CMD")), ["run", "/config/config.toml"]);
    let numbers = one("USER").split(':').map(|id| id.parse::<u32>().unwrap());
    assert!(numbers.clone().count() == 2 && numbers.into_iter().all(|id| id > 0));
    assert!(one("EXPOSE").split(' ').all(|port| port.parse::<u16>().is_ok()));
    let (_, name) = build[0].1.split_once(" AS ").unwrap();
    assert_eq!(one("COPY"), format!("--from={name} /image/ /"));
    const KNOWN: [&str; 9] =
        ["FROM", "RUN", "COPY", "ENV", "WORKDIR", "USER", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT"];
    assert!(all.iter().all(|(word, _)| KNOWN.contains(&&**word) || word == "CMD"), "{all:?}");
}

/// The two places of the reference's image are one file, whichever is mounted.
#[test]
fn a_config_is_found_in_either_place() {
    let scratch = super::service::Scratch::new("image");
    let all = instructions();
    let mut steps = all.iter().filter(|(word, _)| word == "RUN").map(|(_, step)| step);
    let layout = steps.next_back().unwrap().replace("/image", scratch.0.to_str().unwrap());
    let source = folder().join("..");
    let done = std::process::Command::new("sh").args(["-ec", &layout]).current_dir(source).status();
    assert!(done.unwrap().success(), "{layout}");
    let text = |name: &str| std::fs::read_to_string(scratch.0.join(name)).unwrap();
    assert_eq!(text("config/config.toml"), text("config.toml"));
    assert_eq!(
        std::fs::read_link(scratch.0.join("config/config.toml")).unwrap().to_str(),
        Some("../config.toml")
    );
    std::fs::write(scratch.0.join("config.toml"), "mounted").unwrap();
    assert_eq!(text("config/config.toml"), "mounted");
}

#[test]
fn the_compiler_of_the_image_is_new_enough() {
    let all = instructions();
    let tag = all[0].1.strip_prefix("rust:").unwrap().split('-').next().unwrap();
    let number = |text: &str| text.split('.').nth(1).unwrap().parse::<u32>().unwrap();
    assert!(number(tag) >= number(env!("CARGO_PKG_RUST_VERSION")), "{tag}");
}

#[test]
fn hadolint_finds_nothing_in_the_recipe() {
    // DL3008: Debian keeps one version of a package, so naming it breaks the build one day.
    super::finds_nothing("hadolint", &["--ignore", "DL3008", "Dockerfile"]);
    let steps = instructions().into_iter().filter(|(word, _)| word == "RUN");
    for (_, step) in steps {
        assert!(run("sh", &["-nc", &step]).unwrap().status.success(), "{step}");
    }
}
