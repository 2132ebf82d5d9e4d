//! `mtbox generate-secret HOST`.

use std::net::IpAddr;

use crate::cli::args::ParsedArgs;
use crate::cli::failure::Failure;
use crate::cli::output::{print, report};
use crate::proto::secret::{HostFault, Secret};

/// Prints a fresh secret for the host.
pub fn generate_secret(given: &ParsedArgs) -> Result<(), Failure> {
    let host = given.text_at(0, "HOST")?;
    let secret = fresh(host)?;
    if let Some(doubt) = doubt(host) {
        report(&format!("warning: {doubt}"));
    }
    let text = if given.is_on("hex") { secret.to_hex() } else { secret.to_base64() };
    print(&format!("{text}\n"));
    Ok(())
}

/// A secret with a key from the system's source of randomness.
///
/// # Errors
/// A usage error when no client takes such a host; trouble when the system has no randomness.
pub fn fresh(host: &str) -> Result<Secret, Failure> {
    let mut key = [0; 16];
    getrandom::fill(&mut key)
        .map_err(|fault| Failure::error(format!("the system gives no randomness: {fault}")))?;
    let secret = Secret::new(key, host.as_bytes())
        .map_err(|_| Failure::Usage(HostFault::Empty.to_string()))?;
    match secret.host_fault() {
        Some(fault) => Err(Failure::Usage(fault.to_string())),
        None => Ok(secret),
    }
}

/// What is unusual about a host that clients take.
pub fn doubt(host: &str) -> Option<String> {
    let usual =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if host.parse::<IpAddr>().is_ok() {
        Some(format!("{host:?} is an address; browsers send no address as the name of a site"))
    } else if !host.bytes().all(usual) || host.split('.').any(str::is_empty) {
        Some(format!("{host:?} is not a usual host name; strangers may tell it from a real site"))
    } else if !host.contains('.') {
        Some(format!("{host:?} has no dot, so it is not the name of a public site"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_hosts_raise_no_doubt() {
        for host in ["example.org", "www.xn--bcher-kva.example", "a-1.b2.example"] {
            assert_eq!(doubt(host), None);
        }
        for host in ["localhost", "Example.org", "1.2.3.4", "::1", "a..b", "a.b.", "a_b.c", "a/b.c"]
        {
            assert!(doubt(host).is_some(), "{host}");
        }
    }

    #[test]
    fn every_secret_is_fresh_and_names_its_host() {
        let (first, second) = (fresh("example.org").unwrap(), fresh("example.org").unwrap());
        assert_ne!(first, second);
        assert_eq!(first.host(), b"example.org");
        assert_eq!(Secret::parse(&first.to_base64()).unwrap(), first);
        assert_eq!(Secret::parse(&first.to_hex()).unwrap(), first);
    }

    #[test]
    fn hosts_that_no_client_takes_are_refused() {
        for host in ["", "two words", "bücher.example", &"a".repeat(183)] {
            assert!(matches!(fresh(host), Err(Failure::Usage(_))), "{host}");
        }
    }
}
