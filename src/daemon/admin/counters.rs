//! Counters of the whole daemon. The code that causes an event adds to them; pages compute the rest
//! on request.

use std::net::IpAddr;

use crate::daemon::session::standing::{Room, Standing};

/// Counters that belong to no user.
#[derive(Default)]
pub struct Counters {
    /// Live sessions, by the address family of the client.
    pub clients: Families,
    /// Live sessions that are relayed to the front, or will be.
    pub fronting: Families,
    /// Connections to Telegram.
    pub telegram: DcConnections,
    /// Bytes between unauthenticated clients and the front.
    pub front: Traffic,
    /// Sessions that were relayed to the front, since start.
    pub fronted: u64,
    /// Connections refused because `concurrency` was reached.
    pub concurrency_limited: u64,
    /// Sessions closed to make room, by the kind of room and by whose they were.
    pub evicted: [[u64; Standing::NAMES.len()]; Room::ALL.len()],
    /// Hellos that the replay store contained.
    pub replays: u64,
    /// Connections closed because of their PROXY protocol header.
    pub bad_headers: u64,
    /// Hellos refused by the throttle.
    pub throttled: u64,
    /// Sessions of users for which no address of Telegram was reachable.
    pub unreachable: u64,
    /// Sessions closed for lack of memory or of slots for fronted sessions.
    pub pressed: u64,
    /// Unauthenticated clients that waited for their connection to the front.
    pub dials_delayed: u64,
    /// Unauthenticated clients closed, since the wait would have been too long.
    pub dials_refused: u64,
    /// Datagrams to statsd that could not be sent.
    pub statsd_lost: u64,
    /// A timer changed state in this round: statsd may have to send without an event.
    pub state_changed: bool,
    /// Reads of this round that returned bytes, for read coalescing.
    pub reads: u32,
    /// Bytes of those reads.
    pub read_bytes: u64,
}

impl Counters {
    /// Sessions closed to make room: whose, for what, how many. Without those that are 0.
    pub fn evictions(&self) -> impl Iterator<Item = (&'static str, Room, u64)> + '_ {
        let rooms = Room::ALL.into_iter().zip(&self.evicted);
        let all = rooms.flat_map(|(room, counts)| {
            Standing::NAMES.into_iter().zip(counts).map(move |(who, count)| (who, room, *count))
        });
        all.filter(|(.., count)| *count > 0)
    }

    /// Sessions closed because all places, or all those of users, were taken.
    pub fn evicted_for_places(&self) -> u64 {
        let rooms = [Room::Place, Room::User];
        rooms.iter().flat_map(|room| self.evicted[*room as usize]).sum()
    }

    /// Counts a read that returned `bytes`.
    pub fn read(&mut self, bytes: usize) {
        self.reads += 1;
        self.read_bytes += bytes as u64;
    }
}

/// One count per address family.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: u64,
    /// IPv6.
    pub v6: u64,
}

impl Families {
    /// Adds one to the family of `addr`.
    pub fn add(&mut self, addr: IpAddr) {
        *self.of(addr) += 1;
    }

    /// Subtracts one from the family of `addr`.
    pub fn remove(&mut self, addr: IpAddr) {
        let count = self.of(addr);
        debug_assert!(*count > 0);
        *count = count.saturating_sub(1);
    }

    fn of(&mut self, addr: IpAddr) -> &mut u64 {
        if addr.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

/// Payload bytes, by direction.
#[derive(Debug, Default, Clone, Copy)]
pub struct Traffic {
    /// Towards the client.
    pub to_client: u64,
    /// From the client.
    pub from_client: u64,
}

/// The row of [`DcConnections`] that counts a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DcConnectionId(u16);

/// Connections to Telegram, by address and data centre. Rows are few and are never removed:
/// Prometheus expects that a counter does not disappear.
#[derive(Default)]
pub struct DcConnections {
    rows: Vec<DcRow>,
}

/// One address of one data centre.
pub struct DcRow {
    /// `None` = all connections for which no row was free.
    pub endpoint: Option<(IpAddr, u16)>,
    /// Open connections.
    pub connections: u64,
    /// Payload bytes since start.
    pub traffic: Traffic,
}

impl DcConnections {
    /// Counts an open connection to data centre `dc` at `ip`.
    pub fn add(&mut self, ip: IpAddr, dc: u16) -> DcConnectionId {
        let wanted = Some((ip, dc));
        let endpoint = if self.rows.len() < ROWS_MAX { wanted } else { None };
        let known = self.rows.iter().position(|row| row.endpoint == wanted);
        let known = known.or_else(|| self.rows.iter().position(|row| row.endpoint == endpoint));
        let at = known.unwrap_or_else(|| {
            self.rows.push(DcRow { endpoint, connections: 0, traffic: Traffic::default() });
            self.rows.len() - 1
        });
        if let Some(row) = self.rows.get_mut(at) {
            row.connections += 1;
        }
        DcConnectionId(at as u16)
    }

    /// Counts the end of a connection.
    pub fn remove(&mut self, id: DcConnectionId) {
        if let Some(row) = self.rows.get_mut(usize::from(id.0)) {
            row.connections = row.connections.saturating_sub(1);
        }
    }

    /// The byte counters of a connection.
    pub fn traffic(&mut self, id: DcConnectionId) -> Option<&mut Traffic> {
        self.rows.get_mut(usize::from(id.0)).map(|row| &mut row.traffic)
    }

    /// All rows, oldest first.
    pub fn rows(&self) -> &[DcRow] {
        &self.rows
    }
}

/// Telegram has about twenty addresses; lists and overrides can add more.
const ROWS_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_bounded_and_come_back_to_zero() {
        let mut telegram = DcConnections::default();
        let ids: Vec<DcConnectionId> =
            (0..1000u32).map(|at| telegram.add(IpAddr::V4(at.into()), (at % 5) as u16)).collect();
        assert_eq!(telegram.rows().len(), ROWS_MAX + 1);
        let Some(other) = telegram.rows().last() else { panic!("no rows") };
        assert_eq!((other.endpoint, other.connections), (None, 1000 - ROWS_MAX as u64));
        assert_eq!(telegram.add(IpAddr::V4(3.into()), 3), ids[3], "known ones are found");
        telegram.remove(ids[3]);
        ids.into_iter().for_each(|id| telegram.remove(id));
        assert!(telegram.rows().iter().all(|row| row.connections == 0));
    }
}
