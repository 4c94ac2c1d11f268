//! What a virtual machine is made of, as plain data.
//!
//! Made by the daemon from its settings; carried to the machine process as JSON; read by the
//! backends. Paths are opened by the client ([`crate::Machine::launch`]) and travel as descriptors:
//! the machine process never opens one of these names.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The smallest memory a guest is given: below it the kernel and the engine do not fit.
pub const MIN_MEMORY: u64 = 128 << 20;
/// The most CPUs a guest is given, which is what our kernel is built for.
pub const MAX_CPUS: u32 = 64;
/// Most disks and shares of one machine; each is a device on the guest's bus.
pub const MAX_DEVICES: usize = 8;

/// Which backend is to run a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The best that this host can run.
    #[default]
    Auto,
    /// Our own monitor, which needs the Linux kernel's virtualisation.
    Kvm,
    /// QEMU.
    Qemu,
}

/// One virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSpec {
    /// Which backend is to run it.
    #[serde(default)]
    pub backend: Backend,
    /// Number of virtual CPUs, 1 to 64.
    pub cpus: u32,
    /// Guest memory in bytes; a whole number of MiB, at least 128 MiB.
    pub memory_bytes: u64,
    /// Whether our own monitor asks the host for huge pages (madvise(2), `MADV_HUGEPAGE`). QEMU always does.
    #[serde(default)]
    pub huge_pages: bool,
    /// The uncompressed kernel (`vmlinux` with a PVH entry on x86-64).
    pub kernel: PathBuf,
    /// The initial file system.
    pub initramfs: PathBuf,
    /// Words put at the end of the kernel's command line. Readable in every container: no secrets.
    #[serde(default)]
    pub cmdline_extra: Vec<String>,
    /// Block devices in the order in which the guest names them: the first is `/dev/vda`.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// virtio-fs devices, each served by a process that holds the other end of a socket.
    #[serde(default)]
    pub shares: Vec<DeviceShare>,
    /// A network card, served by a process that holds the other end of a socket.
    #[serde(default)]
    pub network: Option<DeviceNetwork>,
    /// The file that keeps the end of the guest's console.
    pub console_log: PathBuf,
    /// How many bytes of console are kept, at most 1 MiB.
    #[serde(default = "default_console_limit")]
    pub console_limit: u32,
}

/// A block device backed by a raw file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The raw file.
    pub path: PathBuf,
    /// Whether the guest may write.
    pub read_only: bool,
    /// A file that is made, and in which everything stands that is done to the disk, before the guest hears of it: in
    /// the form of the kernel's dm-log-writes. For tests of what a loss of power leaves; it makes the disk slow, and
    /// grows without bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
}

/// A virtio-fs device whose server is another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceShare {
    /// The tag the guest mounts.
    pub tag: String,
}

/// A network card whose other end is another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNetwork {
    /// Its hardware address.
    pub mac: [u8; 6],
}

fn default_console_limit() -> u32 {
    256 << 10
}

impl VmSpec {
    /// Checks every bound once; backends may rely on it afterwards.
    ///
    /// # Errors
    /// [`Error::Spec`] names the first field that is out of its bounds.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Spec(what));
        if !(1..=MAX_CPUS).contains(&self.cpus) {
            return wrong(format!(
                "cpus is {}, allowed are 1 to {MAX_CPUS}",
                self.cpus
            ));
        }
        if self.memory_bytes < MIN_MEMORY || !self.memory_bytes.is_multiple_of(1 << 20) {
            return wrong(format!(
                "memory is {} bytes, allowed are whole MiB from {}",
                self.memory_bytes,
                MIN_MEMORY >> 20
            ));
        }
        let devices = self.disks.len() + self.shares.len() + usize::from(self.network.is_some());
        if devices > MAX_DEVICES {
            return wrong(format!(
                "more than {MAX_DEVICES} disks, shares and network cards"
            ));
        }
        if self.disks.iter().any(|d| d.read_only && d.log.is_some()) {
            return wrong("a disk that is only read has a log of what is done to it".into());
        }
        if !(4096..=1 << 20).contains(&self.console_limit) {
            return wrong(format!(
                "console limit is {}, allowed are 4 KiB to 1 MiB",
                self.console_limit
            ));
        }
        if self
            .cmdline_extra
            .iter()
            .any(|w| w.is_empty() || w.contains(|c: char| !c.is_ascii_graphic()))
        {
            return wrong("a word of the kernel's command line is empty or not printable".into());
        }
        let tag_ok = |t: &str| {
            (1..36).contains(&t.len())
                && t.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if let Some(share) = self.shares.iter().find(|s| !tag_ok(&s.tag)) {
            return wrong(format!(
                "share tag `{}` is not 1 to 35 of a-z, 0-9, `-`, `_`, `.`",
                share.tag
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> VmSpec {
        VmSpec {
            backend: Backend::Qemu,
            cpus: 2,
            memory_bytes: 512 << 20,
            huge_pages: false,
            kernel: "vmlinux".into(),
            initramfs: "initramfs".into(),
            cmdline_extra: vec!["lighter.debug".into()],
            disks: vec![Disk {
                path: "disk.img".into(),
                read_only: false,
                log: Some("disk.log".into()),
            }],
            shares: vec![DeviceShare {
                tag: "lighter".into(),
            }],
            network: Some(DeviceNetwork {
                mac: [2, 0, 0, 0, 0, 1],
            }),
            console_log: "console.log".into(),
            console_limit: default_console_limit(),
        }
    }

    #[test]
    fn ordinary_spec_is_valid_and_survives_json() {
        let spec = spec();
        spec.validate().unwrap();
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<VmSpec>(&text).unwrap(), spec);
    }

    #[test]
    fn bounds_are_refused_by_name() {
        type Change = fn(&mut VmSpec);
        let cases: [(Change, &str); 8] = [
            (|s| s.cpus = 0, "cpus"),
            (|s| s.cpus = 65, "cpus"),
            (|s| s.memory_bytes = 64 << 20, "memory"),
            (|s| s.memory_bytes += 1, "memory"),
            (|s| s.disks[0].read_only = true, "log"),
            (|s| s.console_limit = 2 << 20, "console limit"),
            (|s| s.cmdline_extra = vec!["a b".into()], "command line"),
            (|s| s.shares[0].tag = "a,b=c".into(), "share tag"),
        ];
        for (change, word) in cases {
            let mut spec = spec();
            change(&mut spec);
            let error = spec.validate().unwrap_err().to_string();
            assert!(error.contains(word), "{error} does not name {word}");
        }
    }
}
