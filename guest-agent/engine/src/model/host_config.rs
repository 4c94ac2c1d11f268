//! How a container runs on this machine: the `HostConfig` of the API.

use std::collections::BTreeMap;

use super::{MountRequest, wire};

wire! {
    /// How a container runs on this machine.
    pub struct HostConfig {
        /// `source:destination[:options]`.
        pub binds: Option<Vec<String>>,
        /// Where the client wrote the id; kept for the round trip.
        #[serde(rename = "ContainerIDFile")]
        pub container_id_file: String,
        /// Log driver and its options.
        pub log_config: LogConfig,
        /// `bridge`, `host`, `none`, `container:ID` or a network's name.
        pub network_mode: String,
        /// Published ports by container port.
        pub port_bindings: Option<BTreeMap<String, Option<Vec<PortBinding>>>>,
        /// What happens after an exit.
        pub restart_policy: RestartPolicy,
        /// Remove the container when it exits.
        pub auto_remove: bool,
        /// Driver of volumes that name none.
        pub volume_driver: String,
        /// Containers whose mounts are taken over, `ID[:ro]`.
        pub volumes_from: Option<Vec<String>>,
        /// Mounts in the long form.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub mounts: Option<Vec<MountRequest>>,
        /// Rows and columns the terminal starts with.
        pub console_size: (u32, u32),
        /// Annotations for the runtime.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub annotations: Option<BTreeMap<String, String>>,
        /// Capabilities added.
        pub cap_add: Option<Vec<String>>,
        /// Capabilities taken away.
        pub cap_drop: Option<Vec<String>>,
        /// `private` or `host`.
        pub cgroupns_mode: String,
        /// Name servers.
        pub dns: Option<Vec<String>>,
        /// Resolver options.
        pub dns_options: Option<Vec<String>>,
        /// Search domains.
        pub dns_search: Option<Vec<String>>,
        /// `host:address` for /etc/hosts.
        pub extra_hosts: Option<Vec<String>>,
        /// Further groups of the first process.
        pub group_add: Option<Vec<String>>,
        /// `private`, `shareable`, `host`, `none` or `container:ID`.
        pub ipc_mode: String,
        /// The cgroup to join; kept for the round trip.
        pub cgroup: String,
        /// Legacy links.
        pub links: Option<Vec<String>>,
        /// Preference of the out-of-memory killer.
        pub oom_score_adj: i32,
        /// `""`, `host` or `container:ID`.
        pub pid_mode: String,
        /// No walls but the namespaces.
        pub privileged: bool,
        /// Publish every exposed port.
        pub publish_all_ports: bool,
        /// The root file system cannot be written.
        pub readonly_rootfs: bool,
        /// `seccomp=…`, `no-new-privileges`, ….
        pub security_opt: Option<Vec<String>>,
        /// Options of the storage driver.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub storage_opt: Option<BTreeMap<String, String>>,
        /// Temporary file systems, path to options.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tmpfs: Option<BTreeMap<String, String>>,
        /// `""` or `host`.
        #[serde(rename = "UTSMode")]
        pub uts_mode: String,
        /// `""` or `host`.
        pub userns_mode: String,
        /// Size of /dev/shm in bytes.
        pub shm_size: i64,
        /// Kernel settings.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub sysctls: Option<BTreeMap<String, String>>,
        /// The runtime's name.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub runtime: String,
        /// Windows only; kept for the round trip.
        pub isolation: String,
        /// Relative weight of CPU time.
        pub cpu_shares: i64,
        /// Memory limit in bytes.
        pub memory: i64,
        /// CPU limit in billionths of a CPU.
        pub nano_cpus: i64,
        /// Parent of the container's cgroup.
        pub cgroup_parent: String,
        /// Relative weight of block I/O.
        pub blkio_weight: u16,
        /// The same for single devices.
        pub blkio_weight_device: Option<Vec<BlkioWeightDevice>>,
        /// Read limits in bytes a second.
        pub blkio_device_read_bps: Option<Vec<BlkioThrottleDevice>>,
        /// Write limits in bytes a second.
        pub blkio_device_write_bps: Option<Vec<BlkioThrottleDevice>>,
        /// Read limits in operations a second.
        #[serde(rename = "BlkioDeviceReadIOps")]
        pub blkio_device_read_iops: Option<Vec<BlkioThrottleDevice>>,
        /// Write limits in operations a second.
        #[serde(rename = "BlkioDeviceWriteIOps")]
        pub blkio_device_write_iops: Option<Vec<BlkioThrottleDevice>>,
        /// Length of a CPU period in microseconds.
        pub cpu_period: i64,
        /// CPU time in each period in microseconds.
        pub cpu_quota: i64,
        /// Real-time period in microseconds.
        pub cpu_realtime_period: i64,
        /// Real-time share of it in microseconds.
        pub cpu_realtime_runtime: i64,
        /// CPUs, `0-3,5`.
        pub cpuset_cpus: String,
        /// Memory nodes.
        pub cpuset_mems: String,
        /// Host devices.
        pub devices: Option<Vec<DeviceMapping>>,
        /// Rules for the device filter.
        pub device_cgroup_rules: Option<Vec<String>>,
        /// GPUs and the like.
        pub device_requests: Option<Vec<DeviceRequest>>,
        /// Kernel memory; kept for the round trip of older versions.
        #[serde(skip_serializing_if = "is_zero")]
        pub kernel_memory: i64,
        /// The same for TCP buffers.
        #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "is_zero")]
        pub kernel_memory_tcp: i64,
        /// Soft memory limit in bytes.
        pub memory_reservation: i64,
        /// Memory and swap together, -1 for no limit.
        pub memory_swap: i64,
        /// Kept for the round trip: cgroup 2 has none.
        pub memory_swappiness: Option<i64>,
        /// Kept for the round trip: cgroup 2 has none.
        pub oom_kill_disable: Option<bool>,
        /// A small init as process 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub init: Option<bool>,
        /// Limit of processes.
        pub pids_limit: Option<i64>,
        /// Resource limits.
        pub ulimits: Option<Vec<Ulimit>>,
        /// Windows only; kept for the round trip.
        pub cpu_count: i64,
        /// Windows only; kept for the round trip.
        pub cpu_percent: i64,
        /// Windows only; kept for the round trip.
        #[serde(rename = "IOMaximumIOps")]
        pub io_maximum_iops: u64,
        /// Windows only; kept for the round trip.
        #[serde(rename = "IOMaximumBandwidth")]
        pub io_maximum_bandwidth: u64,
        /// Paths hidden in the container; null means the default ones.
        pub masked_paths: Option<Vec<String>>,
        /// Paths that are read-only; null means the default ones.
        pub readonly_paths: Option<Vec<String>>,
    }
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

wire! {
    /// Log driver and its options.
    pub struct LogConfig {
        /// The driver; the engine's default if empty.
        #[serde(rename = "Type")]
        pub kind: String,
        /// Its options.
        pub config: BTreeMap<String, String>,
    }
}

wire! {
    /// What happens after an exit.
    pub struct RestartPolicy {
        /// `no`, `always`, `unless-stopped` or `on-failure`.
        pub name: String,
        /// Bound for `on-failure`; 0 for none.
        pub maximum_retry_count: i64,
    }
}

wire! {
    /// Where a port is published.
    pub struct PortBinding {
        /// Address on the host.
        pub host_ip: String,
        /// Port on the host; a free one if empty.
        pub host_port: String,
    }
}

wire! {
    /// A device of the machine in the container.
    pub struct DeviceMapping {
        /// Path on the machine.
        pub path_on_host: String,
        /// Path in the container.
        pub path_in_container: String,
        /// `rwm`.
        pub cgroup_permissions: String,
    }
}

wire! {
    /// A request for devices of a driver.
    pub struct DeviceRequest {
        /// Driver.
        pub driver: String,
        /// How many.
        pub count: i64,
        /// Which.
        #[serde(rename = "DeviceIDs")]
        pub device_ids: Option<Vec<String>>,
        /// What they must be able to do.
        pub capabilities: Option<Vec<Vec<String>>>,
        /// Options of the driver.
        pub options: Option<BTreeMap<String, String>>,
    }
}

wire! {
    /// One resource limit.
    pub struct Ulimit {
        /// Name, as `nofile`.
        pub name: String,
        /// Upper bound of the soft limit.
        pub hard: i64,
        /// In force.
        pub soft: i64,
    }
}

wire! {
    /// Weight of one block device.
    pub struct BlkioWeightDevice {
        /// Path of the device.
        pub path: String,
        /// 10 to 1000.
        pub weight: u16,
    }
}

wire! {
    /// Limit of one block device.
    pub struct BlkioThrottleDevice {
        /// Path of the device.
        pub path: String,
        /// Bytes or operations a second.
        pub rate: u64,
    }
}
