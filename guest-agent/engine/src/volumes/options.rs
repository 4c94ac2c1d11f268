//! Options of the `local` driver, which are those of mount(8): where the content of a volume is, if not in
//! a folder of the engine's own.
//!
//! Called when a volume is made, and by `mounts` when it is used. Options that mean something this engine
//! does not have are refused when the volume is made, never ignored.

use std::collections::BTreeMap;

use rustix::mount::MountFlags;

use super::flags;
use crate::error::{Error, Result};
use crate::mounts::clean;
use crate::units;

/// Options there are.
const KNOWN: [&str; 4] = ["type", "o", "device", "size"];
/// Of which each wants others.
const WANTS: [(&str, &[&str]); 3] = [
    ("device", &["type"]),
    ("o", &["device", "type"]),
    ("type", &["device"]),
];

/// Where the content of a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// In a folder of the engine's.
    Own,
    /// In a folder of the host, which is mounted as a bind of the same path would be.
    Folder {
        /// The folder, cleaned.
        path: String,
        /// Whether it cannot be written.
        read_only: bool,
        /// With what is mounted below it.
        recursive: bool,
    },
    /// In memory, as long as a container uses it.
    Tmpfs(Tmpfs),
}

/// How a temporary file system is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tmpfs {
    /// What it is called in lists of mounts.
    pub(super) device: String,
    pub(super) flags: MountFlags,
    /// Options of its own.
    pub(super) data: String,
}

type Options = BTreeMap<String, String>;

/// Refuses options of a volume that is to be made. `sizes` says whether the disk can limit folders.
pub(crate) fn check(options: Option<&Options>, sizes: bool) -> Result<()> {
    let Some(options) = options else {
        return Ok(());
    };
    if let Some(unknown) = options.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(Error::invalid(format!("invalid option: \"{unknown}\"")));
    }
    let sized = size(Some(options))?.is_some();
    if sized && !sizes {
        return Err(Error::invalid("quota size requested but no quota support"));
    }
    if content(Some(options))? != Content::Own && sized {
        return Err(Error::unsupported(
            "a volume with a type has no size of its own: leave the option \"size\" out",
        ));
    }
    Ok(())
}

/// How many bytes a volume may hold; `None` for as many as there are.
pub(crate) fn size(options: Option<&Options>) -> Result<Option<u64>> {
    let Some(text) = options.and_then(|options| options.get("size")) else {
        return Ok(None);
    };
    let bytes = units::ram_in_bytes(text).map_err(Error::invalid)?;
    Ok((bytes > 0).then_some(bytes))
}

/// What the options of a volume mean.
pub(crate) fn content(options: Option<&Options>) -> Result<Content> {
    let Some(options) = options else {
        return Ok(Content::Own);
    };
    for (option, wanted) in WANTS {
        let missing = wanted.iter().find(|wanted| !options.contains_key(**wanted));
        if let (true, Some(missing)) = (options.contains_key(option), missing) {
            return Err(Error::invalid(format!(
                "missing required option: \"{missing}\""
            )));
        }
    }
    if !options.contains_key("type") {
        return Ok(Content::Own);
    }
    let value = |key: &str| options.get(key).map_or("", String::as_str);
    if value("type") == "tmpfs" {
        return tmpfs(value("device"), value("o"));
    }
    let mut folder = None;
    let mut read_only = false;
    for word in value("o").split(',').filter(|word| !word.is_empty()) {
        match word {
            "bind" => folder = Some(false),
            "rbind" => folder = Some(true),
            "ro" => read_only = true,
            "rw" => read_only = false,
            other if folder.is_some() || value("o").contains("bind") => {
                return Err(Error::unsupported(format!(
                    "the option \"{other}\" of a volume that is a folder is not supported: leave it out"
                )));
            }
            _ => {}
        }
    }
    let Some(recursive) = folder else {
        return Err(Error::unsupported(format!(
            "volumes of the type \"{}\" are not supported: there are type=tmpfs, and folders of the \
             host with type=none, o=bind and device=PATH",
            value("type")
        )));
    };
    let device = value("device");
    if !device.starts_with('/') {
        return Err(Error::invalid(format!(
            "the device \"{device}\" of a volume that is a folder must be an absolute path"
        )));
    }
    Ok(Content::Folder {
        path: clean(device),
        read_only,
        recursive,
    })
}

