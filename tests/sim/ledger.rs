//! The books at the end of a run: what the users are charged for, and what came before a reset.

use crate::cable::Cable;
use crate::client::{Client, Phase};
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
    for (at, (user, _)) in play.daemon.world.users.iter().enumerate() {
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

/// A reset takes nothing away from what came before it: all that had arrived was read, and all
/// that was read went on to the other side, if that one was still there. Only where nobody
/// stalls, so that a reset is the only reason to end.
///
/// # Errors
/// Where bytes were lost.
pub fn resets(play: &Play) -> Result<(), Failure> {
    if play.scene.mix != Mix::Resets {
        return Ok(());
    }
    let hub = play.hub.borrow();
    for server in &play.servers {
        let client = &play.clients[server.client];
        let Some(peer) = &client.peer else { continue };
        let (near, far) = (&hub.cables[peer.cable], &hub.cables[server.peer.cable]);
        // An attempt that lost the race, or a record that was none: another way to end.
        if far.outward.put == 0 || client.plan.garbles_at.is_some() {
            continue;
        }
        let (up, down) = if server.is_front {
            let (up, down) = (near.inward.taken, far.inward.taken);
            ((up, far.outward.put), (down, near.outward.put))
        } else {
            let up = (uplink_payload(client, near), far.outward.put.saturating_sub(HEADER));
            (up, (far.inward.taken, downlink_payload(&near.log)))
        };
        for (what, from, to, (read, written)) in
            [("upload", near, far, up), ("download", far, near, down)]
        {
            let lost =
                is_reset_by_peer(from) && is_well(to) && (from.unread > 0 || read != written);
            if lost {
                let unread = from.unread;
                let why = format!("{written} of {read} bytes of the {what} left, {unread} unread");
                return Err(Failure::of(server.client, why));
            }
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
fn uplink_payload(client: &Client, cable: &Cable) -> u64 {
    let taken = cable.inward.taken as usize;
    let wire = client.transcript.get(client.plan.opening.len()..taken).unwrap_or_default();
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
