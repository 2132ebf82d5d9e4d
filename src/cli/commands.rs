//! The table of commands: names, arguments, flags and help texts, in the order of `mtbox --help`.

use crate::cli::args::{Argument, Command, Flag, ParsedArgs};
use crate::cli::failure::{CHECK_USAGE, Failure};
use crate::cli::output::print;
use crate::cli::{
    access, check, doctor, explain, generate_secret, log_flags, quickstart, run, simple_run, stats,
    uci, user,
};

/// Every command, in the order of the help.
pub const COMMANDS: &[Command] = &[
    Command {
        about: "Write a config with one user unless it exists, print the links, and run the proxy.",
        flags: &[
            Flag::with_value(None, "bind", "IP:PORT", "address for clients"),
            Flag::with_value(
                None,
                "host",
                "NAME",
                "web site that unauthenticated clients see, default: www.google.com",
            ),
            Flag::with_value(None, "config", "PATH", "config file, default: mtbox.toml"),
            log_flags::LEVEL,
            log_flags::FORMAT,
            log_flags::TO,
        ],
        notes: "--bind and --host have no effect if the config exists.",
        examples: &["mtbox quickstart", "mtbox quickstart --host www.example.com"],
        run: quickstart::quickstart,
        ..Command::named("quickstart")
    },
    Command {
        about: "Run the proxy with a config file.",
        arguments: &[CONFIG],
        flags: &[run::USER, log_flags::LEVEL, log_flags::FORMAT, log_flags::TO],
        notes: "With --user, that account must own the directories of pid-file, state-file and \
                sockets, and be\nable to read the config for a reload. Ports below 1024 remain \
                available.",
        examples: &["mtbox run mtbox.toml", "mtbox run mtbox.toml --log-level debug"],
        run: run::run,
        ..Command::named("run")
    },
    Command {
        about: "Run the proxy with a single secret, without a config file.",
        arguments: &[
            Argument::required("BIND", "address for clients, IP:PORT"),
            Argument::required("SECRET", "from `mtbox generate-secret`, - (stdin), or @FILE"),
        ],
        flags: simple_run::FLAGS,
        examples: &[
            "mtbox simple-run 0.0.0.0:443 7gAR…",
            "mtbox simple-run -p 8443 [::]:443 ee00…",
            "mtbox simple-run 0.0.0.0:443 @/run/secrets/mtbox",
        ],
        notes: "Every account of this machine sees a secret in the arguments; prefer - or @FILE.",
        run: simple_run::simple_run,
        ..Command::named("simple-run")
    },
    Command {
        about: "Print a new secret for a host.",
        arguments: &[Argument::required("HOST", "web site that unauthenticated clients see")],
        flags: &[
            Flag::switch(Some('x'), "hex", "print hexadecimal instead of base64"),
            Flag::with_value(
                None,
                "key",
                "KEY",
                "keep this key: 32 hexadecimal digits, an old secret, - (stdin), or @FILE",
            ),
        ],
        examples: &[
            "mtbox generate-secret www.example.com",
            "mtbox generate-secret -x example.org",
        ],
        run: generate_secret::generate_secret,
        ..Command::named("generate-secret")
    },
    Command {
        about: "Print the links of the users as JSON, as plain text or as QR codes.",
        arguments: &[CONFIG],
        flags: access::FLAGS,
        examples: &["mtbox access mtbox.toml", "mtbox access mtbox.toml --user me --qr"],
        run: access::access,
        ..Command::named("access")
    },
    Command {
        about: "Print the errors and warnings of a config file with their positions.",
        arguments: &[CONFIG],
        flags: &[Flag::switch(None, "strict", "treat warnings as errors")],
        examples: &["mtbox check mtbox.toml", "mtbox check --strict mtbox.toml"],
        notes: "If a public address is known, looks up the hosts in the secrets and probes their \
sites,\nfor a few seconds at most.\n\
Exit code: 0 = valid, 1 = invalid, 2 = the file cannot be read.",
        usage_code: CHECK_USAGE,
        run: check::check,
        ..Command::named("check")
    },
    Command {
        about: "Add a user to the config, print the link, and reload the running proxy.",
        arguments: &[NAME],
        flags: user::LINK_FLAGS,
        examples: &["mtbox user add alice", "mtbox user add bob --host www.example.com"],
        notes: user::NOTES,
        run: user::add,
        ..Command::named("user add")
    },
    Command {
        about: "Remove a user from the config and close the user's sessions.",
        arguments: &[NAME],
        flags: &[user::CONFIG],
        examples: &["mtbox user remove alice"],
        notes: user::NOTES,
        run: user::remove,
        ..Command::named("user remove")
    },
    Command {
        about: "Replace the secret of a user, print the new link, and close the user's sessions.",
        arguments: &[NAME],
        flags: user::LINK_FLAGS,
        examples: &["mtbox user rotate alice"],
        notes: user::NOTES,
        run: user::rotate,
        ..Command::named("user rotate")
    },
    Command {
        about: "Disable a user and close the user's sessions. The link stays the same.",
        arguments: &[NAME],
        flags: &[user::CONFIG],
        examples: &["mtbox user disable alice"],
        notes: user::NOTES,
        run: user::disable,
        ..Command::named("user disable")
    },
    Command {
        about: "Enable a disabled user.",
        arguments: &[NAME],
        flags: &[user::CONFIG],
        examples: &["mtbox user enable alice"],
        notes: user::NOTES,
        run: user::enable,
        ..Command::named("user enable")
    },
    Command {
        about: "List the users of a config file with their hosts.",
        flags: &[user::CONFIG, Flag::switch(None, "json", "print JSON")],
        examples: &["mtbox user list"],
        run: user::list,
        ..Command::named("user list")
    },
    Command {
        about: "Print the connections and the traffic of each user of the running proxy.",
        arguments: &[CONFIG],
        flags: &[JSON],
        examples: &["mtbox stats mtbox.toml", "mtbox stats --json mtbox.toml"],
        notes: ADMIN_NOTES,
        run: stats::stats,
        ..Command::named("stats")
    },
    Command {
        about: "Print why the running proxy refused users, and the remedies.",
        arguments: &[CONFIG, Argument::optional("NAME", "user name, default: all users")],
        flags: &[JSON],
        examples: &["mtbox explain mtbox.toml alice", "mtbox explain --json mtbox.toml"],
        notes: ADMIN_NOTES,
        run: explain::explain,
        ..Command::named("explain")
    },
    Command {
        about: "Check everything that a config depends on, and print the remedies.",
        arguments: &[CONFIG],
        flags: if HAS_DOCTOR { doctor::FLAGS } else { &[] },
        examples: &["mtbox doctor mtbox.toml", "mtbox doctor mtbox.toml --as-censor"],
        notes: if HAS_DOCTOR { doctor::NOTES } else { "" },
        run: if HAS_DOCTOR { doctor::doctor } else { no_doctor },
        ..Command::named("doctor")
    },
    Command {
        about: "Convert /etc/config/mtbox of OpenWrt to a config file.",
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

const CONFIG: Argument = Argument::required("CONFIG", "config file");
const NAME: Argument = Argument::required("NAME", "user name");
const JSON: Flag = Flag::switch(None, "json", "print the proxy's JSON");
const ADMIN_NOTES: &str = "Connects to api-bind-to and to no other address.";

/// The mini flavour has the command, but it prints only where to find the full one.
const HAS_DOCTOR: bool = cfg!(feature = "doctor");

fn no_doctor(_: &ParsedArgs) -> Result<(), Failure> {
    Err(Failure::error(
        "this build has no doctor; run the full mtbox with the same config on any machine in this \
         network",
    ))
}

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
