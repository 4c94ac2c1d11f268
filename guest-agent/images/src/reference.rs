//! Image references as people type them: `busybox`, `localhost:5000/a/b:tag`, `x@sha256:…`.
//!
//! The grammar and the "familiar" short forms are the Docker clients'. Parsing is the only way
//! to get a [`Reference`], so its parts can be put into paths, URLs and messages as they are.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// The registry a name without one belongs to.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A parsed reference: always a registry and a repository, perhaps a tag, perhaps a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference. The texts are those of dockerd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Not in the grammar.
    #[error("invalid reference format")]
    Format,
    /// The repository has capital letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// Longer than 255 characters.
    #[error(
        "invalid reference format: repository name must not be more than {MAX_NAME} characters"
    )]
    TooLong,
    /// 64 hexadecimal digits, which would be taken for an image ID.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// A digest with an algorithm other than sha256.
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
}

impl Reference {
    /// The registry's host and port; `docker.io` if none was given.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry, `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The name without tag and digest, as docker shows it: `busybox`, `localhost:5000/a`. Where
    /// that would be read as another name (`docker.io/a.b/c`), the registry stays.
    pub fn familiar_name(&self) -> String {
        let full = || format!("{}/{}", self.registry, self.repository);
        if self.registry != DEFAULT_REGISTRY {
            return full();
        }
        let short = match self.repository.strip_prefix(OFFICIAL_PREFIX) {
            Some(rest) if !rest.contains('/') => rest,
            _ => &self.repository,
        };
        let (registry, repository) = split_registry(short);
        if (registry, &repository) != (&self.registry, &self.repository) || is_hex64(short) {
            return full();
        }
        short.to_owned()
    }

    /// Name with tag and digest as docker shows it.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        text
    }

    /// The same reference with `latest` if it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The same repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Format);
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same repository with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
    }
}

/// The full form, with the registry: `docker.io/library/busybox:latest`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}/{}", self.registry, self.repository);
        self.push_suffix(&mut text);
        f.write_str(&text)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if is_hex64(text) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (rest, digest) = split_digest(text)?;
        let (name, tag) = split_tag(rest);
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Format);
        }
        let (registry, repository) = split_registry(name);
        check_repository(&repository)?;
        if !is_registry(registry) {
            return Err(ReferenceError::Format);
        }
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(ReferenceError::TooLong);
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), ReferenceError> {
    let Some((rest, digest)) = text.split_once('@') else {
        return Ok((text, None));
    };
    let digest = digest.parse().map_err(|error| match error {
        crate::digest::DigestError::Algorithm => ReferenceError::DigestAlgorithm,
        crate::digest::DigestError::Format => ReferenceError::Format,
    })?;
    Ok((rest, Some(digest)))
}

/// A colon after the last slash begins a tag; one before it belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rfind(':') {
        Some(at) if !text[at..].contains('/') => (&text[..at], Some(&text[at + 1..])),
        _ => (text, None),
    }
}

/// The registry that a text begins with, if it does, and the rest.
pub(crate) fn host_and_path(text: &str) -> Option<(&str, &str)> {
    let (first, rest) = text.split_once('/')?;
    (first.contains(['.', ':']) || first == "localhost").then_some((first, rest))
}

/// What is before the first slash is a registry only if it could not be a user's name: it has a
/// dot, a port or a capital letter, or is `localhost`.
fn split_registry(name: &str) -> (&str, String) {
    if let Some((first, rest)) = name.split_once('/') {
        let named = first.contains(['.', ':'])
            || first == "localhost"
            || first.bytes().any(|b| b.is_ascii_uppercase());
        if named {
            let registry = if first == "index.docker.io" {
                DEFAULT_REGISTRY
            } else {
                first
            };
            let official = registry == DEFAULT_REGISTRY && !rest.contains('/');
            let prefix = if official { OFFICIAL_PREFIX } else { "" };
            return (registry, format!("{prefix}{rest}"));
        }
        return (DEFAULT_REGISTRY, name.to_owned());
    }
    (DEFAULT_REGISTRY, format!("{OFFICIAL_PREFIX}{name}"))
}

