//! What drives one Lighter in the outer machine: docker, compose, and the application that compose brings up.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::order::{self, Test};
use crate::test::CLIENTS;
use crate::{packages, paths, test_image, try_it};

/// Where the docker CLI looks for compose, for the user of the outer machine.
const PLUGIN: &str = "root/.docker/cli-plugins/docker-compose";
/// Where `tests/compose_application.sh` finds the application's image and its files.
const IMAGE: &str = "apps/notes.tar.zst";
const APPLICATION: &str = "apps/notes";

/// Files of this machine by their places in the outer one.
pub struct Clients {
    /// Each comes with the libraries that it names.
    pub programs: Vec<(String, PathBuf)>,
    /// What they read.
    pub files: Vec<(String, PathBuf)>,
}

/// What these tests need.
///
/// # Errors
///
/// When something cannot be built or fetched.
pub fn of(tests: &[Test]) -> Result<Clients> {
    let mut clients = Clients {
        programs: Vec::new(),
        files: Vec::new(),
    };
    if !tests.iter().any(|test| test.lighter) {
        return Ok(clients);
    }
    let root = packages::unpacked(&paths::cache(), "sid", CLIENTS)?;
    clients.programs = vec![
        ("bin/lighter".to_owned(), try_it::build()?),
        ("bin/docker".to_owned(), root.join("usr/bin/docker")),
    ];
    if tests.iter().any(|test| test.name == order::COMPOSE) {
        let plugin = root.join("usr/libexec/docker/cli-plugins/docker-compose");
        clients.programs.push((PLUGIN.to_owned(), plugin));
        clients.files = application()?;
    }
    Ok(clients)
}

/// The image and the files of the application.
fn application() -> Result<Vec<(String, PathBuf)>> {
    let image = test_image::archive(&paths::cache(), &test_image::NOTES)?;
    let mut files = vec![(IMAGE.to_owned(), image)];
    let folder = paths::root().join("tests").join(APPLICATION);
    put(&mut files, &folder, APPLICATION)?;
    Ok(files)
}

/// All that is in `folder`, at `place`.
fn put(files: &mut Vec<(String, PathBuf)>, folder: &Path, place: &str) -> Result<()> {
    for file in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let place = format!("{place}/{name}");
        if path.is_dir() {
            put(files, &path, &place)?;
        } else {
            files.push((place, path));
        }
    }
    Ok(())
}
