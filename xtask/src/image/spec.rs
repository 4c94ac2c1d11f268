//! `vm-image/image.toml`: the pinned inputs and the few numbers of the image.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The whole file. An unknown key is an error: a misspelt pin must not go unnoticed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub kernel: Kernel,
    pub busybox: Package,
    pub data_disk: DataDisk,
    pub limits: Limits,
    pub check_config: Package,
}

/// A Debian package by version and hash.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    pub package: String,
    pub version: String,
    /// Empty for a tool that is taken as installed, not fetched.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub deb_sha256: String,
}

/// The kernel's source, inside a package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    pub package: String,
    pub version: String,
    pub deb_sha256: String,
    pub source: String,
    pub source_sha256: String,
    pub build_steps: u32,
}

impl Kernel {
    /// The package that holds the source.
    pub fn package(&self) -> Package {
        Package {
            package: self.package.clone(),
            version: self.version.clone(),
            deb_sha256: self.deb_sha256.clone(),
        }
    }
}

/// How the data disk's file system is made.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataDisk {
    pub size_gib: u64,
    pub journal_mib: u32,
    pub growable_gib: u64,
    pub features: Vec<String>,
}

/// What the image may weigh.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub kernel_and_initramfs_mb: u64,
}

impl Spec {
    /// Reads `image.toml` of the given `vm-image` folder.
    pub fn read(vm_image: &Path) -> Result<Self> {
        let path = vm_image.join("image.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not as it should be", path.display()))
    }
}
