//! What can go wrong.

use std::borrow::Cow;

use rustix::io::Errno;

use crate::plan::Address;

/// A change of the network was refused.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// By the kernel, or by what speaks with it.
    #[error("{what}: {source}")]
    Refused {
        /// What was tried.
        what: Cow<'static, str>,
        /// The answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No interface can have this name.
    #[error("`{0}` cannot be the name of an interface")]
    Name(String),
    /// No subnet of its family has such a prefix.
    #[error("{} has no prefix of {} bits", .0.ip, .0.prefix)]
    Prefix(Address),
    /// A bridge that was never set, or a parent or interface that is not there.
    #[error("there is no interface `{0}`")]
    NoInterface(String),
    /// What is there under this name is nobody's of ours.
    #[error("there is another interface `{0}`")]
    Taken(String),
    /// A setting that is none of an interface.
    #[error("`{0}` is no setting of an interface")]
    Setting(String),
    /// What the kernel would pass over in silence.
    #[error("{0} is not possible")]
    Impossible(&'static str),
}

impl NetworkError {
    /// For `map_err`.
    pub(crate) fn of<E>(what: impl Into<Cow<'static, str>>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Refused {
            what: what.into(),
            source: source.into(),
        }
    }

    /// The same where what was tried takes work to say.
    pub(crate) fn saying(what: impl FnOnce() -> String) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::Refused {
            what: what().into(),
            source: Box::new(errno),
        }
    }

    /// The kernel's number, where it was the kernel.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { source, .. } => source.downcast_ref::<Errno>().copied(),
            _ => None,
        }
    }
}
