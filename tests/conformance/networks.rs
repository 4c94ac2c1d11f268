//! Networks: what can be made, what is said of it, and which containers may be in it.
//!
//! Subnets are named in every case: dockerd keeps those of networks that it refused, and has others then.

use crate::script::same;

#[test]
fn networks_are_made_listed_and_removed() {
    same(
        "networks_are_made_listed_and_removed",
        r"
        network create --subnet 10.60.0.0/24 nn
        network create --subnet 10.61.0.0/24 nn
        network create --subnet 10.60.0.128/25 nm
        network create --subnet 10.0.0.0/8 nm
        network create --subnet 172.17.9.0/24 nm
        network inspect -f '{{.Name}} {{.Scope}} {{.Driver}} {{.EnableIPv4}} {{.EnableIPv6}} {{json .IPAM}} {{.Internal}} {{.Attachable}} {{.Ingress}} {{.ConfigOnly}} {{json .Containers}} {{json .Options}} {{json .Labels}}' nn
        network inspect bridge -f '{{.Name}} {{.Scope}} {{.Driver}} {{json .IPAM}} {{json .Containers}} {{json .Options}} {{json .Labels}}'
        network inspect host -f '{{.Name}} {{.Scope}} {{.Driver}} {{json .IPAM}} {{json .Options}} {{json .Labels}}'
        network inspect none -f '{{.Name}} {{.Scope}} {{.Driver}} {{json .IPAM}} {{json .Options}} {{json .Labels}}'
        network create --subnet 10.62.0.0/24 --label a=b --label c --opt x=y --internal --attachable no
        network inspect -f '{{json .IPAM}} {{.Internal}} {{.Attachable}} {{json .Options}} {{json .Labels}}' no
        network ls --filter name=^n[no]$ --format '{{.Name}} {{.Driver}} {{.Scope}} {{.IPv4}} {{.IPv6}} {{.Internal}} {{.Labels}}'
        network ls --filter label=a=b --format '{{.Name}}'
        network ls --filter label=q --format '{{.Name}}'
        network ls --filter driver=null --format '{{.Name}}'
        network ls --filter type=custom --filter name=nn --format '{{.Name}}'
        network ls --filter type=builtin --filter name=nn --format '{{.Name}}'
        network ls --filter type=bogus
        network ls --filter scope=swarm --format '{{.Name}}'
        network ls --filter dangling=true --filter name=nn --format '{{.Name}}'
        network ls --filter dangling=false --filter name=nn --format '{{.Name}}'
        network ls --filter dangling=x
        network ls --filter bogus=1
        network inspect nix
        network inspect nn nix -f '{{.Name}}'
        network rm nix
        network rm -f nix
        network rm bridge
        network rm host nn
        network rm nn
        network rm no
        network create bridge
        network create host
        network create none
        network create default
        network create ''
        network create ' '
        network create --subnet 10.63.0.0/24 'a b'
        network rm 'a b'
        network create --subnet 10.63.0.0/24 --scope local -- -x
        network rm -- -x
        network prune <<< 'n'
        network prune -f --filter until=bogus
        network prune -f --filter until=1h --filter until=2h
        network prune -f --filter bogus=1
        network create --subnet 10.64.0.0/24 --label pruned pruned
        network prune -f --filter label=none
        network prune -f --filter label!=pruned --filter label=pruned
        network prune -f --filter label=pruned --filter until=24h
        network prune -f --filter label=pruned
        network connect pruned nix
        network connect nix nix
        network disconnect pruned nix
        network disconnect -f pruned nix
        network disconnect -f bridge nix
        ",
    );
}

