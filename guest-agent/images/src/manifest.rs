//! Manifests and indexes: OCI's and Docker's schema 2, which differ in names only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};

/// Largest manifest or index accepted; dockerd's limit.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// More layers than this are refused: overlayfs takes 500, Docker 125.
pub(crate) const MAX_LAYERS: usize = 500;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Points at content by digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<DescriptorPlatform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

/// Which machines an entry of an index is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DescriptorPlatform {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) variant: String,
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub(crate) os_version: String,
}

/// A manifest: one image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// An index (Docker says manifest list): one image for several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
}

/// Either of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

impl Document {
    /// Parses a document. `media_type` is what it came with (the registry's header or the
    /// descriptor); the document's own counts first.
    ///
    /// One that has both layers and manifests could be read as either, by different programs:
    /// refused.
    pub(crate) fn parse(bytes: &[u8], media_type: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            schema_version: u32,
            #[serde(default)]
            media_type: String,
            layers: Option<serde::de::IgnoredAny>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let wrong = |source| Error::Document {
            what: "manifest",
            source,
        };
        let probe: Probe = serde_json::from_slice(bytes).map_err(wrong)?;
        if probe.schema_version != 2 {
            return Err(Error::ManifestSchema(probe.schema_version));
        }
        let kind = if probe.media_type.is_empty() {
            media_type
        } else {
            &probe.media_type
        };
        let index = matches!(kind, OCI_INDEX | DOCKER_INDEX)
            || (!matches!(kind, OCI_MANIFEST | DOCKER_MANIFEST) && probe.manifests.is_some());
        let ambiguous = if index {
            probe.layers.is_some()
        } else {
            probe.manifests.is_some()
        };
        if ambiguous {
            return Err(Error::ManifestAmbiguous);
        }
        if index {
            return serde_json::from_slice(bytes)
                .map(Self::Index)
                .map_err(wrong);
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(wrong)?;
        if manifest.layers.len() > MAX_LAYERS {
            return Err(Error::LayerLimit(format!(
                "image has more than {MAX_LAYERS} layers"
            )));
        }
        Ok(Self::Manifest(manifest))
    }
}

/// The platform an image is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Always `linux` here.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v8` and the like; empty for any.
    pub variant: String,
}

impl Platform {
    /// The platform of this machine.
    pub fn native() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: String::new(),
        }
    }

    /// Parses `linux/arm64/v8` and the short forms docker takes.
    pub fn parse(text: &str) -> Option<Self> {
        let native = Self::native();
        let word = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let parts: Vec<String> = text.split('/').map(str::to_ascii_lowercase).collect();
        if parts.len() > 3 || !parts.iter().all(|part| word(part)) {
            return None;
        }
        let mut parts = parts.into_iter();
        let first = parts.next()?;
        let (os, architecture) = match parts.next() {
            Some(second) => (first, second),
            None if first == "linux" => (first, native.architecture),
            None => ("linux".to_owned(), first),
        };
        let variant = parts.next().unwrap_or_default();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64", _) => ("amd64", ""),
            ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
            ("i386" | "i686", _) => ("386", ""),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            (architecture, variant) => (architecture, variant),
        };
        Some(Self {
            os,
            architecture: architecture.into(),
            variant: variant.into(),
        })
    }

    /// As docker writes it: `linux/amd64`.
    pub fn display(&self) -> String {
        let mut text = format!("{}/{}", self.os, self.architecture);
        if !self.variant.is_empty() {
            text.push('/');
            text.push_str(&self.variant);
        }
        text
    }

    /// The entry of an index for this platform; the first that fits counts. Attestations carry the
    /// platform `unknown/unknown` and never fit.
    pub(crate) fn choose<'a>(&self, manifests: &'a [Descriptor]) -> Option<&'a Descriptor> {
        let fits = |variant: &str| {
            manifests.iter().find(move |entry| {
                entry.platform.as_ref().is_some_and(|platform| {
                    platform.os == self.os
                        && platform.architecture == self.architecture
                        && (platform.variant == variant || variant == "*")
                })
            })
        };
        if !self.variant.is_empty() {
            return fits(&self.variant);
        }
        fits("").or_else(|| fits("v8")).or_else(|| fits("*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_parse_as_docker_writes_them() {
        for (text, display) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("aarch64", "linux/arm64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("Linux/X86_64", "linux/amd64"),
        ] {
            assert_eq!(Platform::parse(text).unwrap().display(), display);
        }
        for text in ["", "/", "linux/", "a/b/c/d", "linux/amd 64"] {
            assert_eq!(Platform::parse(text), None, "{text}");
        }
    }

    #[test]
    fn index_entries_are_chosen_by_platform_and_attestations_never() {
        let entry = |os: &str, architecture: &str, variant: &str, content: &[u8]| Descriptor {
            media_type: OCI_MANIFEST.into(),
            digest: Digest::of(content),
            size: 1,
            platform: Some(DescriptorPlatform {
                os: os.into(),
                architecture: architecture.into(),
                variant: variant.into(),
                os_version: String::new(),
            }),
            annotations: None,
        };
        let entries = [
            entry("unknown", "unknown", "", b"attestation"),
            entry("linux", "arm", "v6", b"v6"),
            entry("linux", "arm", "v7", b"v7"),
            entry("linux", "amd64", "", b"amd64"),
            entry("linux", "arm64", "v8", b"arm64"),
        ];
        let choose = |text: &str| {
            Platform::parse(text)
                .unwrap()
                .choose(&entries)
                .map(|found| found.digest)
        };
        assert_eq!(choose("linux/amd64"), Some(Digest::of(b"amd64")));
        assert_eq!(choose("linux/arm64"), Some(Digest::of(b"arm64")));
        assert_eq!(choose("linux/arm/v7"), Some(Digest::of(b"v7")));
        assert_eq!(choose("linux/arm/v5"), None);
        assert_eq!(choose("linux/s390x"), None);
    }

    #[test]
    fn a_document_that_could_be_either_is_refused() {
        let both = br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        assert!(matches!(
            Document::parse(both, ""),
            Err(Error::ManifestAmbiguous)
        ));
        assert!(matches!(
            Document::parse(both, OCI_INDEX),
            Err(Error::ManifestAmbiguous)
        ));
        let old = br#"{"schemaVersion":1}"#;
        assert!(matches!(
            Document::parse(old, ""),
            Err(Error::ManifestSchema(1))
        ));
        let index = br#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(Document::parse(index, ""), Ok(Document::Index(_))));
    }
}
