//! Which host folders containers may be given.
//!
//! Always: the user's home, the folders for temporary files, the folder where `lighter up` was
//! typed, and what the setting `shares` adds. Never: our own folders. Only when the setting names
//! exactly them: the folders that hold keys. The host decides; the guest can only ask.

use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lighter_platform::HostPaths;
use lighter_protocol::Share;

/// Folders below the home that hold keys.
const KEY_FOLDERS: &[&str] = &[".ssh", ".gnupg", ".aws", "Library/Keychains"];

/// Files of every host that containers are given for reading: its clock's zone.
const READABLE_FILES: &[&str] = &["/etc/localtime", "/etc/timezone"];

/// One allowed folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The folder.
    pub path: PathBuf,
    /// Whether nothing in the guest may write below it.
    pub read_only: bool,
}

/// Why a path was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Not an absolute path without `..`.
    #[error("`{0}` is no absolute path")]
    NotAbsolute(String),
    /// One of our own folders.
    #[error("mounts denied: `{0}` belongs to Lighter itself")]
    Own(String),
    /// A folder with keys, not named exactly.
    #[error(
        "mounts denied: `{0}` holds keys; to share it all the same, name exactly this folder in \
         the setting `shares`"
    )]
    Keys(String),
    /// Not on the list.
    #[error(
        "mounts denied: `{path}` is not below a shared folder; type `lighter up` in it, or add it to \
         the list: `lighter config set shares {list}`"
    )]
    NotListed {
        /// The folder.
        path: String,
        /// The setting `shares` with it.
        list: String,
    },
}

/// The setting `shares` with one folder more, as a word for a shell.
fn with(named: &[Entry], path: &str) -> String {
    let named = named
        .iter()
        .map(|entry| (entry.path.display().to_string(), entry.read_only));
    let all = named.chain([(path.to_owned(), false)]);
    let list: Vec<String> = all
        .map(|(path, read_only)| entry(path, read_only))
        .collect();
    // Parts between commas lose their blanks.
    let plain = |part: &String| !part.contains(',') && part.trim() == part;
    word(match list.iter().all(plain) {
        true => list.join(","),
        false => list.iter().collect::<toml_edit::Array>().to_string(),
    })
}

/// An entry as the setting has it.
fn entry(path: String, read_only: bool) -> String {
    match read_only {
        true => path + ":ro",
        // Else its own end would say how it is shared.
        false if path.ends_with(":ro") || path.ends_with(":rw") => path + ":rw",
        false => path,
    }
}

/// One word for a shell.
fn word(text: String) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/.,:_-+@=%".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The allow-list of this host.
#[derive(Debug)]
pub struct AllowList {
    home: PathBuf,
    own: Vec<PathBuf>,
    fixed: Vec<Entry>,
    /// What the settings add; replaced when they are read again.
    named: Mutex<Vec<Entry>>,
    /// The folders where `lighter up` was typed.
    typed: Mutex<Vec<PathBuf>>,
}

impl AllowList {
    /// The list for a user whose home is `home`.
    ///
    /// All folders are kept as they really are: links on the way to them are followed once, here.
    #[must_use]
    pub fn new(home: &Path, paths: &HostPaths) -> Self {
        let home = really(home);
        let writable = |path: &Path| Entry {
            path: really(path),
            read_only: false,
        };
        let mut fixed = vec![writable(&home), writable(&std::env::temp_dir())];
        let temporary = lighter_platform::sys::TEMPORARY_FOLDERS;
        fixed.extend(temporary.iter().map(|path| writable(Path::new(path))));
        fixed.sort_by(|a, b| a.path.cmp(&b.path));
        fixed.dedup();
        let own = [&paths.config, &paths.data, &paths.cache, &paths.run];
        Self {
            own: own.iter().map(|path| really(path)).collect(),
            home,
            fixed,
            named: Mutex::new(Vec::new()),
            typed: Mutex::new(Vec::new()),
        }
    }

    /// Takes the entries of the setting `shares`: a path, `~` for the home, `:ro` at the end.
    pub fn set_named(&self, shares: &[String]) {
        let entries = shares.iter().map(|share| self.parse(share)).collect();
        *self.named.lock().unwrap_or_else(PoisonError::into_inner) = entries;
    }

