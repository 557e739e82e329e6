//! A disk seen as the one an image was made of: partitions are found where they were, whatever their places are now. What lies between
//! them (tables, boot code) stays in memory, for the table of this disk is another one.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use gravure_disk::transfer::Placed;
use gravure_io::{ReadAt, WriteAt};

use crate::Error;
use crate::volume::VolumeDevice;

const PAGE_BYTES: u64 = 4096;
/// Pages kept at most: 64 MiB. Images keep some MiB between partitions.
const MAX_PAGES: usize = 16 << 10;

/// The disk under its old addresses.
pub(super) struct Relocated<'a> {
    device: &'a dyn VolumeDevice,
    size: u64,
    sector_bytes: u32,
    /// Ascending by old place.
    placed: &'a [Placed],
    /// What belongs to no partition, by page.
    spare: Mutex<BTreeMap<u64, Box<[u8]>>>,
}

/// A part of a range: where it begins in the range's buffer, its length, and where it is on the disk; `None` in memory.
struct Part {
    start: u64,
    len: u64,
    target: Option<u64>,
}

impl<'a> Relocated<'a> {
    pub(super) fn new(
        device: &'a dyn VolumeDevice,
        size: u64,
        sector_bytes: u32,
        placed: &'a [Placed],
    ) -> Self {
        Self { device, size, sector_bytes, placed, spare: Mutex::default() }
    }

    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Part> + '_ {
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let mut end = range.end;
            let mut target = None;
            for one in self.placed {
                // What is behind the new end of a smaller partition is in no place.
                let mapped =
                    one.from.start..one.from.start + one.size_bytes().min(one.from.end - one.from.start);
                if mapped.contains(&at) {
                    end = end.min(mapped.end);
                    target = Some(one.to.start + (at - mapped.start));
                    break;
                }
                if mapped.start > at {
                    end = end.min(mapped.start);
                    break;
                }
            }
            let part = Part { start: at, len: end - at, target };
            at = end;
            Some(part)
        })
    }

    /// Pieces of pages: page, range in it, range in the buffer of a range that begins at `start`.
    fn pages(start: u64, len: u64) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
        let mut at = start;
        std::iter::from_fn(move || {
            if at >= start + len {
                return None;
            }
            let (page, within) = (at / PAGE_BYTES, at % PAGE_BYTES);
            let count = (PAGE_BYTES - within).min(start + len - at);
            let piece = (
                page,
                within as usize..(within + count) as usize,
                (at - start) as usize..(at - start + count) as usize,
            );
            at += count;
            Some(piece)
        })
    }

    fn read_spare(&self, start: u64, buf: &mut [u8]) {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        for (page, within, at) in Self::pages(start, buf.len() as u64) {
            match spare.get(&page) {
                Some(content) => buf[at].copy_from_slice(&content[within]),
                None => buf[at].fill(0),
            }
        }
    }

    fn write_spare(&self, start: u64, buf: &[u8]) -> io::Result<()> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        for (page, within, at) in Self::pages(start, buf.len() as u64) {
            if spare.len() >= MAX_PAGES && !spare.contains_key(&page) {
                let message = format!(
                    "more than {} MiB of the image belong to no partition",
                    (MAX_PAGES as u64 * PAGE_BYTES) >> 20
                );
                return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
            }
            let content = spare.entry(page).or_insert_with(|| vec![0; PAGE_BYTES as usize].into());
            content[within].copy_from_slice(&buf[at]);
        }
        Ok(())
    }

    fn zero_spare(&self, start: u64, len: u64) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let first = start / PAGE_BYTES;
        let last = (start + len).div_ceil(PAGE_BYTES);
        let touched: Vec<u64> = spare.range(first..last).map(|(page, _)| *page).collect();
        for page in touched {
            let base = page * PAGE_BYTES;
            let from = start.saturating_sub(base).min(PAGE_BYTES) as usize;
            let to = (start + len - base).min(PAGE_BYTES) as usize;
            if (from, to) == (0, PAGE_BYTES as usize) {
                spare.remove(&page);
            } else if let Some(content) = spare.get_mut(&page) {
                content[from..to].fill(0);
            }
        }
    }

    /// What belongs to no partition within a range, as pieces of pages that are not zero.
    pub(super) fn spare(&self, range: &Range<u64>) -> Vec<(u64, Vec<u8>)> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::new();
        for part in self.parts(range.clone()).filter(|part| part.target.is_none()) {
            for (page, within, at) in Self::pages(part.start, part.len) {
                if let Some(content) = spare.get(&page)
                    && content[within.clone()].iter().any(|byte| *byte != 0)
                {
                    out.push((part.start + at.start as u64, content[within].to_vec()));
                }
            }
        }
        out
    }
}

