//! Carries the bytes between the encrypted server's life (`secure.rs`) and its connection, and
//! looks the server's own name up where it has one.

use crate::config::settings::DnsSettings;
use crate::daemon::fetch::Target;
use crate::daemon::fetch::connection::{Line, Place as Way, State, Via};
use crate::daemon::resolver::lookup::Quest;
use crate::daemon::resolver::plain::{Desk, Memory, Plain};
use crate::daemon::resolver::secure::{Deed, Secure, Told};
use crate::daemon::resolver::system::System;
use crate::daemon::resolver::{GRACE_MS, Place};
use crate::daemon::session::Readiness;
use crate::daemon::session::dial;
use crate::daemon::world::World;
use crate::io::clock::Tick;
use crate::io::wire::MioNet;
use crate::proto::dns::Kind;

/// The one server that is asked, and the one connection to it.
pub struct Encrypted {
    secure: Secure,
    line: Option<Line>,
    /// Plain bytes of an answer that is not complete yet.
    inbox: Vec<u8>,
    /// The search for the server's own addresses.
    boot: Option<(Quest, Plain)>,
    woken: bool,
}

/// The searches' surroundings, and the tokens of the two sockets here.
pub struct Around<'a> {
    /// The rest of the daemon.
    pub world: &'a mut World,
    /// Where sockets come from.
    pub net: &'a mut MioNet,
    /// Whom to ask for the server's own name.
    pub system: &'a mut System,
    /// What is known of them.
    pub memory: &'a mut Memory,
    /// The token of the connection; the one that follows is for the search.
    pub token: usize,
}

impl Encrypted {
    /// `None` = the settings name no such server.
    pub fn new(settings: &DnsSettings) -> Option<Self> {
        let secure = Secure::new(settings)?;
        Some(Self { secure, line: None, inbox: Vec::new(), boot: None, woken: false })
    }

    /// Takes a name for the search at a place.
    pub fn ask(&mut self, place: Place, name: &str) {
        self.secure.ask(place, Kind::A, name);
        self.secure.ask(place, Kind::Aaaa, name);
        self.woken = true;
    }

    /// The search at a place is over.
    pub fn forget(&mut self, place: Place) {
        self.secure.forget(place);
        self.woken = true;
    }

    /// The poller speaks of the connection, or of the search behind it.
    pub fn on_ready(&mut self, is_search: bool, fresh: Readiness) {
        if let (false, Some(line)) = (is_search, &mut self.line) {
            line.on_ready(fresh);
        }
        self.woken = true;
    }

    /// The earliest deadline.
    pub fn due(&self) -> Option<Tick> {
        let line = self.line.as_ref().map(|line| [line.due(), self.secure.due()]);
        let boot = self.boot.as_ref().map(|(quest, _)| quest.due());
        line.into_iter().flatten().chain([boot]).flatten().min()
    }

    /// Goes as far as it can without waiting.
    pub fn turn(&mut self, around: &mut Around<'_>) -> Vec<Told> {
        let mut told = Vec::new();
        let now = around.world.now;
        if !std::mem::take(&mut self.woken) && self.due().is_none_or(|due| due > now) {
            return told;
        }
        self.search(around, &mut told);
        // A connection is opened again at once only after it has brought an answer, so this ends.
        loop {
            match self.secure.next(self.line.is_some(), now) {
                Deed::Rest => return told,
                Deed::Find(name) => {
                    let known = around.system.known(&name);
                    if known.is_empty() {
                        self.boot = Some((Quest::new(name, 0, GRACE_MS, now), Plain::default()));
                        self.search(around, &mut told);
                    } else {
                        self.secure.found(known, 0, now);
                    }
                }
                Deed::Open(addrs) => {
                    self.inbox.clear();
                    let tls = Some(self.secure.host().to_owned());
                    let target = Target { place: Way::Known(addrs), tls, via: Via::Native };
                    let line = Line::new(target, around.token);
                    let is_http = self.secure.is_http();
                    self.line = Some(if is_http { line } else { line.without_alpn() });
                }
                Deed::Talk => {
                    if !self.talk(around, &mut told) {
                        return told;
                    }
                }
                Deed::Close => self.line = None,
                Deed::GiveUp => self.lose("silence", around.world, &mut told),
                Deed::Refuse => {
                    told.extend(
                        self.secure.lose(&mut around.world.drbg, now).into_iter().flatten(),
                    );
                }
            }
        }
    }

    /// Says and hears what there is. `false` = something has to come first.
    fn talk(&mut self, around: &mut Around<'_>, told: &mut Vec<Told>) -> bool {
        let Some(line) = &mut self.line else { return true };
        let now = around.world.now;
        let state = line.step(around.world, around.net, &mut self.inbox, &mut |_, _| {});
        let ended = match state {
            State::Opening => return line.has_more(),
            State::Open => false,
            State::Ended => true,
            State::Failed(why) => {
                self.lose(&why, around.world, told);
                return true;
            }
        };
        let heard = match self.secure.hear(&mut self.inbox, ended, now) {
            Ok(heard) => heard,
            Err(why) => {
                self.lose(why, around.world, told);
                return true;
            }
        };
        let news = !heard.is_empty();
        told.extend(heard);
        if ended {
            return true;
        }
        let words = self.secure.say(&mut around.world.drbg, now);
        line.say(&words);
        news || !words.is_empty() || line.has_more()
    }

    /// Goes on with the search for the server's own addresses.
    fn search(&mut self, around: &mut Around<'_>, told: &mut Vec<Told>) {
        let options = dial::options(around.world);
        let Some((quest, plain)) = &mut self.boot else { return };
        let now = around.world.now;
        let mut desk = Desk {
            servers: around.system.servers(),
            memory: around.memory,
            options: &options,
            net: around.net,
            drbg: &mut around.world.drbg,
            token: around.token + 1,
            now,
        };
        if !plain.step(quest, &mut desk) {
            return;
        }
        let Some((quest, _)) = self.boot.take() else { return };
        let finding = quest.finding();
        let found_none = finding.addrs.is_empty();
        self.secure.found(finding.addrs, finding.ttl_s, now);
        if found_none {
            self.lose("no address for its name", around.world, told);
        }
    }

    fn lose(&mut self, why: &str, world: &mut World, told: &mut Vec<Told>) {
        self.line = None;
        let Some(refused) = self.secure.lose(&mut world.drbg, world.now) else { return };
        told.extend(refused);
        let line = format!("event=dns-unreachable server={:?} error={why:?}", self.secure.host());
        world.folded.warn(world.now, &line);
    }
}
