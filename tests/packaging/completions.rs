//! The completions, asked in the shells themselves. What they should say is written out here.

use std::fs;
use std::path::PathBuf;

use super::{finds_nothing, run};

#[test]
fn the_shells_read_their_completions() {
    finds_nothing("bash", &["-n", "completions/mtbox.bash"]);
    finds_nothing("zsh", &["-n", "completions/_mtbox"]);
    finds_nothing("fish", &["--no-config", "-n", "completions/mtbox.fish"]);
}

#[test]
fn bash_offers_what_may_stand_there() {
    let folder = Folder::new("bash");
    folder.check(|line| bash(&folder, line));
}

#[test]
fn fish_offers_what_may_stand_there() {
    let folder = Folder::new("fish");
    if run("fish", &["--version"]).is_some() {
        folder.check(|line| fish(&folder, line));
    }
}

#[test]
fn zsh_offers_what_may_stand_there() {
    let folder = Folder::new("zsh");
    if run("zsh", &["--version"]).is_some() {
        folder.check(|line| zsh(&folder, line));
    }
}

/// A folder with a config, and what should be offered in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mtbox-words-{}-{name}", std::process::id()));
        fs::create_dir_all(path.join("sub")).unwrap();
        fs::write(path.join("mine.toml"), CONFIG).unwrap();
        fs::write(path.join("mtbox.toml"), "[secrets]\nusual = \"ee\"\n").unwrap();
        Self(path)
    }

    fn check(&self, ask: impl Fn(&str) -> Vec<String>) {
        for (line, wanted) in OFFERS {
            let mut wanted: Vec<&str> = wanted.split_whitespace().collect();
            wanted.sort_unstable();
            let mut offered = ask(line);
            offered.sort_unstable();
            assert_eq!(offered, wanted, "{line:?}");
        }
        let first = ask("mtbox ");
        for command in ["quickstart", "run", "generate-secret", "access", "check"] {
            assert!(first.iter().any(|word| word == command), "{command}: {first:?}");
        }
        assert!(!first.iter().any(|word| word == "example-config"), "it is hidden: {first:?}");
        let flags = ask("mtbox simple-run --");
        for flag in ["--help", "--version", "--concurrency", "--proxy-protocol-listener"] {
            assert!(flags.iter().any(|word| word == flag), "{flag}: {flags:?}");
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What stands before the cursor, and what is offered.
const OFFERS: &[(&str, &str)] = &[
    ("mtbox ru", "run"),
    ("mtbox gen", "generate-secret"),
    ("mtbox check --str", "--strict"),
    ("mtbox run mi", "mine.toml"),
    ("mtbox check --strict mi", "mine.toml"),
    ("mtbox access mine.toml --user ", "alice bob-2 c.d@e"),
    ("mtbox access -x mine.toml --user b", "bob-2"),
    ("mtbox access -p 443 mine.toml --user a", "alice"),
    ("mtbox access mine.toml --user=c", "c.d@e"),
    ("mtbox access none.toml --user ", ""),
    ("mtbox explain mine.toml ", "alice bob-2 c.d@e"),
    ("mtbox explain --json mine.toml c", "c.d@e"),
    ("mtbox explain mi", "mine.toml"),
    ("mtbox run mine.toml --user roo", "root"),
    ("mtbox user re", "remove"),
    ("mtbox user remove ", "usual"),
    ("mtbox user remove --config mine.toml ", "alice bob-2 c.d@e"),
    ("mtbox user rotate --host x.example --config=mine.toml b", "bob-2"),
    ("mtbox user disable --con", "--config"),
    ("mtbox user add ", ""),
    ("mtbox user add bob --host ", ""),
    ("mtbox user list ", ""),
    ("mtbox user nonsense ", ""),
    ("mtbox run mtb", "mtbox.toml"),
    ("mtbox run mine.toml --log-level ", "error warn info debug"),
    ("mtbox run --log-to=j", "journal"),
    ("mtbox simple-run --prefer-ip only", "only-ipv4 only-ipv6"),
    ("mtbox simple-run -i pre", "prefer-ipv4 prefer-ipv6"),
    ("mtbox simple-run --prefer-ip=only", "only-ipv4 only-ipv6"),
    ("mtbox simple-run ", ""),
    ("mtbox generate-secret ", ""),
    ("mtbox run mine.toml ", ""),
    ("mtbox quickstart --config mi", "mine.toml"),
    ("mtbox nonsense ", ""),
];

const CONFIG: &str = r#"
bind-to = "0.0.0.0:443"
[stats.prometheus]
enabled = false
[secrets]
# eve = "ee"
alice = "ee00"
  "bob-2"="ee01"
"c.d@e" = "ee02"  # a friend
[throttle]
max-connections = 5
"#;

/// Splits the line as readline does (bash(1), COMP_WORDBREAKS) and calls the function.
fn bash(folder: &Folder, line: &str) -> Vec<String> {
    const SCRIPT: &str = r#"
        source completions/mtbox.bash
        cd "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _mtbox mtbox
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let cut = line.replace('=', " = ");
    let mut words: Vec<&str> = cut.split(' ').collect();
    if line.ends_with('=') {
        words.pop();
    }
    let fixed = ["--norc", "-c", SCRIPT, "bash", folder.0.to_str().unwrap()];
    let output = run("bash", &[&fixed[..], &words].concat()).expect("bash");
    assert!(output.status.success() && output.stderr.is_empty(), "{line:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|word| !word.is_empty()).map(str::to_string).collect()
}

/// Asks fish, which offers whole words with what they mean behind a tab; `--flag=` stays in front.
fn fish(folder: &Folder, line: &str) -> Vec<String> {
    const SCRIPT: &str = r#"
        source completions/mtbox.fish
        cd $argv[1]
        complete -C $argv[2]
    "#;
    let folder = folder.0.to_str().unwrap();
    let output = run("fish", &["--no-config", "-c", SCRIPT, folder, line]).expect("fish");
    assert!(output.status.success() && output.stderr.is_empty(), "{line:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.lines().map(|line| line.split('\t').next().unwrap());
    words.map(|word| word.rsplit('=').next().unwrap().to_string()).collect()
}

/// Asks zsh on a terminal of its own; a minute is for a machine that does much else.
fn zsh(folder: &Folder, line: &str) -> Vec<String> {
    let completions = super::folder().join("completions");
    let script = super::folder().join("../tests/packaging/ask.zsh");
    let [completions, script] = [&completions, &script].map(|path| path.to_str().unwrap());
    let arguments = ["60", "zsh", "-f", script, completions, line, folder.0.to_str().unwrap()];
    let output = run("timeout", &arguments).expect("timeout");
    assert!(output.status.success(), "{line:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    // Where nothing may stand, zsh shows the flags, which may stand everywhere.
    let asks_for_flags = line.rsplit(' ').next().is_some_and(|word| word.starts_with('-'));
    let words = text.lines().filter(|word| asks_for_flags || !word.starts_with('-'));
    words.map(str::to_string).collect()
}
