//! The commands: one table of what they are called and what they take, one loop that reads the
//! arguments by it. Help is printed from the same table.

pub mod access;
pub mod admin_client;
pub mod args;
pub mod check;
pub mod doctor;
pub mod egress_summary;
pub mod explain;
pub mod file;
pub mod generate_secret;
pub mod help;
pub mod json;
pub mod log_flags;
pub mod public_addrs;
pub mod public_ip;
pub mod qr;
pub mod quickstart;
pub mod run;
pub mod simple_run;
pub mod stats;
pub mod uci;
pub mod user;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use args::{Argument, Command, Flag, Invocation};

/// Why a command did not do what it was asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The arguments make no sense; one line.
    Usage(String),
    /// They do, but it did not work; one line each.
    Trouble(Vec<String>),
    /// As before, and everything about it has been said.
    Said,
    /// Everything has been said; leave with this exit code.
    Exit(u8),
}

impl Failure {
    /// A run-time failure of one line.
    pub fn trouble(line: impl Into<String>) -> Self {
        Self::Trouble(vec![line.into()])
    }
}

/// Runs the command that the arguments name and returns the exit code for the shell.
pub fn main() -> ExitCode {
    ExitCode::from(dispatch(std::env::args_os().skip(1)))
}

fn dispatch(arguments: impl Iterator<Item = OsString>) -> u8 {
    let (command, outcome) = match args::read(arguments) {
        Ok(Invocation::Version) => {
            say(&format!("{}\n", help::version()));
            return SUCCESS;
        }
        Ok(Invocation::Help(None)) => {
            say(&help::overview());
            return SUCCESS;
        }
        Ok(Invocation::Help(Some(command))) => {
            say(&help::of(command));
            return SUCCESS;
        }
        Ok(Invocation::Run(command, given)) => (Some(command), (command.run)(&given)),
        Err((command, fault)) => (command, Err(Failure::Usage(fault))),
    };
    match outcome {
        Ok(()) => SUCCESS,
        Err(Failure::Usage(line)) => {
            complain(&format!("error: {line}"));
            command.map_or(USAGE, |command| command.usage_code)
        }
        Err(Failure::Trouble(lines)) => {
            lines.iter().for_each(|line| complain(&format!("error: {line}")));
            TROUBLE
        }
        Err(Failure::Said) => TROUBLE,
        Err(Failure::Exit(code)) => code,
    }
}

/// Writes to stdout. Who closed it wants no more, which is no failure.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes one line to stderr under our name.
pub fn complain(line: &str) {
    complain_bare(&format!("mtbox: {line}"));
}

