//! Mount options as mount(8) writes them: those that are flags, and those that are the file system's own.
//!
//! Called for volumes of the type tmpfs.

use rustix::mount::MountFlags;

/// Flags by name; `false` takes one away.
const FLAGS: &[(&str, MountFlags, bool)] = &[
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("nostrictatime", MountFlags::STRICTATIME, false),
];

/// Those that change another mount than the one that is made.
const OTHERS: &[&str] = &[
    "remount",
    "bind",
    "rbind",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
];

/// Flags, and what is left for the file system, which judges it.
///
/// # Errors
///
/// The first that would change another mount.
pub(super) fn parse(text: &str) -> Result<(MountFlags, String), &str> {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for word in text.split(',') {
        if OTHERS.contains(&word) {
            return Err(word);
        }
        match FLAGS.iter().find(|(name, ..)| *name == word) {
            Some((_, flag, on)) => flags.set(*flag, *on),
            None => data.push(word),
        }
    }
    Ok((flags, data.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_told_from_the_file_systems_own_options() {
        let (flags, data) = parse("size=10m,ro,nosuid,uid=1000,suid,mode=1777").unwrap();
        assert_eq!(flags, MountFlags::RDONLY);
        assert_eq!(data, "size=10m,uid=1000,mode=1777");
        assert_eq!(parse("").unwrap(), (MountFlags::empty(), String::new()));
        assert_eq!(parse("size=1,remount").unwrap_err(), "remount");
    }
}
