//! Interfaces of containers at bridges: what they are given, and that they come and go.

use std::sync::Arc;

use rtnetlink::packet_route::link::LinkAttribute;

use super::*;
use crate::NetworkError;

const GATEWAY: [&str; 2] = ["172.30.1.1/24", "fd00:1::1/64"];
const OWN: [&str; 2] = ["172.30.1.2/24", "fd00:1::2/64"];

/// What container and host have of a plug.
fn ends(lab: &Lab, place: &Place) -> (bool, bool) {
    (place.link("eth0").is_some(), lab.home.link("va").is_some())
}

#[test]
fn an_interface_is_as_it_was_asked_for() {
    let Some(lab) = lab() else { return };
    lab.set(&network("br-a", &GATEWAY));
    let place = Place::new();
    let mac = [2, 0x42, 1, 2, 3, 4];
    let wanted = Plug {
        mac: Some(mac),
        mtu: Some(1_400),
        sysctls: vec![
            ("net.ipv4.conf.IFNAME.log_martians".into(), "1".into()),
            ("net.ipv6.conf.IFNAME.accept_ra".into(), "0".into()),
        ],
        ..plug("br-a", "va", &OWN)
    };
    assert_eq!(lab.plug(&place, &wanted), mac);
    let link = place.link("eth0").unwrap();
    assert_eq!(links::mac(&link), Some(mac));
    assert_eq!(links::mtu(&link), Some(1_400));
    assert_eq!(links::mtu(&lab.home.link("va").unwrap()), Some(1_400));
    assert_eq!(place.read("net/ipv4/conf/eth0/log_martians"), "1");
    assert_eq!(place.read("net/ipv6/conf/eth0/accept_ra"), "0");
    assert_eq!(place.read("net/ipv6/conf/eth0/disable_ipv6"), "0");
    assert_eq!(lab.home.read("net/ipv4/conf/default/log_martians"), "0");
    // Without IPv6 addresses it has no IPv6, as with dockerd.
    let other = Place::new();
    lab.plug(&other, &plug("br-a", "vb", &["172.30.1.3/24"]));
    assert_eq!(other.read("net/ipv6/conf/eth0/disable_ipv6"), "1");
}

#[test]
fn an_address_that_the_kernel_chose_is_told() {
    let Some(lab) = lab() else { return };
    lab.set(&network("br-a", &GATEWAY));
    let place = Place::new();
    let mac = lab.plug(&place, &plug("br-a", "va", &OWN));
    assert_eq!(mac_of(&place, "eth0"), Some(mac));
    assert_eq!(mac[0] & 3, 2, "locally administered, and no group's");
}

#[test]
fn packets_pass_when_plugging_is_done() {
    let Some(lab) = lab() else { return };
    let bridge = network("br-a", &GATEWAY);
    lab.set(&bridge);
    for (own, gateway) in [("172.30.1.2", "172.30.1.1"), ("fd00:1::2", "fd00:1::1")] {
        let prefix = if own.contains(':') { 64 } else { 24 };
        let place = Place::new();
        let plug = plug("br-a", "va", &[&format!("{own}/{prefix}")]);
        lab.plug(&place, &plug);
        // What is known of a port says that it forwards, and not that it soon will.
        let state = lab.home.link("va").unwrap();
        let up = state.attributes.iter().any(|attribute| {
            matches!(attribute, LinkAttribute::OperState(state)
                if *state == rtnetlink::packet_route::link::State::Up)
        });
        assert!(up);
        assert_eq!(asks(&place, own, &lab.home, gateway).unwrap(), ip(own));
        lab.wait(lab.wiring.unplug(None, &plug)).unwrap();
    }
}

#[test]
fn addresses_are_of_use_when_plugging_is_done() {
    let Some(lab) = lab() else { return };
    let bridge = network("br-a", &GATEWAY);
    // The kernel's own work on addresses has to wait its turn behind that of others.
    let (other, ends) = (Place::new(), Arc::new(()));
    std::thread::scope(|scope| {
        for busy in ["br-b", "br-c", "br-d"] {
            let (other, ends) = (&other, Arc::downgrade(&ends));
            scope.spawn(move || {
                while ends.strong_count() > 0 {
                    other.netlink(|netlink| {
                        bridge::make(netlink, busy, links::NETWORKS).unwrap();
                        let made = RouteNetlinkMessage::DelLink(links::named(busy).build());
                        netlink.remove(made).unwrap();
                    });
                }
            });
        }
        let _ends = ends;
        for round in 0..10 {
            lab.set(&bridge);
            assert!(lab.home.is_local("fd00:1::1"), "{round}");
            let place = Place::new();
            let plug = plug("br-a", &format!("v{round}"), &OWN);
            lab.plug(&place, &plug);
            assert!(place.is_local("fd00:1::2"), "{round}");
            lab.wait(lab.wiring.unplug(None, &plug)).unwrap();
            lab.wait(lab.wiring.remove_bridge("br-a")).unwrap();
        }
    });
}

