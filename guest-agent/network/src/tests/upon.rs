//! Interfaces of containers upon another one.

use rtnetlink::packet_route::link::{InfoMacVlan, LinkAttribute, LinkInfo, MacVlanMode};

use super::*;
use crate::NetworkError;
use crate::plan::{IpvlanMode, MacvlanMode, Vlan};

fn macvlan(mode: MacvlanMode, address: &str) -> Plug {
    Plug {
        joint: Joint::Macvlan {
            parent: "eth0".into(),
            mode,
        },
        ..plug("", "", &[address])
    }
}

fn ipvlan(mode: IpvlanMode, addresses: &[&str]) -> Plug {
    Plug {
        joint: Joint::Ipvlan {
            parent: "eth0".into(),
            mode,
        },
        ..plug("", "", addresses)
    }
}

/// Addresses of the card's own subnet.
const OWN: [&str; 2] = ["198.19.79.70", "198.19.79.71"];

#[test]
fn macvlan_in_its_modes() {
    let Some(lab) = lab() else { return };
    let gateway = link::GATEWAY_V4.to_string();
    for (mode, meet) in [
        (MacvlanMode::Bridge, true),
        (MacvlanMode::Private, false),
        (MacvlanMode::Vepa, false),
    ] {
        let (a, b) = (Place::new(), Place::new());
        let plugs = OWN.map(|own| macvlan(mode, &format!("{own}/24")));
        lab.plug(&a, &plugs[0]);
        let mac = lab.plug(&b, &plugs[1]);
        assert_eq!(asks(&a, OWN[0], &lab.world, &gateway).unwrap(), ip(OWN[0]));
        a.neighbour("eth0", ip(OWN[1]), mac);
        if meet {
            assert_eq!(asks(&a, OWN[0], &b, OWN[1]).unwrap(), ip(OWN[0]));
        } else {
            assert!(is_lost(&a, OWN[0], &b, OWN[1], &lab.world), "{mode:?}");
        }
        for (place, plug) in [&a, &b].into_iter().zip(&plugs) {
            for _ in 0..2 {
                lab.wait(lab.wiring.unplug(Some(place.descriptor()), plug))
                    .unwrap();
                assert!(place.names().is_empty());
            }
        }
    }
}

#[test]
fn a_parent_passes_one_through() {
    let Some(lab) = lab() else { return };
    let plug = macvlan(MacvlanMode::Passthru, &format!("{}/24", OWN[0]));
    let (a, b) = (Place::new(), Place::new());
    lab.plug(&a, &plug);
    // The same again, as after an engine that was killed.
    lab.plug(&a, &plug);
    let gateway = link::GATEWAY_V4.to_string();
    assert_eq!(asks(&a, OWN[0], &lab.world, &gateway).unwrap(), ip(OWN[0]));
    let second = lab
        .wait(lab.wiring.plug(b.descriptor(), &plug))
        .unwrap_err();
    assert_eq!(second.errno(), Some(rustix::io::Errno::INVAL), "{second}");
    assert!(second.to_string().contains("eth0 upon eth0"), "{second}");
    assert!(b.names().is_empty());
    lab.wait(lab.wiring.unplug(Some(a.descriptor()), &plug))
        .unwrap();
    lab.plug(&b, &plug);
    assert_eq!(asks(&b, OWN[0], &lab.world, &gateway).unwrap(), ip(OWN[0]));
}

#[test]
fn a_hardware_address_can_be_given_again_at_once() {
    let Some(lab) = lab() else { return };
    let plug = Plug {
        mac: Some([2, 0x42, 1, 2, 3, 4]),
        ..macvlan(MacvlanMode::Bridge, &format!("{}/24", OWN[0]))
    };
    let gateway = link::GATEWAY_V4.to_string();
    for _ in 0..3 {
        let place = Place::new();
        assert_eq!(Some(lab.plug(&place, &plug)), plug.mac);
        assert_eq!(
            asks(&place, OWN[0], &lab.world, &gateway).unwrap(),
            ip(OWN[0])
        );
        lab.wait(lab.wiring.unplug(Some(place.descriptor()), &plug))
            .unwrap();
    }
}

