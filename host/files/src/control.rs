//! What the daemon and the files process say to each other: plain data, no I/O.
//!
//! One message is one packet of JSON on a `SOCK_SEQPACKET` socket, answered by one packet. `AddShare`
//! carries exactly one descriptor beside it: the directory or regular file to share, opened with `O_PATH`
//! (or any other way) by the daemon; `Hide` and `Protect` that of the directory in which the name lies.

use serde::{Deserialize, Serialize};

/// Longest packet either side accepts.
pub const MAX_PACKET: usize = 64 * 1024;

/// Most shares that can be active at once.
pub const MAX_SHARES: usize = 1024;

/// Most names that can be hidden, and most that can be protected.
pub const MAX_HIDDEN: usize = 256;

/// The name of a share: one path component below the mount in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShareId(String);

/// A share's name was not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a share's id is 1 to 64 of a-z, A-Z, 0-9, `-`, `_` and `.`, not beginning with `.`: got {0:?}"
)]
pub struct BadShareId(String);

impl ShareId {
    /// Checks that `id` can be one component of a path, and nothing else.
    ///
    /// # Errors
    /// [`BadShareId`] where it is empty, too long, begins with a dot or has another character.
    pub fn new(id: impl Into<String>) -> Result<Self, BadShareId> {
        let id = id.into();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || id.len() > 64 || id.starts_with('.') || !id.chars().all(plain) {
            return Err(BadShareId(id));
        }
        Ok(Self(id))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ShareId {
    type Error = BadShareId;

    fn try_from(id: String) -> Result<Self, Self::Error> {
        Self::new(id)
    }
}

impl From<ShareId> for String {
    fn from(id: ShareId) -> Self {
        id.0
    }
}

impl std::fmt::Display for ShareId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// From the daemon to the files process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// The first packet on the inherited socket; beside it come three descriptors: the listening
    /// vhost-user socket, the listening control socket, the directory of the side file for attributes.
    Setup,
    /// Serve the descriptor beside this message under `id`.
    AddShare {
        /// Name below the synthetic root.
        id: ShareId,
        /// Every change through this share is refused with EROFS.
        read_only: bool,
        /// The user named this very folder: it is served even if it lies in a hidden one.
        #[serde(default)]
        named: bool,
        /// What the share is, for the log and for `Status`; never opened.
        label: String,
    },
    /// Stop serving `id`: every open file below it fails from then on.
    RemoveShare {
        /// Name below the synthetic root.
        id: ShareId,
    },
    /// Show `name` below the directory beside this message through no share, present or not.
    Hide {
        /// One path component.
        name: String,
    },
    /// Begin a new list of what is protected; until it is complete the old one holds.
    BeginProtect,
    /// Onto the new list: change `name` below the directory beside this message, and what is below it,
    /// through no share.
    Protect {
        /// One path component.
        name: String,
    },
    /// The new list is complete, and holds instead of the old one.
    EndProtect,
    /// Refuse every change through a share that may be written, or no longer refuse it.
    Restrict {
        /// Name below the synthetic root.
        id: ShareId,
        /// Whether changes are refused from now on.
        restricted: bool,
    },
    /// What is served now: the shares in the order of their ids, as many as one packet holds.
    Status {
        /// Only those after this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<ShareId>,
    },
}

/// From the files process to the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// It is done.
    Done,
    /// The answer to [`Request::Status`].
    Status(Status),
    /// It was not done.
    Refused {
        /// What kind of refusal, for programs.
        code: RefusalCode,
        /// The same, for people.
        message: String,
    },
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// A share of this id exists with another target or another flag.
    Exists,
    /// No share of this id.
    NotFound,
    /// The descriptor is missing, is neither a directory nor a regular file, or is of something hidden.
    NotShareable,
    /// [`MAX_SHARES`] are active, or [`MAX_HIDDEN`] places of a rule named.
    TooMany,
    /// The packet was not a request.
    Malformed,
}

/// What the files process serves, and how much of its budget is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The process; 0 of one that does not say.
    #[serde(default)]
    pub pid: u32,
    /// The active shares, or those of them that were asked for.
    pub shares: Vec<ShareStatus>,
    /// Whether there are more after these. A process that does not say told all of them.
    #[serde(default)]
    pub more: bool,
    /// Whether the virtual machine's front end is connected.
    pub connected: bool,
    /// Files and directories the guest holds open.
    pub open_handles: u64,
    /// Inodes the guest knows.
    pub nodes: u64,
    /// Descriptors kept for known inodes.
    pub cached_descriptors: u64,
}

/// One active share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareStatus {
    /// Name below the synthetic root.
    pub id: ShareId,
    /// What it was said to be.
    pub label: String,
    /// Whether changes are refused.
    pub read_only: bool,
    /// Whether changes are refused for now, by [`Request::Restrict`].
    #[serde(default)]
    pub restricted: bool,
    /// Whether it is a directory; else one regular file.
    pub directory: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_ids_are_single_components() {
        for good in ["a", "home-1", "0123456789abcdef", "x.y", "A_b"] {
            assert!(ShareId::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".x",
            "a/b",
            "a\0b",
            "ä",
            "a b",
            &"x".repeat(65),
        ] {
            assert!(ShareId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn messages_have_this_form() {
        let add = Request::AddShare {
            id: ShareId::new("h").expect("valid"),
            read_only: true,
            named: false,
            label: "/home/ann".into(),
        };
        let text = r#"{"request":"add_share","id":"h","read_only":true,"named":false,"label":"/home/ann"}"#;
        assert_eq!(serde_json::to_string(&add).expect("plain data"), text);
        assert_eq!(serde_json::from_str::<Request>(text).expect("same"), add);
        assert!(
            serde_json::from_str::<Request>(r#"{"request":"remove_share","id":"../x"}"#).is_err()
        );
    }
}
