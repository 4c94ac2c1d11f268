//! What `docker run` gives a process, and how it fails.

use crate::script::same;

#[test]
fn run_and_its_failures() {
    same(
        "run_and_its_failures",
        r"
        R busybox echo hi
        R busybox sh -c 'echo out; echo err >&2; exit 3'
        R busybox missing
        # Debian 12's runc says that it is denied where later ones say that it is a directory.
        ~ R busybox /etc
        R busybox /etc/passwd
        R busybox /no/such/dir/prog
        R busybox ''
        R -w /not/there busybox pwd
        R -w relative busybox pwd
        R --user nobody-at-all busybox id
        R --user 1:nogroup-at-all busybox id
        R --user 1:2 busybox id
        R --user root:daemon busybox id
        R --user 0 busybox id
        R --user 4294967296 busybox id
        R --user -1 busybox id
        R --user 1000 --group-add 7 --group-add 5 busybox id
        R --group-add no-such-group busybox id
        R --entrypoint echo busybox a b
        R --entrypoint '' busybox echo plain
        R --entrypoint '' busybox
        R --entrypoint /bin/sh busybox -c 'echo $0 $1' x y
        R --entrypoint missing busybox
        R busybox stat -c '%n %A %u:%g %s %F' /.dockerenv
        R busybox sh -c 'ls -A / | sort'
        R busybox sh -c 'kill -9 $$'
        R busybox sh -c 'kill -TERM $$; sleep 1'
        R --pull never no-such-image:1 true
        R --pull sometimes busybox true
        R Upper/Case true
        R busybox:no:tag true
        R --name 'bad name' busybox true
        R --name x busybox true
        R --name -x busybox true
        R --no-such-flag busybox true
        R -m 4m busybox true
        R -m nonsense busybox true
        R -m 64m --memory-swap 32m busybox true
        R --memory-swap 64m busybox true
        R -m 64m --memory-reservation 128m busybox true
        R --cpus 1000 busybox true
        R --cpus 1 --cpu-period 1000 busybox true
        R --cpu-period 1 busybox true
        R --cpu-quota 1 busybox true
        R --cpuset-cpus 1000 busybox true
        R --cpuset-cpus x busybox true
        R --cpuset-mems 7 busybox true
        R --pids-limit -5 busybox true
        R --shm-size 8m busybox sh -c 'df -k /dev/shm | tail -1'
        R --shm-size -1 busybox true
        R --oom-score-adj 5000 busybox true
        R --oom-score-adj 300 busybox cat /proc/self/oom_score_adj
        R --restart always busybox true
        R --restart bogus busybox true
        R --restart no:3 busybox true
        R --restart on-failure:-1 busybox true
        R --stop-signal BOGUS busybox true
        R -p 70000:80 busybox true
        R -p nonsense busybox true
        R -v relative/path:/x busybox true
        R -v /tmp:relative busybox true
        R -v a:b:c:d busybox true
        R -v /:/ busybox true
        R -v vol:/x:bogus busybox true
        R --mount type=bogus,dst=/x busybox true
        # Not below a folder the host shares: that is what is said.
        ~ R --mount type=bind,src=/no/such/folder,dst=/x busybox true
        R --mount type=volume,dst=/x,volume-subpath=no busybox true
        R --mount type=tmpfs,dst=/x,tmpfs-size=1m busybox sh -c 'df -k /x | tail -1'
        R --tmpfs /t:size=2m,mode=1770 busybox sh -c 'df -k /t | tail -1; stat -c %a /t'
        R --tmpfs relative busybox true
        R --tmpfs /t:bogus=1 busybox true
        R --tmpfs /t:ro busybox touch /t/x
        R --read-only busybox touch /x
        R --read-only --tmpfs /t busybox touch /t/x
        R --device /dev/no-such busybox true
        R --device /dev/null:/dev/mynull busybox ls -l /dev/mynull
        R --device /dev/null:/dev/mynull:q busybox true
        R --security-opt bogus busybox true
        R --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status
        R --security-opt no-new-privileges=maybe busybox true
        R --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status
        R busybox grep Seccomp: /proc/self/status
        R --cap-drop ALL busybox grep Cap /proc/self/status
        R --cap-drop ALL --cap-add NET_BIND_SERVICE busybox grep Cap /proc/self/status
        R --cap-add SYS_ADMIN busybox grep Cap /proc/self/status
        R --cap-add cap_sys_admin busybox grep Cap /proc/self/status
        R --cap-add NOT_A_CAP busybox true
        R --cap-drop NOT_A_CAP busybox true
        R --user 1000 busybox grep Cap /proc/self/status
        R --sysctl net.ipv4.ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward
        R --sysctl kernel.bogus=1 busybox true
        R --sysctl nonsense busybox true
        R --ulimit nofile=1024:2048 busybox sh -c 'ulimit -Sn; ulimit -Hn'
        R --ulimit nofile=2048:1024 busybox true
        R --ulimit bogus=1 busybox true
        R --ulimit core=0 busybox sh -c 'ulimit -c'
        run --rm --network container:nobody busybox true
        R --ipc bogus busybox true
        R --ipc container:nobody busybox true
        R --pid bogus busybox true
        R --pid container:nobody busybox true
        R --uts bogus busybox true
        R --userns bogus busybox true
        R --cgroupns bogus busybox true
        R --runtime bogus busybox true
        R --log-driver bogus busybox true
        # Said by create already, not by start.
        ~ R --log-opt max-size=nonsense busybox true
        R --log-opt bogus=1 busybox true
        R --platform nonsense/x/y/z busybox true
        R --gpus all busybox true
        R --isolation hyperv busybox true
        R --volumes-from nobody busybox true
        R --storage-opt bogus=1 busybox true
        R --storage-opt bogus busybox true
        C --storage-opt SIZED=1 busybox true
        # Ours has a disk that can limit containers; the reference's file system cannot.
        ~ C --name sized --storage-opt size=1.5qb busybox true
        # Links are not there yet.
        ~ R --link nobody busybox true
        R --health-interval 1us --health-cmd true busybox true
        R --stop-timeout 5 busybox true
        R --cgroup-parent /x busybox true
        R --mac-address nonsense busybox true
        # Only the first of the three reasons.
        ~ R --ip nonsense busybox true
        R -it busybox true
        R -t busybox sh -c 'echo out; echo err >&2; tty; stty size'
        R -a stdout busybox sh -c 'echo out; echo err >&2'
        R -a stderr busybox sh -c 'echo out; echo err >&2'
        R -a stdin -i busybox cat <<< 'lost\n'
        run -a stdin -i --network none --name fed busybox sh -c 'wc -c; exit 3' <<< 'read to its end\n'
        logs fed
        rm fed
        R -a stdin -a stdout -i busybox cat <<< 'kept\n'
        R -a bogus busybox true
        R -i busybox cat <<< 'one\ntwo\n'
        R busybox cat <<< 'not read\n'
        R -i busybox sh -c 'read a; echo got $a' <<< 'one\ntwo\n'
        R --sig-proxy=false busybox echo quiet
        # Older clients are told by dockerd after the upgrade, by ours before it.
        ~ R --detach-keys bogus-keys busybox true
        R --detach-keys 'ctrl-x,x' -i busybox cat <<< 'x\n'
        run --rm -d --restart always busybox true
        ",
    );
}

