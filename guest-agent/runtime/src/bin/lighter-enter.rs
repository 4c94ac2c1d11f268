//! The program that goes through a container's walls and becomes its first process.
//!
//! Started by [`lighter_runtime::Launcher`] only; all it does is in [`lighter_runtime::enter`].

use std::process::ExitCode;

fn main() -> ExitCode {
    lighter_runtime::enter::main()
}
