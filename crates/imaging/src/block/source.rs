//! What a block image is made of: a device or file, read-only, with bad sectors tried again and recorded.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use gravure_io::{FileAt, ReadAt};
use gravure_linux::{BlockDevice, DeviceNumber};

use super::opened::{Opened, WithOpened};
use crate::Error;

/// Sector size of files.
const FILE_SECTOR_BYTES: u32 = 512;
/// Times a sector that cannot be read is tried in all.
const ATTEMPTS: u32 = 3;

/// A device or regular file, opened for reading.
pub struct BlockSource {
    inner: Box<dyn ReadAt>,
    name: String,
    sector_bytes: u32,
    physical_sector_bytes: Option<u32>,
}

impl std::fmt::Debug for BlockSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockSource").field("name", &self.name).finish_non_exhaustive()
    }
}

impl BlockSource {
    /// Opens a block device or regular file; nothing can write through it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        use std::os::unix::fs::FileTypeExt;
        let name = path.display().to_string();
        let metadata = std::fs::metadata(path).map_err(Error::io("open", &name))?;
        if metadata.file_type().is_block_device() {
            let device = BlockDevice::open_read(path).map_err(Error::linux(&name))?;
            let facts = device.facts();
            refuse_mounted(&name, facts.number)?;
            return Ok(Self {
                inner: Box::new(device),
                name,
                sector_bytes: facts.logical_sector_bytes,
                physical_sector_bytes: Some(facts.physical_sector_bytes),
            });
        }
        if !metadata.is_file() {
            let what = "block image of what is neither device nor file";
            return Err(Error::Unsupported { what, value: name });
        }
        let file = FileAt::open(path).map_err(Error::io("open", &name))?;
        Ok(Self::new(Box::new(file), &name, FILE_SECTOR_BYTES))
    }

    /// Anything that can be read, addressed in units of `sector_bytes`.
    pub fn new(inner: Box<dyn ReadAt>, name: &str, sector_bytes: u32) -> Self {
        Self { inner, name: name.to_owned(), sector_bytes, physical_sector_bytes: None }
    }

    /// `source` with volumes that were opened.
    pub(super) fn opened(source: &Arc<Self>, opened: Vec<Opened>) -> Self {
        Self {
            inner: Box::new(WithOpened::new(Arc::clone(source), opened)),
            name: source.name.clone(),
            sector_bytes: source.sector_bytes,
            physical_sector_bytes: source.physical_sector_bytes,
        }
    }

    /// Name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Unit of addressing, bytes.
    pub fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    /// Unit in which the medium writes, where it is known.
    pub fn physical_sector_bytes(&self) -> Option<u32> {
        self.physical_sector_bytes
    }
}

/// A volume that somebody writes to changes while it is read, and no journal tells how.
fn refuse_mounted(name: &str, number: DeviceNumber) -> Result<(), Error> {
    // Partitions of a disk are directories below its own.
    let place = |number: DeviceNumber| std::fs::canonicalize(format!("/sys/dev/block/{number}"));
    let own = place(number).map_err(Error::io("look up", name))?;
    for mount in gravure_linux::mount::mounts().map_err(Error::linux(name))? {
        let is_part = mount.device.major != 0 && place(mount.device).is_ok_and(|it| it.starts_with(&own));
        if is_part && !mount.is_read_only() {
            let why = format!("it, or a part of it, is mounted for writing at {}", mount.target.display());
            return Err(Error::Refused { what: format!("imaging {name}"), why });
        }
    }
    Ok(())
}

impl ReadAt for BlockSource {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.inner.read_exact_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> std::io::Result<Option<Range<u64>>> {
        self.inner.next_data(offset)
    }
}

/// Fills `buf` from `offset` and returns the ranges that cannot be read, which are zero then. `on_retry` is told of every failed
/// read.
pub(super) fn read_around(
    source: &dyn ReadAt,
    sector_bytes: u32,
    offset: u64,
    buf: &mut [u8],
) -> Vec<Range<u64>> {
    if source.read_exact_at(offset, buf).is_ok() {
        return Vec::new();
    }
    let sector = u64::from(sector_bytes.max(1));
    let end = offset + buf.len() as u64;
    let mut bad: Vec<Range<u64>> = Vec::new();
    let mut at = offset;
    while at < end {
        let next = (at - at % sector + sector).min(end);
        let place = &mut buf[(at - offset) as usize..(next - offset) as usize];
        if (0..ATTEMPTS).all(|_| source.read_exact_at(at, place).is_err()) {
            place.fill(0);
            match bad.last_mut() {
                Some(last) if last.end == at => last.end = next,
                _ => bad.push(at..next),
            }
        }
        at = next;
    }
    bad
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    struct Bad(Vec<u8>, Range<u64>);

    impl ReadAt for Bad {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            if offset < self.1.end && offset + buf.len() as u64 > self.1.start {
                return Err(io::Error::other("bad sector"));
            }
            self.0.read_exact_at(offset, buf)
        }
    }

    #[test]
    fn only_sectors_that_cannot_be_read_are_lost() {
        let disk = Bad((0..8192u32).map(|n| n as u8 | 1).collect(), 1500..2100);
        let mut buf = vec![0; 4000];
        assert_eq!(read_around(&disk, 512, 100, &mut buf), vec![std::ops::Range { start: 1024, end: 2560 }]);
        let mut expected = disk.0[100..4100].to_vec();
        expected[924..2460].fill(0);
        assert_eq!(buf, expected);
    }
}
