//! Makes a data disk from its template, `data-disk.sparse`.
//!
//! Called by: whoever creates the data disk, once in its life. The template is made by `cargo xtask image`;
//! the format is ours, so that no host needs `mkfs` or C code (`vm-image/README.md` describes it as well).
//!
//! ```text
//! header, little endian            body, one zstd frame
//!  0  8  magic "LTRDISK\0"          repeated, offsets rising, nothing overlapping:
//!  8  4  version, 1                   u64  offset on the disk, a multiple of 512
//! 12  4  compression, 1 = zstd        u32  length, 512 to 1 MiB, a multiple of 512
//! 16  8  size of the disk              …   that many bytes
//! 24  8  bytes in all extents       ended by u64 0, u32 0
//! ```
//!
//! What lies in no extent is zero and stays a hole. A template is checked as if it came from a stranger: a wrong
//! one is an error, never a write outside the disk. This module must never open a path: the caller made the file.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use ruzstd::decoding::StreamingDecoder;

/// The first eight bytes of every template.
pub const MAGIC: [u8; 8] = *b"LTRDISK\0";
/// The version of the format that is read and written.
pub const VERSION: u32 = 1;
/// The body is one zstd frame.
pub const COMPRESSION_ZSTD: u32 = 1;
/// The longest extent.
pub const MAX_EXTENT: u32 = 1 << 20;
/// Offsets, lengths and the disk's size are multiples of this.
pub const SECTOR: u64 = 512;
/// The largest disk that a template may describe: what ext4 with 4 KiB blocks can hold many times over.
pub const MAX_DISK: u64 = 1 << 46;
/// The length of the header.
pub const HEADER_LEN: usize = 32;

/// What is wrong with a template, or with the disk it was to become.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Not a template at all.
    #[error("not a disk template (its first bytes are not `LTRDISK`)")]
    Magic,
    /// A template of another time.
    #[error("disk template has version {found}, this program reads {VERSION}")]
    Version {
        /// The version it has.
        found: u32,
    },
    /// A compression that this program does not know.
    #[error("disk template is compressed in an unknown way ({found})")]
    Compression {
        /// The number it has.
        found: u32,
    },
    /// The disk's size is none.
    #[error("disk template describes a disk of {size} bytes")]
    Size {
        /// The size it claims.
        size: u64,
    },
    /// An extent that is out of order or outside the disk.
    #[error("disk template has a wrong extent: {length} bytes at {offset}")]
    Extent {
        /// Where it claims to lie.
        offset: u64,
        /// How long it claims to be.
        length: u32,
    },
    /// The extents do not add up to what the header promised.
    #[error("disk template holds {found} bytes, its header promises {promised}")]
    Incomplete {
        /// What the header says.
        promised: u64,
        /// What the extents had.
        found: u64,
    },
    /// The file was there before: nothing is ever written over a disk.
    #[error("the new disk is not empty ({length} bytes)")]
    NotEmpty {
        /// What it holds.
        length: u64,
    },
    /// The template could not be read or unpacked.
    #[error("could not read the disk template")]
    Read(#[source] io::Error),
    /// The disk could not be written.
    #[error("could not write the new disk")]
    Write(#[source] io::Error),
}

/// The header of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The size of the disk in bytes.
    pub disk_size: u64,
    /// The bytes in all extents.
    pub data_bytes: u64,
}

impl Header {
    /// The header as it stands in the file.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&COMPRESSION_ZSTD.to_le_bytes());
        out[16..24].copy_from_slice(&self.disk_size.to_le_bytes());
        out[24..32].copy_from_slice(&self.data_bytes.to_le_bytes());
        out
    }

    /// Reads a header and checks it.
    ///
    /// # Errors
    /// Names what is not as this version writes it.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, TemplateError> {
        if bytes[0..8] != MAGIC {
            return Err(TemplateError::Magic);
        }
        let version = le_u32(&bytes[8..12]);
        if version != VERSION {
            return Err(TemplateError::Version { found: version });
        }
        let compression = le_u32(&bytes[12..16]);
        if compression != COMPRESSION_ZSTD {
            return Err(TemplateError::Compression { found: compression });
        }
        let header = Self {
            disk_size: le_u64(&bytes[16..24]),
            data_bytes: le_u64(&bytes[24..32]),
        };
        let size = header.disk_size;
        if size == 0 || size > MAX_DISK || !size.is_multiple_of(SECTOR) || header.data_bytes > size
        {
            return Err(TemplateError::Size { size });
        }
        Ok(header)
    }
}