#[test]
fn an_address_can_be_given_again_at_once() {
    let Some(lab) = lab() else { return };
    let bridge = network("br-a", &GATEWAY);
    lab.set(&bridge);
    let witness = lab.container(&bridge, "vw", &["172.30.1.9/24", "fd00:1::9/64"]);
    let mac = Some([2, 0x42, 1, 2, 3, 4]);
    // Containers that have ended and live ones, ports of a new name and of the same.
    for (round, (port, alive)) in [("va", false), ("va", false), ("vb", true), ("vb", true)]
        .into_iter()
        .enumerate()
    {
        let place = Place::new();
        let plug = Plug {
            mac,
            ..plug("br-a", port, &OWN)
        };
        lab.plug(&place, &plug);
        for (own, other) in [("172.30.1.2", "172.30.1.9"), ("fd00:1::2", "fd00:1::9")] {
            assert_eq!(
                asks(&witness, other, &place, own).unwrap(),
                ip(other),
                "{round}"
            );
        }
        let container = alive.then(|| place.descriptor());
        lab.wait(lab.wiring.unplug(container, &plug)).unwrap();
        if alive {
            assert!(place.link("eth0").is_none());
            assert!(lab.home.link(port).is_none());
        }
        // Once more is no error.
        let container = alive.then(|| place.descriptor());
        lab.wait(lab.wiring.unplug(container, &plug)).unwrap();
    }
}

#[test]
fn neighbours_learn_that_an_address_has_moved() {
    let Some(lab) = lab() else { return };
    let bridge = network("br-a", &GATEWAY);
    lab.set(&bridge);
    let witness = lab.container(&bridge, "vw", &["172.30.1.9/24", "fd00:1::9/64"]);
    // Each time the kernel chooses another hardware address; the one before is known to the witness.
    for round in 0..4 {
        let place = Place::new();
        let plug = plug("br-a", &format!("v{round}"), &OWN);
        lab.plug(&place, &plug);
        for (own, other) in [("172.30.1.2", "172.30.1.9"), ("fd00:1::2", "fd00:1::9")] {
            assert_eq!(
                asks(&witness, other, &place, own).unwrap(),
                ip(other),
                "{round}"
            );
        }
        assert_eq!(place.read("net/ipv4/conf/eth0/arp_notify"), "0");
        assert_eq!(place.read("net/ipv6/conf/eth0/ndisc_notify"), "0");
        lab.wait(lab.wiring.unplug(None, &plug)).unwrap();
    }
}

#[test]
fn plugging_again_is_as_plugging_once() {
    let Some(mut lab) = lab() else { return };
    let bridge = network("br-a", &GATEWAY);
    lab.set(&bridge);
    let place = Place::new();
    let plug = plug("br-a", "va", &OWN);
    lab.plug(&place, &plug);
    lab.plug(&place, &plug);
    // As an engine that does not know of it.
    lab.restart();
    lab.set(&bridge);
    lab.plug(&place, &plug);
    assert_eq!(ends(&lab, &place), (true, true));
    for (own, gateway) in [("172.30.1.2", "172.30.1.1"), ("fd00:1::2", "fd00:1::1")] {
        assert_eq!(asks(&place, own, &lab.home, gateway).unwrap(), ip(own));
    }
    // Another engine ends it, which does not know the bridge.
    lab.restart();
    lab.wait(lab.wiring.unplug(Some(place.descriptor()), &plug))
        .unwrap();
    assert_eq!(ends(&lab, &place), (false, false));
}