#[test]
fn ipvlan_in_its_modes() {
    let Some(lab) = lab() else { return };
    let probe = ipvlan(IpvlanMode::L2, &[]);
    let place = Place::new();
    match lab.wait(lab.wiring.plug(place.descriptor(), &probe)) {
        Err(error) if error.errno() == Some(rustix::io::Errno::OPNOTSUPP) => {
            println!("skipped: this kernel has no ipvlan");
            return;
        }
        done => drop(done.unwrap()),
    }
    lab.wait(lab.wiring.unplug(Some(place.descriptor()), &probe))
        .unwrap();
    let gateway = link::GATEWAY_V4.to_string();
    for mode in [IpvlanMode::L2, IpvlanMode::L3, IpvlanMode::L3s] {
        let (a, b) = (Place::new(), Place::new());
        let plugs = OWN.map(|own| ipvlan(mode, &[&format!("{own}/24")]));
        for (place, plug) in [&a, &b].into_iter().zip(&plugs) {
            assert_eq!(Some(lab.plug(place, plug)), mac_of(&lab.home, "eth0"));
            if mode != IpvlanMode::L2 {
                let direct = WayOut {
                    gateways: Vec::new(),
                    direct: vec!["eth0".into()],
                };
                lab.wait(lab.wiring.set_way_out(place.descriptor(), &direct))
                    .unwrap();
            }
        }
        // It does not ask for neighbours behind a router.
        lab.world
            .neighbour("far", ip(OWN[0]), mac_of(&lab.home, "eth0").unwrap());
        assert_eq!(
            asks(&a, OWN[0], &lab.world, &gateway).unwrap(),
            ip(OWN[0]),
            "{mode:?}"
        );
        assert_eq!(
            asks(&a, OWN[0], &b, OWN[1]).unwrap(),
            ip(OWN[0]),
            "{mode:?}"
        );
        for (place, plug) in [&a, &b].into_iter().zip(&plugs) {
            lab.wait(lab.wiring.unplug(Some(place.descriptor()), plug))
                .unwrap();
            assert!(place.names().is_empty());
        }
    }
}

#[test]
fn wrong_input_names_what_is_wrong_and_leaves_nothing() {
    let Some(lab) = lab() else { return };
    let place = Place::new();
    let no_parent = Plug {
        joint: Joint::Macvlan {
            parent: "eth7".into(),
            mode: MacvlanMode::Bridge,
        },
        ..plug("", "", &[])
    };
    let refused = lab.wait(lab.wiring.plug(place.descriptor(), &no_parent));
    assert!(matches!(refused, Err(NetworkError::NoInterface(name)) if name == "eth7"));
    let own_mac = Plug {
        mac: Some([2, 0, 0, 0, 0, 1]),
        ..ipvlan(IpvlanMode::L2, &[])
    };
    let refused = lab.wait(lab.wiring.plug(place.descriptor(), &own_mac));
    assert!(matches!(refused, Err(NetworkError::Impossible(_))));
    // What the kernel refuses when half is done.
    let no_unicast = macvlan(MacvlanMode::Bridge, "198.19.79.70/24");
    let no_setting = Plug {
        sysctls: vec![("net.ipv4.conf.IFNAME.no_such".into(), "1".into())],
        ..no_unicast
    };
    lab.wait(lab.wiring.plug(place.descriptor(), &no_setting))
        .unwrap_err();
    assert!(place.names().is_empty());
    // Somebody else's interface stays.
    lab.set(&network("br-a", &["172.30.1.1/24"]));
    lab.plug(&place, &plug("br-a", "va", &["172.30.1.2/24"]));
    let taken = lab.wait(lab.wiring.plug(
        place.descriptor(),
        &macvlan(MacvlanMode::Bridge, "198.19.79.70/24"),
    ));
    assert!(matches!(taken, Err(NetworkError::Taken(name)) if name == "eth0"));
    assert_eq!(place.names(), ["eth0"]);
}

#[test]
fn what_the_hosts_card_is_called_is_free_in_containers() {
    let Some(lab) = lab() else { return };
    // Kernels before 6.15 look for the name in the namespace from which they are asked, and there is an `eth0`.
    assert!(lab.home.link("eth0").is_some());
    let place = Place::new();
    let wanted = macvlan(MacvlanMode::Bridge, &format!("{}/24", OWN[0]));
    let asked = crate::plug::upon(&place.descriptor(), &wanted, 7, &[]);
    let name = links::name(&asked).unwrap();
    assert!(lab.home.link(name).is_none(), "{name}");
    lab.plug(&place, &wanted);
    assert_eq!(place.names(), ["eth0"]);
}