    fn parse(&self, share: &str) -> Entry {
        let (path, read_only) = match share.strip_suffix(":ro") {
            Some(path) => (path, true),
            None => (share.strip_suffix(":rw").unwrap_or(share), false),
        };
        let path = match path.strip_prefix('~') {
            Some(rest) => self.home.join(rest.trim_start_matches('/')),
            None => PathBuf::from(path),
        };
        Entry {
            path: really(&path),
            read_only,
        }
    }

    /// Adds the folder where `lighter up` was typed.
    pub fn add_typed(&self, folder: &Path) {
        let folder = really(folder);
        if self
            .fixed
            .iter()
            .any(|entry| folder.starts_with(&entry.path))
        {
            return;
        }
        // A list that grows without bound would be a leak; nobody types `up` in 64 places.
        let mut typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
        if folder != Path::new("/") && typed.len() < 64 && !typed.contains(&folder) {
            typed.push(folder);
        }
    }

    /// All entries, the most exact first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut all = self
            .named
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        all.extend(self.fixed.iter().cloned());
        let typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(typed.iter().map(|path| Entry {
            path: path.clone(),
            read_only: false,
        }));
        all.sort_by_key(|entry| std::cmp::Reverse(entry.path.components().count()));
        all
    }

    /// The list in the form the guest is told.
    #[must_use]
    pub fn announced(&self) -> Vec<Share> {
        let share = |(index, entry): (usize, Entry)| Share {
            id: format!("s{index}"),
            host_path: entry.path.to_string_lossy().into_owned(),
            read_only: entry.read_only,
        };
        self.entries().into_iter().enumerate().map(share).collect()
    }

    /// Whether `path`, which is where something really lies, may be given, and if so, whether only
    /// for reading.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn check(&self, path: &Path) -> Result<Entry, Denied> {
        let shown = path.display().to_string();
        plain(path)?;
        if self.own.iter().any(|own| path.starts_with(own)) {
            return Err(Denied::Own(shown));
        }
        let named = self
            .named
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let exactly = named
            .iter()
            .any(|entry| path.starts_with(&entry.path) && self.is_key_folder(&entry.path));
        if self.is_key_folder(path) && !exactly {
            return Err(Denied::Keys(shown));
        }
        self.entries()
            .into_iter()
            .find(|entry| path.starts_with(&entry.path))
            .map(|entry| Entry {
                path: path.to_path_buf(),
                read_only: entry.read_only,
            })
            .ok_or_else(|| Denied::NotListed {
                list: with(&named, &shown),
                path: shown,
            })
    }

    /// Like [`AllowList::check`], for a path as it was asked for, which leads to `real`.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn check_asked(&self, asked: &Path, real: &Path) -> Result<Entry, Denied> {
        match self.check(real) {
            // Often a link into a folder that is not shared. Who could change it is the host's root.
            Err(Denied::NotListed { .. })
                if READABLE_FILES.iter().any(|file| asked == Path::new(file)) && !real.is_dir() =>
            {
                Ok(Entry {
                    path: real.to_path_buf(),
                    read_only: true,
                })
            }
            other => other,
        }
    }

    /// What stays out of sight below every share, also of one that holds it: our own folders, and
    /// the key folders that are not named.
    #[must_use]
    pub fn hidden(&self) -> Vec<PathBuf> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = KEY_FOLDERS.iter().map(|folder| self.home.join(folder));
        let kept = keys.filter(|folder| !named.iter().any(|entry| entry.path == *folder));
        self.own.iter().cloned().chain(kept).collect()
    }

    /// What is listed for reading only, and stays so below every other share.
    #[must_use]
    pub fn read_only(&self) -> Vec<PathBuf> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = named.iter().filter(|entry| entry.read_only);
        listed.map(|entry| entry.path.clone()).collect()
    }

    /// Whether a path lies in a folder that holds keys.
    #[must_use]
    pub fn is_key_folder(&self, path: &Path) -> bool {
        KEY_FOLDERS
            .iter()
            .any(|folder| path.starts_with(self.home.join(folder)))
    }
}

/// Refuses what is no absolute path, or one with dots.
///
/// # Errors
/// [`Denied::NotAbsolute`].
pub fn plain(path: &Path) -> Result<(), Denied> {
    let named = |part: Component<'_>| !matches!(part, Component::ParentDir | Component::CurDir);
    if path.is_absolute() && path.components().all(named) {
        return Ok(());
    }
    Err(Denied::NotAbsolute(path.display().to_string()))
}

