//! Which folders may go though no container has them.
//!
//! A folder without a record is that of a container that was never recorded, or is being removed, or
//! goes with the machine (`--rm`): nobody misses it. Or the record is what is missing, because an older
//! database was put back, and the folder holds somebody's data. A mark, `loose/ID` in the data
//! folder, tells them apart: it is made before the first folder of a container, taken away once the
//! record is on the disk, and there again before that is deleted.
//!
//! Called by create, remove and take-up. What has no mark is never deleted here: see [`Engine::sweep`].

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::rootfs::LAYERS_OF_ALL;
use super::run::CLEARING;
use super::shm;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::ids;
use crate::usage::remove_tree;

impl Engine {
    /// Says that the folders of `id` may go without a record.
    pub(super) fn mark_loose(&self, id: &str) -> Result<()> {
        let mark = self.mark(id);
        let made = mark
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| File::create(&mark).map(drop));
        made.map_err(|error| Error::internal(format!("{} cannot be made", mark.display()), error))
    }

    /// Says that they may not, or that they are gone.
    pub(super) fn unmark_loose(&self, id: &str) {
        match fs::remove_file(self.mark(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, container = id, "the mark of a container stays");
            }
            _ => {}
        }
    }

    /// Removes the mark of a container without folders.
    pub(super) fn unmark_gone(&self, id: &str) {
        let left = [self.overlay_dir(id), self.container_dir(id)];
        if !left.iter().any(|dir| dir.exists()) {
            self.unmark_loose(id);
        }
    }

    fn mark(&self, id: &str) -> PathBuf {
        self.config().data_root.join("loose").join(id)
    }

    /// Clears away directories that belong to no container: those that may go, and puts the others
    /// aside. `known` says of each container whether it goes with the machine.
    pub(super) fn sweep(&self, known: &HashMap<String, bool>) {
        let root = self.config().data_root.clone();
        for (dir, keep) in [("containers", &[][..]), ("overlay2", &LAYERS_OF_ALL)] {
            for name in names(&root.join(dir)) {
                if keep.contains(&&*name) || known.contains_key(&name) {
                    continue;
                }
                let path = root.join(dir).join(&name);
                if self.mark(&name).exists() {
                    self.discard(&path);
                } else {
                    put_aside(&path, &root.join("unknown").join(&name), dir);
                }
            }
        }
        for name in names(&root.join("loose")) {
            match known.get(&name) {
                Some(true) => {}
                Some(false) => self.unmark_loose(&name),
                None => self.unmark_gone(&name),
            }
        }
        for name in names(&self.config().run_dir.join("containers")) {
            if !known.contains_key(&name) {
                let run_dir = self.container_run_dir(&name);
                shm::release(&run_dir);
                remove_tree(&run_dir);
            }
        }
        self.sweep_groups(known);
        let trash = root.join("trash");
        let old: Vec<_> = names(&trash)
            .into_iter()
            .map(|name| trash.join(name))
            .collect();
        if !old.is_empty() {
            self.remove_trees(old);
        }
    }
}

impl Engine {
    /// Removes the groups of containers that are gone, whose engine was killed before it came to that.
    /// Those below a parent of the user's own are not looked for.
    fn sweep_groups(&self, known: &HashMap<String, bool>) {
        let groups = self.launcher().cgroups();
        let is_id = |name: &String| {
            name.len() == ids::LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let left: Vec<_> = names(groups.path())
            .into_iter()
            .filter(|name| is_id(name) && !known.contains_key(name))
            .filter_map(|name| groups.get(None, &name))
            .collect();
        tokio::task::spawn_blocking(move || {
            for group in left {
                if let Err(error) = group.kill().and_then(|()| group.remove(CLEARING)) {
                    tracing::warn!(%error, "the group of a container that is gone stays");
                }
            }
        });
    }
}

/// Moves what may be somebody's data to where nothing looks after it: `folder/name`.
fn put_aside(path: &Path, folder: &Path, name: &str) {
    let numbered = (1..).map(|number| folder.join(format!("{name}.{number}")));
    let free = std::iter::once(folder.join(name))
        .chain(numbered)
        .find(|place| !place.exists());
    let Some(place) = free else { return };
    let moved = fs::create_dir_all(folder).and_then(|()| fs::rename(path, &place));
    match moved {
        Ok(()) => tracing::warn!(
            path = %place.display(),
            "no container is known to which this belonged: it is put aside, and yours to remove"
        ),
        Err(error) => tracing::warn!(
            %error,
            path = %path.display(),
            "no container is known to which this belongs, and it cannot be put aside"
        ),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
