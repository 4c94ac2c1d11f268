//! The input of a process: a pipe or a terminal, written without blocking a thread.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::poll::{Watched, watch};

/// The writing end of a process's standard input.
#[derive(Debug)]
pub struct Stdin {
    fd: AsyncFd<Watched<OwnedFd>>,
}

impl Stdin {
    /// Takes the writing end of a pipe or a terminal's master.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        watch(fd, Interest::WRITABLE).map(|fd| Self { fd })
    }

    /// Writes all of `bytes`, waiting as long as the process does not read.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut guard = self.fd.writable().await?;
            match rustix::io::write(&guard.get_inner().0, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}
