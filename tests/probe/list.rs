//! Lists a folder to the last bit a program can see. Built static, put into images by the tests.
//!
//! One line a name: type and mode, owner, links, size, time, device, target of a link, digest of the
//! content, extended attributes.

use std::collections::hash_map::DefaultHasher;
use std::ffi::{CString, c_char, c_void};
use std::hash::Hasher;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

unsafe extern "C" {
    fn llistxattr(path: *const c_char, list: *mut c_char, size: usize) -> isize;
    fn lgetxattr(path: *const c_char, name: *const c_char, value: *mut c_void, size: usize) -> isize;
}

fn main() {
    let root = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "/".into()));
    let mut paths = vec![root];
    let mut lines = Vec::new();
    while let Some(path) = paths.pop() {
        match line(&path) {
            Ok(text) => lines.push(text),
            Err(error) => lines.push(format!("{path:?} {error}")),
        }
        if path.is_dir() && !path.is_symlink() {
            if let Ok(entries) = std::fs::read_dir(&path) {
                paths.extend(entries.flatten().map(|entry| entry.path()));
            }
        }
    }
    lines.sort();
    println!("{}", lines.join("\n"));
}

fn line(path: &Path) -> std::io::Result<String> {
    let meta = std::fs::symlink_metadata(path)?;
    let mut text = format!(
        "{path:?} {:o} {}:{} {}.{:09} {:x}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.rdev(),
    );
    if !meta.is_dir() {
        text += &format!(" links {} size {}", meta.nlink(), meta.size());
    }
    if meta.is_symlink() {
        text += &format!(" -> {:?}", std::fs::read_link(path)?);
    }
    if meta.is_file() {
        let mut hash = DefaultHasher::new();
        hash.write(&std::fs::read(path)?);
        text += &format!(" content {:016x}", hash.finish());
    }
    for (name, value) in attributes(path) {
        text += &format!(" {}={value:?}", String::from_utf8_lossy(&name));
    }
    Ok(text)
}

fn attributes(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return Vec::new();
    };
    let mut list = vec![0u8; 65536];
    // SAFETY: the buffer is as long as it is said to be, and the path ends with a NUL.
    let length = unsafe { llistxattr(path.as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    list.truncate(usize::try_from(length).unwrap_or(0));
    let mut found = Vec::new();
    for name in list.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let (Ok(c_name), mut value) = (CString::new(name), vec![0u8; 65536]) else {
            continue;
        };
        // SAFETY: as above.
        let length = unsafe {
            lgetxattr(path.as_ptr(), c_name.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        value.truncate(usize::try_from(length).unwrap_or(0));
        found.push((name.to_vec(), value));
    }
    found.sort();
    found
}
