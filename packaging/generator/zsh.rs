//! The completion for zsh, based on `_arguments` of its completion system.

use mtbox::cli::args::Flag;
use mtbox::cli::user::DEFAULT_PATHS;

use super::calls::{self, Call, Words};
use super::{ORIGIN, USER_NAMES};

/// The text of the file.
pub fn render() -> String {
    let calls = calls::all();
    let functions: String = calls.iter().map(function).collect();
    TEMPLATE
        .replace("@ORIGIN@", ORIGIN)
        .replace("@USER_NAMES@", USER_NAMES)
        .replace("@USUAL@", &DEFAULT_PATHS.join(" "))
        .replace("@FUNCTIONS@", &functions)
}

/// The function of one call. Completes its arguments, or calls the function of the next word.
/// `_arguments` sees the variables of its caller and has a `next` of its own, so the name here is
/// `mtbox_next`.
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

/// A flag in the syntax of `_arguments`: `(-x --long)'{-x,--long}'[doc]:VALUE:action`.
fn flag_spec(call: &Call, flag: &Flag) -> String {
    let doc = escaped(flag.doc);
    let value = call
        .value(flag)
        .map(|words| format!(":{}:{}", escaped(flag.value.unwrap_or_default()), action(&words)));
    let value = value.unwrap_or_default();
    let long = flag.long;
    // `=`: the value follows a blank or an equals sign. `+`: it may also follow directly.
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

/// Escapes the special characters of an `_arguments` specification.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace(':', "\\:");
    quoted(&text.replace('[', "\\[").replace(']', "\\]"))
}

/// Escapes the text for single quotes.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}

const TEMPLATE: &str = r#"#compdef mtbox
# @ORIGIN@

# Offers the names of the users in the config file $1; default: the usual file.
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
