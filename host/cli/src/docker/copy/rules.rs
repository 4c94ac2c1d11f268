//! What is copied where, and under which name: docker's rules.

use std::path::{Path, PathBuf};

use crate::exit::{CliError, words};

/// One side of a copy, as it was typed.
#[derive(Debug, PartialEq, Eq)]
pub enum Side {
    /// On this computer; `-` is a stream.
    Here(String),
    /// In a container.
    Container {
        /// Its name.
        name: String,
        /// The path in it, with a slash in front.
        path: String,
    },
}

impl Side {
    /// `CONTAINER:PATH`, or a path here. One that begins with a dot, or is absolute, is here.
    pub fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((name, path)) if !Path::new(text).is_absolute() && !name.starts_with('.') => {
                Self::Container {
                    name: name.to_owned(),
                    path: path.to_owned(),
                }
            }
            _ => Self::Here(text.to_owned()),
        }
    }
}

/// What is copied.
#[derive(Debug)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// The name that its archive begins with.
    pub base: String,
    /// Whether it is a directory.
    pub directory: bool,
    /// The name it was asked for by, if that is a link's.
    pub name: Option<String>,
}

/// Where it is to go.
#[derive(Debug)]
pub struct Destination {
    /// As asked for.
    pub path: String,
    /// Whether there is something.
    pub exists: bool,
    /// Whether that is a directory.
    pub directory: bool,
}

impl Destination {
    /// A path of which nothing is known.
    pub fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            exists: false,
            directory: false,
        }
    }

    /// A path on this computer.
    pub fn here(path: &str) -> Self {
        let found = std::fs::metadata(path);
        Self {
            path: path.to_owned(),
            exists: found.is_ok(),
            directory: found.is_ok_and(|found| found.is_dir()),
        }
    }
}

/// What becomes of an archive.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where it is unpacked.
    pub directory: String,
    /// What the name that it begins with is replaced by.
    pub rename: Option<String>,
}

/// Decides by docker's rules.
pub fn plan(source: &Source, to: &Destination) -> Result<Plan, &'static str> {
    let into = |directory: String, rename| Ok(Plan { directory, rename });
    if to.exists && to.directory {
        return into(to.path.clone(), source.name.clone());
    }
    if to.exists && source.directory {
        return Err("cannot copy directory");
    }
    if !to.exists && !source.directory && asserts_directory(&to.path) {
        return Err("no such directory");
    }
    let (directory, name) = split(&to.path);
    into(directory, Some(name))
}

fn asserts_directory(path: &str) -> bool {
    path.ends_with(['/', std::path::MAIN_SEPARATOR]) || base(path) == "."
}

/// A path's directory and its last part.
fn split(path: &str) -> (String, String) {
    let separators = ['/', std::path::MAIN_SEPARATOR];
    let mut path = path.trim_end_matches(separators);
    while let Some(shorter) = path.strip_suffix("/.") {
        path = shorter.trim_end_matches(separators);
    }
    match path.rfind(separators) {
        Some(0) => ("/".to_owned(), path[1..].to_owned()),
        Some(at) => (path[..at].to_owned(), path[at + 1..].to_owned()),
        None => (".".to_owned(), path.to_owned()),
    }
}

/// The last part of a path, as its archive's names begin: `.` where the path ends in one.
pub fn base(path: &str) -> String {
    let trimmed = path.trim_end_matches(['/', std::path::MAIN_SEPARATOR]);
    if trimmed.is_empty() {
        return if path.is_empty() { "." } else { "/" }.to_owned();
    }
    let at = trimmed.rfind(['/', std::path::MAIN_SEPARATOR]);
    trimmed[at.map_or(0, |at| at + 1)..].to_owned()
}

/// Where a link in a container leads.
pub fn joined_target(link: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let at = link.rfind('/').map_or(0, |at| at + 1);
    format!("{}{target}", &link[..at])
}

/// The name under which what a link leads to is copied, if it is another.
pub fn name_of_link(link: &str, target: &str) -> Option<String> {
    let (own, target) = (base(link), base(target));
    (own != "." && own != target).then_some(own)
}

