//! How much may be under way at a time. Each of it has a descriptor.
//!
//! Called by whoever makes the router, which knows how many descriptors there are.

use super::questions::SERVERS;

/// The most of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub tcp: usize,
    /// Of these, such as are being made: what a scan of ports costs.
    pub connecting: usize,
    /// Pairs of ends that send datagrams.
    pub udp: usize,
    /// Questions for names, each of which may have asked several servers. The guest's name server asks for all containers
    /// from one address and lets each have 1,024 on the way.
    pub questions: usize,
    /// Senders of echo requests.
    pub icmp: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tcp: 16_384,
            connecting: 1_024,
            udp: 4_096,
            questions: 4_096,
            icmp: 256,
        }
    }
}

/// Descriptors that are not for what is under way: those of the card, of the daemon's questions and of the log.
const OTHERS: usize = 64;

impl Limits {
    /// The usual ones, or less of each where there are not so many descriptors: a table that is full has one of its own
    /// give way, while without descriptors everybody is refused.
    #[must_use]
    pub fn within(descriptors: usize) -> Self {
        let usual = Self::default();
        let wanted = usual.descriptors();
        let left = descriptors.saturating_sub(OTHERS).min(wanted);
        let part = |count: usize| (count * left / wanted).max(1);
        Self {
            tcp: part(usual.tcp),
            connecting: part(usual.connecting),
            udp: part(usual.udp),
            questions: part(usual.questions),
            icmp: part(usual.icmp),
        }
    }

    fn descriptors(&self) -> usize {
        self.tcp + self.udp + SERVERS * self.questions + self.icmp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_containers_that_ask_as_much_as_they_may_find_room() {
        // What the name server at 127.0.0.11 lets one have on the way.
        const ONE: usize = 1_024;
        for descriptors in [1 << 16, 1 << 20] {
            assert!(Limits::within(descriptors).questions >= 4 * ONE);
        }
    }

    #[test]
    fn all_that_is_under_way_has_descriptors() {
        assert_eq!(Limits::within(1 << 20), Limits::default());
        for descriptors in [256, 1_024, 4_096, 20_000] {
            let limits = Limits::within(descriptors);
            assert!(
                limits.descriptors() + OTHERS <= descriptors,
                "{descriptors}: {limits:?}"
            );
            assert!(limits.connecting <= limits.tcp);
        }
    }
}
