//! Searches the log of every tested program for data that no log may contain (DECISIONS D17): keys
//! in any encoding, passwords of the config, and complete client addresses.

use base64ct::{Base64, Encoding};

use super::hello::Secret;
use super::hex;

/// The leaks that were found, one per line.
pub fn search(log: &str, configs: &[String], secrets: &[Secret]) -> Vec<String> {
    let lower = log.to_ascii_lowercase().replace('-', "+").replace('_', "/");
    let mut found = Vec::new();
    for secret in secrets {
        for spelling in spellings(&secret.key) {
            if lower.contains(&spelling.to_ascii_lowercase()) {
                found.push(format!("a key as {spelling}"));
            }
        }
    }
    for password in configs.iter().flat_map(|config| passwords(config)) {
        if log.contains(&password) {
            found.push(format!("the password {password}"));
        }
    }
    if !configs.iter().any(|config| config.contains("log-addresses = true")) {
        found.extend(whole_addresses(log).map(|addr| format!("the address {addr}")));
    }
    found
}

/// Hex, and the base64 letters that depend only on the key, at each of the three offsets.
fn spellings(key: &[u8]) -> Vec<String> {
    let shifted = (0..3).map(|shift| {
        let text = Base64::encode_string(&[vec![0; shift], key.to_vec()].concat());
        let (first, last) = ((shift * 8).div_ceil(6), (shift + key.len()) * 8 / 6);
        text[first..last].to_owned()
    });
    shifted.chain([hex(key)]).collect()
}

/// `NAME:PASSWORD@` of each URL, and the password alone if it is long enough to be unambiguous.
fn passwords(config: &str) -> Vec<String> {
    let urls = config.split("://").skip(1).filter_map(|rest| {
        let authority = rest.split(['/', '"', '\n']).next()?;
        Some(authority.rsplit_once('@')?.0.split_once(':')?.1.to_owned())
    });
    let alone = |password: String| match password.len() {
        0..6 => format!(":{password}@"),
        _ => password,
    };
    urls.map(alone).collect()
}

/// Client fields in text or JSON whose value is a complete address, not a network.
fn whole_addresses(log: &str) -> impl Iterator<Item = &str> {
    let starts = [" client=", "\"client-ip\":\"", "\"ip\":\"", "\nCLIENT="];
    starts.into_iter().flat_map(|start| log.split(start).skip(1)).filter_map(|rest| {
        let value = rest.split([' ', '"', '\n', ',']).next()?;
        (!value.ends_with("/24") && !value.ends_with("/48")).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 16] = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";

    fn found(log: &str) -> usize {
        let secrets = [Secret { key: KEY, host: "example.org".to_owned() }];
        let config = "proxies = [\"socks5://u:hunter2@[::1]:1\", \"socks5://u:pw@h\"]\n";
        search(log, &[config.to_owned()], &secrets).len()
    }

    #[test]
    fn every_leak_is_found() {
        for log in [
            "x 00112233445566778899aabbccddeeff y",
            "ee00112233445566778899AABBCCDDEEFF6578",
            "secret=7gARIjNEVWZ3iJmqu8zd7v9leGFtcGxlLm9yZw",
            "secret=ABEiM0RVZneImaq7zN3u/w==",
            "secret=abeim0rvzneimaq7zn3u_w",
            "error=\"hunter2\"",
            "proxy=u:pw@h",
            "event=a client=192.0.2.1",
            "event=a client=2001:db8::1 b=2",
            "{\"client-ip\":\"192.0.2.1\"}",
            "{\"a\":1,\"ip\":\"192.0.2.1\",\"b\":2}",
        ] {
            assert_eq!(found(log), 1, "{log}");
        }
    }

    #[test]
    fn what_may_be_logged_is_no_leak() {
        let log =
            "event=a client=192.0.2.0/24\n{\"client-ip\":\"2001:db8:1::/48\"} pw addr=1.2.3.4:5";
        assert_eq!(found(log), 0);
        let config = "log-addresses = true".to_owned();
        assert_eq!(search("event=a client=192.0.2.1", &[config], &[]), [""; 0]);
    }
}
