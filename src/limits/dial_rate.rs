//! When an unauthenticated client may be connected to the front. Each such connection can leave a
//! local port in TIME_WAIT for a minute, so their rate depends on the number of ports. Time is a
//! parameter.

use std::net::IpAddr;

use crate::limits::network_rate::NetworkRate;
use crate::limits::token_bucket::TokenBucket;

/// Gives each connection to the front the time at which it may begin. A network that asks for few
/// may use the whole rate, one that asks for many only half of it, so that it delays no other.
pub struct DialRate {
    /// For networks that ask for few.
    spared: TokenBucket,
    /// For all.
    common: TokenBucket,
    networks: NetworkRate,
}

impl Default for DialRate {
    fn default() -> Self {
        Self::new(LOCAL_PORTS)
    }
}

impl DialRate {
    /// Rates at which at most a third of this many local ports can be in TIME_WAIT.
    pub fn new(ports: u32) -> Self {
        let bucket = TokenBucket::new(ports / PORTS_PER_RATE, ports / PORTS_PER_BURST, 0);
        Self { spared: bucket, common: bucket, networks: NetworkRate::default() }
    }

    /// When a client of the network of `addr` may be connected: the time is taken. `None` = not
    /// within `WAIT_MS`.
    pub fn reserve(&mut self, addr: IpAddr, now_ms: u64) -> Option<u64> {
        let is_limited = self.networks.is_limited(addr, now_ms);
        self.networks.record(addr, now_ms);
        let spared = self.spared.due(1, now_ms);
        let common = self.common.due(1, now_ms);
        let (at, bucket) = match is_limited || common <= spared {
            true => (common, &mut self.common),
            false => (spared, &mut self.spared),
        };
        if at > now_ms + WAIT_MS {
            return None;
        }
        bucket.take(1, now_ms);
        Some(at)
    }
}

/// The usual number of local ports: 32768 to 60999 (ip(7)).
const LOCAL_PORTS: u32 = 28_232;
/// Two buckets, TIME_WAIT of 60 seconds, a quarter of the ports.
const PORTS_PER_RATE: u32 = 2 * 60 * 4;
/// Both bursts are another 32nd of the ports.
const PORTS_PER_BURST: u32 = 64;
/// Longest wait of a client, in milliseconds.
const WAIT_MS: u64 = 3_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        IpAddr::from([10, high, low, 1])
    }

    #[test]
    fn a_burst_is_served_at_once_and_a_flood_at_the_common_rate() {
        let mut rate = DialRate::default();
        let rate_of_one = u64::from(LOCAL_PORTS / PORTS_PER_RATE);
        let mut flood = |now| (0..400).map(|_| rate.reserve(network(1), now)).collect::<Vec<_>>();
        assert_eq!(flood(0), [Some(0); 400]);
        let waits: Vec<u64> = flood(1).into_iter().flatten().collect();
        assert!(waits.is_sorted() && waits.iter().all(|at| *at <= 1 + WAIT_MS));
        let served = (1..=600).map(|tenth| flood(tenth * 100).iter().flatten().count() as u64);
        let served: u64 = served.sum();
        assert!((served as i64 - 60 * rate_of_one as i64).abs() < 200, "{served} in a minute");
    }

    #[test]
    fn a_flood_of_one_network_delays_no_other() {
        let mut rate = DialRate::default();
        for now in (0..60_000).step_by(10) {
            for _ in 0..10 {
                rate.reserve(network(1), now);
            }
            if now % 100 == 0 {
                let visitor = network((now / 100 % 50) as u16 + 2);
                assert_eq!(rate.reserve(visitor, now), Some(now));
            }
        }
    }

    #[test]
    fn a_minute_of_any_flood_takes_at_most_a_third_of_the_ports() {
        for ports in [1_000, LOCAL_PORTS, 64_512] {
            let mut rate = DialRate::new(ports);
            let mut begun = 0;
            for now in 0..60_000u64 {
                for one in 0..10 {
                    let client = network((now * 10 + one) as u16);
                    begun += u32::from(rate.reserve(client, now).is_some_and(|at| at < 60_000));
                }
            }
            assert!(begun <= ports / 3, "{begun} of {ports}");
            assert!(begun >= ports / 5, "{begun} of {ports}");
        }
    }
}