/// Where a path really leads, as far as it exists.
#[must_use]
pub fn really(path: &Path) -> PathBuf {
    if let Ok(real) = std::fs::canonicalize(path) {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => really(parent).join(name),
        _ => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(shares: &[&str]) -> AllowList {
        let at = |name: &str| PathBuf::from(format!("/home/ann/.l/{name}"));
        let paths = HostPaths {
            config: at("config"),
            data: at("data"),
            cache: at("cache"),
            run: at("run"),
        };
        let list = AllowList::new(Path::new("/home/ann"), &paths);
        list.set_named(&shares.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        list
    }

    #[test]
    fn home_and_temporary_folders_are_shared_and_others_not() {
        let list = list(&[]);
        assert!(!list.check(Path::new("/home/ann/work")).unwrap().read_only);
        assert!(list.check(Path::new("/tmp/x")).is_ok());
        assert!(matches!(
            list.check(Path::new("/etc")),
            Err(Denied::NotListed { .. })
        ));
        assert!(matches!(
            list.check(Path::new("/home/annika")),
            Err(Denied::NotListed { .. })
        ));
        list.add_typed(Path::new("/srv/project"));
        assert!(list.check(Path::new("/srv/project/a")).is_ok());
    }

    #[test]
    fn our_own_folders_and_keys_are_refused() {
        let list = list(&["~"]);
        assert!(matches!(
            list.check(Path::new("/home/ann/.l/data/disk.img")),
            Err(Denied::Own(_))
        ));
        assert!(matches!(
            list.check(Path::new("/home/ann/.ssh")),
            Err(Denied::Keys(_))
        ));
        assert!(matches!(
            list.check(Path::new("/home/ann/.aws/credentials")),
            Err(Denied::Keys(_))
        ));
        assert!(list.check(Path::new("/home/ann/.sshrc")).is_ok());
    }

    #[test]
    fn a_key_folder_named_exactly_is_shared() {
        let list = list(&["~/.ssh:ro"]);
        assert!(
            list.check(Path::new("/home/ann/.ssh/known_hosts"))
                .unwrap()
                .read_only
        );
        assert!(matches!(
            list.check(Path::new("/home/ann/.gnupg")),
            Err(Denied::Keys(_))
        ));
    }

    #[test]
    fn the_most_exact_entry_decides() {
        let list = list(&["/home/ann/docs:ro", "/srv"]);
        let refused = list.check(Path::new("/data")).unwrap_err().to_string();
        assert!(
            refused.ends_with("`lighter config set shares /home/ann/docs:ro,/srv,/data`"),
            "{refused}"
        );
        let refused = list.check(Path::new("/it's a/b")).unwrap_err().to_string();
        assert!(
            refused.ends_with(r"`lighter config set shares '/home/ann/docs:ro,/srv,/it'\''s a/b'`"),
            "{refused}"
        );
        let refused = list.check(Path::new("/x,/etc:ro")).unwrap_err().to_string();
        assert!(
            refused.ends_with(
                r#"`lighter config set shares '["/home/ann/docs:ro", "/srv", "/x,/etc:ro:rw"]'`"#
            ),
            "{refused}"
        );
        assert!(list.check(Path::new("/home/ann/docs/a")).unwrap().read_only);
        assert!(!list.check(Path::new("/home/ann/other")).unwrap().read_only);
    }

    #[test]
    fn a_path_with_dots_is_no_path() {
        let list = list(&[]);
        assert!(matches!(
            list.check(Path::new("/tmp/../etc")),
            Err(Denied::NotAbsolute(_))
        ));
        assert!(matches!(
            list.check(Path::new("tmp")),
            Err(Denied::NotAbsolute(_))
        ));
    }

    #[test]
    fn the_clocks_zone_is_given_for_reading_wherever_it_lies() {
        let list = list(&[]);
        let zone = Path::new("/usr/share/zoneinfo/Etc/UTC");
        let entry = list.check_asked(Path::new("/etc/localtime"), zone);
        assert!(entry.unwrap().read_only);
        for asked in [
            "/etc/shadow",
            "/etc/localtime/..",
            "/usr/share/zoneinfo/Etc/UTC",
        ] {
            let refused = list.check_asked(Path::new(asked), zone);
            assert!(matches!(refused, Err(Denied::NotListed { .. })), "{asked}");
        }
        // A link to a folder is no zone.
        let refused = list.check_asked(Path::new("/etc/localtime"), Path::new("/usr"));
        assert!(matches!(refused, Err(Denied::NotListed { .. })));
    }
}
