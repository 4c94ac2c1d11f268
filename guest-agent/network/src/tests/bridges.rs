//! Bridges themselves.

use super::*;
use crate::NetworkError;

const GATEWAY: [&str; 2] = ["172.30.1.1/24", "fd00:1::1/64"];

fn bridges(lab: &Lab) -> Vec<String> {
    lab.wait(lab.wiring.bridges()).unwrap()
}

#[test]
fn a_bridge_is_made_once_and_removed_once() {
    let Some(lab) = lab() else { return };
    let bridge = Bridge {
        mtu: Some(1_400),
        ..network("br-a", &GATEWAY)
    };
    lab.set(&bridge);
    let mac = mac_of(&lab.home, "br-a");
    lab.set(&bridge);
    lab.set(&network("docker0", &["172.17.0.1/16"]));
    assert_eq!(bridges(&lab), ["br-a", "docker0"]);
    assert_eq!(links::mtu(&lab.home.link("br-a").unwrap()), Some(1_400));
    for port in ["va", "vb"] {
        lab.plug(&Place::new(), &plug("br-a", port, &[]));
    }
    assert_eq!(mac_of(&lab.home, "br-a"), mac, "ports do not change it");
    lab.wait(lab.wiring.remove_bridge("br-a")).unwrap();
    lab.wait(lab.wiring.remove_bridge("br-a")).unwrap();
    lab.wait(lab.wiring.remove_bridge("docker0")).unwrap();
    assert!(bridges(&lab).is_empty());
    let left = lab.home.netlink(|netlink| {
        let rules = crate::rules::Rules::read(netlink).unwrap();
        rules.bridges().count()
    });
    assert_eq!(left, 0);
}

#[test]
fn a_bridge_is_taken_up_by_the_next_engine_without_a_packet_lost() {
    let Some(mut lab) = lab() else { return };
    let bridge = network("br-a", &GATEWAY);
    lab.set(&bridge);
    let a = lab.container(&bridge, "va", &["172.30.1.2/24", "fd00:1::2/64"]);
    lab.restart();
    assert_eq!(bridges(&lab), ["br-a"]);
    for (own, world) in [("172.30.1.2", WORLD[0]), ("fd00:1::2", WORLD[1])] {
        assert_eq!(asks(&a, own, &lab.world, world).unwrap(), ip(own));
    }
    lab.set(&bridge);
    for (own, world) in [("172.30.1.2", WORLD[0]), ("fd00:1::2", WORLD[1])] {
        assert_eq!(asks(&a, own, &lab.world, world).unwrap(), ip(own));
    }
}

#[test]
fn what_changed_is_brought_to_the_wanted_state() {
    let Some(mut lab) = lab() else { return };
    lab.set(&Bridge {
        internal: true,
        ..network("br-a", &["172.30.9.1/24", "fd00:9::1/64"])
    });
    lab.restart();
    let bridge = network("br-a", &GATEWAY);
    lab.set(&bridge);
    let a = lab.container(&bridge, "va", &["172.30.1.2/24", "fd00:1::2/64"]);
    for (own, world) in [("172.30.1.2", WORLD[0]), ("fd00:1::2", WORLD[1])] {
        assert_eq!(asks(&a, own, &lab.world, world).unwrap(), ip(own));
    }
    add(&a, "eth0", address("172.30.9.2/32"));
    assert!(is_lost(&a, "172.30.9.2", &lab.world, WORLD[0], &lab.home));
    // The old gateway is nobody's any more.
    let gone = lab
        .home
        .within(|| std::net::UdpSocket::bind("172.30.9.1:0"));
    assert!(gone.is_err());
    lab.set(&Bridge {
        internal: true,
        ..bridge
    });
    assert!(is_lost(&a, "172.30.1.2", &lab.world, WORLD[0], &lab.home));
}

#[test]
fn networks_of_one_family_work() {
    let Some(lab) = lab() else { return };
    let six = network("br-6", &["fd00:1::1/64"]);
    lab.set(&six);
    let place = lab.container(&six, "va", &["fd00:1::2/64"]);
    assert_eq!(
        asks(&place, "fd00:1::2", &lab.world, WORLD[1]).unwrap(),
        ip("fd00:1::2")
    );
    let four = network("br-4", &["172.30.1.1/24"]);
    lab.set(&four);
    assert_eq!(lab.home.read("net/ipv6/conf/br-4/disable_ipv6"), "1");
    let place = lab.container(&four, "vb", &["172.30.1.2/24"]);
    assert_eq!(
        asks(&place, "172.30.1.2", &lab.world, WORLD[0]).unwrap(),
        ip("172.30.1.2")
    );
}

#[test]
fn wrong_input_names_what_is_wrong_and_leaves_nothing() {
    let Some(lab) = lab() else { return };
    let before = lab.home.names();
    let cases = [
        (network("sixteen-letters-", &GATEWAY), "sixteen-letters-"),
        (network("br-a", &["172.30.1.1/33"]), "172.30.1.1"),
        (network("br-a", &["ff02::7/64"]), "ff02::7"),
        (network("eth0", &GATEWAY), "eth0"),
        (
            Bridge {
                mtu: Some(1),
                ..network("br-a", &GATEWAY)
            },
            "br-a",
        ),
    ];
    for (bridge, name) in cases {
        let error = lab.wait(lab.wiring.set_bridge(&bridge)).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(lab.home.names(), before, "{error}");
        assert!(bridges(&lab).is_empty(), "{error}");
    }
    let taken = lab.wait(lab.wiring.remove_bridge("eth0"));
    assert!(matches!(taken, Err(NetworkError::Taken(name)) if name == "eth0"));
    assert!(lab.home.link("eth0").is_some());
}

#[test]
fn an_interface_that_is_no_bridge_is_left_alone_whatever_an_engine_had_begun() {
    let Some(mut lab) = lab() else { return };
    let rules_of = |lab: &Lab| {
        lab.home.netlink(|netlink| {
            let rules = crate::rules::Rules::read(netlink).unwrap();
            rules.bridges().map(ToOwned::to_owned).collect::<Vec<_>>()
        })
    };
    let taken = |done: Result<(), NetworkError>, name: &str| {
        assert!(matches!(done, Err(NetworkError::Taken(of)) if of == name));
    };
    for name in ["eth0", "lo"] {
        taken(
            lab.wait(lab.wiring.set_bridge(&network(name, &GATEWAY))),
            name,
        );
        // As an engine left it that was killed before it saw whose it is.
        lab.home.netlink(|netlink| {
            let begun = crate::rules::of(&network(name, &GATEWAY));
            crate::rules::Rules::default()
                .set(netlink, name, &begun)
                .unwrap();
        });
        lab.restart();
        assert_eq!(bridges(&lab), [name]);
        taken(lab.wait(lab.wiring.remove_bridge(name)), name);
        assert!(rules_of(&lab).is_empty());
        assert!(lab.home.link(name).is_some());
    }
    // Nor does one of an extension's name keep the next engine from opening.
    lab.home.netlink(|netlink| {
        let pair = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth);
        let pair = pair
            .name("lx01234567")
            .set_info_data(InfoData::Veth(InfoVeth::Peer(
                links::named("other").build(),
            )));
        netlink
            .add(RouteNetlinkMessage::NewLink(pair.build()), How::New)
            .unwrap();
        let begun = crate::rules::of_extension();
        crate::rules::Rules::default()
            .set(netlink, "lx01234567", &begun)
            .unwrap();
    });
    lab.restart();
    assert!(rules_of(&lab).is_empty());
}
