//! The corpus and every past crash, on stable Rust, and what lies near them.
//!
//! `corpus/TARGET/SHAPE` holds one input a file, named by its shape. Each is run as it is, and then
//! again and again with small changes: cut, lengthened, bytes changed, two spliced together.

use std::path::{Path, PathBuf};

use lighter_fuzz::{TARGETS, run};
use lighter_tests::env;

struct Seed {
    path: PathBuf,
    bytes: Vec<u8>,
}

fn seeds(target: &str) -> Vec<Seed> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let read = |path: PathBuf| Seed {
        bytes: std::fs::read(&path).expect("a seed"),
        path,
    };
    paths.into_iter().map(read).collect()
}

/// xorshift64*: the seed that is printed names the whole run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap_or(0) % limit.max(1)
    }

    /// Something near `bytes`.
    fn near(&mut self, bytes: &[u8], other: &[u8]) -> Vec<u8> {
        const TELLING: [u8; 7] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b'/'];
        let mut changed = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(changed.len() + 1);
            match self.below(6) {
                0 => changed.truncate(at),
                1 => changed.insert(at, TELLING[self.below(TELLING.len())]),
                2 => changed.extend_from_slice(&other[self.below(other.len() + 1)..]),
                3 => {
                    let end = at + self.below(changed.len() - at + 1);
                    drop(changed.drain(at..end));
                }
                _ if at < changed.len() => {
                    changed[at] = if self.below(2) == 0 {
                        TELLING[self.below(TELLING.len())]
                    } else {
                        changed[at] ^ (1 << self.below(8))
                    };
                }
                _ => {}
            }
        }
        changed
    }
}

/// Where an input is kept while it runs, so that one that kills the process can be looked at.
fn keep(target: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("lighter-fuzz-{target}"));
    std::fs::write(&path, bytes).expect("a file");
    path
}

fn replay(target: &str) {
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "{target} has no corpus");
    for seed in &seeds {
        println!("{}", seed.path.display());
        run(target, &seed.bytes);
    }
    let mut random = Random(env::seed());
    for _ in 0..env::count(200_usize, 20_000) {
        let (one, other) = (random.below(seeds.len()), random.below(seeds.len()));
        let input = random.near(&seeds[one].bytes, &seeds[other].bytes);
        let kept = keep(target, &input);
        println!(
            "near {} (kept in {})",
            seeds[one].path.display(),
            kept.display()
        );
        run(target, &input);
        let _ = std::fs::remove_file(kept);
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus_and_nothing_else_does() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wanted: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    wanted.sort();
    for (dir, suffix) in [("corpus", ""), ("libfuzzer/targets", ".rs")] {
        let entries = std::fs::read_dir(here.join(dir)).expect("a folder");
        let mut found: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("UTF-8")
            })
            .map(|name| name.trim_end_matches(suffix).to_owned())
            .collect();
        found.sort();
        assert_eq!(found, wanted, "{dir}");
    }
}

macro_rules! replays {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($target)),*];
            assert_eq!(TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), replayed);
        }
    };
}

replays! {
    protocol_frames
    vsock_device
    mmio_transport
    block_requests
    device_queues
    console_output
    kernel_loader
    network_frames
    fuse_requests
    layer_tar
    image_archive
    image_manifest
    image_reference
    create_body
    request_head
    supervisor_packets
}
