//! What a volume is written to: a partition, or a regular file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

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

    /// Makes the next reads come from the medium.
    fn drop_cache(&self) -> Result<(), Error>;

    /// Writes what will not be read again soon: past the cache where that is possible and pays. `buf` is best a [`gravure_linux::direct::AlignedBuffer`].
    fn write_past_cache(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.write_all_at(offset, buf)
    }
}

/// A range of another device: a partition that the kernel does not know yet.
pub(crate) struct PartOf<'a> {
    device: &'a dyn VolumeDevice,
    window: Window<&'a dyn VolumeDevice>,
    start: u64,
    name: String,
}

impl<'a> PartOf<'a> {
    /// The bytes of `range`, called `what` of the device in messages.
    pub(crate) fn new(device: &'a dyn VolumeDevice, range: &Range<u64>, what: &str) -> Self {
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
#[derive(Debug)]
pub struct VolumeFile {
    inner: Inner,
    name: String,
    direct: OnceLock<Option<DirectWrites>>,
}

#[derive(Debug)]
enum Inner {
    Partition(BlockDevice),
    File(FileAt),
}

impl VolumeFile {
    /// Opens `path`. A partition is claimed, which fails when it is in use. A regular file is made when it is not there;
    /// `size` then says how large, and makes one that is there as large when it is given.
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
        if metadata.is_none() && size.is_none() {
            return Err(Error::NotFound { what: "file", which: name });
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(Error::io("open", &name))?;
        if let Some(size) = size {
            file.set_len(size).map_err(Error::io("size", &name))?;
        }
        let file = FileAt::new(file).map_err(Error::io("open", &name))?;
        Ok(Self { inner: Inner::File(file), name, direct: OnceLock::new() })
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
            Inner::File(_) => FILE_SECTOR_BYTES,
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

    fn drop_cache(&self) -> Result<(), Error> {
        match &self.inner {
            Inner::Partition(device) => device.drop_cache(),
            Inner::File(file) => gravure_linux::block::drop_file_cache(file.file()),
        }
        .map_err(Error::linux(&self.name))
    }

    fn write_past_cache(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let direct = self.direct.get_or_init(|| match &self.inner {
            Inner::Partition(device) => DirectWrites::of(device),
            Inner::File(file) => DirectWrites::of(file.file()),
        });
        match direct {
            Some(direct) => direct.write_all_at(offset, buf, |at, part| self.write_all_at(at, part)),
            None => self.write_all_at(offset, buf),
        }
    }
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
    let len = usize::try_from(device.size().min(HEAD_BYTES)).unwrap_or(0);
    let head = device.read_vec_at(0, len).map_err(Error::io("read", device.name()))?;
    match head.iter().position(|byte| *byte != 0) {
        Some(at) => refuse(format!("it holds data, first at {at:#x}")),
        None => Ok(()),
    }
}