/// Writes the disk that `template` describes into the empty file `disk`, leaving holes where it is zero.
///
/// Returns the header. The data is not synced: the caller does that before the disk gets its name. A file system
/// that needs to be told that a file is sparse (NTFS) is told by the caller too. On an error `disk` holds rubbish.
///
/// # Errors
/// The template is damaged or of another version, the file is not empty, or reading or writing failed.
pub fn expand(mut template: impl Read, mut disk: &File) -> Result<Header, TemplateError> {
    let length = disk.metadata().map_err(TemplateError::Write)?.len();
    if length != 0 {
        return Err(TemplateError::NotEmpty { length });
    }
    let mut bytes = [0; HEADER_LEN];
    template
        .read_exact(&mut bytes)
        .map_err(TemplateError::Read)?;
    let header = Header::decode(&bytes)?;
    disk.set_len(header.disk_size)
        .map_err(TemplateError::Write)?;
    let mut body =
        StreamingDecoder::new(template).map_err(|e| TemplateError::Read(io::Error::other(e)))?;
    let mut buffer = Vec::new();
    let (mut end, mut found) = (0, 0);
    while let Some((offset, length)) = next_extent(&mut body, end, header.disk_size)? {
        buffer.resize(length as usize, 0);
        body.read_exact(&mut buffer).map_err(TemplateError::Read)?;
        disk.seek(SeekFrom::Start(offset))
            .map_err(TemplateError::Write)?;
        disk.write_all(&buffer).map_err(TemplateError::Write)?;
        end = offset + u64::from(length);
        found += u64::from(length);
    }
    if found == header.data_bytes {
        Ok(header)
    } else {
        Err(TemplateError::Incomplete {
            promised: header.data_bytes,
            found,
        })
    }
}

/// The next extent's place and length, `None` at the end mark.
fn next_extent(
    body: &mut impl Read,
    end: u64,
    disk_size: u64,
) -> Result<Option<(u64, u32)>, TemplateError> {
    let mut head = [0; 12];
    body.read_exact(&mut head).map_err(TemplateError::Read)?;
    let (offset, length) = (le_u64(&head[0..8]), le_u32(&head[8..12]));
    if offset == 0 && length == 0 {
        return Ok(None);
    }
    let aligned = offset.is_multiple_of(SECTOR) && u64::from(length).is_multiple_of(SECTOR);
    let inside = offset
        .checked_add(u64::from(length))
        .is_some_and(|e| e <= disk_size);
    if length == 0 || length > MAX_EXTENT || !aligned || offset < end || !inside {
        return Err(TemplateError::Extent { offset, length });
    }
    Ok(Some((offset, length)))
}

fn le_u32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b))
}

