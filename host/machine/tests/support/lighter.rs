//! The machine process of the real `lighter`, with the guest of the tests.

use std::path::{Path, PathBuf};

use lighter_machine::{Backend, LaunchConfig};
use lighter_tests::env;

use super::process;

/// `lighter machine` on this backend, or why it cannot be; the caller then skips its test and says so.
pub fn config(backend: Backend, kernel: PathBuf, dir: &Path) -> Result<LaunchConfig, String> {
    let Some(lighter) = env::path(env::LIGHTER) else {
        return Err("the program is not there: run `cargo xtask test`".into());
    };
    let mut config = process::config(kernel, dir);
    config.spec.backend = backend;
    let config = LaunchConfig {
        exe: lighter,
        args: vec!["machine".into()],
        ..config
    };
    // A machine outlives its daemon; one of a failed test must not outlive the test.
    Ok(process::through(
        "/usr/bin/setpriv",
        &["--pdeathsig", "KILL"],
        config,
    ))
}
