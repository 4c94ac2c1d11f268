//! The user-mode network: a router between the guest's network card and sockets of the host.
//!
//! Nothing of the host's own network has to be changed for it, and nothing there is reached that the host's user
//! could not reach. Portable: it knows neither rings nor virtio, and whoever has a card gives it frames.
//!
//! Called by: its tests, until the machine has a card (see the changelog).
//! Must never: open anything by name, listen, or reach what [`nat::plan`] refuses.

pub mod nat;
