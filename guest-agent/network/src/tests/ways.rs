//! The way out of a container.

use super::*;
use crate::NetworkError;

const A: [&str; 2] = ["172.30.1.1/24", "fd00:1::1/64"];
const B: [&str; 2] = ["172.30.2.1/24", "fd00:2::1/64"];

fn way(gateways: &[(&str, &str)]) -> WayOut {
    let gateways = gateways.iter();
    WayOut {
        gateways: gateways
            .map(|(router, name)| (ip(router), (*name).into()))
            .collect(),
        direct: Vec::new(),
    }
}

#[test]
fn the_way_out_is_set_changed_and_removed() {
    let Some(lab) = lab() else { return };
    lab.set(&network("br-a", &A));
    lab.set(&network("br-b", &B));
    let place = Place::new();
    lab.plug(
        &place,
        &plug("br-a", "va", &["172.30.1.2/24", "fd00:1::2/64"]),
    );
    let second = Plug {
        name: "eth1".into(),
        ..plug("br-b", "vb", &["172.30.2.2/24", "fd00:2::2/64"])
    };
    lab.plug(&place, &second);
    let set = |way: &WayOut| lab.wait(lab.wiring.set_way_out(place.descriptor(), way));
    let mut before = None;
    for (gateways, seen) in [
        (
            vec![("172.30.1.1", "eth0"), ("fd00:1::1", "eth0")],
            ["172.30.1.2", "fd00:1::2"],
        ),
        (
            vec![("172.30.2.1", "eth1"), ("fd00:1::1", "eth0")],
            ["172.30.2.2", "fd00:1::2"],
        ),
        (
            vec![("172.30.2.1", "eth1"), ("fd00:2::1", "eth1")],
            ["172.30.2.2", "fd00:2::2"],
        ),
    ] {
        let way = way(&gateways);
        set(&way).unwrap();
        set(&way).unwrap();
        let routers: Vec<_> = gateways
            .iter()
            .map(|(router, _)| Some(ip(router)))
            .collect();
        assert_eq!(place.ways_out(), routers);
        for (seen, world) in seen.into_iter().zip(WORLD) {
            let any = if world.contains(':') { "::" } else { "0.0.0.0" };
            assert_eq!(asks(&place, any, &lab.world, world).unwrap(), ip(seen));
        }
        before = Some(way);
    }
    // An interface that is not there changes nothing.
    let wrong = set(&way(&[("172.30.1.1", "eth7")]));
    assert!(matches!(wrong, Err(NetworkError::NoInterface(name)) if name == "eth7"));
    assert_eq!(place.ways_out().len(), before.unwrap().gateways.len());
    set(&way(&[("172.30.1.1", "eth0")])).unwrap();
    assert_eq!(place.ways_out(), [Some(ip("172.30.1.1"))]);
    set(&WayOut::default()).unwrap();
    set(&WayOut::default()).unwrap();
    assert!(place.ways_out().is_empty());
}

#[test]
fn an_interface_can_be_the_way_out_itself() {
    let Some(lab) = lab() else { return };
    lab.set(&network("br-a", &A));
    let place = Place::new();
    lab.plug(
        &place,
        &plug("br-a", "va", &["172.30.1.2/24", "fd00:1::2/64"]),
    );
    let direct = WayOut {
        gateways: Vec::new(),
        direct: vec!["eth0".into()],
    };
    lab.wait(lab.wiring.set_way_out(place.descriptor(), &direct))
        .unwrap();
    assert_eq!(place.ways_out(), [None, None]);
    let both = WayOut {
        gateways: vec![(ip("172.30.1.1"), "eth0".into())],
        ..direct
    };
    lab.wait(lab.wiring.set_way_out(place.descriptor(), &both))
        .unwrap();
    assert_eq!(place.ways_out(), [Some(ip("172.30.1.1")), None]);
    lab.wait(
        lab.wiring
            .set_way_out(place.descriptor(), &WayOut::default()),
    )
    .unwrap();
    assert!(place.ways_out().is_empty());
}
