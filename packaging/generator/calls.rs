//! The table of commands as the completions need it: the words that each position accepts.

use mtbox::cli::COMMANDS;
use mtbox::cli::args::{Argument, Command, Flag};
use mtbox::cli::help::EVERYWHERE;
use mtbox::config::keys::KEYS;
use mtbox::config::value::ValueKind;

/// The words that one position of the command line accepts.
#[derive(Clone, PartialEq, Eq)]
pub enum Words {
    /// No list: an address, a number, a new name.
    Any,
    /// A file or a directory.
    File,
    /// An account of the system.
    Account,
    /// A user in the config file that the argument CONFIG names.
    UserOfArgument,
    /// A user in the config file that the flag `--config` names; default: the usual file.
    UserOfFlag,
    /// One of these.
    Choice(Vec<&'static str>),
}

/// The words after `mtbox`: none, a command, or the first word of a command.
pub struct Call {
    /// The words, separated by blanks.
    pub words: String,
    /// The possible next words of a command, each with its description.
    pub next: Vec<(&'static str, String)>,
    command: Option<&'static Command>,
}

impl Call {
    /// The flags of the command, including those of every command.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        self.command.map_or(&[][..], |command| command.flags).iter().chain(EVERYWHERE)
    }

    /// The positional arguments of the command.
    pub fn arguments(&self) -> &'static [Argument] {
        self.command.map_or(&[], |command| command.arguments)
    }

    /// The words that each positional argument accepts.
    pub fn places(&self) -> Vec<Words> {
        let names = self.arguments().iter().map(|argument| argument.name);
        names.map(|name| if name == "NAME" { self.user() } else { named(name) }).collect()
    }

    /// The values that a flag accepts; `None` for a switch.
    pub fn value(&self, flag: &Flag) -> Option<Words> {
        let name = flag.value?;
        let usual =
            || if name == "NAME" && flag.long == "user" { self.user() } else { named(name) };
        Some(choice(flag.long).unwrap_or_else(usual))
    }

    /// The name of an existing user, except in `user add`.
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

/// Every call. The empty call is the first; `a` precedes `a b`, even if `a` is not a command.
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

/// The index of the call with one more word. Adds the call if it does not exist.
fn below(calls: &mut Vec<Call>, at: usize, word: &'static str) -> usize {
    let words = joined(&calls[at].words, word);
    if let Some(known) = calls.iter().position(|call| call.words == words) {
        return known;
    }
    calls[at].next.push((word, String::new()));
    calls.push(Call { words, next: Vec::new(), command: None });
    calls.len() - 1
}

/// The words of a call with its description: that of the command, or the possible next words.
fn about(call: &Call) -> (String, String) {
    let next: Vec<&str> = call.next.iter().map(|(word, _)| *word).collect();
    let about = call.command.map_or_else(|| next.join(", "), |command| command.about.to_string());
    (call.words.clone(), about)
}

fn joined(words: &str, word: &str) -> String {
    format!("{words} {word}").trim_start().to_string()
}

/// The commands that the help shows.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|command| !command.is_hidden)
}

/// The choices of the key with the same name as the flag, if that key has choices.
fn choice(name: &str) -> Option<Words> {
    let key = KEYS.iter().find(|key| key.path == name)?;
    let ValueKind::Choice(_, words) = key.kind else { return None };
    Some(Words::Choice(words.iter().map(|(word, _)| *word).collect()))
}
