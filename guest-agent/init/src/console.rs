//! The few lines that init has to say, on the console.

use std::fmt;
use std::io::Write;

/// Says one line. Where nobody can hear it, that is no reason to fail.
pub fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "lighter-init: {line}");
}