fn check_repository(repository: &str) -> Result<(), ReferenceError> {
    if repository.len() > MAX_NAME {
        return Err(ReferenceError::TooLong);
    }
    if repository.split('/').all(is_component) {
        return Ok(());
    }
    let lower = repository.to_ascii_lowercase();
    if lower != repository && lower.split('/').all(is_component) {
        return Err(ReferenceError::Uppercase(repository.to_owned()));
    }
    Err(ReferenceError::Format)
}

/// `[a-z0-9]+` joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alnum(*first) || !alnum(*last) {
        return false;
    }
    bytes
        .split(|b| alnum(*b))
        .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|b| *b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_registry(registry: &str) -> bool {
    if let Some(rest) = registry.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = match registry.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    port.is_none_or(is_port) && host.split('.').all(is_label)
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

fn is_hex64(text: &str) -> bool {
    Digest::from_hex(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn short_names_gain_registry_and_library() {
        for (text, full, familiar) in [
            ("busybox", "docker.io/library/busybox", "busybox"),
            (
                "busybox:1.36",
                "docker.io/library/busybox:1.36",
                "busybox:1.36",
            ),
            ("a/b", "docker.io/a/b", "a/b"),
            ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
            (
                "index.docker.io/library/busybox",
                "docker.io/library/busybox",
                "busybox",
            ),
            (
                "docker.io/library/a/b",
                "docker.io/library/a/b",
                "library/a/b",
            ),
            ("localhost/x", "localhost/x", "localhost/x"),
            (
                "localhost:5000/x:y",
                "localhost:5000/x:y",
                "localhost:5000/x:y",
            ),
            ("quay.io/a/b/c", "quay.io/a/b/c", "quay.io/a/b/c"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("FOO/bar", "FOO/bar", "FOO/bar"),
            (
                "a__b-c--d.e",
                "docker.io/library/a__b-c--d.e",
                "a__b-c--d.e",
            ),
        ] {
            assert_eq!(parse(text).to_string(), full, "{text}");
            assert_eq!(parse(text).familiar(), familiar, "{text}");
        }
    }

    #[test]
    fn a_name_of_the_hub_that_reads_like_another_keeps_its_registry() {
        let id = "a".repeat(64);
        for text in [
            "docker.io/a.b/c",
            "docker.io/localhost/c",
            "docker.io/a.b/library/c:t",
            &format!("docker.io/library/{id}"),
        ] {
            assert_eq!(parse(text).familiar(), text);
        }
        assert_eq!(parse("docker.io/library/a.b").familiar(), "a.b");
    }

    #[test]
    fn tag_and_digest_may_both_be_there() {
        let digest = Digest::of(b"x");
        let reference = parse(&format!("localhost:5000/a:t@{digest}"));
        assert_eq!(reference.tag(), Some("t"));
        assert_eq!(reference.digest(), Some(&digest));
        assert_eq!(reference.familiar(), format!("localhost:5000/a:t@{digest}"));
        assert_eq!(parse("a").with_default_tag().tag(), Some("latest"));
    }

    #[test]
    fn what_could_reach_elsewhere_is_refused() {
        for text in [
            "",
            ":",
            "/",
            "a/",
            "/a",
            "a//b",
            "../a",
            "a/../b",
            "a/..",
            ".",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a:",
            "a:-x",
            "a b",
            "a\n",
            "a\0",
            "a:t\r\nHost: x",
            "unix:///run/x",
            "http://x/y",
            "localhost:99999/x",
            "localhost:/x:y:z",
            "h:5000:6/x",
            "[::1/x",
            "[zz]/x",
            "a?b",
            "a#b",
            "a%2fb",
            "x@sha256:12",
            "x@",
            "é",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
        assert!(
            format!("a:{}", "t".repeat(128))
                .parse::<Reference>()
                .is_ok()
        );
        assert!(
            format!("a:{}", "t".repeat(129))
                .parse::<Reference>()
                .is_err()
        );
        assert_eq!(
            "a".repeat(256).parse::<Reference>(),
            Err(ReferenceError::TooLong)
        );
        assert_eq!(
            "Busybox".parse::<Reference>(),
            Err(ReferenceError::Uppercase("library/Busybox".into()))
        );
        assert!(matches!(
            "a".repeat(64).parse::<Reference>(),
            Err(ReferenceError::LooksLikeId(_))
        ));
        assert_eq!(
            "x@sha512:00".parse::<Reference>(),
            Err(ReferenceError::DigestAlgorithm)
        );
    }
}
