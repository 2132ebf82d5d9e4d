//! When an unauthenticated client may be connected to the front. Each such connection can leave a
//! local port in TIME_WAIT for a minute, so the rate of those that do depends on the number of
//! ports. Time is a parameter.

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

/// The token of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialToken {
    /// Of the bucket for networks that ask for few.
    Spared,
    /// Of the bucket for all.
    Common,
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

    /// When a client of the network of `addr` may be connected, and the token that it takes for
    /// this. `None` = not within `WAIT_MS`.
    pub fn reserve(&mut self, addr: IpAddr, now_ms: u64) -> Option<(u64, DialToken)> {
        let is_limited = self.networks.is_limited(addr, now_ms);
        self.networks.record(addr, now_ms);
        let spared = self.spared.due(1, now_ms);
        let common = self.common.due(1, now_ms);
        let (at, token) = match is_limited || common <= spared {
            true => (common, DialToken::Common),
            false => (spared, DialToken::Spared),
        };
        if at > now_ms + WAIT_MS {
            return None;
        }
        self.bucket(token).take(1, now_ms);
        Some((at, token))
    }

    /// The connection of this token has ended. Without a port in TIME_WAIT it costs nothing.
    /// Otherwise it is told how many milliseconds ago the token was taken: after a long time, the
    /// bucket has it again, and the port costs another one.
    pub fn release(&mut self, token: DialToken, time_wait_age_ms: Option<u64>, now_ms: u64) {
        let bucket = self.bucket(token);
        match time_wait_age_ms {
            None => bucket.give_back(1, now_ms),
            Some(age) if age > LONG_MS => bucket.take(1, now_ms),
            Some(_) => {}
        }
    }

    /// Whether connections should rather be reset than leave a port in TIME_WAIT.
    pub fn is_low(&self, now_ms: u64) -> bool {
        self.common.is_low(now_ms)
    }

    fn bucket(&mut self, token: DialToken) -> &mut TokenBucket {
        match token {
            DialToken::Spared => &mut self.spared,
            DialToken::Common => &mut self.common,
        }
    }
}

/// The usual number of local ports: 32768 to 60999 (ip(7)).
const LOCAL_PORTS: u32 = 28_232;
/// Two buckets, TIME_WAIT of 60 seconds, a quarter of the ports.
const PORTS_PER_RATE: u32 = 2 * 60 * 4;
/// Both bursts are another 32nd of the ports.
const PORTS_PER_BURST: u32 = 64;
/// A connection that was open for longer pays for its port when it ends. The ports of a minute were
/// then paid for in 70 seconds.
const LONG_MS: u64 = 10_000;
/// Longest wait of a client, in milliseconds.
const WAIT_MS: u64 = 3_000;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn network(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        IpAddr::from([10, high, low, 1])
    }

    #[test]
    fn a_burst_is_served_at_once_and_a_flood_at_the_common_rate() {
        let mut rate = DialRate::default();
        let rate_of_one = u64::from(LOCAL_PORTS / PORTS_PER_RATE);
        let mut flood =
            |now| (0..400).map(|_| Some(rate.reserve(network(1), now)?.0)).collect::<Vec<_>>();
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
                assert_eq!(rate.reserve(visitor, now).map(|(at, _)| at), Some(now));
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
                    begun +=
                        u32::from(rate.reserve(client, now).is_some_and(|(at, _)| at < 60_000));
                }
            }
            assert!(begun <= ports / 3, "{begun} of {ports}");
            assert!(begun >= ports / 5, "{begun} of {ports}");
        }
    }

    /// A flood of 1,000 per second, of which each connection is open for 200 ms.
    #[test]
    fn connections_that_are_reset_cost_nothing_and_the_others_a_third_of_the_ports() {
        for resets_of_ten in [10, 9, 0] {
            let mut rate = DialRate::default();
            let mut open = VecDeque::new();
            let (mut refused, mut in_time_wait) = (0, 0);
            for now in 0..60_000 {
                match rate.reserve(network((now % 250) as u16), now) {
                    Some((at, token)) => open.push_back((at + 200, token)),
                    None => refused += 1,
                }
                while open.front().is_some_and(|(end, _)| *end <= now) {
                    let Some((_, token)) = open.pop_front() else { break };
                    let is_reset = now % 10 < resets_of_ten;
                    in_time_wait += u32::from(!is_reset);
                    rate.release(token, (!is_reset).then_some(200), now);
                }
            }
            assert_eq!(refused == 0, resets_of_ten >= 9, "{refused} of {resets_of_ten}");
            assert!(in_time_wait <= LOCAL_PORTS / 3, "{in_time_wait} of {resets_of_ten}");
        }
    }

    #[test]
    fn a_connection_that_was_open_for_long_takes_its_token_when_it_ends() {
        let mut rate = DialRate::default();
        let burst = LOCAL_PORTS / PORTS_PER_BURST;
        let tokens: Vec<_> = (0..burst).filter_map(|_| rate.reserve(network(1), 0)).collect();
        assert!(rate.is_low(0) && !rate.is_low(60_000));
        for (_, token) in tokens {
            rate.release(token, Some(60_000), 60_000);
        }
        assert!(rate.is_low(60_000));
    }
}
