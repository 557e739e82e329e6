//! Loop devices: an image file as a block device.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::sys::ioctl::{self, LoopConfig, LoopInfo};
use crate::{Error, sysfs};

/// Attempts at getting a free device: another process may take the one the kernel named before we configure it.
const MAX_ATTEMPTS: u32 = 64;

const READ_ONLY: u32 = 1;
const AUTO_CLEAR: u32 = 4;
const PARTITION_SCAN: u32 = 8;

/// How to set a loop device up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopOptions {
    /// Writing is forbidden.
    pub read_only: bool,
    /// Logical sector size in bytes: 512 or 4096.
    pub sector_bytes: u32,
    /// Partitions can exist on it, and a table in the file is read at once.
    pub partitions: bool,
    /// Where the device begins in the file, bytes.
    pub offset: u64,
    /// Bytes of the device; to the end of the file when 0.
    pub size_bytes: u64,
}

impl Default for LoopOptions {
    fn default() -> Self {
        Self { read_only: false, sector_bytes: 512, partitions: true, offset: 0, size_bytes: 0 }
    }
}

/// A loop device, given back when this is dropped (or by the kernel as soon as its last user is gone).
#[derive(Debug)]
pub struct LoopDevice {
    device: File,
    path: PathBuf,
}

impl LoopDevice {
    /// Shows the file `image` as a block device.
    pub fn attach(image: &Path, options: LoopOptions) -> Result<Self, Error> {
        let backing = File::options()
            .read(true)
            .write(!options.read_only)
            .open(image)
            .map_err(Error::on_path("open image", image))?;
        let control_path = Path::new("/dev/loop-control");
        let control = File::options()
            .read(true)
            .write(true)
            .open(control_path)
            .map_err(Error::on_path("open", control_path))?;
        for _ in 0..MAX_ATTEMPTS {
            let number = ioctl::plain(&control, &ioctl::LOOP_CTL_GET_FREE, 0)
                .map_err(|e| Error::io("get free loop device for", image.display().to_string(), e))?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::options()
                .read(true)
                .write(!options.read_only)
                .open(&path)
                .map_err(Error::on_path("open loop device", &path))?;
            match ioctl::write(&device, &ioctl::LOOP_CONFIGURE, &config(&backing, options)) {
                Ok(()) => return Ok(Self { device, path }),
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
                Err(e) => return Err(Error::io("configure loop device", path.display().to_string(), e)),
            }
        }
        Err(Error::Refused {
            what: "loop device for",
            on: image.display().to_string(),
            why: format!("others took {MAX_ATTEMPTS} free devices first"),
        })
    }

    /// Path of the device node.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the device back; the kernel lets go of the file when the last user has closed it.
    pub fn detach(self) -> Result<(), Error> {
        ioctl::plain(&self.device, &ioctl::LOOP_CLR_FD, 0)
            .map(drop)
            .map_err(Error::on_path("detach loop device", &self.path))
    }

    /// The file behind it, as the kernel names it.
    pub fn backing_file(&self) -> Option<String> {
        let name = self.path.file_name()?;
        sysfs::text(&Path::new("/sys/block").join(name).join("loop/backing_file"))
    }
}

fn config(backing: &File, options: LoopOptions) -> LoopConfig {
    let read_only = if options.read_only { READ_ONLY } else { 0 };
    let partitions = if options.partitions { PARTITION_SCAN } else { 0 };
    LoopConfig {
        fd: backing.as_raw_fd().unsigned_abs(),
        block_size: options.sector_bytes,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: options.offset,
            size_limit: options.size_bytes,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: AUTO_CLEAR | read_only | partitions,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    }
}
