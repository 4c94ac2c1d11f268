//! The default network with subnets of its user's choice: ours by settings, dockerd's by flags of the same names.

use lighter_tests::{Host, Reference, env};

use crate::script::same_of;

#[test]
fn the_default_bridge_with_addresses_of_ones_own() {
    let name = "the_default_bridge_with_addresses_of_ones_own";
    let settings = [
        ("bip", "10.88.0.5/24"),
        ("fixed-cidr", "10.88.0.128/25"),
        ("fixed-cidr-v6", "fd00:88::/64"),
    ];
    let flags = settings.map(|(key, value)| format!("--{key}={value}"));
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.push("--ipv6");
    let (Some(host), Some(reference)) = (Host::new(), Reference::start_with(name, &flags)) else {
        return env::skip(name, "there is nothing to compare");
    };
    for (key, value) in settings.into_iter().chain([("ipv6", "true")]) {
        let key = format!("engine.{key}");
        host.lighter(&["config", "set", &key, value]).ok();
    }
    host.lighter(&["up"]).ok();
    host.docker(&["tag", "lighter/hello", "busybox"]).ok();
    let archive = host.home().join("busybox.tar").display().to_string();
    host.docker(&["save", "-o", &archive, "busybox"]).ok();
    reference.docker(&["load", "-i", &archive]).ok();
    same_of(
        &host,
        &reference,
        r"
        network inspect bridge -f '{{.EnableIPv4}} {{.EnableIPv6}} {{json .IPAM}} {{json .Options}}'
        network ls --filter name=bridge --format '{{.Name}} {{.IPv4}} {{.IPv6}}'
        run -d --name own1 -h first busybox sleep 1000
        network inspect bridge -f '{{range .Containers}}{{.Name}} {{.IPv4Address}} {{.IPv6Address}},{{end}}'
        run -d --name own2 -h second --link own1:al busybox sleep 1000
        inspect -f '{{.NetworkSettings.IPAddress}}/{{.NetworkSettings.IPPrefixLen}} {{.NetworkSettings.Gateway}} {{.NetworkSettings.GlobalIPv6Address}}/{{.NetworkSettings.GlobalIPv6PrefixLen}} {{.NetworkSettings.IPv6Gateway}}' own1
        inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}/{{.IPPrefixLen}} {{.Gateway}} {{.GlobalIPv6Address}}/{{.GlobalIPv6PrefixLen}} {{.IPv6Gateway}}{{end}}' own2
        exec own2 cat /etc/hosts
        exec own2 env
        exec own2 sh -c 'ping -c 1 -W 2 -q fd00:88::1 | grep loss'
        exec own2 sh -c 'ip -4 route; ip -6 route | grep -v fe80 | grep -v ff00'
        restart -t 0 own1
        # dockerd gives both lines of the link the address that is written last.
        exec own2 grep -v al /etc/hosts
        network create --subnet 10.88.0.0/25 over
        network create --ipv6 --subnet 10.89.0.0/24 --subnet fd00:88::/72 over
        run --rm --ip 10.88.0.130 busybox true
        rm -f own1 own2
        ",
    );
}
