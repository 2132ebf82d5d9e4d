//! Our DNS codec beside that of NLnet Labs: questions that it reads, answers that it writes, and
//! answers that both read after something has gone wrong on the way.

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

/// One record of an answer to be written.
#[derive(Debug, Clone)]
enum Entry {
    Alias { owner: usize, to: usize, ttl_s: u32 },
    Address { owner: usize, addr: IpAddr, ttl_s: u32 },
}

/// An answer: a question for the first of some names, aliases from each to the next, and
/// addresses at the last one and elsewhere, in any order.
#[derive(Debug, Clone)]
struct Scene {
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

fn scenes() -> impl Strategy<Value = Scene> {
    let hosts = 1..9_usize;
    (any::<u16>(), kinds(), hosts, any::<u32>()).prop_flat_map(|(id, kind, count, ttl)| {
        let hosts: Vec<String> = (0..=count).map(|n| format!("Host{n}.Some.Example")).collect();
        let ttls = move || 0..=(ttl >> 1);
        // The last name is not an alias of another; its addresses belong to another owner.
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
        entries.prop_map(move |entries| Scene { id, kind, hosts: hosts.clone(), entries })
    })
}

impl Scene {
    /// The packet as the other codec writes it, names compressed.
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

/// The addresses of `owner`, or of all owners, that the other codec sees in the answer section;
/// `None` = it cannot read it to the end.
fn seen_by_the_other(packet: &[u8], kind: RecordType, all: bool) -> Option<Vec<IpAddr>> {
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
    fn our_questions_are_read_as_they_are_meant(
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
    fn answers_of_the_other_codec_are_read_as_it_reads_them(scene in scenes()) {
        let packet = scene.packet();
        let expected = seen_by_the_other(&packet, scene.kind, false).expect("a good answer");
        let host = scene.hosts[0].to_lowercase();
        match dns::parse_answer(&packet, scene.id, &host, scene.kind) {
            Ok(answer) => {
                prop_assert_eq!(&answer.addrs[..], &expected[..expected.len().min(16)]);
                let on_the_way = scene.entries.iter().filter_map(|entry| match entry {
                    Entry::Alias { ttl_s, .. } => Some(*ttl_s),
                    Entry::Address { owner, addr, ttl_s } => {
                        let kind = if addr.is_ipv4() { RecordType::A } else { RecordType::Aaaa };
                        let last = *owner == scene.hosts.len() - 2;
                        (last && kind == scene.kind).then_some(*ttl_s)
                    }
                });
                prop_assert_eq!(Some(answer.ttl_s), on_the_way.min());
            }
            Err(fault) => {
                prop_assert_eq!(fault, dns::DnsFault::NoData);
                prop_assert!(expected.is_empty(), "{expected:?}");
            }
        }
    }

    #[test]
    fn what_we_believe_of_a_damaged_answer_the_other_codec_sees_too(
        scene in scenes(),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        end in any::<Index>(),
        cut in any::<bool>(),
    ) {
        let mut packet = scene.packet();
        for (at, byte) in damage {
            // Behind the header, or it is no answer to us at all.
            let body = packet.len() - 12;
            let at = 12 + at.index(body.max(1));
            if let Some(place) = packet.get_mut(at) {
                *place = byte;
            }
        }
        if cut {
            packet.truncate(end.index(packet.len() + 1));
        }
        let host = scene.hosts[0].to_lowercase();
        if let Ok(answer) = dns::parse_answer(&packet, scene.id, &host, scene.kind)
            && let Some(seen) = seen_by_the_other(&packet, scene.kind, true)
        {
            let stray: Vec<_> = answer.addrs.iter().filter(|addr| !seen.contains(addr)).collect();
            prop_assert!(stray.is_empty(), "{stray:?} not in {seen:?}");
        }
    }
}
