//! The two network namespaces: the engine's own, with nothing but a loopback, and the one that
//! containers know as the host's.

use std::fs::File;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::{At, BootError};

/// Brings up the loopback of the current namespace.
pub fn loopback_up() -> Result<(), Errno> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: `ifreq` is integers and a union of integers, for which zeros are a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq` whose name and flags are set, which lives until the
    // call returns.
    let set = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw mut request,
        )
    };
    if set != 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(())
}

/// Makes the containers' "host" network namespace and hands it out as a descriptor.
///
/// Init goes there and comes back, which it can because it has no other thread. It must not stay:
/// only the initial namespace may use vsock.
pub fn second_namespace() -> Result<OwnedFd, BootError> {
    let own = File::open("/proc/self/ns/net").at("opening the network namespace")?;
    // SAFETY: init has one thread, so that "the calling thread" is the process; descriptors stay
    // shared with nobody, for only the network namespace is changed.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.at("making the containers' network")?;
    let made = loopback_up()
        .at("bringing up the containers' loopback")
        .and_then(|()| File::open("/proc/self/ns/net").at("opening the containers' network"));
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network))
        .at("returning from the containers' network")?;
    made.map(OwnedFd::from)
}
