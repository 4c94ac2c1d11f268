//! `docker stats`: what a container uses, now and each second.
//!
//! Called by the API. Everyone who watches a container is served by one sampler, a task that is
//! there while anybody watches and reads the container's group once a second; nobody else pays
//! anything. A sampler never keeps a container or the engine from anything.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::clock::Timestamp;
use crate::containers::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};

pub use lighter_runtime::Stats;

/// From one sample to the next.
const EVERY: Duration = Duration::from_secs(1);
/// Samples a watcher may be behind; it loses the oldest.
const BEHIND: usize = 4;

/// What a container had used at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The moment.
    pub read: Timestamp,
    /// The counters of its group.
    pub group: Stats,
    /// Processor time of the whole machine, idle time included, in nanoseconds.
    pub machine_cpu_ns: u64,
    /// Processors of the machine.
    pub cpus: u64,
    /// Memory of the machine in bytes.
    pub machine_memory: u64,
    /// What passed its interfaces, by their names in the container.
    pub interfaces: BTreeMap<String, Interface>,
}

/// What passed an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interface {
    /// To the container.
    pub received: Passed,
    /// From it.
    pub sent: Passed,
}

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were broken.
    pub errors: u64,
    /// Packets that nobody took.
    pub dropped: u64,
}

/// A sample; nothing if the container did not run.
pub type Sample = Option<Arc<Usage>>;

/// The samplers at work, by container.
#[derive(Default)]
pub(crate) struct Samplers(Mutex<HashMap<String, broadcast::Sender<Sample>>>);

impl Samplers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, broadcast::Sender<Sample>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// What a container has used by now.
    ///
    /// # Errors
    ///
    /// A container that does not run, or one whose group cannot be read.
    pub fn container_usage(&self, container: &Container) -> Result<Usage> {
        let live = self.running(container)?;
        let failed = |error| Error::internal("the container's usage cannot be read", error);
        let group = live
            .cgroup
            .stats()
            .map_err(|error| failed(std::io::Error::other(error)))?;
        let stat = std::fs::read_to_string("/proc/stat").map_err(failed)?;
        let (machine_cpu_ns, cpus) = processors(&stat);
        Ok(Usage {
            read: Timestamp::now(),
            group,
            machine_cpu_ns,
            cpus,
            machine_memory: crate::info::memory_total().map_err(failed)?,
            interfaces: self.interfaces(container, live.pid),
        })
    }

    /// Those that are its places in networks; of a container that shares another's, the other's.
    fn interfaces(&self, container: &Container, pid: i32) -> BTreeMap<String, Interface> {
        let record = container.record();
        // Of the container whose network it shares, if it does.
        let owner = self.containers().find(&self.files_owner(&record)).ok();
        let run = owner.as_deref().unwrap_or(container).state().run;
        let is_place = |name: &str| run.places.values().any(|place| place.interface == name);
        // One that has just ended has none any more.
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
        let mut all = interfaces(&text);
        all.retain(|name, _| is_place(name));
        all
    }

    /// A sample of `container` each second, until it is removed.
    pub fn watch_usage(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> broadcast::Receiver<Sample> {
        let mut samplers = self.samplers().lock();
        if let Some(sampler) = samplers.get(container.id()) {
            return sampler.subscribe();
        }
        let (sampler, receiver) = broadcast::channel(BEHIND);
        samplers.insert(container.id().to_owned(), sampler.clone());
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move { engine.sample(&container, &sampler).await });
        receiver
    }

    async fn sample(&self, container: &Container, sampler: &broadcast::Sender<Sample>) {
        let mut watch = container.watch();
        loop {
            let usage = self.container_usage(container).ok();
            // Whether there is anybody left is asked below, where nobody can come in between.
            let _ = sampler.send(usage.map(Arc::new));
            let removed = watch.wait_for(|state| state.removed);
            let removed = tokio::time::timeout(EVERY, removed).await.is_ok();
            let mut samplers = self.samplers().lock();
            if removed || sampler.receiver_count() == 0 {
                samplers.remove(container.id());
                return;
            }
        }
    }
}

/// Time of all processors in nanoseconds, and how many there are. As dockerd counts it: without
/// what a host took away, and without guests.
fn processors(stat: &str) -> (u64, u64) {
    const TICK_NS: u64 = 10_000_000;
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let ticks = all.unwrap_or_default().split_ascii_whitespace().take(7);
    let ticks: u64 = ticks.filter_map(|text| text.parse::<u64>().ok()).sum();
    let is_one = |line: &&str| {
        let rest = line.strip_prefix("cpu");
        rest.is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
    };
    let count = stat.lines().filter(is_one).count();
    (ticks * TICK_NS, count as u64)
}

/// The interfaces of `net/dev` (proc_pid_net(5)): sixteen numbers each, the first half what was received.
fn interfaces(text: &str) -> BTreeMap<String, Interface> {
    let of = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers = numbers.split_ascii_whitespace().map(str::parse::<u64>);
        let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().ok()?;
        let passed = |half: &[u64]| match *half {
            [bytes, packets, errors, dropped, ..] => Some(Passed {
                bytes,
                packets,
                errors,
                dropped,
            }),
            _ => None,
        };
        let interface = Interface {
            received: passed(numbers.get(..8)?)?,
            sent: passed(numbers.get(8..)?)?,
        };
        Some((name.trim().to_owned(), interface))
    };
    text.lines().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_with_both_their_ways() {
        let text = "Inter-|   Receive                    |  Transmit\n \
                    face |bytes packets errs drop|bytes\n    \
                    lo:  100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0\n\
                    foo.1@2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  bad: 1 2 x\n";
        let all = interfaces(text);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["foo.1@2", "lo"]);
        let passed = |bytes, packets, errors, dropped| Passed {
            bytes,
            packets,
            errors,
            dropped,
        };
        assert_eq!(
            all["foo.1@2"],
            Interface {
                received: passed(1, 2, 3, 4),
                sent: passed(9, 10, 11, 12),
            }
        );
    }

    #[test]
    fn processors_are_counted_as_dockerd_counts_them() {
        let stat = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 0 0\nintr 5\n";
        assert_eq!(processors(stat), (280_000_000, 2));
    }
}
