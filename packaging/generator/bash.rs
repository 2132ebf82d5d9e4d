//! The completion for bash. Requires bash 4 and sed(1) only: on a minimal system, `/etc/profile`
//! can load it without the bash-completion package.

use mtbox::cli::user::DEFAULT_PATHS;

use super::calls::{self, Call, Words};
use super::{ORIGIN, USER_NAMES};

/// The text of the file.
pub fn render() -> String {
    let mut shapes = String::new();
    let mut values = String::new();
    for call in calls::all() {
        shape(&mut shapes, &call);
        for flag in call.flags() {
            let Some(words) = call.value(flag) else { continue };
            if words == Words::Any {
                continue;
            }
            let names = spellings(flag.short, flag.long);
            let patterns: Vec<String> =
                names.iter().map(|name| format!("'{} {name}'", call.words)).collect();
            values.push_str(&format!(
                "        {}) kind={} ;;\n",
                patterns.join(" | "),
                quoted(&kind(&words))
            ));
        }
    }
    TEMPLATE
        .replace("@ORIGIN@", ORIGIN)
        .replace("@USER_NAMES@", USER_NAMES)
        .replace("@USUAL@", &DEFAULT_PATHS.join(" "))
        .replace("@SHAPES@", &shapes)
        .replace("@VALUES@", &values)
}

fn shape(out: &mut String, call: &Call) {
    let next = call.next.iter().map(|(word, _)| word.to_string()).collect();
    let mut flags = Vec::new();
    let mut valued = Vec::new();
    for flag in call.flags() {
        let names = spellings(flag.short, flag.long);
        if call.value(flag).is_some() {
            valued.extend(names.clone());
        }
        flags.extend(names);
    }
    let places: Vec<String> = call.places().iter().map(|words| quoted(&kind(words))).collect();
    out.push_str(&format!("        {})\n", quoted(&call.words)));
    let sets: [(&str, Vec<String>); 3] = [("next", next), ("flags", flags), ("valued", valued)];
    for (name, words) in sets.iter().filter(|(_, words)| !words.is_empty()) {
        out.push_str(&format!("            {name}={}\n", quoted(&words.join(" "))));
    }
    if !places.is_empty() {
        out.push_str(&format!("            places=({})\n", places.join(" ")));
    }
    out.push_str("            ;;\n");
}

fn spellings(short: Option<char>, long: &str) -> Vec<String> {
    short.map(|short| format!("-{short}")).into_iter().chain([format!("--{long}")]).collect()
}

/// The argument of `_mtbox_offer`.
fn kind(words: &Words) -> String {
    match words {
        Words::Any => "any".to_string(),
        Words::Account => "account".to_string(),
        Words::File => "file".to_string(),
        Words::UserOfArgument | Words::UserOfFlag => "user".to_string(),
        Words::Choice(words) => words.join(" "),
    }
}

fn quoted(text: &str) -> String {
    format!("'{text}'")
}

const TEMPLATE: &str = r#"# bash completion for mtbox
# @ORIGIN@

# Prints the names of the users in the config file $1; default: the usual file.
_mtbox_users() {
    local file=${1/#\~/$HOME}
    if [[ -z $file ]]; then
        for file in @USUAL@; do
            [[ -f $file ]] && break
        done
    fi
    @USER_NAMES@ "$file" 2>/dev/null
}

# Sets what may follow the words $1: next words, flags, flags with a value, places.
_mtbox_shape() {
    next='' flags='' valued='' places=()
    case $1 in
@SHAPES@    esac
}

# Sets $kind to the kind of value of the flag $2 after the words $1.
_mtbox_value() {
    case "$1 $2" in
@VALUES@        *) kind=any ;;
    esac
}

# Offers the words of the kind $1 that begin with $2.
_mtbox_offer() {
    case $1 in
        any) ;;
        account) mapfile -t COMPREPLY < <(compgen -u -- "$2") ;;
        file)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$2")
            ;;
        user) mapfile -t COMPREPLY < <(compgen -W "$(_mtbox_users "$config")" -- "$2") ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2") ;;
    esac
}

_mtbox() {
    local current=${COMP_WORDS[COMP_CWORD]}
    local call='' flag='' config='' kind='' next flags valued places word
    local -i at=0 place=0
    COMPREPLY=()
    _mtbox_shape ''
    for ((at = 1; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        if [[ $word == '=' ]]; then
            # bash cuts --flag=value into three.
            flag=${COMP_WORDS[at - 1]}
        elif [[ -n $flag ]]; then
            [[ $flag == --config ]] && config=$word
            flag=''
        elif [[ $word == -* ]]; then
            [[ " $valued " == *" $word "* ]] && flag=$word
        elif [[ -n $next ]]; then
            call=${call:+$call }$word
            _mtbox_shape "$call"
        else
            [[ ${places[place]} == file && -z $config ]] && config=$word
            place+=1
        fi
    done
    if [[ $current == '=' ]]; then
        flag=${COMP_WORDS[COMP_CWORD - 1]} current=''
    fi
    if [[ -n $flag ]]; then
        _mtbox_value "$call" "$flag"
        _mtbox_offer "$kind" "$current"
    elif [[ $current == -* ]]; then
        _mtbox_offer "$flags" "$current"
    elif [[ -n $next ]]; then
        _mtbox_offer "$next" "$current"
    else
        _mtbox_offer "${places[place]:-any}" "$current"
    fi
}

complete -F _mtbox mtbox
"#;
