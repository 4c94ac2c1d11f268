//! Running other programs: one that fails is an error that names it.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs a program to its end.
///
/// # Errors
///
/// When it cannot be started or ends with anything but 0; the message is its command line.
pub fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    let status = command
        .status()
        .with_context(|| format!("`{line}` could not be started"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// The command as one would type it.
#[must_use]
pub fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}
