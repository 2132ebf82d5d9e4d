//! Plays openings against addresses and notes what can be seen. Several at a time, each over a
//! plain connection, none for longer than it takes to tell an answer from silence.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::doctor::censor::observation::{ConnectionEnd, Observation};
use crate::cli::doctor::censor::probes::ProbeStep;
use crate::daemon::fetch::standalone::Standalone;
use crate::io::clock::Tick;
use crate::io::readiness::Readiness;
use crate::io::wire::{MioWire, Wire};

/// One connection of a prober.
pub struct ProbeRun {
    addrs: VecDeque<SocketAddr>,
    steps: VecDeque<ProbeStep>,
    wire: Option<MioWire>,
    connected: bool,
    ready: Readiness,
    /// The rest of a write.
    outbox: Vec<u8>,
    /// Bytes that had come when it began to listen.
    listening: Option<usize>,
    /// All steps have been taken; what follows is watching.
    watching: bool,
    heard: Vec<u8>,
    until: Tick,
    sight: Option<Observation>,
}

impl ProbeRun {
    /// A visit to the first of these addresses that can be reached. What is in `before` leaves
    /// with the first word.
    pub fn new(addrs: &[SocketAddr], steps: &[ProbeStep], before: &[u8]) -> Self {
        let mut steps: VecDeque<ProbeStep> = steps.iter().cloned().collect();
        match steps.front_mut() {
            _ if before.is_empty() => {}
            Some(ProbeStep::Send(bytes)) => *bytes = [before, bytes].concat(),
            _ => steps.push_front(ProbeStep::Send(before.to_vec())),
        }
        Self {
            addrs: addrs.iter().copied().collect(),
            steps,
            wire: None,
            connected: false,
            ready: Readiness::default(),
            outbox: Vec::new(),
            listening: None,
            watching: false,
            heard: Vec::new(),
            until: Tick(0),
            sight: None,
        }
    }

    /// What was seen; `None` = it has not been played to its end.
    pub fn sight(&self) -> Option<&Observation> {
        self.sight.as_ref()
    }

    /// Goes on as far as it can without waiting.
    fn step(&mut self, alone: &mut Standalone, token: usize) {
        let now = alone.time.now;
        if !self.connected && !self.connect(alone, token) {
            return;
        }
        self.act(now);
        match self.hear() {
            // Whatever else breaks a connection, a prober sees it as cut.
            Err(_) => return self.close(ConnectionEnd::Reset),
            Ok(true) => return self.close(ConnectionEnd::Fin),
            Ok(false) => {}
        }
        // What came may be what it listened for.
        self.act(now);
        if now >= self.until {
            self.close(ConnectionEnd::Waits);
        }
    }

    /// `true` = connected.
    fn connect(&mut self, alone: &mut Standalone, token: usize) -> bool {
        loop {
            if let Some(wire) = &mut self.wire {
                match wire.outcome() {
                    Ok(true) => {
                        self.connected = true;
                        self.ready = Readiness { readable: true, writable: true, ..self.ready };
                        self.until = alone.from_now(WATCH);
                        return true;
                    }
                    Ok(false) if alone.time.now < self.until => return false,
                    _ => self.wire = None,
                }
            }
            let Some(addr) = self.addrs.pop_front() else {
                self.close(ConnectionEnd::NoConnection);
                return false;
            };
            self.until = alone.from_now(CONNECT);
            self.wire = alone.dial(addr, token).ok();
            if self.wire.is_some() {
                return false;
            }
        }
    }

    /// Takes the next steps. A server that takes no more bytes is not in the way: what it says
    /// counts.
    fn act(&mut self, now: Tick) {
        let Some(wire) = &mut self.wire else { return };
        while !self.watching {
            if !self.outbox.is_empty() {
                if !self.ready.writable {
                    return;
                }
                match wire.write(&[IoSlice::new(&self.outbox)]) {
                    Ok(count) => drop(self.outbox.drain(..count.min(self.outbox.len()))),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.ready.writable = false,
                    Err(_) => {
                        self.outbox.clear();
                        self.steps.clear();
                    }
                }
                continue;
            }
            if self.listening == Some(self.heard.len()) {
                return;
            }
            self.listening = None;
            // The silence counts from the last deed on.
            self.until = Tick(now.0 + WATCH.as_millis() as u64);
            match self.steps.pop_front() {
                None => self.watching = true,
                Some(ProbeStep::Send(bytes)) => self.outbox = bytes,
                Some(ProbeStep::Listen) => self.listening = Some(self.heard.len()),
                Some(ProbeStep::Finish) => drop(wire.shut()),
            }
        }
    }

    /// Reads what is there. `true` = the end.
    fn hear(&mut self) -> io::Result<bool> {
        let Some(wire) = &mut self.wire else { return Ok(false) };
        let mut chunk = [0; CHUNK];
        while self.ready.readable {
            match wire.read(&mut [IoSliceMut::new(&mut chunk)]) {
                Ok(0) => return Ok(true),
                Ok(count) => {
                    let room = MOST_HEARD.saturating_sub(self.heard.len()).min(count);
                    self.heard.extend_from_slice(chunk.get(..room).unwrap_or_default());
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.ready.readable = false,
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }

    fn close(&mut self, end: ConnectionEnd) {
        self.sight = Some(Observation::new(&self.heard, end));
        self.wire = None;
    }
}

/// Plays all visits, `at_once` at a time, until `limit` has passed.
pub fn play(visits: &mut [ProbeRun], at_once: usize, limit: Duration, alone: &mut Standalone) {
    let end = alone.from_now(limit);
    let mut places: Vec<Option<&mut ProbeRun>> = (0..at_once.max(1)).map(|_| None).collect();
    let mut waiting = visits.iter_mut();
    loop {
        for (token, place) in places.iter_mut().enumerate() {
            // Whoever is over makes room for the next one at once.
            loop {
                if place.is_none() {
                    *place = waiting.next();
                }
                let Some(visit) = place else { break };
                visit.step(alone, token);
                if visit.sight.is_none() {
                    break;
                }
                *place = None;
            }
        }
        let due = places.iter().flatten().map(|visit| visit.until).min();
        let Some(due) = due.filter(|_| alone.time.now < end) else { return };
        alone.wait(due.min(end), &mut |token, fresh| {
            if let Some(Some(visit)) = places.get_mut(token) {
                visit.ready.readable |= fresh.readable || fresh.hup;
                visit.ready.writable |= fresh.writable;
            }
        });
    }
}

/// For a connection to stand.
const CONNECT: Duration = Duration::from_secs(5);
/// What has not come by then comes for another reason than what was said.
const WATCH: Duration = Duration::from_secs(5);
const CHUNK: usize = 4_096;
/// More than any answer to a hello.
const MOST_HEARD: usize = 65_536;
