//! Sessions of unmodified apps, captured on loopback (`tests/data/real-client-hellos.json`).

use serde_json::Value;

use super::hello::{Hello, Secret};
use super::unhex;

/// One captured session.
pub struct Captured {
    /// App and version, for messages.
    pub name: String,
    /// The secret of the capture.
    pub secret: Secret,
    /// The hello of the app.
    pub hello: Hello,
    /// The answer that the app accepted.
    pub answer: Vec<u8>,
    /// Everything that the app sent after the answer.
    pub up: Vec<u8>,
    /// Everything that the app received after the answer.
    pub down: Vec<u8>,
    /// What the proxy of the capture sent to the DC.
    pub up_at_dc: Vec<u8>,
    /// The plaintext of `up`, without the frame.
    pub plain_up: Vec<u8>,
    /// The plaintext of `down`.
    pub plain_down: Vec<u8>,
    /// The DC that the app asked for.
    pub dc: i16,
}

/// All captured sessions.
pub fn sessions() -> Vec<Captured> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/real-client-hellos.json");
    let text = std::fs::read_to_string(file).expect("the captures");
    let root: Value = serde_json::from_str(&text).expect("JSON");
    root["sessions"].as_array().expect("a list").iter().map(session).collect()
}

fn session(entry: &Value) -> Captured {
    let text = |key: &str| entry[key].as_str().unwrap_or_else(|| panic!("{key}")).to_owned();
    let inner = &entry["obfuscated2"];
    let plain = |key: &str| unhex(inner[key].as_str().expect("hex"));
    let shares = entry["key_shares"].as_array().expect("a list");
    Captured {
        name: format!("{} {}", text("client"), text("version")),
        secret: Secret::parse(&text("secret")),
        hello: Hello {
            wire: unhex(&text("hello")),
            cipher: u16::from_str_radix(&text("cipher_first_non_grease"), 16).expect("hex"),
            is_post_quantum: shares.iter().any(|share| share[0] == "11ec"),
        },
        answer: unhex(&text("answer")),
        up: unhex(&text("client_to_proxy_after_answer")),
        down: unhex(&text("proxy_to_client_after_answer")),
        up_at_dc: unhex(&text("proxy_to_dc")),
        plain_up: plain("plain_up"),
        plain_down: plain("plain_down"),
        dc: inner["dc"].as_i64().and_then(|dc| dc.try_into().ok()).expect("an i16"),
    }
}

/// The payloads of a client's records, without CCS.
pub fn payloads(mut wire: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [kind, 3, 3, high, low, rest @ ..] = wire {
        let (body, after) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        if *kind == 0x17 {
            out.extend_from_slice(body);
        }
        wire = after;
    }
    assert!(wire.is_empty(), "whole records");
    out
}
