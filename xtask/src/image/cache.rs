//! Where results are kept between calls, and the hashes that name them.
//!
//! ```text
//! ~/.cache/lighter/image/          (`crate::paths::cache`)
//!   current -> <hash>              the image in use, exchanged atomically
//!   <hash>/                        one image, complete; never changed after it has its name
//!   parts/{kernel,guest,hello,disk}-<hash>/    what images are assembled from
//!   inputs/                        Debian packages
//!   build/                         kernel tree and cargo's target folder, kept for the next build
//!   lock                           one builder at a time
//! ```

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
        let root = paths::cache().join("image");
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
        let done = self.root.join("parts").join(format!("{name}-{hash}"));
        self.once(&done, make)?;
        Ok(done)
    }

    /// Makes the folder `done` through a temporary one, so that it is whole or absent.
    pub fn once(&self, done: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        if done.is_dir() {
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
        sync_folder(&partial)?;
        fs::rename(&partial, done).with_context(|| format!("cannot name {}", done.display()))?;
        sync_folder(done.parent().unwrap_or(&self.root))
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
        sync_folder(&self.root)
    }

    /// Removes images and parts that are neither the newest few nor in use, if something was made.
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
            remove_all(&path)?;
        }
        let parts = entries_by_age(&self.root.join("parts"))?;
        for kind in ["kernel", "guest", "hello", "disk"] {
            let of_kind = parts.iter().filter(|(name, _)| name.starts_with(kind));
            for (_, path) in of_kind.skip(keep) {
                remove_all(path)?;
            }
        }
        Ok(())
    }
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

fn sync_folder(path: &Path) -> Result<()> {
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
}
