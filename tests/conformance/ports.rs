//! Published ports: what is asked for, what comes of it, and what is said of it.
//!
//! Ports that nobody chose are whatever each machine has free, so they are counted and not compared.

use crate::script::same;

#[test]
fn ports_are_published_shown_and_taken_back() {
    same(
        "ports_are_published_shown_and_taken_back",
        r"
        run -d --name p1 -p 18080:80 -p 18053:53/udp -p 127.0.0.1:18081:81 -p [::1]:18082:82 --expose 99 --expose 100/udp busybox sleep 1000
        port p1
        port p1 80
        port p1 80/tcp
        port p1 53/udp
        port p1 77
        inspect -f '{{json .NetworkSettings.Ports}} {{json .HostConfig.PortBindings}} {{json .Config.ExposedPorts}} {{.HostConfig.PublishAllPorts}}' p1
        ps --filter name=p1 --format '{{.Ports}}'
        ps --filter publish=18080 --format '{{.Names}}'
        ps --filter publish=80 --format '{{.Names}}'
        ps --filter expose=99 --format '{{.Names}}'
        pause p1
        port p1 80
        unpause p1
        restart -t 0 p1
        port p1
        stop -t 0 p1
        port p1
        inspect -f '{{json .NetworkSettings.Ports}}' p1
        ps -a --filter name=p1 --format '{{.Ports}}'
        start p1
        port p1 80
        rm -f p1
        port p1
        run -d --name p2 -p 18090:80 -p 18091:80 -p 127.0.0.1:18092:80 busybox sleep 1000
        port p2
        ps --filter name=p2 --format '{{.Ports}}'
        inspect -f '{{json .NetworkSettings.Ports}}' p2
        rm -f p2
        run -d --name p3 -P --expose 80 --expose 81/udp busybox sleep 1000
        inspect -f '{{range $port, $at := .NetworkSettings.Ports}}{{$port}} {{len $at}} {{(index $at 0).HostIp}} {{(index $at 1).HostIp}};{{end}} {{.HostConfig.PublishAllPorts}}' p3
        rm -f p3
        run -d --name p4 -p 80 -p 0:81 -p 127.0.0.1::82 busybox sleep 1000
        inspect -f '{{range $port, $at := .NetworkSettings.Ports}}{{$port}} {{len $at}} {{(index $at 0).HostIp}};{{end}} {{json .HostConfig.PortBindings}}' p4
        rm -f p4
        run -d --name p5 -p 18100-18101:80 busybox sleep 1000
        run -d --name p6 -p 18100-18101:80 busybox sleep 1000
        run -d --name p7 -p 18100-18101:80 busybox sleep 1000
        ps -a --filter name=p5 --filter name=p6 --filter name=p7 --format '{{.Names}} {{.Ports}}'
        rm -f p5 p6 p7
        run -d --name p8 -p 18110-18112:80-82 busybox sleep 1000
        port p8
        rm -f p8
        run -d --name p9 -p 0.0.0.0:18120:80 -p [::]:18121:80 busybox sleep 1000
        port p9
        rm -f p9
        ",
    );
}

#[test]
fn ports_that_cannot_be_had() {
    same(
        "ports_that_cannot_be_had",
        r"
        run -d --name q1 -p 18200:80 -p 127.0.0.1:18201:80 busybox sleep 1000
        run -d --name q2 -p 18200:80 busybox sleep 1000
        inspect -f '{{json .NetworkSettings.Ports}} {{.State.Status}} {{.State.ExitCode}}' q2
        ps -a --filter name=q2 --format '{{.Status}} {{.Ports}}'
        start q2
        rm q2
        run --rm --name zz -p 127.0.0.1:18200:80 busybox true
        run --rm --name zz -p [::1]:18200:80 busybox true
        run --rm --name zz -p 18201:80 busybox true
        run --rm --name zz -p 127.0.0.2:18201:80 busybox true
        run --rm --name zz -p 18200:80/udp busybox true
        run --rm --name zz -p 18202:80 -p 18202:81 busybox true
        run --rm --name zz -p 18203-18205:80-82 -p 18204:90 busybox true
        run --rm --name zz -p 18203:80 busybox true
        run --rm --name zz -p 1.2.3.4:18206:80 busybox true
        run --rm --name zz -p 65536:80 busybox true
        run --rm --name zz -p 18207-18209:80-81 busybox true
        run --rm --name zz -p 18207:80/foo busybox true
        run --rm --name zz -p x:80 busybox true
        run --rm --name zz -p 18207:0 busybox true
        # The kernels of some machines carry no sctp, and then dockerd says so.
        ~ run --rm --name zz -p 18207:80/sctp busybox true
        run --rm --name zz --network host -p 18208:80 busybox true
        run --rm --name zz --network none -p 18208:80 busybox true
        run -d --name q3 --network none -p 18208:80 --expose 81 busybox sleep 1000
        inspect -f '{{json .NetworkSettings.Ports}} {{json .HostConfig.PortBindings}}' q3
        ps --filter name=q3 --format '{{.Ports}}'
        port q3
        run --rm --name zz --network container:q3 -p 18209:80 busybox true
        run --rm --name zz --network container:q3 --expose 80 busybox true
        rm -f q1 q3
        ",
    );
}

#[test]
fn ports_follow_networks() {
    same(
        "ports_follow_networks",
        r"
        network create --internal inner
        network create outer
        run -d --name r1 --network inner -p 18300:80 --expose 81 busybox sleep 1000
        inspect -f '{{json .NetworkSettings.Ports}}' r1
        ps --filter name=r1 --format '{{.Ports}}'
        network connect outer r1
        inspect -f '{{json .NetworkSettings.Ports}}' r1
        port r1
        run --rm --name zz -p 18300:80 busybox true
        network disconnect outer r1
        inspect -f '{{json .NetworkSettings.Ports}}' r1
        run --rm --name zz -p 18300:80 busybox true
        network connect bridge r1
        port r1
        network connect outer r1
        network disconnect bridge r1
        port r1
        rm -f r1
        run -d --name r2 -p 18301:80 busybox sleep 1000
        create --name r3 -p 18301:80 --network outer busybox sleep 1000
        start r3
        network connect bridge r3
        start r3
        stop -t 0 r2
        start r3
        port r3
        rm -f r2 r3
        network rm inner outer
        ",
    );
}
