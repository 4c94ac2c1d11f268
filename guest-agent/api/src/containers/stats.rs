//! `GET /containers/{id}/stats`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use lighter_engine::containers::Container;
use lighter_engine::stats::{Interface, Sample, Stats, Usage};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use crate::body::{empty, ok, streamed, with_type};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

#[derive(Serialize, Default)]
struct Shape {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    read: String,
    preread: String,
    pids_stats: Pids,
    blkio_stats: Blkio,
    num_procs: u32,
    storage_stats: Empty,
    cpu_stats: Cpu,
    precpu_stats: Cpu,
    memory_stats: Memory,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    networks: BTreeMap<String, Network>,
}

#[derive(Serialize, Default)]
struct Empty {}

#[derive(Serialize, Default)]
struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

/// Only the first is there with cgroup 2.
#[derive(Serialize, Default)]
struct Blkio {
    io_service_bytes_recursive: Option<Vec<Entry>>,
    io_serviced_recursive: Option<Vec<Entry>>,
    io_queue_recursive: Option<Vec<Entry>>,
    io_service_time_recursive: Option<Vec<Entry>>,
    io_wait_time_recursive: Option<Vec<Entry>>,
    io_merged_recursive: Option<Vec<Entry>>,
    io_time_recursive: Option<Vec<Entry>>,
    sectors_recursive: Option<Vec<Entry>>,
}

#[derive(Serialize)]
struct Entry {
    major: u32,
    minor: u32,
    op: &'static str,
    value: u64,
}

#[derive(Serialize, Default, Clone)]
struct Cpu {
    cpu_usage: CpuUsage,
    #[serde(skip_serializing_if = "is_zero")]
    system_cpu_usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    online_cpus: u64,
    throttling_data: Throttling,
}

#[derive(Serialize, Default, Clone)]
struct CpuUsage {
    total_usage: u64,
    usage_in_kernelmode: u64,
    usage_in_usermode: u64,
}

#[derive(Serialize, Default, Clone)]
struct Throttling {
    periods: u64,
    throttled_periods: u64,
    throttled_time: u64,
}

#[derive(Serialize, Default)]
struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    stats: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "is_zero")]
    failcnt: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

#[derive(Serialize)]
struct Network {
    rx_bytes: u64,
    rx_packets: u64,
    rx_errors: u64,
    rx_dropped: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_errors: u64,
    tx_dropped: u64,
}

impl From<&Interface> for Network {
    fn from(interface: &Interface) -> Self {
        let Interface { received, sent } = interface;
        Self {
            rx_bytes: received.bytes,
            rx_packets: received.packets,
            rx_errors: received.errors,
            rx_dropped: received.dropped,
            tx_bytes: sent.bytes,
            tx_packets: sent.packets,
            tx_errors: sent.errors,
            tx_dropped: sent.dropped,
        }
    }
}

/// What dockerd tells of `memory.stat`.
const MEMORY: [&str; 31] = [
    "active_anon",
    "active_file",
    "anon",
    "anon_thp",
    "file",
    "file_dirty",
    "file_mapped",
    "file_writeback",
    "inactive_anon",
    "inactive_file",
    "kernel_stack",
    "pgactivate",
    "pgdeactivate",
    "pgfault",
    "pglazyfree",
    "pglazyfreed",
    "pgmajfault",
    "pgrefill",
    "pgscan",
    "pgsteal",
    "shmem",
    "slab",
    "slab_reclaimable",
    "slab_unreclaimable",
    "sock",
    "thp_collapse_alloc",
    "thp_fault_alloc",
    "unevictable",
    "workingset_activate",
    "workingset_nodereclaim",
    "workingset_refault",
];

/// Never, as it is written.
const NEVER: &str = "0001-01-01T00:00:00Z";

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "skip_serializing_if wants it"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

pub(super) async fn stats(call: &Call, name: &str) -> Answer {
    let stream = call.query.flag_or("stream", true);
    let once = call.version.since(41) && call.query.flag("one-shot");
    let container = call.engine.container(name)?;
    if stream && once {
        return Err(ApiError::bad_request(
            "cannot have stream=true and one-shot=true",
        ));
    }
    if !stream && !container.status().is_running() {
        return ok(&shape(&container, None));
    }
    if once {
        let usage = call.engine.container_usage(&container)?;
        let mut shape = shape(&container, Some(&usage));
        (shape.name, shape.id) = (String::new(), String::new());
        return ok(&shape);
    }
    let mut frames = Frames {
        samples: call.engine.watch_usage(&container),
        container,
        before: (NEVER.into(), Cpu::default()),
    };
    if !stream {
        // The first is what the second is compared with.
        frames.next().await;
        return match frames.next().await {
            Some(frame) => ok(&frame),
            None => Ok(empty(StatusCode::OK)),
        };
    }
    let (sender, chunks) = mpsc::channel(4);
    tokio::spawn(send(frames, sender));
    let body = streamed(chunks);
    Ok(with_type(StatusCode::OK, "application/json", body))
}

