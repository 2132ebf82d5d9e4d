//! The table of commands as completions need it: what may stand where on the command line.

use mtbox::cli::COMMANDS;
use mtbox::cli::args::{Argument, Command, Flag};
use mtbox::cli::help::EVERYWHERE;
use mtbox::config::keys::KEYS;
use mtbox::config::value::ValueKind;

/// What may stand in one place of the command line.
#[derive(Clone, PartialEq, Eq)]
pub enum Words {
    /// What only a person knows: an address, a number, a new name.
    Any,
    /// A file or a folder.
    File,
    /// Somebody of /etc/passwd.
    Account,
    /// One of the users in the config that stands before as an argument.
    UserOfArgument,
    /// One of the users in the config of the flag `--config`, or the usual one.
    UserOfFlag,
    /// One of these.
    Choice(Vec<&'static str>),
}

/// Words that may stand behind `mtbox`: none at all, a command, or the beginning of one.
pub struct Call {
    /// Joined by blanks.
    pub words: String,
    /// What may come next, and what that does, where a command is not named yet.
    pub next: Vec<(&'static str, String)>,
    command: Option<&'static Command>,
}

impl Call {
    /// The flags that may follow, those of every command included.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        self.command.map_or(&[][..], |command| command.flags).iter().chain(EVERYWHERE)
    }

    /// What has to or may follow besides flags.
    pub fn arguments(&self) -> &'static [Argument] {
        self.command.map_or(&[], |command| command.arguments)
    }

    /// What may stand in their places.
    pub fn places(&self) -> Vec<Words> {
        let names = self.arguments().iter().map(|argument| argument.name);
        names.map(|name| if name == "NAME" { self.user() } else { named(name) }).collect()
    }

    /// What stands behind a flag; `None` if it takes no value.
    pub fn value(&self, flag: &Flag) -> Option<Words> {
        let name = flag.value?;
        let usual =
            || if name == "NAME" && flag.long == "user" { self.user() } else { named(name) };
        Some(choice(flag.long).unwrap_or_else(usual))
    }

    /// A user who is there; who is added has a new name.
    fn user(&self) -> Words {
        let mut flags = self.command.map_or(&[][..], |command| command.flags).iter();
        if self.words.ends_with(" add") {
            Words::Any
        } else if self.arguments().iter().any(|argument| argument.name == "CONFIG") {
            Words::UserOfArgument
        } else if flags.any(|flag| flag.long == "config") {
            Words::UserOfFlag
        } else {
            Words::Any
        }
    }
}

fn named(name: &str) -> Words {
    match name {
        "CONFIG" | "PATH" | "FILE" => Words::File,
        "ACCOUNT" => Words::Account,
        _ => Words::Any,
    }
}

/// Every call, the empty one first; `a b` comes behind `a`, whether or not that is a command.
pub fn all() -> Vec<Call> {
    let mut calls = vec![Call { words: String::new(), next: Vec::new(), command: None }];
    for command in commands() {
        let mut at = 0;
        for word in command.name.split(' ') {
            at = below(&mut calls, at, word);
        }
        calls[at].command = Some(command);
    }
    let abouts: Vec<(String, String)> = calls.iter().map(about).collect();
    for call in &mut calls {
        for (word, about) in &mut call.next {
            let words = joined(&call.words, word);
            let known = abouts.iter().find(|(name, _)| *name == words);
            *about = known.map(|(_, about)| about.clone()).unwrap_or_default();
        }
    }
    calls
}

/// Where the call is that has one word more; it is made if it is not there.
fn below(calls: &mut Vec<Call>, at: usize, word: &'static str) -> usize {
    let words = joined(&calls[at].words, word);
    if let Some(known) = calls.iter().position(|call| call.words == words) {
        return known;
    }
    calls[at].next.push((word, String::new()));
    calls.push(Call { words, next: Vec::new(), command: None });
    calls.len() - 1
}

/// What a command does, or which words may follow.
fn about(call: &Call) -> (String, String) {
    let next: Vec<&str> = call.next.iter().map(|(word, _)| *word).collect();
    let about = call.command.map_or_else(|| next.join(", "), |command| command.about.to_string());
    (call.words.clone(), about)
}

fn joined(words: &str, word: &str) -> String {
    format!("{words} {word}").trim_start().to_string()
}

/// The commands that help shows; a name of several words is one word after another.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|command| !command.is_hidden)
}

/// A flag that is called as a key of the file takes the words of that key, where it has some.
fn choice(name: &str) -> Option<Words> {
    let key = KEYS.iter().find(|key| key.path == name)?;
    let ValueKind::Choice(words) = key.kind else { return None };
    Some(Words::Choice(words.iter().map(|(word, _)| *word).collect()))
}
