//! Text values: secrets, URLs, durations, sizes. A printed secret must parse again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtbox::config::addresses;
use mtbox::config::units;
use mtbox::config::urls;
use mtbox::proto::secret::Secret;
use mtbox::proto::url::Url;

fuzz_target!(|text: &str| {
    if let Ok(secret) = Secret::parse(text) {
        assert!(Secret::parse(&secret.to_hex()).is_ok_and(|again| again == secret));
        assert!(Secret::parse(&secret.to_base64()).is_ok_and(|again| again == secret));
    }
    if let Some(url) = Url::parse(text) {
        let _ = url.join(text);
    }
    let _ = (units::duration(text), units::bytes(text));
    let _ = (urls::name_server(text), urls::proxy(text), urls::list_source(text));
    let _ = (addresses::http_bind(text), addresses::network(text), addresses::host(text));
});