fn tmpfs(device: &str, options: &str) -> Result<Content> {
    let (flags, data) = flags::parse(options).map_err(|word| {
        Error::unsupported(format!(
            "the option \"{word}\" of a volume of the type \"tmpfs\" is not supported: leave it out"
        ))
    })?;
    if device.contains('\0') || data.contains('\0') {
        return Err(Error::invalid("an option of the volume holds a NUL byte"));
    }
    Ok(Content::Tmpfs(Tmpfs {
        device: device.to_owned(),
        flags,
        data,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        let owned = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
        pairs.iter().map(owned).collect()
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Content> {
        content(Some(&options(pairs)))
    }

    #[test]
    fn a_folder_of_the_host_is_a_volume() {
        let folder = |read_only, recursive| Content::Folder {
            path: "/home/ann/data".into(),
            read_only,
            recursive,
        };
        for (device, o, wanted) in [
            ("/home/ann/data", "bind", folder(false, false)),
            ("/home/ann/./x/../data/", "ro,bind", folder(true, false)),
            ("/home/ann/data", "rbind,rw", folder(false, true)),
        ] {
            let options = [("type", "none"), ("device", device), ("o", o)];
            assert_eq!(read(&options).unwrap(), wanted, "{o}");
        }
        assert_eq!(read(&[]).unwrap(), Content::Own);
        assert_eq!(content(None).unwrap(), Content::Own);
    }

    #[test]
    fn a_volume_in_memory_has_options_of_mount() {
        let options = [
            ("type", "tmpfs"),
            ("device", "scratch"),
            ("o", "size=10m,noexec,uid=1000,mode=1777"),
        ];
        let wanted = Tmpfs {
            device: "scratch".into(),
            flags: MountFlags::NOEXEC,
            data: "size=10m,uid=1000,mode=1777".into(),
        };
        assert_eq!(read(&options).unwrap(), Content::Tmpfs(wanted));
        assert!(read(&options[..2]).is_ok());
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (pairs, words) in [
            (&[("bogus", "1")][..], "invalid option: \"bogus\""),
            (&[("device", "/x")], "missing required option: \"type\""),
            (&[("type", "none")], "missing required option: \"device\""),
            (
                &[("o", "bind"), ("type", "none")],
                "missing required option: \"device\"",
            ),
            (&[("size", "1q")], "invalid suffix: 'q'"),
            (
                &[("size", "1m"), ("type", "none")],
                "missing required option: \"device\"",
            ),
            (
                &[
                    ("size", "1m"),
                    ("type", "none"),
                    ("device", "/x"),
                    ("o", "bind"),
                ],
                "a volume with a type has no size of its own",
            ),
            (
                &[("type", "nfs"), ("device", ":/x"), ("o", "addr=1.2.3.4")],
                "volumes of the type \"nfs\" are not supported",
            ),
            (
                &[("type", "tmpfs"), ("device", "t"), ("o", "size=1m,bind")],
                "the option \"bind\" of a volume of the type \"tmpfs\"",
            ),
            (
                &[("type", "tmpfs"), ("device", "t"), ("size", "1m")],
                "a volume with a type has no size of its own",
            ),
            (
                &[("type", "none"), ("device", "/x"), ("o", "bind,noexec")],
                "the option \"noexec\" of a volume that is a folder is not supported",
            ),
            (
                &[("type", "none"), ("device", "x"), ("o", "bind")],
                "must be an absolute path",
            ),
        ] {
            let error = check(Some(&options(pairs)), true).unwrap_err().text();
            assert!(error.contains(words), "{pairs:?}: {error}");
        }
    }

    #[test]
    fn a_size_wants_a_disk_that_can_limit_folders() {
        for (text, bytes) in [("10m", Some(10 << 20)), ("0", None)] {
            let sized = options(&[("size", text)]);
            assert_eq!(size(Some(&sized)).unwrap(), bytes);
            assert_eq!(content(Some(&sized)).unwrap(), Content::Own);
            assert!(check(Some(&sized), true).is_ok());
            let refused = check(Some(&sized), false).map_err(|error| error.text());
            let words = "quota size requested but no quota support";
            let wanted = bytes.map_or(Ok(()), |_| Err(words.to_owned()));
            assert_eq!(refused, wanted, "{text}");
        }
        assert_eq!(size(None).unwrap(), None);
    }
}