#[test]
fn what_was_begun_upon_and_killed_is_made_whole() {
    let Some(lab) = lab() else { return };
    let wanted = macvlan(MacvlanMode::Passthru, &format!("{}/24", OWN[0]));
    let begin = |place: &Place| {
        let kind = [
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(
                MacVlanMode::Passthrough,
            )])),
        ];
        let descriptor = place.descriptor();
        lab.home.netlink(|netlink| {
            let card = links::find(netlink, "eth0").unwrap().header.index;
            let begun = crate::plug::upon(&descriptor, &wanted, card, &kind);
            let begun = RouteNetlinkMessage::NewLink(begun);
            netlink.add(begun, How::New).unwrap();
        });
        assert_ne!(place.names(), ["eth0"]);
    };
    let place = Place::new();
    begin(&place);
    lab.plug(&place, &wanted);
    assert_eq!(place.names(), ["eth0"]);
    let other = Place::new();
    lab.wait(lab.wiring.unplug(Some(place.descriptor()), &wanted))
        .unwrap();
    begin(&other);
    lab.wait(lab.wiring.unplug(Some(other.descriptor()), &wanted))
        .unwrap();
    assert!(other.names().is_empty());
}

#[test]
fn what_a_container_put_upon_its_own_interface_is_its_own() {
    let Some(lab) = lab() else { return };
    lab.set(&network("br-a", &["172.30.1.1/24"]));
    let place = Place::new();
    lab.plug(&place, &plug("br-a", "va", &["172.30.1.2/24"]));
    place.netlink(|netlink| {
        let below = links::find(netlink, "eth0").unwrap().header.index;
        let mut own = links::named("eth1").build();
        own.attributes.push(LinkAttribute::Link(below));
        let kind = vec![LinkInfo::Kind(InfoKind::MacVlan)];
        own.attributes.push(LinkAttribute::LinkInfo(kind));
        let own = RouteNetlinkMessage::NewLink(own);
        netlink.add(own, How::New).unwrap();
    });
    let wanted = Plug {
        name: "eth1".into(),
        ..macvlan(MacvlanMode::Bridge, &format!("{}/24", OWN[0]))
    };
    let taken = lab.wait(lab.wiring.plug(place.descriptor(), &wanted));
    assert!(matches!(taken, Err(NetworkError::Taken(name)) if name == "eth1"));
    lab.wait(lab.wiring.unplug(Some(place.descriptor()), &wanted))
        .unwrap();
    assert_eq!(place.names(), ["eth0", "eth1"]);
}

#[test]
fn a_vlan_is_made_upon_what_is_there_and_only_ours_is_removed() {
    let Some(lab) = lab() else { return };
    let vlan = |name: &str, below: &str| Vlan {
        name: name.into(),
        below: below.into(),
        id: 10,
    };
    let has = |name: &str| lab.wait(lab.wiring.has_interface(name)).unwrap();
    assert!(has("eth0") && !has("eth0.10"));
    let none = lab.wait(lab.wiring.set_vlan(&vlan("eth7.10", "eth7")));
    assert!(matches!(none, Err(NetworkError::NoInterface(name)) if name == "eth7"));
    lab.wait(lab.wiring.remove_vlan("eth0")).unwrap();
    lab.wait(lab.wiring.remove_vlan("eth0.10")).unwrap();
    assert!(has("eth0"));
    for _ in 0..2 {
        match lab.wait(lab.wiring.set_vlan(&vlan("eth0.10", "eth0"))) {
            Err(error) if error.errno() == Some(rustix::io::Errno::OPNOTSUPP) => {
                println!("skipped: this kernel has no VLANs");
                return;
            }
            done => done.unwrap(),
        }
    }
    assert_eq!(lab.wait(lab.wiring.vlans()).unwrap(), ["eth0.10"]);
    lab.wait(lab.wiring.remove_vlan("eth0.10")).unwrap();
    assert!(!has("eth0.10"));
}
