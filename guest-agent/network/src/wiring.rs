//! The door: what the engine asks for, passed to the one thread that speaks with the kernel.
//!
//! The kernel does one change of interfaces at a time, so one thread is enough; it blocks, which the engine's own
//! threads must not.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};

use tokio::sync::oneshot;

use crate::NetworkError;
use crate::plan::{Bridge, Plug, Vlan, WayOut};
use crate::wires::{Job, Wires};

/// The kernel's side of all networks. Cheap to clone; its thread ends with the last one.
///
/// What is asked is done even if who asked does not wait, one thing after the other, and asking for it once more
/// is no error: after an engine that was killed, asking again makes whole what is half done.
#[derive(Debug, Clone)]
pub struct Wiring(Sender<Job>);

impl Wiring {
    /// Makes this namespace a router for the networks to come. It has the card already, if there is one, and
    /// perhaps what an engine before this one made.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn open(host_network: OwnedFd) -> Result<Self, NetworkError> {
        let (jobs, work) = channel();
        let (done, opened) = oneshot::channel();
        std::thread::Builder::new()
            .name("network".into())
            .stack_size(256 << 10)
            .spawn(move || match Wires::open(host_network) {
                Ok(wires) => {
                    // Whoever asked may have gone.
                    let _ = done.send(Ok(()));
                    wires.work(&work);
                }
                Err(error) => {
                    let _ = done.send(Err(error));
                }
            })
            .map_err(NetworkError::of("starting a thread"))?;
        opened
            .await
            .map_err(NetworkError::of("the thread of the networks ended"))??;
        Ok(Self(jobs))
    }

    /// Makes a bridge, or brings the one of that name to this state; ports that it has stay.
    ///
    /// # Errors
    /// A name or prefix that cannot be, another interface of that name, what the kernel refuses.
    pub async fn set_bridge(&self, bridge: &Bridge) -> Result<(), NetworkError> {
        let bridge = bridge.clone();
        self.ask(move |wires| wires.set_bridge(&bridge)).await
    }

    /// Removes a bridge, its extensions and its rules; its ports stay where they are and lead nowhere.
    ///
    /// # Errors
    /// What the kernel refuses; not that there is none.
    pub async fn remove_bridge(&self, name: &str) -> Result<(), NetworkError> {
        let name = name.to_owned();
        self.ask(move |wires| wires.remove_bridge(&name)).await
    }

    /// The bridges that [`Wiring::set_bridge`] made, by an engine before this one too.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn bridges(&self) -> Result<Vec<String>, NetworkError> {
        self.ask(Wires::bridges).await
    }

    /// Whether the host's namespace has an interface of this name.
    ///
    /// # Errors
    /// A name that cannot be, what the kernel refuses.
    pub async fn has_interface(&self, name: &str) -> Result<bool, NetworkError> {
        let name = name.to_owned();
        self.ask(move |wires| wires.has_interface(&name)).await
    }

    /// Makes a VLAN and brings it up; one that is there stays as it is.
    ///
    /// # Errors
    /// A name that cannot be, no interface below, what the kernel refuses (one that knows no VLANs, all of them).
    pub async fn set_vlan(&self, vlan: &Vlan) -> Result<(), NetworkError> {
        let vlan = vlan.clone();
        self.ask(move |wires| wires.set_vlan(&vlan)).await
    }

    /// Removes a VLAN that [`Wiring::set_vlan`] made, by an engine before this one too, with all that is upon it.
    ///
    /// # Errors
    /// What the kernel refuses; not that there is none, or one that is somebody else's, which stays.
    pub async fn remove_vlan(&self, name: &str) -> Result<(), NetworkError> {
        let name = name.to_owned();
        self.ask(move |wires| wires.remove_vlan(&name)).await
    }

    /// The VLANs that [`Wiring::set_vlan`] made.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn vlans(&self) -> Result<Vec<String>, NetworkError> {
        self.ask(Wires::vlans).await
    }

    /// Gives a container an interface and returns its hardware address; packets pass from then on. `container` is
    /// its network namespace.
    ///
    /// A bridge has to be set first, with this `Wiring`.
    ///
    /// # Errors
    /// A name, prefix or setting that cannot be, a bridge or parent that is not there, another interface of that
    /// name, what the kernel refuses. Nothing is left of it then.
    pub async fn plug(&self, container: OwnedFd, plug: &Plug) -> Result<[u8; 6], NetworkError> {
        let plug = plug.clone();
        self.ask(move |wires| wires.plug(&container, &plug)).await
    }

    /// Takes an interface away. When this returns its addresses, its port's name and its hardware address can be
    /// given again.
    ///
    /// Give the namespace of a container that lives on, or whose interface is no bridge's: there the interface is
    /// gone when this returns. Give none for a container that has ended: nobody can look there any more, and its
    /// port is only put out of service, which is far quicker, and ends in the background.
    ///
    /// # Errors
    /// What the kernel refuses; not that there is none.
    pub async fn unplug(
        &self,
        container: Option<OwnedFd>,
        plug: &Plug,
    ) -> Result<(), NetworkError> {
        let plug = plug.clone();
        self.ask(move |wires| wires.unplug(container.as_ref(), &plug))
            .await
    }

    /// Makes this, and nothing else that was set here before, a container's way to everywhere.
    ///
    /// # Errors
    /// An interface that the container has not, what the kernel refuses (a router that no interface reaches).
    pub async fn set_way_out(&self, container: OwnedFd, way: &WayOut) -> Result<(), NetworkError> {
        let way = way.clone();
        self.ask(move |wires| wires.set_way_out(&container, &way))
            .await
    }

    /// Has packets that are for clients of published ports come back to whoever carries them on.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(crate) async fn lead_back(&self) -> Result<(), NetworkError> {
        self.ask(Wires::lead_back).await
    }

    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Wires) -> Result<T, NetworkError> + Send + 'static,
    ) -> Result<T, NetworkError> {
        let (done, answer) = oneshot::channel();
        let job: Job = Box::new(move |wires| {
            // Whoever asked may have gone.
            let _ = done.send(work(wires));
        });
        self.0.send(job).map_err(|_| {
            NetworkError::Impossible("a change after the thread of the networks ended")
        })?;
        answer
            .await
            .map_err(NetworkError::of("the thread of the networks ended"))?
    }
}
