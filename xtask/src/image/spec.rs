//! `vm-image/image.toml`: the pinned inputs and the few numbers of the image.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
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

impl Package {
    /// Whether the hash is one: 64 hexadecimal digits.
    pub fn has_hash(&self) -> bool {
        is_sha256(&self.deb_sha256)
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
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
        Self::parse(&text).with_context(|| format!("{} is not as it should be", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let spec: Self = toml::from_str(text)?;
        for pin in [&spec.kernel.package(), &spec.busybox, &spec.check_config] {
            ensure!(
                pin.has_hash(),
                "deb_sha256 of {} is no sha256: {:?}",
                pin.package,
                pin.deb_sha256
            );
        }
        ensure!(
            is_sha256(&spec.kernel.source_sha256),
            "source_sha256 is no sha256: {:?}",
            spec.kernel.source_sha256
        );
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../../vm-image/image.toml");

    #[test]
    fn a_pin_that_is_no_hash_or_a_key_that_is_unknown_is_named() {
        let spec = Spec::parse(TEXT).expect("our own file");
        let short = TEXT.replace(&spec.busybox.deb_sha256, "3d3f");
        let error = Spec::parse(&short).expect_err("too short").to_string();
        assert!(error.contains("busybox-static"), "{error}");
        let misspelt = TEXT.replace("[busybox]\npackage", "[busybox]\npackge");
        assert!(Spec::parse(&misspelt).is_err());
    }
}
