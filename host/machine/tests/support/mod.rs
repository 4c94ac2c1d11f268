//! What the tests with a real guest share: the guest itself, and where the kernel is.

#![cfg(target_os = "linux")]
#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod backends;
pub mod guest;
pub mod lighter;
pub mod process;
pub mod resident;
pub mod triple_fault;

use std::{
    env, fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use lighter_machine::{Disk, VmSpec};

/// Ports of `tests/guest/init.rs`.
pub mod port {
    pub const ECHO: u32 = 10;
    pub const DUPLEX: u32 = 11;
    pub const HALF_CLOSE: u32 = 12;
    pub const STALLED: u32 = 13;
    pub const RELEASE: u32 = 14;
    pub const ORDERS: u32 = 15;
    pub const CONNECT_BACK: u32 = 16;
    pub const SOURCE: u32 = 17;
    pub const CROWD: u32 = 18;
    pub const DIGEST_ECHO: u32 = 19;
    pub const RECORDS: u32 = 20;
    pub const JOURNAL: u32 = 22;
}

/// How long anything in these tests may take; a hang is a failure, slowness is not.
pub const PATIENCE: Duration = Duration::from_secs(360);

/// The smaller count, or the one for long runs; reported.
#[track_caller]
pub fn count<T: Copy + TryInto<u64>>(small: T, large: T) -> T {
    lighter_tests::env::count(small, large)
}

/// The kernel, or why there is none; the caller then skips its test and says so.
pub fn kernel() -> Result<PathBuf, String> {
    let named = env::var_os("LIGHTER_IMAGE_DIR").map(PathBuf::from);
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let dir = named.unwrap_or_else(|| home.join(".cache/lighter/image/current"));
    let path = dir.join("vmlinux");
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("no kernel at `{}`", path.display()))
    }
}

/// Ends the test early, and says why, where there is no kernel.
#[macro_export]
macro_rules! kernel_or_skip {
    () => {
        match support::kernel() {
            Ok(kernel) => kernel,
            Err(reason) => {
                let test = std::thread::current();
                lighter_tests::env::skip(test.name().unwrap_or("a test of the machine"), &reason);
                return;
            }
        }
    };
}

/// The initial file system with the test guest as `/init`: the one that is named, or built once.
pub fn initramfs() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = || {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/init.rs");
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = dir.keep().join("initramfs.cpio");
        lighter_tests::initramfs::write(&source, &path).unwrap();
        path
    };
    BUILT
        .get_or_init(|| lighter_tests::env::path(lighter_tests::env::GUEST).unwrap_or_else(built))
        .clone()
}

/// A small machine, with an empty disk where the directory has none yet.
pub fn spec(kernel: PathBuf, dir: &Path) -> VmSpec {
    let disk = dir.join("disk.img");
    let mut options = fs::File::options();
    let file = options.write(true).create(true).truncate(false).open(&disk);
    file.unwrap().set_len(64 << 20).unwrap();
    VmSpec {
        backend: backends::named().unwrap_or_default(),
        cpus: 2,
        memory_bytes: 1024 << 20,
        huge_pages: false,
        kernel,
        initramfs: initramfs(),
        cmdline_extra: Vec::new(),
        disks: vec![Disk {
            path: disk,
            read_only: false,
            log: None,
        }],
        shares: Vec::new(),
        network: None,
        console_log: dir.join("console.log"),
        console_limit: 64 << 10,
    }
}

/// Tries until it works. `what` names it when it never does.
pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The digest of the guest's echo; see `tests/guest/init.rs`. Each piece but the last is of whole words.
#[derive(Default)]
pub struct Digest(u64);

impl Digest {
    pub fn add(&mut self, bytes: &[u8]) {
        for word in bytes.chunks_exact(8) {
            let word = u64::from_le_bytes(word.try_into().unwrap());
            self.0 = (self.0 ^ word)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
        }
    }

    pub fn value(mut self) -> u64 {
        self.add(&[0; 8]);
        self.0
    }
}

/// The pattern of the guest's duplex port.
pub struct Pattern(pub u64);

impl Pattern {
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Reads `total` bytes and compares them with the pattern.
pub fn take_pattern(stream: &mut impl Read, total: u64, seed: u64) {
    let mut pattern = Pattern(seed);
    let (mut bytes, mut expected) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut left = total;
    while left > 0 {
        let n = left.min(bytes.len() as u64) as usize;
        stream.read_exact(&mut bytes[..n]).unwrap();
        pattern.fill(&mut expected[..n]);
        assert!(
            bytes[..n] == expected[..n],
            "wrong byte before {} from the end",
            left - n as u64
        );
        left -= n as u64;
    }
}

/// Writes `total` bytes of the pattern.
pub fn give_pattern(stream: &mut impl Write, total: u64, seed: u64) {
    let mut pattern = Pattern(seed);
    let mut bytes = vec![0; 64 << 10];
    let mut left = total;
    while left > 0 {
        let n = left.min(bytes.len() as u64) as usize;
        pattern.fill(&mut bytes[..n]);
        stream.write_all(&bytes[..n]).unwrap();
        left -= n as u64;
    }
}
