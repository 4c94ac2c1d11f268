//! When memory or processes run out.

use super::same;

#[test]
fn memory_that_runs_out() {
    same(
        "memory_that_runs_out",
        r"
        run --name first --network none -m 16m --memory-swap 16m busybox tail /dev/zero
        inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}' first
        events --since 10m --until -1s --filter container=first --format '{{.Action}} {{.Actor.Attributes.exitCode}}'
        ps -a --filter name=^first$ --format '{{.State}}' --filter exited=137
        rm first
        # The first process outlives it: what runs out is a child's.
        D --name child -m 16m --memory-swap 16m busybox sleep 1000
        exec child cat /sys/fs/cgroup/memory.oom.group
        exec child tail /dev/zero
        # How often the kernel tried again before its victim had gone (`oom`) is chance.
        exec child sh -c 'grep -v -e ^max -e ^sock -e ^oom.[0-9] /sys/fs/cgroup/memory.events'
        inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Running}}' child
        stop -t 0 child
        inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}' child
        events --since 10m --until -1s --filter container=child --filter event=oom --filter event=die --filter event=start --filter event=kill --format '{{.Action}} {{.Actor.Attributes.exitCode}}'
        start child
        inspect -f '{{.State.Status}} {{.State.OOMKilled}}' child
        rm -f child
        + run --name handled --network none -m 16m --memory-swap 16m busybox sh -c 'tail /dev/zero; echo $?; exit 5'
        + inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}' handled
        + rm handled
        + D --name again --restart on-failure:1 -m 16m --memory-swap 16m busybox tail /dev/zero
        + wait again
        + events --since 10m --until -1s --filter container=again --filter event=oom --filter event=die --filter event=start --format '{{.Action}} {{.Actor.Attributes.exitCode}}'
        + rm -f again
        ",
    );
}

#[test]
fn processes_that_run_out() {
    same(
        "processes_that_run_out",
        r"
        R --pids-limit 20 busybox sh -c 'n=0; while [ $n -lt 30 ]; do sleep 1000 & n=$((n+1)); done; echo not reached'
        D --name full --pids-limit 20 busybox sh -c 'b() { b | b & }; b 2>/dev/null; while :; do read k v < /sys/fs/cgroup/pids.events; if [ $v -gt 0 ]; then echo hit; break; fi; done; read x < /dev/console'
        rm -f full
        D --name many --pids-limit 30 busybox sh -c 'n=0; while [ $n -lt 5 ]; do sleep 1000 & n=$((n+1)); done; wait'
        exec many sh -c 'until [ $(cat /sys/fs/cgroup/pids.current) -ge 7 ]; do :; done; cat /sys/fs/cgroup/pids.max'
        update --pids-limit 3 many
        update --pids-limit -1 many
        exec many cat /sys/fs/cgroup/pids.max
        rm -f many
        ",
    );
}

/// By ours alone: whether dockerd's runtime fails depends on how many threads it has by then.
#[test]
fn an_exec_beyond_the_limit_of_processes_is_refused() {
    let Some(beside) = super::beside("an_exec_beyond_the_limit_of_processes_is_refused") else {
        return;
    };
    let ours = beside.ours;
    let wait = "for n in 1 2 3 4 5; do sleep 1000 & done; wait";
    let run = [
        "run",
        "-d",
        "--name",
        "over",
        "--network",
        "none",
        "--pids-limit",
        "30",
    ];
    ours.docker(&[&run[..], &["busybox", "sh", "-c", wait]].concat())
        .ok();
    let there = "until [ $(cat /sys/fs/cgroup/pids.current) -ge 7 ]; do :; done";
    ours.docker(&["exec", "over", "sh", "-c", there]).ok();
    ours.docker(&["update", "--pids-limit", "3", "over"]).ok();
    let refused = ours.docker(&["exec", "over", "true"]);
    assert_eq!(refused.code, 128, "{}", refused.out());
    let why =
        "unable to start container process: start lighter-enter: resource temporarily unavailable";
    assert!(refused.out().contains(why), "{}", refused.out());
    ours.docker(&["rm", "-f", "over"]).ok();
}
