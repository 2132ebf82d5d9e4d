//! Byte counts at the end of a run: the counters of users, and bytes before a reset or a drain.

use crate::client::{Client, Phase};
use crate::driver::Driver;
use crate::link::Link;
use crate::peer::Ending;
use crate::script::Mix;
use crate::trace::Failure;

/// The counters of a user lie between the payload of its honest sessions and all the bytes that
/// went through the daemon.
///
/// # Errors
/// The user whose counters are wrong.
pub fn check_counters(driver: &Driver) -> Result<(), String> {
    let network = driver.network.borrow();
    for (at, (user, _)) in driver.daemon.shared.accounts.users.iter().enumerate() {
        let (mut least, mut most) = ((0, 0), (0, 0));
        for (number, client) in driver.clients.iter().enumerate() {
            let owner = client.plan.credentials.as_ref().map(|credentials| credentials.user);
            if owner != Some(at) || client.phase != Phase::Relayed {
                continue;
            }
            // The frame, and what proxies and attempts that lost have got, is not counted.
            let mine = |link: &&Link| link.client == number && link.dialled.is_some();
            for link in network.links.iter().filter(mine) {
                most.0 += link.to_peer.written.saturating_sub(FRAME);
                most.1 += link.to_daemon.read;
            }
            if client.plan.must_complete {
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

/// No byte is lost when a connection ends. If a peer reset, the daemon read all that had arrived,
/// and the other side, if it still was connected, got all of it and then a reset. At a drain, all
/// that was read before it was forwarded. Sessions with a stall end in another way and are skipped.
///
/// # Errors
/// Where bytes were lost, or a reset became FIN.
pub fn check_ends(driver: &Driver) -> Result<(), Failure> {
    if !matches!(driver.script.mix, Mix::Resets | Mix::Drain) {
        return Ok(());
    }
    let network = driver.network.borrow();
    for server in &driver.servers {
        let client = &driver.clients[server.client];
        let Some(peer) = &client.peer else { continue };
        let (near, far) = (&network.links[peer.link], &network.links[server.peer.link]);
        // A dial that lost the race, a malformed record, a stall: these sessions end in other ways.
        let behaviour = [&client.plan.client, &client.plan.server];
        let stalls = behaviour.iter().any(|behaviour| behaviour.ending == Ending::Stall);
        if far.to_peer.written == 0 || client.plan.bad_record_at.is_some() || stalls {
            continue;
        }
        // A slow reader may have been closed before the drain because the pool was full.
        if near.closed_at_drain {
            continue;
        }
        // What the client sends after the drain began is read and dropped.
        let taken = near.read_at_drain.unwrap_or(near.to_daemon.read);
        let (up, down) = if server.is_front {
            ((taken, far.to_peer.written), (far.to_daemon.read, near.to_peer.written))
        } else {
            let up = (uplink_payload(client, taken), far.to_peer.written.saturating_sub(FRAME));
            (up, (far.to_daemon.read, downlink_payload(&near.log)))
        };
        for (what, from, to, (read, written)) in
            [("upload", near, far, up), ("download", far, near, down)]
        {
            let reset = is_reset_by_peer(from);
            let why = if !accepts_bytes(to) || !(reset || driver.is_drained()) {
                continue;
            } else if read != written {
                format!("{written} of {read} bytes of the {what} were forwarded before the end")
            } else if reset && from.unread > 0 && !driver.is_drained() {
                format!("{} bytes of the {what} were not read before the reset", from.unread)
            } else if reset && !from.fin_before_reset && !to.reset_by_daemon {
                format!("the reset of the {what} did not reach the other side")
            } else {
                continue;
            };
            return Err(Failure::of(server.client, why));
        }
    }
    Ok(())
}

/// The link accepted bytes until the daemon closed it.
fn accepts_bytes(link: &Link) -> bool {
    (!link.is_reset || link.reset_by_daemon) && !link.peer_closed
}

fn is_reset_by_peer(link: &Link) -> bool {
    link.is_reset && !link.reset_by_daemon
}

/// Payload bytes in what the daemon has read from a user, without the frame.
fn uplink_payload(client: &Client, taken: u64) -> u64 {
    let behind_hello = client.plan.opening.len()..taken as usize;
    let wire = client.sent.get(behind_hello).unwrap_or_default();
    payload(wire).saturating_sub(FRAME)
}

/// Payload bytes in what the daemon has written to a user, without the answer.
fn downlink_payload(log: &[u8]) -> u64 {
    let mut rest = log;
    for _ in 0..ANSWER_RECORDS {
        let len = rest.get(3..5).map_or(0, |len| 256 * usize::from(len[0]) + usize::from(len[1]));
        rest = rest.get(5 + len..).unwrap_or_default();
    }
    payload(rest)
}

/// Payload bytes of application data; the last record may be incomplete.
fn payload(mut wire: &[u8]) -> u64 {
    let mut sum = 0;
    while let [kind, _, _, high, low, rest @ ..] = wire {
        let len = (256 * usize::from(*high) + usize::from(*low)).min(rest.len());
        sum += if *kind == 0x17 { len as u64 } else { 0 };
        wire = &rest[len..];
    }
    sum
}

/// The obfuscated2 frame.
const FRAME: u64 = 64;
/// ServerHello, ChangeCipherSpec, noise.
const ANSWER_RECORDS: usize = 3;
