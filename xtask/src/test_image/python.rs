//! Compiles the modules of an image's Python, as its packages' installation scripts would have.
//!
//! Without it every start of a program compiles all that it imports, which on an emulated processor is most of what the
//! program does.

use std::path::Path;

use anyhow::Result;

use super::kept::loader;
use crate::cmd;

/// Where Debian has modules, its own and Python's.
const MODULES: [&str; 2] = ["usr/lib/python3", "usr/lib/python3.11"];
/// Modules of Python 2, and tests, which are not meant to be compiled.
const NOT: &str = "/lib2to3/|/tests?/|/idlelib/|/pydoc_data/|/ensurepip/|/distutils/";

/// Compiles with the image's own program: a Python of another version reads nothing of what this one writes.
///
/// # Errors
///
/// When a module is none.
pub fn compile(root: &Path, program: &str) -> Result<()> {
    let mut python = loader(root)?;
    python
        .env_clear()
        .env("PYTHONHOME", root.join("usr"))
        // Its own imports would be written with the paths of this machine.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(root.join(program))
        // The files' times in the image are not those of here.
        .args([
            "-m",
            "compileall",
            "-q",
            "--invalidation-mode",
            "unchecked-hash",
        ])
        .args(["-x", NOT, "-p", "/", "-s"])
        .arg(root)
        .args(MODULES.map(|folder| root.join(folder)));
    cmd::run(&mut python)
}
