//! More containers on a network than a bridge of the kernel has ports.

use super::*;
use crate::extension::PORTS;

const GATEWAY: [&str; 2] = ["172.30.0.1/16", "fd00:1::1/64"];

/// Fills the first bridge but for one port, all from one namespace.
fn crowd(lab: &Lab, count: usize) -> Place {
    let place = Place::new();
    for number in 0..count {
        let plug = Plug {
            name: format!("eth{number}"),
            ..plug("br-a", &format!("v{number}"), &[])
        };
        lab.plug(&place, &plug);
    }
    place
}

fn extensions(lab: &Lab) -> Vec<String> {
    let names = lab.home.names();
    names
        .into_iter()
        .filter(|name| crate::extension::is_name(name))
        .collect()
}

#[test]
fn eleven_hundred_containers_are_one_network() {
    let Some(mut lab) = lab() else { return };
    let bridge = network("br-a", &GATEWAY);
    lab.set(&bridge);
    let first = lab.container(&bridge, "first", &["172.30.1.2/16", "fd00:1::2/64"]);
    let _crowd = crowd(&lab, 1_098);
    let last = lab.container(&bridge, "last", &["172.30.1.3/16", "fd00:1::3/64"]);
    assert_eq!(extensions(&lab).len(), 1);
    let reach = |lab: &Lab| {
        for (own, other, gateway, world) in [
            ("172.30.1.3", "172.30.1.2", "172.30.0.1", WORLD[0]),
            ("fd00:1::3", "fd00:1::2", "fd00:1::1", WORLD[1]),
        ] {
            assert_eq!(asks(&last, own, &first, other).unwrap(), ip(own));
            assert_eq!(asks(&first, other, &last, own).unwrap(), ip(other));
            assert_eq!(asks(&last, own, &lab.home, gateway).unwrap(), ip(own));
            assert_eq!(asks(&last, own, &lab.world, world).unwrap(), ip(own));
        }
    };
    reach(&lab);
    // The next engine knows the extension, and how full both are.
    lab.restart();
    lab.set(&bridge);
    reach(&lab);
    lab.plug(&Place::new(), &plug("br-a", "more", &[]));
    assert_eq!(extensions(&lab).len(), 1);
    // Nobody is isolated from anybody but for this.
    let apart = Bridge {
        icc: false,
        ..bridge.clone()
    };
    lab.set(&apart);
    for (own, other, gateway) in [
        ("172.30.1.3", "172.30.1.2", "172.30.0.1"),
        ("fd00:1::3", "fd00:1::2", "fd00:1::1"),
    ] {
        last.neighbour("eth0", ip(other), mac_of(&first, "eth0").unwrap());
        first.neighbour("eth0", ip(own), mac_of(&last, "eth0").unwrap());
        assert!(is_lost(&last, own, &first, other, &lab.home));
        assert!(is_lost(&first, other, &last, own, &lab.home));
        assert_eq!(asks(&last, own, &lab.home, gateway).unwrap(), ip(own));
    }
    lab.set(&bridge);
    reach(&lab);
    lab.wait(lab.wiring.remove_bridge("br-a")).unwrap();
    assert!(extensions(&lab).is_empty());
    let rules = |netlink: &mut crate::netlink::Netlink| {
        crate::rules::Rules::read(netlink)
            .unwrap()
            .bridges()
            .count()
    };
    assert_eq!(lab.home.netlink(rules), 0);
}

#[test]
fn extensions_without_icc_isolate_too() {
    let Some(lab) = lab() else { return };
    let bridge = Bridge {
        icc: false,
        ..network("br-a", &GATEWAY)
    };
    lab.set(&bridge);
    let _crowd = crowd(&lab, PORTS);
    // Both on an extension, and one on another.
    let a = lab.container(&bridge, "a", &["172.30.1.2/16", "fd00:1::2/64"]);
    let b = lab.container(&bridge, "b", &["172.30.1.3/16", "fd00:1::3/64"]);
    for (own, other, gateway, world) in [
        ("172.30.1.2", "172.30.1.3", "172.30.0.1", WORLD[0]),
        ("fd00:1::2", "fd00:1::3", "fd00:1::1", WORLD[1]),
    ] {
        a.neighbour("eth0", ip(other), mac_of(&b, "eth0").unwrap());
        assert!(is_lost(&a, own, &b, other, &lab.home));
        assert_eq!(asks(&a, own, &lab.home, gateway).unwrap(), ip(own));
        assert_eq!(asks(&a, own, &lab.world, world).unwrap(), ip(own));
    }
    // A packet to the extension itself, as if it routed, gets nowhere.
    let extension = extensions(&lab).remove(0);
    let mac = mac_of(&lab.home, &extension).unwrap();
    for (own, other) in [("172.30.1.2", "172.30.1.3"), ("fd00:1::2", "fd00:1::3")] {
        a.neighbour("eth0", ip(other), mac);
        assert!(is_lost(&a, own, &b, other, &lab.home));
    }
}

#[test]
fn an_extension_that_was_begun_and_killed_is_made_whole_or_removed() {
    let Some(mut lab) = lab() else { return };
    let bridge = network("br-a", &GATEWAY);
    lab.set(&bridge);
    let make = |name: &str, of: Option<&str>| {
        lab.home.netlink(|netlink| {
            bridge::make(netlink, name, links::EXTENSIONS).unwrap();
            if let Some(of) = of {
                let told = links::named(name).alias(of).build();
                let told = RouteNetlinkMessage::NewLink(told);
                netlink.add(told, How::Change).unwrap();
            }
        });
    };
    make("lx00000001", Some("extends br-a"));
    make("lx00000002", None);
    lab.restart();
    assert_eq!(extensions(&lab), ["lx00000001"]);
    lab.set(&bridge);
    assert!(lab.home.link("lj00000001a").is_some());
    lab.wait(lab.wiring.remove_bridge("br-a")).unwrap();
    assert!(extensions(&lab).is_empty());
    assert!(lab.home.link("lj00000001a").is_none());
}
