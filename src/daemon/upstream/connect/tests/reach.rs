//! Where names may lead.

use super::*;

#[test]
fn a_name_leads_only_to_public_addresses_unless_it_may_lead_anywhere() {
    let (good, own) = (addr(443), SocketAddr::new(OWN, 443));
    let bad: Vec<IpAddr> = ["127.0.0.1", "192.168.1.1", "::1", "64:ff9b::7f00:1", "fe80::1"]
        .map(|text| text.parse().unwrap())
        .into();
    let dial = |reach, route, ips: &[IpAddr]| {
        let mut scene = Scene::new("");
        scene.outbound.dns.answer("a.example", Ok(ips.to_vec()), 60, scene.now);
        let outcome = scene.poll(&mut within(reach, "a.example", route));
        (scene.dialled(), outcome.map_ok(drop))
    };
    for reach in [Reach::Public, Reach::Elsewhere] {
        for route in [Route::Front, Route::Native, Route::Upstreams] {
            for ip in &bad {
                let (dialled, outcome) = dial(reach, route, &[*ip]);
                let Poll::Ready(Err(ConnectError::NotPublic(host, refused))) = outcome else {
                    panic!("{reach:?} {route:?} {ip}");
                };
                assert_eq!((dialled, host.as_str(), refused), (vec![], "a.example", *ip));
            }
            // More bad addresses than are tried.
            let mixed = [&bad[..], &bad, &[good.ip()], &bad].concat();
            assert_eq!(dial(reach, route, &mixed).0, [good]);
        }
    }
    assert_eq!(dial(Reach::Any, Route::Front, &bad[..1]).0, [SocketAddr::new(bad[0], 443)]);
    // A public address of this machine.
    assert_eq!(dial(Reach::Public, Route::Native, &[OWN]).0, [own]);
    let redirected = dial(Reach::Elsewhere, Route::Native, &[OWN]);
    assert!(matches!(redirected.1, Poll::Ready(Err(ConnectError::NotPublic(..)))));
    assert!(matches!(
        dial(Reach::Elsewhere, Route::Front, &[OWN]),
        (dialled, Poll::Ready(Err(ConnectError::Loop))) if dialled.is_empty()
    ));
}

#[test]
fn a_redirect_to_a_private_address_is_not_passed_to_a_proxy() {
    let mut scene = Scene::new(PROXY);
    let redirected = |host| within(Reach::Elsewhere, host, Route::Upstreams);
    for host in ["192.168.1.1", "::ffff:10.0.0.1", "203.0.113.9"] {
        let refused = error(scene.poll(&mut redirected(host)));
        assert!(matches!(refused, ConnectError::NotPublic(..)), "{host}");
    }
    assert!(scene.poll(&mut redirected("198.51.100.7")).is_pending());
    assert_eq!(scene.dialled(), [proxy(1)]);
}

#[test]
fn a_host_that_the_operator_wrote_may_be_local() {
    for host in [
        "127.0.0.1",
        "::1",
        "10.0.0.1",
        "localhost",
        "nas",
        "NAS.lan.",
        "a.home.arpa",
        "b.internal",
    ] {
        assert_eq!(Reach::of_configured(host), Reach::Any, "{host}");
    }
    for host in ["a.example", "localhost.example", "lan.example", "127.0.0.1.example", "a.plan"] {
        assert_eq!(Reach::of_configured(host), Reach::Public, "{host}");
    }
}
