//! The order in which servers are asked, over loopback sockets and in virtual time.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use mio::{Events, Poll};

use super::*;
use crate::daemon::resolver::lookup::{GRACE, LookupFault, LookupResult};
use crate::io::egress::Egress;
use crate::io::mio_net::MioNet;

/// What a server of these tests does: it answers with this code, or not at all.
type ServerScript = Option<u8>;

const GOOD: ServerScript = Some(0);
const SERVFAIL: ServerScript = Some(2);
const REFUSED: ServerScript = Some(5);
const SILENT: ServerScript = None;

struct QueryRig {
    poll: Poll,
    net: MioNet,
    servers: Servers,
    sockets: Vec<(UdpSocket, ServerScript)>,
    stats: ServerStats,
    drbg: Drbg,
    now: Tick,
}

impl QueryRig {
    fn new(scripts: &[ServerScript]) -> Self {
        let poll = Poll::new().unwrap();
        let net = MioNet::new(poll.registry().try_clone().unwrap(), Egress::default());
        let open = |script: &ServerScript| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            (socket, *script)
        };
        let sockets: Vec<(UdpSocket, ServerScript)> = scripts.iter().map(open).collect();
        let list = sockets.iter().map(|(socket, _)| socket.local_addr().unwrap()).collect();
        let servers = Servers { list, timeout: Duration::from_secs(2), attempts: 2 };
        let (stats, drbg, now) = (ServerStats::default(), Drbg::new([1; 48]), Tick(0));
        Self { poll, net, servers, sockets, stats, drbg, now }
    }

    /// The error that blames a server.
    fn fault_of(&self, server: usize, why: &str) -> LookupFault {
        LookupFault::Server(format!("name server {}: {why}", self.servers.list[server]))
    }

    /// Looks a name up; returns the result, and which servers were asked, in order.
    fn look_up(&mut self) -> (LookupResult, Vec<usize>) {
        let mut lookup = Lookup::new("a.example".to_owned(), Duration::ZERO, GRACE, self.now);
        let (mut plain, mut asked) = (PlainQuery::default(), Vec::new());
        let mut events = Events::with_capacity(8);
        loop {
            let mut context = QueryContext {
                servers: &self.servers,
                stats: &mut self.stats,
                options: &SocketOptions::default(),
                net: &mut self.net,
                drbg: &mut self.drbg,
                token: 1,
                now: self.now,
            };
            if plain.poll(&mut lookup, &mut context).is_ready() {
                return (lookup.into_result(), asked);
            }
            if self.serve(&mut asked) {
                self.poll.poll(&mut events, Some(Duration::from_millis(20))).unwrap();
            } else {
                self.now = lookup.due();
            }
        }
    }

    /// Lets the servers answer the queries that have come. Returns whether one did.
    fn serve(&mut self, asked: &mut Vec<usize>) -> bool {
        let mut answered = false;
        for (at, (socket, script)) in self.sockets.iter().enumerate() {
            let mut packet = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut packet) {
                if asked.last() != Some(&at) || packet[len - 3] == 1 {
                    asked.push(at);
                }
                let Some(code) = script else { continue };
                let mut reply = packet[..len].to_vec();
                (reply[2], reply[3]) = (0x81, 0x80 | code);
                if *code == 0 && packet[len - 3] == 1 {
                    reply[7] = 1;
                    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
                }
                socket.send_to(&reply, from).unwrap();
                answered = true;
            }
        }
        answered
    }
}

fn localhost() -> Vec<IpAddr> {
    vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]
}

#[test]
fn the_first_server_is_asked_and_no_other() {
    let (result, asked) = QueryRig::new(&[GOOD, GOOD]).look_up();
    assert_eq!((result.found, result.ttl_s, asked), (Ok(localhost()), 60, vec![0]));
}

#[test]
fn the_next_server_is_asked_where_one_fails_refuses_or_does_not_answer() {
    for bad in [SERVFAIL, REFUSED, SILENT] {
        let mut rig = QueryRig::new(&[bad, bad, GOOD]);
        let (result, asked) = rig.look_up();
        assert_eq!((result.found, asked), (Ok(localhost()), vec![0, 1, 2]), "{bad:?}");
        let took_ms = if bad == SILENT { 4_000 } else { 0 };
        assert_eq!(rig.now, Tick(took_ms), "{bad:?}");
    }
}

#[test]
fn a_server_that_answered_is_asked_first_for_a_minute() {
    let mut rig = QueryRig::new(&[SERVFAIL, GOOD]);
    assert_eq!(rig.look_up().1, [0, 1]);
    assert_eq!(rig.look_up().1, [1]);
    rig.now = Tick(60_000);
    assert_eq!(rig.look_up().1, [0, 1]);
}

#[test]
fn servers_that_refuse_are_asked_once_and_silent_ones_again() {
    let mut rig = QueryRig::new(&[REFUSED, SERVFAIL]);
    let (result, asked) = rig.look_up();
    assert_eq!((result.ttl_s, asked), (0, vec![0, 1]));
    assert_eq!(result.found, Err(rig.fault_of(1, "it answers SERVFAIL")));
    let mut rig = QueryRig::new(&[SILENT, SILENT]);
    let (result, asked) = rig.look_up();
    assert_eq!((result.ttl_s, asked), (0, vec![0, 1, 0, 1]));
    assert_eq!(result.found, Err(rig.fault_of(0, "no answer")));
    assert_eq!(rig.now, Tick(8_000));
}
