//! Networks keep away from where the host has routes of its own to, also from those that come while the machine is up.
//!
//! A network namespace plays the host; a bridge in it plays the card of a VPN.

use std::process::Command;
use std::time::{Duration, Instant};

use lighter_tests::Host;

const START: &str = "set -e; ip link set lo up; ip link add vpn type bridge; ip link set vpn up; \
                     ip route add 172.17.0.0/16 dev vpn; ip route add 172.18.5.0/24 dev vpn; exec \"$1\" up";

#[test]
fn networks_keep_away_from_the_hosts_routes() {
    let Some(host) = Host::new() else { return };
    let lighter = host.lighter_command();
    let mut up = Command::new("unshare");
    up.args(["--net", "sh", "-c", START, "sh"]);
    up.arg(lighter.get_program());
    for (name, value) in lighter.get_envs() {
        match value {
            Some(value) => up.env(name, value),
            None => up.env_remove(name),
        };
    }
    let up = up.output().expect("started");
    assert!(
        up.status.success(),
        "{}",
        String::from_utf8_lossy(&up.stderr)
    );
    let subnet = |network: &str| {
        let format = "{{(index .IPAM.Config 0).Subnet}}";
        let inspected = host.docker(&["network", "inspect", "-f", format, network]);
        inspected.ok().out().trim().to_owned()
    };
    assert_eq!(subnet("bridge"), "172.19.0.0/16");
    host.docker(&["network", "create", "first"]).ok();
    assert_eq!(subnet("first"), "172.20.0.0/16");

    let daemon = host.processes("daemon")[0];
    let added = Command::new("nsenter")
        .arg(format!("--net=/proc/{daemon}/ns/net"))
        .args(["ip", "route", "add", "172.21.0.0/16", "dev", "vpn"])
        .status();
    assert!(added.expect("ip starts").success());
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        host.docker(&["network", "create", "second"]).ok();
        let now = subnet("second");
        if now == "172.22.0.0/16" {
            break;
        }
        assert_eq!(now, "172.21.0.0/16", "the first that is free otherwise");
        assert!(Instant::now() < until, "the new route is not known");
        host.docker(&["network", "rm", "second"]).ok();
    }
    // Who names a subnet has it.
    let named = ["network", "create", "--subnet", "172.21.7.0/24", "third"];
    host.docker(&named).ok();
}
