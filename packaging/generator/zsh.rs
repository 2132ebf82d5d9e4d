//! The completion for zsh, by `_arguments` of its own completion system.

use mtbox::cli::args::Flag;
use mtbox::cli::user::DEFAULT_PATHS;

use super::calls::{self, Call, Words};
use super::{ORIGIN, USER_NAMES};

/// The whole file.
pub fn render() -> String {
    let calls = calls::all();
    let functions: String = calls.iter().map(function).collect();
    TEMPLATE
        .replace("@ORIGIN@", ORIGIN)
        .replace("@USER_NAMES@", USER_NAMES)
        .replace("@USUAL@", &DEFAULT_PATHS.join(" "))
        .replace("@FUNCTIONS@", &functions)
}

/// One function per call: it completes what follows, or hands over to the function of the next.
/// Its variables are seen by `_arguments`, which has a `next` of its own.
fn function(call: &Call) -> String {
    let mut out = format!("\n{}() {{\n", name(&call.words));
    out.push_str("    local state line\n    local -A opt_args\n");
    if !call.next.is_empty() {
        out.push_str("    local -a mtbox_next=(\n");
        for (word, about) in &call.next {
            out.push_str(&format!("        '{}:{}'\n", word, quoted(about)));
        }
        out.push_str("    )\n");
    }
    out.push_str("    _arguments -s");
    if !call.next.is_empty() {
        out.push_str(" -C");
    }
    for flag in call.flags() {
        out.push_str(&format!(" \\\n        {}", flag_spec(call, flag)));
    }
    for (words, argument) in call.places().iter().zip(call.arguments()) {
        let colons = if argument.is_optional { "::" } else { ":" };
        let doc = escaped(&format!("{}, {}", argument.name, argument.doc));
        out.push_str(&format!(" \\\n        '{colons}{doc}:{}'", action(words)));
    }
    if !call.next.is_empty() {
        out.push_str(" \\\n        '1:command:{_describe -t commands command mtbox_next}'");
        out.push_str(" \\\n        '*::argument:->rest' && return\n");
        let function = format!("{}_$words[1]", name(&call.words));
        out.push_str("    [[ $state == rest ]] || return\n");
        out.push_str(&format!("    (( $+functions[{function}] )) && {function}"));
    }
    out.push_str("\n}\n");
    out
}

/// `(-x --long)'{-x,--long}'[doc]:VALUE:action`, as `_arguments` reads it.
fn flag_spec(call: &Call, flag: &Flag) -> String {
    let doc = escaped(flag.doc);
    let value = call
        .value(flag)
        .map(|words| format!(":{}:{}", escaped(flag.value.unwrap_or_default()), action(&words)));
    let value = value.unwrap_or_default();
    let long = flag.long;
    // A long flag takes its value behind a blank or an equals sign, a short one at once as well.
    let (plus, equals) = if value.is_empty() { ("", "") } else { ("+", "=") };
    match flag.short {
        Some(short) => {
            format!("'(-{short} --{long})'{{-{short}{plus},--{long}{equals}}}'[{doc}]{value}'")
        }
        None => format!("'--{long}{equals}[{doc}]{value}'"),
    }
}

fn action(words: &Words) -> String {
    match words {
        Words::Any => " ".to_string(),
        Words::Account => "_users".to_string(),
        Words::File => "_files".to_string(),
        Words::UserOfArgument => r#"{_mtbox_users "$line[1]"}"#.to_string(),
        Words::UserOfFlag => r#"{_mtbox_users "$opt_args[--config]"}"#.to_string(),
        Words::Choice(words) => format!("({})", words.join(" ")),
    }
}

fn name(words: &str) -> String {
    let words = words.split_whitespace().map(|word| format!("_{word}"));
    format!("_mtbox{}", words.collect::<String>())
}

/// What a specification of `_arguments` must not hold bare.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace(':', "\\:");
    quoted(&text.replace('[', "\\[").replace(']', "\\]"))
}

/// Within single quotes.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}

const TEMPLATE: &str = r#"#compdef mtbox
# @ORIGIN@

# The names of the users in the config file $1, or in the usual one.
_mtbox_users() {
    local file=${(Q)1}
    local -a users
    if [[ -z $file ]]; then
        for file in @USUAL@; do
            [[ -f $file ]] && break
        done
    fi
    users=(${(f)"$(@USER_NAMES@ ${~file} 2>/dev/null)"})
    compadd -a users
}
@FUNCTIONS@
_mtbox "$@"
"#;
