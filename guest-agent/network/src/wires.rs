//! What the thread of the wires holds: its conversation with the kernel, and what is known of it.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;

use rustix::io::Errno;

use crate::discarded::Discarded;
use crate::netlink::Netlink;
use crate::rules::Rules;
use crate::{NetworkError, extension, links, place};

/// A bridge that is a network.
#[derive(Debug)]
pub(crate) struct Network {
    /// Whether its ports reach each other.
    pub icc: bool,
    /// The bridge itself, and those that it was extended by.
    pub segments: Vec<Segment>,
}

/// A bridge of a network.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// Its name.
    pub name: String,
    /// The kernel's number of it.
    pub index: u32,
    /// How many ports are known to be there: one too many costs a little time, one too few an extension.
    pub ports: usize,
}

/// Everything the thread has.
pub(crate) struct Wires {
    /// The host's namespace.
    pub home: OwnedFd,
    /// A conversation in it.
    pub netlink: Netlink,
    /// What rules there are.
    pub rules: Rules,
    /// Networks that were set, by the name of their bridge.
    pub networks: HashMap<String, Network>,
    /// Extensions that were found when this began, by the network they are of.
    pub found: HashMap<String, Vec<Segment>>,
    /// On which segment of which network a port is.
    pub ports: HashMap<String, (String, usize)>,
    /// What ends ports in the background.
    pub discarded: Discarded,
    /// Bridges whose containers published ports do not answer.
    pub internal: BTreeSet<String>,
    /// Whether ports are published, so that the packet filter has to know of those.
    pub led_back: bool,
}

/// Something for the thread to do.
pub(crate) type Job = Box<dyn FnOnce(&mut Wires) + Send>;

impl Wires {
    /// Settles the calling thread in the host's namespace and makes that a router.
    pub fn open(home: OwnedFd) -> Result<Self, NetworkError> {
        place::go(&home)?;
        for (setting, value) in [
            ("net/ipv4/ip_forward", "1"),
            // Of interfaces to come: a source that is not routed back to where it came from is a lie.
            ("net/ipv4/conf/default/rp_filter", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
        ] {
            place::set(setting, value)?;
        }
        let mut netlink = Netlink::open()?;
        let told = |errno: Errno| NetworkError::of("listing what is there")(errno);
        let rules = Rules::read(&mut netlink).map_err(told)?;
        let found = extension::found(&links::list(&mut netlink, None).map_err(told)?);
        let again = home
            .try_clone()
            .map_err(NetworkError::of("a descriptor for another thread"))?;
        let discarded = Discarded::start(again)?;
        // Those of an engine before this one.
        discarded.more();
        let mut wires = Self {
            home,
            netlink,
            rules,
            networks: HashMap::new(),
            found,
            ports: HashMap::new(),
            discarded,
            internal: BTreeSet::new(),
            led_back: false,
        };
        wires.remove_lost();
        Ok(wires)
    }

    /// Does what comes until nobody can send any more.
    pub fn work(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            job(&mut self);
        }
    }
}