#[test]
fn what_was_begun_and_killed_is_made_whole() {
    let Some(lab) = lab() else { return };
    let bridge = network("br-a", &GATEWAY);
    lab.set(&bridge);
    let place = Place::new();
    let plug = plug("br-a", "va", &OWN);
    // The pair, of which nothing more was done.
    lab.home.netlink(|netlink| {
        let far = links::named("eth0").setns_by_fd(place.raw()).build();
        let pair = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
            .name("va")
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)));
        let pair = RouteNetlinkMessage::NewLink(pair.build());
        netlink.add(pair, How::New).unwrap();
    });
    lab.plug(&place, &plug);
    assert_eq!(
        asks(&place, "172.30.1.2", &lab.home, "172.30.1.1").unwrap(),
        ip("172.30.1.2")
    );
}

#[test]
fn ports_that_were_discarded_by_an_engine_before_are_ended() {
    let Some(mut lab) = lab() else { return };
    lab.home.netlink(|netlink| {
        let pair = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
            .name("va")
            .link_group(links::DISCARDED);
        let pair = RouteNetlinkMessage::NewLink(pair.build());
        netlink.add(pair, How::New).unwrap();
    });
    lab.restart();
    // It is told in the background; the kernel tells whoever listens.
    while lab.home.link("va").is_some() {
        std::thread::yield_now();
    }
}

#[test]
fn wrong_input_names_what_is_wrong_and_leaves_nothing() {
    let Some(lab) = lab() else { return };
    lab.set(&network("br-a", &GATEWAY));
    let place = Place::new();
    let before = (lab.home.names(), place.names());
    let good = plug("br-a", "va", &OWN);
    let long = "sixteen-letters-";
    let cases = [
        Plug {
            name: long.into(),
            ..good.clone()
        },
        plug("br-a", long, &OWN),
        plug(long, "va", &OWN),
        plug("br-a", "va", &["172.30.1.2/33"]),
        plug("br-a", "va", &["fd00:1::2/129"]),
        plug("br-b", "va", &OWN),
        Plug {
            sysctls: vec![("net.ipv4.ip_forward".into(), "1".into())],
            ..good.clone()
        },
        // What the kernel refuses, when half is done.
        Plug {
            sysctls: vec![("net.ipv4.conf.IFNAME.no_such".into(), "1".into())],
            ..good.clone()
        },
        plug("br-a", "va", &["172.30.1.2/24", "ff02::7/64"]),
        Plug {
            mtu: Some(1),
            ..good.clone()
        },
    ];
    let names = [
        long,
        long,
        long,
        "172.30.1.2",
        "fd00:1::2",
        "br-b",
        "net.ipv4.ip_forward",
        "net/ipv4/conf/eth0/no_such",
        "ff02::7",
        "va",
    ];
    for (case, name) in cases.iter().zip(names) {
        let error = lab
            .wait(lab.wiring.plug(place.descriptor(), case))
            .unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!((lab.home.names(), place.names()), before, "{error}");
    }
    lab.plug(&place, &good);
    // Somebody else's interface stays.
    let other = plug("br-a", "vb", &["172.30.1.3/24"]);
    let taken = lab.wait(lab.wiring.plug(place.descriptor(), &other));
    assert!(matches!(taken, Err(NetworkError::Taken(name)) if name == "eth0"));
    assert_eq!(ends(&lab, &place), (true, true));
    assert!(lab.home.link("vb").is_none());
}

#[test]
fn a_namespace_of_another_user_namespace_is_as_good() {
    let Some(lab) = lab() else { return };
    let bridge = network("br-a", &GATEWAY);
    lab.set(&bridge);
    let place = Place::of_other_users();
    let wanted = Plug {
        sysctls: vec![("net.ipv4.conf.IFNAME.log_martians".into(), "1".into())],
        ..plug("br-a", "va", &OWN)
    };
    lab.plug(&place, &wanted);
    assert_eq!(place.read("net/ipv4/conf/eth0/log_martians"), "1");
    let way = WayOut {
        gateways: vec![(ip("172.30.1.1"), "eth0".into())],
        direct: Vec::new(),
    };
    lab.wait(lab.wiring.set_way_out(place.descriptor(), &way))
        .unwrap();
    assert_eq!(
        asks(&place, "172.30.1.2", &lab.world, WORLD[0]).unwrap(),
        ip("172.30.1.2")
    );
    lab.wait(lab.wiring.unplug(Some(place.descriptor()), &wanted))
        .unwrap();
    assert_eq!(ends(&lab, &place), (false, false));
}
