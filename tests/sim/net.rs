//! The daemon's side of the simulated network: [`Net`] and [`Wire`] over the hub.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::Poll;

use mtbox::io::sockopt::SocketOptions;
use mtbox::io::wire::{Net, Wire};

use crate::cable::Link;
use crate::hub::Shared;
use crate::trace::Act;

/// The network as the daemon has it.
pub struct FakeNet(pub Shared);

/// The daemon's end of one cable. Dropping it closes it.
pub struct FakeWire {
    hub: Shared,
    id: usize,
}

impl FakeWire {
    /// The daemon's end of cable `id`.
    pub fn new(hub: &Shared, id: usize) -> Self {
        Self { hub: Rc::clone(hub), id }
    }
}

impl Net for FakeNet {
    type Wire = FakeWire;

    fn dial(
        &mut self,
        to: SocketAddr,
        _options: &SocketOptions,
        token: usize,
    ) -> io::Result<FakeWire> {
        let mut hub = self.0.borrow_mut();
        hub.deeds += 1;
        let bad = hub.faults.bad_dials;
        let is_bad = !is_good(to) && hub.odds(bad);
        let slow = hub.faults.slow_dials_ms;
        let at = hub.now + hub.rng.u64(0..=slow);
        let link = match (is_bad, hub.rng.u32(0..4)) {
            (false, _) => Link::Dialing(at, true),
            (true, 0) => Link::Dialing(at, false),
            (true, 1) => Link::Dialing(u64::MAX, false),
            (true, _) => return Err(io::ErrorKind::NetworkUnreachable.into()),
        };
        let client = hub.client_of(token);
        let id = hub.plug(client, Some(to), link);
        hub.register(id, token);
        let now = hub.now;
        hub.trace.note(now, id, Act::Dial(client));
        drop(hub);
        Ok(FakeWire::new(&self.0, id))
    }

    fn register(&mut self, wire: &mut FakeWire, token: usize) -> io::Result<()> {
        self.0.borrow_mut().register(wire.id, token);
        Ok(())
    }

    fn is_own_address(&mut self, ip: IpAddr) -> bool {
        ip.is_loopback()
    }
}

impl Wire for FakeWire {
    fn read(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.hub.borrow_mut().read(self.id, into)
    }

    fn write(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.hub.borrow_mut().write(self.id, from)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.hub.borrow_mut().shutdown_write(self.id)
    }

    fn reset_on_close(&mut self) {
        self.hub.borrow_mut().reset_on_close(self.id);
    }

    fn poll_connect(&mut self) -> Poll<io::Result<()>> {
        self.hub.borrow_mut().poll_connect(self.id)
    }
}

impl Drop for FakeWire {
    fn drop(&mut self) {
        self.hub.borrow_mut().close(self.id);
    }
}

/// One address of each place is always reachable, so that honest sessions can succeed.
fn is_good(addr: SocketAddr) -> bool {
    matches!(addr.ip(), IpAddr::V4(v4) if v4.octets()[3] == 1)
}
