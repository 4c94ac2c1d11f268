//! Undoes compression in this process, within limits.
//!
//! The form is told by the content's first bytes, as dockerd does, never by a media type or name.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// Largest zstd window: 128 MiB, what `zstd --ultra -22` needs. A frame may ask for 2 GiB.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Largest xz dictionary, in KiB: 128 MiB (`xz -9` needs 64) and what the decoder itself takes. The
/// next size there is has 192 MiB; a block may ask for 4 GiB.
const XZ_MEMORY: u32 = (128 << 10) + 1024;
const BUFFER: usize = 128 << 10;

/// The forms content comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    /// Tells the form by the first bytes.
    pub(crate) fn of(start: &[u8]) -> Self {
        let skippable =
            |b: &[u8]| b.len() >= 4 && b[0] & 0xf0 == 0x50 && b[1..4] == [0x2a, 0x4d, 0x18];
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ if skippable(start) => Self::Zstd,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// How much a stream may grow when unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Growth {
    /// Times its compressed size …
    pub(crate) ratio: u64,
    /// … once this much came out.
    pub(crate) floor: u64,
}

/// Unpacks a stream, whatever form it has, within the limits layers have: for archives of clients.
///
/// # Errors
/// When the beginning cannot be read.
pub fn unpacked<R: Read>(input: R) -> Result<impl Read, Error> {
    let limits = crate::LayerLimits::default();
    let growth = Growth {
        ratio: limits.ratio,
        floor: limits.ratio_floor,
    };
    Inflate::new(input, growth)
}

/// Unpacks a stream, whatever form it has.
pub(crate) struct Inflate<R: Read> {
    decoder: Decoder<R>,
    consumed: Arc<AtomicU64>,
    produced: u64,
    growth: Growth,
}

enum Decoder<R: Read> {
    None(Source<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Source<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Source<R>>),
    Bzip2(bzip2::bufread::MultiBzDecoder<Source<R>>),
    Xz(Box<lzma_rust2::XzReader<Source<R>>>),
}

type Source<R> = BufReader<Counting<io::Chain<io::Cursor<Vec<u8>>, R>>>;

/// The longest of the marks by which a form is told.
const MARK: u64 = 6;

impl<R: Read> Inflate<R> {
    pub(crate) fn new(mut input: R, growth: Growth) -> Result<Self, Error> {
        let read = |source| Error::Read {
            what: "read compressed content",
            source,
        };
        let consumed = Arc::new(AtomicU64::new(0));
        // A single read may bring a single byte.
        let mut start = Vec::new();
        input
            .by_ref()
            .take(MARK)
            .read_to_end(&mut start)
            .map_err(read)?;
        let compression = Compression::of(&start);
        let counting = Counting {
            inner: io::Cursor::new(start).chain(input),
            count: Arc::clone(&consumed),
        };
        let source = BufReader::with_capacity(BUFFER, counting);
        let decoder = match compression {
            Compression::None => Decoder::None(source),
            Compression::Gzip => {
                Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(source)))
            }
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source).map_err(read)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(read)?;
                Decoder::Zstd(decoder)
            }
            Compression::Bzip2 => Decoder::Bzip2(bzip2::bufread::MultiBzDecoder::new(source)),
            Compression::Xz => Decoder::Xz(Box::new(lzma_rust2::XzReader::new_mem_limit(
                source, true, XZ_MEMORY,
            ))),
        };
        Ok(Self {
            decoder,
            consumed,
            produced: 0,
            growth,
        })
    }
}

impl<R: Read> Read for Inflate<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.decoder {
            Decoder::None(source) => return source.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer)?,
            Decoder::Zstd(decoder) => decoder.read(buffer)?,
            Decoder::Bzip2(decoder) => decoder.read(buffer)?,
            Decoder::Xz(decoder) => decoder.read(buffer).map_err(xz_failed)?,
        };
        self.produced += count as u64;
        let consumed = self.consumed.load(Ordering::Relaxed);
        if self.produced > self.growth.floor
            && self.produced > consumed.saturating_mul(self.growth.ratio)
        {
            let text = format!(
                "content grows more than {} times when unpacked",
                self.growth.ratio
            );
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text));
        }
        Ok(count)
    }
}

/// Says which memory it was that is not given.
fn xz_failed(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::OutOfMemory => io::Error::new(
            io::ErrorKind::QuotaExceeded,
            "content asks for an xz dictionary of more than 128 MiB",
        ),
        _ => error,
    }
}

struct Counting<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
