//! Which container of the host's network has a socket: by the descriptors of its processes.
//!
//! Called where a port is listened on that somebody else wants, and where the host listens for such a container.
//! Must never: look at more than its bounds, for containers have as many descriptors as they like.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use lighter_network::ports::{Listener, Ports, Transport};

use crate::engine::Engine;

/// Most descriptors that are looked at for one question.
const MOST: usize = 65_536;
/// Most of one container: what it has more than that hides its own name, not that of others.
const MOST_OF_ONE: usize = 8_192;

impl Engine {
    /// The names of the containers that have sockets of these numbers, as far as that can be told.
    pub(super) async fn owners_of(&self, sockets: BTreeSet<u64>) -> BTreeMap<u64, String> {
        let Some(engine) = self.own().upgrade().filter(|_| !sockets.is_empty()) else {
            return BTreeMap::new();
        };
        let looked = tokio::task::spawn_blocking(move || engine.look_for(&sockets));
        // A panic in there was reported already.
        looked.await.unwrap_or_default()
    }

    /// The container that listens on a port of the host's network.
    pub(super) async fn who_listens(
        &self,
        ports: &Ports,
        transport: Transport,
        port: u16,
    ) -> Option<String> {
        let there = ports.listeners().await.ok()?;
        let same = |(kind, at): &Listener| *kind == transport && at.port() == port;
        let sockets = there.iter().filter(|(listener, _)| same(listener));
        let owners = self.owners_of(sockets.map(|(_, socket)| *socket).collect());
        owners.await.into_values().next()
    }

    fn look_for(&self, sockets: &BTreeSet<u64>) -> BTreeMap<u64, String> {
        let mut found = BTreeMap::new();
        let mut left = MOST;
        for container in self.containers().all() {
            let Some(live) = container.live() else {
                continue;
            };
            let record = container.record();
            if !self.is_in_host_network(&record) {
                continue;
            }
            let processes = live.cgroup.processes().unwrap_or_default();
            let most = left.min(MOST_OF_ONE);
            let (had, looked) = look_in(&processes, sockets, most);
            for socket in had {
                found.entry(socket).or_insert_with(|| record.name.clone());
            }
            left -= looked;
            if left == 0 || found.len() == sockets.len() {
                break;
            }
        }
        found
    }
}

/// Those of `sockets` that these processes have, and how many descriptors, at most so many, were looked at.
fn look_in(processes: &[i32], sockets: &BTreeSet<u64>, most: usize) -> (BTreeSet<u64>, usize) {
    let (mut had, mut left) = (BTreeSet::new(), most);
    for pid in processes {
        let those = sockets_of(*pid, &mut left).into_iter();
        had.extend(those.filter(|socket| sockets.contains(socket)));
        if left == 0 || had.len() == sockets.len() {
            break;
        }
    }
    (had, most - left)
}

/// The numbers of the sockets that a process has; none of one that has ended.
fn sockets_of(pid: i32, left: &mut usize) -> Vec<u64> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let descriptors = descriptors.take(*left);
    let mut sockets = Vec::new();
    for descriptor in descriptors.flatten() {
        *left -= 1;
        let target = fs::read_link(descriptor.path()).unwrap_or_default();
        let number = target.to_str().and_then(number_of);
        sockets.extend(number);
    }
    sockets
}

/// Reads `socket:[4242]`.
fn number_of(target: &str) -> Option<u64> {
    let number = target.strip_prefix("socket:[")?;
    number.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn sockets_of_a_process_are_found_within_the_bound() {
        let own = i32::try_from(std::process::id()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = rustix::fs::fstat(listener.as_fd()).unwrap().st_ino;
        let mut left = MOST;
        assert!(sockets_of(own, &mut left).contains(&number));
        assert!(left < MOST);
        assert_eq!(sockets_of(own, &mut 0), [0_u64; 0]);
        assert_eq!(sockets_of(-1, &mut left), [0_u64; 0]);
    }

    #[test]
    fn one_container_uses_no_more_than_its_part_of_the_bound() {
        let own = i32::try_from(std::process::id()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = rustix::fs::fstat(listener.as_fd()).unwrap().st_ino;
        let sockets = BTreeSet::from([number, 1]);
        let (had, looked) = look_in(&[-1, own], &sockets, MOST_OF_ONE);
        assert_eq!(had, BTreeSet::from([number]));
        assert!(looked > 0 && looked < MOST_OF_ONE);
        // The first descriptors of a process are its standard ones, which are no sockets of ours.
        assert_eq!(look_in(&[own; 1000], &sockets, 2), (BTreeSet::new(), 2));
    }

    #[test]
    fn what_is_no_socket_has_no_number() {
        assert_eq!(number_of("socket:[77]"), Some(77));
        for target in ["pipe:[77]", "socket:[77", "socket:[]", "/dev/null"] {
            assert_eq!(number_of(target), None, "{target}");
        }
    }
}
