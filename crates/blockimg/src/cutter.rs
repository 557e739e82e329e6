//! Where content is cut into chunks: at the edges of file extents and at every MiB *of the file*, so that the same file gives
//! the same chunks on any file system; what belongs to no file in pieces of 64 KiB (block-imaging 6.4 and 7).

use std::iter::Peekable;

use crate::limits::{MAX_CHUNK_BYTES, REGION_BYTES, SMALL_CHUNK_BYTES};
use crate::table::Exclusion;

/// A part of the device that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedSpan {
    /// Absolute byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Why it is left out; `None` when it is kept.
    pub excluded: Option<Exclusion>,
}

/// A part of the device that belongs to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSpan {
    /// Absolute byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Position in the file of the first byte.
    pub file_offset: u64,
    /// Bytes of content; what follows is padding.
    pub content: u64,
}

/// What the cutter says next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// A piece to be read: at most 1 MiB.
    Data {
        /// Absolute byte.
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// A piece not to be read.
    Hole {
        /// Absolute byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Why it is left out; `None` when it is free.
        excluded: Option<Exclusion>,
    },
    /// The region ends here.
    RegionEnd,
}

/// Cuts a device into pieces and regions, front to back.
#[derive(Debug)]
pub struct Cutter<U: Iterator<Item = UsedSpan>, F: Iterator<Item = FileSpan>> {
    size: u64,
    pos: u64,
    used: Peekable<U>,
    files: Peekable<F>,
    /// The open region holds something to be read.
    has_data: bool,
    is_open: bool,
}

impl<U: Iterator<Item = UsedSpan>, F: Iterator<Item = FileSpan>> Cutter<U, F> {
    /// Of a device of `size` bytes; spans ascend and do not overlap.
    pub fn new(
        size: u64,
        used: impl IntoIterator<IntoIter = U>,
        files: impl IntoIterator<IntoIter = F>,
    ) -> Self {
        let (used, files) = (used.into_iter().peekable(), files.into_iter().peekable());
        Self { size, pos: 0, used, files, has_data: false, is_open: false }
    }

    /// The first multiple of the region size behind `pos`, or the end.
    fn window_end(&self) -> u64 {
        let index = self.pos.checked_div(REGION_BYTES).unwrap_or(0);
        index.saturating_add(1).saturating_mul(REGION_BYTES).min(self.size)
    }

    /// The span that covers `pos` or comes next.
    fn span(&mut self) -> Option<UsedSpan> {
        while let Some(span) = self.used.peek().copied() {
            if span.offset.saturating_add(span.len) > self.pos {
                return (span.offset < self.size).then_some(span);
            }
            self.used.next();
        }
        None
    }

    /// How far a piece at `pos` goes that must not pass `end`.
    fn data_end(&mut self, end: u64) -> u64 {
        while let Some(file) = self.files.peek().copied() {
            let file_end = file.offset.saturating_add(file.len);
            if file_end <= self.pos {
                self.files.next();
                continue;
            }
            if file.offset > self.pos {
                return end.min(file.offset).min(grid(self.pos, 0, SMALL_CHUNK_BYTES));
            }
            let content_end = file.offset.saturating_add(file.content).min(file_end);
            if self.pos >= content_end {
                return end.min(file_end).min(grid(self.pos, 0, SMALL_CHUNK_BYTES));
            }
            let in_file = file.file_offset.wrapping_sub(file.offset);
            return end.min(content_end).min(grid(self.pos, in_file, MAX_CHUNK_BYTES));
        }
        end.min(grid(self.pos, 0, SMALL_CHUNK_BYTES))
    }

    /// How far a hole at `pos` goes; `next` is where the next data begins.
    fn hole_end(&self, end: u64, next: u64) -> u64 {
        if self.has_data {
            return end.min(self.window_end());
        }
        // Without data a region goes on to the last boundary before there is some.
        let boundary = next.checked_div(REGION_BYTES).unwrap_or(0).saturating_mul(REGION_BYTES);
        if boundary > self.pos { end.min(boundary) } else { end.min(self.window_end()) }
    }
}

/// The first place behind `pos` where `pos + shift` is a multiple of `step`.
fn grid(pos: u64, shift: u64, step: u32) -> u64 {
    let step = u64::from(step);
    let past = pos.wrapping_add(shift).checked_rem(step).unwrap_or(0);
    pos.saturating_add(step.saturating_sub(past))
}

