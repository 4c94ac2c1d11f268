//! Why a machine ended.

use serde::{Deserialize, Serialize};

/// The end of a machine, told once to whoever waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ExitReason {
    /// The guest said `bye` before it went down (the daemon had told so by
    /// [`crate::Machine::bye_seen`]).
    Bye {
        /// The guest's word for it, such as `shutdown` or `reboot`.
        reason: String,
    },
    /// [`crate::Machine::kill`] was called.
    Killed,
    /// The machine ended without `bye`: a panic, a crash of the monitor, a kill from outside.
    Crash {
        /// How the monitor ended, in words.
        what: String,
        /// The last lines of the guest's console.
        console_tail: String,
    },
    /// The machine process itself vanished; nobody knows more.
    Vanished,
    /// The machine lives on, but another daemon took it over from this one.
    TakenOver,
}
