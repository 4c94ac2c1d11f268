//! QEMU's command line from a specification. Pure: descriptors are numbers here.

use std::os::fd::RawFd;

use serde_json::json;

use crate::sys::cmdline;
use crate::{Accelerator, VmSpec};

/// The serial line is there from the first instruction on.
const CONSOLE: &str = "console=ttyS0";

/// What is true of an emulated processor only: its local APIC counts nanoseconds (measuring that
/// takes the kernel 200 ms), and it does not speculate.
const CMDLINE_TCG: &[&str] = &[
    "lapic_timer_khz=1000000",
    "cpu_init_udelay=0",
    "mitigations=off",
];

/// All that the emulation knows, but for the word that copies of single bytes are fast: a kernel and a C library that
/// hear it copy by them, each of which is emulated by itself, and take thrice as long as with eight bytes at a time.
const CPU_TCG: &str = "max,erms=off,fsrm=off,fsrs=off";

/// The descriptors QEMU inherits.
#[derive(Clone, Debug, Default)]
pub struct Fds {
    /// The kernel, open for reading.
    pub kernel: RawFd,
    /// The initial file system, open for reading.
    pub initramfs: RawFd,
    /// One for each disk.
    pub disks: Vec<RawFd>,
    /// One for each disk that has a log, open for reading and writing.
    pub disk_logs: Vec<RawFd>,
    /// A connected vhost-user socket for each share.
    pub shares: Vec<RawFd>,
    /// The name of the network card's vhost-user socket: QEMU takes none that is connected already for this.
    pub network: Option<RawFd>,
    /// A connected vhost-user socket to our vsock device.
    pub vsock: RawFd,
    /// A connected socket for the serial console.
    pub console: RawFd,
    /// A connected socket for QEMU's own protocol.
    pub qmp: RawFd,
}

