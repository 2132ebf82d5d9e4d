//! Memory that the kernel holds for the TCP sockets of a process, from sock_diag(7). The benchmark
//! `siege` uses it too.

use std::error::Error;
use std::fs;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// SOCK_DIAG_BY_FAMILY, and NLM_F_REQUEST with NLM_F_DUMP (linux/sock_diag.h, linux/netlink.h).
const REQUEST: (u16, u16) = (20, 0x301);

/// Bytes of a netlink header, of an inet_diag request and of an inet_diag answer.
const HEADER: usize = 16;
const QUESTION: usize = 56;
const ANSWER: usize = 72;

/// INET_DIAG_SKMEMINFO.
const MEMORY: u16 = 7;

const TIME_WAIT: u8 = 6;

/// What the kernel holds.
#[derive(Default)]
pub struct Kernel {
    /// Bytes in receive and send queues, with their overhead and what is reserved for them.
    pub bytes: u64,
    /// Connections towards the site in TIME_WAIT.
    pub waiting: u64,
}

/// Sums up the sockets of the process `pid`: those that it has open, those that wait to be accepted
/// at `port`, and those towards `peers` that it has closed. The last of the `peers` is the site.
pub fn of(pid: u32, port: u16, peers: [u16; 2]) -> Outcome<Kernel> {
    let mut own = Vec::new();
    for file in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A file may have been closed since.
        let Ok(name) = fs::read_link(file?.path()) else { continue };
        let name = name.to_string_lossy().into_owned();
        let inode = name.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        own.extend(inode.and_then(|inode| inode.parse::<u32>().ok()));
    }
    own.sort_unstable();
    let mut sum = Kernel::default();
    for message in dump()? {
        let Some(found) = Found::parse(&message) else { continue };
        let is_open = found.inode != 0 && own.binary_search(&found.inode).is_ok();
        let is_ours = found.inode == 0 && (found.from == port || peers.contains(&found.to));
        if is_open || is_ours {
            sum.bytes += found.bytes;
        }
        sum.waiting += u64::from(found.state == TIME_WAIT && found.to == peers[1]);
    }
    Ok(sum)
}

struct Found {
    state: u8,
    from: u16,
    to: u16,
    inode: u32,
    bytes: u64,
}

impl Found {
    fn parse(message: &[u8]) -> Option<Self> {
        let port = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
        let mut found = Self {
            state: *message.get(1)?,
            from: port(4)?,
            to: port(6)?,
            inode: word(message, ANSWER - 4)?,
            bytes: 0,
        };
        let mut rest = message.get(ANSWER..)?;
        while let Some(length) = half(rest, 0).map(usize::from).filter(|length| *length >= 4) {
            if half(rest, 2) == Some(MEMORY) {
                // The second one is what is reserved, less than 0 when it was overdrawn.
                let number = |index: usize| word(rest, 4 + 4 * index).unwrap_or(0) as i32;
                // rmem_alloc, fwd_alloc and wmem_queued.
                let sum: i64 = [0, 4, 5].into_iter().map(|index| i64::from(number(index))).sum();
                found.bytes = u64::try_from(sum).unwrap_or(0);
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(found)
    }
}

/// All TCP sockets over IPv4 of this network namespace, one message each.
fn dump() -> Outcome<Vec<Vec<u8>>> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    let mut request = Vec::new();
    request.extend(((HEADER + QUESTION) as u32).to_ne_bytes());
    request.extend(REQUEST.0.to_ne_bytes());
    request.extend(REQUEST.1.to_ne_bytes());
    request.extend([0; 8]);
    // AF_INET, IPPROTO_TCP, the attributes, padding, all states.
    request.extend([2, 6, 1 << (MEMORY - 1), 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.resize(HEADER + QUESTION, 0);
    sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;

    let mut messages = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..count];
        while let Some(length) = word(rest, 0).map(|length| length as usize) {
            match half(rest, 4) {
                Some(kind) if kind == REQUEST.0 => {
                    messages.push(rest.get(HEADER..length).ok_or("a short message")?.to_vec());
                }
                // NLMSG_DONE.
                Some(3) => return Ok(messages),
                kind => return Err(format!("sock_diag answers {kind:?}").into()),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
