//! One connection as state machines, without sockets.
