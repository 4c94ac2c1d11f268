//! Takes a layer in: one pass over the stream hashes it, writes it and collects its file tree;
//! then the index is written beside it, and the two become visible together.
//!
//! ```text
//!   stream ─► tmp/layer-N/{layer.tar, index.erofs} ─ verify, seal, fsync, rename ─► layers/<diff_id>/
//! ```
//!
//! Called by pull and load, on threads that may block.

use std::fs::{self, File};
use std::io::{self, BufRead, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::durable;
use crate::erofs::{self, IndexSource, Materialised, Tree, TreeLimits};
use crate::error::{Error, Result};
use crate::inflate::{Growth, Inflate};
use crate::manifest::Descriptor;
use crate::seal::{self, Seals};
use crate::store::{LayerFiles, Store};
use crate::tar::{Entry, Limits, TarError, TarProblem, TarReader};

/// How large a layer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerLimits {
    /// Bytes of the uncompressed tar. The index addresses at most 1 TiB.
    pub bytes: u64,
    /// How many times its compressed size it may grow to …
    pub ratio: u64,
    /// … once it is this large.
    pub ratio_floor: u64,
    /// Entries and files.
    pub files: u32,
    /// What must stay free on the disk.
    pub reserve: u64,
}

impl Default for LayerLimits {
    fn default() -> Self {
        Self {
            bytes: 1 << 40,
            // Deflate itself cannot exceed 1032; images with a file of zeros come near it.
            ratio: 1100,
            ratio_floor: 4 << 30,
            files: 2_000_000,
            reserve: 64 << 20,
        }
    }
}

const BUFFER: usize = 256 << 10;
/// How often free room is looked at.
const ROOM_EVERY: u64 = 64 << 20;
/// Copied pieces of sparse files may take this much and four times the tar.
const EXTRA_FREE: u64 = 256 << 20;

/// A layer that is written but not visible. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct PendingLayer {
    dir: PathBuf,
    pub(crate) diff_id: Digest,
    pub(crate) tar_bytes: u64,
}

impl PendingLayer {
    /// Reads a layer, unpacking it if it is compressed.
    pub(crate) fn receive(store: &Store, input: impl Read) -> Result<Self> {
        let limits = store.options.limits;
        let growth = Growth {
            ratio: limits.ratio,
            floor: limits.ratio_floor,
        };
        Self::receive_plain(store, Inflate::new(input, growth)?)
    }

    pub(crate) fn receive_plain(store: &Store, input: impl Read) -> Result<Self> {
        let dir = store.temporary("layer");
        fs::create_dir(&dir).map_err(Error::file("make directory", &dir))?;
        // From here on, dropping cleans up.
        let mut pending = Self {
            dir,
            diff_id: Digest::of(b""),
            tar_bytes: 0,
        };
        let mut extra = Extra::new(pending.dir.join("extra"), store.options.limits.reserve);
        let recorder = Recorder::new(input, &pending.tar(), store.options.limits)?;
        let path = pending.tar();
        let (mut tree, recorder) = collect(recorder, store.options.limits, &mut extra)
            .map_err(|error| unwritten(error, &path))?;
        let tar = recorder.finish().map_err(|error| unwritten(error, &path))?;
        pending.diff_id = tar.diff_id;
        pending.tar_bytes = tar.bytes;
        if !tar.bytes.is_multiple_of(erofs::BLOCK) {
            pending.lift_tail(&mut tree, &mut extra)?;
        }
        pending.write_index(&tree, &mut extra)?;
        pending.finish_index(store.options.seals)?;
        Ok(pending)
    }

    /// Makes the layer visible, if it is the expected one; durable when this returns.
    pub(crate) fn commit(self, store: &Store, expected: &Digest) -> Result<LayerFiles> {
        if self.diff_id != *expected {
            return Err(Error::Mismatch {
                what: "layer".into(),
                expected: *expected,
                actual: self.diff_id,
            });
        }
        // Another pull may have been faster: a layer that is there is never replaced.
        if let Some(layer) = store.layer(expected) {
            return Ok(layer);
        }
        durable::sync_dir(&self.dir)?;
        let target = store.layer_dir(expected);
        match durable::rename(&self.dir, &target) {
            Err(Error::File { source, .. })
                if source.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            other => other?,
        }
        store.require_layer(expected)
    }

