//! Goes through an archive entry by entry.

use std::io::{self, BufRead, Read};

use super::BLOCK;
use super::entry::{Entry, Kind, Segment};
use super::error::{TarError, TarProblem};
use super::header::{Format, Header, until_nul};
use super::pax::{self, Records};
use super::sparse::{self, Leading};

/// What an archive may use up in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries, all kinds together.
    pub entries: u64,
    /// Bytes of extended headers, all together.
    pub header_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            header_bytes: 512 << 20,
        }
    }
}

/// The largest extended header or long name; Go's reader, which dockerd uses, has the same.
const MAX_SPECIAL: u64 = 1 << 20;
/// The longest path, as the kernel's `PATH_MAX` (with its NUL).
const MAX_PATH: usize = 4095;

/// The reader.
pub struct TarReader<R> {
    input: R,
    /// Bytes consumed so far.
    position: u64,
    /// Offset of the entry being read, for messages.
    entry_offset: u64,
    /// Content of the current entry that is not consumed.
    remaining: u64,
    /// Zeros behind it, up to the next block.
    padding: u64,
    limits: Limits,
    entries: u64,
    header_bytes: u64,
    ended: bool,
}

/// What extended headers said about the next entry.
#[derive(Default)]
struct Extended {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extended {
    fn any(&self) -> bool {
        self.records.is_some() || self.long_name.is_some() || self.long_link.is_some()
    }
}

impl<R: BufRead> TarReader<R> {
    /// Reads from `input`.
    pub fn new(input: R, limits: Limits) -> Self {
        Self {
            input,
            position: 0,
            entry_offset: 0,
            remaining: 0,
            padding: 0,
            limits,
            entries: 0,
            header_bytes: 0,
            ended: false,
        }
    }

