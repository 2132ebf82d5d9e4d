//! The tokens of the poller: which socket an event belongs to. Sessions have the tokens from 0 on;
//! each other kind of socket has a range of its own far above them.

use crate::daemon::admin::CONNECTIONS_MAX;
use crate::daemon::fetch::runner;
use crate::daemon::resolver;

/// The tokens of one kind of socket, one for each slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenRange {
    first: usize,
    end: usize,
}

impl TokenRange {
    const fn new(first: usize, slots: usize) -> Self {
        Self { first, end: first + slots }
    }

    /// The token of slot 0.
    pub(super) const fn first(self) -> usize {
        self.first
    }

    fn slot(self, token: usize) -> Option<usize> {
        (self.first..self.end).contains(&token).then(|| token - self.first)
    }
}

/// The owner of a token, and its slot there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A socket of a session; the token itself, see `SessionKey::of_token`.
    Session(usize),
    /// A connection to an admin page.
    AdminConnection(usize),
    /// A socket of a fetch task.
    FetchTask(usize),
    /// A socket of the resolver.
    Resolver(usize),
    /// A listener.
    Listener(usize),
    /// The signalfd of the server.
    Signals,
}

/// The tokens of a kind, and the kind of one of them by its slot.
type SlotKind = (TokenRange, fn(usize) -> TokenKind);

impl TokenKind {
    pub(super) fn of(token: usize) -> Self {
        if token == SIGNALS {
            return Self::Signals;
        }
        let kinds: [SlotKind; 4] = [
            (ADMIN_CONNECTIONS, Self::AdminConnection),
            (FETCH_TASKS, Self::FetchTask),
            (RESOLVER, Self::Resolver),
            (LISTENERS, Self::Listener),
        ];
        let found = kinds.iter().find_map(|(range, kind)| range.slot(token).map(kind));
        found.unwrap_or(Self::Session(token))
    }
}

/// The first token that no session has. A session has four tokens; on 32 bits that leaves a billion
/// sessions, more than fit into memory.
const RESERVED: usize = usize::MAX - 0xff_ffff;
pub(super) const ADMIN_CONNECTIONS: TokenRange = TokenRange::new(RESERVED, CONNECTIONS_MAX);
pub(super) const FETCH_TASKS: TokenRange = TokenRange::new(ADMIN_CONNECTIONS.end, runner::TOKENS);
pub(super) const RESOLVER: TokenRange = TokenRange::new(FETCH_TASKS.end, resolver::TOKENS);
/// Last, since the number of listeners has no fixed limit.
pub(super) const LISTENERS: TokenRange = TokenRange { first: RESOLVER.end, end: SIGNALS };
/// The server reads its signals itself.
pub(super) const SIGNALS: usize = usize::MAX - 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_belongs_to_one_kind() {
        let ranges = [ADMIN_CONNECTIONS, FETCH_TASKS, RESOLVER, LISTENERS];
        for (lower, upper) in ranges.iter().zip(&ranges[1..]) {
            assert!(lower.first < lower.end && lower.end == upper.first);
        }
        let kind = TokenKind::of;
        assert_eq!(kind(0), TokenKind::Session(0));
        assert_eq!(kind(RESERVED - 1), TokenKind::Session(RESERVED - 1));
        assert_eq!(kind(ADMIN_CONNECTIONS.first()), TokenKind::AdminConnection(0));
        assert_eq!(kind(FETCH_TASKS.first() + 1), TokenKind::FetchTask(1));
        assert_eq!(kind(RESOLVER.first()), TokenKind::Resolver(0));
        assert_eq!(kind(LISTENERS.first() + 3), TokenKind::Listener(3));
        assert_eq!(kind(SIGNALS), TokenKind::Signals);
    }
}
