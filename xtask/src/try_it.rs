//! `cargo xtask try`: from a fresh machine to a container's output in one command.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::packages::{self, Package, package};
use crate::{cmd, image, paths};

/// What a machine must have to run Lighter with QEMU, and to build it.
const NEEDED: &[Package] = &[
    package("gcc"),
    package("libc6-dev"),
    Package {
        name: "qemu-system-x86",
        suite: Some("bookworm-backports"),
    },
];

/// Go from a fresh machine to a container's output.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Installs what is missing, builds everything, boots, runs the greeting and says what to do next.
///
/// # Errors
///
/// When a step fails; the message names it.
pub fn run(_args: &Args) -> Result<()> {
    packages::ensure(NEEDED)?;
    let image = image::make(&image::Args::default())?;
    println!("{}", image.path.display());
    let lighter = build()?;
    eprintln!("starting the machine and running lighter/hello in it");
    // By name: a `LIGHTER_HOME` has its own place for images.
    cmd::run(
        Command::new(&lighter)
            .arg("up")
            .env("LIGHTER_IMAGE_DIR", &image.path),
    )?;
    cmd::run(Command::new(&lighter).args(["run", "--rm", "lighter/hello"]))?;
    let shown = lighter.display();
    println!();
    println!("Lighter runs. What to do next:");
    println!("  {shown} run -it --rm lighter/hello sh    a shell in a container");
    println!("  eval \"$({shown} env)\"                    point your own docker CLI at it");
    println!("  {shown} status                           what is running, and what it costs");
    println!("  {shown} down                             stop everything");
    Ok(())
}

/// Builds the `lighter` program and returns its path.
///
/// # Errors
///
/// When cargo fails.
pub fn build() -> Result<PathBuf> {
    cmd::run(
        Command::new(env!("CARGO"))
            .args(["build", "--release", "--package", "lighter-cli"])
            .current_dir(paths::root()),
    )?;
    Ok(built())
}

/// Where [`build`] puts it.
pub fn built() -> PathBuf {
    paths::target().join("release/lighter")
}