    /// The next entry, skipping what is left of the current one; `None` at the archive's end.
    ///
    /// # Errors
    /// What is wrong with the archive, or reading it.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        if self.ended {
            return Ok(None);
        }
        self.entry().map_err(|problem| TarError {
            offset: self.entry_offset,
            problem,
        })
    }

    /// Wraps a problem that a consumer found in the current entry.
    pub(crate) fn refuse(&self, problem: TarProblem) -> TarError {
        TarError {
            offset: self.entry_offset,
            problem,
        }
    }

    /// What the archive is read from, with everything behind the last entry still in it.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    fn entry(&mut self) -> Result<Option<Entry>, TarProblem> {
        self.skip_content()?;
        self.entry_offset = self.position;
        let mut extended = Extended::default();
        loop {
            let Some(block) = self.header_block()? else {
                self.ended = true;
                return if extended.any() {
                    Err(TarProblem::Dangling)
                } else {
                    Ok(None)
                };
            };
            let header = Header(&block);
            if !header.checksum_holds() {
                return Err(TarProblem::Checksum);
            }
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(TarProblem::Limit("entries"));
            }
            if !self.special(&header, &mut extended)? {
                return self.build(&header, extended).map(Some);
            }
        }
    }

    /// Reads an extended header into `extended`; false if this is an entry of its own.
    fn special(
        &mut self,
        header: &Header<'_>,
        extended: &mut Extended,
    ) -> Result<bool, TarProblem> {
        let flag = header.typeflag();
        if !matches!(flag, b'x' | b'g' | b'L' | b'K') {
            return Ok(false);
        }
        let body = self.special_body(header.size()?)?;
        let doubled = match flag {
            b'g' => {
                pax::check_global(&body)?;
                false
            }
            b'x' => extended.records.replace(pax::parse(&body)?).is_some(),
            b'L' => extended
                .long_name
                .replace(until_nul(&body).to_vec())
                .is_some(),
            _ => extended
                .long_link
                .replace(until_nul(&body).to_vec())
                .is_some(),
        };
        if doubled {
            Err(TarProblem::Ambiguous)
        } else {
            Ok(true)
        }
    }

    fn special_body(&mut self, size: u64) -> Result<Vec<u8>, TarProblem> {
        self.header_bytes = self.header_bytes.saturating_add(size);
        if size > MAX_SPECIAL || self.header_bytes > self.limits.header_bytes {
            return Err(TarProblem::Limit("bytes in extended headers"));
        }
        let mut body = vec![0; usize::try_from(size.next_multiple_of(BLOCK)).unwrap_or(0)];
        self.read_exact(&mut body)?;
        body.truncate(usize::try_from(size).unwrap_or(0));
        Ok(body)
    }

    fn build(&mut self, header: &Header<'_>, extended: Extended) -> Result<Entry, TarProblem> {
        let Extended {
            records,
            long_name,
            long_link,
        } = extended;
        let mut records = records.unwrap_or_default();
        let path = one_of(records.path.take(), long_name)?.unwrap_or_else(|| header.path());
        let link = one_of(records.link.take(), long_link)?.unwrap_or_else(|| header.link());
        let sparse_name = records.sparse.name.is_some();
        let path = records.sparse.name.take().unwrap_or(path);
        if path.len() > MAX_PATH || link.len() > MAX_PATH {
            return Err(TarProblem::NameTooLong);
        }
        let kind = kind(header, &path)?;
        let size = match records.size {
            Some(size) => size,
            None => header.size()?,
        };
        let stored = content_length(kind, header, size)?;
        let (mtime, mtime_nsec) = match records.mtime {
            Some(time) => time,
            None => (header.mtime()?, 0),
        };
        let device = match kind {
            Kind::CharDevice | Kind::BlockDevice => header.device()?,
            _ => (0, 0),
        };
        let mut entry = Entry {
            header_offset: self.entry_offset,
            kind,
            path,
            link,
            mode: header.mode()?,
            uid: records.uid.map_or_else(|| header.uid(), Ok)?,
            gid: records.gid.map_or_else(|| header.gid(), Ok)?,
            mtime,
            mtime_nsec,
            device,
            xattrs: std::mem::take(&mut records.xattrs),
            size: stored,
            data_offset: 0,
            stored,
            sparse: None,
        };
        // Set before the sparse map is read: where it leads the content, it is part of it.
        self.remaining = stored;
        self.padding = stored.next_multiple_of(BLOCK) - stored;
        self.sparse(header, &records, sparse_name, &mut entry)?;
        entry.stored = self.remaining;
        entry.data_offset = self.position;
        Ok(entry)
    }

    fn sparse(
        &mut self,
        header: &Header<'_>,
        records: &Records,
        sparse_name: bool,
        entry: &mut Entry,
    ) -> Result<(), TarProblem> {
        let (map, real_size) = if header.typeflag() == b'S' {
            if header.format() != Format::Gnu || records.sparse.any() {
                return Err(TarProblem::Sparse);
            }
            (
                self.gnu_map(header)?,
                header.unsigned(483..495, "realsize")?,
            )
        } else if records.sparse.any() {
            if entry.kind != Kind::Regular {
                return Err(TarProblem::Sparse);
            }
            (
                self.pax_map(records)?,
                records.sparse.real_size.ok_or(TarProblem::Sparse)?,
            )
        } else if records.sparse.real_size.is_some() || sparse_name {
            // Some readers follow these without a map, and some do not.
            return Err(TarProblem::Sparse);
        } else {
            return Ok(());
        };
        entry.sparse = Some(sparse::check(map, real_size, self.remaining)?);
        entry.size = real_size;
        Ok(())
    }

    fn gnu_map(&mut self, header: &Header<'_>) -> Result<Vec<Segment>, TarProblem> {
        let mut map = Vec::new();
        let mut full = sparse::parse_gnu(&header.0[386..482], &mut map)?;
        let mut more = header.0[482] != 0;
        // These blocks belong to the header, not to the content whose size it announces.
        while more {
            if !full {
                return Err(TarProblem::Sparse);
            }
            let mut block = [0; BLOCK as usize];
            self.read_exact(&mut block)?;
            full = sparse::parse_gnu(&block[..504], &mut map)?;
            more = block[504] != 0;
        }
        Ok(map)
    }

    fn pax_map(&mut self, records: &Records) -> Result<Vec<Segment>, TarProblem> {
        let sparse = &records.sparse;
        match (
            sparse.major.unwrap_or(0),
            sparse.minor.unwrap_or(0),
            &sparse.map,
        ) {
            (0, 0 | 1, Some(map)) => Ok(map.clone()),
            (1, 0, None) => self.leading_map(),
            _ => Err(TarProblem::Sparse),
        }
    }

    fn leading_map(&mut self) -> Result<Vec<Segment>, TarProblem> {
        let mut leading = Leading::default();
        loop {
            let mut block = [0; BLOCK as usize];
            self.remaining = self
                .remaining
                .checked_sub(BLOCK)
                .ok_or(TarProblem::Sparse)?;
            self.read_exact(&mut block)?;
            if leading.push_block(&block)? {
                return Ok(leading.into_map());
            }
        }
    }

    /// The next header, or `None` at the end: two blocks of zeros, or the end of the stream.
    fn header_block(&mut self) -> Result<Option<[u8; 512]>, TarProblem> {
        let mut block = [0; 512];
        if !self.read_or_end(&mut block)? {
            return Ok(None);
        }
        if !Header(&block).is_zero() {
            return Ok(Some(block));
        }
        if self.read_or_end(&mut block)? && !Header(&block).is_zero() {
            return Err(TarProblem::LoneZeroBlock);
        }
        Ok(None)
    }

    fn skip_content(&mut self) -> Result<(), TarProblem> {
        let content = self.remaining;
        self.skip(content)?;
        self.remaining = 0;
        // The padding of the very last entry may be missing: dockerd's reader takes such archives.
        let padding = std::mem::take(&mut self.padding);
        match self.skip(padding) {
            Err(TarProblem::Truncated) => Ok(()),
            other => other,
        }
    }

    fn skip(&mut self, mut count: u64) -> Result<(), TarProblem> {
        while count > 0 {
            let available = fill(&mut self.input)?.len() as u64;
            if available == 0 {
                return Err(TarProblem::Truncated);
            }
            let step = available.min(count);
            self.input.consume(usize::try_from(step).unwrap_or(0));
            self.position += step;
            count -= step;
        }
        Ok(())
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), TarProblem> {
        self.input.read_exact(buffer).map_err(read_problem)?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    /// Fills the block, or says false if the stream ends right here.
    fn read_or_end(&mut self, block: &mut [u8; 512]) -> Result<bool, TarProblem> {
        if fill(&mut self.input)?.is_empty() {
            return Ok(false);
        }
        self.read_exact(block)?;
        Ok(true)
    }
}

