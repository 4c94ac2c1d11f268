//! The 512 bytes in front of each entry.

use super::TarProblem;

/// How the fields behind offset 257 are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// None of them.
    V7,
    /// POSIX: device numbers and a prefix of 155 bytes.
    Ustar,
    /// star: as POSIX, but the prefix is 131 bytes and times follow it.
    Star,
    /// GNU: device numbers, times, sparse map; no prefix.
    Gnu,
}

/// Whether this first block is one an archive begins with: a header, or the end of an empty one.
pub(crate) fn begins_tar(start: &[u8]) -> bool {
    if start.iter().all(|b| *b == 0) {
        return true;
    }
    let block = start.get(..512).and_then(|block| block.try_into().ok());
    block.is_some_and(|block| Header(block).checksum_holds())
}

/// A raw header block.
pub(super) struct Header<'a>(pub(super) &'a [u8; 512]);

impl Header<'_> {
    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|b| *b == 0)
    }

    /// Old programs summed signed characters; both sums are taken.
    pub(super) fn checksum_holds(&self) -> bool {
        let Ok(stored) = self.number(148..156, "checksum") else {
            return false;
        };
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, byte) in self.0.iter().enumerate() {
            let byte = if (148..156).contains(&at) {
                b' '
            } else {
                *byte
            };
            unsigned += i64::from(byte);
            signed += i64::from(byte as i8);
        }
        stored == unsigned || stored == signed
    }

    pub(super) fn format(&self) -> Format {
        match &self.0[257..265] {
            b"ustar  \0" => Format::Gnu,
            magic if magic.starts_with(b"ustar\0") => {
                if &self.0[508..] == b"tar\0" {
                    Format::Star
                } else {
                    Format::Ustar
                }
            }
            _ => Format::V7,
        }
    }

    pub(super) fn typeflag(&self) -> u8 {
        self.0[156]
    }

    /// The name, with the prefix where the format has one.
    pub(super) fn path(&self) -> Vec<u8> {
        let prefix = match self.format() {
            Format::Ustar => self.string(345..500),
            Format::Star => self.string(345..476),
            Format::V7 | Format::Gnu => b"",
        };
        if prefix.is_empty() {
            return self.string(0..100).to_vec();
        }
        [prefix, b"/", self.string(0..100)].concat()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.string(157..257).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u16, TarProblem> {
        // Some writers put the file type into the mode as well; only the low bits count.
        Ok((self.number(100..108, "mode")? & 0o7777) as u16)
    }

    pub(super) fn uid(&self) -> Result<u32, TarProblem> {
        self.small(108..116, "uid")
    }

    pub(super) fn gid(&self) -> Result<u32, TarProblem> {
        self.small(116..124, "gid")
    }

    pub(super) fn size(&self) -> Result<u64, TarProblem> {
        self.unsigned(124..136, "size")
    }

    pub(super) fn mtime(&self) -> Result<i64, TarProblem> {
        self.number(136..148, "mtime")
    }

    pub(super) fn device(&self) -> Result<(u32, u32), TarProblem> {
        if self.format() == Format::V7 {
            return Ok((0, 0));
        }
        Ok((
            self.small(329..337, "devmajor")?,
            self.small(337..345, "devminor")?,
        ))
    }

    pub(super) fn unsigned(
        &self,
        range: std::ops::Range<usize>,
        field: &'static str,
    ) -> Result<u64, TarProblem> {
        u64::try_from(self.number(range, field)?).map_err(|_| TarProblem::Number(field))
    }

    fn small(&self, range: std::ops::Range<usize>, field: &'static str) -> Result<u32, TarProblem> {
        u32::try_from(self.number(range, field)?).map_err(|_| TarProblem::Number(field))
    }

    fn number(
        &self,
        range: std::ops::Range<usize>,
        field: &'static str,
    ) -> Result<i64, TarProblem> {
        parse_number(&self.0[range]).ok_or(TarProblem::Number(field))
    }

    fn string(&self, range: std::ops::Range<usize>) -> &[u8] {
        until_nul(&self.0[range])
    }
}

/// The bytes up to the first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or(bytes)
}

/// Octal digits padded with blanks or NULs, or (first bit set) a big-endian two's complement number.
pub(super) fn parse_number(bytes: &[u8]) -> Option<i64> {
    let first = *bytes.first()?;
    if first & 0x80 != 0 {
        return parse_base256(bytes);
    }
    let blank = |b: &u8| *b == b' ' || *b == 0;
    let start = bytes.iter().position(|b| !blank(b)).unwrap_or(bytes.len());
    let digits = &bytes[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    if !digits[end..].iter().all(blank) {
        return None;
    }
    digits[..end].iter().try_fold(0i64, |value, digit| {
        (b'0'..=b'7').contains(digit).then_some(())?;
        value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))
    })
}

fn parse_base256(bytes: &[u8]) -> Option<i64> {
    // The first bit says "binary"; the second is the sign.
    let negative = bytes[0] & 0x40 != 0;
    let first = if negative { bytes[0] } else { bytes[0] & 0x7f };
    let mut value: i128 = if negative { -1 } else { 0 };
    for byte in std::iter::once(first).chain(bytes[1..].iter().copied()) {
        value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
        i64::try_from(value).ok()?;
    }
    i64::try_from(value).ok()
}
