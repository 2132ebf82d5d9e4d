//! Lists of networks in the form of FireHOL's files: read line by line as bytes come, kept as
//! sorted ranges of eight bytes per IPv4 network, searched by halving (spec: defense 2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks that do not overlap, in ascending order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Ranges {
    /// Whether an address is in one of them. An IPv4-mapped IPv6 address is an IPv4 address.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match addr.to_canonical() {
            IpAddr::V4(v4) => is_in(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => is_in(&self.v6, v6.to_bits()),
        }
    }

    /// Ranges, after those that touch have become one.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The IPv4 ranges: first and last address of each.
    pub fn v4(&self) -> &[(u32, u32)] {
        &self.v4
    }

    /// The IPv6 ranges: first and last address of each.
    pub fn v6(&self) -> &[(u128, u128)] {
        &self.v6
    }

    /// Sorts and merges ranges of any order.
    pub fn new(mut v4: Vec<(u32, u32)>, mut v6: Vec<(u128, u128)>) -> Self {
        v4.sort_unstable();
        merge(&mut v4, |last| last.checked_add(1));
        v6.sort_unstable();
        merge(&mut v6, |last| last.checked_add(1));
        Self { v4, v6 }
    }
}

fn is_in<T: Ord + Copy>(ranges: &[(T, T)], addr: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= addr);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| addr <= *last)
}

/// Joins sorted ranges that overlap or touch.
fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>, next: impl Fn(T) -> Option<T>) {
    ranges.dedup_by(|later, earlier| {
        let touches = next(earlier.1).is_none_or(|next| later.0 <= next);
        if touches {
            earlier.1 = earlier.1.max(later.1);
        }
        touches
    });
    ranges.shrink_to_fit();
}

/// Reads a list from pieces of any size.
#[derive(Default)]
pub struct Reader {
    /// A line that is not whole yet, without its comment.
    line: Vec<u8>,
    /// Where in its line the next byte stands.
    place: Place,
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
    bad_lines: u64,
    is_full: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Text,
    Comment,
    /// The line is longer than any network.
    TooLong,
}

impl Reader {
    /// Takes the next bytes. A line that is no network is counted and passed over.
    pub fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match (byte, self.place) {
                (b'\n', _) => self.end_line(),
                (b'#', Place::Text) => self.place = Place::Comment,
                (_, Place::Text) if self.line.len() < LINE_MAX => self.line.push(byte),
                (_, Place::Text) => self.place = Place::TooLong,
                _ => {}
            }
        }
    }

    /// All has come.
    pub fn finish(mut self) -> Read {
        self.end_line();
        let Self { v4, v6, bad_lines, is_full, .. } = self;
        Read { ranges: Ranges::new(v4, v6), bad_lines, is_full }
    }

    fn end_line(&mut self) {
        let place = std::mem::take(&mut self.place);
        let mut line = std::mem::take(&mut self.line);
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line).trim_ascii();
        if place == Place::TooLong {
            self.bad_lines += 1;
        } else if !text.is_empty() {
            match str::from_utf8(text).ok().and_then(network) {
                Some(_) if self.v4.len() + self.v6.len() >= MOST_NETWORKS => self.is_full = true,
                Some(Network::V4(first, last)) => push(&mut self.v4, (first, last)),
                Some(Network::V6(first, last)) => push(&mut self.v6, (first, last)),
                None => self.bad_lines += 1,
            }
        }
        line.clear();
        self.line = line;
    }
}

/// Grows by an eighth rather than to the double: the sum is bounded, and it is the peak that
/// small machines feel.
fn push<T>(list: &mut Vec<T>, one: T) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 8).max(256));
    }
    list.push(one);
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// The networks.
    pub ranges: Ranges,
    /// Lines that are none.
    pub bad_lines: u64,
    /// There were more than [`MOST_NETWORKS`]; the rest is left out.
    pub is_full: bool,
}

enum Network {
    V4(u32, u32),
    V6(u128, u128),
}

