//! A SOCKS5 proxy (RFC 1928, RFC 1929) whose behaviour a test controls.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::TIMEOUT;

/// Behaviour towards clients.
#[derive(Debug, Clone, Default)]
pub struct SocksBehaviour {
    /// Requires this name and password.
    pub password: Option<(&'static str, &'static str)>,
    /// Sends nothing from this step on.
    pub stall: Option<SocksStep>,
    /// Refuses every request with this code.
    pub refuse: Option<u8>,
    /// Sends these bytes instead of its first message; if there are none, it closes.
    pub first_bytes: Option<&'static [u8]>,
    /// Sends its messages byte by byte.
    pub byte_by_byte: bool,
    /// Form of the address in the reply.
    pub bound: Bound,
    /// Closes after it has forwarded this number of bytes to the client.
    pub closes_after: Option<usize>,
    /// Connects here, whatever the client asks for.
    pub leads_to: Option<SocketAddr>,
    /// Says yes, but connects to nothing.
    pub dead_end: Option<DeadEnd>,
}

/// What follows a yes that leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadEnd {
    /// It closes the connection.
    Closed,
    /// It closes the connection after 0.3 s, whatever came.
    ClosedLater,
    /// It sends nothing.
    Silent,
}

/// A message of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocksStep {
    /// The choice of a method.
    Method,
    /// The answer to the password.
    Password,
    /// The reply to the request.
    Reply,
}

/// Form of the address in the reply.
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
pub struct SocksServer {
    /// Where it listens.
    pub addr: SocketAddr,
    history: Arc<History>,
    behaviour: Arc<Mutex<SocksBehaviour>>,
}

#[derive(Default)]
struct History {
    connections: AtomicUsize,
    open: AtomicUsize,
    destinations: Mutex<Vec<String>>,
}