#[test]
fn drivers_scopes_and_networks_made_from_others() {
    same(
        "drivers_scopes_and_networks_made_from_others",
        r"
        network create -d overlay nv
        network create -d null nv
        network create -d host nv
        network create --scope swarm nv
        network create --ingress nv
        network create --ipv4=false nv
        network create --ipam-driver null nv
        network create --config-only --internal nv
        network create --config-only --config-from x nv
        network create --config-from nix nv
        network create --config-from bridge nv
        network create --config-only --subnet 10.65.0.0/24 --label l=m --opt x=y settings
        network inspect -f '{{.Scope}} {{.Driver}} {{.ConfigOnly}} {{json .IPAM}} {{json .Options}} {{json .Labels}}' settings
        network create --config-from settings --internal made
        network inspect -f '{{.Driver}} {{.ConfigFrom.Network}} {{.Internal}} {{json .IPAM}} {{json .Options}} {{json .Labels}}' made
        network rm settings
        network rm made
        network create --config-from settings --label q=r made
        network create --config-from settings --opt a=b made
        network create --config-from settings --subnet 10.66.0.0/24 made
        network create --config-from settings --ipv6 made
        network prune -f --filter label=l=m
        network rm settings
        ",
    );
}

#[test]
fn wrong_addresses_of_networks() {
    same(
        "wrong_addresses_of_networks",
        r"
        network create --subnet 10.70.0.1/24 na
        network create --subnet x na
        network create --subnet 10.70.0.0/33 na
        network create --gateway 10.70.0.1 na
        network create --subnet 10.70.0.0/24 --gateway 10.71.0.1 na
        network create --subnet 10.70.0.0/24 --gateway x na
        network create --subnet 10.72.0.0/24 --gateway 10.72.0.0 na
        network create --subnet 10.73.0.0/24 --gateway 10.73.0.255 na
        network create --subnet 10.70.0.0/24 --gateway fd00::1 na
        network create --subnet 10.70.0.0/24 --ip-range 10.70.0.0/23 na
        network create --subnet 10.70.0.0/24 --ip-range 10.70.0.3/25 na
        network create --subnet 10.70.0.0/24 --ip-range 10.71.0.0/25 na
        network create --subnet 10.70.0.0/24 --ip-range x na
        network create --subnet 10.70.0.0/24 --aux-address a=10.71.0.5 na
        network create --subnet 10.70.0.0/24 --aux-address a=x na
        network create --subnet 10.74.0.0/24 --aux-address a=10.74.0.1 na
        network create --subnet 10.75.0.0/24 --gateway 10.75.0.5 --aux-address a=10.75.0.5 na
        network create --subnet 10.76.0.0/24 --subnet 10.77.0.0/24 na
        network create --subnet 10.70.0.0/24 --ip-range 10.70.0.128/25 --gateway 10.70.0.9 --aux-address a=10.70.0.5 na
        network inspect -f '{{json .IPAM}}' na
        network rm na
        network create --ipv6 --subnet fd00:9::1/64 na
        network create --ipv6 --subnet 10.78.0.0/24 --subnet fd00:78::/64 --gateway fd00:78::5 na
        network inspect -f '{{.EnableIPv6}} {{json .IPAM}}' na
        network rm na
        network create --subnet 10.78.0.0/24 --subnet fd00:78::/64 na
        network inspect -f '{{.EnableIPv6}} {{json .IPAM}}' na
        # A family that it does not have: an address of it may be asked for, and is not given.
        run -d --name nac --network na --ip6 fd00:78::5 busybox sleep 1000
        inspect -f '{{range .NetworkSettings.Networks}}{{json .IPAMConfig}} {{.GlobalIPv6Address}}{{end}}' nac
        network disconnect na nac
        network connect --ip6 fd00:79::5 na nac
        network connect --ip6 fd00:78::6 na nac
        inspect -f '{{range .NetworkSettings.Networks}}{{json .IPAMConfig}} {{.GlobalIPv6Address}}{{end}}' nac
        rm -f nac
        network rm na
        network create --ipv6 --subnet 10.79.0.0/24 --subnet fe80::/80 na
        network create --ipv6 --subnet 10.80.0.0/24 --subnet ff02::/64 na
        network create --subnet 0.0.0.0/0 na
        ",
    );
}

