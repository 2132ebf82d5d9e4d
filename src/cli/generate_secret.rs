//! `mtbox generate-secret HOST`.

use std::net::IpAddr;

use crate::cli::args::ParsedArgs;
use crate::cli::failure::Failure;
use crate::cli::output::{print, report};
use crate::cli::secret_text;
use crate::proto::secret::{HostFault, Secret, SecretFault};

pub(super) fn generate_secret(args: &ParsedArgs) -> Result<(), Failure> {
    let host = args.text_at(0, "HOST")?;
    let secret = match args.text("key")? {
        Some(text) => with_key(&secret_text::resolve("--key", text)?, host)?,
        None => generate(host)?,
    };
    let text = if args.is_on("hex") { secret.to_hex() } else { secret.to_base64() };
    print(&format!("{text}\n"));
    Ok(())
}

/// A secret with a key that clients have already. Reports a warning if the host is unusual.
fn with_key(text: &str, host: &str) -> Result<Secret, Failure> {
    let key = Secret::parse_key(text).ok_or_else(|| {
        let fault = match Secret::parse(text) {
            Err(fault @ (SecretFault::Link | SecretFault::Blank | SecretFault::Quote)) => {
                format!("--key: {fault}")
            }
            _ => NOT_A_KEY.to_owned(),
        };
        Failure::Usage(fault)
    })?;
    let secret = checked(key, host)?;
    if secret.is_weak() {
        return Err(Failure::Usage("the key is all zeros; choose another one".to_owned()));
    }
    warn_of_host(host);
    Ok(secret)
}

/// A secret with a random key. Reports a warning if the host is unusual.
///
/// # Errors
/// A usage error if clients reject the host; a failure if the system provides no random bytes.
pub(super) fn generate(host: &str) -> Result<Secret, Failure> {
    let secret = random_secret(host)?;
    warn_of_host(host);
    Ok(secret)
}

fn warn_of_host(host: &str) {
    if let Some(warning) = host_warning(host) {
        report(&format!("warning: {warning}"));
    }
}

/// A secret with a random key, without a warning. Errors as [`generate`].
pub(super) fn random_secret(host: &str) -> Result<Secret, Failure> {
    let mut key = [0; 16];
    getrandom::fill(&mut key)
        .map_err(|e| Failure::error(format!("the system provides no random bytes: {e}")))?;
    checked(key, host)
}

fn checked(key: [u8; 16], host: &str) -> Result<Secret, Failure> {
    if host.contains('/') || (host.contains(':') && host.parse::<IpAddr>().is_err()) {
        let fault = format!("{host:?} is a URL or has a port; write the host name alone");
        return Err(Failure::Usage(fault));
    }
    let secret = Secret::new(key, host.as_bytes())
        .map_err(|_| Failure::Usage(HostFault::Empty.to_string()))?;
    match secret.host_fault() {
        Some(fault) => Err(Failure::Usage(fault.to_string())),
        None => Ok(secret),
    }
}

/// Why a host that clients accept is a bad choice.
fn host_warning(host: &str) -> Option<String> {
    let is_usual =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if host.parse::<IpAddr>().is_ok() {
        Some(format!("{host:?} is an IP address; browsers never send one as the server name"))
    } else if !host.bytes().all(is_usual) || host.split('.').any(str::is_empty) {
        Some(format!("{host:?} is an unusual host name; a probe may tell it from a real one"))
    } else if !host.contains('.') {
        Some(format!("{host:?} has no dot, so it is not the name of a public web site"))
    } else {
        None
    }
}

const NOT_A_KEY: &str = "--key: not a key; write its 32 hexadecimal digits, or the old secret";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_hosts_cause_no_warning() {
        for host in ["example.org", "www.xn--bcher-kva.example", "a-1.b2.example"] {
            assert_eq!(host_warning(host), None);
        }
        for host in ["localhost", "Example.org", "1.2.3.4", "::1", "a..b", "a.b.", "a_b.c"] {
            assert!(host_warning(host).is_some(), "{host}");
        }
    }

    #[test]
    fn every_secret_is_fresh_and_names_its_host() {
        let (first, second) = (generate("example.org").unwrap(), generate("example.org").unwrap());
        assert_ne!(first, second);
        assert_eq!(first.host(), b"example.org");
        assert_eq!(Secret::parse(&first.to_base64()).unwrap(), first);
        assert_eq!(Secret::parse(&first.to_hex()).unwrap(), first);
    }

    #[test]
    fn hosts_that_no_client_accepts_are_refused() {
        for host in [
            "https://a.example",
            "a.example:443",
            "a.example/",
            "",
            "two words",
            "bücher.example",
            &"a".repeat(183),
        ] {
            assert!(matches!(generate(host), Err(Failure::Usage(_))), "{host}");
        }
    }
}
