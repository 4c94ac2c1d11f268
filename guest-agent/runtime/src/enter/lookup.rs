//! Which file a command names, and docker's words when it names none.

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;

use super::Step;
use crate::{FailureKind, StartError, sys};

/// The path of the program `name`, looked up in the `PATH` of `env`.
///
/// Runs inside the container as its user, with its capabilities; what is found may be another file
/// by the time of the exec, which the kernel then judges by the same credentials.
pub fn program(name: &str, env: &[String]) -> Step<String> {
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => {
                Err(refused(name, errno, &format!("stat {name}: ")))
            }
            Err(errno) => Err(refused(name, errno, "")),
        };
    }
    // As in the C library, the last of several counts.
    let path = env
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or_default();
    for directory in path.split(':') {
        // An empty part is the working directory; Go's look-up, and so Docker, refuses it.
        let candidate = format!("{}/{name}", directory.trim_end_matches('/'));
        if executable(&candidate).is_ok() {
            if directory.starts_with('/') {
                return Ok(candidate);
            }
            let text = "cannot run executable found relative to current directory";
            return Err(StartError::new(
                "exec",
                FailureKind::Kernel,
                format!("exec: {name:?}: {text}"),
            ));
        }
    }
    Err(StartError::new(
        "exec",
        FailureKind::NotFound,
        format!("exec: {name:?}: executable file not found in $PATH"),
    ))
}

fn executable(path: &str) -> rustix::io::Result<()> {
    if FileType::from_raw_mode(stat(path)?.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

fn refused(name: &str, errno: Errno, detail: &str) -> StartError {
    let said = sys::errno_text(errno);
    StartError {
        errno: Some(errno.raw_os_error()),
        ..StartError::new(
            "exec",
            crate::error::kind_of(errno),
            format!("exec: {name:?}: {detail}{said}"),
        )
    }
}
