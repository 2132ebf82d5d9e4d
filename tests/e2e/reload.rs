//! SIGHUP: what the file says now holds from now on, and nobody who may stay notices
//! (gotcha C8: the reference dies of it).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::thread;

use crate::support::client::{Client, Visitor};
use crate::support::dc::{Dc, DcSession};
use crate::support::eventually;
use crate::support::hello::{Hello, Secret, Shape};
use crate::support::lists::{Folder, with_list};
use crate::support::names::NameServer;
use crate::support::obfuscated2::DD;
use crate::support::origin::Origin;
use crate::support::peer::{End, Peer};
use crate::support::proxy::{Config, Proxy, free_port};
use crate::support::socks::{Manners, Socks};
use crate::support::stage::HOST;

/// A proxy whose config can be written anew.
struct Rig {
    proxy: Proxy,
    config: Config,
    dc: Dc,
    origin: Origin,
    alice: Secret,
}

impl Rig {
    fn new(change: impl FnOnce(Config) -> Config) -> Self {
        let (dc, origin, alice) = (Dc::listen(), Origin::listen(), Secret::new(HOST));
        let config = change(Config::new(dc.addr, origin.addr).user("alice", &alice));
        Self { proxy: config.clone().start(), config, dc, origin, alice }
    }

    fn reload(&mut self, change: impl FnOnce(Config) -> Config) -> String {
        self.config = change(self.config.clone());
        self.proxy.reload(&self.config)
    }

    fn session(&self, secret: &Secret) -> Pair {
        Pair { client: Client::open(self.proxy.addr, secret), dc: self.dc.accept() }
    }

    /// A client with this secret is treated as a stranger.
    fn assert_fronted(&self, secret: &Secret) {
        let hello = Hello::fresh(secret, Shape::PostQuantum);
        let mut peer = Peer::connect("client", self.proxy.addr);
        peer.send(&hello.wire);
        assert!(self.origin.visit().first == hello.wire);
    }
}

/// Both ends of a session.
struct Pair {
    client: Client,
    dc: DcSession,
}

impl Pair {
    fn assert_talks(&mut self) {
        self.client.up.send(b"there");
        assert_eq!(self.dc.from.recv(5), b"there");
        self.dc.to.send(b"back");
        assert_eq!(self.client.down.recv(4), b"back");
    }

    fn assert_over(mut self) {
        assert!(self.client.down.recv_rest().0.is_empty());
        assert!(self.dc.from.recv_rest().0.is_empty());
    }
}

#[test]
fn people_come_and_go_and_the_others_keep_their_sessions_and_counters() {
    let [bob, carol, dave] = [(); 3].map(|()| Secret::new(HOST));
    let mut rig = Rig::new(|config| config.user("bob", &bob).user("carol", &carol));
    let mut stays = rig.session(&rig.alice);
    let gone = [rig.session(&bob), rig.session(&carol)];
    stays.assert_talks();
    rig.assert_fronted(&dave);

    let turned = Secret::new("other.example");
    let said = rig.reload(|config| {
        config.without("secrets", "\"bob\"").user("carol", &turned).user("dave", &dave)
    });
    assert!(said.contains("users=3 added=1 removed=1 changed=1 ended=2"), "{said}");
    gone.into_iter().for_each(Pair::assert_over);
    stays.assert_talks();
    rig.session(&dave).assert_talks();
    rig.session(&turned).assert_talks();
    rig.assert_fronted(&bob);
    rig.assert_fronted(&carol);
    let stats = rig.proxy.stats();
    assert_eq!(stats["users"]["alice"]["bytes_in"], 10);
    assert!(stats["users"].get("bob").is_none());
    assert_eq!(stats["users"].as_object().unwrap().len(), 3);
}

#[test]
fn a_disabled_user_is_a_stranger_who_keeps_the_counters_until_enabled_again() {
    let bob = Secret::new(HOST);
    let mut rig = Rig::new(|config| config.user("bob", &bob));
    let (mut stays, mut ends) = (rig.session(&rig.alice), rig.session(&bob));
    ends.assert_talks();
    rig.reload(|config| config.set("", "disabled-users", "[\"bob\"]"));
    ends.assert_over();
    rig.assert_fronted(&bob);
    let stats = rig.proxy.stats();
    assert_eq!(stats["users"]["bob"]["disabled"], true);
    assert_eq!(stats["users"]["bob"]["bytes_in"], 5);
    assert!(rig.proxy.log().contains("event=refused user=\"bob\" why=disabled"));
    stays.assert_talks();
    rig.reload(|config| config.without("", "disabled-users"));
    rig.session(&bob).assert_talks();
    assert!(rig.proxy.stats()["users"]["bob"].get("disabled").is_none());
    assert_eq!(rig.proxy.number("bob", "bytes_in"), 10);
}

