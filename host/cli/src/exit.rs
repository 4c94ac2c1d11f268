//! Errors at the edge, and the only place with exit codes.

use std::process::ExitCode;

use lighter_daemon::vm::Failure;

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u8);

impl Code {
    /// Everything was done.
    pub const OK: Self = Self(0);
    /// Something was not done.
    pub const FAILURE: Self = Self(1);
    /// The command line was wrong, or `run` failed before the container did: docker's number.
    pub const USAGE: Self = Self(125);
    /// The container's program cannot be executed.
    pub const NOT_EXECUTABLE: Self = Self(126);
    /// The container's program is not there.
    pub const NOT_FOUND: Self = Self(127);

    /// The code of a container, as the API tells it.
    pub fn of_container(status: i64) -> Self {
        Self(u8::try_from(status & 0xff).unwrap_or(u8::MAX))
    }

    /// The code of a process that a signal ended.
    pub fn of_signal(signal: i32) -> Self {
        Self(u8::try_from(128 + signal).unwrap_or(u8::MAX))
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.0)
    }
}

/// What a person is told when something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    /// What went wrong, lower case, no full stop.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// More lines, shown as they are.
    pub details: Option<String>,
    /// What the process ends with.
    pub code: Code,
}

impl CliError {
    /// Something was not done.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            details: None,
            code: Code::FAILURE,
        }
    }

    /// The command line was wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            code: Code::USAGE,
            ..Self::new(message)
        }
    }

    /// An error with its causes.
    pub fn of(error: &dyn std::error::Error) -> Self {
        Self::new(Failure::of(error, None).message)
    }

    /// The same with a next step.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with another code.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self {
            message: failure.message,
            hint: failure.hint,
            details: failure
                .console_tail
                .map(|tail| format!("last lines of the machine's console:\n{}", tail.trim_end())),
            code: Code::FAILURE,
        }
    }
}

/// The system's words for an error as other programs print them: `no such file or directory`.
pub fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::of(&error)
    }
}
