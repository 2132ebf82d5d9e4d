//! Limits on connections and work: ready queue, rate of the relay, fair share, rate limits, fronts
//! that lead back, replay store, IP lists, circuit breaker, level of memory, budgets of writes and
//! of time. Deterministic: time and randomness are parameters.

pub mod circuit_breaker;
pub mod dial_rate;
pub mod eviction;
pub mod fair_queue;
pub mod front_loops;
pub mod ip_list;
pub mod memory_level;
pub mod network_rate;
pub mod read_coalescing;
pub mod relay_rate;
pub mod replay;
pub mod throttle;
pub mod time_budget;
pub mod token_bucket;
pub mod write_budget;

use crate::limits::dial_rate::DialRate;
use crate::limits::network_rate::NetworkRate;
use crate::limits::relay_rate::RelayRate;
use crate::limits::replay::Replay;
use crate::limits::throttle::Throttle;

/// What a hello is checked against besides the keys.
#[derive(Default)]
pub struct Limits {
    /// Fair share of connections, when configured.
    pub throttle: Option<Throttle>,
    /// Fair share of the places for users, in force while all of them are taken.
    pub places: Throttle,
    /// The rate of the whole relay, when configured.
    pub rate: Option<RelayRate>,
    /// Hellos seen before, unless switched off.
    pub replay: Option<Replay>,
    /// Networks that send many hellos without a valid key.
    pub hello_rate: NetworkRate,
    /// When unauthenticated clients may be connected to the front.
    pub dials: DialRate,
}
