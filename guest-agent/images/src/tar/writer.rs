//! Writes archives as dockerd's do: ustar headers, and PAX records only where a header has no room.

use std::io::{self, Read, Write};

use super::BLOCK;
use super::entry::Kind;

/// What an entry that is written says.
#[derive(Debug, Clone)]
pub struct NewEntry<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its name; that of a directory ends in a slash.
    pub path: &'a [u8],
    /// Target of a hard or symbolic link.
    pub link: &'a [u8],
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change, in seconds.
    pub mtime: i64,
    /// Bytes of content that follow.
    pub size: u64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// `(name, value)`.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// A tar being written.
#[derive(Debug)]
pub struct TarWriter<W> {
    out: W,
}

impl<W: Write> TarWriter<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes an entry and its content: exactly `entry.size` bytes, with zeros where `content` ends
    /// earlier (a file that shrinks while it is read). How many bytes were missing.
    ///
    /// # Errors
    /// What reading or writing said.
    pub fn entry(&mut self, entry: &NewEntry<'_>, content: &mut dyn Read) -> io::Result<u64> {
        let records = records(entry);
        if !records.is_empty() {
            let size = records.len() as u64;
            self.header(&pax_header(entry), size, b'x')?;
            self.out.write_all(&records)?;
            self.pad(size)?;
        }
        self.header(entry, entry.size, flag(entry.kind))?;
        let copied = io::copy(&mut content.take(entry.size), &mut self.out)?;
        let missing = entry.size - copied;
        io::copy(&mut io::repeat(0).take(missing), &mut self.out)?;
        self.pad(entry.size)?;
        Ok(missing)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// What writing said.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = size.next_multiple_of(BLOCK) - size;
        let padding = usize::try_from(padding).unwrap_or(0);
        self.out.write_all(&[0; BLOCK as usize][..padding])
    }

    fn header(&mut self, entry: &NewEntry<'_>, size: u64, flag: u8) -> io::Result<()> {
        let mut block = [0u8; BLOCK as usize];
        let mut put = |at: usize, value: &[u8]| block[at..at + value.len()].copy_from_slice(value);
        put(0, cut(entry.path));
        put(100, &octal::<8>(u64::from(entry.mode)));
        put(108, &octal::<8>(u64::from(entry.uid)));
        put(116, &octal::<8>(u64::from(entry.gid)));
        put(124, &octal::<12>(size));
        put(136, &octal::<12>(u64::try_from(entry.mtime).unwrap_or(0)));
        put(148, b"        ");
        put(156, &[flag]);
        put(157, cut(entry.link));
        put(257, b"ustar\x0000");
        put(329, &octal::<8>(u64::from(entry.device.0)));
        put(337, &octal::<8>(u64::from(entry.device.1)));
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.out.write_all(&block)
    }
}

/// Longest name in a header.
const NAME: usize = 100;

fn cut(name: &[u8]) -> &[u8] {
    &name[..name.len().min(NAME)]
}

fn flag(kind: Kind) -> u8 {
    match kind {
        Kind::Regular => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// The header in front of PAX records, as Go's writer names it.
fn pax_header<'a>(entry: &NewEntry<'a>) -> NewEntry<'a> {
    NewEntry {
        path: b"PaxHeaders.0/entry",
        link: b"",
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: 0,
        device: (0, 0),
        xattrs: &[],
        ..entry.clone()
    }
}

/// A field of `N` bytes: digits and a NUL. Zero where the number does not fit: a record says it.
fn octal<const N: usize>(number: u64) -> [u8; N] {
    let mut field = [b'0'; N];
    field[N - 1] = 0;
    if fits(number, N) {
        let text = format!("{number:0width$o}", width = N - 1);
        field[..N - 1].copy_from_slice(text.as_bytes());
    }
    field
}

fn fits(number: u64, field: usize) -> bool {
    number < 1 << (3 * (field - 1))
}

fn records(entry: &NewEntry<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let long = |name: &[u8]| name.len() > NAME || !name.is_ascii();
    if long(entry.path) {
        record(&mut out, b"path", entry.path);
    }
    if long(entry.link) {
        record(&mut out, b"linkpath", entry.link);
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if !fits(u64::from(id), 8) {
            record(&mut out, key.as_bytes(), id.to_string().as_bytes());
        }
    }
    if !fits(entry.size, 12) {
        record(&mut out, b"size", entry.size.to_string().as_bytes());
    }
    if !u64::try_from(entry.mtime).is_ok_and(|time| fits(time, 12)) {
        record(&mut out, b"mtime", entry.mtime.to_string().as_bytes());
    }
    for (name, value) in entry.xattrs {
        record(&mut out, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    out
}

/// `length key=value\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, TarReader};
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let long = [b'n'; 300];
        let xattrs = [(b"security.capability".to_vec(), vec![1, 0, 0, 2, 0xff])];
        let entry = |kind, path: &'static [u8]| NewEntry {
            kind,
            path,
            link: b"",
            mode: 0o4755,
            uid: 70_000,
            gid: 3_000_000_000,
            mtime: -5,
            size: 0,
            device: (0, 0),
            xattrs: &[],
        };
        let mut device = entry(Kind::CharDevice, b"null");
        device.device = (1, 3);
        let mut file = entry(Kind::Regular, b"f\xffile");
        (file.size, file.xattrs) = (5, &xattrs);
        let mut link = entry(Kind::Symlink, b"link");
        link.link = &long;
        let mut huge = entry(Kind::Regular, b"huge");
        huge.size = 1 << 33;
        let mut writer = TarWriter::new(Vec::new());
        assert_eq!(writer.entry(&device, &mut io::empty()).unwrap(), 0);
        assert_eq!(writer.entry(&file, &mut &b"hello world"[..]).unwrap(), 0);
        assert_eq!(writer.entry(&link, &mut io::empty()).unwrap(), 0);
        let mut short = entry(Kind::Regular, b"short");
        short.size = 700;
        assert_eq!(writer.entry(&short, &mut &b"abc"[..]).unwrap(), 697);
        assert!(!records(&huge).is_empty());
        let bytes = writer.finish().unwrap();
        let mut reader = TarReader::new(&bytes[..], Limits::default());
        let read = reader.next_entry().unwrap().unwrap();
        assert_eq!((read.kind, read.device), (Kind::CharDevice, (1, 3)));
        assert_eq!(
            (read.uid, read.gid, read.mtime),
            (70_000, 3_000_000_000, -5)
        );
        let read = reader.next_entry().unwrap().unwrap();
        assert_eq!((&read.path[..], read.mode), (&b"f\xffile"[..], 0o4755));
        assert_eq!(read.xattrs, xattrs);
        let mut content = String::new();
        reader.read_to_string(&mut content).unwrap();
        assert_eq!(content, "hello");
        assert_eq!(reader.next_entry().unwrap().unwrap().link, long);
        assert_eq!(reader.next_entry().unwrap().unwrap().size, 700);
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        assert_eq!((content.len(), &content[..4]), (700, &b"abc\0"[..]));
        assert!(reader.next_entry().unwrap().is_none());
    }
}
