//! What a volume is written to: a partition, or a regular file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use gravure_io::{FileAt, ReadAt, Window, WriteAt};
use gravure_linux::BlockDevice;
use gravure_linux::direct::DirectWrites;

use crate::Error;

/// Sector size of image files: what virtual machines and loop devices assume.
const FILE_SECTOR_BYTES: u32 = 512;
/// Bytes looked at for data without a known signature.
const HEAD_BYTES: u64 = 64 << 10;

/// A target for volumes.
pub trait VolumeDevice: ReadAt + WriteAt {
    /// Unit in which the disk is addressed, bytes.
    fn sector_bytes(&self) -> u32;

    /// Name for messages.
    fn name(&self) -> &str;

    /// Where it starts on its disk, bytes; 0 for what is no partition.
    fn first_byte(&self) -> u64 {
        0
    }

    /// Bytes that stand there before the first write; more than [`ReadAt::size`] when the rest is going to be cut off.
    fn present_bytes(&self) -> u64 {
        self.size()
    }

    /// Bytes that may be written to it before its file system is full; `None` for what has a size of its own.
    fn room_bytes(&self) -> Option<u64> {
        None
    }

    /// Makes the next reads come from the medium.
    fn drop_cache(&self) -> Result<(), Error>;

    /// Writes what will not be read again soon: past the cache where that is possible and pays. `buf` is best a [`gravure_linux::direct::AlignedBuffer`].
    fn write_past_cache(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.write_all_at(offset, buf)
    }
}

/// A range of another device: a partition that the kernel does not know yet.
pub struct PartOf<'a> {
    device: &'a dyn VolumeDevice,
    window: Window<&'a dyn VolumeDevice>,
    start: u64,
    name: String,
}

impl std::fmt::Debug for PartOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartOf").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> PartOf<'a> {
    /// The bytes of `range`, called `what` of the device in messages.
    pub fn new(device: &'a dyn VolumeDevice, range: &Range<u64>, what: &str) -> Self {
        let window = Window::new(device, range.start, range.end.saturating_sub(range.start));
        Self { device, window, start: range.start, name: format!("{what} of {}", device.name()) }
    }
}

impl ReadAt for PartOf<'_> {
    fn size(&self) -> u64 {
        self.window.size()
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.window.read_exact_at(offset, buf)
    }
}

impl WriteAt for PartOf<'_> {
    fn block_size(&self) -> u32 {
        self.window.block_size()
    }
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.window.write_all_at(offset, buf)
    }
    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        self.window.zero_range(range)
    }
    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        self.window.discard(range)
    }
    fn sync(&self) -> io::Result<()> {
        self.window.sync()
    }
}

impl VolumeDevice for PartOf<'_> {
    fn sector_bytes(&self) -> u32 {
        self.device.sector_bytes()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn first_byte(&self) -> u64 {
        self.device.first_byte() + self.start
    }

    fn room_bytes(&self) -> Option<u64> {
        self.device.room_bytes()
    }

    fn drop_cache(&self) -> Result<(), Error> {
        self.device.drop_cache()
    }

    fn write_past_cache(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.window.size());
        end.ok_or_else(|| io::Error::from(io::ErrorKind::WriteZero))?;
        self.device.write_past_cache(self.start.saturating_add(offset), buf)
    }
}

/// A partition or regular file, opened for writing.
///
/// A file is neither made nor resized before the first write: until then everything may still be refused, and what stands there stays
/// as it is. Reads find zeros where the file is going to grow.
#[derive(Debug)]
pub struct VolumeFile {
    inner: Inner,
    name: String,
    direct: OnceLock<Option<DirectWrites>>,
}

#[derive(Debug)]
enum Inner {
    Partition(BlockDevice),
    File(LateFile),
}

/// A regular file that gets its size with the first write.
#[derive(Debug)]
struct LateFile {
    path: PathBuf,
    /// As it was found; `None` when there was none.
    found: Option<FileAt>,
    /// Size that it is to have, bytes.
    size: u64,
    sector_bytes: u32,
    /// With its size, once something was written.
    made: OnceLock<FileAt>,
    /// Held while it is made.
    making: Mutex<()>,
}

