//! Client addresses in the log (DECISIONS D17). Every test checks that no secret is in the log.

use crate::support::client::Client;
use crate::support::fixture::Fixture;
use crate::support::peer::Peer;

#[test]
fn the_log_has_no_complete_client_address() {
    let fixture = Fixture::new();
    let client = Client::open(fixture.proxy.addr, &fixture.secret);
    fixture.dc.accept();
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    fixture.front.accept();
    let addresses = [&client.up.peer, &prober]
        .map(|peer| peer.stream().local_addr().expect("an address").to_string());
    drop((client, prober));
    fixture.proxy.wait_for_connections("alice", 0);
    let log = fixture.proxy.log();
    for address in addresses {
        assert!(!log.contains(&address), "{address} in the log");
    }
}
