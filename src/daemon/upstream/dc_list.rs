//! The addresses of data centres that Telegram publishes on its pages (`auto-update`).

use std::net::SocketAddr;

/// The addresses of the latest valid copy of each page.
#[derive(Default)]
pub struct DcList {
    pages: Vec<Vec<SocketAddr>>,
}

impl DcList {
    /// The listed addresses of a data centre.
    pub fn of(&self, number: u16) -> impl Iterator<Item = SocketAddr> + '_ {
        let known = number == LISTED_DC;
        self.pages.iter().flatten().copied().filter(move |_| known)
    }

    /// Replaces the addresses of a page. Returns whether they have changed.
    pub fn replace(&mut self, page: usize, addrs: Vec<SocketAddr>) -> bool {
        if self.pages.len() <= page {
            self.pages.resize(page + 1, Vec::new());
        }
        let has_changed = self.pages[page] != addrs;
        self.pages[page] = addrs;
        has_changed
    }
}

/// The only data centre that is read from the list: the addresses of the others are middle
/// proxies, which use another protocol.
pub const LISTED_DC: u16 = 203;
