//! The helper processes. Each is this same binary with a role; they speak in lines: `port N` when
//! they listen, `ready` when their connections stand, then, upon `go`, `done N` with a byte count.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::Outcome;
use super::{answerer, bulk, copy, flood, lists, stage};

/// Plays the role that the arguments name, until its standard input ends or its work is done.
pub fn play(arguments: &[String]) -> Outcome<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["probe"] => stage::probe(),
        ["copy", dc_port] => copy::run(dc_port.parse()?),
        ["bulk", flows, send_each] => bulk::run_dc(flows.parse()?, send_each.parse()?),
        ["answerer", after, reply] => answerer::run(after.parse()?, reply.parse()?),
        ["flood", port, window_ms, networks] => {
            flood::run_role(port.parse()?, window_ms.parse()?, networks.parse()?)
        }
        ["echo"] => lists::run_echo(),
        ["page", path] => lists::run_page(path.as_ref()),
        other => Err(format!("no such role: {other:?}").into()),
    }
}

/// Tells the conductor.
pub fn say(word: &str, number: u64) -> Outcome<()> {
    println!("{word} {number}");
    Ok(std::io::stdout().flush()?)
}

/// Waits for the conductor's `go`.
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
    orders: ChildStdin,
    words: BufReader<ChildStdout>,
    port: u16,
}

impl Helper {
    /// Starts a helper in the role that `arguments` name and waits until it listens.
    pub fn spawn(arguments: &[&str]) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("role")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().ok_or("no stdin")?;
        let words = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut helper = Self { child, orders, words, port: 0 };
        helper.port = u16::try_from(helper.expect("port")?)?;
        Ok(helper)
    }

    /// The process to look up in `/proc`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the line that starts with `word`, which must be the next, and returns its number.
    pub fn expect(&mut self, word: &str) -> Outcome<u64> {
        let mut line = String::new();
        self.words.read_line(&mut line)?;
        match line.trim().split_once(' ') {
            Some((found, number)) if found == word => Ok(number.parse()?),
            _ => Err(format!("a helper said {line:?} instead of {word}").into()),
        }
    }

    /// Lets it begin.
    pub fn go(&mut self) -> Outcome<()> {
        Ok(self.orders.write_all(b"go\n")?)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Nothing helps against a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
