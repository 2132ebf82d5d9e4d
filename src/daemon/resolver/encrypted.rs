//! Carries the bytes between the encrypted server's life (`secure.rs`) and its connection, and
//! looks the server's own name up where it has one.

use crate::config::settings::DnsSettings;
use crate::daemon::fetch::FetchTarget;
use crate::daemon::fetch::connection::{
    Connection, ConnectionState, FetchRoute, HostOrAddr as Way,
};
use crate::daemon::resolver::lookup::Lookup;
use crate::daemon::resolver::plain::{PlainQuery, QueryContext, ServerStats};
use crate::daemon::resolver::secure::{ConnectionAction, EncryptedServer, QueryResult};
use crate::daemon::resolver::system::SystemFiles;
use crate::daemon::resolver::{GRACE_MS, LookupSlot};
use crate::daemon::shared::World;
use crate::daemon::upstream::sockets;
use crate::io::clock::Tick;
use crate::io::readiness::Readiness;
use crate::io::wire::MioNet;
use crate::proto::dns::RecordType;

/// The one server that is asked, and the one connection to it.
pub struct EncryptedResolver {
    secure: EncryptedServer,
    line: Option<Connection>,
    /// Plain bytes of an answer that is not complete yet.
    inbox: Vec<u8>,
    /// The search for the server's own addresses.
    boot: Option<(Lookup, PlainQuery)>,
    woken: bool,
}

/// The searches' surroundings, and the tokens of the two sockets here.
pub struct EncryptedContext<'a> {
    /// The rest of the daemon.
    pub world: &'a mut World,
    /// Where sockets come from.
    pub net: &'a mut MioNet,
    /// Whom to ask for the server's own name.
    pub system: &'a mut SystemFiles,
    /// What is known of them.
    pub memory: &'a mut ServerStats,
    /// The token of the connection; the one that follows is for the search.
    pub token: usize,
}

impl EncryptedResolver {
    /// `None` = the settings name no such server.
    pub fn new(settings: &DnsSettings) -> Option<Self> {
        let secure = EncryptedServer::new(settings)?;
        Some(Self { secure, line: None, inbox: Vec::new(), boot: None, woken: false })
    }

    /// Takes a name for the search at a place.
    pub fn ask(&mut self, place: LookupSlot, name: &str) {
        self.secure.ask(place, RecordType::A, name);
        self.secure.ask(place, RecordType::Aaaa, name);
        self.woken = true;
    }

    /// The search at a place is over.
    pub fn forget(&mut self, place: LookupSlot) {
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
    pub fn turn(&mut self, around: &mut EncryptedContext<'_>) -> Vec<QueryResult> {
        let mut told = Vec::new();
        let now = around.world.time.now;
        if !std::mem::take(&mut self.woken) && self.due().is_none_or(|due| due > now) {
            return told;
        }
        self.search(around, &mut told);
        // A connection is opened again at once only after it has brought an answer, so this ends.
        loop {
            match self.secure.next(self.line.is_some(), now) {
                ConnectionAction::Rest => return told,
                ConnectionAction::Find(name) => {
                    let known = around.system.known(&name);
                    if known.is_empty() {
                        self.boot =
                            Some((Lookup::new(name, 0, GRACE_MS, now), PlainQuery::default()));
                        self.search(around, &mut told);
                    } else {
                        self.secure.found(known, 0, now);
                    }
                }
                ConnectionAction::Open(addrs) => {
                    self.inbox.clear();
                    let tls = Some(self.secure.host().to_owned());
                    let target =
                        FetchTarget { place: Way::Known(addrs), tls, via: FetchRoute::Native };
                    let line = Connection::new(target, around.token);
                    let is_http = self.secure.is_http();
                    self.line = Some(if is_http { line } else { line.without_alpn() });
                }
                ConnectionAction::Talk => {
                    if !self.talk(around, &mut told) {
                        return told;
                    }
                }
                ConnectionAction::Close => self.line = None,
                ConnectionAction::GiveUp => self.lose("silence", around.world, &mut told),
                ConnectionAction::Refuse => {
                    told.extend(
                        self.secure.lose(&mut around.world.drbg, now).into_iter().flatten(),
                    );
                }
            }
        }
    }

    /// Says and hears what there is. `false` = something has to come first.
    fn talk(&mut self, around: &mut EncryptedContext<'_>, told: &mut Vec<QueryResult>) -> bool {
        let Some(line) = &mut self.line else { return true };
        let now = around.world.time.now;
        let state = line.step(around.world, around.net, &mut self.inbox, &mut |_, _| {});
        let ended = match state {
            ConnectionState::Opening => return line.has_more(),
            ConnectionState::Open => false,
            ConnectionState::Ended => true,
            ConnectionState::Failed(why) => {
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
    fn search(&mut self, around: &mut EncryptedContext<'_>, told: &mut Vec<QueryResult>) {
        let options = sockets::relay_socket_options(&around.world.settings);
        let Some((quest, plain)) = &mut self.boot else { return };
        let now = around.world.time.now;
        let mut desk = QueryContext {
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

    fn lose(&mut self, why: &str, world: &mut World, told: &mut Vec<QueryResult>) {
        self.line = None;
        let Some(refused) = self.secure.lose(&mut world.drbg, world.time.now) else { return };
        told.extend(refused);
        let line = format!("event=dns-unreachable server={:?} error={why:?}", self.secure.host());
        world.telemetry.warn(format_args!("{line}"));
    }
}