    /// Puts the index in the place of the layer's own, which is damaged; durable when this returns.
    /// A crash between the two steps leaves an index that does not fit its record: damaged again.
    pub(crate) fn replace_index(self, layer: &LayerFiles) -> Result<()> {
        if self.diff_id != layer.diff_id {
            return Err(Error::Mismatch {
                what: format!("the tar of layer {}", layer.diff_id),
                expected: layer.diff_id,
                actual: self.diff_id,
            });
        }
        let (new, old) = (seal::record(&self.index()), seal::record(&layer.index));
        if new.exists() {
            durable::rename(&new, &old)?;
        }
        durable::rename(&self.index(), &layer.index)
    }

    fn tar(&self) -> PathBuf {
        self.dir.join("layer.tar")
    }

    fn index(&self) -> PathBuf {
        self.dir.join("index.erofs")
    }

    fn lift_tail(&self, tree: &mut Tree, extra: &mut Extra) -> Result<()> {
        let path = self.tar();
        let failed = |source| Error::File {
            action: "read the end of",
            path: path.clone(),
            source,
        };
        let mut tar = File::open(&path).map_err(failed)?;
        let mut blocks = extra.blocks;
        let limit = EXTRA_FREE.saturating_add(self.tar_bytes.saturating_mul(4));
        let tar_bytes = self.tar_bytes;
        tree.lift_tail(
            tar_bytes,
            &mut tar,
            &mut extra.writer()?,
            &mut blocks,
            limit,
        )
        .map_err(failed)?;
        extra.blocks = blocks;
        Ok(())
    }

    fn write_index(&self, tree: &Tree, extra: &mut Extra) -> Result<()> {
        let path = self.index();
        let failed = |source| Error::File {
            action: "write",
            path: path.clone(),
            source,
        };
        let mut out = BufWriter::with_capacity(BUFFER, File::create(&path).map_err(failed)?);
        let extra_blocks = extra.blocks;
        let mut copied = extra.take_reader()?;
        let mut source = IndexSource {
            diff_id: &self.diff_id,
            tar_bytes: self.tar_bytes,
            extra: &mut copied,
            extra_blocks,
        };
        erofs::write(tree, &mut source, &mut out).map_err(failed)?;
        out.into_inner()
            .map_err(|error| failed(error.into_error()))
            .map(drop)
    }

    /// Seals the index, which nobody writes to any more, and flushes both in one.
    fn finish_index(&self, seals: Option<Seals>) -> Result<()> {
        let path = self.index();
        let index = File::open(&path).map_err(Error::file("open", &path))?;
        if let Some(seals) = seals {
            seal::seal(&path, &index, seals)?;
        }
        index.sync_all().map_err(Error::file("flush", &path))
    }
}

/// A layer as it was received: unpacked, and what it was before.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) layer: PendingLayer,
    /// Digest and size of what came: of the compressed form, if it was compressed.
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Received {
    /// Reads a layer to the end of `input`.
    pub(crate) fn read(store: &Store, input: &mut impl Read) -> Result<Self> {
        Self::read_hashed(store, &mut Hashing::new(input))
    }

    /// Reads a layer that was promised. What does not come as promised is told from what came so
    /// and is no layer: the first is worth another attempt.
    pub(crate) fn read_promised(
        store: &Store,
        input: &mut impl Read,
        promised: &Descriptor,
    ) -> Result<Self> {
        let mut hashing = Hashing::new(input);
        match Self::read_hashed(store, &mut hashing) {
            Ok(received) => received.check(promised).map(|()| received),
            Err(error @ (Error::File { .. } | Error::Read { .. })) => Err(error),
            Err(error) => {
                hashing.drain()?;
                let (digest, size) = hashing.finish();
                check(promised, &digest, size).and(Err(error))
            }
        }
    }

    fn read_hashed<R: Read>(store: &Store, hashing: &mut Hashing<R>) -> Result<Self> {
        let layer = PendingLayer::receive(store, &mut *hashing)?;
        // What stands behind the compressed stream is part of what the digest names.
        hashing.drain()?;
        let (digest, size) = hashing.finish();
        Ok(Self {
            layer,
            digest,
            size,
        })
    }

    /// Whether it is what the manifest promised.
    pub(crate) fn check(&self, promised: &Descriptor) -> Result<()> {
        check(promised, &self.digest, self.size)
    }
}

