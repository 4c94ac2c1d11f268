//! Walls, tried from inside a container in the real machine. What can be shown without a machine
//! is tested in the rooms themselves.

mod engine_api;
mod walls;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use lighter_tests::{Finished, Host};

/// Runs the probe in a container with these flags.
fn probe(host: &Host, flags: &[&str], args: &[&str]) -> Finished {
    static BINARY: OnceLock<Vec<u8>> = OnceLock::new();
    let binary = BINARY.get_or_init(build);
    let mut run = vec!["run", "--rm", "-i"];
    run.extend(flags);
    run.extend([
        "busybox",
        "sh",
        "-c",
        "cat > /probe && chmod +x /probe && exec /probe \"$@\" < /dev/null",
        "sh",
    ]);
    run.extend(args);
    host.docker_with(&run, binary).ok()
}

/// A static program, because the image has no libraries.
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