/// The content of the current entry.
impl<R: BufRead> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for TarReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let available = self.input.fill_buf()?;
        if available.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let count = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(available.len());
        Ok(&available[..count])
    }

    fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.position += count as u64;
        self.remaining -= count as u64;
    }
}

fn fill<R: BufRead>(input: &mut R) -> Result<&[u8], TarProblem> {
    input.fill_buf().map_err(read_problem)
}

fn read_problem(error: io::Error) -> TarProblem {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => TarProblem::Truncated,
        _ => TarProblem::Read(error),
    }
}

/// PAX and GNU long names may both be given only if they agree: readers differ in which one wins.
fn one_of(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, TarProblem> {
    match (pax, gnu) {
        (Some(pax), Some(gnu)) if pax != gnu => Err(TarProblem::Ambiguous),
        (pax, gnu) => Ok(pax.or(gnu)),
    }
}

fn kind(header: &Header<'_>, path: &[u8]) -> Result<Kind, TarProblem> {
    Ok(match header.typeflag() {
        // Before POSIX a directory was a file whose name ends in a slash.
        0 | b'0' if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::Regular,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(TarProblem::Type(other)),
    })
}

/// How much content follows. Readers skip the announced size of links and directories or they do
/// not; only for hard links (whose size many writers fill in) all agree that nothing follows.
fn content_length(kind: Kind, header: &Header<'_>, size: u64) -> Result<u64, TarProblem> {
    match kind {
        Kind::Regular => Ok(size),
        Kind::HardLink => Ok(0),
        _ if size == 0 => Ok(0),
        _ => Err(TarProblem::Content(char::from(header.typeflag()))),
    }
}
