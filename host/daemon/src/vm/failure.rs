//! Why there is no machine, in a form that every waiting client can be given.

use lighter_machine::ExitReason;
use lighter_platform::text;
use serde::{Deserialize, Serialize};

/// A reason, what to do about it, and the guest's last words where there are any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What went wrong, with its causes.
    pub message: String,
    /// What the user can do.
    pub hint: Option<String>,
    /// The end of the guest's console.
    pub console_tail: Option<String>,
}

impl Failure {
    /// A reason without more.
    #[must_use]
    pub fn plain(message: impl Into<String>) -> Self {
        Self {
            message: shown(&message.into()),
            hint: None,
            console_tail: None,
        }
    }

    /// A reason made of an error and all its causes.
    #[must_use]
    pub fn of(error: &dyn std::error::Error, hint: Option<String>) -> Self {
        Self {
            message: shown(&chain(error)),
            hint,
            console_tail: None,
        }
    }

    /// The same with the end of the guest's console.
    #[must_use]
    pub fn with_console(mut self, tail: &str) -> Self {
        let tail = text::without_controls(tail);
        self.console_tail = Some(tail).filter(|tail| !tail.trim().is_empty());
        self
    }

    /// The reason a machine that was up is no more.
    #[must_use]
    pub fn from_exit(reason: &ExitReason) -> Self {
        match reason {
            ExitReason::Bye { reason } => {
                Self::plain(format!("the virtual machine went down ({reason})"))
            }
            ExitReason::Killed => Self::plain("the virtual machine was ended"),
            ExitReason::Crash { what, console_tail } => {
                Self::plain(format!("the virtual machine ended unexpectedly: {what}"))
                    .with_console(console_tail)
            }
            ExitReason::Vanished => {
                Self::plain("the process of the virtual machine ended unexpectedly")
            }
            ExitReason::TakenOver => Self::plain("another daemon took the virtual machine over"),
        }
    }

    /// Everything in one text, for a client that shows only one.
    #[must_use]
    pub fn full_text(&self) -> String {
        let mut text = self.message.clone();
        if let Some(hint) = &self.hint {
            text.push_str("\nhint: ");
            text.push_str(hint);
        }
        if let Some(tail) = &self.console_tail {
            text.push_str("\nlast lines of the machine's console:\n");
            text.push_str(tail.trim_end());
        }
        text
    }
}

/// Most characters of a message: some of them are the guest's own.
const MOST_MESSAGE: usize = 4096;

fn shown(message: &str) -> String {
    text::clipped(message, MOST_MESSAGE)
}

/// An error's words followed by those of its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Some errors repeat their cause; saying it twice helps nobody.
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_steer_the_terminal_through_a_message_or_fill_it() {
        let failure = Failure::plain(format!("\x1b[2Jbad{}", "x".repeat(1 << 20)))
            .with_console("\x1b]0;title\x07line");
        assert!(failure.message.starts_with("bad"));
        assert!(failure.message.chars().count() <= MOST_MESSAGE + 1);
        assert!(!failure.full_text().contains(['\x1b', '\x07']));
    }
}
