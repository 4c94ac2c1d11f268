//! A copy of the tree to make edits in.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

/// What is no source.
const LEFT_OUT: [&str; 2] = [".git", "target"];

/// Makes `to` the same tree as `from`. Files that are the same already keep their times, so that nothing
/// is compiled again for them.
///
/// # Errors
///
/// When something cannot be read or written.
pub fn tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut kept: BTreeSet<OsString> = BTreeSet::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left| name == *left) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            tree(&source, &target)?;
        } else if kind.is_file() && !is_same(&source, &target) {
            fs::copy(&source, &target)?;
        }
        kept.insert(name);
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if kept.contains(&entry.file_name()) || entry.file_name() == "target" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::read(one), fs::read(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_follows_its_tree_and_leaves_what_is_the_same() {
        let dir = tempfile::tempdir().expect("a folder");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for path in ["src", ".git", "src/target"] {
            fs::create_dir_all(from.join(path)).expect("made");
        }
        let write = |name: &str, text: &str| fs::write(from.join(name), text).expect("written");
        for name in ["src/same", "src/other", "gone", ".git/x", "src/target/x"] {
            write(name, "1");
        }
        tree(&from, &to).expect("copied");
        assert!(to.join("gone").exists() && !to.join(".git").exists());
        assert!(!to.join("src/target").exists());
        let time = |name: &str| {
            fs::metadata(to.join(name))
                .and_then(|meta| meta.modified())
                .ok()
        };
        // An earlier time, so that any later one differs.
        let early = std::time::SystemTime::UNIX_EPOCH;
        for name in ["src/same", "src/other"] {
            let file = fs::File::options().write(true).open(to.join(name));
            file.and_then(|file| file.set_modified(early)).expect("set");
        }
        fs::remove_file(from.join("gone")).expect("removed");
        write("src/other", "2");
        tree(&from, &to).expect("copied");
        assert_eq!(time("src/same"), Some(early));
        assert_ne!(time("src/other"), Some(early));
        assert_eq!(
            fs::read_to_string(to.join("src/other")).expect("there"),
            "2"
        );
        assert!(!to.join("gone").exists());
    }
}
