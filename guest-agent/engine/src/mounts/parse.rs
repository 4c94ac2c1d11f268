//! Reads `source:destination:options` of `-v` and cleans paths.

use super::{Mount, Source};
use crate::error::{Error, Result};

/// A path without `.`, `..`, doubled and trailing slashes; it must be absolute and not the root.
pub(super) fn clean_destination(path: &str) -> Result<String> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Error::invalid(format!(
            "invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    let clean = clean(path);
    if clean == "/" {
        return Err(Error::invalid(
            "invalid specification: destination can't be '/'",
        ));
    }
    Ok(clean)
}

/// Cleans an absolute path by its words alone, as Go's `path.Clean` does.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Reads one entry of `Binds`. A volume without a name gets one from `name`.
pub(super) fn bind(spec: &str, name: impl FnOnce() -> Result<String>) -> Result<Mount> {
    let invalid = || Error::invalid(format!("invalid volume specification: '{spec}'"));
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, destination, mode) = match parts.as_slice() {
        [destination] => (None, *destination, ""),
        [source, destination] if destination.starts_with('/') => (Some(*source), *destination, ""),
        // `/path:ro` names a destination and options only.
        [destination, mode] if destination.starts_with('/') && is_mode(mode) => {
            (None, *destination, *mode)
        }
        [source, destination] if !is_mode(destination) => (Some(*source), *destination, ""),
        [source, destination, mode] => (Some(*source), *destination, *mode),
        _ => return Err(invalid()),
    };
    if source.is_some_and(str::is_empty) || destination.is_empty() {
        return Err(invalid());
    }
    let options = Options::parse(spec, mode)?;
    let source = match source {
        Some(path) if path.starts_with('/') => {
            if options.no_copy {
                return Err(invalid());
            }
            Source::Bind {
                path: clean(path),
                create: true,
            }
        }
        Some(volume) => Source::Volume {
            name: volume_name(volume)?,
            anonymous: false,
            no_copy: options.no_copy,
            subpath: String::new(),
        },
        None => Source::Volume {
            name: name()?,
            anonymous: true,
            no_copy: options.no_copy,
            subpath: String::new(),
        },
    };
    let volume = matches!(source, Source::Volume { .. });
    Ok(Mount {
        destination: clean_destination(destination)?,
        source,
        read_only: options.read_only,
        read_only_non_recursive: false,
        non_recursive: false,
        propagation: options.propagation,
        mode: if volume && mode.is_empty() {
            "z".into()
        } else {
            mode.to_owned()
        },
    })
}

/// An error of an entry of `Binds`, in Docker's words.
pub(super) fn in_bind(spec: &str, error: &Error) -> Error {
    let text = error.text();
    let kind = if spec.starts_with('/') {
        "bind"
    } else {
        "volume"
    };
    if text.starts_with("invalid mount path") || text.starts_with("invalid specification") {
        return Error::invalid(format!(
            "invalid volume specification: '{spec}': invalid mount config for type \"{kind}\": \
             {text}"
        ));
    }
    Error::new(error.kind(), text)
}

/// A name a volume may have.
pub(super) fn volume_name(name: &str) -> Result<String> {
    crate::names::check(name, "volume name").map_err(|_| {
        Error::invalid(format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, \
             use absolute path"
        ))
    })?;
    Ok(name.to_owned())
}

#[derive(Default)]
struct Options {
    read_only: bool,
    no_copy: bool,
    propagation: String,
}

impl Options {
    fn parse(spec: &str, mode: &str) -> Result<Self> {
        let mut options = Self::default();
        let mut seen_access = false;
        for word in mode.split(',').filter(|word| !word.is_empty()) {
            match word {
                "ro" | "rw" if seen_access => return Err(invalid_mode(mode)),
                "ro" => (options.read_only, seen_access) = (true, true),
                "rw" => seen_access = true,
                "nocopy" => options.no_copy = true,
                // Labels of SELinux, which this kernel does not have; hints for other products.
                "z" | "Z" | "consistent" | "cached" | "delegated" => {}
                word if propagation(word) => options.propagation = word.to_owned(),
                _ => return Err(invalid_mode(mode)),
            }
        }
        if mode.is_empty() && spec.ends_with(':') {
            return Err(Error::invalid(format!(
                "invalid volume specification: '{spec}'"
            )));
        }
        Ok(options)
    }
}

fn is_mode(text: &str) -> bool {
    Options::parse("", text).is_ok()
}

/// Whether `word` says how mount events pass.
pub(super) fn propagation(word: &str) -> bool {
    matches!(
        word,
        "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave"
    )
}

fn invalid_mode(mode: &str) -> Error {
    Error::invalid(format!("invalid mode: {mode}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(spec: &str) -> Result<Mount> {
        bind(spec, || Ok("anon".into()))
    }

    #[test]
    fn binds_volumes_and_anonymous_volumes() {
        let mount = parse("/a//b/../c:/x/:ro,rslave").unwrap();
        assert_eq!(
            mount.source,
            Source::Bind {
                path: "/a/c".into(),
                create: true
            }
        );
        assert_eq!((mount.destination.as_str(), mount.read_only), ("/x", true));
        assert_eq!(mount.propagation, "rslave");
        assert_eq!(
            (
                parse("vol:/x").unwrap().volume(),
                parse("vol:/x").unwrap().mode.as_str()
            ),
            (Some("vol"), "z")
        );
        assert_eq!(parse("/x").unwrap().volume(), Some("anon"));
        assert!(parse("/x:ro").unwrap().read_only);
    }

    #[test]
    fn wrong_ones_are_refused() {
        for spec in [
            "",
            ":/x",
            "a:",
            "a:b:c:d",
            "/a:/",
            "/a:x",
            "./a:/x",
            "/a:/x:bogus",
            "/a:/x:ro,rw",
            "/a:/x:nocopy",
        ] {
            parse(spec).unwrap_err();
        }
    }
}
