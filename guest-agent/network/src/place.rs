//! Network namespaces that the thread of the wires goes to and comes back from.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::NetworkError;

/// Does `work` in a namespace and comes home, where the namespace is not kept alive by us.
pub(crate) fn inside<T>(
    place: &OwnedFd,
    home: &OwnedFd,
    work: impl FnOnce() -> Result<T, NetworkError>,
) -> Result<T, NetworkError> {
    go(place)?;
    let done = work();
    go(home)?;
    done
}

/// Goes there for good.
pub(crate) fn go(place: &OwnedFd) -> Result<(), NetworkError> {
    move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(NetworkError::of("entering a network namespace"))
}

/// Writes a setting of the namespace the caller is in; `path` is below `/proc/sys`.
pub(crate) fn set(path: &str, value: &str) -> Result<(), NetworkError> {
    std::fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/sys/{path}"))
        .and_then(|file| rustix::io::write(file, value.as_bytes()).map_err(Into::into))
        .map(drop)
        .map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            NetworkError::saying(|| format!("setting {path}"))(errno)
        })
}

/// Reads one.
pub(crate) fn get(path: &str) -> Result<String, NetworkError> {
    std::fs::read_to_string(format!("/proc/sys/{path}")).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        NetworkError::saying(|| format!("reading {path}"))(errno)
    })
}
