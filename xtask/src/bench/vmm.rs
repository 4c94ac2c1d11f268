//! Our own monitor beside QEMU's board microvm, both on KVM, in the outer machine of the nested tests.
//!
//! `host/machine/benches/monitors.rs` does it there and prints `row NAME SIDE NUMBER`; here the lines become rows. Every
//! number is that of a machine which is emulated itself: what they say is how the sides compare.

use anyhow::{Context, Result, ensure};

use super::Row;
use super::samples::Samples;
use crate::nested;

/// How the program names the sides.
const OURS: &str = "kvm";
const PEER: &str = "microvm";
/// Its other board's firmware ends the kernel of an outer machine that is emulated itself.
const PEER_NAME: &str = "QEMU's board microvm, on KVM";
/// What memory that is shared is measured against.
const PRIVATE: &str = "private memory";

/// One number of the program.
struct Value {
    /// As it prints it.
    printed: &'static str,
    /// The row's name.
    name: &'static str,
    what: &'static str,
    unit: &'static str,
}

const VALUES: [Value; 14] = [
    Value {
        printed: "boot",
        name: "vmm/boot",
        what: "from asking for a machine until an init of one program listens",
        unit: "ms",
    },
    Value {
        printed: "boot-exits",
        name: "vmm/boot-exits",
        what: "how often KVM left the guest until then",
        unit: "",
    },
    Value {
        printed: "memory",
        name: "vmm/memory",
        what: "resident beside the guest's memory, 5 s later",
        unit: "MiB",
    },
    Value {
        printed: "touch",
        name: "vmm/touch",
        what: "first touch of 64 MiB, as guests have it (a sealed file that processes share)",
        unit: "ms",
    },
    Value {
        printed: "idle",
        name: "vmm/idle",
        what: "processor time of the host while nothing happens",
        unit: "ms a second",
    },
    Value {
        printed: "idle-exits",
        name: "vmm/idle-exits",
        what: "how often KVM left the guest while nothing happened",
        unit: "1/s",
    },
    Value {
        printed: "vsock-in",
        name: "vmm/vsock-in",
        what: "one stream into the guest",
        unit: "MB/s",
    },
    Value {
        printed: "vsock-in-exits",
        name: "vmm/vsock-in-exits",
        what: "how often KVM left the guest meanwhile",
        unit: "a MB",
    },
    Value {
        printed: "vsock-out",
        name: "vmm/vsock-out",
        what: "one stream out of the guest",
        unit: "MB/s",
    },
    Value {
        printed: "vsock-out-exits",
        name: "vmm/vsock-out-exits",
        what: "how often KVM left the guest meanwhile",
        unit: "a MB",
    },
    Value {
        printed: "vsock-latency",
        name: "vmm/vsock-latency",
        what: "one byte there and back",
        unit: "us",
    },
    Value {
        printed: "echo-exits",
        name: "vmm/echo-exits",
        what: "how often KVM left the guest for it",
        unit: "",
    },
    Value {
        printed: "disk-write",
        name: "vmm/disk-write",
        what: "64 MiB written and flushed",
        unit: "MB/s",
    },
    Value {
        printed: "disk-read",
        name: "vmm/disk-read",
        what: "64 MiB read, nothing of them cached in the guest",
        unit: "MB/s",
    },
];

/// Measures all.
///
/// # Errors
///
/// When the outer machine cannot be made, or a side in it does not come up.
pub fn vmm(pairs: usize) -> Result<Vec<Row>> {
    let said = nested::measure(pairs)?;
    let pairs = said.len();
    let said = said.join("\n");
    let mut rows = Vec::new();
    for value in &VALUES {
        let row = Row {
            name: value.name,
            what: value.what,
            unit: value.unit,
            ours: samples(&said, value.printed, OURS, pairs)?,
            peer: samples(&said, value.printed, PEER, pairs)?,
            peer_name: if value.printed == "touch" {
                PRIVATE
            } else {
                PEER_NAME
            },
            floor: None,
        };
        rows.push(row.said());
    }
    Ok(rows)
}

/// What was printed of this for this side.
fn samples(said: &str, printed: &str, side: &str, pairs: usize) -> Result<Samples> {
    let numbers = said.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words.as_slice() {
            ["row", name, of, number] if name == printed && of == side => Some(number.parse()),
            _ => None,
        }
    });
    let numbers: Vec<f64> = numbers
        .collect::<Result<_, _>>()
        .with_context(|| format!("{printed} of {side}"))?;
    ensure!(
        numbers.len() == pairs,
        "{printed} of {side} was measured {} times, not {pairs}",
        numbers.len()
    );
    Ok(Samples::new(numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_samples_and_a_missing_one_is_an_error() {
        let said =
            "boot\nrow boot kvm 10.5\nrow boot q35 100\r\nrow idle kvm 1\nrow boot kvm 11.5\n";
        let ours = samples(said, "boot", OURS, 2).unwrap();
        assert!((ours.median() - 11.0).abs() < f64::EPSILON);
        assert!(samples(said, "boot", "q35", 1).is_ok());
        assert!(samples(said, "boot", "q35", 2).is_err());
        assert!(samples("row boot kvm x\n", "boot", OURS, 1).is_err());
    }
}
