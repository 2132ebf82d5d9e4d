//! Key shares for our ServerHello, kept in stock.

use crate::proto::server_hello;
use crate::util::drbg::Drbg;

/// x25519 public keys for answers. A key share must be a true point of the curve, which costs a
/// base-point multiplication (23 µs on a server, 2 ms on a small MIPS); idle rounds pay for it.
/// The private halves are dropped at once: no TLS handshake of ours is ever finished.
#[derive(Default)]
pub struct KeyShares {
    stock: Vec<[u8; 32]>,
    /// Keys worth making: as many as were used lately, so that an idle daemon makes none.
    wanted: usize,
}

impl KeyShares {
    /// A fresh key, from stock when there is one.
    pub fn next_key(&mut self, drbg: &mut Drbg) -> [u8; 32] {
        self.wanted = (self.wanted + 1).min(STOCK_MAX);
        self.stock.pop().unwrap_or_else(|| make(drbg))
    }

    /// Whether the stock is short of a key.
    pub fn is_short(&self) -> bool {
        self.stock.len() < self.wanted
    }

    /// Makes one key if the stock is short of it.
    pub fn refill(&mut self, drbg: &mut Drbg) {
        if self.is_short() {
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

const STOCK_MAX: usize = 16;
