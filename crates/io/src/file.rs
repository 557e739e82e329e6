//! Files and block devices as `ReadAt`/`WriteAt`.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::{ReadAt, WriteAt};

/// Bytes of zeros written at a time where the file system has no faster way.
const ZERO_STEP_BYTES: usize = 1 << 20;

/// An open file or block device with its size taken at opening.
#[derive(Debug)]
pub struct FileAt {
    file: File,
    size: u64,
    block_size: u32,
}

impl FileAt {
    /// Opens `path` for reading.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(File::open(path)?)
    }

    /// Opens `path` for reading and writing; it must exist.
    pub fn open_rw(path: &Path) -> io::Result<Self> {
        Self::new(File::options().read(true).write(true).open(path)?)
    }

    /// Creates `path`, or empties it when it exists.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::new(File::options().read(true).write(true).create(true).truncate(true).open(path)?)
    }

    /// Wraps `file`. The size is found by seeking, which works for block devices too.
    pub fn new(mut file: File) -> io::Result<Self> {
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, size, block_size: 1 })
    }

    /// States the unit of writing, bytes; a disk's logical sector size.
    pub fn with_block_size(mut self, block_size: u32) -> Self {
        self.block_size = block_size;
        self
    }

    /// The file itself, for what only the platform can do with it.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl ReadAt for FileAt {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
}

impl WriteAt for FileAt {
    fn block_size(&self) -> u32 {
        self.block_size
    }

    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        let zeros = vec![0u8; ZERO_STEP_BYTES];
        let mut offset = range.start;
        while offset < range.end {
            let left = usize::try_from(range.end.saturating_sub(offset)).unwrap_or(usize::MAX);
            let step = zeros.get(..left.min(ZERO_STEP_BYTES)).unwrap_or_default();
            self.file.write_all_at(step, offset)?;
            offset = offset.saturating_add(step.size());
        }
        Ok(())
    }

    fn discard(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}
