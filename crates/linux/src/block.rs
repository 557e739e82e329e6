//! A block device as `ReadAt` and `WriteAt`, with what the kernel knows about it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gravure_io::{ReadAt, WriteAt};
use rustix::fs::Advice;

use crate::sys::ioctl;
use crate::{DeviceNumber, Error, NodeKind, dir};

/// Bytes of zeros written at a time where the device has no faster way.
const ZERO_STEP_BYTES: usize = 1 << 20;
/// Bytes asked of the device in one zeroing or discarding ioctl. The call cannot be interrupted, so it is kept to what
/// a slow disk writes in some seconds; cancellation is then seen in between.
const IOCTL_STEP_BYTES: u64 = 256 << 20;
/// Bytes that a direct read takes through its aligned buffer at a time.
const DIRECT_STEP_BYTES: usize = 1 << 20;
/// Alignment of memory for direct reads; no logical sector is larger.
const DIRECT_ALIGN_BYTES: usize = 4096;

/// What the kernel says about a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFacts {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Unit of addressing, bytes: 512 or 4096 on what we serve.
    pub logical_sector_bytes: u32,
    /// Unit in which the medium writes without reading first, bytes.
    pub physical_sector_bytes: u32,
    /// Writing is forbidden.
    pub read_only: bool,
    /// Device number.
    pub number: DeviceNumber,
}

/// An open block device: a disk or a partition.
#[derive(Debug)]
pub struct BlockDevice {
    file: File,
    path: PathBuf,
    facts: BlockFacts,
    direct: bool,
}

impl BlockDevice {
    /// Opens for reading, without claiming the device.
    pub fn open_read(path: &Path) -> Result<Self, Error> {
        Self::open(path, File::options().read(true))
    }

    /// Opens for reading past the page cache, so that what comes back is what the device has: for verification.
    pub fn open_direct(path: &Path) -> Result<Self, Error> {
        let mut device = Self::open(path, File::options().read(true).custom_flags(libc::O_DIRECT))?;
        device.direct = true;
        Ok(device)
    }

    /// Opens for reading and writing, without claiming the device.
    pub fn open_rw(path: &Path) -> Result<Self, Error> {
        Self::open(path, File::options().read(true).write(true))?.writable()
    }

    /// Opens for reading and writing and claims the device: `EBUSY` when it, or a partition of it, is mounted, used
    /// as swap or held by another driver. While the claim on a whole disk lasts, its partitions cannot be mounted.
    pub fn open_exclusive(path: &Path) -> Result<Self, Error> {
        Self::open(path, File::options().read(true).write(true).custom_flags(libc::O_EXCL))?.writable()
    }

    /// Newer kernels open a write-protected device for writing and fail each write instead.
    fn writable(self) -> Result<Self, Error> {
        if self.facts.read_only {
            let why = "the device is write-protected".to_owned();
            return Err(Error::Refused { what: "writing to", on: self.path.display().to_string(), why });
        }
        Ok(self)
    }

    fn open(path: &Path, options: &mut std::fs::OpenOptions) -> Result<Self, Error> {
        let file = options.open(path).map_err(Error::on_path("open block device", path))?;
        let stat = dir::stat_file(&file)?;
        if stat.kind != NodeKind::BlockDevice {
            let why = format!("a block device was expected, found {:?}", stat.kind);
            return Err(Error::Refused { what: "opening", on: path.display().to_string(), why });
        }
        let facts = facts(&file, stat.special).map_err(Error::on_path("ask facts of", path))?;
        Ok(Self { file, path: path.to_owned(), facts, direct: false })
    }

    /// What the kernel said at opening.
    pub fn facts(&self) -> BlockFacts {
        self.facts
    }