#[test]
fn options_of_bridges() {
    same(
        "options_of_bridges",
        r"
        network create --subnet 10.81.0.0/24 -o com.docker.network.bridge.name=named nb
        network create --subnet 10.82.0.0/24 -o com.docker.network.bridge.name=waytoolongbridgename nc
        network rm nb
        network create --subnet 10.82.1.0/24 -o com.docker.network.bridge.name=lo nb
        network create --subnet 10.82.2.0/24 -d macvlan -o parent=eth7 nb
        network create --subnet 10.82.3.0/24 -d ipvlan -o parent=eth7.10 nb
        network create --subnet 10.82.4.0/24 -d macvlan -o parent=docker0.x nb
        network create --subnet 10.82.5.0/24 -d macvlan -o parent=docker0.4095 nb
        network create --subnet 10.82.6.0/24 -d macvlan -o parent=docker0.1.2 nb
        network create --subnet 10.82.7.0/24 -d macvlan -o parent=lo nb
        network create --subnet 10.82.8.0/24 -d ipvlan -o parent=lo nb
        network create --subnet 10.83.0.0/24 -o com.docker.network.bridge.enable_icc=x nb
        network create --subnet 10.84.0.0/24 -o com.docker.network.bridge.enable_ip_masquerade=x nb
        network create --subnet 10.85.0.0/24 -o com.docker.network.bridge.host_binding_ipv4=x nb
        network create --subnet 10.86.0.0/24 -o com.docker.network.driver.mtu=x nb
        network create --subnet 10.87.0.0/24 -o com.docker.network.driver.mtu=-1 nb
        network create --subnet 10.88.0.0/24 -o com.docker.network.driver.mtu=70000 nb
        network create --subnet 10.89.0.0/24 -o com.docker.network.bridge.gateway_mode_ipv4=x nb
        network create --subnet 10.90.0.0/24 -o com.docker.network.bridge.gateway_mode_ipv4=isolated nb
        network create --subnet 10.91.0.0/24 -o com.docker.network.bridge.inhibit_ipv4=z nb
        network create --subnet 10.92.0.0/24 -o com.docker.network.enable_ipv6=x nb
        network create --subnet 10.93.0.0/24 -o com.docker.network.enable_ipv4=0 nb
        network create --subnet 10.94.0.0/24 -o com.docker.network.host_ipv4=x nb
        network create --subnet 10.95.0.0/24 -o com.docker.network.bridge.enable_icc=false -o com.docker.network.driver.mtu=1400 nb
        network inspect -f '{{json .Options}}' nb
        network rm nb
        network create --subnet 10.100.0.0/24 --internal -o com.docker.network.bridge.gateway_mode_ipv4=isolated --aux-address a=10.100.0.1 nb
        network inspect -f '{{json .IPAM}}' nb
        run --rm --network nb busybox sh -c 'ip -4 -o addr show dev eth0 scope global; ip route'
        network rm nb
        network create --subnet 10.101.0.0/24 --gateway 10.101.0.9 --internal -o com.docker.network.bridge.gateway_mode_ipv4=isolated nb
        run --rm --network nb busybox sh -c 'ip -4 -o addr show dev eth0 scope global; ip route'
        network rm nb
        network create --subnet 10.102.0.0/24 --internal -o com.docker.network.bridge.inhibit_ipv4=true nb
        run --rm --network nb busybox sh -c 'ip -4 -o addr show dev eth0 scope global; ip route'
        network rm nb
        network create --subnet 10.103.0.0/24 --gateway 10.103.0.9 -o com.docker.network.bridge.inhibit_ipv4=true nb
        run --rm --network nb busybox sh -c 'ip -4 -o addr show dev eth0 scope global; ip route'
        network rm nb
        network create --subnet 10.104.0.0/24 -o com.docker.network.bridge.inhibit_ipv4=true --aux-address a=10.104.0.1 nb
        network create --subnet 10.105.0.0/24 -d ipvlan -o parent=docker0 -o ipvlan_mode=l3 --aux-address a=10.105.0.1 nb
        network inspect -f '{{json .IPAM}}' nb
        network rm nb
        network create --subnet 10.106.0.0/24 -d ipvlan -o parent=docker0 --aux-address a=10.106.0.1 nb
        ",
    );
}