/// Writes one line to stderr as it is.
pub fn complain_bare(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Whether this build has a doctor; the mini flavour sends for one.
const HAS_DOCTOR: bool = cfg!(feature = "doctor");

fn no_doctor(_: &args::ParsedArgs) -> Result<(), Failure> {
    Err(Failure::trouble(
        "this build has no doctor; run the full mtbox with the same config, on any machine of this \
         network",
    ))
}

/// Every command, in the order of the help.
pub const COMMANDS: &[Command] = &[
    Command {
        about: "Make a config with one user if there is none, print the links, and run.",
        flags: &[
            Flag::with_value(None, "bind", "IP:PORT", "where clients connect (first start only)"),
            Flag::with_value(
                None,
                "host",
                "NAME",
                "site that strangers see, www.google.com if not given (first start only)",
            ),
            Flag::with_value(None, "config", "PATH", "the file, mtbox.toml if not given"),
            log_flags::LEVEL,
            log_flags::FORMAT,
            log_flags::TO,
        ],
        examples: &["mtbox quickstart", "mtbox quickstart --host www.example.com"],
        run: quickstart::quickstart,
        ..Command::named("quickstart")
    },
    Command {
        about: "Run the proxy by a config file.",
        arguments: &[CONFIG],
        flags: &[run::USER, log_flags::LEVEL, log_flags::FORMAT, log_flags::TO],
        notes: "With --user, the folders of pid-file, state-file and sockets must be that one's,\n\
                who must be able to read the config at a reload. Ports below 1024 stay allowed.",
        examples: &["mtbox run mtbox.toml", "mtbox run mtbox.toml --log-level debug"],
        run: run::run,
        ..Command::named("run")
    },
    Command {
        about: "Run the proxy for one secret, without a file.",
        arguments: &[
            Argument::required("BIND", "where clients connect, IP:PORT"),
            Argument::required("SECRET", "from `mtbox generate-secret`"),
        ],
        flags: simple_run::FLAGS,
        examples: &[
            "mtbox simple-run 0.0.0.0:443 7gAR…",
            "mtbox simple-run -p 8443 [::]:443 ee00…",
        ],
        run: simple_run::simple_run,
        ..Command::named("simple-run")
    },
    Command {
        about: "Make a secret for a host and print it.",
        arguments: &[Argument::required("HOST", "site that strangers see")],
        flags: &[Flag::switch(Some('x'), "hex", "print hexadecimal instead of base64")],
        examples: &[
            "mtbox generate-secret www.example.com",
            "mtbox generate-secret -x example.org",
        ],
        run: generate_secret::generate_secret,
        ..Command::named("generate-secret")
    },
    Command {
        about: "Print the links for the users of a config file, as JSON, plain or as QR codes.",
        arguments: &[CONFIG],
        flags: access::FLAGS,
        examples: &["mtbox access mtbox.toml", "mtbox access mtbox.toml --user me --qr"],
        run: access::access,
        ..Command::named("access")
    },
    Command {
        about: "Tell what is wrong with a config file, and where.",
        arguments: &[CONFIG],
        flags: &[Flag::switch(None, "strict", "warnings are errors")],
        examples: &["mtbox check mtbox.toml", "mtbox check --strict mtbox.toml"],
        notes: "Exit code: 0 = it can be used, 1 = it cannot, 2 = it cannot be read.",
        usage_code: CHECK_USAGE,
        run: check::check,
        ..Command::named("check")
    },
    Command {
        about: "Add a user to the config, print the link, and tell the running proxy.",
        arguments: &[NAME],
        flags: user::ADD,
        examples: &["mtbox user add alice", "mtbox user add bob --host www.example.com"],
        notes: user::NOTES,
        run: user::add,
        ..Command::named("user add")
    },
    Command {
        about: "Take a user out of the config; sessions end.",
        arguments: &[NAME],
        flags: &[user::CONFIG],
        examples: &["mtbox user remove alice"],
        notes: user::NOTES,
        run: user::remove,
        ..Command::named("user remove")
    },
    Command {
        about: "Give a user another secret, and print the new link; sessions end.",
        arguments: &[NAME],
        flags: user::ADD,
        examples: &["mtbox user rotate alice"],
        notes: user::NOTES,
        run: user::rotate,
        ..Command::named("user rotate")
    },
    Command {
        about: "Keep a user out for now; sessions end, the link stays the same.",
        arguments: &[NAME],
        flags: &[user::CONFIG],
        examples: &["mtbox user disable alice"],
        notes: user::NOTES,
        run: user::disable,
        ..Command::named("user disable")
    },
    Command {
        about: "Let a disabled user in again.",
        arguments: &[NAME],
        flags: &[user::CONFIG],
        examples: &["mtbox user enable alice"],
        notes: user::NOTES,
        run: user::enable,
        ..Command::named("user enable")
    },
    Command {
        about: "List the users of a config file, with their hosts.",
        flags: &[user::CONFIG, Flag::switch(None, "json", "for programs")],
        examples: &["mtbox user list"],
        run: user::list,
        ..Command::named("user list")
    },
    Command {
        about: "Ask the running proxy who is connected and who uses what.",
        arguments: &[CONFIG],
        flags: &[Flag::switch(None, "json", "as the proxy says it, for programs")],
        examples: &["mtbox stats mtbox.toml", "mtbox stats --json mtbox.toml"],
        notes: "Asks where api-bind-to listens. Nothing is asked of anybody else.",
        run: stats::stats,
        ..Command::named("stats")
    },
    Command {
        about: "Ask the running proxy why a user was refused, and what helps.",
        arguments: &[CONFIG, Argument::optional("NAME", "the user; everybody, if left out")],
        flags: &[Flag::switch(None, "json", "as the proxy says it, for programs")],
        examples: &["mtbox explain mtbox.toml alice", "mtbox explain --json mtbox.toml"],
        notes: "Asks where api-bind-to listens. Nothing is asked of anybody else.",
        run: explain::explain,
        ..Command::named("explain")
    },
    Command {
        about: "Look at everything that a config depends on, and say what to do.",
        arguments: &[CONFIG],
        flags: if HAS_DOCTOR { doctor::FLAGS } else { &[] },
        examples: &["mtbox doctor mtbox.toml", "mtbox doctor mtbox.toml --as-censor"],
        notes: if HAS_DOCTOR { doctor::NOTES } else { "" },
        run: if HAS_DOCTOR { doctor::doctor } else { no_doctor },
        ..Command::named("doctor")
    },
    Command {
        about: "Make a config file from /etc/config/mtbox on OpenWrt.",
        flags: uci::FLAGS,
        examples: &["mtbox uci --package mtbox --output /var/etc/mtbox/mtbox.toml"],
        notes: uci::NOTES,
        usage_code: CHECK_USAGE,
        run: uci::uci,
        ..Command::named("uci")
    },
    Command {
        about: "Print example.config.toml.",
        is_hidden: true,
        run: |_| {
            say(&crate::config::render::example());
            Ok(())
        },
        ..Command::named("example-config")
    },
];

const CONFIG: Argument = Argument::required("CONFIG", "the config file");

const NAME: Argument = Argument::required("NAME", "the user");

const SUCCESS: u8 = 0;
const TROUBLE: u8 = 1;
const CHECK_USAGE: u8 = 2;
/// What the reference's argument parser says (spec: cli 1).
pub const USAGE: u8 = 80;
