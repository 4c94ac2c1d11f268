//! An initial file system for a virtual machine whose whole user space is one program of a test.
//!
//! Called by the tests of `lighter-machine`, and by `cargo xtask test nested` for machines without a compiler.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::probe;

/// Compiles `source`, one file of Rust without crates, and writes an archive with it as `/init` to `to`.
///
/// A panic of it is the end of its machine, on whichever thread.
///
/// # Errors
///
/// When it does not compile, or `to` cannot be written.
pub fn write(source: &Path, to: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("init");
    probe::compile_with(source, &program, &["-C", "panic=abort"])?;
    let mut archive = Vec::new();
    entry(&mut archive, "dev", 0o040_755, (0, 0), &[])?;
    entry(&mut archive, "dev/console", 0o020_600, (5, 1), &[])?;
    entry(
        &mut archive,
        "init",
        0o100_755,
        (0, 0),
        &std::fs::read(program)?,
    )?;
    entry(&mut archive, "TRAILER!!!", 0, (0, 0), &[])?;
    std::fs::write(to, archive).with_context(|| to.display().to_string())
}

/// One member of a `newc` archive (the kernel's `buffer-format.rst`).
fn entry(
    archive: &mut Vec<u8>,
    name: &str,
    mode: u32,
    (major, minor): (u32, u32),
    content: &[u8],
) -> Result<()> {
    let (size, name_size) = (
        u32::try_from(content.len())?,
        u32::try_from(name.len())? + 1,
    );
    let fields = [0, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
    archive.extend_from_slice(b"070701");
    for field in fields {
        write!(archive, "{field:08x}")?;
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
    Ok(())
}
