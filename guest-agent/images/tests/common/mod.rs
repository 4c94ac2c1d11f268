//! What the tests of this crate share: tars made by GNU tar, and a place to mount them.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file uses its part of this, so an expectation would fail in some"
)]
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

pub mod tars;

use std::path::{Path, PathBuf};
use std::process::Command;

use lighter_images::{Digest, LayerFiles, Store, StoreOptions};

/// A store in a directory of its own.
pub struct TestStore {
    pub dir: tempfile::TempDir,
    pub store: Store,
}

impl TestStore {
    pub fn new() -> Self {
        Self::with(StoreOptions::default())
    }

    pub fn with(options: StoreOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("images"), options).unwrap();
        Self { dir, store }
    }

    /// Fails unless the store has nothing at all, and nothing half made.
    pub fn assert_empty(&self) {
        assert!(self.store.layer_ids().unwrap().is_empty());
        for dir in ["images/tmp", "images/blobs/sha256"] {
            let left: Vec<_> = std::fs::read_dir(self.path(dir)).unwrap().collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }

    pub fn add(&self, tar: &[u8]) -> lighter_images::Result<LayerFiles> {
        self.store.add_layer(tar, &Digest::of(tar))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Runs a command that must succeed and returns what it printed.
pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    output.stdout
}

/// `tar` over everything in `dir`.
pub fn tar(dir: &Path, options: &[&str]) -> Vec<u8> {
    run(Command::new("tar")
        .arg("-C")
        .arg(dir)
        .args(["-c", "-f", "-"])
        .args(options)
        .arg("."))
}

/// Runs `body` in a mount namespace of its own: the test starts itself again under unshare(1).
pub fn in_mount_namespace(test: &str, body: impl FnOnce()) {
    const INSIDE: &str = "LIGHTER_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root to mount");
        return;
    }
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private"])
        .arg(program);
    let output = command
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "{test} failed inside its namespace"
    );
}

/// What two trees are compared by.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    kind: u32,
    mode: u32,
    owner: (u32, u32),
    links: u64,
    size: u64,
    mtime: (i64, i64),
    device: u64,
    link: Option<PathBuf>,
    content: Option<Digest>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Every file below `root` by its path.
pub fn walk(root: &Path) -> std::collections::BTreeMap<PathBuf, Node> {
    let mut nodes = std::collections::BTreeMap::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        nodes.insert(directory.clone(), node(&root.join(&directory)));
        for entry in std::fs::read_dir(root.join(&directory)).unwrap() {
            let entry = entry.unwrap();
            let path = directory.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                directories.push(path);
            } else {
                nodes.insert(path, node(&entry.path()));
            }
        }
    }
    nodes
}

fn node(path: &Path) -> Node {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(path).unwrap();
    let regular = meta.is_file();
    Node {
        kind: meta.mode() & 0o170_000,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        links: if meta.is_dir() { 0 } else { meta.nlink() },
        size: if meta.is_dir() { 0 } else { meta.size() },
        mtime: (meta.mtime(), meta.mtime_nsec()),
        device: meta.rdev(),
        link: meta.is_symlink().then(|| std::fs::read_link(path).unwrap()),
        content: regular.then(|| Digest::of(&std::fs::read(path).unwrap())),
        xattrs: xattrs(path),
    }
}

/// The extended attributes, by name.
pub fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    list.truncate(length);
    let names = list.split(|b| *b == 0).filter(|name| !name.is_empty());
    let mut found: Vec<_> = names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            (name.to_vec(), value)
        })
        .collect();
    found.sort();
    found
}