/// Something on this computer.
pub fn local_source(path: &str, follow: bool) -> Result<Source, CliError> {
    let shown = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let failed = |error: &std::io::Error| {
        CliError::new(format!("lstat {}: {}", shown.display(), words(error)))
    };
    let own = base(path);
    let through = follow || path.ends_with(['/', std::path::MAIN_SEPARATOR]) || own == ".";
    let found = if through {
        std::fs::metadata(path)
    } else {
        std::fs::symlink_metadata(path)
    };
    let directory = found.map_err(|error| failed(&error))?.is_dir();
    let mut place = PathBuf::from(path);
    if through {
        place = std::fs::canonicalize(path).map_err(|error| failed(&error))?;
    }
    let base = match own.as_str() {
        // The root, or the parent of something: its content alone.
        "/" | ".." => ".".to_owned(),
        _ => own,
    };
    Ok(Source {
        path: place,
        base,
        directory,
        name: None,
    })
}

/// Refuses a place whose directory is not there.
pub fn check_output(path: &str) -> Result<(), CliError> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let dir = if asserts_directory(path) {
        absolute.as_path()
    } else {
        absolute.parent().unwrap_or(&absolute)
    };
    let above = dir.parent().unwrap_or(dir);
    let wanted = if asserts_directory(path) { above } else { dir };
    if wanted.is_dir() {
        return Ok(());
    }
    Err(CliError::new(format!(
        "invalid output path: directory {:?} does not exist",
        wanted.display().to_string()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart_as_docker_does() {
        let here = |text: &str| Side::Here(text.to_owned());
        assert_eq!(Side::parse("-"), here("-"));
        assert_eq!(Side::parse("./a:b"), here("./a:b"));
        assert_eq!(Side::parse("../a:b"), here("../a:b"));
        let container = |name: &str, path: &str| Side::Container {
            name: name.to_owned(),
            path: path.to_owned(),
        };
        assert_eq!(Side::parse("c:/x:y"), container("c", "/x:y"));
        assert_eq!(Side::parse("c:"), container("c", ""));
    }

    #[test]
    fn names_and_places_follow_dockers_table() {
        let source = |base: &str, directory| Source {
            path: base.into(),
            base: base.to_owned(),
            directory,
            name: None,
        };
        let to = |path: &str, exists, directory| Destination {
            path: path.to_owned(),
            exists,
            directory,
        };
        let planned = |directory: &str, rename: Option<&str>| {
            Ok(Plan {
                directory: directory.to_owned(),
                rename: rename.map(str::to_owned),
            })
        };
        let (file, dir, content) = (source("f", false), source("d", true), source(".", true));
        assert_eq!(plan(&file, &to("/t", true, true)), planned("/t", None));
        assert_eq!(
            plan(&file, &to("/t/n", false, false)),
            planned("/t", Some("n"))
        );
        assert_eq!(plan(&file, &to("/n", true, false)), planned("/", Some("n")));
        assert_eq!(plan(&file, &to("n", false, false)), planned(".", Some("n")));
        assert_eq!(
            plan(&file, &to("/t/n/", false, false)),
            Err("no such directory")
        );
        assert_eq!(plan(&dir, &to("/t", true, true)), planned("/t", None));
        assert_eq!(
            plan(&dir, &to("/t/n", false, false)),
            planned("/t", Some("n"))
        );
        assert_eq!(
            plan(&dir, &to("/t/n/", false, false)),
            planned("/t", Some("n"))
        );
        assert_eq!(
            plan(&dir, &to("/f", true, false)),
            Err("cannot copy directory")
        );
        assert_eq!(
            plan(&content, &to("/t/n", false, false)),
            planned("/t", Some("n"))
        );
    }

    #[test]
    fn links_in_a_container_are_followed_by_name() {
        assert_eq!(joined_target("/a/b", "c"), "/a/c");
        assert_eq!(joined_target("/a/b", "/c"), "/c");
        assert_eq!(
            name_of_link("/bin/sh", "/bin/busybox").as_deref(),
            Some("sh")
        );
        assert_eq!(name_of_link("/a/x", "/b/x"), None);
        assert_eq!(base("/etc/."), ".");
        assert_eq!(base("/etc/"), "etc");
        assert_eq!(base("/"), "/");
    }
}