fn check(promised: &Descriptor, digest: &Digest, size: u64) -> Result<()> {
    if size != promised.size {
        return Err(Error::Size {
            what: "layer".into(),
            expected: promised.size,
            actual: size,
        });
    }
    if *digest != promised.digest {
        return Err(Error::Transfer(promised.digest));
    }
    Ok(())
}

/// Passes a stream on and hashes it.
pub(crate) struct Hashing<R> {
    input: R,
    hash: Sha256,
    size: u64,
}

impl<R: Read> Hashing<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            hash: Sha256::new(),
            size: 0,
        }
    }

    fn drain(&mut self) -> Result<()> {
        match io::copy(self, &mut io::sink()) {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::Read {
                what: "read layer",
                source,
            }),
        }
    }

    /// Digest and size of what was read so far.
    pub(crate) fn finish(&self) -> (Digest, u64) {
        let digest = Digest::from_bytes(self.hash.clone().finalize().into());
        (digest, self.size)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}

impl Drop for PendingLayer {
    fn drop(&mut self) {
        // After a commit the directory is not here any more.
        if let Err(error) = fs::remove_dir_all(&self.dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.dir.display(), %error, "unfinished layer is left behind");
        }
    }
}

/// Goes through the tar to its end, collecting the tree.
fn collect<R: Read>(
    recorder: Recorder<R>,
    limits: LayerLimits,
    extra: &mut Extra,
) -> Result<(Tree, Recorder<R>)> {
    let mut tree = Tree::new(TreeLimits {
        nodes: limits.files,
        ..TreeLimits::default()
    });
    let tar_limits = Limits {
        entries: u64::from(limits.files),
        ..Limits::default()
    };
    let mut reader = TarReader::new(recorder, tar_limits);
    while let Some(entry) = reader.next_entry()? {
        let copied = copy_pieces(&mut reader, &entry, extra)?;
        tree.insert(&entry, copied).map_err(|source| Error::Entry {
            offset: entry.header_offset,
            source,
        })?;
    }
    Ok((tree, reader.into_inner()))
}

/// Copies the data of a sparse file that cannot be mapped where it stands.
fn copy_pieces<R: BufRead>(
    reader: &mut TarReader<R>,
    entry: &Entry,
    extra: &mut Extra,
) -> Result<Option<Materialised>> {
    let Some(segments) = &entry.sparse else {
        return Ok(None);
    };
    if entry.size > erofs::MAX_SPARSE {
        return Err(reader
            .refuse(TarProblem::Limit("bytes in a sparse file"))
            .into());
    }
    if erofs::fits_in_place(segments, entry.size) {
        return Ok(None);
    }
    let limit = EXTRA_FREE.saturating_add(entry.data_offset.saturating_mul(4));
    let mut blocks = extra.blocks;
    let mut out = extra.writer()?;
    let copied = erofs::materialise(reader, segments, entry.size, &mut out, &mut blocks, limit)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => reader.refuse(TarProblem::Truncated),
            _ => reader.refuse(TarProblem::Read(error)),
        })?;
    extra.blocks = blocks;
    Ok(Some(copied))
}

/// The file that collects copied pieces; made only if there are any.
struct Extra {
    path: PathBuf,
    file: Option<File>,
    blocks: u32,
    reserve: u64,
}

/// Writes copied pieces as long as there is room on the disk.
struct ExtraWriter<'a> {
    file: &'a mut File,
    reserve: u64,
}

