//! The attacks, one row each. `attacker.rs` carries out the attacker's part of a row.

/// An attack and the machine that it meets.
pub struct Attack {
    /// The row of the table, and the prefix of its numbers in the JSON.
    pub key: &'static str,
    /// The daemon believes to run on a machine of 64 MB.
    pub is_small: bool,
    /// `concurrency` of the daemon.
    pub places: u64,
    /// Users in the config.
    pub users: usize,
    /// What the site behind the daemon does.
    pub site: Site,
    /// Local ports of the whole network namespace; `None` = the default of the kernel.
    pub ports: Option<u16>,
    /// The attacker connects to the admin pages, not to the port for clients.
    pub is_at_pages: bool,
    /// New connections per second; without `renews` a tenth of it after the first `most`.
    pub rate: u32,
    /// Connections that the attacker holds at once.
    pub most: usize,
    /// At `most`, the oldest connection is closed for a new one.
    pub renews: bool,
    /// The daemon stands still while the attacker connects, so that it finds all connections at
    /// once. There are `most` of them in total.
    pub is_burst: bool,
    /// What the attacker says first.
    pub opening: Opening,
    /// How the attacker goes on.
    pub then: Then,
}

/// The site.
#[derive(Clone, Copy, PartialEq)]
pub enum Site {
    /// It answers.
    Answers,
    /// It answers no SYN.
    IsDead,
}

/// The first bytes of an attacker.
#[derive(Clone, Copy, PartialEq)]
pub enum Opening {
    /// Nothing.
    Silence,
    /// The first bytes of a valid ClientHello.
    HalfHello(usize),
    /// An HTTP request for a short page of the site, with padding up to this length.
    Page(usize),
    /// An HTTP request for an endless page of the site.
    EndlessPage,
    /// An HTTP request for `/stats`.
    Stats,
    /// A session of a user, with a short answer of the DC.
    Session,
    /// A session of a user, with an endless download.
    EndlessSession,
}

/// The behaviour after the opening.
#[derive(Clone, Copy, PartialEq)]
pub enum Then {
    /// Keeps the connection and reads nothing.
    Holds,
    /// Reads this many bytes per second.
    Drips(usize),
    /// Closes at once.
    Leaves,
}

/// Addresses of attackers, in one network: 127.9.0.1 and the following.
pub const ADDRESSES: u32 = 8;

const SMALL: Attack = Attack {
    key: "",
    is_small: true,
    places: 4_096,
    users: 8,
    site: Site::Answers,
    ports: None,
    is_at_pages: false,
    rate: 1_000,
    most: 0,
    renews: false,
    is_burst: false,
    opening: Opening::Silence,
    then: Then::Holds,
};

/// All attacks, in the order of the table.
pub const ATTACKS: &[Attack] = &[
    Attack {
        key: "dead_site",
        most: 2_040,
        site: Site::IsDead,
        opening: Opening::Page(16_000),
        ..SMALL
    },
    Attack {
        key: "drip",
        most: 250,
        opening: Opening::EndlessPage,
        then: Then::Drips(1_200),
        ..SMALL
    },
    Attack { key: "idle_connects", places: 480, rate: 600, most: 3_000, renews: true, ..SMALL },
    Attack {
        key: "half_hellos",
        rate: 631,
        most: 3_000,
        renews: true,
        opening: Opening::HalfHello(860),
        ..SMALL
    },
    Attack { key: "held_site", most: 2_048, opening: Opening::Page(0), ..SMALL },
    Attack {
        key: "leavers",
        rate: 235,
        most: 1_000,
        renews: true,
        ports: Some(1_200),
        opening: Opening::Page(0),
        then: Then::Leaves,
        ..SMALL
    },
    Attack {
        key: "stats_requests",
        users: 5_000,
        is_at_pages: true,
        is_burst: true,
        rate: 20_000,
        most: 4_000,
        opening: Opening::Stats,
        then: Then::Leaves,
        ..SMALL
    },
    Attack { key: "never_reads", most: 1_000, opening: Opening::EndlessSession, ..SMALL },
    Attack { key: "all_places", most: 4_096, opening: Opening::Session, ..SMALL },
    Attack {
        key: "slow_readers",
        most: 300,
        opening: Opening::EndlessSession,
        then: Then::Drips(4_000),
        ..SMALL
    },
    Attack {
        key: "slow_readers_24gb",
        is_small: false,
        most: 1_200,
        opening: Opening::EndlessSession,
        then: Then::Drips(4_000),
        ..SMALL
    },
];
