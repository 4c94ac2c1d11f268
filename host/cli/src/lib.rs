//! The command people type.
