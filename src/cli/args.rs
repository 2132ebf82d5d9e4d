//! Reads arguments by the table of commands (spec: cli 1): flags before or after positionals, as
//! `--name value`, `--name=value`, `-x value` or `-xvalue`.

use std::ffi::{OsStr, OsString};

use lexopt::{Arg, Parser};

use crate::cli::failure::{Failure, USAGE};
use crate::config::suggest::nearest;

/// One command of the table.
pub struct Command {
    /// How it is called.
    pub name: &'static str,
    /// What must follow it, in this order.
    pub arguments: &'static [Argument],
    /// What may follow it.
    pub flags: &'static [Flag],
    /// One line for the help.
    pub about: &'static str,
    /// Lines to try.
    pub examples: &'static [&'static str],
    /// What else the help says.
    pub notes: &'static str,
    /// Not in the help.
    pub is_hidden: bool,
    /// Exit code when the arguments make no sense.
    pub usage_code: u8,
    /// Does it.
    pub run: fn(&ParsedArgs) -> Result<(), Failure>,
}

impl Command {
    /// A command that takes nothing and does nothing, for the table to start from.
    pub const fn named(name: &'static str) -> Self {
        Self {
            name,
            arguments: &[],
            flags: &[],
            about: "",
            examples: &[],
            notes: "",
            is_hidden: false,
            usage_code: USAGE,
            run: |_| Ok(()),
        }
    }
}

/// A positional argument.
pub struct Argument {
    /// In capitals.
    pub name: &'static str,
    /// One line for the help.
    pub doc: &'static str,
    /// May be left out; then all behind it are as well.
    pub is_optional: bool,
}

impl Argument {
    /// One that must be there.
    pub const fn required(name: &'static str, doc: &'static str) -> Self {
        Self { name, doc, is_optional: false }
    }

    /// One that may be left out.
    pub const fn optional(name: &'static str, doc: &'static str) -> Self {
        Self { name, doc, is_optional: true }
    }
}

/// A flag.
pub struct Flag {
    /// Without the dash.
    pub short: Option<char>,
    /// Without the dashes.
    pub long: &'static str,
    /// What its value is called, if it takes one.
    pub value: Option<&'static str>,
    /// One line for the help.
    pub doc: &'static str,
}

impl Flag {
    /// A flag that is there or not.
    pub const fn switch(short: Option<char>, long: &'static str, doc: &'static str) -> Self {
        Self { short, long, value: None, doc }
    }

    /// A flag that takes a value.
    pub const fn with_value(
        short: Option<char>,
        long: &'static str,
        value: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { short, long, value: Some(value), doc }
    }
}