impl<U: Iterator<Item = UsedSpan>, F: Iterator<Item = FileSpan>> Iterator for Cutter<U, F> {
    type Item = Cut;

    fn next(&mut self) -> Option<Cut> {
        let at_boundary = self.pos == self.size || self.pos.is_multiple_of(REGION_BYTES);
        let span = self.span();
        if self.is_open && at_boundary {
            // A region without data goes on through further windows without any.
            let data_follows =
                span.is_some_and(|span| span.excluded.is_none() && span.offset < self.window_end());
            if self.has_data || self.pos == self.size || data_follows {
                (self.is_open, self.has_data) = (false, false);
                return Some(Cut::RegionEnd);
            }
        }
        if self.pos >= self.size {
            return None;
        }
        self.is_open = true;
        let offset = self.pos;
        let span_end = |span: UsedSpan| span.offset.saturating_add(span.len).min(self.size);
        match span {
            Some(span) if span.offset <= offset && span.excluded.is_none() => {
                let end = span_end(span).min(self.window_end());
                self.pos = self.data_end(end);
                self.has_data = true;
                let len = u32::try_from(self.pos.saturating_sub(offset)).unwrap_or(0);
                Some(Cut::Data { offset, len })
            }
            Some(span) if span.offset <= offset => {
                let end = span_end(span);
                self.pos = self.hole_end(end, end);
                let len = self.pos.saturating_sub(offset);
                Some(Cut::Hole { offset, len, excluded: span.excluded })
            }
            _ => {
                let next = span.map_or(u64::MAX, |span| span.offset);
                self.pos = self.hole_end(next.min(self.size), next);
                Some(Cut::Hole { offset, len: self.pos.saturating_sub(offset), excluded: None })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    fn used(offset: u64, len: u64) -> UsedSpan {
        UsedSpan { offset, len, excluded: None }
    }

    fn cuts(size: u64, used: &[UsedSpan], files: &[FileSpan]) -> Vec<Cut> {
        Cutter::new(size, used.iter().copied(), files.iter().copied()).collect()
    }

    fn data(cuts: &[Cut]) -> Vec<(u64, u64)> {
        let data = cuts.iter().filter_map(|cut| match cut {
            Cut::Data { offset, len } => Some((*offset, u64::from(*len))),
            _ => None,
        });
        data.collect()
    }

    #[test]
    fn files_are_cut_at_each_mib_of_theirs_and_at_the_end_of_their_content() {
        let file = FileSpan {
            offset: 100 * KIB,
            len: 1900 * KIB,
            file_offset: 300 * KIB,
            content: 1900 * KIB - 1000,
        };
        let found = data(&cuts(4 * MIB, &[used(64 * KIB, 2000 * KIB)], &[file]));
        let expected = [
            (64 * KIB, 36 * KIB),
            (100 * KIB, 724 * KIB),
            (824 * KIB, MIB),
            (1848 * KIB, 152 * KIB - 1000),
            (2000 * KIB - 1000, 1000),
            (2000 * KIB, 48 * KIB),
            (2048 * KIB, 16 * KIB),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn regions_end_at_boundaries_and_free_space_makes_one() {
        let size = 20 * REGION_BYTES + 5;
        let found = cuts(size, &[used(0, 512), used(5 * REGION_BYTES + 512, 512)], &[]);
        let expected = [
            Cut::Data { offset: 0, len: 512 },
            Cut::Hole { offset: 512, len: REGION_BYTES - 512, excluded: None },
            Cut::RegionEnd,
            Cut::Hole { offset: REGION_BYTES, len: 4 * REGION_BYTES, excluded: None },
            Cut::RegionEnd,
            Cut::Hole { offset: 5 * REGION_BYTES, len: 512, excluded: None },
            Cut::Data { offset: 5 * REGION_BYTES + 512, len: 512 },
            Cut::Hole { offset: 5 * REGION_BYTES + 1024, len: REGION_BYTES - 1024, excluded: None },
            Cut::RegionEnd,
            Cut::Hole { offset: 6 * REGION_BYTES, len: 14 * REGION_BYTES + 5, excluded: None },
            Cut::RegionEnd,
        ];
        assert_eq!(found, expected);
    }
}
