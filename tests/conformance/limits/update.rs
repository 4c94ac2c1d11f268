//! `docker update`, of a container that runs, one that does not and one that is paused.

use super::same;

#[test]
fn update_while_it_runs() {
    same(
        "update_while_it_runs",
        r"
        D --name up -m 64m busybox sleep 1000
        update -m 128m up
        update -m 256m up
        update -m 128m --memory-swap 256m up
        exec up LOOK
        update -m 100m --memory-reservation 32m --cpu-shares 512 --pids-limit 10 --cpuset-cpus 0 --cpuset-mems 0 up
        exec up LOOK
        update --cpus 0.5 up
        exec up cat /sys/fs/cgroup/cpu.max
        update --cpu-quota 20000 up
        update --cpu-period 20000 up
        update --cpus 1.5 up
        update --cpus 7 up
        exec up cat /sys/fs/cgroup/cpu.max
        update -m 1m up
        update --memory-reservation 500m up
        update --cpuset-cpus 0-1 up
        update --cpuset-cpus 9 up
        update --cpuset-mems 9 up
        exec up cat /sys/fs/cgroup/cpuset.cpus.effective
        update --pids-limit -1 up
        exec up cat /sys/fs/cgroup/pids.max
        update --pids-limit 0 up
        inspect -f '{{.HostConfig.PidsLimit}}' up
        update --blkio-weight 5 up
        update --kernel-memory 64m up
        update --cpu-rt-period 1000 up
        update --restart always -m 90m up
        inspect -f '{{json .HostConfig}}' up
        exec up LOOK
        update up
        update
        pause up
        update -m 80m up
        unpause up
        exec up cat /sys/fs/cgroup/memory.max
        # Said by runc there, after an event.
        ~ update --memory-swap 10m up
        rm -f up
        # In force at once with ours, from the next start with dockerd.
        + D --name swaps -m 64m busybox sleep 1000
        + update --memory-swap -1 swaps
        + inspect -f '{{.HostConfig.MemorySwap}}' swaps
        + stop -t 0 swaps
        + start swaps
        + exec swaps cat /sys/fs/cgroup/memory.swap.max
        + rm -f swaps
        D --name quota --cpu-period 50000 --cpu-quota 25000 busybox sleep 1000
        update --cpus 1 quota
        update --cpu-quota 10000 quota
        exec quota cat /sys/fs/cgroup/cpu.max
        update --cpu-period 20000 quota
        exec quota cat /sys/fs/cgroup/cpu.max
        update --cpu-quota -1 quota
        exec quota cat /sys/fs/cgroup/cpu.max
        update -m 6m quota
        update -m 6m --memory-swap 6m quota
        exec quota sh -c 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.swap.max'
        rm -f quota
        run -d --rm --name gone --network none busybox sleep 1000
        update --restart always gone
        update --restart no gone
        rm -f gone
        update -m 64m nobody
        ",
    );
}

#[test]
fn update_while_it_does_not_run() {
    same(
        "update_while_it_does_not_run",
        r"
        C --name still busybox sleep 1000
        update -m 64m still
        update -m 64m --memory-swap 128m --cpus 0.5 --pids-limit 30 --cpuset-cpus 1 --cpu-shares 100 --memory-reservation 10m still
        update --cpu-quota 5000 still
        update --pids-limit -5 still
        update --restart on-failure:3 still
        update --restart bogus still
        inspect -f '{{json .HostConfig}}' still
        start still
        exec still LOOK
        stop -t 0 still
        update -m 32m --pids-limit 40 still
        start still
        exec still LOOK
        rm -f still
        C --name one busybox true
        C --name two busybox true
        update --cpu-shares 7 one nobody two
        inspect -f '{{.HostConfig.CpuShares}}' one two
        rm one two
        ",
    );
}
