//! What the log must not say (decision D17). That no secret is in it, every scenario checks.

use crate::support::client::Client;
use crate::support::peer::Peer;
use crate::support::stage::Stage;

#[test]
fn the_log_holds_no_full_client_address() {
    let stage = Stage::plain();
    let client = Client::open(stage.proxy.addr, &stage.secret);
    stage.dc.accept();
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    stage.origin.visit();
    let addresses = [&client.up.peer, &prober]
        .map(|peer| peer.stream().local_addr().expect("an address").to_string());
    drop((client, prober));
    stage.proxy.wait_for_connections("alice", 0);
    let log = stage.proxy.log();
    for address in addresses {
        assert!(!log.contains(&address), "{address} in the log");
    }
}
