//! What the records of one visit to a web page tell: their pace, which downloads imitate, and the
//! length of the certificate's flight (spec: protocol 12.3).

use crate::proto::records::RecordWalker;
use crate::proto::tls;

/// One connection to a web server, watched from outside TLS.
#[derive(Debug, Default)]
pub struct PageTiming {
    records: RecordWalker,
    is_broken: bool,
    /// When the latest record ended, of any kind and of application data, in microseconds.
    latest: Option<u64>,
    latest_data: Option<u64>,
    gaps: Vec<u64>,
    flight: Flight,
}

/// The records between the server's ChangeCipherSpec and the first word of the client behind it.
#[derive(Debug, Default)]
enum Flight {
    #[default]
    Ahead,
    Running(u32),
    Over(u32),
}

impl PageTiming {
    /// Bytes have come from the server.
    pub fn received(&mut self, mut bytes: &[u8], at_us: u64) {
        while !self.is_broken {
            match self.records.next_piece(&mut bytes) {
                Ok(Some(piece)) if piece.is_last => self.note(piece.kind, piece.len, at_us),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => self.is_broken = true,
            }
        }
    }

    /// The client has sent something.
    pub fn client_sent(&mut self) {
        if let Flight::Running(len @ 1..) = self.flight {
            self.flight = Flight::Over(len);
        }
    }

    /// The time from each record of application data to the next, and from the record before the
    /// first one, in microseconds: 4,096 at most.
    pub fn into_gaps(self) -> Vec<u64> {
        self.gaps
    }

    /// Bytes of the certificate's flight; 0 = none was seen.
    pub fn flight_len(&self) -> u32 {
        match self.flight {
            Flight::Over(len) => len,
            Flight::Ahead | Flight::Running(_) => 0,
        }
    }

    fn note(&mut self, kind: u8, len: u16, at_us: u64) {
        if kind == tls::APPLICATION_DATA {
            if let Some(before) = self.latest_data.or(self.latest)
                && self.gaps.len() < GAPS_MAX
            {
                // Records of one segment come at the same microsecond; a pace of zero is none.
                self.gaps.push(at_us.saturating_sub(before).max(1));
            }
            self.latest_data = Some(at_us);
        }
        self.latest = Some(at_us);
        self.flight = match self.flight {
            Flight::Ahead if kind == tls::CHANGE_CIPHER_SPEC => Flight::Running(0),
            Flight::Running(sum) if kind == tls::APPLICATION_DATA => {
                Flight::Running(sum.saturating_add(len.into()))
            }
            Flight::Ahead => Flight::Ahead,
            Flight::Running(sum) => Flight::Running(sum),
            Flight::Over(sum) => Flight::Over(sum),
        };
    }
}

/// As many as a fit keeps.
const GAPS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, len: u16) -> Vec<u8> {
        [&tls::header(kind, len)[..], &vec![0; len.into()]].concat()
    }

    #[test]
    fn gaps_are_those_between_records_of_data() {
        let mut visit = PageTiming::default();
        visit.received(&record(tls::HANDSHAKE, 90), 1_000);
        visit.received(&record(tls::CHANGE_CIPHER_SPEC, 1), 1_500);
        let data = record(tls::APPLICATION_DATA, 100);
        visit.received(&data[..50], 1_600);
        visit.received(&data[50..], 1_700);
        visit.received(&data, 1_700);
        visit.received(&record(tls::ALERT, 2), 2_000);
        visit.received(&data, 5_000);
        assert_eq!(visit.into_gaps(), [200, 1, 3_300]);
    }

    #[test]
    fn the_flight_ends_with_the_clients_next_word() {
        let mut visit = PageTiming::default();
        visit.client_sent();
        visit.received(&record(tls::HANDSHAKE, 90), 0);
        visit.received(&record(tls::APPLICATION_DATA, 7), 0);
        visit.received(&record(tls::CHANGE_CIPHER_SPEC, 1), 0);
        visit.client_sent();
        for len in [38, 379, 95, 69] {
            visit.received(&record(tls::APPLICATION_DATA, len), 0);
        }
        assert_eq!(visit.flight_len(), 0, "not over");
        visit.client_sent();
        visit.received(&record(tls::APPLICATION_DATA, 1_000), 0);
        visit.client_sent();
        assert_eq!(visit.flight_len(), 581);
    }

    #[test]
    fn what_is_no_tls_ends_it_and_gaps_are_bounded() {
        let mut visit = PageTiming::default();
        visit.received(b"HTTP/1.1 200 OK", 0);
        visit.received(&record(tls::APPLICATION_DATA, 100), 0);
        assert!(visit.into_gaps().is_empty());
        let mut visit = PageTiming::default();
        (0..5_000).for_each(|at| visit.received(&record(tls::APPLICATION_DATA, 17), at));
        assert_eq!(visit.into_gaps().len(), GAPS_MAX);
    }
}
