//! From a container's archive to files here.
//!
//! The archive is not believed: no name leads out of the directory it is unpacked into, and none
//! goes through a link, whether it was there or the archive has put it there.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use tar::{Archive, Entry, EntryType};

use crate::exit::CliError;

/// Unpacks into `dir`; what the names begin with, `base`, becomes `rename`. The paths of what
/// cannot be made here.
pub fn unpack(
    input: impl Read,
    dir: &Path,
    base: &str,
    rename: Option<&str>,
) -> Result<Vec<String>, CliError> {
    let mut archive = Archive::new(input);
    archive.set_preserve_permissions(true);
    let mut times = Vec::new();
    let mut left_out = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let named = renamed(&entry.path()?, base, rename);
        let name = inside(&named)?;
        let place = dir.join(&name);
        make_parents(dir, &name)?;
        match entry.header().entry_type() {
            EntryType::Regular
            | EntryType::Continuous
            | EntryType::GNUSparse
            | EntryType::Symlink => {
                clear(&place, dir)?;
                entry.unpack(&place)?;
            }
            EntryType::Directory => {
                make_directory(&mut entry, &place, dir)?;
                times.push((place, entry.header().mtime()?));
            }
            EntryType::Link => {
                let target = entry.link_name()?.unwrap_or_default();
                let target = inside(&renamed(&target, base, rename))?;
                make_parents(dir, &target)?;
                clear(&place, dir)?;
                fs::hard_link(dir.join(target), &place)?;
            }
            EntryType::XGlobalHeader => {}
            _ => left_out.push(place.display().to_string()),
        }
    }
    for (place, time) in times.into_iter().rev() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
        // Not every system lets a directory's time be set.
        let _ = File::open(&place).and_then(|dir| dir.set_modified(time));
    }
    Ok(left_out)
}

/// A name with its beginning replaced.
fn renamed(name: &Path, base: &str, rename: Option<&str>) -> PathBuf {
    let Some(new) = rename else {
        return name.to_owned();
    };
    let rest = if base == "." {
        name.strip_prefix(".").unwrap_or(name)
    } else {
        match name.strip_prefix(base) {
            Ok(rest) => rest,
            Err(_) => return name.to_owned(),
        }
    };
    // Joined with nothing, a name would end in a slash.
    if rest.as_os_str().is_empty() {
        new.into()
    } else {
        Path::new(new).join(rest)
    }
}

/// A name without what leads elsewhere; an error if that is the point of it.
fn inside(name: &Path) -> Result<PathBuf, CliError> {
    let mut parts = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(CliError::new(format!(
                    "invalid entry name {:?}",
                    name.display().to_string()
                )));
            }
        }
    }
    Ok(parts)
}

/// Makes the directories above a name. One that is a link is refused.
fn make_parents(dir: &Path, name: &Path) -> Result<(), CliError> {
    let mut place = dir.to_owned();
    for part in name.parent().unwrap_or(Path::new("")).components() {
        place.push(part);
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(CliError::new(format!(
                    "{} is not a directory",
                    place.display()
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&place)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Removes a file or a link that stands in the way; a directory stays.
fn clear(place: &Path, dir: &Path) -> Result<(), CliError> {
    match fs::symlink_metadata(place) {
        Ok(found) if found.is_dir() => Err(CliError::new(format!(
            "cannot overwrite directory {:?} with non-directory {:?}",
            place.display().to_string(),
            dir.display().to_string()
        ))),
        Ok(_) => Ok(fs::remove_file(place)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn make_directory<R: Read>(
    entry: &mut Entry<'_, R>,
    place: &Path,
    dir: &Path,
) -> Result<(), CliError> {
    match fs::symlink_metadata(place) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(CliError::new(format!(
            "cannot overwrite non-directory {:?} with directory {:?}",
            place.display().to_string(),
            dir.display().to_string()
        ))),
        Err(_) => Ok(entry.unpack(place).map(drop)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, name, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_mtime(1_000_000);
            // Set by hand: the crate would not write names like these.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            let file = *kind == EntryType::Regular;
            if !file {
                header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
            }
            let content = if file { content.as_bytes() } else { b"" };
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    const FILE: EntryType = EntryType::Regular;
    const DIR: EntryType = EntryType::Directory;

    #[test]
    fn names_are_replaced_at_their_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = archive(&[
            (DIR, "etc/", ""),
            (FILE, "etc/etc", "x"),
            (EntryType::Link, "etc/again", "etc/etc"),
        ]);
        unpack(&bytes[..], dir.path(), "etc", Some("new")).unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join("new/again")).unwrap(),
            "x"
        );
        let bytes = archive(&[(DIR, "./", ""), (FILE, "./f", "y")]);
        unpack(&bytes[..], dir.path(), ".", Some("content")).unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join("content/f")).unwrap(),
            "y"
        );
        let bytes = archive(&[(DIR, "/", ""), (FILE, "/g", "z")]);
        unpack(&bytes[..], dir.path(), "/", Some("root")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("root/g")).unwrap(), "z");
        unpack(&bytes[..], dir.path(), "/", None).unwrap();
        assert!(dir.path().join("g").exists());
    }

    /// CVE-2018-15664, CVE-2021-41089 and CVE-2026-33056, on the side of the host.
    #[test]
    fn a_hostile_archive_stays_in_its_directory() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("inner");
        fs::create_dir(&dir).unwrap();
        let out = outer.path().display().to_string();
        let put = |entries: &[(EntryType, &str, &str)]| {
            unpack(&archive(entries)[..], &dir, "x", None).map_err(|error| error.message)
        };
        assert_eq!(
            put(&[(FILE, "../esc", "x")]).unwrap_err(),
            "invalid entry name \"../esc\""
        );
        assert!(put(&[(EntryType::Link, "h", "../../etc/passwd")]).is_err());
        put(&[(FILE, "/absolute", "x")]).unwrap();
        let through = [(EntryType::Symlink, "link", &*out), (FILE, "link/esc", "x")];
        assert!(put(&through).unwrap_err().ends_with("is not a directory"));
        let over = [(EntryType::Symlink, "again", &*out), (FILE, "again", "x")];
        put(&over).unwrap();
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
        // CVE-2026-33056: a directory of a link's name is not what the link leads to.
        let onto = put(&[
            (EntryType::Symlink, "alias", "../canary"),
            (DIR, "alias", ""),
        ]);
        assert!(
            onto.unwrap_err()
                .starts_with("cannot overwrite non-directory")
        );
        let dirs = put(&[(DIR, "d", ""), (FILE, "d", "")]).unwrap_err();
        assert!(dirs.starts_with("cannot overwrite directory"), "{dirs}");
        assert_eq!(put(&[(EntryType::Fifo, "pipe", "")]).unwrap().len(), 1);
    }
}
