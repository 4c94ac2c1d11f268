//! Flags that docker has and Lighter does not honour: refused by name.

use super::container_flags;

const OTHERS: &[&str] = &[
    "all-tags",
    "disable-content-trust",
    "checkpoint",
    "checkpoint-dir",
    "tree",
];

/// Whether docker knows this flag.
pub fn is_dockers(name: &str) -> bool {
    container_flags::REFUSED
        .iter()
        .chain(OTHERS)
        .any(|flag| *flag == name)
}