impl Write for ExtraWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        require_room(self.file, self.reserve)
            .and_then(|()| self.file.write(bytes))
            .map_err(Unwritten::error)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Extra {
    fn new(path: PathBuf, reserve: u64) -> Self {
        Self {
            path,
            file: None,
            blocks: 0,
            reserve,
        }
    }

    fn writer(&mut self) -> Result<ExtraWriter<'_>> {
        if self.file.is_none() {
            let mut options = File::options();
            options.read(true).write(true).create_new(true);
            let file = options.open(&self.path);
            self.file = Some(file.map_err(Error::file("make", &self.path))?);
        }
        Ok(ExtraWriter {
            file: self.file.as_mut().ok_or(Error::Worker)?,
            reserve: self.reserve,
        })
    }

    /// What was collected, from its start; the file has no name any more then.
    fn take_reader(&mut self) -> Result<Box<dyn Read>> {
        let Some(mut file) = self.file.take() else {
            return Ok(Box::new(io::empty()));
        };
        file.rewind().map_err(Error::file("read", &self.path))?;
        fs::remove_file(&self.path).map_err(Error::file("remove", &self.path))?;
        Ok(Box::new(file))
    }
}

/// Passes a stream on while writing and hashing it.
struct Recorder<R> {
    input: R,
    path: PathBuf,
    file: File,
    hash: Sha256,
    buffer: Box<[u8]>,
    range: std::ops::Range<usize>,
    bytes: u64,
    limits: LayerLimits,
    next_look: u64,
}

/// What was recorded.
struct Recorded {
    diff_id: Digest,
    bytes: u64,
}

impl<R: Read> Recorder<R> {
    fn new(input: R, path: &Path, limits: LayerLimits) -> Result<Self> {
        Ok(Self {
            input,
            path: path.to_owned(),
            file: File::create_new(path).map_err(Error::file("make", path))?,
            hash: Sha256::new(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            range: 0..0,
            bytes: 0,
            limits,
            next_look: 0,
        })
    }

    /// Takes what stands behind the archive's end as well (it is part of what the digest names),
    /// and flushes the file.
    fn finish(mut self) -> Result<Recorded> {
        loop {
            let left = self.range.len();
            self.consume(left);
            let more = self.fill_buf().map_err(|source| Error::Read {
                what: "read layer",
                source,
            })?;
            if more.is_empty() {
                break;
            }
        }
        self.file
            .sync_all()
            .map_err(Error::file("flush", &self.path))?;
        Ok(Recorded {
            diff_id: Digest::from_bytes(self.hash.finalize().into()),
            bytes: self.bytes,
        })
    }

    fn check_limits(&mut self) -> io::Result<()> {
        let limits = &self.limits;
        if self.bytes > limits.bytes {
            let text = format!("layer is larger than {} bytes", limits.bytes);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        if self.bytes >= self.next_look {
            self.next_look = self.bytes + ROOM_EVERY;
            require_room(&self.file, limits.reserve).map_err(Unwritten::error)?;
        }
        Ok(())
    }
}

/// Fails like a full disk if there is not more room than `reserve`.
fn require_room(file: &File, reserve: u64) -> io::Result<()> {
    let room = rustix::fs::fstatvfs(file)?;
    if room.f_bavail.saturating_mul(room.f_frsize) < reserve {
        return Err(rustix::io::Errno::NOSPC.into());
    }
    Ok(())
}

/// Marks an error as one of writing: readers pass it on, and it is not the layer's fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unwritten(#[source] io::Error);

impl Unwritten {
    fn error(source: io::Error) -> io::Error {
        io::Error::new(source.kind(), Self(source))
    }
}

/// Takes an error of writing out of what passed it on.
fn unwritten(error: Error, path: &Path) -> Error {
    let inner = match &error {
        Error::Tar(TarError {
            problem: TarProblem::Read(inner),
            ..
        })
        | Error::Read { source: inner, .. } => inner,
        _ => return error,
    };
    let Some(Unwritten(source)) = inner.get_ref().and_then(|inner| inner.downcast_ref()) else {
        return error;
    };
    let source = match source.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(source.kind(), source.to_string()),
    };
    Error::file("write", path)(source)
}

impl<R: Read> Read for Recorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Recorder<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.range.is_empty() {
            let count = self.input.read(&mut self.buffer)?;
            let chunk = &self.buffer[..count];
            self.hash.update(chunk);
            self.file.write_all(chunk).map_err(Unwritten::error)?;
            self.bytes += count as u64;
            self.range = 0..count;
            self.check_limits()?;
        }
        Ok(&self.buffer[self.range.clone()])
    }

    fn consume(&mut self, count: usize) {
        self.range.start += count;
    }
}