impl SocksServer {
    /// Listens on 127.0.0.1.
    pub fn listen(behaviour: SocksBehaviour) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (history, behaviour) = (Arc::new(History::default()), Arc::new(Mutex::new(behaviour)));
        let (shared, rules) = (Arc::clone(&history), Arc::clone(&behaviour));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let history = Arc::clone(&shared);
                let rules = rules.lock().expect("the behaviour").clone();
                thread::spawn(move || {
                    history.connections.fetch_add(1, Ordering::SeqCst);
                    history.open.fetch_add(1, Ordering::SeqCst);
                    let _ = serve(stream, &rules, &history);
                    history.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { addr, history, behaviour }
    }

    /// The URL for `network.proxies`, with name and password if it requires them.
    pub fn url(&self) -> String {
        let user = match self.behaviour.lock().expect("the behaviour").password {
            Some((name, password)) => format!("{name}:{password}@"),
            None => String::new(),
        };
        format!("socks5://{user}{}", self.addr)
    }

    /// Changes the behaviour for later connections.
    pub fn set_behaviour(&self, behaviour: SocksBehaviour) {
        *self.behaviour.lock().expect("the behaviour") = behaviour;
    }

    /// Number of connections so far.
    pub fn connections(&self) -> usize {
        self.history.connections.load(Ordering::SeqCst)
    }

    /// Number of open connections.
    pub fn open(&self) -> usize {
        self.history.open.load(Ordering::SeqCst)
    }

    /// The requested destinations, in order.
    pub fn destinations(&self) -> Vec<String> {
        self.history.destinations.lock().expect("the destinations").clone()
    }
}

fn serve(
    mut client: TcpStream,
    behaviour: &SocksBehaviour,
    history: &History,
) -> std::io::Result<()> {
    client.set_read_timeout(Some(TIMEOUT))?;
    client.set_nodelay(true)?;
    let mut head = [0; 2];
    client.read_exact(&mut head)?;
    let mut methods = vec![0; usize::from(head[1])];
    client.read_exact(&mut methods)?;
    if let Some(bytes) = behaviour.first_bytes {
        client.write_all(bytes)?;
        return if bytes.is_empty() { Ok(()) } else { wait_for_end(&mut client) };
    }
    if behaviour.stall == Some(SocksStep::Method) {
        return wait_for_end(&mut client);
    }
    match behaviour.password {
        None => send(&mut client, behaviour, &[5, 0])?,
        Some(_) if !methods.contains(&2) => {
            send(&mut client, behaviour, &[5, 0xff])?;
            return wait_for_end(&mut client);
        }
        Some((name, password)) => {
            send(&mut client, behaviour, &[5, 2])?;
            let mut version = [0; 1];
            client.read_exact(&mut version)?;
            let (given, word) = (text(&mut client)?, text(&mut client)?);
            if behaviour.stall == Some(SocksStep::Password) {
                return wait_for_end(&mut client);
            }
            let right = version == [1] && given == name && word == password;
            send(&mut client, behaviour, &[1, u8::from(!right)])?;
            if !right {
                return wait_for_end(&mut client);
            }
        }
    }
    let mut request = [0; 4];
    client.read_exact(&mut request)?;
    assert_eq!(request[..3], [5, 1, 0], "a CONNECT of SOCKS5");
    let destination = read_destination(&mut client, request[3])?;
    history.destinations.lock().expect("the destinations").push(destination.clone());
    if behaviour.stall == Some(SocksStep::Reply) {
        return wait_for_end(&mut client);
    }
    if let Some(code) = behaviour.refuse {
        send(&mut client, behaviour, &[5, code, 0, 1, 0, 0, 0, 0, 0, 0])?;
        return wait_for_end(&mut client);
    }
    let mut reply = vec![5, 0, 0];
    match behaviour.bound {
        Bound::V4 => reply.extend([1, 127, 0, 0, 1]),
        Bound::V6 => reply.extend([&[4][..], &[7; 16]].concat()),
        Bound::Name => reply.extend(b"\x03\x05proxy"),
    }
    reply.extend([0x12, 0x34]);
    let server = match behaviour.dead_end {
        None => Some(match behaviour.leads_to {
            Some(addr) => TcpStream::connect(addr)?,
            None => TcpStream::connect(&destination)?,
        }),
        Some(_) => None,
    };
    send(&mut client, behaviour, &reply)?;
    let Some(server) = server else {
        if behaviour.dead_end == Some(DeadEnd::ClosedLater) {
            thread::sleep(Duration::from_millis(300));
            return Ok(());
        }
        // The first bytes are read, so that closing sends a FIN and no reset.
        let _ = client.read(&mut [0; 4096])?;
        return match behaviour.dead_end {
            Some(DeadEnd::Silent) => wait_for_end(&mut client),
            _ => Ok(()),
        };
    };
    forward(client, server, behaviour.closes_after);
    Ok(())
}

fn send(client: &mut TcpStream, behaviour: &SocksBehaviour, bytes: &[u8]) -> std::io::Result<()> {
    let size = if behaviour.byte_by_byte { 1 } else { bytes.len() };
    bytes.chunks(size).try_for_each(|piece| client.write_all(piece))
}

fn text(client: &mut TcpStream) -> std::io::Result<String> {
    let mut length = [0; 1];
    client.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(length[0])];
    client.read_exact(&mut bytes)?;
    Ok(String::from_utf8(bytes).expect("UTF-8"))
}

fn read_destination(client: &mut TcpStream, kind: u8) -> std::io::Result<String> {
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

/// Forwards both directions until both have ended.
fn forward(client: TcpStream, server: TcpStream, closes_after: Option<usize>) {
    let (mut client_in, mut server_out) =
        (client.try_clone().expect("a twin"), server.try_clone().expect("a twin"));
    let up = thread::spawn(move || {
        let _ = std::io::copy(&mut client_in, &mut server_out);
        let _ = server_out.shutdown(Shutdown::Write);
    });
    let (mut server_in, mut client_out) = (server, client);
    match closes_after {
        None => drop(std::io::copy(&mut server_in, &mut client_out)),
        Some(most) => {
            let _ = std::io::copy(&mut (&mut server_in).take(most as u64), &mut client_out);
            let _ = server_in.shutdown(Shutdown::Both);
        }
    }
    let _ = client_out.shutdown(Shutdown::Write);
    let _ = up.join();
}
