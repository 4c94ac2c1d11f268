//! Where results are kept between calls, and the hashes that name them.
//!
//! ```text
//! ~/.cache/lighter/image/          (`crate::paths::cache`)
//!   current -> <hash>              the image in use, exchanged atomically
//!   <hash>/                        one image, complete; never changed after it has its name
//!   parts/{kernel,guest,hello,disk}-<hash>/    what images are assembled from
//!   inputs/                        Debian packages (`super::debian`)
//!   build/                         kernel trees and cargo's target folders, kept for the next build
//!   lock                           one builder at a time
//! ```
//!
//! Several checkouts may share it: none finds another's result under a name that it computed itself, and an
//! image that one uses ([`InUse`]) is not removed by another.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::paths;

/// The cache folder. From the first thing that has to be made on, other builders wait until this is dropped;
/// who finds everything made already waits for nobody.
pub struct Cache {
    root: PathBuf,
    lock: OnceCell<File>,
}

impl Cache {
    /// Opens the cache.
    pub fn open() -> Result<Self> {
        Self::at(paths::cache().join("image"))
    }

    /// Opens the cache in this folder.
    pub fn at(root: PathBuf) -> Result<Self> {
        for folder in ["", "parts", "inputs", "build"] {
            let path = root.join(folder);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        Ok(Self {
            root,
            lock: OnceCell::new(),
        })
    }

    /// Waits until no other builder works here; for who writes outside [`Cache::once`].
    pub fn lock(&self) -> Result<()> {
        if self.lock.get().is_none() {
            let lock = File::create(self.root.join("lock"))?;
            if lock.try_lock().is_err() {
                eprintln!("image: another build is running, waiting for it");
                lock.lock().context("cannot lock the image cache")?;
            }
            self.lock.get_or_init(|| lock);
        }
        Ok(())
    }

    /// The folder for downloaded packages.
    pub fn inputs(&self) -> PathBuf {
        self.root.join("inputs")
    }

    /// A folder that keeps its content from build to build.
    pub fn build(&self, name: &str) -> PathBuf {
        self.root.join("build").join(name)
    }

    /// The folder of a finished image.
    pub fn image(&self, hash: &str) -> PathBuf {
        self.root.join(hash)
    }

    /// The symbolic link to the image in use.
    pub fn current(&self) -> PathBuf {
        self.root.join("current")
    }

    /// The part `name-hash`, made by `make` in an empty folder if it is not there yet.
    pub fn part(
        &self,
        name: &str,
        hash: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let done = self.place_of_part(name, hash);
        self.once(&done, make)?;
        Ok(done)
    }

    /// The part `name-hash`, if it was made before.
    pub fn made(&self, name: &str, hash: &str) -> Option<PathBuf> {
        let done = self.place_of_part(name, hash);
        done.is_dir().then(|| {
            touch(&done);
            done
        })
    }

    /// The part of this name that was made or used last.
    pub fn newest(&self, name: &str) -> Option<PathBuf> {
        let parts = fs::read_dir(self.root.join("parts")).ok()?.flatten();
        let named = parts.filter(|part| {
            let file = part.file_name();
            let hash = file.to_str().and_then(|file| file.strip_prefix(name));
            hash.is_some_and(|hash| hash.starts_with('-')) && part.path().is_dir()
        });
        let newest = named.max_by_key(|part| part.metadata().and_then(|m| m.modified()).ok());
        newest.map(|part| part.path())
    }

    fn place_of_part(&self, name: &str, hash: &str) -> PathBuf {
        self.root.join("parts").join(format!("{name}-{hash}"))
    }

    /// Makes the folder `done` through a temporary one, so that it is whole or absent.
    pub fn once(&self, done: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        if done.is_dir() {
            touch(done);
            return Ok(());
        }
        self.lock()?;
        // The other builder may have made just this.
        if done.is_dir() {
            return Ok(());
        }
        let name = done.file_name().unwrap_or_default().to_string_lossy();
        let partial = self.root.join(format!("build/partial-{name}"));
        remove_all(&partial)?;
        fs::create_dir_all(&partial)?;
        make(&partial)?;
        // A name must not reach the disk before the content does.
        for path in files_below(&partial)? {
            sync(&path)?;
        }
        sync(&partial)?;
        fs::rename(&partial, done).with_context(|| format!("cannot name {}", done.display()))?;
        sync(done.parent().unwrap_or(&self.root))
    }

    /// Points `current` at the image of this hash.
    pub fn set_current(&self, hash: &str) -> Result<()> {
        let fresh = self
            .root
            .join(format!("build/current.{}", std::process::id()));
        if fresh.symlink_metadata().is_ok() {
            fs::remove_file(&fresh)?;
        }
        symlink(hash, &fresh)?;
        fs::rename(&fresh, self.current()).context("cannot set the `current` link")?;
        sync(&self.root)
    }

    /// Removes what is neither among the last few used nor in use, and what builders that were killed or
    /// checkouts that are gone left behind; if something was made.
    pub fn forget_old(&self, keep: usize) -> Result<()> {
        if self.lock.get().is_none() {
            return Ok(());
        }
        let current = fs::read_link(self.current()).unwrap_or_default();
        let is_image =
            |name: &str| name.len() == HASH_LEN && name.bytes().all(|b| b.is_ascii_hexdigit());
        let mut images = entries_by_age(&self.root)?;
        images.retain(|(name, _)| is_image(name) && Path::new(name) != current);
        for (_, path) in images.into_iter().skip(keep) {
            // Whoever uses one holds it; see [`InUse`].
            if File::open(&path).is_ok_and(|folder| folder.try_lock().is_ok()) {
                remove_all(&path)?;
            }
        }
        let parts = entries_by_age(&self.root.join("parts"))?;
        for kind in ["kernel", "guest", "hello", "disk"] {
            let of_kind = parts.iter().filter(|(name, _)| name.starts_with(kind));
            for (_, path) in of_kind.skip(keep) {
                remove_all(path)?;
            }
        }
        self.forget_builds(keep)
    }

    fn forget_builds(&self, keep: usize) -> Result<()> {
        let builds = entries_by_age(&self.root.join("build"))?;
        let trees = builds.iter().filter(|(name, _)| name.starts_with("linux-"));
        for (_, path) in trees.skip(keep) {
            remove_all(path)?;
        }
        for (name, path) in &builds {
            // This builder holds the lock and is done: a partial result is nobody's.
            let left = name.starts_with("partial-");
            let checkout = fs::read_to_string(path.join(CHECKOUT)).ok();
            if left || checkout.is_some_and(|root| !Path::new(&root).is_dir()) {
                remove_all(path)?;
            }
        }
        Ok(())
    }
}

/// In a target folder: the checkout that it belongs to.
pub const CHECKOUT: &str = ".lighter-checkout";

/// An image that other builders leave alone until this is dropped.
pub struct InUse {
    /// The image's folder, which never changes.
    pub path: PathBuf,
    _held: File,
}

impl InUse {
    /// Holds the image.
    pub fn new(path: PathBuf) -> Result<Self> {
        let held = File::open(&path).with_context(|| path.display().to_string())?;
        held.lock_shared().context("cannot hold the image")?;
        Ok(Self { path, _held: held })
    }
}

/// Notes that this was used now: what was used last is forgotten last.
fn touch(path: &Path) {
    // Of another user's cache it cannot be noted; then it counts as being as old as it is.
    let _ = File::open(path).and_then(|f| f.set_modified(std::time::SystemTime::now()));
}

/// Writes a file that is whole or absent.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let fresh = path.with_extension(format!("new.{}", std::process::id()));
    fs::write(&fresh, content).with_context(|| format!("cannot write {}", fresh.display()))?;
    sync(&fresh)?;
    fs::rename(&fresh, path).with_context(|| format!("cannot name {}", path.display()))
}