impl LateFile {
    /// The file with its size, made now if nobody did before.
    fn made(&self) -> io::Result<&FileAt> {
        if let Some(made) = self.made.get() {
            return Ok(made);
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = self.made.get() {
            return Ok(made);
        }
        let file = match &self.found {
            Some(found) => found.file().try_clone()?,
            // Whatever has come there meanwhile has not been looked at.
            None => File::options().read(true).write(true).create_new(true).open(&self.path)?,
        };
        if self.found.as_ref().map(ReadAt::size) != Some(self.size) {
            file.set_len(self.size)?;
        }
        let file = FileAt::new(file)?;
        Ok(self.made.get_or_init(|| file))
    }

    /// Bytes that the file system has free, and those that the file has already.
    fn room_bytes(&self) -> Option<u64> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let free = gravure_linux::health::free_bytes(parent.unwrap_or(Path::new("."))).ok()?;
        let own = self.present().map(|file| gravure_linux::dir::stat_file(file.file()));
        let own = own.transpose().ok()?.map_or(0, |there| there.allocated_bytes);
        Some(free.saturating_add(own))
    }

    /// What can be synced or dropped from memory.
    fn present(&self) -> Option<&FileAt> {
        self.made.get().or(self.found.as_ref())
    }
}

impl ReadAt for LateFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if let Some(made) = self.made.get() {
            return made.read_exact_at(offset, buf);
        }
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.size {
            let message = format!("bytes {offset}..{end} of {}", self.size);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        let there = self.found.as_ref().map_or(0, ReadAt::size).saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(buf.len());
        let (front, behind) = buf.split_at_mut(there);
        behind.fill(0);
        match &self.found {
            Some(found) if !front.is_empty() => found.read_exact_at(offset, front),
            _ => Ok(()),
        }
    }
}

impl LateFile {
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        match self.made.get() {
            Some(made) => Ok(gravure_linux::dir::next_data(made.file(), offset)?),
            None => Ok((offset < self.size).then_some(offset..self.size)),
        }
    }
}

impl WriteAt for LateFile {
    fn block_size(&self) -> u32 {
        1
    }
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.made()?.write_all_at(offset, buf)
    }
    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        self.made()?.zero_range(range)
    }
    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        self.made()?.discard(range)
    }
    fn sync(&self) -> io::Result<()> {
        self.present().map_or(Ok(()), WriteAt::sync)
    }
}

impl VolumeFile {
    /// Opens `path`. A partition is claimed, which fails when it is in use. A regular file that is not there is made with the
    /// first write; `size` then says how large, and makes one that is there as large when it is given.
    pub fn open(path: &Path, size: Option<u64>) -> Result<Self, Error> {
        use std::os::unix::fs::FileTypeExt;
        let name = path.display().to_string();
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io("open", &name)(error)),
        };
        if metadata.as_ref().is_some_and(|metadata| metadata.file_type().is_block_device()) {
            if let Some(size) = size {
                return Err(Error::Usage {
                    what: "size".to_owned(),
                    expected: "none, as a partition has its own".to_owned(),
                    found: size.to_string(),
                });
            }
            let device = BlockDevice::open_exclusive(path).map_err(Error::linux(&name))?;
            return Ok(Self { inner: Inner::Partition(device), name, direct: OnceLock::new() });
        }
        if metadata.as_ref().is_some_and(|metadata| !metadata.is_file()) {
            return Err(Error::Unsupported {
                what: "volume on what is neither partition nor file",
                value: name,
            });
        }
        let found = match metadata {
            Some(_) => Some(FileAt::open_rw(path).map_err(Error::io("open", &name))?),
            None => None,
        };
        let Some(size) = size.or(found.as_ref().map(ReadAt::size)) else {
            return Err(Error::NotFound { what: "file", which: name });
        };
        let file = LateFile {
            path: path.to_owned(),
            found,
            size,
            sector_bytes: FILE_SECTOR_BYTES,
            made: OnceLock::new(),
            making: Mutex::new(()),
        };
        Ok(Self { inner: Inner::File(file), name, direct: OnceLock::new() })
    }

    /// The same with sectors of `bytes`, which a file may have any of: it is going to be written to, or attached as, a disk that
    /// is addressed so. A partition has its own.
    pub fn with_sector_bytes(mut self, bytes: u32) -> Result<Self, Error> {
        match &mut self.inner {
            Inner::Partition(_) => Err(Error::Usage {
                what: "sector size".to_owned(),
                expected: "none, as a partition has its own".to_owned(),
                found: bytes.to_string(),
            }),
            Inner::File(file) => {
                file.sector_bytes = bytes;
                Ok(self)
            }
        }
    }

    fn target(&self) -> &dyn WriteAt {
        match &self.inner {
            Inner::Partition(device) => device,
            Inner::File(file) => file,
        }
    }

    fn source(&self) -> &dyn ReadAt {
        match &self.inner {
            Inner::Partition(device) => device,
            Inner::File(file) => file,
        }
    }
}