#[test]
fn what_a_process_is_given() {
    same(
        "what_a_process_is_given",
        r"
        ! printf 'A=file\n# no\nB=two words\n\nHOME\n=bad\n' > bad.env
        ! printf 'A=file\n# no\nB=two words\n\nNOT_SET_ANYWHERE\n' > good.env
        ! printf 'l=file\n' > labels
        R -e A=1 -e B --hostname h busybox env
        R --env-file $DIR/good.env -e A=own --hostname h busybox env
        R --env-file $DIR/bad.env busybox env
        R --env-file $DIR/missing busybox env
        R -e '' busybox env
        R -e =x busybox env
        R -e PATH=/sbin busybox sh -c 'echo $PATH'
        R -t -e A=1 --hostname h busybox env
        R --user 1000 --hostname h busybox env
        R --user daemon --hostname h busybox env
        R -w /made/here --hostname h busybox sh -c 'pwd; stat -c %u:%g:%a /made'
        R -w /made/here --user 1000 busybox sh -c 'pwd; stat -c %u:%g:%a /made/here'
        R --hostname host --domainname example.org busybox sh -c 'hostname; hostname -f; cat /proc/sys/kernel/domainname; cat /etc/hostname'
        R --hostname 'not valid' busybox hostname
        R --hostname h.example.org busybox sh -c 'hostname; cat /etc/hosts'
        R --hostname h --add-host one:1.2.3.4 --add-host two=::1 busybox cat /etc/hosts
        R --add-host nonsense busybox true
        R --add-host one:nonsense busybox true
        R --dns 9.9.9.9 --dns-search example.org --dns-option ndots:3 busybox grep -v -e ^# -e ^$ /etc/resolv.conf
        R --dns nonsense busybox true
        R --dns-search . --dns 8.8.8.8 busybox grep -v -e ^# -e ^$ /etc/resolv.conf
        # `core` stands only where the kernel has /proc/kcore.
        R busybox sh -c 'ls -l /dev | grep -v kcore'
        R busybox sh -c 'ls -l /dev/pts /dev/mqueue /dev/shm'
        R busybox sh -c 'ls /proc/self/fd | wc -l'
        R busybox sh -c 'cat /proc/1/comm; stat -c \'%n %A %u %g\' / /proc /sys /dev /etc/hosts /etc/hostname /etc/resolv.conf'
        R busybox sh -c 'umask'
        R busybox sh -c 'cat /proc/self/oom_score_adj'
        R busybox sh -c 'echo 1 > /proc/sys/kernel/domainname'
        R busybox mount -t tmpfs x /mnt
        R busybox mknod /tmp/x c 1 3
        R busybox sh -c 'mknod /tmp/x b 8 0; cat /tmp/x'
        R busybox chown 1:1 /tmp
        R busybox hostname other
        # The reference has the capabilities of the machine it runs on.
        ~ R --privileged busybox grep Cap /proc/self/status
        R --privileged busybox sh -c 'mount -t tmpfs x /mnt && echo mounted'
        R --privileged busybox sh -c 'test -w /sys && echo x > /proc/sys/kernel/domainname && echo writable'
        R --pid host busybox sh -c 'test $(ls /proc | grep -c [0-9]) -gt 5 && echo many'
        R --ipc host busybox true
        R --ipc none busybox ls -ld /dev/shm /dev/pts /dev/mqueue
        R --ipc none -v /dev/shm busybox stat -c %a /dev/shm
        R --ipc none --tmpfs /dev/shm busybox grep -c /dev/shm /proc/mounts
        R --ipc private busybox ls -ld /dev/shm
        R --uts host --hostname x busybox true
        run --rm --network host --hostname x busybox hostname
        R -l a=b -l c --label-file $DIR/labels busybox true
        R -l '' busybox true
        R --cidfile $DIR/cid busybox true
        R --cidfile $DIR/cid busybox true
        R -v named:/data busybox sh -c 'ls -ld /data; echo x > /data/f'
        R -v named:/data:ro busybox sh -c 'cat /data/f; touch /data/g'
        R -v named:/data --tmpfs /data/t busybox sh -c 'ls /data'
        R -v /anonymous busybox sh -c 'stat -c %a /anonymous'
        R -v named:/data -v named:/data busybox true
        R --mount type=volume,src=named,dst=/data,readonly busybox touch /data/x
        R --mount type=volume,src=named,dst=/etc,volume-nocopy busybox ls /etc
        volume ls -q --filter name=named
        volume rm named
        ",
    );
}
