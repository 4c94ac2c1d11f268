//! Takes from a system of unpacked packages all but some programs, what these load, and some files.
//!
//! Called for an image that is to be as small as it can be. What a program loads is asked of the system's own loader:
//! this machine's libraries are others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cmd;

/// By which the programs of Debian for x86-64 are started.
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
/// In how many bytes from its start a program has named its loader.
const HEAD: usize = 4096;
/// Where Debian has libraries.
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// Leaves `names`, with what those of them that are programs load; a name may be a folder's.
///
/// # Errors
///
/// When one is not there, or lacks a library.
pub fn keep(root: &Path, names: &[&str]) -> Result<()> {
    let mut kept = BTreeSet::new();
    for name in names {
        let target = add(root, &root.join(name), &mut kept)?;
        if target.is_file() {
            for library in loaded(root, &target)? {
                add(root, &library, &mut kept)?;
            }
        }
    }
    remove(root, &kept).map(|_| ())
}

/// This file or folder, and what it is a link to, step by step; returns the last.
fn add(root: &Path, path: &Path, kept: &mut BTreeSet<PathBuf>) -> Result<PathBuf> {
    let mut path = path.to_owned();
    loop {
        let missing = || format!("Debian's packages have no {}", path.display());
        let link = fs::symlink_metadata(&path)
            .with_context(missing)?
            .is_symlink();
        // A link in a circle ends where it was before.
        if !kept.insert(path.clone()) || !link {
            return Ok(path);
        }
        let target = fs::read_link(&path)?;
        path = match target.strip_prefix("/") {
            Ok(inside) => root.join(inside),
            Err(_) => path.with_file_name(target),
        };
    }
}

/// The root's own loader, to which a program of the root is given: it and its libraries fit each other, and not this
/// machine's.
///
/// # Errors
///
/// When the root has none.
pub fn loader(root: &Path) -> Result<Command> {
    let folders = LIBRARIES.map(|folder| root.join(folder).display().to_string());
    // A link from the root: followed from here, it would lead to this machine's.
    let loader = fs::read_link(root.join(LOADER)).with_context(|| LOADER.to_owned())?;
    let mut command = Command::new(root.join(loader.strip_prefix("/").unwrap_or(&loader)));
    command.args(["--inhibit-cache", "--library-path", &folders.join(":")]);
    Ok(command)
}

/// The loader and the libraries of a program; nothing of one that names no loader.
fn loaded(root: &Path, program: &Path) -> Result<Vec<PathBuf>> {
    let bytes = fs::read(program).with_context(|| program.display().to_string())?;
    let mut head = bytes.windows(LOADER.len()).take(HEAD);
    if !head.any(|part| part == LOADER.as_bytes()) {
        return Ok(Vec::new());
    }
    let mut list = loader(root)?;
    list.arg("--list").arg(program);
    let output = list.output().with_context(|| cmd::line(&list))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && !text.contains("not found"),
        "{} lacks libraries: {text}{}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let paths = text.split_whitespace().map(Path::new);
    let inside = paths.filter(|path| path.starts_with(root));
    let mut found: Vec<PathBuf> = inside.map(Path::to_owned).collect();
    found.push(root.join(LOADER));
    Ok(found)
}

/// Removes from `folder` what is neither kept nor a folder of something kept; whether anything is left.
fn remove(folder: &Path, kept: &BTreeSet<PathBuf>) -> Result<bool> {
    let mut left = false;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if kept.contains(&path) {
            left = true;
        } else if entry.file_type()?.is_dir() {
            if remove(&path, kept)? {
                left = true;
            } else {
                fs::remove_dir(&path)?;
            }
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_named_stays_with_what_it_leads_to_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for file in ["bin/tool", "bin/other", "share/words/a/b", "share/more/c"] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "text").unwrap();
        }
        symlink("/bin/second", root.join("bin/first")).unwrap();
        symlink("tool", root.join("bin/second")).unwrap();
        keep(root, &["bin/second", "bin/first", "share/words"]).unwrap();
        let mut left = Vec::new();
        for folder in ["bin", "share", "share/words/a"] {
            for entry in fs::read_dir(root.join(folder)).unwrap() {
                left.push(entry.unwrap().file_name().into_string().unwrap());
            }
        }
        left.sort();
        assert_eq!(left, ["b", "first", "second", "tool", "words"]);
        let unknown = keep(root, &["bin/third"]).unwrap_err();
        assert!(unknown.to_string().contains("bin/third"), "{unknown}");
    }

    #[test]
    fn a_program_that_names_its_loader_has_its_libraries() {
        let none = tempfile::tempdir().unwrap();
        let file = none.path().join("program");
        fs::write(&file, format!("ELF {LOADER}")).unwrap();
        // There is no such loader in this root: a program with one is not taken for one without.
        assert!(loaded(none.path(), &file).is_err());
        fs::write(&file, "ELF of no loader").unwrap();
        assert!(loaded(none.path(), &file).unwrap().is_empty());
    }
}
