//! A disk in memory, for tests of format crates and for building small volumes.

use std::io;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use crate::{ReadAt, WriteAt};

/// A growable byte store behind a lock; reads and writes go through `&self` as on a real disk.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    bytes: RwLock<Vec<u8>>,
    block_size: u32,
}

impl MemoryDisk {
    /// `size` zero bytes in sectors of `block_size`.
    pub fn new(size: usize, block_size: u32) -> Self {
        Self { bytes: RwLock::new(vec![0; size]), block_size }
    }

    /// Starts from `bytes`, with a block size of 1.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes: RwLock::new(bytes), block_size: 1 }
    }

    /// A copy of the content.
    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ReadAt for MemoryDisk {
    fn size(&self) -> u64 {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).read_exact_at(offset, buf)
    }
}

impl WriteAt for MemoryDisk {
    fn block_size(&self) -> u32 {
        self.block_size.max(1)
    }

    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let start = usize::try_from(offset).map_err(|_| invalid())?;
        let end = start.checked_add(buf.len()).ok_or_else(invalid)?;
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes.get_mut(start..end).ok_or_else(invalid)?.copy_from_slice(buf);
        Ok(())
    }

    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        let len = usize::try_from(range.end.saturating_sub(range.start))
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.write_all_at(range.start, &vec![0; len])
    }

    fn discard(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
