//! Names: what a container's resolv.conf says, and what programs in it find.
//!
//! The servers that are asked for everything else are each machine's own, and are left out where nobody names them.

use lighter_tests::env;

use crate::both;
use crate::script::same;

#[test]
fn files_of_name_servers() {
    same(
        "files_of_name_servers",
        r"
        network create --subnet 10.54.0.0/24 name1
        network create --subnet 10.55.0.0/24 --internal name2
        run --rm --network name1 busybox grep -v ExtServers /etc/resolv.conf
        run --rm --network name2 busybox grep -v ExtServers /etc/resolv.conf
        run --rm --network name1 --dns 10.9.9.9 --dns 127.0.0.1 --dns-search a.b --dns-opt ndots:3 --dns-opt timeout:1 busybox cat /etc/resolv.conf
        run --rm --network name1 --dns ::1 --dns-search . --dns-opt ndots:x --dns-opt rotate busybox cat /etc/resolv.conf
        run --rm --network name1 --dns x busybox true
        run -d --name joins busybox sleep 1000
        exec joins grep -c 127.0.0.11 /etc/resolv.conf
        network connect name1 joins
        exec joins grep -v ExtServers /etc/resolv.conf
        network disconnect name1 joins
        exec joins grep -v ExtServers /etc/resolv.conf
        rm -f joins
        network rm name1 name2
        ",
    );
}

#[test]
fn names_that_containers_find() {
    same(
        "names_that_containers_find",
        r"
        network create --subnet 10.56.0.0/24 find1
        network create --subnet 10.57.0.0/24 --internal find2
        run -d --name f1 -h hosted --network find1 --network-alias al busybox sleep 1000
        run -d --name f2 --network find2 --network-alias al busybox sleep 1000
        run -d --name f3 --network find1 --link f1:linked busybox sleep 1000
        inspect -f '{{json .HostConfig.Links}} {{range .NetworkSettings.Networks}}{{json .Links}}{{end}}' f3
        exec f3 nslookup -type=a f1
        exec f3 nslookup -type=a F1
        exec f3 nslookup -type=a al
        exec f3 nslookup -type=a hosted
        exec f3 nslookup -type=a linked
        exec f3 nslookup -type=a f1.find1
        # Nobody of its networks: found by neither, and dockerd here has nobody to ask.
        ~ exec f3 nslookup -type=a f1.find2
        ~ exec f3 nslookup -type=a f2
        exec f3 nslookup -type=aaaa f1
        exec f3 nslookup -type=mx f1
        exec f3 nslookup 10.56.0.2
        exec f2 nslookup -type=a f1
        exec f2 nslookup -type=a nobody.example
        network connect --alias late find2 f3
        exec f2 nslookup -type=a late
        exec f3 nslookup -type=a f2
        exec f3 nslookup -type=a al
        rename f1 f9
        exec f3 nslookup -type=a f9
        # The name that the link leads to is nobody's now.
        ~ exec f3 nslookup -type=a linked
        stop -t 0 f9
        exec f3 nslookup -type=a al
        rm -f f9 f2 f3
        network rm find1 find2
        ",
    );
}

#[test]
fn names_that_debians_programs_find() {
    let test = "names_that_debians_programs_find";
    let (Some(both), Some(archive)) = (both(test), env::path(env::DEBIAN)) else {
        return env::skip(
            test,
            "the programs' image is not there: run `cargo xtask test`",
        );
    };
    let bytes = std::fs::read(&archive).expect("readable");
    both.ours.docker_with(&["load"], &bytes).ok();
    both.reference().docker_with(&["load"], &bytes).ok();
    same(
        test,
        r"
        network create --subnet 10.58.0.0/24 deb1
        run -d --name d1 --network deb1 --network-alias al busybox sleep 1000
        run --rm --network deb1 --name d2 lighter-test/debian getent hosts d1
        run --rm --network deb1 --name d2 lighter-test/debian getent hosts al
        run --rm --network deb1 --name d2 lighter-test/debian getent ahosts d1.deb1
        run --rm --network deb1 --name d2 lighter-test/debian getent hosts 10.58.0.2
        run --rm --network deb1 --name d2 lighter-test/debian getent hosts d2
        rm -f d1
        network rm deb1
        ",
    );
}
