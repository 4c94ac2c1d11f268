//! Containers: what they are, how they start, run, end and are removed.
//!
//! Each file adds its verbs to [`Engine`](crate::Engine); `container` is what they work on,
//! `registry` finds it by name or id, `run` is the task that owns it while it has a process.

mod asked;
mod attach;
mod container;
mod create;
mod defaults;
mod endpoints;
mod files;
mod health;
mod image;
mod known;
pub(crate) mod launch;
mod limits;
mod links;
mod list;
mod loose;
mod mac;
mod modes;
mod name_server;
mod namespaces;
mod plugs;
mod record;
mod registry;
mod remove;
mod resolv;
mod restart;
mod rootfs;
mod run;
mod shm;
mod signals;
pub(crate) mod spec;
mod start;
mod stop;
mod take_up;
mod update;
mod users;
pub(crate) mod validate;
mod wait;
mod ways;

pub use attach::{AttachOptions, Attachment};
pub use container::{Container, State};
pub use create::Created;
pub use links::Link;
pub use list::{FILTERS, ListOptions, Listed};
pub use record::{Health, Place, Probe, Record, RunState, Status};
pub use remove::{PRUNE_FILTERS, RemoveOptions};
pub use wait::{Condition, Waited};

pub(crate) use attach::resize;
pub(crate) use container::{Live, lock};
pub(crate) use defaults::merge_image;
pub(crate) use files::FILES as BOUND_FILES;
pub(crate) use launch::{Ends, Outputs, Started, Streams};
pub(crate) use registry::Registry;
pub(crate) use rootfs::Layers;
pub(crate) use signals::{KILL, parse as parse_signal};
