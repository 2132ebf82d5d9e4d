//! SIGHUP: the new config applies at once, and sessions that may continue are not disturbed
//! (COMPATIBILITY C8: the reference ends).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::thread;

use crate::support::client::{Client, Handshake};
use crate::support::dc::{Dc, DcSession};
use crate::support::eventually;
use crate::support::fixture::HOST;
use crate::support::front::Front;
use crate::support::hello::{App, Hello, Secret};
use crate::support::lists::{Folder, with_list};
use crate::support::name_server::NameServer;
use crate::support::obfuscated2::DD;
use crate::support::peer::{End, Peer};
use crate::support::proxy::{Config, Proxy, free_port};
use crate::support::socks::{SocksBehaviour, SocksServer};

/// A proxy whose config can be changed.
struct Rig {
    proxy: Proxy,
    config: Config,
    dc: Dc,
    front: Front,
    alice: Secret,
}

impl Rig {
    fn new(change: impl FnOnce(Config) -> Config) -> Self {
        let (dc, front, alice) = (Dc::listen(), Front::listen(), Secret::new(HOST));
        let config = change(Config::new(dc.addr, front.addr).user("alice", &alice));
        Self { proxy: config.clone().start(), config, dc, front, alice }
    }

    fn reload(&mut self, change: impl FnOnce(Config) -> Config) -> String {
        self.config = change(self.config.clone());
        self.proxy.reload(&self.config)
    }

    fn session(&self, secret: &Secret) -> Pair {
        Pair { client: Client::open(self.proxy.addr, secret), dc: self.dc.accept() }
    }

    /// A client with this secret is fronted.
    fn assert_fronted(&self, secret: &Secret) {
        let hello = Hello::new(secret, App::PostQuantum);
        let mut peer = Peer::connect("client", self.proxy.addr);
        peer.send(&hello.wire);
        assert!(self.front.accept().first == hello.wire);
    }
}

/// Both ends of a session.
struct Pair {
    client: Client,
    dc: DcSession,
}

impl Pair {
    fn assert_forwards(&mut self) {
        self.client.up.send(b"there");
        assert_eq!(self.dc.from.recv(5), b"there");
        self.dc.to.send(b"back");
        assert_eq!(self.client.down.recv(4), b"back");
    }

    fn assert_ended(mut self) {
        assert!(self.client.down.recv_rest().0.is_empty());
        assert!(self.dc.from.recv_rest().0.is_empty());
    }
}

#[test]
fn users_are_added_and_removed_and_the_others_keep_sessions_and_counters() {
    let [bob, carol, dave] = [(); 3].map(|()| Secret::new(HOST));
    let mut rig = Rig::new(|config| config.user("bob", &bob).user("carol", &carol));
    let mut stays = rig.session(&rig.alice);
    let gone = [rig.session(&bob), rig.session(&carol)];
    stays.assert_forwards();
    rig.assert_fronted(&dave);

    let turned = Secret::new("other.example");
    let line = rig.reload(|config| {
        config.without("secrets", "\"bob\"").user("carol", &turned).user("dave", &dave)
    });
    assert!(line.contains("users=3 added=1 removed=1 changed=1 ended=2"), "{line}");
    gone.into_iter().for_each(Pair::assert_ended);
    stays.assert_forwards();
    rig.session(&dave).assert_forwards();
    rig.session(&turned).assert_forwards();
    rig.assert_fronted(&bob);
    rig.assert_fronted(&carol);
    let stats = rig.proxy.stats();
    assert_eq!(stats["users"]["alice"]["bytes_in"], 10);
    assert!(stats["users"].get("bob").is_none());
    assert_eq!(stats["users"].as_object().unwrap().len(), 3);
}

