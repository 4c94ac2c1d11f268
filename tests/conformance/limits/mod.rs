//! What limits come to: our engine beside a dockerd that runs inside the same machine, on the same kernel and with
//! every controller of control groups 2.
//!
//! The reference beside the system (`crate::both`) is left out here: the system it runs on may have version 1.

mod devices;
mod groups;
mod memory;
mod stats;
mod update;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use lighter_tests::{Host, Inner, env, inner};

use crate::script::{self, Pair};

/// What a group is like, as seen by who is in it. The depth is bounded by ours alone.
const LOOK: &str = "sh -c 'cd /sys/fs/cgroup && grep -H . memory.max memory.swap.max memory.low memory.high \
    memory.min memory.oom.group cpu.max cpu.weight cpu.idle cpu.max.burst pids.max io.max cpuset.cpus \
    cpuset.cpus.effective cpuset.mems cpuset.cpus.partition hugetlb.2MB.max cgroup.type cgroup.controllers \
    cgroup.subtree_control cgroup.max.descendants'";

/// Both engines in one machine.
struct Beside {
    ours: &'static Host,
    dockerd: Mutex<Inner>,
}

impl Beside {
    fn dockerd(&self) -> MutexGuard<'_, Inner> {
        self.dockerd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn beside(test: &str) -> Option<&'static Beside> {
    static BESIDE: OnceLock<Option<Beside>> = OnceLock::new();
    let beside = BESIDE.get_or_init(|| {
        let ours = Host::shared(test)?;
        let image = inner::image(test)?;
        let docker = env::path(env::DOCKER)?;
        let dockerd = Inner::start(&ours.socket(), &docker, &image);
        let archive = ours.home().join("inner-busybox.tar");
        let name = archive.display().to_string();
        ours.docker(&["save", "-o", &name, "busybox"]).ok();
        dockerd.docker(&["load", "-i", &name]).ok();
        Some(Beside {
            ours,
            dockerd: Mutex::new(dockerd),
        })
    });
    if beside.is_none() {
        env::skip(test, "there is no dockerd inside a machine");
    }
    beside.as_ref()
}

/// Runs the same lines on both and compares each answer; `LOOK` stands for [`LOOK`]. Lines that begin with `+` are
/// left to long runs: in an emulated machine dockerd takes seconds for a start.
fn same(test: &str, lines: &str) {
    let Some(beside) = beside(test) else { return };
    let all = env::count(1, 2) > 1;
    let lines: Vec<&str> = lines
        .lines()
        .filter_map(|line| match line.trim().strip_prefix('+') {
            Some(line) => all.then_some(line),
            None => Some(line),
        })
        .collect();
    let lines = lines.join("\n").replace("LOOK", LOOK);
    let dockerd = beside.dockerd();
    let home = beside.ours.home().join("limits");
    let pair = Pair {
        home: Path::new(&home),
        ours: &|words, input| beside.ours.docker_with(words, input),
        dockerd: &|words, input| dockerd.docker_with(words, input),
    };
    script::compare(&pair, &lines);
}