impl ReadAt for Relocated<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        for part in self.parts(offset..offset + buf.len() as u64) {
            let place = (part.start - offset) as usize..(part.start - offset + part.len) as usize;
            match part.target {
                Some(target) => self.device.read_exact_at(target, &mut buf[place])?,
                None => self.read_spare(part.start, &mut buf[place]),
            }
        }
        Ok(())
    }
}

impl WriteAt for Relocated<'_> {
    fn block_size(&self) -> u32 {
        self.device.block_size()
    }

    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        for part in self.parts(offset..offset + buf.len() as u64) {
            let place = (part.start - offset) as usize..(part.start - offset + part.len) as usize;
            match part.target {
                Some(target) => self.device.write_all_at(target, &buf[place])?,
                None => self.write_spare(part.start, &buf[place])?,
            }
        }
        Ok(())
    }

    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        for part in self.parts(range) {
            match part.target {
                Some(target) => self.device.zero_range(target..target + part.len)?,
                None => self.zero_spare(part.start, part.len),
            }
        }
        Ok(())
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        for part in self.parts(range) {
            if let Some(target) = part.target {
                self.device.discard(target..target + part.len)?;
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.device.sync()
    }
}

impl VolumeDevice for Relocated<'_> {
    fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    fn name(&self) -> &str {
        self.device.name()
    }

    fn drop_cache(&self) -> Result<(), Error> {
        self.device.drop_cache()
    }

    fn write_past_cache(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        for part in self.parts(offset..offset + buf.len() as u64) {
            let place = (part.start - offset) as usize..(part.start - offset + part.len) as usize;
            match part.target {
                Some(target) => self.device.write_past_cache(target, &buf[place])?,
                None => self.write_spare(part.start, &buf[place])?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gravure_io::MemoryDisk;

    use super::*;

    struct Memory(MemoryDisk);

    impl ReadAt for Memory {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            self.0.read_exact_at(offset, buf)
        }
    }

    impl WriteAt for Memory {
        fn block_size(&self) -> u32 {
            512
        }
        fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
            self.0.write_all_at(offset, buf)
        }
        fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
            self.0.zero_range(range)
        }
        fn discard(&self, range: Range<u64>) -> io::Result<()> {
            self.0.discard(range)
        }
        fn sync(&self) -> io::Result<()> {
            self.0.sync()
        }
    }

    impl VolumeDevice for Memory {
        fn sector_bytes(&self) -> u32 {
            512
        }
        fn name(&self) -> &'static str {
            "memory"
        }
        fn drop_cache(&self) -> Result<(), Error> {
            Ok(())
        }
    }

    #[test]
    fn partitions_are_found_at_their_old_places_and_the_rest_in_memory() {
        let disk = Memory(MemoryDisk::from_bytes(vec![0xaa; 60_000]));
        // The second one has lost its end.
        let placed = [
            Placed { number: 1, from: 5000..15_000, to: 20_000..30_000 },
            Placed { number: 2, from: 15_000..40_000, to: 40_000..50_000 },
        ];
        let view = Relocated::new(&disk, 45_000, 512, &placed);
        let content: Vec<u8> = (0..45_000u32).map(|n| (n % 251) as u8 | 1).collect();
        view.write_all_at(0, &content).unwrap();
        assert_eq!(view.read_vec_at(0, 45_000).unwrap(), content);
        let bytes = disk.0.to_vec();
        assert_eq!(bytes[20_000..30_000], content[5000..15_000]);
        assert_eq!(bytes[40_000..50_000], content[15_000..25_000]);
        let outside = [0..20_000, 30_000..40_000, 50_000..60_000];
        assert!(outside.into_iter().all(|range| bytes[range].iter().all(|byte| *byte == 0xaa)));
        view.zero_range(4000..6000).unwrap();
        view.zero_range(24_000..42_000).unwrap();
        let mut expected = content;
        expected[4000..6000].fill(0);
        expected[24_000..42_000].fill(0);
        assert!(view.read_vec_at(0, 45_000).unwrap() == expected);
        assert!(disk.0.to_vec()[20_000..21_000].iter().all(|byte| *byte == 0));
        let spare: Vec<(u64, usize)> =
            view.spare(&(0..45_000)).iter().map(|(at, bytes)| (*at, bytes.len())).collect();
        assert_eq!(spare, [(0, 4096), (40_960, 4040)]);
    }
}
