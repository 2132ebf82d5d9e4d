//! Texts that are made from the tables of commands and keys: man pages, completions. Pure: tables
//! in, text out; who writes them is `generate.rs`, who compares them is `tests/packaging.rs`.

mod bash;
mod calls;
mod config_page;
mod fish;
mod program_page;
mod roff;
mod zsh;

/// Every generated file below `packaging/`, with its text.
pub fn files() -> Vec<(&'static str, String)> {
    vec![
        ("mtbox.1", program_page::render()),
        ("mtbox.toml.5", config_page::render()),
        ("completions/mtbox.bash", bash::render()),
        ("completions/_mtbox", zsh::render()),
        ("completions/mtbox.fish", fish::render()),
    ]
}

/// First line of each completion, behind a comment mark.
const ORIGIN: &str = "made from the program's tables by packaging/generate.rs; do not edit";

/// Prints the user names of the config file behind it, one a line, with sed(1): the keys of
/// `[secrets]` that need no quotes, or have them. Part of every completion.
const USER_NAMES: &str = concat!(
    r#"sed -n '/^[[:space:]]*\[secrets\]/,/^[[:space:]]*\[/"#,
    r#"s/^[[:space:]]*"\{0,1\}\([A-Za-z0-9_.@-]*\)"\{0,1\}[[:space:]]*=.*/\1/p'"#,
);
