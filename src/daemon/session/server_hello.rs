//! The answer to an accepted hello: what of it is drawn by chance, and key shares kept in stock.

use crate::daemon::shared::World;
use crate::flow::authenticate::Admission;
use crate::proto::client_hello::TLS13_SUITES;
use crate::proto::server_hello::{self, KeyShare, ServerHelloSpec};
use crate::util::drbg::Drbg;

/// Seals the three records of the answer into one buffer (spec: protocol 4). It looks like that
/// of the site in the client's secret, as far as that has been seen.
pub fn seal(world: &mut World, admission: &Admission) -> Vec<u8> {
    let (drbg, profile) = (&mut world.drbg, world.mimicry.profiles.get(admission.host));
    let mut noise = vec![0; profile.flight_len(drbg)];
    drbg.fill(&mut noise);
    let point = world.mimicry.key_shares.next_key(drbg);
    let mut hybrid = [0; HYBRID];
    // A group that the client has sent no share of cannot be answered, whatever the site does.
    let share = if admission.hybrid && (profile.is_hybrid() || !admission.x25519) {
        let (ciphertext, x25519) = hybrid.split_at_mut(HYBRID - point.len());
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
    let mut out = Vec::with_capacity(noise.len() + hybrid.len() + 256);
    let key = world.accounts.users.get(admission.user).hello_key();
    server_hello::seal(&mut out, key, &admission.random, &answer);
    out
}

/// x25519 public keys for answers. A key share must be a true point of the curve, which costs a
/// base-point multiplication (23 µs on a server, 2 ms on a small MIPS); idle turns pay for it.
/// The private halves are forgotten at once: nobody ever needs them.
#[derive(Default)]
pub struct KeyShares {
    stock: Vec<[u8; 32]>,
    /// Keys worth making: as many as were taken lately, so a quiet daemon makes none.
    wanted: usize,
}

impl KeyShares {
    /// A fresh key, from stock when there is one.
    pub fn take(&mut self, drbg: &mut Drbg) -> [u8; 32] {
        self.wanted = (self.wanted + 1).min(STOCK);
        self.stock.pop().unwrap_or_else(|| make(drbg))
    }

    /// Whether the stock wants a key.
    pub fn wants(&self) -> bool {
        self.stock.len() < self.wanted
    }

    /// Makes one key if the stock wants it.
    pub fn refill(&mut self, drbg: &mut Drbg) {
        if self.wants() {
            let key = make(drbg);
            self.stock.push(key);
        }
    }
}

fn make(drbg: &mut Drbg) -> [u8; 32] {
    let mut secret = [0; 32];
    drbg.fill(&mut secret);
    server_hello::x25519_point(secret)
}

/// Keys kept in stock at most.
const STOCK: usize = 16;
/// An X25519MLKEM768 server share: 1,088 bytes of ciphertext and an x25519 point.
const HYBRID: usize = 1120;
