//! Resource limits by the kernel's names, and docker's words when one is refused.

use rustix::io::Errno;
use rustix::process::Resource;

use super::Step;
use crate::{Rlimit, RlimitResource, StartError};

/// Sets limits of this process.
pub fn set(wanted: &[Rlimit]) -> Step<()> {
    for limit in wanted {
        let value = rustix::process::Rlimit {
            current: limit.soft,
            maximum: limit.hard,
        };
        rustix::process::setrlimit(resource(limit.resource), value)
            .map_err(|errno| failed(limit.resource, errno))?;
    }
    Ok(())
}

/// The error of a limit that was refused.
pub fn failed(resource: RlimitResource, errno: Errno) -> StartError {
    let name = format!("{resource:?}").to_uppercase();
    StartError::kernel(
        "rlimit",
        errno,
        format!("error setting rlimit RLIMIT_{name}"),
    )
}

/// The kernel's name of a limit.
pub const fn resource(resource: RlimitResource) -> Resource {
    match resource {
        RlimitResource::As => Resource::As,
        RlimitResource::Core => Resource::Core,
        RlimitResource::Cpu => Resource::Cpu,
        RlimitResource::Data => Resource::Data,
        RlimitResource::Fsize => Resource::Fsize,
        RlimitResource::Locks => Resource::Locks,
        RlimitResource::Memlock => Resource::Memlock,
        RlimitResource::Msgqueue => Resource::Msgqueue,
        RlimitResource::Nice => Resource::Nice,
        RlimitResource::Nofile => Resource::Nofile,
        RlimitResource::Nproc => Resource::Nproc,
        RlimitResource::Rss => Resource::Rss,
        RlimitResource::Rtprio => Resource::Rtprio,
        RlimitResource::Rttime => Resource::Rttime,
        RlimitResource::Sigpending => Resource::Sigpending,
        RlimitResource::Stack => Resource::Stack,
    }
}
