//! Containers that find each other by name, in the machine: by the programs of two C libraries.

use lighter_tests::{Host, env};

/// A network with a container in it; both go with this.
struct Named<'a> {
    host: &'a Host,
    network: String,
}

impl<'a> Named<'a> {
    fn new(host: &'a Host, network: &str, subnet: &str) -> Self {
        host.docker(&["network", "create", "--subnet", subnet, network])
            .ok();
        let server = format!("{network}-server");
        let run = ["run", "-d", "--name", &server, "--network", network];
        let run = [
            &run[..],
            &["--network-alias", "served", "busybox", "sleep", "1000"],
        ];
        host.docker(&run.concat()).ok();
        Self {
            host,
            network: network.to_owned(),
        }
    }

    fn run(&self, image: &str, command: &str) -> lighter_tests::Finished {
        let network = &self.network;
        self.host.docker(&[
            "run",
            "--rm",
            "--network",
            network,
            image,
            "sh",
            "-c",
            command,
        ])
    }
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        let server = format!("{}-server", self.network);
        let _ = self.host.docker(&["rm", "-f", &server]);
        let _ = self.host.docker(&["network", "rm", &self.network]);
    }
}

#[test]
fn containers_find_each_other_by_name() {
    let Some(host) = Host::shared("containers_find_each_other_by_name") else {
        return;
    };
    let named = Named::new(host, "naming", "10.66.1.0/24");
    let asked = named.run(
        "busybox",
        "nslookup -type=a served && nslookup -type=a naming-server && nslookup 10.66.1.2 && cat /etc/resolv.conf",
    );
    let said = asked.ok().out();
    assert_eq!(said.matches("Address: 10.66.1.2").count(), 2, "{said}");
    assert!(said.contains("name = naming-server.naming"), "{said}");
    assert!(
        said.contains("nameserver 127.0.0.11\noptions ndots:0\n"),
        "{said}"
    );
    // The machine's own server is asked for everything else.
    let asked = named.run("busybox", "nslookup -type=a host.docker.internal");
    let said = asked.ok().out();
    assert!(said.contains("Address: 198.19.79.254"), "{said}");
    // Whoever has port 53 on every address is in nobody's way.
    let asked = named.run(
        "busybox",
        "timeout 2 nc -l -p 53 2>&1 & nslookup -type=a served; wait",
    );
    let said = asked.out();
    assert!(
        said.contains("Address: 10.66.1.2") && !said.contains("nc: "),
        "{said}"
    );
}

#[test]
fn programs_of_debian_find_containers_by_name() {
    let name = "programs_of_debian_find_containers_by_name";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let Some(archive) = env::path(env::DEBIAN) else {
        return env::skip(
            name,
            "the programs' image is not there: run `cargo xtask test`",
        );
    };
    let bytes = std::fs::read(&archive).expect("readable");
    host.docker_with(&["load"], &bytes).ok();
    let named = Named::new(host, "glibc", "10.66.2.0/24");
    let asked = named.run(
        "lighter-test/debian",
        "getent ahostsv4 served | head -1; getent hosts glibc-server; getent hosts 10.66.2.2; getent hosts nobody || echo none",
    );
    let said: Vec<String> = asked
        .ok()
        .out()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        said,
        [
            "10.66.2.2 STREAM served",
            "10.66.2.2 glibc-server",
            "10.66.2.2 glibc-server.glibc",
            "none"
        ]
    );
}
