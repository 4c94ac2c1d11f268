//! Who reaches whom.

use super::*;

const A: [&str; 2] = ["172.30.1.1/24", "fd00:1::1/64"];
const B: [&str; 2] = ["172.30.2.1/24", "fd00:2::1/64"];

/// A container in each of two networks.
fn two(lab: &Lab) -> (Place, Place) {
    let (a, b) = (network("br-a", &A), network("br-b", &B));
    lab.set(&a);
    lab.set(&b);
    (
        lab.container(&a, "va", &["172.30.1.2/24", "fd00:1::2/64"]),
        lab.container(&b, "vb", &["172.30.2.2/24", "fd00:2::2/64"]),
    )
}

#[test]
fn a_network_reaches_itself_its_gateway_and_the_world_under_its_own_addresses() {
    let Some(lab) = lab() else { return };
    let (a, _) = two(&lab);
    let bridge = network("br-a", &A);
    let other = lab.container(&bridge, "va2", &["172.30.1.3/24", "fd00:1::3/64"]);
    for (own, neighbour, gateway, world) in [
        ("172.30.1.2", "172.30.1.3", "172.30.1.1", WORLD[0]),
        ("fd00:1::2", "fd00:1::3", "fd00:1::1", WORLD[1]),
    ] {
        assert_eq!(asks(&a, own, &other, neighbour).unwrap(), ip(own));
        assert_eq!(asks(&a, own, &lab.home, gateway).unwrap(), ip(own));
        assert_eq!(asks(&a, own, &lab.world, world).unwrap(), ip(own));
        // The host's network reaches them too: published ports come from there.
        assert_eq!(asks(&lab.home, gateway, &a, own).unwrap(), ip(gateway));
    }
}

#[test]
fn every_gateway_answers_in_every_network() {
    let Some(lab) = lab() else { return };
    let (a, b) = two(&lab);
    for (place, own, others) in [
        (&a, ["172.30.1.2", "fd00:1::2"], B),
        (&b, ["172.30.2.2", "fd00:2::2"], A),
    ] {
        for (own, other) in own.into_iter().zip(others) {
            let gateway = other.split_once('/').unwrap().0;
            assert_eq!(asks(place, own, &lab.home, gateway).unwrap(), ip(own));
        }
    }
}

#[test]
fn two_networks_do_not_reach_each_other_and_are_told_so() {
    let Some(lab) = lab() else { return };
    let (a, b) = two(&lab);
    for (own, other) in [("172.30.1.2", "172.30.2.2"), ("fd00:1::2", "fd00:2::2")] {
        for (from, own, to, other) in [(&a, own, &b, other), (&b, other, &a, own)] {
            assert!(is_refused(from, other));
            assert!(is_lost(from, own, to, other, &lab.home));
        }
    }
}

#[test]
fn no_trick_with_routers_leads_into_another_network() {
    let Some(lab) = lab() else { return };
    let (a, b) = two(&lab);
    // The other network's gateway, as if it were on this side, under the hardware address of this one.
    let here = mac_of(&lab.home, "br-a").unwrap();
    for (own, gateway, other) in [
        ("172.30.1.2", "172.30.2.1", "172.30.2.2"),
        ("fd00:1::2", "fd00:2::1", "fd00:2::2"),
    ] {
        let prefix = if own.contains(':') { 64 } else { 24 };
        a.neighbour("eth0", ip(gateway), here);
        a.neighbour("eth0", ip(other), here);
        // The other subnet as if it were on this link: sent with an address of this network, and with one of that.
        let inside = if own.contains(':') {
            "fd00:2::9"
        } else {
            "172.30.2.9"
        };
        a.address("eth0", ip(inside), prefix);
        for source in [own, inside] {
            assert!(is_lost(&a, source, &b, other, &lab.home), "{source}");
        }
    }
}

#[test]
fn a_foreign_source_gets_nowhere() {
    let Some(lab) = lab() else { return };
    let (a, b) = two(&lab);
    for (foreign, own_of_b, world) in [
        ("172.30.7.7/32", "172.30.2.2/32", WORLD[0]),
        ("fd00:7::7/128", "fd00:2::2/128", WORLD[1]),
    ] {
        for source in [foreign, own_of_b] {
            add(&a, "eth0", address(source));
            let source = source.split_once('/').unwrap().0;
            assert!(
                is_lost(&a, source, &lab.world, world, &lab.home),
                "{source}"
            );
        }
    }
    // Nor to the host itself, by IPv4.
    for source in ["172.30.7.7", "172.30.2.2"] {
        assert!(is_lost(&a, source, &lab.home, "172.30.1.1", &lab.home));
    }
    // Whose address it was hears nothing of it and is reached as before.
    assert_eq!(
        asks(&b, "172.30.2.2", &lab.world, WORLD[0]).unwrap(),
        ip("172.30.2.2")
    );
}

#[test]
fn an_internal_network_reaches_itself_and_its_gateway_alone() {
    let Some(lab) = lab() else { return };
    let bridge = Bridge {
        internal: true,
        ..network("br-a", &A)
    };
    lab.set(&bridge);
    // With a way out that the engine would not give it.
    let a = lab.container(&bridge, "va", &["172.30.1.2/24", "fd00:1::2/64"]);
    let b = lab.container(&bridge, "vb", &["172.30.1.3/24", "fd00:1::3/64"]);
    for (own, other, gateway, world) in [
        ("172.30.1.2", "172.30.1.3", "172.30.1.1", WORLD[0]),
        ("fd00:1::2", "fd00:1::3", "fd00:1::1", WORLD[1]),
    ] {
        assert_eq!(asks(&a, own, &b, other).unwrap(), ip(own));
        assert_eq!(asks(&a, own, &lab.home, gateway).unwrap(), ip(own));
        assert!(is_refused(&a, world));
        assert!(is_lost(&a, own, &lab.world, world, &lab.home));
    }
}

#[test]
fn without_icc_containers_reach_the_gateway_and_not_each_other() {
    let Some(lab) = lab() else { return };
    let bridge = Bridge {
        icc: false,
        ..network("br-a", &A)
    };
    lab.set(&bridge);
    let a = lab.container(&bridge, "va", &["172.30.1.2/24", "fd00:1::2/64"]);
    let b = lab.container(&bridge, "vb", &["172.30.1.3/24", "fd00:1::3/64"]);
    let check = || {
        for (own, other, gateway, world) in [
            ("172.30.1.2", "172.30.1.3", "172.30.1.1", WORLD[0]),
            ("fd00:1::2", "fd00:1::3", "fd00:1::1", WORLD[1]),
        ] {
            a.neighbour("eth0", ip(other), mac_of(&b, "eth0").unwrap());
            assert!(is_lost(&a, own, &b, other, &lab.home));
            assert_eq!(asks(&a, own, &lab.home, gateway).unwrap(), ip(own));
            assert_eq!(asks(&a, own, &lab.world, world).unwrap(), ip(own));
            // By way of the gateway neither.
            a.neighbour("eth0", ip(other), mac_of(&lab.home, "br-a").unwrap());
            assert!(is_lost(&a, own, &b, other, &lab.home));
        }
    };
    check();
    // As it was changed, and changed back, with ports there.
    lab.set(&network("br-a", &A));
    for (own, other) in [("172.30.1.2", "172.30.1.3"), ("fd00:1::2", "fd00:1::3")] {
        a.neighbour("eth0", ip(other), mac_of(&b, "eth0").unwrap());
        assert_eq!(asks(&a, own, &b, other).unwrap(), ip(own));
    }
    lab.set(&bridge);
    check();
}