#[test]
fn a_disabled_user_is_fronted_and_keeps_the_counters_until_enabled_again() {
    let bob = Secret::new(HOST);
    let mut rig = Rig::new(|config| config.user("bob", &bob));
    let (mut stays, mut ends) = (rig.session(&rig.alice), rig.session(&bob));
    ends.assert_forwards();
    rig.reload(|config| config.set("", "disabled-users", "[\"bob\"]"));
    ends.assert_ended();
    rig.assert_fronted(&bob);
    let stats = rig.proxy.stats();
    assert_eq!(stats["users"]["bob"]["disabled"], true);
    assert_eq!(stats["users"]["bob"]["bytes_in"], 5);
    assert!(rig.proxy.log().contains("event=refused user=\"bob\" why=disabled"));
    stays.assert_forwards();
    rig.reload(|config| config.without("", "disabled-users"));
    rig.session(&bob).assert_forwards();
    assert!(rig.proxy.stats()["users"]["bob"].get("disabled").is_none());
    assert_eq!(rig.proxy.number("bob", "bytes_in"), 10);
}

#[test]
fn a_bad_file_changes_nothing_and_the_log_names_the_error() {
    let mut rig = Rig::new(|config| config);
    let mut session = rig.session(&rig.alice);
    let before = rig.proxy.stats()["users"].clone();
    for (text, wanted) in [
        ("concurrency = \"many\"\nbind-to = \"[::]:1\"\nsecret = \"\"\n", "concurrency: must"),
        ("[secrets\n", "invalid TOML"),
        ("", "no user; add [secrets]"),
        ("\u{0}", "invalid TOML"),
    ] {
        let text = text.replace("secret = \"\"", &format!("secret = {:?}", rig.alice.text()));
        let line = rig.proxy.reload_text(&text);
        assert!(line.contains("event=reload-refused"), "{line}");
        assert!(line.contains("level=error") && line.contains(wanted), "{line}");
        assert!(line.contains(&format!("{}:1:", rig.proxy.file().display())), "{line}");
        session.assert_forwards();
    }
    fs::remove_file(rig.proxy.file()).unwrap();
    fs::create_dir(rig.proxy.file()).unwrap();
    rig.proxy.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("a folder is refused", || rig.proxy.log().contains("not a regular file"));
    fs::remove_dir(rig.proxy.file()).unwrap();
    assert_eq!(rig.proxy.stats()["users"].as_object().unwrap().len(), 1, "{before}");
    rig.session(&rig.alice).assert_forwards();
    let line = rig.reload(|config| config);
    assert!(line.contains("event=reloaded users=1 added=0 removed=0 changed=0 ended=0"), "{line}");
}

#[test]
fn listeners_move_and_sessions_do_not_notice() {
    let mut rig = Rig::new(|config| config);
    let mut session = rig.session(&rig.alice);
    let old = rig.proxy.addr;
    let new: SocketAddr = (Ipv4Addr::LOCALHOST, free_port()).into();
    rig.proxy.set_binds(&[new, old]);
    rig.reload(|config| config);
    rig.session(&rig.alice).assert_forwards();
    rig.proxy.set_binds(&[new]);
    rig.reload(|config| config);
    assert!(TcpStream::connect(old).is_err(), "the old listener is closed");
    session.assert_forwards();
    rig.session(&rig.alice).assert_forwards();
    let files = rig.proxy.files();
    for _ in 0..5 {
        rig.proxy.set_binds(&[old]);
        rig.reload(|config| config);
        rig.session(&rig.alice).assert_forwards();
        rig.proxy.set_binds(&[new]);
        rig.reload(|config| config);
    }
    session.assert_forwards();
    eventually("no descriptor is left over", || rig.proxy.files() <= files);
}

#[test]
fn a_listener_changes_to_all_addresses_of_its_port_and_back() {
    let mut rig = Rig::new(|config| config);
    let mut session = rig.session(&rig.alice);
    let (one, all) = (rig.proxy.addr, SocketAddr::from(([0, 0, 0, 0], rig.proxy.addr.port())));
    for _ in 0..3 {
        rig.proxy.set_binds(&[all]);
        let line = rig.reload(|config| config);
        assert!(line.contains("event=reloaded"), "{line}");
        let elsewhere = SocketAddr::from(([127, 0, 0, 9], all.port()));
        let mut client = Client::open(elsewhere, &rig.alice);
        client.up.send(b"hi");
        assert_eq!(rig.dc.accept().from.recv(2), b"hi");
        rig.proxy.set_binds(&[one]);
        rig.reload(|config| config);
        assert!(TcpStream::connect(elsewhere).is_err());
        session.assert_forwards();
    }
}

