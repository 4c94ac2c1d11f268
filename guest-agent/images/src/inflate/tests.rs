use std::io::Write;

use lzma_rust2::{XzOptions, XzWriter};

use super::*;

const WIDE: Growth = Growth {
    ratio: 1_000_000,
    floor: 1 << 30,
};

/// Stops early, as a layer's limits do for a large one.
const NARROW: Growth = Growth {
    ratio: 100,
    floor: 1 << 20,
};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = XzWriter::new(Vec::new(), XzOptions::with_preset(1)).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

type Pack = fn(&[u8]) -> Vec<u8>;

/// Every form that has a checksum and of which streams may follow each other.
const PACKERS: [Pack; 3] = [gzip, bzip2, xz];

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
    for pack in PACKERS {
        let both = [pack(b"a"), pack(b""), pack(b"b")].concat();
        assert_eq!(inflate(&both, WIDE).unwrap(), b"ab");
    }
    let skippable = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let frames = [&skippable[..], &zstd(b"a"), &skippable, &zstd(b"b")].concat();
    assert_eq!(inflate(&frames, WIDE).unwrap(), b"ab");
    // Padding between the streams of an xz file comes in fours.
    let padded = |count| [&xz(b"a")[..], &vec![0; count], &xz(b"b")].concat();
    assert_eq!(inflate(&padded(8), WIDE).unwrap(), b"ab");
    assert!(inflate(&padded(7), WIDE).is_err());
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
    let forms = [gzip, zstd, bzip2, xz, <[u8]>::to_vec].map(|pack| pack(b"content"));
    for packed in forms {
        let mut out = Vec::new();
        let mut inflate = Inflate::new(Drip(&packed), WIDE).unwrap();
        inflate.read_to_end(&mut out).unwrap();
        assert_eq!(out, b"content");
    }
}

/// Every byte of a small stream, damaged: an error or, where the byte means nothing, the content.
#[test]
fn damaged_streams_are_errors() {
    for pack in PACKERS {
        let packed = pack(&[7; 1000]);
        for length in 8..packed.len() {
            assert!(inflate(&packed[..length], WIDE).is_err(), "cut at {length}");
        }
        assert!(inflate(&[&packed[..], b"garbage"].concat(), WIDE).is_err());
        for at in 8..packed.len() {
            let mut flipped = packed.clone();
            flipped[at] ^= 1;
            if let Ok(out) = inflate(&flipped, WIDE) {
                assert_eq!(out, [7; 1000], "byte {at}");
            }
        }
    }
}

#[test]
fn bombs_stop_at_the_ratio() {
    for pack in [gzip, zstd, bzip2, xz] {
        let bomb = pack(&vec![0; 8 << 20]);
        let error = inflate(&bomb, NARROW).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        assert_eq!(inflate(&bomb, WIDE).unwrap().len(), 8 << 20);
    }
}

/// A stream of a thousand small bombs is as bad as a large one.
#[test]
fn bombs_in_pieces_stop_at_the_ratio() {
    for pack in [gzip, zstd, bzip2, xz] {
        let bomb = pack(&vec![0; 1 << 20]).repeat(20);
        let error = inflate(&bomb, NARROW).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    }
}

#[test]
fn zstd_windows_beyond_the_limit_are_refused() {
    // A frame header that asks for 2^31 bytes of window: descriptor 0, exponent 21.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
    assert!(inflate(&frame, WIDE).is_err());
}

/// An xz stream whose only block has these filters, as far as the data.
fn xz_block(filters: &[u8], count: u8) -> Vec<u8> {
    let mut block = vec![0, count - 1];
    block.extend_from_slice(filters);
    block.resize(block.len().next_multiple_of(4), 0);
    block[0] = u8::try_from(block.len() / 4).unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(&block);
    block.extend_from_slice(&crc.sum().to_le_bytes());
    // The stream's own header is any stream's.
    [&xz(b"")[..12], &block].concat()
}

/// The filter LZMA2 with a dictionary's size as xz encodes it: 2 and 3 by turns, times powers of 2.
fn lzma2(dictionary: u8) -> [u8; 3] {
    [0x21, 1, dictionary]
}

#[test]
fn xz_dictionaries_beyond_the_limit_are_refused() {
    const MIB_128: u8 = 30;
    // What fits is asked for its data, of which there is none.
    let error = inflate(&xz_block(&lzma2(MIB_128), 1), WIDE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
    // 192 MiB, and 4 GiB, which is the most there can be.
    for dictionary in [MIB_128 + 1, 40] {
        let error = inflate(&xz_block(&lzma2(dictionary), 1), WIDE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded, "{error}");
    }
    let after_another = [xz(b"a"), xz_block(&lzma2(40), 1)].concat();
    let error = inflate(&after_another, WIDE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded, "{error}");
}

#[test]
fn xz_blocks_have_one_dictionary_and_known_filters() {
    for (filters, count) in [
        ([lzma2(30), lzma2(30)].concat(), 2),
        (vec![0x21, 1, 41], 1),
        (vec![0x7f, 0], 1),
        (vec![0x03, 1, 0], 1),
    ] {
        let error = inflate(&xz_block(&filters, count), WIDE).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
    }
}

#[test]
fn bzip2_blocks_of_sizes_that_are_none_are_refused() {
    for size in [b'0', b'a', 0xff] {
        let mut packed = bzip2(b"content");
        packed[3] = size;
        assert!(inflate(&packed, WIDE).is_err());
    }
}
