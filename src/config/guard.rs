//! Tells by its name whether a setting of another program, or one that is misspelt, is meant to
//! keep a client out. Such a setting is never passed over with a warning (DECISIONS D191). Names
//! are in lower case.

use crate::config::keys::KEYS;
use crate::util::spelling::nearest;

/// Whether a setting with this name and value keeps a client out. `has_effect`: the value is
/// neither off nor empty; `has_false`: it turns something off. `is_of_users`: the setting belongs
/// to the users of another program.
pub(super) fn keeps_out(name: &str, is_of_users: bool, has_effect: bool, has_false: bool) -> bool {
    (has_effect && (is_guard(name) || is_limit(name, is_of_users)))
        || (has_false && is_of_users && has_word(name, "active enable enabled"))
}

/// Whether a name is one of a setting that keeps a client out.
pub(super) fn is_guard(name: &str) -> bool {
    has_word(name, GUARDS)
        || is_in(VERBS, name)
        || (has_word(name, VERBS) && has_word(name, OBJECTS))
        || (has_word(name, "active enabled only permit") && has_word(name, "clients secrets users"))
        || nearest(name, OURS.split(' ')).is_some()
}

/// Whether a name is one of a limit for a person. Below a table of users, it may also be the name
/// of a key of ours.
fn is_limit(name: &str, is_of_users: bool) -> bool {
    let is_ours = || KEYS.iter().any(|key| key.split().1 == name.replace('_', "-"));
    has_word(name, "limit limits max maximum")
        && has_word(name, COUNTED)
        && (is_of_users || !is_ours())
}

/// Whether a table of this name has the users of another program.
pub(super) fn is_of_users(name: &str) -> bool {
    is_in("access accounts clients secret-limits user users", name)
}

/// Whether a word is in a list of words, separated by blanks.
pub(super) fn is_in(words: &str, word: &str) -> bool {
    words.split(' ').any(|one| one == word)
}

fn has_word(name: &str, words: &str) -> bool {
    name.split(['-', '_', '.']).any(|word| is_in(words, word))
}

/// Words that keep a client out.
const GUARDS: &str = "acl allowlist ban banned bans blacklist blocklist denied denylist expiration \
    expirations expire expired expires expiry firewall geoip quota quotas revoked suspended \
    trusted until whitelist";
/// Words that keep a client out alone, or beside a word of [`OBJECTS`].
const VERBS: &str = "allow allowed block blocked deny disable disabled drop inactive off reject";
const OBJECTS: &str = "accounts address addresses asn cidr cidrs client clients countries country \
    from ip ips list lists names network networks secret secrets subnets user users";
/// What a limit for a person counts.
const COUNTED: &str = "client clients conn connection connections conns devices ip ips sessions \
    traffic user users";
/// Keys and tables that are misspelt or misplaced.
const OURS: &str = "disabled-users secret-limits allowlist blocklist proxy-protocol-trusted";
