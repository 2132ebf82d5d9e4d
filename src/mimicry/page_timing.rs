//! Measures the TLS records of one page visit: the times between them, which downloads imitate, and
//! the length of the certificate flight (PROTOCOL 12.3).

use crate::proto::records::RecordWalker;
use crate::proto::tls;

/// Record timing of one connection to a web server, from the encrypted bytes.
#[derive(Debug, Default)]
pub struct PageTiming {
    records: RecordWalker,
    /// The bytes were not TLS records; nothing is measured any more.
    is_broken: bool,
    /// End of the latest record of any type, in microseconds.
    latest_us: Option<u64>,
    /// End of the latest application data record, in microseconds.
    latest_data_us: Option<u64>,
    gaps_us: Vec<u64>,
    flight: Flight,
}

/// Bytes of the application data records between the server's ChangeCipherSpec and the next bytes
/// of the client: EncryptedExtensions to Finished, most of it the certificate.
#[derive(Debug, Default)]
enum Flight {
    #[default]
    NotStarted,
    Counting(u32),
    Done(u32),
}

impl PageTiming {
    /// Processes bytes from the server that arrived at `at_us`.
    pub fn received(&mut self, mut bytes: &[u8], at_us: u64) {
        while !self.is_broken {
            match self.records.next_piece(&mut bytes) {
                Ok(Some(piece)) if piece.is_last => self.record_ended(piece.kind, piece.len, at_us),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => self.is_broken = true,
            }
        }
    }

    /// Notes that the client sent bytes.
    pub fn client_sent(&mut self) {
        if let Flight::Counting(len @ 1..) = self.flight {
            self.flight = Flight::Done(len);
        }
    }

    /// The times from each application data record to the next, and from the record before the
    /// first one, in microseconds: at most 4,096.
    pub fn into_gaps(self) -> Vec<u64> {
        self.gaps_us
    }

    /// Length of the certificate flight in bytes; 0 = none was seen.
    pub fn flight_len(&self) -> u32 {
        match self.flight {
            Flight::Done(len) => len,
            Flight::NotStarted | Flight::Counting(_) => 0,
        }
    }

    fn record_ended(&mut self, kind: u8, len: u16, at_us: u64) {
        if kind == tls::APPLICATION_DATA {
            if let Some(before) = self.latest_data_us.or(self.latest_us)
                && self.gaps_us.len() < GAPS_MAX
            {
                // Records of one TCP segment arrive at the same time; the fit needs positive
                // values.
                self.gaps_us.push(at_us.saturating_sub(before).max(1));
            }
            self.latest_data_us = Some(at_us);
        }
        self.latest_us = Some(at_us);
        self.flight = match self.flight {
            Flight::NotStarted if kind == tls::CHANGE_CIPHER_SPEC => Flight::Counting(0),
            Flight::Counting(sum) if kind == tls::APPLICATION_DATA => {
                Flight::Counting(sum.saturating_add(len.into()))
            }
            Flight::NotStarted => Flight::NotStarted,
            Flight::Counting(sum) => Flight::Counting(sum),
            Flight::Done(sum) => Flight::Done(sum),
        };
    }
}

/// As many as a fit keeps, see `calibrate.rs`.
const GAPS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, len: u16) -> Vec<u8> {
        [&tls::header(kind, len)[..], &vec![0; len.into()]].concat()
    }

    #[test]
    fn gaps_are_those_between_data_records() {
        let mut timing = PageTiming::default();
        timing.received(&record(tls::HANDSHAKE, 90), 1_000);
        timing.received(&record(tls::CHANGE_CIPHER_SPEC, 1), 1_500);
        let data = record(tls::APPLICATION_DATA, 100);
        timing.received(&data[..50], 1_600);
        timing.received(&data[50..], 1_700);
        timing.received(&data, 1_700);
        timing.received(&record(tls::ALERT, 2), 2_000);
        timing.received(&data, 5_000);
        assert_eq!(timing.into_gaps(), [200, 1, 3_300]);
    }

    #[test]
    fn the_flight_ends_with_the_next_bytes_of_the_client() {
        let mut timing = PageTiming::default();
        timing.client_sent();
        timing.received(&record(tls::HANDSHAKE, 90), 0);
        timing.received(&record(tls::APPLICATION_DATA, 7), 0);
        timing.received(&record(tls::CHANGE_CIPHER_SPEC, 1), 0);
        timing.client_sent();
        for len in [38, 379, 95, 69] {
            timing.received(&record(tls::APPLICATION_DATA, len), 0);
        }
        assert_eq!(timing.flight_len(), 0, "not done");
        timing.client_sent();
        timing.received(&record(tls::APPLICATION_DATA, 1_000), 0);
        timing.client_sent();
        assert_eq!(timing.flight_len(), 581);
    }

    #[test]
    fn other_bytes_end_the_measurement_and_gaps_are_bounded() {
        let mut timing = PageTiming::default();
        timing.received(b"HTTP/1.1 200 OK", 0);
        timing.received(&record(tls::APPLICATION_DATA, 100), 0);
        assert!(timing.into_gaps().is_empty());
        let mut timing = PageTiming::default();
        (0..5_000).for_each(|at| timing.received(&record(tls::APPLICATION_DATA, 17), at));
        assert_eq!(timing.into_gaps().len(), GAPS_MAX);
    }
}
