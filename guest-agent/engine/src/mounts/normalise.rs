//! Every way of asking for mounts, merged into one list.
//!
//! Later ways win over earlier ones at the same destination, as in dockerd: the volumes of other
//! containers, then `Binds` and `Mounts` (twice the same is an error), then `Tmpfs`; the image's
//! volumes fill what is left.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::{Mount, Source, parse};
use crate::error::{Error, Result};
use crate::ids;
use crate::model::{Config, HostConfig, MountRequest};
use crate::volumes;

/// What a list of mounts is made from.
pub(crate) struct Request<'a> {
    pub(crate) config: &'a Config,
    pub(crate) host_config: &'a HostConfig,
    /// The mounts of the containers in `VolumesFrom`, with the access asked for.
    pub(crate) from_others: Vec<Mount>,
    /// Whether volumes may have sizes.
    pub(crate) sizes: bool,
}

/// Merges and checks.
pub(crate) fn normalise(request: &Request<'_>) -> Result<Vec<Mount>> {
    let mut mounts: BTreeMap<String, Mount> = BTreeMap::new();
    for mount in &request.from_others {
        mounts.insert(mount.destination.clone(), mount.clone());
    }
    let mut named = BTreeSet::new();
    // The driver is that of the volumes that these ways name or make; without one it is not asked for.
    let made_by = |mount: &Mount| match mount.source {
        Source::Volume { .. } => volumes::check_driver(&request.host_config.volume_driver),
        _ => Ok(()),
    };
    let binds = request.host_config.binds.iter().flatten();
    let binds = binds.map(|spec| {
        let mount = parse::bind(spec, ids::new_id).map_err(|error| parse::in_bind(spec, &error))?;
        made_by(&mount).map(|()| mount)
    });
    let longs = request.host_config.mounts.iter().flatten();
    let longs = longs.map(|mount| long(mount, request.sizes));
    for mount in binds.chain(longs) {
        let mount = mount?;
        if !named.insert(mount.destination.clone()) {
            return Err(duplicate(&mount.destination));
        }
        mounts.insert(mount.destination.clone(), mount);
    }
    for (destination, options) in request.host_config.tmpfs.iter().flatten() {
        let mount = tmpfs(destination, options)?;
        if !named.insert(mount.destination.clone()) {
            return Err(duplicate(&mount.destination));
        }
        mounts.insert(mount.destination.clone(), mount);
    }
    for destination in request
        .config
        .volumes
        .iter()
        .flatten()
        .map(|(path, _)| path)
    {
        let destination = parse::clean_destination(destination)?;
        if let Entry::Vacant(free) = mounts.entry(destination) {
            let mount = anonymous(free.key().clone())?;
            made_by(&mount)?;
            free.insert(mount);
        }
    }
    // The map is in the order of paths, so that a parent is mounted before what lies in it.
    Ok(mounts.into_values().collect())
}

fn duplicate(destination: &str) -> Error {
    Error::invalid(format!("Duplicate mount point: {destination}"))
}

fn anonymous(destination: String) -> Result<Mount> {
    Ok(Mount {
        destination,
        source: Source::Volume {
            name: ids::new_id()?,
            anonymous: true,
            no_copy: false,
            subpath: String::new(),
        },
        read_only: false,
        read_only_non_recursive: false,
        non_recursive: false,
        propagation: String::new(),
        mode: String::new(),
    })
}

fn tmpfs(destination: &str, options: &str) -> Result<Mount> {
    lighter_runtime::mounts::tmpfs_options(options)
        .map_err(|error| Error::invalid(error.to_string()))?;
    Ok(Mount {
        destination: parse::clean_destination(destination)?,
        source: Source::Tmpfs {
            options: options.to_owned(),
        },
        read_only: options.split(',').any(|word| word == "ro"),
        read_only_non_recursive: false,
        non_recursive: false,
        propagation: String::new(),
        mode: options.to_owned(),
    })
}