#[test]
fn a_bad_file_changes_nothing_and_says_where_it_is_wrong() {
    let mut rig = Rig::new(|config| config);
    let mut session = rig.session(&rig.alice);
    let before = rig.proxy.stats()["users"].clone();
    for (text, wanted) in [
        ("concurrency = \"many\"\nbind-to = \"[::]:1\"\nsecret = \"\"\n", "concurrency: must"),
        ("[secrets\n", "not TOML"),
        ("", "no user; add [secrets]"),
        ("\u{0}", "not TOML"),
    ] {
        let text = text.replace("secret = \"\"", &format!("secret = {:?}", rig.alice.text()));
        let said = rig.proxy.reload_text(&text);
        assert!(said.contains("event=reload-refused"), "{said}");
        assert!(said.contains("level=error") && said.contains(wanted), "{said}");
        assert!(said.contains(&format!("{}:1:", rig.proxy.file().display())), "{said}");
        session.assert_talks();
    }
    fs::remove_file(rig.proxy.file()).unwrap();
    fs::create_dir(rig.proxy.file()).unwrap();
    rig.proxy.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("a folder is refused", || rig.proxy.log().contains("not a regular file"));
    fs::remove_dir(rig.proxy.file()).unwrap();
    assert_eq!(rig.proxy.stats()["users"].as_object().unwrap().len(), 1, "{before}");
    rig.session(&rig.alice).assert_talks();
    let said = rig.reload(|config| config);
    assert!(said.contains("event=reloaded users=1 added=0 removed=0 changed=0 ended=0"), "{said}");
}

#[test]
fn listeners_move_and_sessions_do_not_notice() {
    let mut rig = Rig::new(|config| config);
    let mut session = rig.session(&rig.alice);
    let old = rig.proxy.addr;
    let new: SocketAddr = (Ipv4Addr::LOCALHOST, free_port()).into();
    rig.proxy.move_to(&[new, old]);
    rig.reload(|config| config);
    rig.session(&rig.alice).assert_talks();
    rig.proxy.move_to(&[new]);
    rig.reload(|config| config);
    assert!(TcpStream::connect(old).is_err(), "nobody listens there any more");
    session.assert_talks();
    rig.session(&rig.alice).assert_talks();
    let files = rig.proxy.files();
    for _ in 0..5 {
        rig.proxy.move_to(&[old]);
        rig.reload(|config| config);
        rig.session(&rig.alice).assert_talks();
        rig.proxy.move_to(&[new]);
        rig.reload(|config| config);
    }
    session.assert_talks();
    eventually("no descriptor is left over", || rig.proxy.files() <= files);
}

#[test]
fn a_listener_grows_to_all_addresses_of_its_port_and_back() {
    let mut rig = Rig::new(|config| config);
    let mut session = rig.session(&rig.alice);
    let (one, all) = (rig.proxy.addr, SocketAddr::from(([0, 0, 0, 0], rig.proxy.addr.port())));
    for _ in 0..3 {
        rig.proxy.move_to(&[all]);
        let said = rig.reload(|config| config);
        assert!(said.contains("event=reloaded"), "{said}");
        let elsewhere = SocketAddr::from(([127, 0, 0, 9], all.port()));
        let mut client = Client::open(elsewhere, &rig.alice);
        client.up.send(b"hi");
        assert_eq!(rig.dc.accept().from.recv(2), b"hi");
        rig.proxy.move_to(&[one]);
        rig.reload(|config| config);
        assert!(TcpStream::connect(elsewhere).is_err());
        session.assert_talks();
    }
}

#[test]
fn a_port_that_is_taken_refuses_the_whole_file() {
    let mut rig = Rig::new(|config| config);
    let mut session = rig.session(&rig.alice);
    let (old, bob) = (rig.proxy.addr, Secret::new(HOST));
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    let fresh = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    rig.proxy.move_to(&[fresh, other.local_addr().unwrap()]);
    let said = rig.reload(|config| config.user("bob", &bob));
    assert!(said.contains("reload-refused") && said.contains("another program listens"), "{said}");
    assert!(TcpStream::connect(fresh).is_err(), "half of a change is none");
    rig.proxy.move_to(&[old]);
    rig.assert_fronted(&bob);
    session.assert_talks();
    rig.session(&rig.alice).assert_talks();
}

