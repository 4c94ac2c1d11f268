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

    same(
        host,
        &[
            &["port", "own-a"],
            &["port", "own-a", "80"],
            &["port", "own-a", "80/"],
            &["port", "own-a", "443/tcp"],
            &["port", "own-a", "80/udp"],
            &["port", "own-a", "81/"],
            &["port", "own-a", "x/"],
            &["port", "own-a", "70000"],
        ],
    );

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
        &["run", "--network", "name=n,\"alias=x\"y", "busybox"],
        &["run", "--network", "name=n,\"alias=x", "busybox"],
        &["run", "--network", "name=n,alias=\"x\"", "busybox"],
        &["run", "--network", "name=n,", "busybox"],
        &["run", "--network", "name=n,=x", "busybox"],
        &["run", "--network", "name=n,\"foo=1,2\"", "busybox"],
        &[
            "run",
            "--network",
            "name=n,gw-priority=99999999999999999999",
            "busybox",
        ],
        &["run", "--network", "a=b", "busybox"],
        &["run", "--network", "name=", "busybox"],
        &["run", "--network", "host", "--network", "none", "busybox"],
        &["run", "--network", "host", "--network", "host", "busybox"],
        &["run", "--mac-address", "02:00:00-00:00:01", "busybox"],
        &["run", "--mac-address", "2:0:0:0:0:1", "busybox"],
        &["run", "--mac-address", "02:00:00:00:00:00:00", "busybox"],
        &["run", "--mac-address", "0200.0000.00", "busybox"],
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

/// What both make of the same words, as the engine keeps it.
fn kept_the_same(host: &Host, cases: &[&[&str]], format: &str) {
    for words in cases {
        let made = |by: fn(&Host, &[&str]) -> lighter_tests::Finished, name: &str| {
            let line = [&["create", "--name", name], *words, &["busybox"]].concat();
            by(host, &line).ok();
            let kept = host.docker(&["inspect", "--format", format, name]);
            host.docker(&["rm", name]).ok();
            kept.ok().out()
        };
        let theirs = made(Host::docker, "own-made");
        assert_eq!(made(Host::lighter, "own-made"), theirs, "{words:?}");
    }
}

#[test]
fn ports_networks_and_mounts_are_read_as_docker_reads_them() {
    let name = "ports_networks_and_mounts_are_read_as_docker_reads_them";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let published: &[&[&str]] = &[
        &["-p", "80"],
        &["-p", "0:80"],
        &["-p", ":80"],
        &["-p", "080:0080/UDP"],
        &["-p", "80-81-82"],
        &["-p", "9000-9001:80"],
        &["-p", "9000-9001:80-81"],
        &["-p", "127.0.0.1::80/"],
        &["-p", "[::1]:1:80"],
        &["-p", "[]:1:80"],
        &["-p", "target=80"],
        &["-p", "target=80,published=8080"],
        &["-p", "target=80,published=0,protocol=udp,mode=host"],
        &["-p", "target=80-81,published=127.0.0.1:90-91,protocol=TCP"],
        &["--expose", "80", "--expose", "90-91/udp", "--expose", "7/"],
    ];
    let ports = "{{json .HostConfig.PortBindings}} {{json .Config.ExposedPorts}}";
    kept_the_same(host, published, ports);
    let joined: &[&[&str]] = &[
        &["--network", "name=bridge,\"driver-opt=a=b,c\""],
        &["--network", " NAME = Bridge ,gw-priority=+3"],
        &["--network", "bridge", "--mac-address", "02-00-00-00-77-02"],
        &["--network", "bridge", "--mac-address", "0200.0000.7703"],
        &["--network", "bridge", "--mac-address", "020000007704"],
    ];
    let networks = "{{json .NetworkSettings.Networks}} {{.HostConfig.NetworkMode}}";
    kept_the_same(host, joined, networks);
    let mounted: &[&[&str]] = &[
        &[
            "--mount",
            "type=tmpfs,\"dst=/a,b\",tmpfs-size=1m,tmpfs-mode=1770",
        ],
        &["--mount", "TYPE=TMPFS,dst=/t,ro=T"],
        &[
            "--mount",
            "\"type=bind\",src=/tmp,dst=/t,bind-propagation=RPRIVATE,consistency=Cached",
        ],
        &[
            "--mount",
            "type=bind,src=/tmp,dst=/t,bind-recursive=disabled",
        ],
    ];
    kept_the_same(host, mounted, "{{json .HostConfig.Mounts}}");
    let wrong = [
        ("-p", ""),
        ("-p", ":"),
        ("-p", "1.2.3.4:"),
        ("-p", "x"),
        ("-p", "70000"),
        ("-p", "x:80"),
        ("-p", "a.b:80"),
        ("-p", "a.b:1:2"),
        ("-p", "01.2.3.4:1:1"),
        ("-p", "1:2:3:4"),
        ("-p", "[::1:1:80"),
        ("-p", "[::1]:80"),
        ("-p", "80/icmp"),
        ("-p", "/tcp"),
        ("-p", "9-8:8"),
        ("-p", "8:9-8"),
        ("-p", "1-2:3-5"),
        ("-p", "3:1-2"),
        ("-p", "+80"),
        ("-p", " 80"),
        ("-p", "published=8080"),
        ("-p", "target=x,published=8080"),
        ("-p", "target=80,published"),
        ("-p", "target=80,protocol=icmp"),
        ("-p", "\"target=80\",protocol=tcp"),
        ("--expose", "x"),
        ("--expose", "80:80"),
        ("--expose", "9-8"),
        ("--expose", ""),
        ("--expose", "70000/tcp"),
        ("--mount", ""),
        ("--mount", "type=bind,frob"),
        ("--mount", "dst=/b,Frob=1"),
        ("--mount", "type="),
        ("--mount", "ro"),
        ("--mount", "dst=/b,ro=x"),
        ("--mount", "dst=/b,volume-nocopy=x"),
        ("--mount", "dst=/t,\"volume-opt"),
        ("--mount", "type=tmpfs,dst=/t,tmpfs-mode=+7"),
        ("--mount", "type=tmpfs,dst=/t,tmpfs-size=x"),
        ("--mount", "dst=/t,tmpfs-size=1m"),
        ("--mount", "dst=/t,image-subpath=a"),
        ("--mount", "type=bind,src=/a,dst=/t,bind-recursive=x"),
        ("--mount", "type=bind,src=/a,dst=/t,bind-recursive=writable"),
    ];
    let lines: Vec<[&str; 4]> = wrong
        .iter()
        .map(|(flag, value)| ["run", flag, value, "busybox"])
        .collect();
    let lines: Vec<&[&str]> = lines.iter().map(<[&str; 4]>::as_slice).collect();
    same(host, &lines);
}
