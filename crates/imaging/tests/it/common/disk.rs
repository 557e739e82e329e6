//! A disk in memory that fails as a test wants it to, as a target of volumes and block images.
#![allow(dead_code, reason = "helpers of tests, of which each file uses its part")]

use std::io;
use std::ops::Range;

use gravure_imaging::{Error, VolumeDevice};
use gravure_io::{MemoryDisk, ReadAt, WriteAt};
use gravure_testkit::{Fault, FaultyDisk, Operation};

/// A disk in memory that may fail.
pub(crate) struct Disk(pub(crate) FaultyDisk<MemoryDisk>);

impl Disk {
    /// Full of what somebody else left.
    pub(crate) fn used(size: usize) -> Self {
        Self::with(vec![0xaa; size], Operation::Write, u64::MAX, Fault::Fail)
    }

    /// One with these bytes and a fault.
    pub(crate) fn with(bytes: Vec<u8>, operation: Operation, at: u64, fault: Fault) -> Self {
        Self(FaultyDisk::new(MemoryDisk::from_bytes(bytes), operation, at, fault))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.inner().to_vec()
    }
}

impl ReadAt for Disk {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(offset, buf)
    }
}

impl WriteAt for Disk {
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

impl VolumeDevice for Disk {
    fn sector_bytes(&self) -> u32 {
        512
    }
    fn name(&self) -> &str {
        "disk"
    }
    fn drop_cache(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// Whether anybody would mount it.
pub(crate) fn has_boot_sector(disk: &[u8]) -> bool {
    let is_boot = |sector: &[u8]| sector[3..7] == *b"NTFS";
    is_boot(&disk[..512]) || is_boot(&disk[disk.len() - 512..])
}