#[test]
fn who_stands_before_a_door_that_closes_is_let_in() {
    let mut rig = Rig::new(|config| config);
    let old = rig.proxy.addr;
    for _ in 0..5 {
        let waiting: Vec<Peer> = (0..20).map(|_| Peer::connect("client", old)).collect();
        rig.proxy.move_to(&[SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))]);
        rig.reload(|config| config);
        for peer in waiting {
            let hello = Hello::fresh(&rig.alice, Shape::PostQuantum);
            let mut client = Visitor::greet(peer, &rig.alice, &hello).begin(DD, 2);
            client.up.send(b"hi");
            assert_eq!(rig.dc.accept().from.recv(2), b"hi");
        }
        rig.proxy.move_to(&[old]);
        rig.reload(|config| config);
    }
}

#[test]
fn the_throttle_changes_live_and_its_caps_are_those_of_the_new_limit() {
    let mut rig = Rig::new(|config| config);
    let mut sessions: Vec<Pair> = (0..4).map(|_| rig.session(&rig.alice)).collect();
    assert!(rig.proxy.stats().get("throttle").is_none());
    rig.reload(|config| config.set("throttle", "max-connections", "4"));
    assert_eq!(rig.proxy.stats()["throttle"]["limit"], 4);
    rig.assert_fronted(&rig.alice);
    rig.reload(|config| config.set("throttle", "max-connections", "2"));
    let stats = rig.proxy.stats();
    assert_eq!(
        (&stats["throttle"]["limit"], &stats["throttle"]["caps"]["alice"]),
        (&2.into(), &2.into())
    );
    sessions.iter_mut().for_each(Pair::assert_talks);
    rig.reload(|config| config.set("throttle", "max-connections", "9"));
    rig.session(&rig.alice).assert_talks();
    rig.reload(|config| config.without("throttle", "max-connections"));
    assert!(rig.proxy.stats().get("throttle").is_none());
}

#[test]
fn a_shorter_idle_limit_holds_for_sessions_that_are_there() {
    let mut rig = Rig::new(|config| config);
    let session = rig.session(&rig.alice);
    rig.proxy.wait_for_connections("alice", 1);
    rig.reload(|config| config.set("network.timeout", "idle", "\"1s\""));
    rig.proxy.wait_for_connections("alice", 0);
    session.assert_over();
}

#[test]
fn the_way_to_telegram_changes_for_the_next_connection() {
    let mut rig = Rig::new(|config| config);
    let mut direct = rig.session(&rig.alice);
    let (first, second) = (Socks::listen(Manners::default()), Socks::listen(Manners::default()));
    rig.reload(|config| config.set("network", "proxies", &format!("[{:?}]", first.url())));
    let mut routed = rig.session(&rig.alice);
    assert_eq!((first.connections(), second.connections()), (1, 0));
    rig.reload(|config| config.set("network", "proxies", &format!("[{:?}]", second.url())));
    let mut again = rig.session(&rig.alice);
    assert_eq!((first.connections(), second.connections()), (1, 1));
    rig.reload(|config| config.without("network", "proxies"));
    rig.session(&rig.alice).assert_talks();
    assert_eq!((first.connections(), second.connections()), (1, 1));
    for session in [&mut direct, &mut routed, &mut again] {
        session.assert_talks();
    }
}