async fn send(mut frames: Frames, sender: mpsc::Sender<Bytes>) {
    loop {
        let frame = tokio::select! {
            frame = frames.next() => frame,
            () = sender.closed() => return,
        };
        let Some(Ok(mut line)) = frame.map(|frame| serde_json::to_vec(&frame)) else {
            return;
        };
        line.push(b'\n');
        if sender.send(line.into()).await.is_err() {
            return;
        }
    }
}

/// What one watcher gets: each frame has what the one before had of the processor.
struct Frames {
    container: Arc<Container>,
    samples: broadcast::Receiver<Sample>,
    before: (String, Cpu),
}

impl Frames {
    /// The next; nothing when the container is gone.
    async fn next(&mut self) -> Option<Shape> {
        let sample = loop {
            match self.samples.recv().await {
                Ok(sample) => break sample,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        };
        let mut frame = shape(&self.container, sample.as_deref());
        let now = (frame.read.clone(), frame.cpu_stats.clone());
        (frame.preread, frame.precpu_stats) = std::mem::replace(&mut self.before, now);
        Some(frame)
    }
}

fn shape(container: &Container, usage: Option<&Usage>) -> Shape {
    let mut shape = Shape {
        name: format!("/{}", container.name()),
        id: container.id().to_owned(),
        read: NEVER.into(),
        preread: NEVER.into(),
        ..Shape::default()
    };
    let Some(usage) = usage else { return shape };
    let group = &usage.group;
    shape.read = usage.read.to_string();
    shape.pids_stats = Pids {
        current: group.pids.current,
        limit: group.pids.max.unwrap_or(u64::MAX),
    };
    shape.blkio_stats.io_service_bytes_recursive = io(group);
    shape.cpu_stats = cpu(usage);
    let of = |name: &&'static str| (*name, group.memory.stat.get(*name).copied().unwrap_or(0));
    shape.memory_stats = Memory {
        usage: group.memory.current,
        stats: MEMORY.iter().map(of).collect(),
        failcnt: group.memory.ooms,
        limit: group
            .memory
            .max
            .unwrap_or(u64::MAX)
            .min(usage.machine_memory),
    };
    let interfaces = usage.interfaces.iter();
    shape.networks = interfaces
        .map(|(name, interface)| (name.clone(), interface.into()))
        .collect();
    shape
}

fn io(group: &Stats) -> Option<Vec<Entry>> {
    let entries = group.io.iter().flat_map(|device| {
        let entry = |op, value| Entry {
            major: device.major,
            minor: device.minor,
            op,
            value,
        };
        [
            entry("read", device.read_bytes),
            entry("write", device.write_bytes),
        ]
    });
    let entries: Vec<Entry> = entries.collect();
    (!entries.is_empty()).then_some(entries)
}

fn cpu(usage: &Usage) -> Cpu {
    let cpu = &usage.group.cpu;
    let ns = |microseconds: u64| microseconds.saturating_mul(1000);
    Cpu {
        cpu_usage: CpuUsage {
            total_usage: ns(cpu.usage_usec),
            usage_in_kernelmode: ns(cpu.system_usec),
            usage_in_usermode: ns(cpu.user_usec),
        },
        system_cpu_usage: usage.machine_cpu_ns,
        online_cpus: usage.cpus,
        throttling_data: Throttling {
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_time: ns(cpu.throttled_usec),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the reference answers for a container that does not run.
    const STOPPED: &str = r#"{"name":"/c1","id":"ed0c","read":"0001-01-01T00:00:00Z","preread":"0001-01-01T00:00:00Z","pids_stats":{},"blkio_stats":{"io_service_bytes_recursive":null,"io_serviced_recursive":null,"io_queue_recursive":null,"io_service_time_recursive":null,"io_wait_time_recursive":null,"io_merged_recursive":null,"io_time_recursive":null,"sectors_recursive":null},"num_procs":0,"storage_stats":{},"cpu_stats":{"cpu_usage":{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0},"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}},"precpu_stats":{"cpu_usage":{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0},"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}},"memory_stats":{}}"#;

    #[test]
    fn a_container_that_does_not_run_is_all_zeroes() {
        let shape = Shape {
            name: "/c1".into(),
            id: "ed0c".into(),
            read: NEVER.into(),
            preread: NEVER.into(),
            ..Shape::default()
        };
        assert_eq!(serde_json::to_string(&shape).unwrap(), STOPPED);
    }
}
