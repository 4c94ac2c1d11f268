//! Small programs that containers of tests run: the probe (`probe/probe.rs`) and what is beside another engine
//! inside a machine (`inner/inner.rs`); and the one by which networks are measured (`wire/wire.rs`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// The source of the program in the image of [`crate::inner`].
pub const INNER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/inner/inner.rs");
/// The source of the program by which networks are measured.
pub const WIRE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/wire/wire.rs");

/// The probe, built once.
///
/// # Panics
///
/// When it does not compile.
#[must_use]
pub fn binary() -> &'static [u8] {
    static BINARY: OnceLock<Vec<u8>> = OnceLock::new();
    BINARY.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a folder");
        let out: PathBuf = dir.path().join("probe");
        let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/probe/probe.rs"));
        compile(source, &out).expect("the probe compiles");
        std::fs::read(out).expect("the probe")
    })
}

/// Builds a program of one file, static, because the images have no libraries.
///
/// # Errors
///
/// When it does not compile.
pub fn compile(source: &Path, out: &Path) -> Result<()> {
    compile_with(source, out, &[])
}

/// As [`compile`], with further flags for the compiler.
///
/// # Errors
///
/// As [`compile`].
pub fn compile_with(source: &Path, out: &Path, flags: &[&str]) -> Result<()> {
    let built = Command::new("rustc")
        .args(["--edition", "2024", "-O", "-C", "strip=symbols"])
        .args(["-C", "target-feature=+crt-static"])
        .args(flags)
        .args(["--target", "x86_64-unknown-linux-gnu", "-o"])
        .arg(out)
        .arg(source)
        .status()
        .context("rustc")?;
    ensure!(built.success(), "{} does not compile", source.display());
    Ok(())
}
