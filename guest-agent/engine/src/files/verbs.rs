//! What the API asks of a container's files: `docker cp` in its three requests.

use std::io::{BufReader, Read, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use lighter_runtime::as_container_root;
use rustix::fs::{FileType, StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;

use super::stat::{self, PathStat, base_name};
use super::unpack::{self, UnpackError};
use super::{Files, PackOptions, Packer, place};
use crate::containers::Container;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::quota::obeying;

/// How an archive is put into a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct PutOptions {
    /// A directory is not replaced by something else, nor something else by a directory.
    pub keep_kinds: bool,
    /// What is put there belongs to the container's user.
    pub own: bool,
}

/// A part of a container's files that is about to be read.
pub struct Archive {
    files: Files,
    found: stat::Found,
    name: String,
}

impl Archive {
    /// What its path is.
    #[must_use]
    pub fn stat(&self) -> &PathStat {
        &self.found.stat
    }

    /// Writes it as a tar. Blocks: call it on a thread that may.
    ///
    /// # Errors
    ///
    /// When the reader of the archive has gone, or something cannot be read.
    pub fn write(self, out: impl Write) -> std::io::Result<()> {
        let options = PackOptions {
            ids: self.files.ids,
            ..PackOptions::default()
        };
        let mut packer = Packer::new(out, options);
        packer.tree(self.found.fd.as_fd(), self.name.as_bytes())?;
        packer.finish()?;
        // Only now may the container start, or go.
        drop(self.files);
        Ok(())
    }
}

impl Engine {
    /// What `path` is in a container.
    ///
    /// # Errors
    ///
    /// When there is no such container or path.
    pub async fn container_stat(self: &Arc<Self>, reference: &str, path: &str) -> Result<PathStat> {
        let container = self.containers().find(reference)?;
        let files = self.files_to_copy(&container).await?;
        Ok(stat::look_up(files.view.root(), path, reference)?.stat)
    }

    /// Opens `path` in a container to be read as an archive.
    ///
    /// # Errors
    ///
    /// When there is no such container or path.
    pub async fn container_archive(
        self: &Arc<Self>,
        reference: &str,
        path: &str,
    ) -> Result<Archive> {
        let container = self.containers().find(reference)?;
        let files = self.files_to_copy(&container).await?;
        let found = stat::look_up(files.view.root(), path, reference)?;
        self.container_event(&container, "archive-path", &[]);
        Ok(Archive {
            files,
            found,
            name: base_name(path).to_owned(),
        })
    }

    /// Unpacks an archive into the directory `path` of a container.
    ///
    /// # Errors
    ///
    /// When there is no such directory, it may not be written, or the archive is none.
    pub async fn container_extract(
        self: &Arc<Self>,
        reference: &str,
        path: &str,
        options: PutOptions,
        input: impl Read + Send + 'static,
    ) -> Result<()> {
        self.require_open()?;
        let container = self.containers().find(reference)?;
        let files = self.files_to_copy(&container).await?;
        let (path, reference) = (path.to_owned(), reference.to_owned());
        let unpacked = tokio::task::spawn_blocking(move || {
            let extract = || extract(&files, &path, &reference, options, input);
            if files.ids.is_none() {
                return extract();
            }
            as_container_root(extract).unwrap_or_else(|| {
                let text = "no thread for the container's root could be had";
                Err(Error::new(Kind::Internal, text))
            })
        });
        unpacked
            .await
            .map_err(|error| Error::internal("unpacking was cut short", error))??;
        self.extracted(&container);
        Ok(())
    }

    fn extracted(&self, container: &Container) {
        self.container_event(container, "extract-to-dir", &[]);
    }
}

fn extract(
    files: &Files,
    path: &str,
    container: &str,
    options: PutOptions,
    input: impl Read,
) -> Result<()> {
    let root = files.view.root();
    let failed = |errno| stat::failure(errno, path, container);
    let base = place::open_followed(root, path).map_err(failed)?;
    let base = base.as_fd();
    let found = rustix::fs::fstat(base).map_err(failed)?;
    if place::kind(&found) != FileType::Directory {
        return Err(Error::invalid("extraction point is not a directory"));
    }
    let rootfs = place::mount_id(base).map_err(failed)? == place::mount_id(root).map_err(failed)?;
    if rootfs && files.record.host_config.readonly_rootfs {
        return Err(Error::invalid("container rootfs is marked read-only"));
    }
    let flags = fstatvfs(base).map_err(failed)?.f_flag;
    if !rootfs && flags.contains(StatVfsMountFlags::RDONLY) {
        return Err(Error::invalid("mounted volume is marked read-only"));
    }
    if place::is_kernels(base).map_err(failed)? {
        return Err(Error::invalid(format!("{path} holds no files")));
    }
    let user = &files.record.config.user;
    let owner = match options.own && !user.is_empty() {
        false => None,
        true => Some(files.view.ids_of(user).map_err(|error| {
            Error::new(Kind::Internal, "the container's user").with_source(error)
        })?),
    };
    let unpacked = lighter_images::unpacked(input)
        .map_err(|error| UnpackError::Archive(error.to_string()))
        .and_then(|plain| {
            let options = unpack::Options {
                keep_kinds: options.keep_kinds,
                owner,
                ids: files.ids,
            };
            let plain = BufReader::with_capacity(128 << 10, plain);
            // What its own processes could not put there, nobody puts there for them.
            obeying(|| unpack::unpack(base, path, plain, options))
        });
    unpacked.map_err(|error| match error.errno() {
        // dockerd says so of whatever is missing, a link's target too.
        Some(Errno::NOENT) => stat::failure(Errno::NOENT, path, container),
        _ => Error::new(Kind::Internal, error.to_string()),
    })
}