#[test]
fn a_port_in_use_refuses_the_whole_file() {
    let mut rig = Rig::new(|config| config);
    let mut session = rig.session(&rig.alice);
    let (old, bob) = (rig.proxy.addr, Secret::new(HOST));
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    let fresh = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    rig.proxy.set_binds(&[fresh, other.local_addr().unwrap()]);
    let line = rig.reload(|config| config.user("bob", &bob));
    assert!(line.contains("reload-refused") && line.contains("another program listens"), "{line}");
    assert!(TcpStream::connect(fresh).is_err(), "a refused config changes nothing");
    rig.proxy.set_binds(&[old]);
    rig.assert_fronted(&bob);
    session.assert_forwards();
    rig.session(&rig.alice).assert_forwards();
}

#[test]
fn a_client_in_the_queue_of_a_closing_listener_is_accepted() {
    let mut rig = Rig::new(|config| config);
    let old = rig.proxy.addr;
    for _ in 0..5 {
        let waiting: Vec<Peer> = (0..20).map(|_| Peer::connect("client", old)).collect();
        rig.proxy.set_binds(&[SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))]);
        rig.reload(|config| config);
        for peer in waiting {
            let hello = Hello::new(&rig.alice, App::PostQuantum);
            let mut client = Handshake::send_hello(peer, &rig.alice, &hello).send_frame(DD, 2);
            client.up.send(b"hi");
            assert_eq!(rig.dc.accept().from.recv(2), b"hi");
        }
        rig.proxy.set_binds(&[old]);
        rig.reload(|config| config);
    }
}

#[test]
fn the_throttle_changes_on_reload_and_its_caps_follow_the_new_limit() {
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
    sessions.iter_mut().for_each(Pair::assert_forwards);
    rig.reload(|config| config.set("throttle", "max-connections", "9"));
    rig.session(&rig.alice).assert_forwards();
    rig.reload(|config| config.without("throttle", "max-connections"));
    assert!(rig.proxy.stats().get("throttle").is_none());
}

#[test]
fn a_shorter_idle_limit_applies_to_open_sessions() {
    let mut rig = Rig::new(|config| config);
    let session = rig.session(&rig.alice);
    rig.proxy.wait_for_connections("alice", 1);
    rig.reload(|config| config.set("network.timeout", "idle", "\"1s\""));
    rig.proxy.wait_for_connections("alice", 0);
    session.assert_ended();
}

#[test]
fn the_upstream_changes_for_the_next_connection() {
    let mut rig = Rig::new(|config| config);
    let mut direct = rig.session(&rig.alice);
    let (first, second) = (
        SocksServer::listen(SocksBehaviour::default()),
        SocksServer::listen(SocksBehaviour::default()),
    );
    rig.reload(|config| config.set("network", "proxies", &format!("[{:?}]", first.url())));
    let mut routed = rig.session(&rig.alice);
    assert_eq!((first.connections(), second.connections()), (1, 0));
    rig.reload(|config| config.set("network", "proxies", &format!("[{:?}]", second.url())));
    let mut again = rig.session(&rig.alice);
    assert_eq!((first.connections(), second.connections()), (1, 1));
    rig.reload(|config| config.without("network", "proxies"));
    rig.session(&rig.alice).assert_forwards();
    assert_eq!((first.connections(), second.connections()), (1, 1));
    for session in [&mut direct, &mut routed, &mut again] {
        session.assert_forwards();
    }
}

