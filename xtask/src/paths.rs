//! Where the tree is, and where results that can be made again are kept.

use std::path::{Path, PathBuf};

/// The top of the source tree.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder for results, outside the tree: `$LIGHTER_CACHE`, else `$XDG_CACHE_HOME/lighter`,
/// else `~/.cache/lighter`.
#[must_use]
pub fn cache() -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    set("LIGHTER_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("lighter")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/lighter")))
        .unwrap_or_else(|| PathBuf::from("/var/cache/lighter"))
}

/// Where cargo puts what it builds.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