#[test]
fn lists_come_change_and_go() {
    let mut rig = Rig::new(|config| config);
    let mut session = rig.session(&rig.alice);
    let folder = Folder::new();
    let list = folder.write("block.netset", "127.0.0.7\n");
    let refused = |rig: &Rig, from: [u8; 4]| {
        let mut peer = Peer::connect_from("client", from.into(), rig.proxy.addr);
        peer.stream().set_nonblocking(false).unwrap();
        peer.try_send(b"GET / HTTP/1.1\r\n\r\n").is_err() || peer.recv_rest() == (vec![], End::Fin)
    };
    rig.reload(|config| with_list(config, "blocklist", &list));
    eventually("the list holds", || rig.proxy.stats()["lists"]["blocklist"]["entries"] == 1);
    assert!(refused(&rig, [127, 0, 0, 7]));
    // The same settings: the file is read again all the same.
    folder.write("block.netset", "127.0.0.7\n127.0.0.8\n");
    rig.reload(|config| config);
    eventually("both lines hold", || rig.proxy.stats()["lists"]["blocklist"]["entries"] == 2);
    assert!(refused(&rig, [127, 0, 0, 8]));
    assert_eq!(rig.proxy.stats()["lists"]["blocklist"]["refused"], 2);
    let more = folder.write("more.netset", "127.0.0.10\n");
    rig.reload(|config| with_list(config, "blocklist", &format!("{list}, {more}")));
    eventually("all lines hold", || rig.proxy.stats()["lists"]["blocklist"]["entries"] == 3);
    assert_eq!(rig.proxy.stats()["lists"]["blocklist"]["refused"], 2, "what was counted stays");
    rig.reload(|config| config.set("defense.blocklist", "enabled", "false"));
    assert!(rig.proxy.stats().get("lists").is_none());
    session.assert_talks();
}

#[test]
fn another_name_server_is_asked_even_for_what_was_being_waited_for() {
    let silent = NameServer::listen(|_| Vec::new());
    let good = NameServer::listen(|question| question.lead_to(Ipv4Addr::LOCALHOST).say());
    let mut rig = Rig::new(|config| {
        config.set("domain-fronting", "host", "\"some.site.example\"").set(
            "network",
            "dns",
            &silent.url(),
        )
    });
    let mut prober = Peer::connect("prober", rig.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    eventually("the silent one is asked", || silent.count() > 0);
    rig.reload(|config| config.set("network", "dns", &good.url()));
    assert_eq!(rig.origin.visit().first, b"GET / HTTP/1.1\r\n\r\n");
}

#[test]
fn the_pid_file_is_ours_moves_and_goes() {
    let folder = Folder::new();
    let (one, two) = (folder.path().join("one.pid"), folder.path().join("two.pid"));
    let mut rig = Rig::new(|config| config.set("", "pid-file", &format!("{one:?}")));
    let own = format!("{}\n", rig.proxy.pid());
    assert_eq!(fs::read_to_string(&one).unwrap(), own);
    rig.reload(|config| config.set("", "pid-file", &format!("{two:?}")));
    assert_eq!(fs::read_to_string(&two).unwrap(), own);
    assert!(!one.exists());
    rig.proxy.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(rig.proxy.wait_for_exit().code(), Some(0));
    assert!(!two.exists());
}

#[test]
fn the_service_manager_hears_of_start_reload_life_and_stop() {
    let folder = Folder::new();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let hear = || {
        let mut datagram = [0; 512];
        let count = manager.recv(&mut datagram).expect("a datagram in time");
        String::from_utf8(datagram[..count].to_vec()).unwrap()
    };
    let mut rig = Rig::new(|config| {
        config.env("NOTIFY_SOCKET", path.to_str().unwrap()).env("WATCHDOG_USEC", "2000000")
    });
    let first = hear();
    assert!(first.starts_with("READY=1\nSTATUS=1 users on 127.0.0.1:"), "{first}");
    assert_eq!([hear(), hear()], ["WATCHDOG=1", "WATCHDOG=1"], "it lives, with nothing to do");
    rig.reload(|config| config);
    let next = || loop {
        let said = hear();
        if said != "WATCHDOG=1" {
            return said;
        }
    };
    let reloading = next();
    let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a time");
    assert!(usec.parse::<u64>().unwrap() > 0);
    assert!(next().starts_with("READY=1\n"));
    rig.proxy.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(next(), "STOPPING=1");
    rig.proxy.wait_for_exit();
}

#[test]
fn a_dial_under_way_by_a_proxy_that_is_removed_arrives() {
    let slow = Socks::listen(Manners { dribble: true, ..Manners::default() });
    let mut rig =
        Rig::new(|config| config.set("network", "proxies", &format!("[{:?}]", slow.url())));
    let clients: Vec<Client> = (0..5).map(|_| Client::open(rig.proxy.addr, &rig.alice)).collect();
    eventually("they are on their way", || slow.connections() > 0);
    rig.reload(|config| config.without("network", "proxies"));
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || client.up.send(b"hi"));
        }
        (0..5).for_each(|_| assert_eq!(rig.dc.accept().from.recv(2), b"hi"));
    });
}
