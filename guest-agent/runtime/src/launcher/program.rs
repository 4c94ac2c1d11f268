//! The program that enters containers, out of their reach (CVE-2019-5736).
//!
//! A process in the container can reach the running program as `/proc/PID/exe`. It is therefore
//! executed from a read-only mount, or else from a sealed copy in memory.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::io::Errno;

use crate::StartError;

/// Opens the program at `path` for execution by descriptor.
pub(super) fn open(path: &Path) -> Result<OwnedFd, StartError> {
    let fail = |errno| StartError::kernel("program", errno, format!("open {}", path.display()));
    let file =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let mount = rustix::fs::fstatvfs(&file).map_err(fail)?;
    if mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(file);
    }
    sealed_copy(
        file.as_fd()
            .try_clone_to_owned()
            .map_err(|error| io_fail(path, &error))?,
    )
    .map_err(|error| io_fail(path, &error))
}

fn io_fail(path: &Path, error: &std::io::Error) -> StartError {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    StartError::kernel("program", errno, format!("copy {}", path.display()))
}

fn sealed_copy(file: OwnedFd) -> std::io::Result<OwnedFd> {
    let mut bytes = vec![];
    std::fs::File::from(file).read_to_end(&mut bytes)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("lighter-enter", flags)?;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let count = rustix::io::write(&memory, rest)?;
        rest = &rest[count..];
    }
    seal(&memory, SEAL_TRIES)?;
    Ok(memory)
}

/// The kernel itself waits 150 ms each time before it says that a page is in use.
const SEAL_TRIES: u32 = 20;

/// Makes the file unchangeable for good. The kernel refuses (`EBUSY`) while anybody holds a page of
/// it, and it holds some itself for a moment when it moves pages about.
fn seal(memory: &OwnedFd, tries: u32) -> rustix::io::Result<()> {
    // The sealed file keeps mode 0777: a container's user other than root executes it as init.
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    let mut left = tries;
    loop {
        match rustix::fs::fcntl_add_seals(memory, seals) {
            Err(Errno::BUSY) if left > 0 => left -= 1,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

    #[test]
    fn a_page_in_use_only_delays_the_seal() {
        let memory = rustix::fs::memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::io::write(&memory, &[7; 4096]).unwrap();
        let (out, into) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        // The pipe holds the page itself, not a copy.
        let moved = splice(
            &memory,
            Some(&mut 0),
            &into,
            None,
            4096,
            SpliceFlags::empty(),
        );
        assert_eq!(moved, Ok(4096));
        assert_eq!(seal(&memory, 0), Err(Errno::BUSY));
        std::thread::scope(|scope| {
            let sealed = scope.spawn(|| seal(&memory, SEAL_TRIES));
            drop((out, into));
            assert_eq!(sealed.join().unwrap(), Ok(()));
        });
        assert_eq!(rustix::io::write(&memory, &[7]), Err(Errno::PERM));
    }
}
