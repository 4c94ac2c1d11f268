//! What the hostile guests are let loose on, and how a change of it is seen.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::sys::fs::sys;

/// Everything below a directory that a change would show in: even a mode set twice changes the ctime.
pub fn picture(top: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let meta = std::fs::symlink_metadata(&path).expect("present");
        let content = match meta.file_type() {
            kind if kind.is_dir() => {
                left.extend(
                    std::fs::read_dir(&path)
                        .expect("readable")
                        .map(|e| e.expect("entry").path()),
                );
                Vec::new()
            }
            kind if kind.is_symlink() => std::fs::read_link(&path)
                .expect("link")
                .into_os_string()
                .into_encoded_bytes(),
            kind if kind.is_file() => std::fs::read(&path).expect("readable"),
            _ => Vec::new(),
        };
        let fd = sys::open_child(
            File::open(path.parent().expect("below /")).expect("open"),
            &name_of(&path),
        );
        let xattrs = sys::list_xattrs(fd.expect("present")).unwrap_or_default();
        let times = (
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        let line = format!(
            "{:o} {:?} {:?} {:?} {:?}",
            meta.mode(),
            times,
            meta.nlink(),
            content,
            xattrs
        );
        found.insert(path.display().to_string(), line);
    }
    found
}

fn name_of(path: &Path) -> CString {
    CString::new(path.file_name().expect("named").as_encoded_bytes()).expect("no NUL")
}

/// A share with a file, a link and two directories, and a canary beside it.
pub fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = dir.path();
    std::fs::create_dir_all(at.join("share/sub/deep")).expect("made");
    std::fs::write(at.join("share/file"), "content of the file").expect("made");
    std::fs::write(at.join("share/sub/other"), "content of the other").expect("made");
    std::fs::write(at.join("canary"), "outside").expect("made");
    symlink("file", at.join("share/link")).expect("made");
    dir
}