/// `address` or `address/bits`; bits behind the network may be set.
fn network(text: &str) -> Option<Network> {
    let (addr, bits) = match text.split_once('/') {
        None => (text, None),
        Some((addr, bits)) => {
            let plain = (1..=3).contains(&bits.len()) && bits.bytes().all(|b| b.is_ascii_digit());
            (addr, Some(bits.parse::<u32>().ok().filter(|_| plain)?))
        }
    };
    match addr.parse().ok()? {
        IpAddr::V4(addr) => v4(addr, bits.unwrap_or(32)),
        IpAddr::V6(addr) => match (addr.to_ipv4_mapped(), bits.unwrap_or(128)) {
            (Some(addr), bits @ 96..=128) => v4(addr, bits - 96),
            (_, bits) => v6(addr, bits),
        },
    }
}

fn v4(addr: Ipv4Addr, bits: u32) -> Option<Network> {
    let host = u32::MAX.checked_shr(bits).unwrap_or(0);
    let first = addr.to_bits() & !host;
    (bits <= 32).then_some(Network::V4(first, first | host))
}

fn v6(addr: Ipv6Addr, bits: u32) -> Option<Network> {
    let host = u128::MAX.checked_shr(bits).unwrap_or(0);
    let first = addr.to_bits() & !host;
    (bits <= 128).then_some(Network::V6(first, first | host))
}

/// Networks of one list at most: 8 MB of IPv4.
pub const MOST_NETWORKS: usize = 1_000_000;
/// Longest line in bytes, its comment apart.
const LINE_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Read {
        let mut reader = Reader::default();
        reader.take(text.as_bytes());
        reader.finish()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_bad_line_is_counted_and_the_rest_is_kept() {
        let text = "\u{feff}# head\n10.0.0.0/8\n  192.0.2.77/24 # host bits\r\nnonsense\n\
                    1.2.3.4/33\n1.2.3.04\n1.2.3.4-1.2.3.9\nexample.org\n2001:db8::/32\n\n\
                    203.0.113.7";
        let list = read(text);
        assert_eq!((list.ranges.len(), list.bad_lines, list.is_full), (4, 5, false));
        for inside in ["10.255.0.1", "192.0.2.0", "192.0.2.255", "2001:db8:ffff::1", "203.0.113.7"]
        {
            assert!(list.ranges.contains(ip(inside)), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.3.0", "203.0.113.8", "2001:db9::"] {
            assert!(!list.ranges.contains(ip(outside)), "{outside}");
        }
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let list = read("::ffff:192.0.2.0/120\n").ranges;
        assert!(list.contains(ip("192.0.2.9")) && list.contains(ip("::ffff:192.0.2.9")));
        assert_eq!((list.v4().len(), list.v6().len()), (1, 0));
        assert!(read("0.0.0.0/0\n::/0\n").ranges.contains(ip("::ffff:1.2.3.4")));
    }

    #[test]
    fn what_touches_becomes_one() {
        let list = read("10.0.0.0/9\n10.128.0.0/9\n10.1.0.0/16\n255.255.255.255\n0.0.0.0\n").ranges;
        assert_eq!(list.v4(), [(0, 0), (0x0a00_0000, 0x0aff_ffff), (u32::MAX, u32::MAX)]);
        assert_eq!(read("0.0.0.0/0\n1.2.3.4\n").ranges.v4(), [(0, u32::MAX)]);
    }

    #[test]
    fn endless_lines_cost_nothing_and_count_once() {
        let mut reader = Reader::default();
        for _ in 0..1_000 {
            reader.take(&[b'1'; 4_096]);
        }
        assert!(reader.line.capacity() <= 1_024);
        reader.take(b"\n1.1.1.1\n");
        let list = reader.finish();
        assert_eq!((list.ranges.len(), list.bad_lines), (1, 1));
    }

    #[test]
    fn a_list_has_an_end() {
        let mut reader = Reader::default();
        for n in 0..=MOST_NETWORKS as u32 {
            reader.take(format!("{}\n", Ipv4Addr::from_bits(n * 2)).as_bytes());
        }
        let list = reader.finish();
        assert_eq!((list.ranges.len(), list.is_full), (MOST_NETWORKS, true));
    }
}