/// One entry of `Mounts`.
fn long(request: &MountRequest, sizes: bool) -> Result<Mount> {
    let wrong = |text: String| {
        Error::invalid(format!(
            "invalid mount config for type \"{}\": {text}",
            request.kind
        ))
    };
    foreign_options(request)?;
    if request.target.is_empty() {
        return Err(wrong("field Target must not be empty".into()));
    }
    let destination = parse::clean_destination(&request.target);
    let destination = destination.map_err(|error| wrong(error.text().to_owned()))?;
    let propagation = propagation(request, &wrong)?;
    let options = request.bind_options.as_ref();
    Ok(Mount {
        destination,
        source: source(request, sizes, &wrong)?,
        read_only: request.read_only,
        read_only_non_recursive: options.is_some_and(|options| options.read_only_non_recursive),
        non_recursive: options.is_some_and(|options| options.non_recursive),
        propagation,
        mode: if request.kind == "volume" {
            "z".into()
        } else {
            String::new()
        },
    })
}

/// Refuses what says something of a mount of another type; in dockerd's words and order.
fn foreign_options(request: &MountRequest) -> Result<()> {
    let given = [
        ("VolumeOptions", "volume", request.volume_options.is_some()),
        ("BindOptions", "bind", request.bind_options.is_some()),
        ("ImageOptions", "image", request.image_options.is_some()),
        ("TmpfsOptions", "tmpfs", request.tmpfs_options.is_some()),
    ];
    let kind = request.kind.as_str();
    let foreign = given
        .iter()
        .find(|(_, of, given)| *given && *of != kind)
        .map(|(name, ..)| name);
    foreign.map_or(Ok(()), |name| {
        Err(Error::invalid(format!(
            "{name} must not be specified on mount type \"{kind}\""
        )))
    })
}

/// How mount events pass, as it was asked for.
fn propagation(request: &MountRequest, wrong: &dyn Fn(String) -> Error) -> Result<String> {
    let options = request.bind_options.as_ref();
    // Of several things that are wrong, the source's lack is said first.
    let asked = options.filter(|_| !request.source.is_empty());
    let asked = asked.map_or("", |options| options.propagation.as_str());
    if !asked.is_empty() && !parse::propagation(asked) {
        return Err(wrong(format!("invalid propagation mode: {asked}")));
    }
    Ok(asked.to_owned())
}

fn source(request: &MountRequest, sizes: bool, wrong: &dyn Fn(String) -> Error) -> Result<Source> {
    match request.kind.as_str() {
        "bind" => {
            if request.source.is_empty() {
                return Err(wrong("field Source must not be empty".into()));
            }
            if !request.source.starts_with('/') {
                return Err(wrong(format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    request.source
                )));
            }
            let create = request
                .bind_options
                .as_ref()
                .is_some_and(|o| o.create_mountpoint);
            Ok(Source::Bind {
                path: parse::clean(&request.source),
                create,
            })
        }
        "volume" => {
            let options = request.volume_options.as_ref();
            let driver = options.and_then(|options| options.driver_config.as_ref());
            if let Some(driver) = driver {
                volumes::check_driver(&driver.name)?;
            }
            let subpath = options.map_or("", |options| options.subpath.as_str());
            if subpath.starts_with('/') || subpath.split('/').any(|part| part == "..") {
                return Err(wrong(
                    "subpath must be a relative path within the volume".into(),
                ));
            }
            let anonymous = request.source.is_empty();
            if anonymous && !subpath.is_empty() {
                return Err(wrong(
                    "must not set Subpath when using anonymous volumes".into(),
                ));
            }
            if anonymous && request.read_only {
                return Err(wrong(
                    "must not set ReadOnly mode when using anonymous volumes".into(),
                ));
            }
            let name = if anonymous {
                ids::new_id()?
            } else {
                parse::volume_name(&request.source)?
            };
            let options_of_driver = driver.and_then(|driver| driver.options.as_ref());
            volumes::check_options(options_of_driver, sizes).map_err(|error| {
                Error::new(error.kind(), format!("create {name}: {}", error.text()))
            })?;
            Ok(Source::Volume {
                name,
                anonymous,
                no_copy: options.is_some_and(|options| options.no_copy),
                subpath: subpath.to_owned(),
            })
        }
        "tmpfs" => {
            if !request.source.is_empty() {
                return Err(wrong("field Source must not be specified".into()));
            }
            Ok(Source::Tmpfs {
                options: tmpfs_options(request, wrong)?,
            })
        }
        "image" | "npipe" | "cluster" => Err(Error::unsupported(format!(
            "mounts of type \"{}\" are not supported: this engine has bind, volume and tmpfs",
            request.kind
        ))),
        _ => Err(wrong("mount type unknown".into())),
    }
}