#[test]
fn containers_that_do_not_run_are_in_networks() {
    same(
        "containers_that_do_not_run_are_in_networks",
        r"
        network create --subnet 10.50.0.0/24 net1
        network create --subnet 10.51.0.0/24 net2
        network create net3
        create --network nix --name c0 busybox true
        inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{json $e.IPAMConfig}} {{json $e.Links}} {{json $e.Aliases}} {{$e.MacAddress}} {{json $e.DriverOpts}} {{$e.GwPriority}} {{$e.NetworkID}} {{$e.EndpointID}} {{$e.IPAddress}} {{len $e.DNSNames}} {{if $e.DNSNames}}{{index $e.DNSNames 0}}{{end}};{{end}} {{.HostConfig.NetworkMode}}' c0
        start c0
        rm c0
        create --ip 1.2.3.4 busybox true
        create --network net1 --ip 10.50.1.4 --name c1 busybox true
        create --network net1 --ip bogus --name c1 busybox true
        create --network net3 --ip 10.50.0.9 --name c1 busybox true
        create --network net1 --ip6 fd00::1 --name c1 busybox true
        create --network bridge --network-alias q --name c1 busybox true
        create --network net1 --mac-address zz --name c1 busybox true
        create --network name=net1,driver-opt=com.docker.network.endpoint.sysctls=x --name c1 busybox true
        create --network net1 --ip 10.50.0.9 --network-alias al --mac-address 02:42:ac:11:00:99 --name c1 busybox true
        inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{json $e.IPAMConfig}} {{json $e.Links}} {{json $e.Aliases}} {{$e.MacAddress}} {{json $e.DriverOpts}} {{$e.GwPriority}} {{$e.NetworkID}} {{$e.EndpointID}} {{$e.IPAddress}} {{len $e.DNSNames}} {{if $e.DNSNames}}{{index $e.DNSNames 0}}{{end}};{{end}}' c1
        network connect net1 c1
        network connect --alias z --ip 1.2.3.4 net2 c1
        network connect --alias z --ip 10.51.0.4 net2 c1
        inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{json $e.IPAMConfig}} {{json $e.Links}} {{json $e.Aliases}} {{$e.MacAddress}} {{json $e.DriverOpts}} {{$e.GwPriority}} {{$e.NetworkID}} {{$e.EndpointID}} {{$e.IPAddress}} {{len $e.DNSNames}} {{if $e.DNSNames}}{{index $e.DNSNames 0}}{{end}};{{end}}' c1
        rename c1 c9
        inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{json $e.IPAMConfig}} {{json $e.Links}} {{json $e.Aliases}} {{$e.MacAddress}} {{json $e.DriverOpts}} {{$e.GwPriority}} {{$e.NetworkID}} {{$e.EndpointID}} {{$e.IPAddress}} {{len $e.DNSNames}} {{if $e.DNSNames}}{{index $e.DNSNames 0}}{{end}};{{end}}' c9
        network connect host c9
        network connect none c9
        network disconnect net3 c9
        network disconnect host c9
        network disconnect nix c9
        network disconnect -f nix c9
        network inspect -f '{{json .Containers}}' net1
        ps -a --filter network=net1 --format '{{.Names}}'
        ps -a --filter network=net3 --format '{{.Names}}'
        network disconnect net1 c9
        inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{json $e.IPAMConfig}} {{json $e.Links}} {{json $e.Aliases}} {{$e.MacAddress}} {{json $e.DriverOpts}} {{$e.GwPriority}} {{$e.NetworkID}} {{$e.EndpointID}} {{$e.IPAddress}} {{len $e.DNSNames}} {{if $e.DNSNames}}{{index $e.DNSNames 0}}{{end}};{{end}} {{.HostConfig.NetworkMode}}' c9
        network disconnect net1 c9
        network connect nix c9
        inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{json $e.IPAMConfig}} {{json $e.Links}} {{json $e.Aliases}} {{$e.MacAddress}} {{json $e.DriverOpts}} {{$e.GwPriority}} {{$e.NetworkID}} {{$e.EndpointID}} {{$e.IPAddress}} {{len $e.DNSNames}} {{if $e.DNSNames}}{{index $e.DNSNames 0}}{{end}};{{end}}' c9
        rm c9
        create --network net1 --network net2 --name c4 busybox true
        inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{json $e.IPAMConfig}} {{json $e.Links}} {{json $e.Aliases}} {{$e.MacAddress}} {{json $e.DriverOpts}} {{$e.GwPriority}} {{$e.NetworkID}} {{$e.EndpointID}} {{$e.IPAddress}} {{len $e.DNSNames}} {{if $e.DNSNames}}{{index $e.DNSNames 0}}{{end}};{{end}}' c4
        network rm net2
        rm c4
        create --name c2 busybox true
        network connect net1 c2
        network connect host c2
        network connect none c2
        network disconnect bridge c2
        inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{json $e.IPAMConfig}} {{json $e.Links}} {{json $e.Aliases}} {{$e.MacAddress}} {{json $e.DriverOpts}} {{$e.GwPriority}} {{$e.NetworkID}} {{$e.EndpointID}} {{$e.IPAddress}} {{len $e.DNSNames}} {{if $e.DNSNames}}{{index $e.DNSNames 0}}{{end}};{{end}} {{.HostConfig.NetworkMode}}' c2
        rm c2
        create --network host --name c3 busybox true
        network connect net1 c3
        network disconnect host c3
        rm c3
        create --network none --name c3 busybox true
        network connect net1 c3
        network disconnect none c3
        network connect net1 c3
        inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{json $e.IPAMConfig}} {{json $e.Links}} {{json $e.Aliases}} {{$e.MacAddress}} {{json $e.DriverOpts}} {{$e.GwPriority}} {{$e.NetworkID}} {{$e.EndpointID}} {{$e.IPAddress}} {{len $e.DNSNames}} {{if $e.DNSNames}}{{index $e.DNSNames 0}}{{end}};{{end}} {{.HostConfig.NetworkMode}}' c3
        rm c3
        create --network name=net1,driver-opt=com.docker.network.endpoint.ifname=foo0,gw-priority=5 --name c4 busybox true
        inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{json $e.IPAMConfig}} {{json $e.Links}} {{json $e.Aliases}} {{$e.MacAddress}} {{json $e.DriverOpts}} {{$e.GwPriority}} {{$e.NetworkID}} {{$e.EndpointID}} {{$e.IPAddress}} {{len $e.DNSNames}} {{if $e.DNSNames}}{{index $e.DNSNames 0}}{{end}};{{end}}' c4
        rm c4
        D --name runs busybox sleep 1000
        network connect net1 runs
        network connect nix runs
        network disconnect nix runs
        network disconnect net1 runs
        network inspect -f '{{len .Containers}}' net1
        rm -f runs
        create --network net1 --network host --name c5 busybox true
        ~start c5
        rm c5
        run -d --network host --name runs busybox sleep 1000
        network disconnect host runs
        network connect net1 runs
        rm -f runs
        network rm net1 net3
        ",
    );
}

