//! The engine's one error type: a closed kind, a text for people, the cause.
//!
//! Every door of the engine returns it; `lighter-api` maps the kind to a status in one place and
//! sends the text as Docker's `message`. Clients match on some of these texts, so the ones Docker
//! has are worded as Docker words them. Nobody in this project matches on text.

use std::error::Error as StdError;
use std::fmt;

/// Shorthand for results of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a caller can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The named object does not exist.
    NotFound,
    /// The object's state or another object forbids it now.
    Conflict,
    /// The request itself is wrong; repeating it cannot help.
    InvalidArgument,
    /// There is nothing to do: the object is already in the wanted state.
    NotModified,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The request is understood and refused.
    Forbidden,
    /// A feature this engine does not have; the text names it.
    Unsupported,
    /// Not now: starting, stopping, or a part that is needed does not answer.
    Unavailable,
    /// Anything else.
    Internal,
}

/// An error of the engine.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of `kind` with the text people see.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Adds the cause; [`Error::text`] prints it after the message.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A thing that does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// A state that forbids the request.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// A wrong request.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidArgument, message)
    }

    /// A feature that is not there; the text names it.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// Refused although understood.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, message)
    }

    /// Not possible at the moment.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// An unexpected failure, with its cause.
    pub fn internal(
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::new(Kind::Internal, message).with_source(source)
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Message and causes in one line, as a client sees them.
    pub fn text(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&words(error));
            cause = error.source();
        }
        text
    }
}

/// An error as clients know it: those of the operating system in small letters and without a
/// number. Docker's CLI takes its exit code from such texts.
pub(crate) fn words(error: &(dyn StdError + 'static)) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((words, number)) if number.trim_end_matches(')').parse::<i32>().is_ok() => {
            words.to_lowercase()
        }
        _ => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_joins_the_causes() {
        let cause = std::io::Error::other("disk gone");
        let error = Error::internal("could not write the log", cause);
        assert_eq!(error.text(), "could not write the log: disk gone");
        assert_eq!(error.to_string(), "could not write the log");
    }

    #[test]
    fn errors_of_the_operating_system_are_said_as_clients_know_them() {
        let cause = std::io::Error::from_raw_os_error(2);
        let error = Error::internal("could not open it", cause);
        assert_eq!(error.text(), "could not open it: no such file or directory");
    }
}
