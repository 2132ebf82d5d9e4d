//! IP lists in the format of FireHOL's netset files: parsed from chunks of any size, kept as sorted
//! networks of five bytes per IPv4 network, looked up by binary search (COMPATIBILITY 7.2).

use std::net::IpAddr;
use std::task::Poll;

use crate::util::cidr::Cidr;
use crate::util::incremental_sort::IncrementalSort;

/// An IPv4 network: four bytes of its first address in network order, then the prefix length. A
/// byte array has no padding, and its order is that of the networks.
pub type Net4 = [u8; 5];
/// An IPv6 network, in the same form as [`Net4`].
pub type Net6 = [u8; 17];

/// Networks that do not overlap, in ascending order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Vec<Net4>,
    v6: Vec<Net6>,
}

impl Networks {
    /// Sorts the networks, drops those inside others, and joins the two halves of a network.
    pub fn new(v4: Vec<Net4>, v6: Vec<Net6>) -> Self {
        let (mut v4, mut v6) =
            (IncrementalSort::new(v4).finish(), IncrementalSort::new(v6).finish());
        merge(&mut v4);
        merge(&mut v6);
        Self { v4, v6 }
    }

    /// Whether an address is in one of the networks. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match addr.to_canonical() {
            IpAddr::V4(v4) => is_in(&self.v4, net(v4.octets(), u8::MAX)),
            IpAddr::V6(v6) => is_in(&self.v6, net(v6.octets(), u8::MAX)),
        }
    }

    /// The number of networks of both families.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether the list has no networks.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The IPv4 networks, in ascending order.
    pub fn v4(&self) -> &[Net4] {
        &self.v4
    }

    /// The IPv6 networks, in ascending order.
    pub fn v6(&self) -> &[Net6] {
        &self.v6
    }
}

/// `N` is `M + 1`; const generics cannot express that yet.
fn net<const M: usize, const N: usize>(first: [u8; M], bits: u8) -> [u8; N] {
    let mut net = [bits; N];
    net.iter_mut().zip(first).for_each(|(to, from)| *to = from);
    net
}

/// `addr` has a prefix length of 255, so that it sorts after every network that starts at it.
fn is_in<const N: usize>(nets: &[[u8; N]], addr: [u8; N]) -> bool {
    let after = nets.partition_point(|net| *net <= addr);
    let before = after.checked_sub(1).and_then(|at| nets.get(at));
    before.is_some_and(|net| covers(net, &addr))
}

/// Whether the first address of `inner` lies in `outer`.
fn covers<const N: usize>(outer: &[u8; N], inner: &[u8; N]) -> bool {
    let bits = usize::from(outer.last().copied().unwrap_or_default());
    let (bytes, rest) = (bits / 8, bits % 8);
    let is_same = outer.get(..bytes).is_some_and(|head| inner.starts_with(head));
    let equal_bits = |(one, other): (&u8, &u8)| (one ^ other).leading_zeros();
    let next = outer.get(bytes).zip(inner.get(bytes)).map(equal_bits);
    is_same && (rest == 0 || next.is_some_and(|equal| equal as usize >= rest))
}

/// The network whose two halves are `low` and `high`, if they are halves of one.
fn parent<const N: usize>(low: &[u8; N], high: &[u8; N]) -> Option<[u8; N]> {
    let bits = low.last()?.checked_sub(1)?;
    let mut flipped = *low;
    let byte = flipped.get_mut(usize::from(bits / 8))?;
    *byte ^= 0x80 >> (bits % 8);
    if flipped != *high {
        return None;
    }
    let mut parent = *low;
    *parent.last_mut()? = bits;
    Some(parent)
}

/// Drops networks inside an earlier one and joins halves, in a sorted list, in place.
fn merge<const N: usize>(nets: &mut Vec<[u8; N]>) {
    let mut kept = 0_usize;
    for at in 0..nets.len() {
        let mut net = nets[at];
        let mut is_covered = false;
        // A joined pair may itself be the second half of a larger network.
        while let Some(last) = kept.checked_sub(1).and_then(|last| nets.get(last)) {
            is_covered = covers(last, &net);
            match parent(last, &net) {
                Some(joined) if !is_covered => net = joined,
                _ => break,
            }
            kept -= 1;
        }
        if !is_covered {
            nets[kept] = net;
            kept += 1;
        }
    }
    nets.truncate(kept);
    // A quarter of spare capacity stays: the next version of the list usually fits without a
    // reallocation.
    if nets.capacity() > kept + kept / 4 {
        nets.shrink_to_fit();
    }
}

