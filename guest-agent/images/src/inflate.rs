//! Undoes compression in this process, within limits.
//!
//! The form is told by the content's first bytes, as dockerd does, never by a media type or name.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// Largest zstd window: 128 MiB, what `zstd --ultra -22` needs. A frame may ask for 2 GiB.
const ZSTD_WINDOW_LOG: u32 = 27;
const BUFFER: usize = 128 << 10;

/// The forms content comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Tells the form by the first bytes; those that are known but not supported are an error.
    pub(crate) fn of(start: &[u8]) -> Result<Self, Error> {
        let skippable =
            |b: &[u8]| b.len() >= 4 && b[0] & 0xf0 == 0x50 && b[1..4] == [0x2a, 0x4d, 0x18];
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            _ if skippable(start) => Ok(Self::Zstd),
            [b'B', b'Z', b'h', ..] => Err(Error::Compression("bzip2")),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(Error::Compression("xz")),
            _ => Ok(Self::None),
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
        let compression = Compression::of(&start)?;
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
mod tests {
    use std::io::Write;

    use super::*;

    const WIDE: Growth = Growth {
        ratio: 10_000,
        floor: 1 << 30,
    };

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn inflate(bytes: &[u8], growth: Growth) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Inflate::new(bytes, growth)
            .map_err(io::Error::other)?
            .read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_form_and_its_concatenations_unpack() {
        assert_eq!(inflate(b"plain", WIDE).unwrap(), b"plain");
        assert_eq!(inflate(b"", WIDE).unwrap(), b"");
        assert_eq!(
            inflate(&[gzip(b"a"), gzip(b"b")].concat(), WIDE).unwrap(),
            b"ab"
        );
        let zstd = |bytes: &[u8]| zstd::stream::encode_all(bytes, 1).unwrap();
        let skippable = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let frames = [&skippable[..], &zstd(b"a"), &skippable, &zstd(b"b")].concat();
        assert_eq!(inflate(&frames, WIDE).unwrap(), b"ab");
    }

    /// Gives one byte at a time, as a slow connection may.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = 1.min(buffer.len());
            self.0.read(&mut buffer[..count])
        }
    }

    #[test]
    fn the_form_does_not_depend_on_how_the_bytes_come() {
        let zstd = zstd::stream::encode_all(&b"content"[..], 1).unwrap();
        for packed in [gzip(b"content"), zstd, b"content".to_vec()] {
            let mut out = Vec::new();
            let mut inflate = Inflate::new(Drip(&packed), WIDE).unwrap();
            inflate.read_to_end(&mut out).unwrap();
            assert_eq!(out, b"content");
        }
        assert!(matches!(
            Inflate::new(Drip(b"BZh91AY"), WIDE),
            Err(Error::Compression("bzip2"))
        ));
    }

    #[test]
    fn damaged_and_unknown_streams_are_errors() {
        let packed = gzip(&[7; 1000]);
        assert!(inflate(&packed[..packed.len() - 1], WIDE).is_err());
        let mut flipped = packed.clone();
        let last = flipped.len() - 5;
        flipped[last] ^= 1;
        assert!(inflate(&flipped, WIDE).is_err());
        assert!(inflate(&[&packed[..], b"garbage"].concat(), WIDE).is_err());
        assert!(matches!(
            Compression::of(b"BZh9"),
            Err(Error::Compression("bzip2"))
        ));
        assert!(matches!(
            Compression::of(b"\xfd7zXZ\0"),
            Err(Error::Compression("xz"))
        ));
    }

    #[test]
    fn bombs_stop_at_the_ratio() {
        let bomb = gzip(&vec![0; 8 << 20]);
        let growth = Growth {
            ratio: 100,
            floor: 1 << 20,
        };
        let error = inflate(&bomb, growth).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        assert_eq!(inflate(&bomb, WIDE).unwrap().len(), 8 << 20);
    }

    #[test]
    fn zstd_windows_beyond_the_limit_are_refused() {
        // A frame header that asks for 2^31 bytes of window: descriptor 0, exponent 21.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        assert!(inflate(&frame, WIDE).is_err());
    }
}