#[test]
fn lists_are_added_changed_and_removed() {
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
    eventually("the list is loaded", || rig.proxy.stats()["lists"]["blocklist"]["entries"] == 1);
    assert!(refused(&rig, [127, 0, 0, 7]));
    // The same settings, but the file is read again.
    folder.write("block.netset", "127.0.0.7\n127.0.0.8\n");
    rig.reload(|config| config);
    eventually("both lines are loaded", || rig.proxy.stats()["lists"]["blocklist"]["entries"] == 2);
    assert!(refused(&rig, [127, 0, 0, 8]));
    assert_eq!(rig.proxy.stats()["lists"]["blocklist"]["refused"], 2);
    let more = folder.write("more.netset", "127.0.0.10\n");
    rig.reload(|config| with_list(config, "blocklist", &format!("{list}, {more}")));
    eventually("all lines are loaded", || rig.proxy.stats()["lists"]["blocklist"]["entries"] == 3);
    assert_eq!(rig.proxy.stats()["lists"]["blocklist"]["refused"], 2, "counters stay");
    rig.reload(|config| config.set("defense.blocklist", "enabled", "false"));
    assert!(rig.proxy.stats().get("lists").is_none());
    session.assert_forwards();
}

#[test]
fn a_new_name_server_also_gets_the_lookups_in_progress() {
    let silent = NameServer::listen(|_| Vec::new());
    let good = NameServer::listen(|question| question.with_address(Ipv4Addr::LOCALHOST).actions());
    let mut rig = Rig::new(|config| {
        config.set("domain-fronting", "host", "\"some.site.example\"").set(
            "network",
            "dns",
            &silent.url(),
        )
    });
    let mut prober = Peer::connect("prober", rig.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    eventually("the silent server gets a question", || silent.count() > 0);
    rig.reload(|config| config.set("network", "dns", &good.url()));
    assert_eq!(rig.front.accept().first, b"GET / HTTP/1.1\r\n\r\n");
}

#[test]
fn the_pid_file_is_written_moved_and_removed() {
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
fn a_pid_file_that_is_a_link_is_refused_and_its_target_is_kept() {
    let folder = Folder::new();
    let (link, target) = (folder.path().join("mtbox.pid"), folder.path().join("precious"));
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let rig = Rig::new(|config| config.set("", "pid-file", &format!("{link:?}")));
    let log = rig.proxy.log();
    let line = log.lines().find(|line| line.contains("event=pid-file-failed"));
    assert!(
        line.is_some_and(|line| line.contains("a symbolic link, which is not followed")),
        "{log}"
    );
    drop(rig);
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn the_service_manager_is_notified_of_start_reload_watchdog_and_stop() {
    let folder = Folder::new();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(crate::support::TIMEOUT)).unwrap();
    let receive = || {
        let mut datagram = [0; 512];
        let count = manager.recv(&mut datagram).expect("a datagram in time");
        String::from_utf8(datagram[..count].to_vec()).unwrap()
    };
    let mut rig = Rig::new(|config| {
        config.env("NOTIFY_SOCKET", path.to_str().unwrap()).env("WATCHDOG_USEC", "2000000")
    });
    let first = receive();
    assert!(first.starts_with("READY=1\nSTATUS=1 users on 127.0.0.1:"), "{first}");
    assert_eq!([receive(), receive()], ["WATCHDOG=1", "WATCHDOG=1"], "it runs without work");
    rig.reload(|config| config);
    let next = || loop {
        let line = receive();
        if line != "WATCHDOG=1" {
            return line;
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
fn a_dial_in_progress_through_a_removed_proxy_succeeds() {
    let slow =
        SocksServer::listen(SocksBehaviour { byte_by_byte: true, ..SocksBehaviour::default() });
    let mut rig =
        Rig::new(|config| config.set("network", "proxies", &format!("[{:?}]", slow.url())));
    let clients: Vec<Client> = (0..5).map(|_| Client::open(rig.proxy.addr, &rig.alice)).collect();
    eventually("they are dialled", || slow.connections() > 0);
    rig.reload(|config| config.without("network", "proxies"));
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || client.up.send(b"hi"));
        }
        (0..5).for_each(|_| assert_eq!(rig.dc.accept().from.recv(2), b"hi"));
    });
}
