//! fs-verity: a finished file becomes immutable, and each of its blocks is checked when it is read.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Result, check};

/// `FS_VERITY_HASH_ALG_SHA256`.
const SHA256: u32 = 1;
const BLOCK: u32 = 4096;

/// Kernel's `struct fsverity_enable_arg`.
#[repr(C)]
#[derive(Default)]
struct Enable {
    version: u32,
    algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved_1: u32,
    signature: u64,
    reserved_2: [u64; 11],
}

/// Kernel's `struct fsverity_digest`, with room for SHA-256.
#[repr(C)]
struct Measure {
    algorithm: u16,
    size: u16,
    digest: [u8; 32],
}

/// Seals a file that nobody has open for writing: it is hashed block by block, and from then on
/// neither changed nor read with other content.
pub fn enable(file: BorrowedFd<'_>) -> Result<()> {
    let wanted = Enable {
        version: 1,
        algorithm: SHA256,
        block_size: BLOCK,
        ..Enable::default()
    };
    // SAFETY: FS_IOC_ENABLE_VERITY reads one `fsverity_enable_arg`, which lives until the call
    // returns; salt and signature are null and of size 0.
    check(unsafe { libc::ioctl(file.as_raw_fd(), ENABLE as _, &raw const wanted) }.into()).map(drop)
}

/// What the kernel holds a sealed file's content to: the root of its hashes.
pub fn measure(file: BorrowedFd<'_>) -> Result<[u8; 32]> {
    let mut found = Measure {
        algorithm: 0,
        size: 32,
        digest: [0; 32],
    };
    // SAFETY: FS_IOC_MEASURE_VERITY writes at most `size` bytes behind the header, and there are as
    // many.
    check(unsafe { libc::ioctl(file.as_raw_fd(), MEASURE as _, &raw mut found) }.into())?;
    Ok(found.digest)
}

/// `_IOW('f', 133, struct fsverity_enable_arg)`.
const ENABLE: u32 = 0x4080_6685;
/// `_IOWR('f', 134, struct fsverity_digest)`, whose digest has no size of its own.
const MEASURE: u32 = 0xc004_6686;

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_file_is_sealed_or_the_file_system_says_that_it_cannot() {
        assert_eq!(size_of::<Enable>(), 128);
        assert_eq!(size_of::<Measure>(), 36);
        let mut written = tempfile::NamedTempFile::new().expect("a file");
        written.write_all(&[7; 10_000]).expect("written");
        let path = written.into_temp_path();
        let file = std::fs::File::open(&path).expect("open");
        match enable(file.as_fd()) {
            Ok(()) => {
                let digest = measure(file.as_fd()).expect("measured");
                assert_ne!(digest, [0; 32]);
                assert!(std::fs::File::options().write(true).open(&path).is_err());
            }
            Err(errno) => {
                assert!([Errno::OPNOTSUPP, Errno::NOTTY].contains(&errno), "{errno}");
                assert!(measure(file.as_fd()).is_err());
            }
        }
    }
}
