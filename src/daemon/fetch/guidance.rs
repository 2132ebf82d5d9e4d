//! Advice about the host in each secret: does every address of the name lead to this machine, does
//! the site offer X25519MLKEM768, does its IPv6 address answer. `advise.rs` gives it once after the
//! start of the daemon; `doctor` and `check` use the same comparison and texts.

use std::fmt;
use std::net::IpAddr;

/// How the addresses of a name compare with those of this machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The addresses that are not ours.
    pub elsewhere: Vec<IpAddr>,
    /// Addresses of a family of which no address of ours is known.
    pub unsure: Vec<IpAddr>,
}

impl Comparison {
    /// Compares the addresses of a name with ours.
    pub fn of(ips: &[IpAddr], own: &[IpAddr]) -> Self {
        let is_own = |ip: &&IpAddr| own.iter().any(|own| own.to_canonical() == ip.to_canonical());
        let is_known = |ip: &&IpAddr| own.iter().any(|own| is_v4(own) == is_v4(ip));
        let others = ips.iter().filter(|ip| !is_own(ip)).copied();
        let (elsewhere, unsure) = others.partition(|ip| is_known(&ip));
        Self { elsewhere, unsure }
    }

    /// What is not known, as a phrase; `None` = nothing.
    pub fn unknown(&self) -> Option<String> {
        let family = if is_v4(self.unsure.first()?) { 4 } else { 6 };
        Some(format!(
            "whether {} leads here is unknown, since the IPv{family} address of this machine is \
             unknown: set public-ipv{family}",
            joined(&self.unsure)
        ))
    }
}

/// Whether an address is IPv4, mapped ones included.
pub fn is_v4(ip: &IpAddr) -> bool {
    ip.to_canonical().is_ipv4()
}

/// Addresses, separated by commas.
pub fn joined(ips: &[IpAddr]) -> String {
    let texts: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
    texts.join(", ")
}

/// Advice about one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// The host.
    pub host: String,
    /// One of the texts below.
    pub what: &'static str,
    /// Addresses or an error; may be empty.
    pub detail: String,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, what, detail } = self;
        match detail.as_str() {
            "" => write!(f, "{host}: {what}"),
            detail => write!(f, "{host}: {what} ({detail})"),
        }
    }
}

/// The name in a secret leads elsewhere.
pub const ELSEWHERE: &str = "an address of the name in the secret does not lead to this machine, \
    which a censor can see";
/// A name with an address of a family of which ours is unknown.
pub const UNSURE: &str = "not every address of the name in the secret can be compared with this \
    machine";
/// A name that was looked up in vain.
pub const UNRESOLVED: &str = "the name in the secret cannot be resolved";
/// A site whose IPv6 address takes no connection.
pub const SILENT_V6: &str = "the site does not answer at its IPv6 address: let the web server \
    listen there, or remove the AAAA record";
/// A site without the post-quantum group.
pub const NO_HYBRID: &str = "the site does not offer X25519MLKEM768: clients behind such a site \
    are blocked more often since June 2026, since their hello offers it; update its TLS library, \
    or choose another site";

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn every_address_that_leads_elsewhere_and_an_unknown_family_are_found() {
        let found = |name: &[&str], own: &[&str]| {
            let Comparison { elsewhere, unsure } = Comparison::of(&ips(name), &ips(own));
            (joined(&elsewhere), joined(&unsure))
        };
        let (v4, v6) = ("192.0.2.1", "2001:db8::1");
        assert_eq!(found(&[v4, v6], &[v4, v6]), (String::new(), String::new()));
        assert_eq!(found(&[v4, v6], &[v4]), (String::new(), v6.to_owned()));
        assert_eq!(found(&[v4, v6], &[v6]), (String::new(), v4.to_owned()));
        assert_eq!(found(&[v4, v6], &["192.0.2.9"]), (v4.to_owned(), v6.to_owned()));
        assert_eq!(found(&[v4, v6], &[v4, "2001:db8::2"]), (v6.to_owned(), String::new()));
        assert_eq!(found(&["::ffff:192.0.2.1"], &[v4]), (String::new(), String::new()));
        let two = "192.0.2.2, 192.0.2.3".to_owned();
        assert_eq!(found(&["192.0.2.2", v4, "192.0.2.3"], &[v4]), (two, String::new()));
        let unknown = "whether 192.0.2.1 leads here is unknown, since the IPv4 address of this \
                       machine is unknown: set public-ipv4";
        assert_eq!(Comparison::of(&ips(&[v4]), &[]).unknown().as_deref(), Some(unknown));
        assert_eq!(Comparison::of(&ips(&[v4]), &ips(&[v4])).unknown(), None);
    }
}
