//! Helper processes. Each is this same binary with a role. They write lines: `port N` when they
//! listen, `ready` when their connections are open, and after `go` `done N` with a byte count.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use mio::net::TcpListener;
use mio::{Interest, Poll, Token};

use super::options::Outcome;
use super::sockets;

/// Writes a line to the measuring process.
pub fn report(word: &str, number: u64) -> Outcome<()> {
    println!("{word} {number}");
    Ok(std::io::stdout().flush()?)
}

/// Listens on a free port with a poller, where the listener has this token, and reports the port.
pub fn listen(token: Token) -> Outcome<(Poll, TcpListener)> {
    let (listener, port) = sockets::listen()?;
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, token, Interest::READABLE)?;
    report("port", port.into())?;
    Ok((poll, listener))
}

/// Waits for `go` from the measuring process.
pub fn await_go() -> Outcome<()> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    match line.as_str() {
        "go\n" => Ok(()),
        other => Err(format!("expected go, got {other:?}").into()),
    }
}

/// A running helper; ends when dropped.
pub struct Helper {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl Helper {
    /// Starts a helper with a role and waits until it listens.
    pub fn spawn(arguments: &[&str]) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("role")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no stdin")?;
        let output = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut helper = Self { child, input, output, port: 0 };
        helper.port = u16::try_from(helper.expect("port")?)?;
        Ok(helper)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The loopback port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Reads the next line, which must start with `word`, and returns its number.
    pub fn expect(&mut self, word: &str) -> Outcome<u64> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        match line.trim().split_once(' ') {
            Some((found, number)) if found == word => Ok(number.parse()?),
            _ => Err(format!("a helper wrote {line:?} instead of {word}").into()),
        }
    }

    /// Sends `go`.
    pub fn go(&mut self) -> Outcome<()> {
        Ok(self.input.write_all(b"go\n")?)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
