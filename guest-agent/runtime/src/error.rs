//! Why a container or exec did not start, in the words docker's clients look for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure it was: decides docker's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The program (or something named in the request) is not there: exit code 127.
    NotFound,
    /// It is there and cannot be executed: exit code 126.
    NotExecutable,
    /// A directory was to be mounted on a file or a file on a directory: exit code 127.
    MountType,
    /// The request itself is wrong, for example an unknown user.
    Invalid,
    /// What was asked for is refused before anything is made.
    Refused,
    /// The kernel refused a step.
    Kernel,
    /// This version of the runtime cannot do what was asked; the text names it.
    Unsupported,
}

/// dockerd finds these words in a text wherever they come from, and so do we by their numbers.
pub(crate) const fn kind_of(errno: rustix::io::Errno) -> FailureKind {
    use rustix::io::Errno;
    match errno {
        Errno::NOENT => FailureKind::NotFound,
        Errno::ACCESS | Errno::ISDIR => FailureKind::NotExecutable,
        Errno::NOTDIR => FailureKind::MountType,
        _ => FailureKind::Kernel,
    }
}

/// Which call failed: decides the frame docker puts around the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Start of a container.
    Create,
    /// Start of an exec.
    Exec,
}

/// A container or exec that did not start.
///
/// Its `Display` is runc's inner text, for example
/// `exec: "x": executable file not found in $PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartError {
    /// The step that failed, for logs: `clone`, `rootfs`, `mount`, `user`, `exec`, ….
    pub step: String,
    /// The kernel's answer, where there was one.
    pub errno: Option<i32>,
    /// runc's words for it.
    pub text: String,
    /// What kind of failure.
    pub kind: FailureKind,
}

impl StartError {
    /// A failure with a text of its own.
    pub fn new(step: &str, kind: FailureKind, text: impl Into<String>) -> Self {
        Self {
            step: step.to_owned(),
            errno: None,
            text: text.into(),
            kind,
        }
    }

    /// A kernel call that failed: `text: <what the kernel said>`.
    pub fn kernel(step: &str, errno: rustix::io::Errno, text: impl fmt::Display) -> Self {
        let said = crate::sys::errno_text(errno);
        Self {
            step: step.to_owned(),
            errno: Some(errno.raw_os_error()),
            text: format!("{text}: {said}"),
            kind: kind_of(errno),
        }
    }

    /// The same failure with another kind.
    #[must_use]
    pub fn with_kind(self, kind: FailureKind) -> Self {
        Self { kind, ..self }
    }

    /// The exit code docker stores for the container (128 where the daemon has no better one).
    ///
    /// The client turns 126 and 127 into its own exit code and every other failed start into 125.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self.kind {
            FailureKind::NotFound | FailureKind::MountType => 127,
            FailureKind::NotExecutable => 126,
            _ => 128,
        }
    }

    /// The text as dockerd hands it to its clients, with the frames of containerd and runc.
    ///
    /// [`FailureKind::Invalid`] is dockerd's own complaint and has no frame.
    #[must_use]
    pub fn docker_text(&self, operation: Operation) -> String {
        if self.kind == FailureKind::Invalid {
            return self.text.clone();
        }
        let text = &self.text;
        let hint = if self.kind == FailureKind::MountType {
            ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the \
             specified host path exists and is the expected type"
        } else {
            ""
        };
        match operation {
            Operation::Create if self.kind == FailureKind::Refused => format!(
                "failed to create task for container: failed to create shim task: OCI runtime \
                 create failed: runc create failed: {text}"
            ),
            Operation::Create => format!(
                "failed to create task for container: failed to create shim task: OCI runtime \
                 create failed: runc create failed: unable to start container process: \
                 {text}{hint}"
            ),
            Operation::Exec => format!(
                "OCI runtime exec failed: exec failed: unable to start container process: \
                 {text}"
            ),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for StartError {}
