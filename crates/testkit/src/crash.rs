//! What a disk may hold after power was cut: everything before the last flush, and of what came after it anything.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use gravure_io::{ReadAt, WriteAt};

use crate::Random;

/// What disks write as a whole or not at all, whatever they say of themselves.
const SECTOR_BYTES: usize = 512;

/// Something that changes a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Zeros(Range<u64>),
    Sync,
}

/// A disk that works, and remembers every change in its order.
#[derive(Debug)]
pub struct RecordingDisk<D> {
    disk: D,
    changes: Mutex<Vec<Change>>,
}

/// The changes of a [`RecordingDisk`].
#[derive(Debug)]
pub struct Recording(Vec<Change>);

/// What of the changes since the last flush is on the disk.
#[derive(Debug)]
pub enum Survives<'r> {
    /// All of them.
    All,
    /// All but the last, of which so many bytes are.
    Torn(usize),
    /// Each sector of each by chance, as a disk with a cache writes them in the order it likes.
    Some(&'r mut Random),
}

impl<D> RecordingDisk<D> {
    /// Wraps `disk`.
    pub fn new(disk: D) -> Self {
        Self { disk, changes: Mutex::default() }
    }

    /// What was changed.
    pub fn into_recording(self) -> Recording {
        Recording(self.changes.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, change: Change) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }
}

impl Recording {
    /// Changes and flushes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a disk that held `before` may hold when power is cut after the first `count` changes.
    pub fn cut(&self, before: &[u8], count: usize, survives: Survives<'_>) -> Vec<u8> {
        let done = &self.0[..count];
        let flushed = done.iter().rposition(|change| *change == Change::Sync).unwrap_or(0);
        let mut disk = before.to_vec();
        for change in &done[..flushed] {
            apply(change, &mut disk, |_| true);
        }
        let late = &done[flushed..];
        match survives {
            Survives::All => late.iter().for_each(|change| apply(change, &mut disk, |_| true)),
            Survives::Torn(bytes) => {
                for (index, change) in late.iter().enumerate() {
                    let most = if index + 1 == late.len() { bytes } else { usize::MAX };
                    apply(change, &mut disk, |pos| pos < most);
                }
            }
            Survives::Some(random) => {
                for change in late {
                    apply(change, &mut disk, |_| random.below(2) == 0);
                }
            }
        }
        disk
    }
}

/// Makes a change as far as `reaches` says it does, asked with the place of each sector in it.
fn apply(change: &Change, disk: &mut [u8], mut reaches: impl FnMut(usize) -> bool) {
    let (offset, zeros);
    let bytes = match change {
        Change::Sync => return,
        Change::Write { offset: at, bytes } => {
            offset = *at;
            bytes.as_slice()
        }
        Change::Zeros(range) => {
            offset = range.start;
            zeros = vec![0; usize::try_from(range.end - range.start).expect("disks of tests fit in memory")];
            zeros.as_slice()
        }
    };
    let start = usize::try_from(offset).expect("disks of tests fit in memory");
    for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
        if reaches(index * SECTOR_BYTES) {
            let at = start + index * SECTOR_BYTES;
            disk[at..at + sector.len()].copy_from_slice(sector);
        }
    }
}

impl<D: ReadAt> ReadAt for RecordingDisk<D> {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.disk.read_exact_at(offset, buf)
    }
}

impl<D: WriteAt> WriteAt for RecordingDisk<D> {
    fn block_size(&self) -> u32 {
        self.disk.block_size()
    }

    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.note(Change::Write { offset, bytes: buf.to_vec() });
        self.disk.write_all_at(offset, buf)
    }

    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        self.note(Change::Zeros(range.clone()));
        self.disk.zero_range(range)
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        // What is read then is not defined; zeros here and old bytes there is the worst answer.
        self.note(Change::Zeros(range.clone()));
        self.disk.discard(range)
    }

    fn sync(&self) -> io::Result<()> {
        self.note(Change::Sync);
        self.disk.sync()
    }
}

#[cfg(test)]
mod tests {
    use gravure_io::MemoryDisk;

    use super::*;

    #[test]
    fn what_was_flushed_stays_and_the_rest_is_open() {
        let disk = RecordingDisk::new(MemoryDisk::new(4096, 512));
        disk.write_all_at(0, &[1; 1024]).unwrap();
        disk.sync().unwrap();
        disk.write_all_at(1024, &[2; 1024]).unwrap();
        disk.zero_range(0..512).unwrap();
        disk.sync().unwrap();
        let recording = disk.into_recording();
        assert_eq!(recording.len(), 5);
        let sectors = |disk: &[u8]| [disk[0], disk[512], disk[1024], disk[1536]];
        let cut = |count, survives: Survives<'_>| sectors(&recording.cut(&[9; 4096], count, survives));
        assert_eq!(cut(0, Survives::All), [9, 9, 9, 9]);
        assert_eq!(cut(1, Survives::Torn(512)), [1, 9, 9, 9]);
        assert_eq!(cut(3, Survives::Torn(0)), [1, 1, 9, 9]);
        assert_eq!(cut(4, Survives::All), [0, 1, 2, 2]);
        assert_eq!(cut(5, Survives::Torn(0)), [0, 1, 2, 2]);
        let mut random = Random::new(4);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            seen.insert(cut(4, Survives::Some(&mut random)));
        }
        // The sector that nobody touched again is there always, three others each or not.
        assert!(seen.len() == 8 && seen.iter().all(|one| one[1] == 1), "{seen:?}");
    }
}
