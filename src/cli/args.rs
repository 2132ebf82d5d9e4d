//! Parses the command line by the table of commands. Flags may precede or follow positional
//! arguments, as `--name value`, `--name=value`, `-x value` or `-xvalue`.

use std::ffi::{OsStr, OsString};

use lexopt::{Arg, Parser};

use crate::cli::failure::{Failure, USAGE};
use crate::config::value::Parse;
use crate::util::spelling::nearest;

/// One command of the table.
pub struct Command {
    /// Name on the command line; may be two words.
    pub name: &'static str,
    /// Positional arguments, in this order.
    pub arguments: &'static [Argument],
    /// Flags besides [`EVERYWHERE`](super::help::EVERYWHERE).
    pub flags: &'static [Flag],
    /// Description in the help, one line.
    pub about: &'static str,
    /// Sample command lines.
    pub examples: &'static [&'static str],
    /// Further lines of the help.
    pub notes: &'static str,
    /// Hidden from the help.
    pub is_hidden: bool,
    /// Exit code for wrong arguments.
    pub usage_code: u8,
    /// Runs the command.
    pub run: fn(&ParsedArgs) -> Result<(), Failure>,
}

impl Command {
    /// A command without arguments, flags and effect: the base of each row of the table.
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
    /// Name in capitals.
    pub name: &'static str,
    /// Description in the help, one line.
    pub doc: &'static str,
    /// May be omitted, together with all arguments after it.
    pub is_optional: bool,
}

impl Argument {
    /// A required argument.
    pub const fn required(name: &'static str, doc: &'static str) -> Self {
        Self { name, doc, is_optional: false }
    }

    /// An optional argument.
    pub const fn optional(name: &'static str, doc: &'static str) -> Self {
        Self { name, doc, is_optional: true }
    }
}

/// A flag.
pub struct Flag {
    /// Short form, without the dash.
    pub short: Option<char>,
    /// Long form, without the dashes.
    pub long: &'static str,
    /// Name of its value; `None` for a switch.
    pub value: Option<&'static str>,
    /// Description in the help, one line.
    pub doc: &'static str,
}

impl Flag {
    /// A flag without a value.
    pub const fn switch(short: Option<char>, long: &'static str, doc: &'static str) -> Self {
        Self { short, long, value: None, doc }
    }

    /// A flag with a value.
    pub const fn with_value(
        short: Option<char>,
        long: &'static str,
        value: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { short, long, value: Some(value), doc }
    }
}

/// The parsed command line.
pub enum Invocation {
    /// `--version`.
    Version,
    /// `--help`, of this command if one precedes it.
    Help(Option<&'static Command>),
    /// A command with its arguments.
    Run(&'static Command, ParsedArgs),
}

/// The arguments of a command. Contains all required positional arguments.
#[derive(Debug, Default)]
pub struct ParsedArgs {
    positionals: Vec<OsString>,
    flags: Vec<(&'static str, OsString)>,
}

impl ParsedArgs {
    /// Number of positional arguments.
    pub fn count(&self) -> usize {
        self.positionals.len()
    }

    /// The positional argument at an index of [`Command::arguments`]; empty if omitted.
    pub fn positional(&self, index: usize) -> &OsStr {
        self.positionals.get(index).map_or(OsStr::new(""), OsString::as_os_str)
    }

    /// The positional argument as text; `name` is its name in the error.
    pub fn text_at(&self, index: usize, name: &str) -> Result<&str, Failure> {
        let text = self.positional(index).to_str();
        text.ok_or_else(|| Failure::Usage(format!("{name}: not valid UTF-8; type it again")))
    }

    /// Whether the switch is present, except as `--name=false`.
    pub fn is_on(&self, long: &str) -> bool {
        self.raw(long).is_some_and(|value| !OFF.iter().any(|off| value == *off))
    }

    /// The value of a flag; of several, the last.
    pub fn raw(&self, long: &str) -> Option<&OsStr> {
        let mut given = self.flags.iter().rev().filter(|(name, _)| *name == long);
        given.next().map(|(_, value)| value.as_os_str())
    }

    /// The value of a flag as text.
    pub fn text(&self, long: &str) -> Result<Option<&str>, Failure> {
        let not_text = || Failure::Usage(format!("--{long}: not valid UTF-8; type it again"));
        self.raw(long).map(|value| value.to_str().ok_or_else(not_text)).transpose()
    }

    /// All values of a flag that may be repeated and may contain comma-separated lists.
    pub fn list(&self, long: &str) -> Vec<String> {
        let given = self.flags.iter().filter(|(name, _)| *name == long);
        let joined: Vec<_> = given.map(|(_, value)| value.to_string_lossy()).collect();
        joined.iter().flat_map(|list| list.split(',')).map(str::to_string).collect()
    }

    /// The value of a flag, parsed by `parse`. Its error becomes a usage error.
    pub fn parsed<T>(&self, long: &str, parse: Parse<T>) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(long)? else { return Ok(None) };
        parse(text).map(Some).map_err(|fault| Failure::Usage(format!("--{long}: {fault}")))
    }
}

/// Parses the arguments after the name of the program.
///
/// # Errors
/// The command, if one is named, and one line of text.
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

/// Accepts `--switch=true` and `--switch=false` too, as mtg-multi does.
fn switch_value(flag: &Flag, value: Option<OsString>) -> Result<OsString, String> {
    let value = value.unwrap_or_default();
    if value.is_empty() || ON.iter().chain(OFF).any(|word| value == *word) {
        Ok(value)
    } else {
        Err(format!("--{}: must be true or false, or have no value", flag.long))
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
