//! The table of commands as completions need it: what may stand where on the command line.

use mtbox::cli::COMMANDS;
use mtbox::cli::args::{Argument, Command, Flag};
use mtbox::cli::help::EVERYWHERE;
use mtbox::config::keys::KEYS;
use mtbox::config::kinds::Kind;

/// What may stand in one place of the command line.
#[derive(Clone, PartialEq, Eq)]
pub enum Words {
    /// What only a person knows: an address, a number, a new name.
    Any,
    /// A file or a folder.
    File,
    /// One of the users in the config that stands before.
    User,
    /// One of these.
    Choice(Vec<&'static str>),
}

/// Words that may stand behind `mtbox`: none at all, a command, or the beginning of one.
pub struct Call {
    /// Joined by blanks.
    pub words: String,
    /// What may come next, and what that does, where a command is not named yet.
    pub next: Vec<(&'static str, &'static str)>,
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
        self.arguments().iter().map(|argument| self.named(argument.name)).collect()
    }

    /// What stands behind a flag; `None` if it takes no value.
    pub fn value(&self, flag: &Flag) -> Option<Words> {
        let name = flag.value?;
        Some(choice(flag.long).unwrap_or_else(|| self.named(name)))
    }

    fn named(&self, name: &str) -> Words {
        match name {
            "CONFIG" | "PATH" | "FILE" => Words::File,
            "NAME" if self.knows_users() => Words::User,
            _ => Words::Any,
        }
    }

    /// Does it speak of users that are there? Who is added has a new name.
    fn knows_users(&self) -> bool {
        !self.words.ends_with(" add")
            && self.arguments().iter().any(|argument| argument.name == "CONFIG")
    }
}

/// Every call, the empty one first; `a b` comes behind `a`, whether or not that is a command.
pub fn all() -> Vec<Call> {
    let mut calls = vec![Call { words: String::new(), next: Vec::new(), command: None }];
    for command in commands() {
        let mut words = String::new();
        for word in command.name.split(' ') {
            let before = words.clone();
            let blank = if words.is_empty() { "" } else { " " };
            words.push_str(blank);
            words.push_str(word);
            let about = if words == command.name { command.about } else { "" };
            if let Some(call) = calls.iter_mut().find(|call| call.words == before)
                && call.next.iter().all(|(known, _)| *known != word)
            {
                call.next.push((word, about));
            }
            if calls.iter().all(|call| call.words != words) {
                calls.push(Call { words: words.clone(), next: Vec::new(), command: None });
            }
        }
        if let Some(call) = calls.iter_mut().find(|call| call.words == words) {
            call.command = Some(command);
        }
    }
    calls
}

/// The commands that help shows; a name of several words is one word after another.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|command| !command.is_hidden)
}

/// A flag that is called as a key of the file takes the words of that key, where it has some.
fn choice(name: &str) -> Option<Words> {
    let key = KEYS.iter().find(|key| key.path == name)?;
    let Kind::Choice(words) = key.kind else { return None };
    Some(Words::Choice(words.iter().map(|(word, _)| *word).collect()))
}