/// Parses a list from chunks of any size.
#[derive(Default)]
pub struct ListReader {
    /// The line that is not complete yet, without its comment.
    line: Vec<u8>,
    /// The part of the line that the next byte belongs to.
    part: LinePart,
    v4: Vec<Net4>,
    v6: Vec<Net6>,
    bad_lines: u64,
    is_full: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum LinePart {
    #[default]
    Text,
    Comment,
    /// The line is longer than [`LINE_MAX`]; the rest is skipped.
    TooLong,
}

impl ListReader {
    /// A reader with room for as many networks as `before` has room for: a new version of a list
    /// seldom grows, and each reallocation needs memory for both copies.
    pub fn with_capacity_of(before: &Networks) -> Self {
        let mut reader = Self::default();
        reader.v4.reserve_exact(before.v4.capacity());
        reader.v6.reserve_exact(before.v6.capacity());
        reader
    }

    /// Parses the next bytes. Lines that are not networks are counted and skipped.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match (byte, self.part) {
                (b'\n', _) => self.end_line(),
                (b'#', LinePart::Text) => self.part = LinePart::Comment,
                (_, LinePart::Text) if self.line.len() < LINE_MAX => self.line.push(byte),
                (_, LinePart::Text) => self.part = LinePart::TooLong,
                _ => {}
            }
        }
    }

    /// Ends the list. The networks still have to be sorted.
    pub fn finish(mut self) -> UnsortedList {
        self.end_line();
        let Self { v4, v6, bad_lines, is_full, .. } = self;
        UnsortedList {
            v4: IncrementalSort::new(v4),
            v6: IncrementalSort::new(v6),
            bad_lines,
            is_full,
        }
    }

    fn end_line(&mut self) {
        let part = std::mem::take(&mut self.part);
        let mut line = std::mem::take(&mut self.line);
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line).trim_ascii();
        if part == LinePart::TooLong {
            self.bad_lines += 1;
        } else if !text.is_empty() {
            let network = str::from_utf8(text).ok().and_then(|text| text.parse::<Cidr>().ok());
            match network.map(|network| (network.first(), network.bits())) {
                Some(_) if self.v4.len() + self.v6.len() >= MAX_NETWORKS => self.is_full = true,
                Some((IpAddr::V4(v4), bits)) => push(&mut self.v4, net(v4.octets(), bits)),
                Some((IpAddr::V6(v6), bits)) => push(&mut self.v6, net(v6.octets(), bits)),
                None => self.bad_lines += 1,
            }
        }
        line.clear();
        self.line = line;
    }
}

/// Grows by an eighth instead of doubling: on a small machine the peak matters, and the number of
/// networks is bounded.
fn push<T>(list: &mut Vec<T>, one: T) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 8).max(256));
    }
    list.push(one);
}

/// A complete list that is being sorted, in steps of bounded work.
pub struct UnsortedList {
    v4: IncrementalSort<Net4>,
    v6: IncrementalSort<Net6>,
    bad_lines: u64,
    is_full: bool,
}