/// The arguments after the program's name.
///
/// `counter_khz` is how fast the processor's time-stamp counter counts, where that is known: an emulated processor has it.
pub fn arguments(
    spec: &VmSpec,
    accelerator: Accelerator,
    counter_khz: Option<u64>,
    fds: &Fds,
) -> Vec<String> {
    let mut args = Args::default();
    args.flag("-nodefaults")
        .flag("-no-user-config")
        .flag("-no-reboot");
    args.option("-display", "none").option("-name", "lighter");
    args.option(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
    // What a machine of ours does not have takes time to find at boot and is attack surface after.
    // The HPET alone takes a guest under emulation 120 ms to try out; the PM timer serves as well.
    args.option(
        "-machine",
        "q35,memory-backend=ram,usb=off,vmport=off,smbus=off,sata=off,hpet=off,graphics=off,dump-guest-core=off",
    );
    match accelerator {
        Accelerator::Kvm => args.option("-accel", "kvm").option("-cpu", "host"),
        // Translated code is kept in at most 128 MiB; by default it may take 1 GiB of the host.
        Accelerator::Tcg => args
            .option("-accel", "tcg,thread=multi,tb-size=128")
            .option("-cpu", CPU_TCG),
    };
    args.option("-smp", spec.cpus.to_string());
    let mib = spec.memory_bytes >> 20;
    args.option("-m", format!("{mib}M"));
    args.option(
        "-object",
        format!("memory-backend-memfd,id=ram,size={mib}M,share=on"),
    );
    args.option("-kernel", format!("/proc/self/fd/{}", fds.kernel));
    args.option("-initrd", format!("/proc/self/fd/{}", fds.initramfs));
    args.option("-append", command_line(spec, accelerator, counter_khz));
    args.option("-chardev", format!("socket,id=console,fd={}", fds.console));
    args.option("-serial", "chardev:console");
    args.option("-chardev", format!("socket,id=qmp,fd={}", fds.qmp));
    args.option("-mon", "chardev=qmp,mode=control");
    args.option("-chardev", format!("socket,id=vsock,fd={}", fds.vsock));
    args.option("-device", "vhost-user-vsock-pci,chardev=vsock");
    args.option("-object", "rng-builtin,id=rng")
        .option("-device", "virtio-rng-pci,rng=rng");
    // Memory the guest frees goes back to the host by itself.
    args.option(
        "-device",
        "virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on",
    );
    let mut logs = fds.disk_logs.iter();
    for (at, (disk, fd)) in spec.disks.iter().zip(&fds.disks).enumerate() {
        args.option("-add-fd", format!("fd={fd},set={}", at + 1));
        let log = disk.log.as_ref().and_then(|_| logs.next()).map(|fd| {
            let set = spec.disks.len() + at + 1;
            args.option("-add-fd", format!("fd={fd},set={set}"));
            set
        });
        args.option("-blockdev", block_device(at, disk.read_only, log));
        let device = format!("virtio-blk-pci,drive=disk{at},discard=on,write-zeroes=on");
        // A full host pauses the machine instead of failing the guest's write.
        let errors = if disk.read_only {
            ""
        } else {
            ",werror=stop,rerror=report"
        };
        args.option("-device", device + errors);
    }
    for (at, (share, fd)) in spec.shares.iter().zip(&fds.shares).enumerate() {
        args.option("-chardev", format!("socket,id=share{at},fd={fd}"));
        let device = format!(
            "vhost-user-fs-pci,chardev=share{at},tag={},queue-size=1024",
            share.tag
        );
        args.option("-device", device);
    }
    if let (Some(network), Some(fd)) = (spec.network, fds.network) {
        args.option("-chardev", format!("socket,id=net,path=/proc/self/fd/{fd}"));
        args.option("-netdev", "vhost-user,id=net,chardev=net");
        let mac = network.mac.map(|byte| format!("{byte:02x}")).join(":");
        // Without a boot ROM, and with rings in which large frames fit.
        args.option(
            "-device",
            format!("virtio-net-pci,netdev=net,mac={mac},romfile=,mrg_rxbuf=on,rx_queue_size=1024"),
        );
    }
    args.0
}

fn command_line(spec: &VmSpec, accelerator: Accelerator, counter_khz: Option<u64>) -> String {
    let mut words = vec![CONSOLE.to_owned()];
    if accelerator == Accelerator::Tcg {
        words.extend(CMDLINE_TCG.iter().map(ToString::to_string));
        // Documentation/admin-guide/kernel-parameters.txt: in place of measuring it.
        words.extend(counter_khz.map(|khz| format!("tsc_early_khz={khz}")));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    cmdline::of(&words, spec)
}

/// The disk, with the log of this set of descriptors between it and the machine, if there is one.
fn block_device(at: usize, read_only: bool, log: Option<usize>) -> String {
    let mut disk = json!({
        "driver": "raw",
        "read-only": read_only,
        "discard": "unmap",
        "detect-zeroes": "off",
        "cache": { "direct": false, "no-flush": false },
        "file": file(at + 1, "unmap", false),
    });
    if let Some(log) = log {
        disk = json!({
            "driver": "blklogwrites",
            "discard": "unmap",
            "detect-zeroes": "off",
            "cache": { "direct": false, "no-flush": false },
            "file": disk,
            // What is in it has to outlive the machine, not this host.
            "log": file(log, "ignore", true),
        });
    }
    disk["node-name"] = json!(format!("disk{at}"));
    disk.to_string()
}

/// The file of this set of descriptors, by the host's page cache.
fn file(set: usize, discard: &str, no_flush: bool) -> serde_json::Value {
    json!({
        "driver": "file",
        "filename": format!("/dev/fdset/{set}"),
        "aio": "threads",
        "discard": discard,
        "cache": { "direct": false, "no-flush": no_flush },
    })
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.to_owned());
        self
    }

    fn option(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.0.extend([name.to_owned(), value.into()]);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, DeviceNetwork, DeviceShare, Disk};

    fn spec() -> VmSpec {
        VmSpec {
            backend: Backend::Qemu,
            cpus: 3,
            memory_bytes: 768 << 20,
            huge_pages: false,
            kernel: "/home/ann/vmlinux".into(),
            initramfs: "/home/ann/initramfs".into(),
            cmdline_extra: vec!["lighter.debug".into()],
            disks: vec![Disk {
                path: "/home/ann/disk.img".into(),
                read_only: false,
                log: None,
            }],
            shares: vec![DeviceShare {
                tag: "lighter".into(),
            }],
            network: Some(DeviceNetwork {
                mac: [2, 0, 0, 0, 0xab, 1],
            }),
            console_log: "/home/ann/console.log".into(),
            console_limit: 65_536,
        }
    }

    #[test]
    fn command_line_names_no_file_of_the_user() {
        let fds = Fds {
            kernel: 11,
            initramfs: 12,
            disks: vec![13],
            disk_logs: Vec::new(),
            shares: vec![14],
            network: Some(18),
            vsock: 15,
            console: 16,
            qmp: 17,
        };
        for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
            let line = arguments(&spec(), accelerator, Some(2_596_201), &fds).join(" ");
            assert!(!line.contains("ann"), "{line}");
            for part in [
                "-smp 3",
                "-m 768M",
                "size=768M,share=on",
                "/proc/self/fd/11",
                "/proc/self/fd/12",
                "fd=13,set=1",
                "fd=14",
                "fd=15",
                "fd=16",
                "fd=17",
                "tag=lighter",
                "socket,id=net,path=/proc/self/fd/18",
                "mac=02:00:00:00:ab:01",
                "lighter.debug",
                "\"discard\":\"unmap\"",
                "\"detect-zeroes\":\"off\"",
                "spawn=deny",
            ] {
                assert!(line.contains(part), "{part} is not in {line}");
            }
            let told = line.contains("tsc_early_khz=2596201");
            assert_eq!(told, accelerator == Accelerator::Tcg, "{line}");
            for part in ["-netdev user", "-net ", "vnc", "-s "] {
                assert!(!line.contains(part), "{part} is in {line}");
            }
        }
    }

    /// GHSA-jmr4: a guest that writes another format's header to its disk makes it nothing else. The format
    /// is said, not looked for, for the disk and for the file below it, and no drive is left to guessing.
    #[test]
    fn ghsa_jmr4_every_disk_is_raw_and_nothing_is_detected() {
        let mut spec = spec();
        spec.disks.push(spec.disks[0].clone());
        let fds = Fds {
            disks: vec![13, 14],
            shares: vec![15],
            ..Fds::default()
        };
        let args = arguments(&spec, Accelerator::Tcg, None, &fds);
        let drives: Vec<serde_json::Value> = args
            .iter()
            .zip(args.iter().skip(1))
            .filter(|(flag, _)| *flag == "-blockdev")
            .map(|(_, value)| serde_json::from_str(value).unwrap())
            .collect();
        assert_eq!(drives.len(), 2);
        for drive in drives {
            assert_eq!(
                (&drive["driver"], &drive["file"]["driver"]),
                (&json!("raw"), &json!("file"))
            );
            assert_eq!(drive.get("backing"), None);
        }
        for word in ["-drive", "-hda", "-cdrom", "-snapshot", "format="] {
            assert!(!args.iter().any(|arg| arg.starts_with(word)), "{word}");
        }
        let devices: Vec<&String> = args.iter().filter(|arg| arg.contains("drive=")).collect();
        assert_eq!(devices.len(), 2, "{devices:?}");
    }

    #[test]
    fn a_log_is_between_its_disk_and_the_machine_and_other_disks_have_none() {
        let mut spec = spec();
        spec.disks.push(spec.disks[0].clone());
        spec.disks[1].log = Some("/home/ann/disk.log".into());
        let fds = Fds {
            disks: vec![13, 14],
            disk_logs: vec![16],
            shares: vec![15],
            ..Fds::default()
        };
        let args = arguments(&spec, Accelerator::Tcg, None, &fds);
        let values = |flag: &str| -> Vec<String> {
            let pairs = args.iter().zip(args.iter().skip(1));
            let of_flag = pairs.filter(|(name, _)| *name == flag);
            of_flag.map(|(_, value)| value.clone()).collect()
        };
        assert_eq!(
            values("-add-fd"),
            ["fd=13,set=1", "fd=14,set=2", "fd=16,set=4"]
        );
        let drives: Vec<serde_json::Value> = values("-blockdev")
            .iter()
            .map(|value| serde_json::from_str(value).unwrap())
            .collect();
        assert_eq!(drives[0]["driver"], "raw");
        let logged = &drives[1];
        assert_eq!(
            [&logged["driver"], &logged["node-name"]],
            ["blklogwrites", "disk1"]
        );
        let file = |drive: &serde_json::Value| drive["filename"].clone();
        assert_eq!(file(&logged["file"]["file"]), "/dev/fdset/2");
        assert_eq!(file(&logged["log"]), "/dev/fdset/4");
        assert!(!args.join(" ").contains("ann"));
    }

    #[test]
    fn read_only_disk_is_read_only_in_qemu() {
        let mut spec = spec();
        spec.disks[0].read_only = true;
        let fds = Fds {
            disks: vec![13],
            shares: vec![14],
            ..Fds::default()
        };
        let line = arguments(&spec, Accelerator::Tcg, None, &fds).join(" ");
        assert!(
            line.contains("\"read-only\":true") && !line.contains("werror"),
            "{line}"
        );
    }
}
