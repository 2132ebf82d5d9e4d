//! Our DNS codec against NLnet Labs' `domain` crate: it parses our queries, we parse its answers,
//! and both parse damaged answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::base::iana::{Class, Rtype};
use domain::base::message_builder::{AnswerBuilder, TreeCompressor};
use domain::base::{Message, MessageBuilder, Name, ToName, Ttl};
use domain::rdata::{A, Aaaa, Cname};
use mtbox::proto::dns::{self, RecordType};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

type Owned = Name<Vec<u8>>;

fn name(text: &str) -> Owned {
    text.parse().expect("a name")
}

fn names() -> impl Strategy<Value = String> {
    vec("[a-zA-Z0-9_-]{1,20}", 1..6).prop_map(|labels| labels.join("."))
}

fn kinds() -> impl Strategy<Value = RecordType> {
    prop_oneof![Just(RecordType::A), Just(RecordType::Aaaa)]
}

fn rtype(kind: RecordType) -> Rtype {
    match kind {
        RecordType::A => Rtype::A,
        RecordType::Aaaa => Rtype::AAAA,
    }
}

/// One record of an answer.
#[derive(Debug, Clone)]
enum Entry {
    Alias { owner: usize, to: usize, ttl_s: u32 },
    Address { owner: usize, addr: IpAddr, ttl_s: u32 },
}

/// An answer to a query for the first host: aliases from each host to the next, addresses of the
/// last one and of an unrelated host, in any order.
#[derive(Debug, Clone)]
struct Scenario {
    id: u16,
    kind: RecordType,
    hosts: Vec<String>,
    entries: Vec<Entry>,
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
        any::<[u8; 16]>().prop_map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
    ]
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let hosts = 1..9_usize;
    (any::<u16>(), kinds(), hosts, any::<u32>()).prop_flat_map(|(id, kind, count, ttl)| {
        let hosts: Vec<String> = (0..=count).map(|n| format!("Host{n}.Some.Example")).collect();
        let ttls = move || 0..=(ttl >> 1);
        // No alias leads to the last host, so its addresses must be ignored.
        let address = (0..2_usize, addresses(), ttls()).prop_map(move |(other, addr, ttl_s)| {
            Entry::Address { owner: count - 1 + other, addr, ttl_s }
        });
        let chain = vec(ttls(), count - 1).prop_map(|ttls| {
            let alias = |(owner, ttl_s)| Entry::Alias { owner, to: owner + 1, ttl_s };
            ttls.into_iter().enumerate().map(alias).collect::<Vec<_>>()
        });
        let entries = (chain, vec(address, 0..20))
            .prop_map(|(chain, rest)| [chain, rest].concat())
            .prop_shuffle();
        entries.prop_map(move |entries| Scenario { id, kind, hosts: hosts.clone(), entries })
    })
}

impl Scenario {
    /// The answer, written by the `domain` crate with name compression.
    fn packet(&self) -> Vec<u8> {
        let target = TreeCompressor::new(Vec::new());
        let mut message = MessageBuilder::from_target(target).expect("room");
        let header = message.header_mut();
        header.set_id(self.id);
        header.set_qr(true);
        let mut question = message.question();
        question.push((name(&self.hosts[0]), rtype(self.kind))).expect("room");
        let mut answer: AnswerBuilder<_> = question.answer();
        for entry in &self.entries {
            let pushed = match entry {
                Entry::Alias { owner, to, ttl_s } => answer.push((
                    name(&self.hosts[*owner]),
                    Class::IN,
                    Ttl::from_secs(*ttl_s),
                    Cname::new(name(&self.hosts[*to])),
                )),
                Entry::Address { owner, addr: IpAddr::V4(ip), ttl_s } => answer.push((
                    name(&self.hosts[*owner]),
                    Class::IN,
                    Ttl::from_secs(*ttl_s),
                    A::new(*ip),
                )),
                Entry::Address { owner, addr: IpAddr::V6(ip), ttl_s } => answer.push((
                    name(&self.hosts[*owner]),
                    Class::IN,
                    Ttl::from_secs(*ttl_s),
                    Aaaa::new(*ip),
                )),
            };
            pushed.expect("room");
        }
        answer.finish().into_target()
    }
}