impl ReadAt for VolumeFile {
    fn size(&self) -> u64 {
        self.source().size()
    }
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        match &self.inner {
            Inner::Partition(device) => device.next_data(offset),
            Inner::File(file) => file.next_data(offset),
        }
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.source().read_exact_at(offset, buf)
    }
}

impl WriteAt for VolumeFile {
    fn block_size(&self) -> u32 {
        self.target().block_size()
    }
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.target().write_all_at(offset, buf)
    }
    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        self.target().zero_range(range)
    }
    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        self.target().discard(range)
    }
    fn sync(&self) -> io::Result<()> {
        self.target().sync()
    }
}

impl VolumeDevice for VolumeFile {
    fn sector_bytes(&self) -> u32 {
        match &self.inner {
            Inner::Partition(device) => device.facts().logical_sector_bytes,
            Inner::File(file) => file.sector_bytes,
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn first_byte(&self) -> u64 {
        match &self.inner {
            Inner::Partition(device) => device.first_byte(),
            Inner::File(_) => 0,
        }
    }

    fn present_bytes(&self) -> u64 {
        match &self.inner {
            Inner::Partition(device) => device.size(),
            Inner::File(file) => file.present().map_or(0, ReadAt::size),
        }
    }

    fn room_bytes(&self) -> Option<u64> {
        match &self.inner {
            Inner::Partition(_) => None,
            Inner::File(file) => file.room_bytes(),
        }
    }

    fn drop_cache(&self) -> Result<(), Error> {
        match &self.inner {
            Inner::Partition(device) => device.drop_cache(),
            Inner::File(file) => match file.present() {
                Some(file) => gravure_linux::block::drop_file_cache(file.file()),
                None => Ok(()),
            },
        }
        .map_err(Error::linux(&self.name))
    }

    fn write_past_cache(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let direct = self.direct.get_or_init(|| match &self.inner {
            Inner::Partition(device) => DirectWrites::of(device),
            Inner::File(file) => DirectWrites::of(file.made().ok()?.file()),
        });
        match direct {
            Some(direct) => direct.write_all_at(offset, buf, |at, part| self.write_all_at(at, part)),
            None => self.write_all_at(offset, buf),
        }
    }
}

/// Why a device of which a part is going to be cut off must not be touched unasked.
pub(crate) fn is_cut(device: &dyn VolumeDevice) -> Option<String> {
    let (present, size) = (device.present_bytes(), device.size());
    (present > size).then(|| format!("it has {present} bytes and would be cut to {size}"))
}

/// Refuses a device on which something stands: a known signature, or bytes other than zeros where one would be.
pub(super) fn refuse_data(device: &dyn VolumeDevice) -> Result<(), Error> {
    let refuse =
        |why: String| Err(Error::Refused { what: format!("making {} an NTFS volume", device.name()), why });
    let found = gravure_disk::recognise(&device).map_err(|error| Error::Other {
        what: format!("looking at {}", device.name()),
        source: Box::new(error),
        kind: crate::ErrorKind::Io,
    })?;
    if !found.is_empty() {
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        return refuse(format!("it holds {}", found.join(", ")));
    }
    if let Some(why) = is_cut(device) {
        return refuse(why);
    }
    let len = usize::try_from(device.size().min(HEAD_BYTES)).unwrap_or(0);
    let head = device.read_vec_at(0, len).map_err(Error::io("read", device.name()))?;
    match head.iter().position(|byte| *byte != 0) {
        Some(at) => refuse(format!("it holds data, first at {at:#x}")),
        None => Ok(()),
    }
}
