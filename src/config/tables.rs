//! Reads the two tables whose keys the operator chooses: users and data centres.

use std::net::SocketAddr;

use toml_edit::Value;

use crate::config::draft::LocatedSecret;
use crate::config::field::{Field, NOT_A_STRING};
use crate::config::report::printable_name;
use crate::config::toml_item::{TomlEntry, TomlItem, TomlTable};
use crate::config::{addresses, guard, keys, suggest};
use crate::proto::secret::Secret;

impl Field<'_> {
    /// Reads `[secrets]`.
    pub(super) fn secrets(&mut self, table: TomlTable<'_>) {
        for TomlEntry { name, item, .. } in table.entries() {
            self.draft.has_secret = true;
            let at = item.start(self.at);
            if let Some(text) = dotted_name(name, item) {
                self.report.error(at, text);
                continue;
            }
            let lower = name.to_ascii_lowercase().replace('_', "-");
            let Some(text) = item.value().and_then(Value::as_str) else {
                // TOML gives a global key below this header to this table.
                let home = match guard::is_guard(&lower) && keys::find(&lower).is_none() {
                    true => Some(OFF.to_owned()),
                    false => suggest::move_hint(&lower),
                };
                self.not_a_user(name, at, home, NOT_A_STRING);
                continue;
            };
            match Secret::parse(text) {
                Ok(secret) => {
                    self.draft.secrets.push((name.to_string(), LocatedSecret { secret, at }));
                }
                Err(_) if Secret::parse(name).is_ok() => {
                    self.report.error(at, "name and secret are swapped; write NAME = \"SECRET\"");
                }
                Err(fault) => {
                    // Global keys only: `host` is a valid name of a user.
                    let home = keys::find(&lower).and(suggest::move_hint(&lower));
                    self.not_a_user(name, at, home, &fault.to_string());
                }
            }
        }
    }

    fn not_a_user(&mut self, name: &str, at: usize, home: Option<String>, fault: &str) {
        let text = match home {
            Some(home) => format!("{name}: below [secrets] this names a user; {home}"),
            None => format!("{}: {fault}", printable_name(name)),
        };
        self.report.error(at, text);
    }

    /// Reads `[telegram.dc-overrides]`.
    pub(super) fn dc_overrides(&mut self, table: TomlTable<'_>) {
        for TomlEntry { name, item, .. } in table.entries() {
            let at = item.start(self.at);
            let Some(dc) = name.parse().ok().filter(|dc| *dc > 0_u16) else {
                let text = format!("{}: not a data centre; write 1 to 65535", printable_name(name));
                self.report.error(at, text);
                continue;
            };
            let list = match item.value() {
                Some(value) => self.parse_list(value, addresses::socket_addr),
                None => Vec::new(),
            };
            let list: Vec<SocketAddr> = list.into_iter().map(|(addr, _)| addr).collect();
            if list.is_empty() && !self.report.has_errors() {
                let text = format!("data centre {dc}: no address; write a list of IP:port");
                self.report.error(at, text);
                continue;
            }
            let known = &mut self.draft.settings.dc_overrides;
            match known.binary_search_by_key(&dc, |(known, _)| *known) {
                Ok(_) => {
                    let text = format!("duplicate data centre {dc}; remove one");
                    self.report.error(at, text);
                }
                Err(place) => known.insert(place, (dc, list)),
            }
        }
    }
}

/// What to do if TOML took a user's name with dots and without quotes as a path.
fn dotted_name(name: &str, item: TomlItem<'_>) -> Option<String> {
    let (mut path, mut table) = (vec![name.to_owned()], item.table()?);
    loop {
        let [entry] = <[TomlEntry<'_>; 1]>::try_from(table.entries()).ok()?;
        path.push(entry.name.to_owned());
        match entry.item.table() {
            Some(inner) => table = inner,
            None => break entry.item.value()?.as_str().map(drop)?,
        }
    }
    if path.len() == 2 && path.last().is_some_and(|last| last == "secret") {
        return Some(format!("write {} = \"SECRET\" below [secrets]", printable_name(name)));
    }
    let is_short = path.iter().all(|part| !printable_name(part).starts_with('('));
    let path = path.join(".");
    let name = if is_short { format!("{path:?}") } else { printable_name(&path) };
    Some(format!("{name}: put the name in quotes: {name} = \"SECRET\""))
}

const OFF: &str = "to keep a user out, write disabled-users = [\"NAME\"] above the first [table]";