#[test]
fn containers_that_run_are_in_networks() {
    same(
        "containers_that_run_are_in_networks",
        r"
        network create --subnet 10.52.0.0/24 run1
        network create --subnet 10.53.0.0/24 --internal run2
        run --rm --network run1 -h h --domainname d busybox cat /etc/hosts
        run --rm --network run1 busybox ip -4 -o addr show eth0 scope global
        run --rm --network run1 busybox ip route
        run --rm --network run2 busybox ip route
        run --rm --network run2 --network run1 busybox sh -c 'ip route | sed s/eth.//'
        run --rm --network name=run1,driver-opt=com.docker.network.endpoint.ifname=foo0 --mac-address 02:42:ac:11:00:99 busybox sh -c 'ip -o link show foo0 | grep -o link/ether.*'
        run --rm --network run1 --ip 10.52.0.1 busybox true
        run --rm --add-host b:1.2.3.4 --network none busybox cat /etc/hosts
        run -d --name r1 --network run1 --ip 10.52.0.7 --network-alias al busybox sleep 1000
        run --rm --name r2 --network run1 --ip 10.52.0.7 busybox true
        run --rm --network run1 busybox sh -c 'ping -c 1 -W 2 10.52.0.7 >/dev/null && echo yes'
        inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{json $e.IPAMConfig}} {{json $e.Aliases}} {{$e.Gateway}} {{$e.IPAddress}} {{$e.IPPrefixLen}} {{len $e.DNSNames}};{{end}}' r1
        network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}} {{.IPv6Address}}{{end}}' run1
        network connect --ip 10.53.0.9 run2 r1
        network connect run2 r1
        exec r1 ip -4 -o addr show eth1 scope global
        exec r1 ip route
        exec r1 grep -c 10.5 /etc/hosts
        run -d --name r3 --network run1 --ip 10.52.0.8 -h own --cap-add NET_ADMIN busybox sleep 1000
        exec r3 sh -c 'echo 9.9.9.9 mine >>/etc/hosts; echo >>/etc/hosts; ip route replace default via 10.52.0.77'
        network connect --ip 10.53.0.8 run2 r3
        exec r3 sh -c 'cat /etc/hosts; ip route'
        network disconnect run2 r3
        exec r3 sh -c 'cat /etc/hosts; ip route'
        network connect --ip 10.53.0.8 run2 r3
        network disconnect run1 r3
        exec r3 sh -c 'cat /etc/hosts; ip route'
        rm -f r3
        network ls --filter dangling=false --filter name=run --format '{{.Name}}'
        ps --filter network=run2 --format '{{.Names}}'
        network rm run3
        network disconnect run1 r1
        network disconnect run1 r1
        network disconnect -f run1 r1
        exec r1 ip route
        network connect host r1
        network connect none r1
        stop -t 0 r1
        inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{json $e.IPAMConfig}} {{$e.Gateway}} {{$e.IPAddress}} {{$e.MacAddress}}{{end}}' r1
        network rm run2
        ~ start r1
        network disconnect run2 r1
        rm r1
        network prune -f --filter label=none
        network rm run1
        ",
    );
}

