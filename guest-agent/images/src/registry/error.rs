//! What can go wrong between here and a registry. The texts are dockerd's: clients match on some.

use std::fmt;
use std::io;
use std::time::Duration;

use serde::Deserialize;

/// The first error of a registry's answer: a code and a sentence, made fit for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    code: String,
    message: String,
}

impl Said {
    /// What is said where the registry says nothing.
    pub(super) fn default_of(code: &str, message: &str) -> Self {
        Self {
            code: code.to_owned(),
            message: message.to_owned(),
        }
    }

    /// The first error of a body, if it has one.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            errors: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            code: String,
            #[serde(default)]
            message: String,
        }
        let body: Body = serde_json::from_slice(body).ok()?;
        let first = body.errors.into_iter().next()?;
        Some(Self {
            code: printable(&first.code, 64),
            message: printable(&first.message, 512),
        })
    }

    pub(super) fn is(&self, code: &str) -> bool {
        self.code.eq_ignore_ascii_case(code)
    }
}

/// As dockerd prints it: `manifest unknown: manifest unknown`.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.to_lowercase().replace('_', " ");
        write!(f, "{code}: {}", self.message)
    }
}

/// A registry writes to nobody's terminal but in plain words.
pub(super) fn printable(text: &str, longest: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(longest).collect()
}

/// An error of the registry client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The registry does not show the repository to us.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login': {said}"
    )]
    Denied {
        /// The repository.
        name: String,
        /// The registry's word and reason.
        said: Said,
    },
    /// The registry has no such repository.
    #[error("repository {name} not found: {said}")]
    NameUnknown {
        /// The repository.
        name: String,
        /// The registry's word and reason.
        said: Said,
    },
    /// The registry has no such tag or digest.
    #[error("manifest for {name} not found: {said}")]
    ManifestUnknown {
        /// The image.
        name: String,
        /// The registry's word and reason.
        said: Said,
    },
    /// The registry does not take what is pushed.
    #[error("{0}")]
    Refused(Said),
    /// A registry that does not search.
    #[error("{0}")]
    Search(String),
    /// Nobody is there to be searched.
    #[error("{0}")]
    NoEndpoint(String),
    /// The registry wants a name and password, and there are none.
    #[error("{request}: no basic auth credentials")]
    NoCredentials {
        /// Method and URL.
        request: String,
    },
    /// The name and password are not right.
    #[error("{0}")]
    Unauthorized(String),
    /// `docker login` with a name and password that are not right.
    #[error("login attempt to {url} failed with status: {status}")]
    Login {
        /// Where.
        url: String,
        /// The status line's number and words.
        status: String,
    },
    /// The index has nothing for the platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(String),
    /// Asked too often.
    #[error("{said}")]
    TooManyRequests {
        /// The registry's word and reason.
        said: Said,
        /// When it may be asked again, if it says so.
        retry_after: Option<Duration>,
    },
    /// An answer nobody asked for.
    #[error("received unexpected HTTP status: {0}")]
    Status(String),
    /// The registry cannot be reached, or the connection broke.
    #[error("{request}: {source}")]
    Transport {
        /// Method and URL.
        request: String,
        /// What happened.
        source: io::Error,
    },
    /// The answer breaks the protocol, or one of the bounds.
    #[error("{request}: {problem}")]
    Protocol {
        /// Method and URL.
        request: String,
        /// What is wrong.
        problem: String,
    },
    /// What is to be fetched has no address.
    #[error("invalid address {address:?}: {problem}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What is to be fetched is not there.
    #[error("failed to GET {address} with status {words}: {said}")]
    Fetch {
        /// The address.
        address: String,
        /// The status.
        status: u16,
        /// The status with its words.
        words: String,
        /// What the server says.
        said: String,
    },
    /// The trust roots of the settings cannot be used.
    #[error("the trust roots cannot be read: {0}")]
    TrustRoots(String),
    /// A setting that cannot be read.
    #[error("invalid setting {name}: {value:?}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

impl RegistryError {
    /// Whether another attempt may help.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Transport { source, .. } => source.kind() != io::ErrorKind::PermissionDenied,
            Self::TooManyRequests { .. } => true,
            Self::Status(status) => status.starts_with('5'),
            _ => false,
        }
    }

    /// How long the registry wants not to be asked.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_is_made_fit_for_a_terminal() {
        let body = br#"{"errors":[{"code":"TOO_MANY","message":"\u001b[2Jno\r\nmore"}]}"#;
        let said = Said::of(body).unwrap();
        assert_eq!(said.to_string(), "too many:  [2Jno  more");
        let long = format!(
            r#"{{"errors":[{{"code":"A","message":"{}"}}]}}"#,
            "x".repeat(9000)
        );
        assert_eq!(Said::of(long.as_bytes()).unwrap().to_string().len(), 515);
        for nothing in ["", "{}", r#"{"errors":[]}"#, r#"{"errors":[{}]}"#, "<html>"] {
            assert_eq!(Said::of(nothing.as_bytes()), None);
        }
    }
}
