//! Accessors for the fields of a vector. They panic with the field's name if a file is malformed.

use serde_json::Value;

/// The list under `key` of a file in `tests/data/`; it must not be empty.
pub fn list(file: &str, key: &str) -> Vec<Value> {
    let list = load(file)[key].as_array().cloned().unwrap_or_default();
    assert!(!list.is_empty(), "{file} has no {key}");
    list
}

/// A file of `tests/data/`.
pub fn load(file: &str) -> Value {
    let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

pub fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("no text {key} in {}", name(case)))
}

pub fn bytes(case: &Value, key: &str) -> Vec<u8> {
    unhex(text(case, key))
}

pub fn array<const N: usize>(case: &Value, key: &str) -> [u8; N] {
    let bytes = bytes(case, key);
    bytes.try_into().unwrap_or_else(|_| panic!("{key} is not {N} bytes in {}", name(case)))
}

/// A number in four hexadecimal digits.
pub fn code(case: &Value, key: &str) -> u16 {
    u16::from_be_bytes(array(case, key))
}

pub fn number(case: &Value, key: &str) -> i64 {
    case[key].as_i64().unwrap_or_else(|| panic!("no number {key} in {}", name(case)))
}

/// The name of a case for failure messages.
pub fn name(case: &Value) -> &str {
    case["name"].as_str().or(case["client"].as_str()).unwrap_or("a case without name")
}

pub fn unhex(text: &str) -> Vec<u8> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    assert!(odd.is_empty(), "odd hex: {text}");
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hex digit") as u8;
    pairs.iter().map(|[high, low]| digit(*high) << 4 | digit(*low)).collect()
}
