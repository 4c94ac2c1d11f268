//! Containers whose interface is made upon the machine's card, which is called `eth0` as theirs are.

use lighter_tests::Host;

/// Two containers of a network of this driver find each other at once, by both families.
fn meet(host: &Host, driver: &str, parent: &str, v4: &str, v6: &str) {
    let network = format!("upon-{driver}-{parent}");
    let parent = format!("parent={parent}");
    let (subnet4, subnet6) = (format!("{v4}.0/24"), format!("{v6}::/64"));
    let (ip4, ip6) = (format!("{v4}.50"), format!("{v6}::50"));
    let create = ["network", "create", "-d", driver, "-o", &parent];
    let subnets = ["--ipv6", "--subnet", &subnet4, "--subnet", &subnet6];
    host.docker(&[&create[..], &subnets, &[&network]].concat())
        .ok();
    let run = ["run", "-d", "--name", &network, "--network", &network];
    let served = ["--ip", &ip4, "--ip6", &ip6, "busybox", "sleep", "1000"];
    host.docker(&[&run[..], &served].concat()).ok();
    let ask = format!("ls /sys/class/net && ping -c1 -W9 {ip4} && ping -6 -c1 -W9 {ip6}");
    let run = ["run", "--rm", "--network", &network];
    let asked = host.docker(&[&run[..], &["busybox", "sh", "-c", &ask]].concat());
    assert!(asked.ok().out().starts_with("eth0\nlo\n"));
    // Its interface goes while it runs, and its address with it.
    host.docker(&["network", "disconnect", &network, &network])
        .ok();
    let left = host.docker(&["exec", &network, "ls", "/sys/class/net"]);
    assert_eq!(left.ok().out(), "lo\n");
    host.docker(&["network", "connect", "--ip", &ip4, &network, &network])
        .ok();
    host.docker(&["rm", "-f", &network]).ok();
    host.docker(&["network", "rm", &network]).ok();
}

/// One after the other: the card carries interfaces of one driver at a time.
#[test]
fn containers_upon_the_card_find_each_other() {
    let Some(host) = Host::shared("containers_upon_the_card_find_each_other") else {
        return;
    };
    meet(host, "macvlan", "eth0", "10.77.1", "fd77:1");
    meet(host, "ipvlan", "eth0", "10.78.1", "fd78:1");
    // Between networks that are routed nobody is the router.
    let create = ["network", "create", "-d", "ipvlan", "-o", "parent=eth0"];
    let routed = ["-o", "ipvlan_mode=l3", "--subnet", "10.78.2.0/24", "routed"];
    host.docker(&[&create[..], &routed].concat()).ok();
    let routes = [
        "run",
        "--rm",
        "--network",
        "routed",
        "busybox",
        "ip",
        "route",
    ];
    let routes = host.docker(&routes).ok().out();
    assert!(routes.contains("default dev eth0"), "{routes}");
    assert!(routes.contains("src 10.78.2.1"), "{routes}");
    host.docker(&["network", "rm", "routed"]).ok();
}

/// A VLAN is there as long as a network is upon it.
#[test]
fn a_vlan_is_made_for_the_network_upon_it() {
    let Some(host) = Host::shared("a_vlan_is_made_for_the_network_upon_it") else {
        return;
    };
    let is_there = || {
        let list = ["run", "--rm", "--network", "host", "busybox", "ls"];
        let listed = host.docker(&[&list[..], &["/sys/class/net"]].concat());
        listed.ok().out().lines().any(|name| name == "eth0.7")
    };
    assert!(!is_there());
    let create = ["network", "create", "-d", "macvlan", "-o", "parent=eth0.7"];
    let other = ["--subnet", "10.80.1.0/24", "also-upon-a-vlan"];
    host.docker(&[&create[..], &other].concat()).ok();
    assert!(is_there());
    meet(host, "macvlan", "eth0.7", "10.79.1", "fd79:1");
    assert!(is_there());
    host.docker(&["network", "rm", "also-upon-a-vlan"]).ok();
    assert!(!is_there());
}
