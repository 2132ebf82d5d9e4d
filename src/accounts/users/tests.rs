//! The order in which keys are tried, and the identity of users over a reload.

use super::*;

fn users_of(hosts: &[(&str, &str)]) -> Users {
    let secrets: Vec<(String, Secret)> = hosts
        .iter()
        .enumerate()
        .map(|(i, (name, host))| {
            (name.to_string(), Secret::new([i as u8 + 1; 16], host.as_bytes()).unwrap())
        })
        .collect();
    Users::new(secrets.iter().map(|(name, secret)| ConfiguredUser { name, secret, enabled: true }))
}

fn names(users: &Users, host: HostId, addr: IpAddr) -> Vec<String> {
    users.candidates(host, addr).map(|id| users.get(id).name().to_owned()).collect()
}

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

#[test]
fn only_users_of_the_host_are_candidates() {
    let users = users_of(&[("a", "one"), ("b", "two"), ("c", "one")]);
    let one = users.find_host(b"one").unwrap();
    assert_eq!(names(&users, one, HOME), ["a", "c"]);
    assert!(users.find_host(b"three").is_none());
    assert_eq!(users.host_name(users.first_host()), b"one");
}

#[test]
fn the_last_user_of_the_address_comes_first_then_the_most_recent() {
    let mut users = users_of(&[("a", "h"), ("b", "h"), ("c", "h"), ("d", "h")]);
    let host = users.first_host();
    let ids: Vec<UserId> = users.candidates(host, HOME).collect();
    // An address in another slot of the table than HOME, for any key of the hash.
    let slot = |addr| users.hints.slot(addr).map(|(slot, _)| slot);
    let away = (1..=255).map(|last| IpAddr::from([198, 51, 100, last]));
    let away = away.into_iter().find(|addr| slot(*addr) != slot(HOME)).unwrap();
    users.add_session(ids[1], HOME, 1);
    users.add_session(ids[3], away, 2);
    assert_eq!(names(&users, host, HOME), ["b", "d", "a", "c"]);
    assert_eq!(names(&users, host, away), ["d", "b", "a", "c"]);
    users.add_session(ids[2], HOME, 3);
    assert_eq!(names(&users, host, HOME), ["c", "b", "d", "a"]);
}

#[test]
fn counts_return_to_zero() {
    let mut users = users_of(&[("a", "h"), ("b", "h")]);
    let ids: Vec<UserId> = users.candidates(users.first_host(), HOME).collect();
    users.add_session(ids[0], HOME, 1);
    users.add_session(ids[0], HOME, 1);
    users.add_session(ids[1], HOME, 1);
    assert_eq!((users.connections(), users.total_connections()), (&[2, 1][..], 3));
    users.remove_session(ids[0]);
    users.remove_session(ids[0]);
    users.remove_session(ids[1]);
    assert_eq!((users.connections(), users.total_connections()), (&[0, 0][..], 0));
}

/// Lines of `name host key`, with `-` before a disabled user.
fn parsed(lines: &[&str]) -> Vec<(String, Secret, bool)> {
    let user = |line: &&str| {
        let mut words = line.trim_start_matches('-').split(' ');
        let mut word = || words.next().unwrap();
        let (name, host, key) = (word(), word(), word());
        let secret = Secret::new([key.parse().unwrap(); 16], host.as_bytes()).unwrap();
        (name.to_owned(), secret, !line.starts_with('-'))
    };
    lines.iter().map(user).collect()
}

fn reload(users: &mut Users, lines: &[&str]) -> ReloadChange {
    let parsed = parsed(lines);
    users.reload(parsed.iter().map(|(name, secret, enabled)| ConfiguredUser {
        name,
        secret,
        enabled: *enabled,
    }))
}

fn ids(users: &Users, names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| users.find(name).unwrap()).collect()
}

#[test]
fn users_who_stay_keep_id_counters_and_order() {
    let mut users = Users::default();
    reload(&mut users, &["b one 1", "d one 2", "f one 3"]);
    let [b, d, f] = ids(&users, &["b", "d", "f"])[..] else { panic!() };
    let away = IpAddr::from([198, 51, 100, 1]);
    users.add_session(f, away, 1);
    users.get_mut(f).bytes_in = 7;
    let change = reload(&mut users, &["a one 9", "b one 1", "c two 8", "f one 3"]);
    assert_eq!((change.added, change.removed, change.changed), (2, 1, 0));
    assert_eq!(change.revoked, [d]);
    assert_eq!(ids(&users, &["b", "f"]), [b, f]);
    assert_eq!((users.get(f).bytes_in, users.total_connections()), (7, 1));
    let order: Vec<&str> = users.iter().map(|(user, _)| user.name()).collect();
    assert_eq!(order, ["a", "b", "c", "f"]);
    assert_eq!(names(&users, users.first_host(), HOME), ["f", "b", "a"]);
    assert!(users.find("d").is_none() && !users.get(d).is_enabled());
    assert_eq!(users.host_name(change.new_hosts[0]), b"two");
}

#[test]
fn a_rotated_moved_or_disabled_user_is_revoked_and_an_enabled_one_is_not() {
    let mut users = Users::default();
    reload(&mut users, &["a one 1", "b one 2", "c one 3", "-d one 4"]);
    let all = ids(&users, &["a", "b", "c", "d"]);
    let change = reload(&mut users, &["a one 9", "b two 2", "-c one 3", "d one 4"]);
    assert_eq!(change.revoked, all[..3]);
    assert_eq!((change.added, change.removed, change.changed), (0, 0, 4));
    assert_eq!(users.get(all[0]).key(), &[9; 16]);
    assert!(!users.get(all[2]).is_enabled());
    assert!(users.get(all[3]).is_enabled());
    let two = users.find_host(b"two").unwrap();
    assert_eq!(names(&users, two, HOME), ["b"]);
    assert_eq!(
        reload(&mut users, &["a one 9", "b two 2", "-c one 3", "d one 4"]),
        ReloadChange { ..ReloadChange::default() }
    );
}

#[test]
fn ids_are_reused_only_after_their_sessions_have_ended() {
    let mut users = Users::default();
    reload(&mut users, &["a one 1", "b two 2"]);
    let [a, b] = ids(&users, &["a", "b"])[..] else { panic!() };
    users.add_session(b, HOME, 1);
    let change = reload(&mut users, &["a one 1", "c three 3"]);
    assert_eq!((change.new_hosts.len(), change.removed_hosts.len()), (1, 1));
    assert_ne!(ids(&users, &["c"])[0], b, "the id of a user who is being revoked");
    reload(&mut users, &["a one 1", "c three 3", "d one 4"]);
    assert_ne!(ids(&users, &["d"])[0], b, "b has a session");
    users.remove_session(b);
    reload(&mut users, &["a one 1", "c three 3", "d one 4", "e two 5"]);
    assert_eq!(ids(&users, &["a", "e"]), [a, b]);
    for round in 0..100 {
        reload(&mut users, &["a one 1", &format!("x{round} h{round} 6")]);
    }
    assert!(users.list.len() <= 8 && users.hosts.len() <= 6, "reloads do not add up");
    assert_eq!(users.hosts().count(), 2);
    assert!(users.find_host(b"h5").is_none() && users.find_host(b"h99").is_some());
}