fn tmpfs_options(request: &MountRequest, wrong: &dyn Fn(String) -> Error) -> Result<String> {
    let mut words = Vec::new();
    if let Some(options) = &request.tmpfs_options {
        match options.size_bytes {
            Some(size) if size < 0 => return Err(wrong("size must not be negative".into())),
            Some(size) if size > 0 => words.push(format!("size={size}")),
            _ => {}
        }
        if let Some(mode) = options.mode.filter(|mode| *mode != 0) {
            words.push(format!("mode={mode:o}"));
        }
        for option in options.options.iter().flatten() {
            match option.as_slice() {
                // Size and mode have fields of their own.
                [key] if matches!(key.as_str(), "exec" | "noexec") => words.push(key.clone()),
                [key] | [key, _] => return Err(wrong(format!("invalid option: {key}"))),
                _ => return Err(wrong("invalid option array length".into())),
            }
        }
    }
    if request.read_only {
        words.push("ro".into());
    }
    let text = words.join(",");
    lighter_runtime::mounts::tmpfs_options(&text).map_err(|error| wrong(error.to_string()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Empty;

    fn merge(host_config: &str, volumes: &[&str]) -> Result<Vec<Mount>> {
        let volumes = volumes
            .iter()
            .map(|path| ((*path).to_owned(), Empty {}))
            .collect();
        let config = Config {
            volumes: Some(volumes),
            ..Config::default()
        };
        let host_config: HostConfig = serde_json::from_str(host_config).unwrap();
        normalise(&Request {
            config: &config,
            host_config: &host_config,
            from_others: Vec::new(),
            sizes: false,
        })
    }

    #[test]
    fn the_same_mount_in_every_spelling_is_the_same_mount() {
        let short = merge(r#"{"Binds":["/var/run//docker.sock:/s:ro"]}"#, &[]).unwrap();
        let long = merge(
            r#"{"Mounts":[{"Type":"bind","Source":"/var/x/../run/docker.sock","Target":"/s/",
                "ReadOnly":true,"BindOptions":{"CreateMountpoint":true}}]}"#,
            &[],
        )
        .unwrap();
        assert_eq!(short[0].source, long[0].source);
        assert_eq!(
            (&short[0].destination, short[0].read_only),
            (&long[0].destination, long[0].read_only)
        );
    }

    #[test]
    fn image_volumes_fill_what_is_left() {
        let mounts = merge(
            r#"{"Binds":["vol:/data"],"Tmpfs":{"/tmp":"size=1m"}}"#,
            &["/data", "/more"],
        );
        let mounts = mounts.unwrap();
        let kinds: Vec<_> = mounts
            .iter()
            .map(|m| (m.destination.as_str(), m.kind()))
            .collect();
        assert_eq!(
            kinds,
            [("/data", "volume"), ("/more", "volume"), ("/tmp", "tmpfs")]
        );
        assert_eq!(mounts[0].volume(), Some("vol"));
    }

    #[test]
    fn the_driver_of_volumes_is_asked_for_where_there_are_some() {
        let driver = |more: &str| format!(r#"{{"VolumeDriver":"none"{more}}}"#);
        assert!(merge(&driver(""), &[]).is_ok());
        assert!(merge(&driver(r#","Binds":["/tmp:/d"]"#), &[]).is_ok());
        // The long form names a driver of its own.
        let long = r#","Mounts":[{"Type":"volume","Source":"vol","Target":"/d"}]"#;
        assert!(merge(&driver(long), &[]).is_ok());
        for error in [
            merge(&driver(r#","Binds":["vol:/d"]"#), &[]).unwrap_err(),
            merge(&driver(""), &["/d"]).unwrap_err(),
        ] {
            assert!(
                error.text().contains("plugin \"none\" not found"),
                "{}",
                error.text()
            );
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (text, message) in [
            (
                r#"{"Binds":["v1:/d","v2:/d"]}"#,
                "Duplicate mount point: /d",
            ),
            (
                r#"{"Mounts":[{"Type":"bind","Target":"/x"}]}"#,
                "field Source must not be empty",
            ),
            (
                r#"{"Mounts":[{"Type":"nope","Target":"/x"}]}"#,
                "mount type unknown",
            ),
            (
                r#"{"Mounts":[{"Type":"image","Source":"a","Target":"/x"}]}"#,
                "not supported",
            ),
            (r#"{"Tmpfs":{"/x":"bogus"}}"#, "bogus"),
        ] {
            let error = merge(text, &[]).unwrap_err().text();
            assert!(error.contains(message), "{error}");
        }
    }
}
