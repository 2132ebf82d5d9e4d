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
}

impl FinHold {
    /// Whether the FIN, which could be forwarded now, waits longer. Ask again until it does not.
    pub fn holds(&mut self, answered: Answered, now_ms: u64) -> bool {
        let (stage, limit_ms) = match answered {
            Answered::Acknowledged => return false,
            Answered::Nothing => (HoldStage::AwaitsAnswer, ANSWER_MS),
            Answered::InFlight => (HoldStage::AwaitsAck, ACK_MS),
        };
        if self.stage == HoldStage::Unused
            || (self.stage, stage) == (HoldStage::AwaitsAnswer, HoldStage::AwaitsAck)
        {
            (self.stage, self.until_ms) = (stage, (now_ms as u32).wrapping_add(limit_ms));
        }
        self.left_ms(now_ms) > 0
    }

    /// When to ask again; `None` = the wait is over, or has not begun.
    pub fn due_ms(&self, now_ms: u64) -> Option<u64> {
        let left = self.left_ms(now_ms);
        let next = match self.stage {
            HoldStage::Unused => return None,
            HoldStage::AwaitsAnswer => left,
            // No event reports an acknowledgement.
            HoldStage::AwaitsAck => left.min(LOOK_MS),
        };
        (left > 0).then(|| now_ms + u64::from(next))
    }

    fn left_ms(&self, now_ms: u64) -> u32 {
        // A deadline in the past is a number above the largest wait.
        let left = self.until_ms.wrapping_sub(now_ms as u32);
        if left <= ANSWER_MS.max(ACK_MS) { left } else { 0 }
    }
}

/// How long the FIN waits for the first byte of the front.
const ANSWER_MS: u32 = 60;
/// How long it waits for the acknowledgement of these bytes: a long round trip.
const ACK_MS: u32 = 300;
/// Between two looks at what is acknowledged.
const LOOK_MS: u32 = 25;

#[cfg(test)]
mod tests {
    use super::Answered::{Acknowledged, InFlight, Nothing};
    use super::*;

    /// Near the end of 32 bits, so that the deadline wraps.
    const START: u64 = (1 << 32) - 30;

    #[test]
    fn a_fin_waits_for_an_answer_and_then_for_its_acknowledgement() {
        let mut hold = FinHold::default();
        assert_eq!(hold.due_ms(START), None);
        assert!(hold.holds(Nothing, START));
        assert_eq!(hold.due_ms(START), Some(START + 60));
        assert!(hold.holds(InFlight, START + 59));
        assert_eq!(hold.due_ms(START + 59), Some(START + 84));
        assert!(hold.holds(InFlight, START + 358));
        assert_eq!(hold.due_ms(START + 358), Some(START + 359));
        assert!(!hold.holds(InFlight, START + 359), "the wait does not begin again");
        assert_eq!(hold.due_ms(START + 359), None);
    }

    #[test]
    fn a_fin_without_an_answer_is_forwarded_soon() {
        let mut hold = FinHold::default();
        assert!(hold.holds(Nothing, START) && hold.holds(Nothing, START + 59));
        assert!(!hold.holds(Nothing, START + 60));
        assert_eq!(hold.due_ms(START + 100_000), None);
    }

    #[test]
    fn a_fin_after_acknowledged_bytes_does_not_wait() {
        assert!(!FinHold::default().holds(Acknowledged, START));
        let mut hold = FinHold::default();
        assert!(hold.holds(Nothing, START) && !hold.holds(Acknowledged, START + 1));
    }
}