/// The addresses of the canonical name, or with `all` of any name, that the `domain` crate finds in
/// the answer section; `None` = it cannot parse the section.
fn parse_with_domain(packet: &[u8], kind: RecordType, all: bool) -> Option<Vec<IpAddr>> {
    let message = Message::from_octets(packet).ok()?;
    let owner = message.canonical_name()?;
    let mut found = Vec::new();
    for record in message.answer().ok()? {
        let record = record.ok()?;
        if !(all || record.owner().name_eq(&owner)) {
            continue;
        }
        let addr: Option<IpAddr> = match kind {
            RecordType::A => record.to_record::<A>().ok()?.map(|a| a.data().addr().into()),
            RecordType::Aaaa => record.to_record::<Aaaa>().ok()?.map(|a| a.data().addr().into()),
        };
        found.extend(addr.filter(|addr| !found.contains(addr)));
    }
    Some(found)
}

proptest! {
    #[test]
    fn our_queries_are_parsed_by_the_domain_crate(
        id in any::<u16>(), host in names(), kind in kinds(),
    ) {
        let mut packet = Vec::new();
        prop_assert!(dns::write_query(&mut packet, id, &host, kind).is_ok());
        let message = Message::from_octets(&packet[..]).expect("a message");
        prop_assert_eq!(message.header().id(), id);
        prop_assert!(message.header().rd() && !message.header().qr());
        let question = message.sole_question().expect("one question");
        prop_assert_eq!(question.qname().to_string(), host);
        prop_assert_eq!((question.qtype(), question.qclass()), (rtype(kind), Class::IN));
    }

    #[test]
    fn answers_of_the_domain_crate_are_parsed_equally(scenario in scenarios()) {
        let packet = scenario.packet();
        let expected = parse_with_domain(&packet, scenario.kind, false).expect("a valid answer");
        let host = scenario.hosts[0].to_lowercase();
        match dns::parse_answer(&packet, scenario.id, &host, scenario.kind) {
            Ok(answer) => {
                prop_assert_eq!(&answer.addrs[..], &expected[..expected.len().min(16)]);
                let ttls = scenario.entries.iter().filter_map(|entry| match entry {
                    Entry::Alias { ttl_s, .. } => Some(*ttl_s),
                    Entry::Address { owner, addr, ttl_s } => {
                        let kind = if addr.is_ipv4() { RecordType::A } else { RecordType::Aaaa };
                        let last = *owner == scenario.hosts.len() - 2;
                        (last && kind == scenario.kind).then_some(*ttl_s)
                    }
                });
                prop_assert_eq!(Some(answer.ttl_s), ttls.min());
            }
            Err(fault) => {
                prop_assert_eq!(fault, dns::DnsFault::NoData);
                prop_assert!(expected.is_empty(), "{expected:?}");
            }
        }
    }

    #[test]
    fn addresses_of_a_damaged_answer_are_found_by_the_domain_crate_too(
        scenario in scenarios(),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        end in any::<Index>(),
        cut in any::<bool>(),
    ) {
        let mut packet = scenario.packet();
        for (at, byte) in damage {
            // Keep the header, or it is not an answer to the query.
            let body = packet.len() - 12;
            let at = 12 + at.index(body.max(1));
            if let Some(place) = packet.get_mut(at) {
                *place = byte;
            }
        }
        if cut {
            packet.truncate(end.index(packet.len() + 1));
        }
        let host = scenario.hosts[0].to_lowercase();
        if let Ok(answer) = dns::parse_answer(&packet, scenario.id, &host, scenario.kind)
            && let Some(seen) = parse_with_domain(&packet, scenario.kind, true)
        {
            let extra: Vec<_> = answer.addrs.iter().filter(|addr| !seen.contains(addr)).collect();
            prop_assert!(extra.is_empty(), "{extra:?} not in {seen:?}");
        }
    }
}
