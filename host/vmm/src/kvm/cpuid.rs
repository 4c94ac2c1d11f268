//! What the guest's processors say that they are: the host's, less what a guest must not see.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::Kvm;

use super::error::Error;

/// Leaf 1, ECX: virtualisation in the guest, the hypervisor's own bit.
const VMX: u32 = 1 << 5;
const PDCM: u32 = 1 << 15;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: there are several logical processors in the package.
const HTT: u32 = 1 << 28;
/// Leaf 0x8000_0001, ECX.
const SVM: u32 = 1 << 2;
/// AMD's counters of events, of a core, the northbridge and the last cache, and its samples of instructions.
const COUNTERS: u32 = 1 << 23 | 1 << 24 | 1 << 28 | 1 << 10;
/// Kinds of levels in leaf 0xb.
const LEVEL_THREAD: u32 = 1 << 8;
const LEVEL_CORE: u32 = 2 << 8;

/// What KVM can give on this host, to be fitted for each processor.
pub fn supported(kvm: &Kvm) -> Result<CpuId, Error> {
    kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(Error::kvm("ask what processors it gives"))
}

/// The leaves of one processor of so many; all are cores of one package.
pub fn of(supported: &CpuId, id: u8, processors: u8, deadline_timer: bool) -> Result<CpuId, Error> {
    let (number, count) = (u32::from(id), u32::from(processors));
    // Bits of an id that tell processors of one package apart.
    let bits = count.next_power_of_two().trailing_zeros();
    let mut leaves: Vec<kvm_cpuid_entry2> = supported.as_slice().to_vec();
    let most = leaves
        .iter()
        .find(|leaf| leaf.function == 0)
        .map_or(0, |leaf| leaf.eax);
    leaves.retain(|leaf| !matches!(leaf.function, 0xb | 0x1f));
    for leaf in &mut leaves {
        match leaf.function {
            0x1 => {
                leaf.ebx = leaf.ebx & 0x0000_ffff | count << 16 | number << 24;
                leaf.ecx = leaf.ecx & !(VMX | PDCM | TSC_DEADLINE) | HYPERVISOR;
                leaf.ecx |= if deadline_timer { TSC_DEADLINE } else { 0 };
                leaf.edx = leaf.edx & !HTT | if count > 1 { HTT } else { 0 };
            }
            // Intel's caches: cores of the package, less one.
            0x4 if leaf.eax & 0x1f != 0 => {
                leaf.eax = leaf.eax & 0x03ff_ffff | (count - 1).min(63) << 26;
            }
            // Counters of events are the host's.
            0xa | 0x8000_001b | 0x8000_0022 => {
                (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (0, 0, 0, 0);
            }
            0x8000_0001 => leaf.ecx &= !(SVM | COUNTERS),
            // AMD's cores of the package, less one, and the bits of their ids.
            0x8000_0008 => leaf.ecx = leaf.ecx & !0xf0ff | bits << 12 | (count - 1),
            0x8000_000a => (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (0, 0, 0, 0),
            // AMD's id, core, and the one node.
            0x8000_001e => (leaf.eax, leaf.ebx, leaf.ecx) = (number, number, 0),
            _ => {}
        }
    }
    if most >= 0xb {
        let level = |index, eax, ebx, kind| kvm_cpuid_entry2 {
            function: 0xb,
            index,
            flags: kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax,
            ebx,
            ecx: index | kind,
            edx: number,
            ..kvm_cpuid_entry2::default()
        };
        leaves.push(level(0, 0, 1, LEVEL_THREAD));
        leaves.push(level(1, bits, count, LEVEL_CORE));
        leaves.push(level(2, 0, 0, 0));
    }
    CpuId::from_entries(&leaves)
        .map_err(|error| Error::Memory(format!("leaves of a processor: {error:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..kvm_cpuid_entry2::default()
        }
    }

    /// Of both makers, so that a driver that looks for either finds none.
    #[test]
    fn no_processor_says_that_it_counts_events() {
        let all = [0x1, 0xa, 0x8000_0001, 0x8000_001b, 0x8000_0022].map(leaf);
        let leaves = of(&CpuId::from_entries(&all).unwrap(), 0, 1, false).unwrap();
        let found = |function| {
            let mut all = leaves.as_slice().iter();
            *all.find(|leaf| leaf.function == function).unwrap()
        };
        for function in [0xa, 0x8000_001b, 0x8000_0022] {
            let leaf = found(function);
            assert_eq!((leaf.eax, leaf.ebx, leaf.ecx, leaf.edx), (0, 0, 0, 0));
        }
        assert_eq!(found(1).ecx & 1 << 15, 0);
        // Of a core, of the northbridge, of the last cache; samples of instructions.
        let counters = 1 << 23 | 1 << 24 | 1 << 28 | 1 << 10;
        assert_eq!(found(0x8000_0001).ecx & counters, 0);
    }
}
