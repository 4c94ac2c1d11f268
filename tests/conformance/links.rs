//! Links in the default network. One a container, where their order is seen: dockerd has none.

use crate::script::same;

#[test]
fn links_of_the_default_network() {
    same(
        "links_of_the_default_network",
        r"
        run -d --name lk1 -h target -e 'FOO=a bar' --expose 443 --expose 53/udp --expose 100-102 --expose 80 busybox sleep 1000
        run --rm --name lk2 -h source --link lk1:my-al busybox env
        run --rm --name lk2 -h source --link lk1:my-al -e MY_AL_NAME=mine busybox env
        run --rm --name lk2 -h source --link lk1 busybox cat /etc/hosts
        run --rm --name lk2 -h source --link lk1:my-al --add-host other:10.1.2.3 busybox cat /etc/hosts
        run --rm --name lk2 -h source --link lk1:x/y busybox env
        run --rm --name lk2 --link lk1:al busybox sh -c 'ping -c 1 -W 2 -q al | grep loss'
        run -d --name lk3 -h source --link lk1:al busybox sleep 1000
        inspect -f '{{json .HostConfig.Links}}' lk3
        inspect -f '{{range .NetworkSettings.Networks}}{{json .Links}}{{end}}' lk3
        inspect -f '{{.Name}}' lk3/al
        inspect -f '{{.Name}}' /lk3/al
        exec lk3/al hostname
        exec lk3 env
        ps --no-trunc --format '{{.Names}}' --filter name=lk
        ps --format '{{.Names}}' --filter name=lk
        ps -q --filter name=lk3/al
        ps --format '{{.Names}}' --filter name=al
        create --name lk4 --link lk3/al:far busybox true
        inspect -f '{{json .HostConfig.Links}}' lk4
        rm lk4
        rename lk1 lk5
        inspect -f '{{json .HostConfig.Links}}' lk3
        rename lk3 lk6
        inspect -f '{{json .HostConfig.Links}}' lk6
        inspect lk3/al
        inspect -f '{{.Name}}' lk6/al
        rename lk6 lk3
        rm --link lk3
        rm --link nix/al
        rm --link lk3/nix
        rm --link lk3/al
        inspect -f '{{json .HostConfig.Links}}' lk3
        exec lk3 cat /etc/hosts
        exec lk3 env
        rm --link lk3/al
        rm -f lk3 lk5
        ",
    );
}

#[test]
fn links_follow_their_containers() {
    same(
        "links_follow_their_containers",
        r"
        run -d --name follow1 -h target busybox sleep 1000
        run -d --name follow2 -h source --link follow1:al busybox sleep 1000
        exec follow2 cat /etc/hosts
        stop -t 0 follow1
        exec follow2 true
        run -d --name follow3 busybox sleep 1000
        start follow1
        exec follow2 cat /etc/hosts
        exec follow2 env
        restart -t 0 follow2
        exec follow2 cat /etc/hosts
        rm -f follow1
        inspect -f '{{json .HostConfig.Links}}' follow2
        inspect follow2/al
        exec follow2 true
        restart -t 0 follow2
        inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}' follow2
        start follow2
        ps -a --no-trunc --format '{{.Names}}' --filter name=follow
        rm -f follow2 follow3
        ",
    );
}

#[test]
fn links_that_cannot_be() {
    same(
        "links_that_cannot_be",
        r"
        run -d --name wrong1 busybox sleep 1000
        run --rm --link nix:al busybox true
        run --rm --name itself --link itself:al busybox true
        run --rm --link '' busybox true
        run --rm --link wrong1:a:b busybox true
        run --rm --link :al busybox true
        run --rm --link wrong1: busybox true
        run --rm --network host --link wrong1:al busybox true
        run --rm -h named --network none --link wrong1:al busybox env
        run --rm --network container:wrong1 --link wrong1:al busybox true
        create --name wrong2 busybox true
        create --name wrong3 --link wrong2:al busybox true
        start wrong3
        inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}' wrong3
        rm wrong2 wrong3
        run -d --name wrong4 --network host busybox sleep 1000
        run --rm --link wrong4:al busybox true
        rm -f wrong4
        run -d --name wrong4 --network none busybox sleep 1000
        run --rm --name wrong5 --link wrong4:al busybox true
        rm -f wrong4
        run -d --name wrong4 -h shared --network container:wrong1 busybox sleep 1000
        run -d --name wrong4 --network container:wrong1 busybox sleep 1000
        create --name wrong5 --link wrong4:al busybox true
        inspect -f '{{json .HostConfig.Links}}' wrong5
        rm -f wrong5 wrong4
        create --name wrong5 --link wrong1:al --link wrong1:al busybox true
        inspect -f '{{json .HostConfig.Links}}' wrong5
        rm -f wrong5 wrong1
        ",
    );
}
