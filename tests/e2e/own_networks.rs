//! Networks by our own command: made, joined with names and addresses, left and removed.

use lighter_tests::Host;

use crate::own_words::same;

#[test]
fn a_network_is_made_joined_left_and_removed() {
    let Some(host) = Host::shared("a_network_is_made_joined_left_and_removed") else {
        return;
    };
    let lighter = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        host.lighter(&words).ok().out().trim().to_owned()
    };
    let inspect = |of: &str, format: &str| {
        let run = host.docker(&["inspect", "--format", format, of]);
        run.ok().out().trim().to_owned()
    };
    let id =
        lighter("network create --subnet 10.213.0.0/24 --gateway 10.213.0.9 --label a=b own-net");
    let shown = "{{.Id}} {{.Driver}} {{(index .IPAM.Config 0).Gateway}} {{.Labels.a}}";
    assert_eq!(
        inspect("own-net", shown),
        format!("{id} bridge 10.213.0.9 b")
    );
    lighter("network create --internal own-other");

    lighter(
        "run -d --name own-a -P --expose 80 --expose 443 --net own-net --ip 10.213.0.77 --net-alias first busybox sleep 1000",
    );
    lighter(
        "run -d --name own-b --network name=own-net,mac-address=02:00:00:00:77:01 --network own-other \
         --link own-a:linked busybox sleep 1000",
    );
    for name in ["own-a", "first", "linked"] {
        let found = lighter(&format!("exec own-b nslookup -type=a {name}"));
        assert!(found.contains("10.213.0.77"), "{name}: {found}");
    }
    let card = lighter("exec own-b ip link");
    assert!(card.contains("02:00:00:00:77:01"), "{card}");

    lighter("network connect --alias later own-other own-a");
    let found = lighter("exec own-b nslookup -type=a later");
    assert!(!found.contains("10.213.0.77"), "{found}");
    lighter("network disconnect own-other own-a");
    let joined = inspect(
        "own-a",
        "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}",
    );
    assert_eq!(joined, "own-net");

    let busy = host.lighter(&["network", "rm", "own-net"]);
    assert_eq!(
        (busy.code, busy.err().contains("has active endpoints")),
        (1, true),
        "{}",
        busy.err()
    );
    lighter("rm -f own-a own-b");
    assert_eq!(
        lighter("network rm own-net own-other"),
        "own-net\nown-other"
    );
}

#[test]
fn wrong_words_of_networks_are_refused_as_docker_refuses_them() {
    let name = "wrong_words_of_networks_are_refused_as_docker_refuses_them";
    let Some(host) = Host::shared(name) else {
        return;
    };
    host.docker(&[
        "create",
        "--name",
        "own-unused",
        "--network",
        "none",
        "busybox",
    ])
    .ok();
    let lines: &[&[&str]] = &[
        &["network", "create"],
        &["network", "create", "a", "b"],
        &["network", "create", "--gateway", "10.0.0.1", "x"],
        &[
            "network",
            "create",
            "--subnet",
            "10.0.0.0/24",
            "--gateway",
            "10.1.0.1",
            "x",
        ],
        &[
            "network",
            "create",
            "--subnet",
            "10.0.0.0/24",
            "--ip-range",
            "zz",
            "x",
        ],
        &[
            "network",
            "create",
            "--subnet",
            "zz",
            "--aux-address",
            "a=10.0.0.1",
            "x",
        ],
        &["network", "rm"],
        &["network", "connect", "x"],
        &["network", "connect", "--link", "a:b:c", "x", "y"],
        &["network", "connect", "--gw-priority", "x", "x", "y"],
        &["network", "disconnect", "x"],
        &["run", "--network", "name=n,foo=1", "busybox"],
        &["run", "--network", "alias=n", "busybox"],
        &["run", "--network", "name=n,alias", "busybox"],
        &["run", "--network", "name=n,driver-opt=x", "busybox"],
        &["run", "--network", "name=n,gw-priority=x", "busybox"],
        &["run", "--network", "n", "--network", "host", "busybox"],
        &["run", "--network", "n", "--network", "n", "busybox"],
        &[
            "run",
            "--network",
            "name=n,ip=1.2.3.4",
            "--ip",
            "1.2.3.4",
            "busybox",
        ],
        &[
            "run",
            "--network",
            "name=n,alias=x",
            "--network-alias",
            "y",
            "busybox",
        ],
        &["run", "--network-alias", "y", "busybox"],
        &["run", "--link", "a:b:c", "busybox"],
        &["run", "--link", "", "busybox"],
        &["run", "--mac-address", "zz", "busybox"],
        &["run", "--network", "", "busybox"],
        &["network", "rm", "nosuch", "bridge"],
        &["network", "rm", "-f", "nosuch"],
        &["network", "connect", "nosuch", "own-unused"],
        &["network", "connect", "host", "nosuch"],
        &["network", "connect", "--ip", "zz", "bridge", "own-unused"],
        &["network", "disconnect", "bridge", "nosuch"],
        &["network", "disconnect", "none", "own-unused"],
        &["network", "create", "host"],
        &["network", "create", "-d", "nosuch", "x"],
        &["network", "create", "--subnet", "zz", "x"],
    ];
    same(host, lines);
    host.docker(&["rm", "own-unused"]).ok();
}
