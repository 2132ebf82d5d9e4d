//! How long the FIN of an unauthenticated client waits before it is forwarded to the front.
//!
//! Who sends the first FIN keeps the port in TIME_WAIT for a minute. A client that has closed its
//! socket and one that only ended its direction look the same, until bytes of the front reach them:
//! the first one answers with RST, and then the connection to the front can be reset as well, which
//! leaves nothing behind. So the FIN waits for these bytes, but not for long, since a client may
//! wait for what the front does after it.

/// What the client has of the front's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// The front has sent nothing yet.
    Nothing,
    /// Bytes are on the way to the client.
    InFlight,
    /// The client has acknowledged all bytes, so its socket is open.
    Acknowledged,
}

/// What becomes of a FIN that could be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinAction {
    /// It waits. Ask again.
    Hold,
    /// It is forwarded.
    Forward,
    /// The connection to the front is reset instead.
    Reset,
}

/// The wait of one FIN.
#[derive(Debug, Default)]
pub struct FinHold {
    /// The low 32 bits of the deadline in milliseconds.
    until_ms: u32,
    stage: HoldStage,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum HoldStage {
    #[default]
    Unused,
    AwaitsAnswer,
    AwaitsAck,
    AwaitsQuiet,
}

impl FinHold {
    /// What to do with the FIN. `active_ms` is when bytes were last forwarded, if a port in
    /// TIME_WAIT is to be saved: then a client that has all bytes of a silent front counts as gone.
    pub fn action(&mut self, answered: Answered, active_ms: Option<u64>, now_ms: u64) -> FinAction {
        let (stage, until_ms) = match (answered, active_ms) {
            (Answered::Acknowledged, None) => return FinAction::Forward,
            (Answered::Acknowledged, Some(at)) => (HoldStage::AwaitsQuiet, at + ANSWER_MS),
            (Answered::Nothing, _) => (HoldStage::AwaitsAnswer, now_ms + ANSWER_MS),
            (Answered::InFlight, _) => (HoldStage::AwaitsAck, now_ms + ACK_MS),
        };
        let is_next = match self.stage {
            HoldStage::Unused | HoldStage::AwaitsQuiet => true,
            HoldStage::AwaitsAnswer => stage != HoldStage::AwaitsAnswer,
            HoldStage::AwaitsAck => stage == HoldStage::AwaitsQuiet,
        };
        if is_next {
            (self.stage, self.until_ms) = (stage, until_ms as u32);
        }
        match (self.left_ms(now_ms), self.stage) {
            (1.., _) => FinAction::Hold,
            (0, HoldStage::AwaitsQuiet) => FinAction::Reset,
            (0, _) => FinAction::Forward,
        }
    }

    /// When to ask again; `None` = the wait is over, or has not begun.
    pub fn due_ms(&self, now_ms: u64) -> Option<u64> {
        let left = self.left_ms(now_ms);
        let next = match self.stage {
            HoldStage::Unused => return None,
            HoldStage::AwaitsAnswer | HoldStage::AwaitsQuiet => left,
            // No event reports an acknowledgement.
            HoldStage::AwaitsAck => left.min(LOOK_MS),
        };
        (left > 0).then(|| now_ms + u64::from(next))
    }

    fn left_ms(&self, now_ms: u64) -> u32 {
        // A deadline in the past is a number above the largest wait.
        let left = self.until_ms.wrapping_sub(now_ms as u32);
        if u64::from(left) <= ANSWER_MS.max(ACK_MS) { left } else { 0 }
    }
}

/// How long the FIN waits for the first byte of the front, or for the next one.
const ANSWER_MS: u64 = 60;
/// How long it waits for the acknowledgement of these bytes: a long round trip.
const ACK_MS: u64 = 300;
/// Between two looks at what is acknowledged.
const LOOK_MS: u32 = 25;

#[cfg(test)]
mod tests {
    use super::Answered::{Acknowledged, InFlight, Nothing};
    use super::FinAction::{Forward, Hold, Reset};
    use super::*;

    /// Near the end of 32 bits, so that the deadline wraps.
    const START: u64 = (1 << 32) - 30;

    #[test]
    fn a_fin_waits_for_an_answer_and_then_for_its_acknowledgement() {
        let mut hold = FinHold::default();
        assert_eq!(hold.due_ms(START), None);
        assert_eq!(hold.action(Nothing, None, START), Hold);
        assert_eq!(hold.due_ms(START), Some(START + 60));
        assert_eq!(hold.action(InFlight, None, START + 59), Hold);
        assert_eq!(hold.due_ms(START + 59), Some(START + 84));
        assert_eq!(hold.action(InFlight, None, START + 358), Hold);
        assert_eq!(hold.due_ms(START + 358), Some(START + 359));
        assert_eq!(hold.action(InFlight, None, START + 359), Forward, "the wait is over");
        assert_eq!(hold.due_ms(START + 359), None);
    }

    #[test]
    fn a_fin_without_an_answer_is_forwarded_soon() {
        for active in [None, Some(START)] {
            let mut hold = FinHold::default();
            assert_eq!(hold.action(Nothing, active, START), Hold);
            assert_eq!(hold.action(Nothing, active, START + 59), Hold);
            assert_eq!(hold.action(Nothing, active, START + 60), Forward);
            assert_eq!(hold.due_ms(START + 100_000), None);
        }
    }

    #[test]
    fn a_fin_after_acknowledged_bytes_does_not_wait() {
        assert_eq!(FinHold::default().action(Acknowledged, None, START), Forward);
        let mut hold = FinHold::default();
        assert_eq!(hold.action(Nothing, None, START), Hold);
        assert_eq!(hold.action(Acknowledged, None, START + 1), Forward);
    }

    #[test]
    fn to_save_a_port_the_connection_to_a_silent_front_is_reset() {
        let mut hold = FinHold::default();
        assert_eq!(hold.action(Acknowledged, Some(START), START + 20), Hold);
        assert_eq!(hold.due_ms(START + 20), Some(START + 60));
        assert_eq!(hold.action(InFlight, Some(START + 50), START + 50), Hold);
        assert_eq!(hold.due_ms(START + 50), Some(START + 75));
        assert_eq!(hold.action(Acknowledged, Some(START + 50), START + 75), Hold);
        assert_eq!(hold.action(Acknowledged, Some(START + 50), START + 110), Reset);
        assert_eq!(hold.action(Acknowledged, None, START + 110), Forward, "there are ports again");
        let mut late = FinHold::default();
        assert_eq!(late.action(Acknowledged, Some(START), START + 5_000), Reset);
    }
}