    /// Where it starts on its disk, bytes; 0 for what is no partition.
    pub fn first_byte(&self) -> u64 {
        let start = format!("/sys/dev/block/{}/start", self.facts.number);
        // sysfs counts in units of 512 bytes whatever the sector size.
        crate::sysfs::number(Path::new(&start)).unwrap_or(0).saturating_mul(512)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes dirty pages of this device and drops its clean ones from the cache, so that the next read comes from the
    /// medium. A mounted volume keeps its own files cached: unmount it first, or drop all caches.
    pub fn drop_cache(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::on_path("sync", &self.path))?;
        ioctl::plain(&self.file, &ioctl::BLKFLSBUF, 0)
            .map_err(Error::on_path("flush buffers of", &self.path))?;
        rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)
            .map_err(Error::on_path("drop cache of", &self.path))
    }

    /// Makes the kernel read the partition table anew; `EBUSY` while a partition is in use.
    pub fn reread_table(&self) -> Result<(), Error> {
        ioctl::plain(&self.file, &ioctl::BLKRRPART, 0)
            .map(drop)
            .map_err(Error::on_path("re-read partition table of", &self.path))
    }

    /// Zeroes or discards `range` by ioctl in steps; `range` is aligned to sectors.
    fn stepwise(&self, op: &ioctl::Writes<[u64; 2]>, range: Range<u64>) -> io::Result<()> {
        let mut start = range.start;
        while start < range.end {
            let len = range.end.saturating_sub(start).min(IOCTL_STEP_BYTES);
            ioctl::write(&self.file, op, &[start, len])?;
            start = start.saturating_add(len);
        }
        Ok(())
    }

    fn write_zeros(&self, range: Range<u64>) -> io::Result<()> {
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

    /// The whole sectors inside `range`; empty when there are none.
    fn whole_sectors(&self, range: &Range<u64>) -> Range<u64> {
        let sector = u64::from(self.facts.logical_sector_bytes.max(1));
        let end = range.end - range.end % sector;
        let start = range.start.checked_next_multiple_of(sector).unwrap_or(u64::MAX);
        start.min(end)..end
    }

    fn check(&self, range: &Range<u64>) -> io::Result<()> {
        if range.start > range.end || range.end > self.facts.size_bytes {
            let size = self.facts.size_bytes;
            let what =
                format!("range {:#x}..{:#x} leaves the device of {size} bytes", range.start, range.end);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(())
    }

    /// Reads through an aligned buffer, whole sectors at a time, as `O_DIRECT` demands.
    fn read_direct(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let sector = u64::from(self.facts.logical_sector_bytes.max(1));
        let mut store = vec![0u8; DIRECT_STEP_BYTES + DIRECT_ALIGN_BYTES];
        let skip = store.as_ptr().align_offset(DIRECT_ALIGN_BYTES);
        let aligned = &mut store[skip..skip + DIRECT_STEP_BYTES];
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64; // lossless: usize is 64 bits at most
            let start = at - at % sector;
            let head = usize::try_from(at - start).map_err(io::Error::other)?;
            let want = (head + buf.len() - done).min(DIRECT_STEP_BYTES);
            let whole = want.next_multiple_of(usize::try_from(sector).map_err(io::Error::other)?);
            let whole = whole.min(DIRECT_STEP_BYTES);
            self.file.read_exact_at(&mut aligned[..whole], start)?;
            let take = want - head;
            buf[done..done + take].copy_from_slice(&aligned[head..head + take]);
            done += take;
        }
        Ok(())
    }
}

impl AsFd for BlockDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl ReadAt for BlockDevice {
    fn size(&self) -> u64 {
        self.facts.size_bytes
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if !self.direct {
            return self.file.read_exact_at(buf, offset);
        }
        let end = offset.checked_add(buf.size()).filter(|end| *end <= self.facts.size_bytes);
        end.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        self.read_direct(offset, buf)
    }
}

impl WriteAt for BlockDevice {
    fn block_size(&self) -> u32 {
        self.facts.logical_sector_bytes
    }

    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    /// Lets the device zero whole sectors by itself where it can; the kernel writes zeros where it cannot.
    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        self.check(&range)?;
        let inner = self.whole_sectors(&range);
        if inner.is_empty() {
            return self.write_zeros(range);
        }
        self.write_zeros(range.start..inner.start)?;
        match self.stepwise(&ioctl::BLKZEROOUT, inner.clone()) {
            Err(e) if is_missing(&e) => self.write_zeros(inner.clone())?,
            other => other?,
        }
        self.write_zeros(inner.end..range.end)
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        self.check(&range)?;
        match self.stepwise(&ioctl::BLKDISCARD, self.whole_sectors(&range)) {
            Err(e) if is_missing(&e) => Ok(()),
            other => other,
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// What drivers answer that cannot do an ioctl.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL | libc::ENOSYS))
}

fn facts(file: &File, number: DeviceNumber) -> io::Result<BlockFacts> {
    let logical = ioctl::read(file, &ioctl::BLKSSZGET)?;
    Ok(BlockFacts {
        size_bytes: ioctl::read(file, &ioctl::BLKGETSIZE64)?,
        logical_sector_bytes: u32::try_from(logical).map_err(io::Error::other)?,
        physical_sector_bytes: ioctl::read(file, &ioctl::BLKPBSZGET)?,
        read_only: ioctl::read(file, &ioctl::BLKROGET)? != 0,
        number,
    })
}

/// Writes everything that is dirty, everywhere, and returns when it is on stable storage.
pub fn sync_all() {
    rustix::fs::sync();
}

/// Drops all clean pages, names and inodes of the machine from memory, so that the next reads come from the media.
/// Needs root. Dirty pages stay: call `sync_all` before.
pub fn drop_caches() -> Result<(), Error> {
    crate::sysfs::write(Path::new("/proc/sys/vm/drop_caches"), b"3\n")
}

/// Drops the cached pages of one open file, so that the next read comes from the medium. Dirty pages stay: sync
/// before.
pub fn drop_file_cache(file: impl AsFd) -> Result<(), Error> {
    rustix::fs::fadvise(file, 0, None, Advice::DontNeed)
        .map_err(|e| Error::io("drop cache of", "open file", e))
}