#[test]
fn hardware_addresses_are_read_and_those_that_cannot_be_are_refused() {
    same(
        "hardware_addresses_are_read_and_those_that_cannot_be_are_refused",
        r"
        network create --subnet 10.54.0.0/24 cards
        run --rm --network cards --mac-address 0242.ac11.0098 busybox cat /sys/class/net/eth0/address
        run --rm --network cards --mac-address 02-42-AC-11-00-97 busybox cat /sys/class/net/eth0/address
        run --rm --network name=cards,mac-address=0242ac110096 busybox cat /sys/class/net/eth0/address
        create --name m1 --network cards --mac-address 01:00:5e:00:00:01 busybox true
        inspect -f '{{.Config.MacAddress}} {{.NetworkSettings.Networks.cards.MacAddress}}' m1
        start m1
        inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}' m1
        rm m1
        run --rm --name m2 --network cards --mac-address ff:ff:ff:ff:ff:ff busybox true
        run --rm --name m2 --network bridge --mac-address 00:00:00:00:00:00 busybox true
        run --rm --name m2 --network cards --mac-address 02:00:00:00:00:00:00:01 busybox true
        run --rm --name m2 --network cards --mac-address 0200.0000.0000.0001 busybox true
        run --rm --name m2 --network cards --mac-address 01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14 busybox true
        run --rm --name m2 --network none --mac-address 01:00:5e:00:00:01 busybox true
        run --rm --name m2 --network host --mac-address 01:00:5e:00:00:01 busybox true
        network rm cards
        ",
    );
}
