//! The completion for fish.

use mtbox::cli::user::DEFAULT_PATHS;

use super::calls::{self, Words};
use super::{ORIGIN, USER_NAMES};

/// The text of the file.
pub fn render() -> String {
    let calls = calls::all();
    let mut valued = String::new();
    let mut rules = String::new();
    for call in &calls {
        let taking = call.flags().filter(|flag| call.value(flag).is_some());
        let names: Vec<String> = taking
            .flat_map(|flag| {
                let short = flag.short.map(|short| format!("-{short}"));
                short.into_iter().chain([format!("--{}", flag.long)])
            })
            .collect();
        if !names.is_empty() {
            valued.push_str(&format!(
                "        case '{}'\n            printf '%s\\n' {}\n",
                call.words,
                names.join(" ")
            ));
        }
        rules.push('\n');
        for (word, about) in &call.next {
            rules.push_str(&format!(
                "complete -c mtbox -n '__mtbox_at \"{}\" 0' -a {word} -d '{}'\n",
                call.words,
                quoted(about)
            ));
        }
        for (place, words) in call.places().iter().enumerate() {
            let Some(offer) = offer(words) else { continue };
            rules.push_str(&format!(
                "complete -c mtbox -n '__mtbox_at \"{}\" {place}' {offer}\n",
                call.words
            ));
        }
        for flag in call.flags() {
            let short = flag.short.map(|short| format!(" -s {short}")).unwrap_or_default();
            let value = call.value(flag).map(|words| match offer(&words) {
                Some(offer) if words == Words::File => format!(" -r {offer}"),
                Some(offer) => format!(" -x {offer}"),
                None => " -x".to_string(),
            });
            rules.push_str(&format!(
                "complete -c mtbox -n '__mtbox_at \"{}\"'{short} -l {}{} -d '{}'\n",
                call.words,
                flag.long,
                value.unwrap_or_default(),
                quoted(flag.doc)
            ));
        }
    }
    let starts = calls.iter().filter(|call| !call.next.is_empty());
    let starts: Vec<String> = starts.map(|call| format!("'{}'", call.words)).collect();
    TEMPLATE
        .replace("@ORIGIN@", ORIGIN)
        .replace("@USER_NAMES@", USER_NAMES)
        .replace("@USUAL@", &DEFAULT_PATHS.join(" "))
        .replace("@STARTS@", &starts.join(" "))
        .replace("@VALUED@", &valued)
        .replace("@RULES@", &rules)
}

fn offer(words: &Words) -> Option<String> {
    match words {
        Words::Any => None,
        Words::Account => Some("-a '(__fish_complete_users)'".to_string()),
        Words::File => Some("-F".to_string()),
        Words::UserOfArgument => Some("-a '(__mtbox_users (__mtbox_words)[2])'".to_string()),
        Words::UserOfFlag => Some("-a '(__mtbox_users (__mtbox_config))'".to_string()),
        Words::Choice(words) => Some(format!("-a '{}'", words.join(" "))),
    }
}

/// Escapes the text for single quotes.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

const TEMPLATE: &str = r#"# fish completion for mtbox
# @ORIGIN@

# Prints the flags of the call $argv[1] that take a value.
function __mtbox_valued
    switch $argv[1]
@VALUED@    end
end

# Prints the call before the cursor on one line, then each of its arguments on one line.
function __mtbox_words
    set -l call ''
    set -l arguments
    set -l is_value 0
    for word in (commandline -opc)[2..-1]
        if test $is_value = 1
            set is_value 0
        else if string match -q -- '-*' $word
            contains -- $word (__mtbox_valued $call); and set is_value 1
        else if contains -- $call @STARTS@
            set call (string trim -- "$call $word")
        else
            set -a arguments $word
        end
    end
    printf '%s\n' $call $arguments
end

# Succeeds if the call before the cursor is $argv[1], with $argv[2] arguments if given.
function __mtbox_at
    set -l words (__mtbox_words)
    test "$words[1]" = "$argv[1]"; or return 1
    test (count $argv) = 1; or test (math (count $words) - 1) = $argv[2]
end

# Prints the value of the flag --config before the cursor, if present.
function __mtbox_config
    set -l words (commandline -opc)
    if set -l at (contains -i -- --config $words)
        printf '%s\n' $words[(math $at + 1)]
    else
        string replace -f -- --config= '' $words
    end
end

# Prints the names of the users in the config file $argv[1]; default: the usual file.
function __mtbox_users
    set -l file (string replace -r '^~' ~ -- $argv[1])
    if test -z "$file"
        for usual in @USUAL@
            set file $usual
            test -f $file; and break
        end
    end
    @USER_NAMES@ $file 2>/dev/null
end

complete -c mtbox -f
@RULES@"#;
