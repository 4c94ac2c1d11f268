//! From files here to an archive.

use std::fs;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Writer;

/// What goes into one part of the stream.
const PART: usize = 64 << 10;

/// Packs `path` on a thread of its own; the archive's names begin with `name`, or with `base`
/// where it is not renamed.
pub fn start(
    path: PathBuf,
    base: String,
    name: Option<String>,
) -> io::Result<mpsc::Receiver<io::Result<Bytes>>> {
    let (sender, receiver) = mpsc::channel(4);
    let name = name.unwrap_or(base);
    std::thread::Builder::new()
        .name("pack".to_owned())
        .spawn(move || {
            let parts = sender.clone();
            if let Err(error) = pack(&path, &name, Writer { parts }) {
                // Whoever read it may have gone.
                let _ = sender.blocking_send(Err(error));
            }
        })?;
    Ok(receiver)
}

fn pack(path: &Path, name: &str, out: Writer) -> io::Result<()> {
    let mut builder = tar::Builder::new(BufWriter::with_capacity(PART, out));
    builder.follow_symlinks(false);
    let mut todo = vec![(path.to_owned(), PathBuf::from(name))];
    while let Some((path, name)) = todo.pop() {
        let kind = fs::symlink_metadata(&path)?.file_type();
        if !(kind.is_dir() || kind.is_file() || kind.is_symlink()) {
            // Sockets, pipes and devices of this computer mean nothing in a container.
            continue;
        }
        builder.append_path_with_name(&path, &name)?;
        if kind.is_dir() {
            let mut below = fs::read_dir(&path)?
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<Vec<_>>>()?;
            below.sort_unstable_by(|a, b| b.cmp(a));
            todo.extend(
                below
                    .iter()
                    .map(|entry| (path.join(entry), name.join(entry))),
            );
        }
    }
    builder
        .into_inner()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    Ok(())
}
