//! The probe: a small program that containers of tests run, see `probe/probe.rs`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The program, built once: static, because the image has no libraries.
///
/// # Panics
///
/// When it does not compile.
#[must_use]
pub fn binary() -> &'static [u8] {
    static BINARY: OnceLock<Vec<u8>> = OnceLock::new();
    BINARY.get_or_init(build)
}

fn build() -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a folder");
    let out: PathBuf = dir.path().join("probe");
    let built = Command::new("rustc")
        .args([
            "--edition",
            "2024",
            "-O",
            "-C",
            "target-feature=+crt-static",
        ])
        .args(["--target", "x86_64-unknown-linux-gnu", "-o"])
        .arg(&out)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/probe/probe.rs"))
        .status()
        .expect("rustc");
    assert!(built.success(), "the probe does not compile");
    std::fs::read(out).expect("the probe")
}