/// What the arguments ask for.
pub enum Invocation {
    /// `--version`.
    Version,
    /// `--help`, of a command if one was named before.
    Help(Option<&'static Command>),
    /// A command, with what it needs.
    Run(&'static Command, ParsedArgs),
}

/// What was given to a command; holds as many positionals as its table says.
#[derive(Debug, Default)]
pub struct ParsedArgs {
    positionals: Vec<OsString>,
    flags: Vec<(&'static str, OsString)>,
}

impl ParsedArgs {
    /// How many positionals there are.
    pub fn count(&self) -> usize {
        self.positionals.len()
    }

    /// The positional at an index of [`Command::arguments`].
    pub fn positional(&self, index: usize) -> &OsStr {
        self.positionals.get(index).map_or(OsStr::new(""), OsString::as_os_str)
    }

    /// The same as text; `name` is for the complaint.
    pub fn text_at(&self, index: usize, name: &str) -> Result<&str, Failure> {
        let text = self.positional(index).to_str();
        text.ok_or_else(|| Failure::Usage(format!("{name}: not valid UTF-8; type it anew")))
    }

    /// Was this switch given, and not as `--name=false`?
    pub fn is_on(&self, long: &str) -> bool {
        self.raw(long).is_some_and(|value| !OFF.iter().any(|off| value == *off))
    }

    /// The last value given for a flag.
    pub fn raw(&self, long: &str) -> Option<&OsStr> {
        let mut given = self.flags.iter().rev().filter(|(name, _)| *name == long);
        given.next().map(|(_, value)| value.as_os_str())
    }

    /// The same as text.
    pub fn text(&self, long: &str) -> Result<Option<&str>, Failure> {
        let not_text = || Failure::Usage(format!("--{long}: not valid UTF-8; type it anew"));
        self.raw(long).map(|value| value.to_str().ok_or_else(not_text)).transpose()
    }

    /// All values of a flag that may be repeated and hold lists with commas.
    pub fn list(&self, long: &str) -> Vec<String> {
        let given = self.flags.iter().filter(|(name, _)| *name == long);
        let joined: Vec<_> = given.map(|(_, value)| value.to_string_lossy()).collect();
        joined.iter().flat_map(|list| list.split(',')).map(str::to_string).collect()
    }

    /// The value of a flag, read by `parse`; its fault is a usage error.
    pub fn parsed<T>(
        &self,
        long: &str,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(long)? else { return Ok(None) };
        parse(text).map(Some).map_err(|fault| Failure::Usage(format!("--{long}: {fault}")))
    }
}

/// Reads the arguments behind the program's name. The error comes with its command, if one was
/// named.
pub fn read(
    commands: &'static [Command],
    arguments: impl Iterator<Item = OsString>,
) -> Result<Invocation, (Option<&'static Command>, String)> {
    let mut parser = Parser::from_args(arguments);
    let command = match parser.next().map_err(|fault| (None, fault.to_string()))? {
        Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Invocation::Help(None)),
        Some(Arg::Short('v') | Arg::Long("version")) => return Ok(Invocation::Version),
        Some(Arg::Value(name)) => {
            let second =
                second_word(commands, &name, &mut parser).map_err(|fault| (None, fault))?;
            named(commands, &name, second.as_deref()).map_err(|fault| (None, fault))?
        }
        Some(flag) => return Err((None, unknown_flag(&flag, &[]))),
        None => return Err((None, nothing_asked(commands))),
    };
    read_rest(command, &mut parser).map_err(|fault| (Some(command), fault))
}

/// The second word of a command that has two.
fn second_word(
    commands: &[Command],
    first: &OsStr,
    parser: &mut Parser,
) -> Result<Option<OsString>, String> {
    let is_first =
        |command: &Command| command.name.split_once(' ').is_some_and(|(a, _)| first == a);
    if !commands.iter().any(is_first) {
        return Ok(None);
    }
    match parser.next().map_err(|fault| fault.to_string())? {
        Some(Arg::Value(word)) => Ok(Some(word)),
        _ => Ok(Some(OsString::new())),
    }
}

fn named(
    commands: &'static [Command],
    first: &OsStr,
    second: Option<&OsStr>,
) -> Result<&'static Command, String> {
    let mut name = first.to_string_lossy().into_owned();
    if let Some(second) = second {
        name = format!("{name} {}", second.to_string_lossy());
    }
    if let Some(command) = commands.iter().find(|command| name == command.name) {
        return Ok(command);
    }
    let shown = commands.iter().filter(|command| !command.is_hidden).map(|command| command.name);
    if second.is_some() {
        let parts = shown.filter_map(|name| name.split_once(' '));
        let words: Vec<&str> = parts.filter(|(a, _)| first == *a).map(|(_, b)| b).collect();
        let first = first.to_string_lossy();
        return Err(match nearest(&name, commands.iter().map(|command| command.name)) {
            Some(near) if name.len() > first.len() + 1 => {
                format!("unknown command {name:?}; did you mean {near}?")
            }
            _ => format!("{first} what? Write one of {}, or see mtbox --help", words.join(", ")),
        });
    }
    Err(match nearest(&name, shown) {
        Some(near) => format!("unknown command {name:?}; did you mean {near}?"),
        None => format!("unknown command {name:?}; see mtbox --help"),
    })
}

fn nothing_asked(commands: &[Command]) -> String {
    let shown = commands.iter().filter(|command| !command.is_hidden);
    let names: Vec<&str> = shown.map(|command| command.name).collect();
    format!("no command; write one of {}, or see mtbox --help", names.join(", "))
}

fn read_rest(command: &'static Command, parser: &mut Parser) -> Result<Invocation, String> {
    let mut given = ParsedArgs::default();
    while let Some(argument) = parser.next().map_err(|fault| fault.to_string())? {
        let flag = match &argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Invocation::Help(Some(command))),
            Arg::Short('v') | Arg::Long("version") => return Ok(Invocation::Version),
            Arg::Short(short) => command.flags.iter().find(|flag| flag.short == Some(*short)),
            Arg::Long(long) => command.flags.iter().find(|flag| flag.long == *long),
            Arg::Value(value) => {
                given.positionals.push(value.clone());
                continue;
            }
        };
        let is_long = matches!(argument, Arg::Long(_));
        let flag = flag.ok_or_else(|| unknown_flag(&argument, command.flags))?;
        let value = match flag.value {
            Some(_) => parser.value().map_err(|fault| fault.to_string())?,
            None if is_long => switch_value(flag, parser.optional_value())?,
            None => OsString::new(),
        };
        given.flags.push((flag.long, value));
    }
    let (want, have) = (command.arguments, given.positionals.len());
    if let Some(missing) = want.get(have).filter(|argument| !argument.is_optional) {
        let Argument { name, doc, .. } = missing;
        return Err(format!("{name} is missing ({doc}); see mtbox {} --help", command.name));
    }
    match given.positionals.get(want.len()) {
        Some(extra) => {
            Err(format!("unexpected argument {extra:?}; see mtbox {} --help", command.name))
        }
        None => Ok(Invocation::Run(command, given)),
    }
}

/// `--switch=true` and `--switch=false` work too, as they do in the reference.
fn switch_value(flag: &Flag, value: Option<OsString>) -> Result<OsString, String> {
    let value = value.unwrap_or_default();
    if value.is_empty() || ON.iter().chain(OFF).any(|word| value == *word) {
        Ok(value)
    } else {
        Err(format!("--{}: must be true or false, or stand alone", flag.long))
    }
}

fn unknown_flag(argument: &Arg<'_>, flags: &[Flag]) -> String {
    let longs = flags.iter().map(|flag| flag.long).chain(["help", "version"]);
    match argument {
        Arg::Long(long) => match nearest(long, longs) {
            Some(near) => format!("unknown flag --{long}; did you mean --{near}?"),
            None => format!("unknown flag --{long}; see --help"),
        },
        Arg::Short(short) => format!("unknown flag -{short}; see --help"),
        Arg::Value(value) => format!("unexpected argument {value:?}; see --help"),
    }
}

const ON: &[&str] = &["true", "1", "yes"];
const OFF: &[&str] = &["false", "0", "no"];