fn le_u64(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    fn template(header: Header, extents: &[(u64, u32, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (offset, length, bytes) in extents {
            body.extend(offset.to_le_bytes());
            body.extend(length.to_le_bytes());
            body.extend(*bytes);
        }
        body.extend([0; 12]);
        let mut out = header.encode().to_vec();
        out.extend(compress_to_vec(body.as_slice(), CompressionLevel::Fastest));
        out
    }

    fn expanded(template: &[u8]) -> (Result<Header, TemplateError>, File) {
        let disk = tempfile::tempfile().expect("a temporary file");
        (expand(template, &disk), disk)
    }

    #[test]
    fn extents_land_at_their_offsets_and_the_rest_is_zero() {
        let (a, b) = (vec![0xa5; 4096], vec![0x5a; 512]);
        let header = Header {
            disk_size: 1 << 20,
            data_bytes: 4608,
        };
        let (done, mut disk) = expanded(&template(header, &[(0, 4096, &a), (524_288, 512, &b)]));
        assert_eq!(done.expect("expands"), header);
        let mut all = Vec::new();
        disk.seek(SeekFrom::Start(0)).expect("seek");
        disk.read_to_end(&mut all).expect("read");
        let mut expected = vec![0; 1 << 20];
        expected[..4096].copy_from_slice(&a);
        expected[524_288..524_800].copy_from_slice(&b);
        assert!(all == expected);
    }

    #[test]
    fn a_large_disk_stays_sparse() {
        let header = Header {
            disk_size: 64 << 30,
            data_bytes: 512,
        };
        let (done, disk) = expanded(&template(header, &[((64 << 30) - 512, 512, &[1; 512])]));
        assert_eq!(done.expect("expands").disk_size, 64 << 30);
        assert_eq!(disk.metadata().expect("metadata").len(), 64 << 30);
        #[cfg(unix)]
        assert!(std::os::unix::fs::MetadataExt::blocks(&disk.metadata().expect("metadata")) < 1000);
    }

    #[test]
    fn wrong_extents_are_refused_before_they_are_written() {
        let header = Header {
            disk_size: 8192,
            data_bytes: 512,
        };
        let full = [7; 512];
        let cases: [&[(u64, u32, &[u8])]; 6] = [
            &[(8192, 512, &full)],
            &[(u64::MAX - 511, 512, &full)],
            &[(100, 512, &full)],
            &[(512, 100, &full[..100])],
            &[(4096, 512, &full), (4096, 512, &full)],
            &[(512, MAX_EXTENT + 512, &full)],
        ];
        for case in cases {
            let (done, disk) = expanded(&template(header, case));
            assert!(
                matches!(done, Err(TemplateError::Extent { .. })),
                "{done:?}"
            );
            assert_eq!(disk.metadata().expect("metadata").len(), 8192);
        }
    }

    #[test]
    fn wrong_headers_are_named() {
        let good = Header {
            disk_size: 8192,
            data_bytes: 0,
        }
        .encode();
        let mut magic = good;
        magic[0] = b'X';
        assert!(matches!(Header::decode(&magic), Err(TemplateError::Magic)));
        let mut version = good;
        version[8] = 2;
        assert!(matches!(
            Header::decode(&version),
            Err(TemplateError::Version { found: 2 })
        ));
        let mut compression = good;
        compression[12] = 9;
        assert!(matches!(
            Header::decode(&compression),
            Err(TemplateError::Compression { found: 9 })
        ));
        for (disk_size, data_bytes) in [(0, 0), (8191, 0), (MAX_DISK + 512, 0), (512, 1024)] {
            let header = Header {
                disk_size,
                data_bytes,
            }
            .encode();
            assert!(matches!(
                Header::decode(&header),
                Err(TemplateError::Size { .. })
            ));
        }
    }

    #[test]
    fn cut_and_short_templates_are_errors() {
        let header = Header {
            disk_size: 8192,
            data_bytes: 1024,
        };
        let whole = template(header, &[(0, 512, &[1; 512])]);
        assert!(matches!(
            expanded(&whole).0,
            Err(TemplateError::Incomplete {
                promised: 1024,
                found: 512
            })
        ));
        for cut in [3, HEADER_LEN, HEADER_LEN + 5, whole.len() - 1] {
            assert!(
                matches!(expanded(&whole[..cut]).0, Err(TemplateError::Read(_))),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_file_with_content_is_never_written_over() {
        let disk = tempfile::tempfile().expect("a temporary file");
        (&disk).write_all(b"data").expect("write");
        let done = expand(
            template(
                Header {
                    disk_size: 512,
                    data_bytes: 0,
                },
                &[],
            )
            .as_slice(),
            &disk,
        );
        assert!(matches!(done, Err(TemplateError::NotEmpty { length: 4 })));
        assert_eq!(disk.metadata().expect("metadata").len(), 4);
    }
}
