//! Maps of sparse files: GNU's own, and the three forms GNU tar writes into PAX archives.

use super::TarProblem;
use super::entry::Segment;
use super::header::parse_number;
use super::pax::decimal;

/// More segments than this in one file are refused.
pub(super) const MAX_SEGMENTS: usize = 1 << 20;

/// Adds the segments of a GNU map (24 bytes each); false when the map ends here.
pub(super) fn parse_gnu(bytes: &[u8], map: &mut Vec<Segment>) -> Result<bool, TarProblem> {
    for slot in bytes.chunks_exact(24) {
        if slot[0] == 0 {
            return Ok(false);
        }
        let field = |range: std::ops::Range<usize>| {
            parse_number(&slot[range])
                .and_then(|number| u64::try_from(number).ok())
                .ok_or(TarProblem::Sparse)
        };
        push(
            map,
            Segment {
                offset: field(0..12)?,
                length: field(12..24)?,
            },
        )?;
    }
    Ok(true)
}

/// Form 0.1: `offset,length,offset,length,…` in one record.
pub(super) fn parse_list(value: &[u8]) -> Result<Vec<Segment>, TarProblem> {
    let mut map = Vec::new();
    if value.is_empty() {
        return Ok(map);
    }
    let mut numbers = value.split(|b| *b == b',').map(decimal);
    while let Some(offset) = numbers.next() {
        let (Some(offset), Some(Some(length))) = (offset, numbers.next()) else {
            return Err(TarProblem::Sparse);
        };
        push(&mut map, Segment { offset, length })?;
    }
    Ok(map)
}

/// Form 1.0: the map stands in front of the content, one number a line, filled up to a whole block.
#[derive(Debug, Default)]
pub(super) struct Leading {
    map: Vec<Segment>,
    left: Option<u64>,
    offset: Option<u64>,
    line: Vec<u8>,
}

impl Leading {
    /// Takes one block; true when the map is complete.
    pub(super) fn push_block(&mut self, block: &[u8]) -> Result<bool, TarProblem> {
        for byte in block {
            if self.left == Some(0) {
                return Ok(true);
            }
            if *byte != b'\n' {
                if self.line.len() >= 20 {
                    return Err(TarProblem::Sparse);
                }
                self.line.push(*byte);
                continue;
            }
            let number = decimal(&self.line).ok_or(TarProblem::Sparse)?;
            self.line.clear();
            self.number(number)?;
        }
        Ok(self.left == Some(0))
    }

    fn number(&mut self, number: u64) -> Result<(), TarProblem> {
        let Some(left) = self.left else {
            if number > MAX_SEGMENTS as u64 {
                return Err(TarProblem::Limit("sparse segments"));
            }
            self.left = Some(number);
            return Ok(());
        };
        match self.offset.take() {
            None => self.offset = Some(number),
            Some(offset) => {
                push(
                    &mut self.map,
                    Segment {
                        offset,
                        length: number,
                    },
                )?;
                self.left = Some(left - 1);
            }
        }
        Ok(())
    }

    pub(super) fn into_map(self) -> Vec<Segment> {
        self.map
    }
}

/// Checks that a map is ascending, fits the file and accounts for every stored byte; drops empty
/// segments (GNU tar ends its maps with one).
pub(super) fn check(
    map: Vec<Segment>,
    real_size: u64,
    stored: u64,
) -> Result<Vec<Segment>, TarProblem> {
    let (mut end, mut total) = (0u64, 0u64);
    for segment in &map {
        let next = segment
            .offset
            .checked_add(segment.length)
            .ok_or(TarProblem::Sparse)?;
        if segment.offset < end || next > real_size {
            return Err(TarProblem::Sparse);
        }
        end = next;
        total += segment.length;
    }
    if total != stored {
        return Err(TarProblem::Sparse);
    }
    Ok(map
        .into_iter()
        .filter(|segment| segment.length > 0)
        .collect())
}

fn push(map: &mut Vec<Segment>, segment: Segment) -> Result<(), TarProblem> {
    if map.len() >= MAX_SEGMENTS {
        return Err(TarProblem::Limit("sparse segments"));
    }
    map.push(segment);
    Ok(())
}
