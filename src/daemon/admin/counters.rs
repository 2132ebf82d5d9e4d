//! What the whole daemon counts: plain numbers, added where the thing happens. Nothing is computed
//! here until somebody asks.

use std::net::IpAddr;

/// Numbers that no user owns.
#[derive(Default)]
pub struct Counters {
    /// Sessions that live now, by the client's family.
    pub clients: Families,
    /// Those of them that are plain pipes to the front, or about to be.
    pub fronting: Families,
    /// Connections to Telegram.
    pub telegram: DcConnections,
    /// Bytes between strangers and the front.
    pub front: Traffic,
    /// Sessions turned into plain pipes.
    pub fronted: u64,
    /// Connections closed because `concurrency` was reached.
    pub concurrency_limited: u64,
    /// Hellos that the replay store knew.
    pub replays: u64,
    /// Connections closed for their PROXY protocol header.
    pub bad_headers: u64,
    /// Hellos over their user's fair share.
    pub throttled: u64,
    /// Sessions of users that came to no address of Telegram.
    pub unreachable: u64,
    /// Sessions that ended for want of memory or places.
    pub pressed: u64,
    /// Datagrams that statsd did not get, as far as we know.
    pub statsd_lost: u64,
    /// Something was done in this round that no event has announced.
    pub stirred: bool,
    /// Reads of this round, for the moderation.
    pub reads: u32,
    /// Bytes of those reads.
    pub read_bytes: u64,
}

impl Counters {
    /// Counts a read that brought `bytes`.
    pub fn read(&mut self, bytes: usize) {
        self.reads += 1;
        self.read_bytes += bytes as u64;
    }
}

/// A count for each family of addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: u64,
    /// IPv6.
    pub v6: u64,
}

impl Families {
    /// One more.
    pub fn add(&mut self, addr: IpAddr) {
        *self.of(addr) += 1;
    }

    /// One less.
    pub fn take(&mut self, addr: IpAddr) {
        let count = self.of(addr);
        debug_assert!(*count > 0);
        *count = count.saturating_sub(1);
    }

    fn of(&mut self, addr: IpAddr) -> &mut u64 {
        if addr.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

/// Payload bytes by direction.
#[derive(Debug, Default, Clone, Copy)]
pub struct Traffic {
    /// Towards the client.
    pub to_client: u64,
    /// From the client.
    pub from_client: u64,
}

/// Which row of [`DcConnections`] a session counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DcConnectionId(u16);

/// Connections to Telegram, by address and data centre. Rows are few and stay: a label that has
/// been shown must not vanish while its counter is looked at.
#[derive(Default)]
pub struct DcConnections {
    rows: Vec<DcRow>,
}

/// One address of one data centre.
pub struct DcRow {
    /// `None` = all that found no row of their own.
    pub place: Option<(IpAddr, u16)>,
    /// Connections that stand now.
    pub connections: u64,
    /// Payload bytes since start.
    pub traffic: Traffic,
}

impl DcConnections {
    /// A connection stands.
    pub fn entered(&mut self, ip: IpAddr, dc: u16) -> DcConnectionId {
        let wanted = Some((ip, dc));
        let place = if self.rows.len() < MOST_ROWS { wanted } else { None };
        let known = self.rows.iter().position(|row| row.place == wanted);
        let known = known.or_else(|| self.rows.iter().position(|row| row.place == place));
        let at = known.unwrap_or_else(|| {
            self.rows.push(DcRow { place, connections: 0, traffic: Traffic::default() });
            self.rows.len() - 1
        });
        if let Some(row) = self.rows.get_mut(at) {
            row.connections += 1;
        }
        DcConnectionId(at as u16)
    }

    /// A connection has ended.
    pub fn left(&mut self, upstream: DcConnectionId) {
        if let Some(row) = self.rows.get_mut(usize::from(upstream.0)) {
            row.connections = row.connections.saturating_sub(1);
        }
    }

    /// Where the bytes of a connection are counted.
    pub fn traffic(&mut self, upstream: DcConnectionId) -> Option<&mut Traffic> {
        self.rows.get_mut(usize::from(upstream.0)).map(|row| &mut row.traffic)
    }

    /// All rows, the oldest first.
    pub fn rows(&self) -> &[DcRow] {
        &self.rows
    }
}

/// Telegram has some twenty addresses; lists and overrides may name more.
const MOST_ROWS: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_bounded_and_come_back_to_zero() {
        let mut telegram = DcConnections::default();
        let places: Vec<DcConnectionId> = (0..1000u32)
            .map(|at| telegram.entered(IpAddr::V4(at.into()), (at % 5) as u16))
            .collect();
        assert_eq!(telegram.rows().len(), MOST_ROWS + 1);
        let Some(other) = telegram.rows().last() else { panic!("no rows") };
        assert_eq!((other.place, other.connections), (None, 1000 - MOST_ROWS as u64));
        assert_eq!(telegram.entered(IpAddr::V4(3.into()), 3), places[3], "known ones are found");
        telegram.left(places[3]);
        places.into_iter().for_each(|place| telegram.left(place));
        assert!(telegram.rows().iter().all(|row| row.connections == 0));
    }
}
