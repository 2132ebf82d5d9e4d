//! A SOCKS5 proxy that does whatever a scenario wants of it (RFC 1928, RFC 1929).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::PATIENCE;

/// How it treats its visitors.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// Asks for this name and password.
    pub password: Option<(&'static str, &'static str)>,
    /// Says nothing from this step on.
    pub stall: Option<Stage>,
    /// Refuses every request with this code.
    pub refuse: Option<u8>,
    /// Says these bytes instead of its first message.
    pub nonsense: Option<&'static [u8]>,
    /// Sends its messages byte by byte.
    pub dribble: bool,
    /// Names its own end with an IPv6 address or a name in the reply.
    pub bound: Bound,
    /// Dies after it has carried so many bytes down.
    pub dies_after: Option<usize>,
}

/// A step of the negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The choice of a method.
    Method,
    /// The answer to the password.
    Password,
    /// The reply to the request.
    Reply,
}

/// The address in its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bound {
    /// Four bytes.
    #[default]
    V4,
    /// Sixteen bytes.
    V6,
    /// A name.
    Name,
}

/// The proxy.
pub struct Socks {
    /// Where it listens.
    pub addr: SocketAddr,
    seen: Arc<Seen>,
    manners: Arc<Mutex<Manners>>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    goals: Mutex<Vec<String>>,
}

impl Socks {
    /// Listens on 127.0.0.1.
    pub fn listen(manners: Manners) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (seen, manners) = (Arc::new(Seen::default()), Arc::new(Mutex::new(manners)));
        let (notes, rules) = (Arc::clone(&seen), Arc::clone(&manners));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let notes = Arc::clone(&notes);
                let rules = rules.lock().expect("the manners").clone();
                thread::spawn(move || {
                    notes.connections.fetch_add(1, Ordering::SeqCst);
                    notes.open.fetch_add(1, Ordering::SeqCst);
                    let _ = serve(stream, &rules, &notes);
                    notes.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { addr, seen, manners }
    }

    /// For `network.proxies`, with name and password where it asks for them.
    pub fn url(&self) -> String {
        let user = match self.manners.lock().expect("the manners").password {
            Some((name, password)) => format!("{name}:{password}@"),
            None => String::new(),
        };
        format!("socks5://{user}{}", self.addr)
    }

    /// From now on it behaves like this.
    pub fn behave(&self, manners: Manners) {
        *self.manners.lock().expect("the manners") = manners;
    }

    /// Connections made so far.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }

    /// What it was asked to connect to.
    pub fn goals(&self) -> Vec<String> {
        self.seen.goals.lock().expect("the goals").clone()
    }
}

fn serve(mut client: TcpStream, manners: &Manners, seen: &Seen) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_nodelay(true)?;
    let mut head = [0; 2];
    client.read_exact(&mut head)?;
    let mut methods = vec![0; usize::from(head[1])];
    client.read_exact(&mut methods)?;
    if let Some(bytes) = manners.nonsense {
        client.write_all(bytes)?;
        return wait_for_end(&mut client);
    }
    if manners.stall == Some(Stage::Method) {
        return wait_for_end(&mut client);
    }
    match manners.password {
        None => say(&mut client, manners, &[5, 0])?,
        Some(_) if !methods.contains(&2) => {
            say(&mut client, manners, &[5, 0xff])?;
            return wait_for_end(&mut client);
        }
        Some((name, password)) => {
            say(&mut client, manners, &[5, 2])?;
            let mut version = [0; 1];
            client.read_exact(&mut version)?;
            let (given, word) = (text(&mut client)?, text(&mut client)?);
            if manners.stall == Some(Stage::Password) {
                return wait_for_end(&mut client);
            }
            let right = version == [1] && given == name && word == password;
            say(&mut client, manners, &[1, u8::from(!right)])?;
            if !right {
                return wait_for_end(&mut client);
            }
        }
    }
    let mut request = [0; 4];
    client.read_exact(&mut request)?;
    assert_eq!(request[..3], [5, 1, 0], "a CONNECT of SOCKS5");
    let goal = goal(&mut client, request[3])?;
    seen.goals.lock().expect("the goals").push(goal.clone());
    if manners.stall == Some(Stage::Reply) {
        return wait_for_end(&mut client);
    }
    if let Some(code) = manners.refuse {
        say(&mut client, manners, &[5, code, 0, 1, 0, 0, 0, 0, 0, 0])?;
        return wait_for_end(&mut client);
    }
    let server = TcpStream::connect(&goal)?;
    let mut reply = vec![5, 0, 0];
    match manners.bound {
        Bound::V4 => reply.extend([1, 127, 0, 0, 1]),
        Bound::V6 => reply.extend([&[4][..], &[7; 16]].concat()),
        Bound::Name => reply.extend(b"\x03\x05proxy"),
    }
    reply.extend([0x12, 0x34]);
    say(&mut client, manners, &reply)?;
    carry(client, server, manners.dies_after);
    Ok(())
}

fn say(client: &mut TcpStream, manners: &Manners, bytes: &[u8]) -> std::io::Result<()> {
    let size = if manners.dribble { 1 } else { bytes.len() };
    bytes.chunks(size).try_for_each(|piece| client.write_all(piece))
}

fn text(client: &mut TcpStream) -> std::io::Result<String> {
    let mut length = [0; 1];
    client.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(length[0])];
    client.read_exact(&mut bytes)?;
    Ok(String::from_utf8(bytes).expect("UTF-8"))
}

fn goal(client: &mut TcpStream, kind: u8) -> std::io::Result<String> {
    let host = match kind {
        1 => {
            let mut octets = [0; 4];
            client.read_exact(&mut octets)?;
            Ipv4Addr::from(octets).to_string()
        }
        4 => {
            let mut octets = [0; 16];
            client.read_exact(&mut octets)?;
            format!("[{}]", Ipv6Addr::from(octets))
        }
        3 => text(client)?,
        other => panic!("address type {other}"),
    };
    let mut port = [0; 2];
    client.read_exact(&mut port)?;
    Ok(format!("{host}:{}", u16::from_be_bytes(port)))
}

fn wait_for_end(client: &mut TcpStream) -> std::io::Result<()> {
    while client.read(&mut [0; 256])? > 0 {}
    Ok(())
}

/// Both directions until both have ended.
fn carry(client: TcpStream, server: TcpStream, dies_after: Option<usize>) {
    let (mut client_in, mut server_out) =
        (client.try_clone().expect("a twin"), server.try_clone().expect("a twin"));
    let up = thread::spawn(move || {
        let _ = std::io::copy(&mut client_in, &mut server_out);
        let _ = server_out.shutdown(Shutdown::Write);
    });
    let (mut server_in, mut client_out) = (server, client);
    match dies_after {
        None => drop(std::io::copy(&mut server_in, &mut client_out)),
        Some(most) => {
            let _ = std::io::copy(&mut (&mut server_in).take(most as u64), &mut client_out);
            let _ = server_in.shutdown(Shutdown::Both);
        }
    }
    let _ = client_out.shutdown(Shutdown::Write);
    let _ = up.join();
}