fn entries_by_age(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let made = entry.metadata()?.modified()?;
            found.push((
                made,
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            ));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found
        .into_iter()
        .map(|(_, name, path)| (name, path))
        .collect())
}

/// Removes a file or folder that may be absent.
pub fn remove_all(path: &Path) -> Result<()> {
    let done = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> Result<()> {
    File::open(path)?
        .sync_all()
        .with_context(|| format!("cannot sync {}", path.display()))
}

/// How many hexadecimal digits of a hash name a folder.
const HASH_LEN: usize = 20;

/// Collects what a result depends on into one name.
pub struct Key(Sha256);

impl Key {
    /// A key for results of this kind; `recipe` is raised when the way of making them changes.
    pub fn new(kind: &str, recipe: u32) -> Self {
        Self(Sha256::new()).with(kind).with(recipe.to_string())
    }

    /// Adds a value. Lengths are hashed too, so that neighbours cannot run into each other.
    pub fn with(mut self, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.0.update((value.len() as u64).to_le_bytes());
        self.0.update(value);
        self
    }

    /// Adds the files below `folder` (names and contents), in the order of their names.
    pub fn with_files(mut self, folder: &Path) -> Result<Self> {
        for path in files_below(folder)? {
            let name = path
                .strip_prefix(folder)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            let content =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            self = self.with(name).with(content);
        }
        Ok(self)
    }

    /// The name.
    pub fn finish(self) -> String {
        let mut text = hex::encode(self.0.finalize());
        text.truncate(HASH_LEN);
        text
    }
}

/// Every regular file below a folder, sorted.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in
            fs::read_dir(&next).with_context(|| format!("cannot read {}", next.display()))?
        {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                todo.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The sha256 of a file, in hexadecimal.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_neighbouring_values_apart() {
        let key = |a: &str, b: &str| Key::new("test", 1).with(a).with(b).finish();
        assert_ne!(key("ab", "c"), key("a", "bc"));
        assert_eq!(key("ab", "c"), key("ab", "c"));
        assert_ne!(Key::new("test", 1).finish(), Key::new("test", 2).finish());
    }

    #[test]
    fn keys_follow_names_and_contents_of_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = || {
            Key::new("test", 1)
                .with_files(folder.path())
                .expect("hashes")
                .finish()
        };
        fs::write(folder.path().join("a"), "1").expect("write");
        let first = key();
        fs::write(folder.path().join("a"), "2").expect("write");
        let second = key();
        fs::rename(folder.path().join("a"), folder.path().join("b")).expect("rename");
        assert!(first != second && second != key());
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::at(folder.path().join("image")).expect("a cache");
        (folder, cache)
    }

    #[test]
    fn what_was_made_halfway_has_no_name_and_is_made_anew() {
        let (_folder, cache) = cache();
        let half = |to: &Path| {
            fs::write(to.join("a"), "half")?;
            anyhow::bail!("the power went")
        };
        cache.part("test", "1", half).expect_err("not made");
        assert!(cache.made("test", "1").is_none());
        let whole = |to: &Path| {
            assert!(!to.join("a").exists(), "the half was kept");
            Ok(fs::write(to.join("b"), "whole")?)
        };
        let made = cache.part("test", "1", whole).expect("made");
        assert_eq!(cache.made("test", "1"), Some(made));
    }

    #[test]
    fn two_builders_make_a_thing_once() {
        let (_folder, cache) = cache();
        let root = cache.root.clone();
        drop(cache);
        let times = std::sync::atomic::AtomicU32::new(0);
        let make = |to: &Path| {
            times.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(fs::write(to.join("a"), "1")?)
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let (root, make) = (root.clone(), &make);
                scope.spawn(move || {
                    let cache = Cache::at(root).expect("a cache");
                    cache.part("test", "1", make).expect("made");
                });
            }
        });
        assert_eq!(times.load(std::sync::atomic::Ordering::SeqCst), 1);
    }

    fn image(cache: &Cache, digit: char) -> PathBuf {
        let hash = String::from(digit).repeat(HASH_LEN);
        let path = cache.image(&hash);
        cache
            .once(&path, |to| Ok(fs::write(to.join("a"), "1")?))
            .expect("made");
        path
    }

    #[test]
    fn an_image_in_use_is_not_forgotten() {
        let (_folder, cache) = cache();
        let held = InUse::new(image(&cache, '1')).expect("held");
        let (idle, current) = (image(&cache, '2'), image(&cache, '3'));
        cache.set_current(&"3".repeat(HASH_LEN)).expect("set");
        cache.forget_old(0).expect("tidied");
        assert!(held.path.is_dir() && current.is_dir() && !idle.exists());
    }

    #[test]
    fn what_killed_builders_and_gone_checkouts_left_is_removed() {
        let (folder, cache) = cache();
        let target = |name: &str, checkout: &Path| {
            let path = cache.build(name);
            fs::create_dir_all(&path).expect("a folder");
            fs::write(path.join(CHECKOUT), checkout.display().to_string()).expect("noted");
            path
        };
        let partial = cache.build("partial-kernel-1");
        fs::create_dir_all(&partial).expect("a folder");
        let gone = target("guest-target-1", &folder.path().join("gone"));
        let kept = target("guest-target-2", folder.path());
        image(&cache, '1');
        cache.forget_old(4).expect("tidied");
        assert!(!partial.exists() && !gone.exists() && kept.exists());
    }
}
