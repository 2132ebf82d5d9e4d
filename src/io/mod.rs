//! The operating system; knows nothing of Telegram.

pub mod append_file;
pub mod clock;
pub mod desk;
pub mod egress;
pub mod folder;
pub mod ifaces;
pub mod limits;
pub mod listen;
pub mod logger;
pub mod notify;
pub mod pid_file;
pub mod pool;
pub mod rights;
pub mod signals;
pub mod sockopt;
pub mod wheel;
pub mod wire;
