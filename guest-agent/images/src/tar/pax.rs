//! PAX extended headers: `length key=value\n`, again and again.

use super::TarProblem;
use super::entry::Segment;
use super::sparse;

/// The records of one extended header that mean something here. `None` is "not overridden"; an
/// empty value means the same (curl's and Alpine's images have such records).
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
}

/// GNU's records about sparse files.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    pub(super) map: Option<Vec<Segment>>,
    /// Form 0.0: an offset that waits for its length.
    pending: Option<u64>,
}

impl SparseRecords {
    pub(super) fn any(&self) -> bool {
        self.major.is_some() || self.minor.is_some() || self.map.is_some()
    }
}

const XATTR: &[u8] = b"SCHILY.xattr.";

/// Parses an extended header for the entry behind it.
pub(super) fn parse(bytes: &[u8]) -> Result<Records, TarProblem> {
    let mut records = Records::default();
    for_each(bytes, |key, value| records.take(key, value))?;
    if records.sparse.pending.is_some() {
        return Err(TarProblem::Sparse);
    }
    Ok(records)
}

/// Checks a global extended header. dockerd ignores what it says and GNU tar applies it, so
/// records that would change where or how large entries are cannot be accepted.
pub(super) fn check_global(bytes: &[u8]) -> Result<(), TarProblem> {
    for_each(bytes, |key, _| {
        let decisive = matches!(key, b"path" | b"linkpath" | b"size")
            || key.starts_with(b"GNU.sparse.")
            || key.starts_with(XATTR);
        if decisive {
            return Err(TarProblem::PaxPlace(
                String::from_utf8_lossy(key).into_owned(),
            ));
        }
        Ok(())
    })
}

fn for_each(
    mut bytes: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), TarProblem>,
) -> Result<(), TarProblem> {
    while !bytes.is_empty() {
        let blank = bytes
            .iter()
            .position(|b| *b == b' ')
            .ok_or(TarProblem::Pax)?;
        let length = decimal(&bytes[..blank]).ok_or(TarProblem::Pax)?;
        let length = usize::try_from(length).map_err(|_| TarProblem::Pax)?;
        let record = bytes.get(blank + 1..length).ok_or(TarProblem::Pax)?;
        let record = record.strip_suffix(b"\n").ok_or(TarProblem::Pax)?;
        let equals = record
            .iter()
            .position(|b| *b == b'=')
            .ok_or(TarProblem::Pax)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err(TarProblem::Pax);
        }
        take(key, value)?;
        bytes = &bytes[length..];
    }
    Ok(())
}

impl Records {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarProblem> {
        if let Some(name) = key.strip_prefix(XATTR) {
            if name.is_empty() {
                return Err(TarProblem::Pax);
            }
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        if let Some(rest) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.take(rest, value);
        }
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = number(value, "size")?,
            b"uid" => self.uid = id(value, "uid")?,
            b"gid" => self.gid = id(value, "gid")?,
            b"mtime" => self.mtime = time(value)?,
            // Times of access and change, names of users, comments, vendors' own.
            _ => {}
        }
        Ok(())
    }
}

impl SparseRecords {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarProblem> {
        match key {
            b"major" => self.major = number(value, "GNU.sparse.major")?,
            b"minor" => self.minor = number(value, "GNU.sparse.minor")?,
            b"name" => self.name = text(value)?,
            b"size" | b"realsize" => self.real_size = number(value, "GNU.sparse.realsize")?,
            b"map" => self.map = Some(sparse::parse_list(value)?),
            b"offset" => {
                let offset = number(value, "GNU.sparse.offset")?.ok_or(TarProblem::Sparse)?;
                if self.pending.replace(offset).is_some() {
                    return Err(TarProblem::Sparse);
                }
            }
            b"numbytes" => {
                let offset = self.pending.take().ok_or(TarProblem::Sparse)?;
                let length = number(value, "GNU.sparse.numbytes")?.ok_or(TarProblem::Sparse)?;
                self.map
                    .get_or_insert_default()
                    .push(Segment { offset, length });
            }
            // The number of blocks follows from the map.
            b"numblocks" => {
                self.map.get_or_insert_default();
            }
            _ => return Err(TarProblem::Sparse),
        }
        Ok(())
    }
}

fn text(value: &[u8]) -> Result<Option<Vec<u8>>, TarProblem> {
    if value.contains(&0) {
        return Err(TarProblem::Name);
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn number(value: &[u8], field: &'static str) -> Result<Option<u64>, TarProblem> {
    if value.is_empty() {
        return Ok(None);
    }
    match decimal(value) {
        Some(number) if number <= i64::MAX as u64 => Ok(Some(number)),
        _ => Err(TarProblem::Number(field)),
    }
}

fn id(value: &[u8], field: &'static str) -> Result<Option<u32>, TarProblem> {
    match number(value, field)? {
        None => Ok(None),
        Some(number) => u32::try_from(number)
            .map(Some)
            .map_err(|_| TarProblem::Number(field)),
    }
}

/// Seconds with an optional fraction, perhaps negative; digits past nanoseconds are cut off.
fn time(value: &[u8]) -> Result<Option<(i64, u32)>, TarProblem> {
    let wrong = || TarProblem::Number("mtime");
    if value.is_empty() {
        return Ok(None);
    }
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match digits.iter().position(|b| *b == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &b""[..]),
    };
    let seconds = decimal(whole)
        .and_then(|s| i64::try_from(s).ok())
        .ok_or_else(wrong)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let mut nanos = 0u32;
    for at in 0..9 {
        nanos = nanos * 10 + u32::from(fraction.get(at).map_or(0, |digit| digit - b'0'));
    }
    Ok(Some(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    }))
}

/// ASCII decimal digits only: no sign, no blanks.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, digit| {
        digit.is_ascii_digit().then_some(())?;
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}
