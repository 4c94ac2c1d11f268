//! What can be wrong with the settings, and what to do about it.

use std::io;
use std::path::PathBuf;

use lighter_platform::DirError;

use super::keys::KEYS;

/// One value that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The setting.
    pub key: &'static str,
    /// What was written.
    pub value: String,
    /// What it must be.
    pub why: String,
}

impl Wrong {
    fn said(&self) -> String {
        let Self { key, value, why } = self;
        format!("`{key}` cannot be `{value}`: {why}")
    }
}

fn said(all: &[Wrong]) -> String {
    let each: Vec<_> = all.iter().map(Wrong::said).collect();
    each.join("; ")
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The settings file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The file is no TOML, or its one wrong value has the wrong type.
    #[error("`{}` is not valid: {message}", path.display())]
    Syntax {
        /// The settings file.
        path: PathBuf,
        /// The parser's words.
        message: String,
    },
    /// A key that does not exist.
    #[error("there is no setting `{key}`")]
    Unknown {
        /// What was written.
        key: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// A value of the wrong type, or out of its bounds.
    #[error("`{key}` cannot be `{value}`: {why}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What was written.
        value: String,
        /// What it must be.
        why: String,
    },
    /// Several values at once: none of them can be put right while another is not.
    #[error("{}", said(.0))]
    Several(Vec<Wrong>),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] DirError),
}

impl SettingsError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown {
                nearest: Some(name),
                ..
            } => format!("did you mean `{name}`?"),
            Self::Unknown { .. } => "see all settings with `lighter config list`".to_owned(),
            Self::Read { path, .. } | Self::Syntax { path, .. } => {
                format!(
                    "correct `{}`, or move it away to start from the defaults",
                    path.display()
                )
            }
            // Of another subnet neither can be without the other.
            Self::Value {
                key: "engine.fixed-cidr",
                ..
            } => "set another, or both at once: `lighter config set engine.bip VALUE engine.fixed-cidr VALUE`; \
                  `lighter config unset engine.fixed-cidr` takes it back"
                .to_owned(),
            Self::Value { key, .. } => {
                format!("set another with `lighter config set {key} VALUE`")
            }
            Self::Several(wrong) => {
                let keys: Vec<_> = wrong.iter().map(|wrong| wrong.key).collect();
                format!(
                    "set them together with `lighter config set {} VALUE`, or take them out with `lighter config unset {}`",
                    keys.join(" VALUE "),
                    keys.join(" ")
                )
            }
            Self::Write(error) => error.hint(),
        }
    }
}

/// Nothing where nothing is wrong.
pub(super) fn of(mut all: Vec<Wrong>) -> Result<(), SettingsError> {
    match all.len() {
        0 | 1 => all.pop().map_or(Ok(()), |Wrong { key, value, why }| {
            Err(SettingsError::Value { key, value, why })
        }),
        _ => {
            all.sort_by_key(|wrong| KEYS.iter().position(|key| key.name == wrong.key));
            Err(SettingsError::Several(all))
        }
    }
}
