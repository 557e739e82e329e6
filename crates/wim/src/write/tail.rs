//! The growing end of the file: appended bytes are gathered and written in large pieces.

use gravure_io::ReadAt;

use super::WimTarget;
use crate::error::Error;

/// Bytes gathered before they are written.
const GATHER_BYTES: usize = 1 << 20;

pub(super) struct Tail<'a> {
    target: &'a dyn WimTarget,
    /// Absolute offset of `bytes`.
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Tail<'a> {
    pub(super) fn new(target: &'a dyn WimTarget, start: u64) -> Self {
        Self { target, start, bytes: Vec::new() }
    }

    /// Where the next byte goes.
    pub(super) fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.size())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= GATHER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    pub(super) fn append_zeros(&mut self, len: u64) -> Result<(), Error> {
        let zeros = [0; 4096];
        let mut left = len;
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
            let zeros = zeros.get(..step).unwrap_or_default();
            self.append(zeros)?;
            left = left.saturating_sub(zeros.size());
        }
        Ok(())
    }

    /// Replaces bytes that were appended.
    pub(super) fn patch(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let gathered = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let place = gathered.and_then(|at| self.bytes.get_mut(at..at.checked_add(bytes.len())?));
        if let Some(place) = place {
            place.copy_from_slice(bytes);
            return Ok(());
        }
        self.flush()?;
        self.target.write_all_at(offset, bytes).map_err(Error::io("chunk table", offset))
    }

    /// Goes back to `offset`; what was behind it will be written over.
    pub(super) fn truncate(&mut self, offset: u64) -> Result<(), Error> {
        match offset.checked_sub(self.start).and_then(|len| usize::try_from(len).ok()) {
            Some(len) => self.bytes.truncate(len),
            None => {
                self.bytes.clear();
                self.start = offset;
            }
        }
        Ok(())
    }

    /// Writes what was gathered.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        self.target.write_all_at(self.start, &self.bytes).map_err(Error::io("resources", self.start))?;
        self.start = self.end();
        self.bytes.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gravure_io::MemoryDisk;

    #[test]
    fn patches_and_truncates_in_memory_and_on_disk() {
        let disk = MemoryDisk::new(0, 1);
        let mut tail = Tail::new(&disk, 2);
        tail.append(b"abcdef").unwrap();
        tail.patch(3, b"BC").unwrap();
        tail.flush().unwrap();
        tail.append(b"ghi").unwrap();
        tail.patch(7, b"FG").unwrap();
        tail.truncate(9).unwrap();
        tail.flush().unwrap();
        // What was behind the new end stays on the disk until it is written over.
        assert_eq!((tail.end(), disk.to_vec()), (9, b"\0\0aBCdeFGhi".to_vec()));
        tail.truncate(4).unwrap();
        tail.append(b"xy").unwrap();
        assert_eq!(tail.end(), 6);
        tail.flush().unwrap();
        assert_eq!(disk.to_vec(), b"\0\0aBxyeFGhi");
    }
}
