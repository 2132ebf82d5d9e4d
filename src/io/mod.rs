//! Interface to the operating system: sockets, files, timers, signals, log. Independent of
//! Telegram.

pub mod append_file;
pub mod clock;
pub mod egress;
pub mod folder;
pub mod ifaces;
pub mod listen;
pub mod logger;
pub mod mio_net;
pub mod notify;
pub mod pid_file;
pub mod pool;
pub mod privileges;
pub mod readiness;
pub mod rlimit;
pub mod signals;
pub mod sockopt;
pub mod unix_listener;
pub mod wheel;
pub mod wire;
