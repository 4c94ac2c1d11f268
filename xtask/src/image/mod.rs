//! `cargo xtask image`: builds everything the virtual machine is made of from pinned inputs.
//!
//! Called by: developers, `cargo xtask try`, CI. Must never write into the source tree.

use anyhow::Result;

/// Build the kernel, the initial root, the data disk's template and the built-in container image.
#[derive(Debug, Default, clap::Args)]
pub struct Args {}

/// Builds the image.
pub fn run(_args: &Args) -> Result<()> {
    Ok(())
}
