//! The books at the end of a run: what the users are charged for, and what came before a reset.

use crate::cable::Cable;
use crate::client::{Client, Phase};
use crate::peer::Ending;
use crate::play::Play;
use crate::scene::Mix;
use crate::trace::Failure;

/// What is counted for a user lies between what honest sessions delivered and what went through
/// the daemon at all.
///
/// # Errors
/// Whose count is off.
pub fn counters(play: &Play) -> Result<(), String> {
    let hub = play.hub.borrow();
    for (at, (user, _)) in play.daemon.world.accounts.users.iter().enumerate() {
        let (mut least, mut most) = ((0, 0), (0, 0));
        for (number, client) in play.clients.iter().enumerate() {
            let owner = client.plan.member.as_ref().map(|member| member.user);
            if owner != Some(at) || client.phase != Phase::Relayed {
                continue;
            }
            for server in play.servers.iter().filter(|s| s.client == number && !s.is_front) {
                let cable = &hub.cables[server.peer.cable];
                most.0 += cable.outward.put.saturating_sub(HEADER);
                most.1 += cable.inward.taken;
            }
            if client.plan.guaranteed {
                least.0 += client.plan.up as u64;
                least.1 += client.plan.down as u64;
            }
        }
        let counted = (user.bytes_in, user.bytes_out);
        if counted.0 < least.0 || counted.1 < least.1 || counted.0 > most.0 || counted.1 > most.1 {
            return Err(format!("{} counts {counted:?}: {least:?} to {most:?}", user.name()));
        }
    }
    Ok(())
}

/// An end takes nothing away from what came before it. Of a peer that reset, all that had arrived
/// was read, and the other side, if it was still there, got all that was read, and then a reset.
/// At a drain, all that was read until then went on. Only where nobody stalls: another end.
///
/// # Errors
/// Where bytes were lost, or a reset became something else.
pub fn ends(play: &Play) -> Result<(), Failure> {
    if !matches!(play.scene.mix, Mix::Resets | Mix::Drain) {
        return Ok(());
    }
    let hub = play.hub.borrow();
    for server in &play.servers {
        let client = &play.clients[server.client];
        let Some(peer) = &client.peer else { continue };
        let (near, far) = (&hub.cables[peer.cable], &hub.cables[server.peer.cable]);
        // An attempt that lost the race, a record that was none, a stall: other ways to end.
        let habits = [&client.plan.habits, &client.plan.server];
        let is_deaf = habits.iter().any(|habits| habits.ending == Ending::Deaf);
        if far.outward.put == 0 || client.plan.garbles_at.is_some() || is_deaf {
            continue;
        }
        // A reader so slow that its patience ran out in a tight pool was let go before the drain.
        if near.gone_at_drain {
            continue;
        }
        // What the client says to a daemon that leaves is read, and nobody gets it.
        let taken = near.taken_at_drain.unwrap_or(near.inward.taken);
        let (up, down) = if server.is_front {
            ((taken, far.outward.put), (far.inward.taken, near.outward.put))
        } else {
            let up = (uplink_payload(client, taken), far.outward.put.saturating_sub(HEADER));
            (up, (far.inward.taken, downlink_payload(&near.log)))
        };
        for (what, from, to, (read, written)) in
            [("upload", near, far, up), ("download", far, near, down)]
        {
            let reset = is_reset_by_peer(from);
            let why = if !is_well(to) || !(reset || play.is_drained()) {
                continue;
            } else if read != written {
                format!("{written} of {read} bytes of the {what} left before the end")
            } else if reset && from.unread > 0 && !play.is_drained() {
                format!("{} bytes of the {what} were not read before the reset", from.unread)
            } else if reset && !from.finished_first && !to.reset_by_daemon {
                format!("the reset of the {what} did not reach the other side")
            } else {
                continue;
            };
            return Err(Failure::of(server.client, why));
        }
    }
    Ok(())
}

/// It could take everything until the daemon closed it.
fn is_well(cable: &Cable) -> bool {
    (!cable.broken || cable.reset_by_daemon) && !cable.peer_closed
}

fn is_reset_by_peer(cable: &Cable) -> bool {
    cable.broken && !cable.reset_by_daemon
}

/// Payload bytes in what the daemon has read from a member, without the header.
fn uplink_payload(client: &Client, taken: u64) -> u64 {
    let behind_hello = client.plan.opening.len()..taken as usize;
    let wire = client.transcript.get(behind_hello).unwrap_or_default();
    payload(wire).saturating_sub(HEADER)
}

/// Payload bytes in what the daemon has written to a member, without the answer's noise.
fn downlink_payload(log: &[u8]) -> u64 {
    let mut rest = log;
    for _ in 0..ANSWER_RECORDS {
        let len = rest.get(3..5).map_or(0, |len| 256 * usize::from(len[0]) + usize::from(len[1]));
        rest = rest.get(5 + len..).unwrap_or_default();
    }
    payload(rest)
}

/// Payload bytes of application data, the last record perhaps cut.
fn payload(mut wire: &[u8]) -> u64 {
    let mut sum = 0;
    while let [kind, _, _, high, low, rest @ ..] = wire {
        let len = (256 * usize::from(*high) + usize::from(*low)).min(rest.len());
        sum += if *kind == 0x17 { len as u64 } else { 0 };
        wire = &rest[len..];
    }
    sum
}

/// The obfuscated2 header.
const HEADER: u64 = 64;
/// ServerHello, ChangeCipherSpec, noise.
const ANSWER_RECORDS: usize = 3;
