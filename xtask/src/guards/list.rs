//! The list of guards, `tests/guards.toml`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Where the list is, from the top of the tree.
pub const PATH: &str = "tests/guards.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    guard: Vec<Guard>,
}

/// A guard, and who watches it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// What it does, in a few words; unique.
    pub name: String,
    /// Incidents, or classes of them, that it holds off.
    pub incidents: Vec<String>,
    /// What takes it out. Several where each holds by itself: they are made together.
    pub edits: Vec<Edit>,
    /// The test that must fail then.
    pub test: Test,
}

/// One exact change of one file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// From the top of the tree.
    pub file: String,
    /// What is in the file exactly once.
    pub find: String,
    /// What stands there instead.
    pub replace: String,
}

/// One test of one test binary.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// The folder of its package, from the top of the tree.
    pub package: String,
    /// Its test binary: `lib`, `bin NAME` or the name of one in `tests/`.
    pub binary: String,
    /// Its path within the binary.
    pub name: String,
}

impl Guard {
    /// Whether a part of a name means this one.
    pub fn is_called(&self, part: &str) -> bool {
        let names = [&self.name, &self.test.name].into_iter();
        names.chain(&self.incidents).any(|name| name.contains(part))
    }
}

impl Edit {
    /// The file's text with the change made.
    ///
    /// # Errors
    ///
    /// When what is to be found is not there, or more than once.
    pub fn applied(&self, text: &str) -> Result<String> {
        let count = text.matches(&self.find).count();
        anyhow::ensure!(
            count == 1,
            "{}: found {count} times: {}",
            self.file,
            self.find
        );
        Ok(text.replacen(&self.find, &self.replace, 1))
    }
}

impl Test {
    /// The name without the modules around it.
    fn function(&self) -> &str {
        self.name.rsplit("::").next().unwrap_or(&self.name)
    }

    /// For the table: the function, and where it is.
    pub fn shown(&self) -> String {
        format!("{}` in `{}", self.function(), self.package)
    }

    /// cargo's words for the binary.
    pub fn target(&self) -> Vec<String> {
        match self.binary.split_once(' ') {
            Some(("bin", name)) => vec!["--bin".to_owned(), name.to_owned()],
            _ if self.binary == "lib" => vec!["--lib".to_owned()],
            _ => vec!["--test".to_owned(), self.binary.clone()],
        }
    }

    /// Whether a source of its binary has a test of that name.
    ///
    /// # Errors
    ///
    /// When the sources cannot be read.
    pub fn exists(&self, root: &Path) -> Result<bool> {
        let package = root.join(&self.package);
        let inside = self.binary == "lib" || self.binary.starts_with("bin ");
        let tests = package.join("tests");
        let folder = match inside {
            true => package.join("src"),
            // Tests of several binaries may lie in one folder; those of one in a folder of its name.
            false if tests.join(&self.binary).is_dir() => tests.join(&self.binary),
            false => tests,
        };
        let mut sources = Vec::new();
        collect(&folder, &mut sources)?;
        if !inside {
            let own = package.join("tests").join(format!("{}.rs", self.binary));
            sources.retain(|path| *path == own || path.parent() != own.parent());
        }
        let head = format!("fn {}(", self.function());
        let mut found = false;
        for path in sources {
            let text =
                std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let tests = text.split("test]").skip(1);
            found |= tests.into_iter().any(|part| {
                let mut lines = part.lines().take(4);
                lines.any(|line| line.contains(&head))
            });
        }
        Ok(found)
    }
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

/// Reads the list, in the order in which the fewest things have to be compiled again.
///
/// # Errors
///
/// When it is not there or not of this form.
pub fn read(root: &Path) -> Result<Vec<Guard>> {
    let text = std::fs::read_to_string(root.join(PATH)).context(PATH)?;
    let mut list: List = toml::from_str(&text).context(PATH)?;
    list.guard.sort_by_key(|guard| {
        let file = guard.edits.first().map(|edit| edit.file.clone());
        (guard.test.package.clone(), guard.test.binary.clone(), file)
    });
    Ok(list.guard)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::paths;

    #[test]
    fn every_guard_fits_the_tree() {
        let root = paths::root();
        let guards = read(&root).expect("the list");
        let mut names = BTreeSet::new();
        for guard in &guards {
            assert!(names.insert(&guard.name), "{} twice", guard.name);
            assert!(!guard.incidents.is_empty(), "{}: of what?", guard.name);
            assert!(
                !guard.edits.is_empty(),
                "{}: nothing to take out",
                guard.name
            );
            let mut files: BTreeSet<&str> = BTreeSet::new();
            for edit in &guard.edits {
                let path = root.join(&edit.file);
                let text = std::fs::read_to_string(&path)
                    .unwrap_or_else(|error| panic!("{}: {}: {error}", guard.name, edit.file));
                let after = edit
                    .applied(&text)
                    .unwrap_or_else(|error| panic!("{}: {error}", guard.name));
                assert_ne!(text, after, "{}: nothing changes", guard.name);
                files.insert(&edit.file);
            }
            let found = guard.test.exists(&root).expect("sources");
            assert!(found, "{}: there is no test {:?}", guard.name, guard.test);
        }
    }

    /// What people read names every guard, and no other.
    #[test]
    fn every_guard_is_in_the_table_for_people() {
        let root = paths::root();
        let guards = read(&root).expect("the list");
        let text = std::fs::read_to_string(root.join("docs/guards.md")).expect("the table");
        for guard in &guards {
            let row = format!("| {}: `", guard.name);
            assert_eq!(text.matches(&row).count(), 1, "{}", guard.name);
        }
        let rows = text.lines().filter(|line| line.ends_with("| held |"));
        assert_eq!(rows.count(), guards.len(), "rows and guards");
    }

    #[test]
    fn an_edit_has_one_place_and_a_test_is_told_from_a_function() {
        let edit = Edit {
            file: "x".into(),
            find: "b".into(),
            replace: "c".into(),
        };
        assert_eq!(edit.applied("abd").expect("once"), "acd");
        assert!(edit.applied("abb").is_err() && edit.applied("a").is_err());
        let test = |package: &str, binary: &str, name: &str| Test {
            package: package.into(),
            binary: binary.into(),
            name: name.into(),
        };
        let root = paths::root();
        let this = "guards::list::tests::an_edit_has_one_place_and_a_test_is_told_from_a_function";
        assert!(
            test("xtask", "bin xtask", this)
                .exists(&root)
                .expect("read")
        );
        assert!(
            !test("xtask", "bin xtask", "guards::list::read")
                .exists(&root)
                .expect("read")
        );
    }
}
