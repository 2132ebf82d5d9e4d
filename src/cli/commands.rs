//! The table of commands: names, arguments, flags and help texts, in the order of `mtbox --help`.

use crate::cli::args::{Argument, Command, Flag, ParsedArgs};
use crate::cli::failure::{CHECK_USAGE, Failure};
use crate::cli::output::print;
use crate::cli::{
    access, check, doctor, explain, generate_secret, log_flags, quickstart, run, simple_run, stats,
    uci, user,
};

/// Whether this build has a doctor; the mini flavour sends for one.
const HAS_DOCTOR: bool = cfg!(feature = "doctor");

fn no_doctor(_: &ParsedArgs) -> Result<(), Failure> {
    Err(Failure::error(
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
            print(&crate::config::render::example());
            Ok(())
        },
        ..Command::named("example-config")
    },
];

const CONFIG: Argument = Argument::required("CONFIG", "the config file");

const NAME: Argument = Argument::required("NAME", "the user");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{self, Invocation};
    use crate::config::settings::{LogChoice, LogFormat, LogLevel, LogSettings, LogTo};

    fn log_choice(words: &[&str]) -> LogChoice {
        match args::read(COMMANDS, words.iter().map(Into::into)) {
            Ok(Invocation::Run(_, args)) => log_flags::read(&args).unwrap(),
            _ => panic!("{words:?}"),
        }
    }

    #[test]
    fn every_command_that_runs_has_log_flags_and_they_win_over_the_file() {
        for command in [&["run", "a"][..], &["simple-run", "b", "s"], &["quickstart"]] {
            let file = LogSettings { to: LogTo::Syslog, ..LogSettings::default() };
            assert_eq!(log_choice(command).apply_to(file), file);
            let flags = ["--log-level=Warn", "--log-format", "json", "--log-to=journal"];
            let all = log_choice(&[command, &flags].concat());
            let wanted =
                LogSettings { level: LogLevel::Warn, format: LogFormat::Json, to: LogTo::Journal };
            assert_eq!(all.apply_to(file), wanted);
        }
    }
}