impl UnsortedList {
    /// Moves at most `max_moves` networks; ready when the list is sorted.
    pub fn step(&mut self, mut max_moves: usize) -> Poll<()> {
        self.v4.step(&mut max_moves);
        self.v6.step(&mut max_moves);
        if self.v4.is_done() && self.v6.is_done() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The list. Sorts what the steps have left.
    pub fn into_parsed(self) -> ParsedList {
        let Self { v4, v6, bad_lines, is_full } = self;
        ParsedList { networks: Networks::new(v4.into_items(), v6.into_items()), bad_lines, is_full }
    }
}

/// The result of parsing a list.
#[derive(Debug, PartialEq, Eq)]
pub struct ParsedList {
    /// The networks.
    pub networks: Networks,
    /// Lines that are not networks.
    pub bad_lines: u64,
    /// The list has more than [`MAX_NETWORKS`] networks; the others were dropped.
    pub is_full: bool,
}

/// Most networks of one list: 5 MB of IPv4.
pub const MAX_NETWORKS: usize = 1_000_000;
/// Longest line in bytes, without its comment.
const LINE_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn read(text: &str) -> ParsedList {
        let mut reader = ListReader::default();
        reader.push_bytes(text.as_bytes());
        reader.finish().into_parsed()
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
        assert_eq!((list.networks.len(), list.bad_lines, list.is_full), (4, 5, false));
        for inside in ["10.255.0.1", "192.0.2.0", "192.0.2.255", "2001:db8:ffff::1", "203.0.113.7"]
        {
            assert!(list.networks.contains(ip(inside)), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.3.0", "203.0.113.8", "2001:db9::"] {
            assert!(!list.networks.contains(ip(outside)), "{outside}");
        }
    }

    #[test]
    fn an_unsorted_list_is_sorted_step_by_step() {
        let mut reader = ListReader::default();
        for number in 0..1_000u32 {
            let addr = Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b1));
            reader
                .push_bytes(format!("{addr}\n2001:db8::{:x}/127\n", number * 7 % 1_000).as_bytes());
        }
        let mut list = reader.finish();
        let steps = std::iter::repeat_with(|| list.step(100)).take_while(Poll::is_pending).count();
        assert!((29..=31).contains(&steps), "{steps}");
        let list = list.into_parsed().networks;
        assert!(list.v4().is_sorted() && list.v4().len() == 1_000);
        assert!(list.v6().is_sorted() && list.contains(ip("2001:db8::3e7")));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let list = read("::ffff:192.0.2.0/120\n").networks;
        assert!(list.contains(ip("192.0.2.9")) && list.contains(ip("::ffff:192.0.2.9")));
        assert_eq!((list.v4().len(), list.v6().len()), (1, 0));
        assert!(read("0.0.0.0/0\n::/0\n").networks.contains(ip("::ffff:1.2.3.4")));
    }

    #[test]
    fn overlapping_networks_and_halves_become_one() {
        let list =
            read("10.0.0.0/9\n10.128.0.0/9\n10.1.0.0/16\n255.255.255.255\n0.0.0.0\n").networks;
        assert_eq!(list.v4(), [[0, 0, 0, 0, 32], [10, 0, 0, 0, 8], [255, 255, 255, 255, 32]]);
        assert_eq!(read("0.0.0.0/0\n1.2.3.4\n").networks.v4(), [[0; 5]]);
        let all = read("128.0.0.0/1\n64.0.0.0/2\n32.0.0.0/3\n0.0.0.0/3\n").networks;
        assert_eq!(all.v4(), [[0; 5]], "halves of halves");
        let apart = read("10.128.0.0/9\n11.0.0.0/9\n").networks;
        assert_eq!(apart.len(), 2, "neighbours, but no halves");
    }

    #[test]
    fn impossible_networks_contain_nothing() {
        let list = Networks::new(vec![[10, 0, 0, 0, 255], [9, 0, 0, 0, 33]], vec![[0xff; 17]]);
        assert!(!list.contains(ip("10.0.0.0")) && !list.contains(ip("9.0.0.0")));
        assert!(!list.contains(ip("ffff::")));
    }

    #[test]
    fn endless_lines_cost_nothing_and_count_once() {
        let mut reader = ListReader::default();
        for _ in 0..1_000 {
            reader.push_bytes(&[b'1'; 4_096]);
        }
        assert!(reader.line.capacity() <= 1_024);
        reader.push_bytes(b"\n1.1.1.1\n");
        let list = reader.finish().into_parsed();
        assert_eq!((list.networks.len(), list.bad_lines), (1, 1));
    }

    #[test]
    fn a_list_has_an_end() {
        let mut reader = ListReader::default();
        for n in 0..=MAX_NETWORKS as u32 {
            reader.push_bytes(format!("{}\n", Ipv4Addr::from_bits(n * 2)).as_bytes());
        }
        let list = reader.finish().into_parsed();
        assert_eq!((list.networks.len(), list.is_full), (MAX_NETWORKS, true));
    }
}
