//! The answer to an accepted hello. It imitates the answer of the front, as far as that is known.

use crate::accounts::users::Users;
use crate::flow::authenticate::Admission;
use crate::mimicry::Mimicry;
use crate::proto::client_hello::TLS13_SUITES;
use crate::proto::server_hello::{self, KeyShare, ServerHelloSpec};
use crate::util::drbg::Drbg;

/// Builds the three records of the answer in one buffer (PROTOCOL 4).
pub fn build(
    admission: &Admission,
    users: &Users,
    mimicry: &mut Mimicry,
    drbg: &mut Drbg,
) -> Vec<u8> {
    let profile = mimicry.profiles.get(admission.host);
    let mut noise = vec![0; profile.flight_len(drbg)];
    drbg.fill(&mut noise);
    let point = mimicry.key_shares.next_key(drbg);
    let mut hybrid = [0; HYBRID_LEN];
    // The answer must use a group of which the client sent a share, whatever the front does.
    let share = if admission.hybrid && (profile.is_hybrid() || !admission.x25519) {
        let (ciphertext, x25519) = hybrid.split_at_mut(HYBRID_LEN - point.len());
        let fake = server_hello::plausible_mlkem_ciphertext(&mut |b| drbg.fill(b));
        ciphertext.copy_from_slice(&fake);
        x25519.copy_from_slice(&point);
        KeyShare::MlKem(&hybrid)
    } else {
        KeyShare::X25519(&point)
    };
    let answer = ServerHelloSpec {
        session_id: &admission.session_id,
        cipher: profile.cipher(&admission.suites).unwrap_or(TLS13_SUITES[0]),
        share,
        noise: &noise,
        order: profile.order(),
    };
    let mut out = Vec::with_capacity(noise.len() + hybrid.len() + RECORD_OVERHEAD);
    let key = users.get(admission.user).hello_key();
    server_hello::seal(&mut out, key, &admission.random, &answer);
    out
}

/// An X25519MLKEM768 server share: 1,088 bytes of ciphertext and an x25519 point.
const HYBRID_LEN: usize = 1120;

/// More than the headers and fixed fields of the three records.
const RECORD_OVERHEAD: usize = 256;
