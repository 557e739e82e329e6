//! Mounted file systems made larger, or Btrfs smaller, by the kernel, which can do it without a program of theirs.

use std::fs::File;
use std::path::Path;

use crate::sys::ioctl::{self, BtrfsArguments, XfsGrowData};
use crate::{Error, sysfs};

/// File systems that grow while they are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growing {
    /// ext2, ext3 and ext4, through the driver of ext4.
    Ext,
    /// XFS.
    Xfs,
    /// Btrfs on one device.
    Btrfs,
}

impl Growing {
    /// Type to mount it as.
    pub fn mount_type(self) -> &'static str {
        match self {
            Self::Ext => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Whether this kernel has its driver, built in or loaded.
    pub fn is_known(self) -> bool {
        let text = sysfs::text(Path::new("/proc/filesystems")).unwrap_or_default();
        text.lines().any(|line| line.split_whitespace().next_back() == Some(self.mount_type()))
    }
}

/// Makes the file system that is mounted at `target` fill `device_bytes`, the size of its device.
pub fn grow(target: &Path, kind: Growing, device_bytes: u64) -> Result<(), Error> {
    let failed = |source| Error::io("grow", target.display().to_string(), source);
    let root = File::open(target).map_err(Error::on_path("open", target))?;
    match kind {
        Growing::Ext => {
            let block = rustix::fs::fstatfs(&root).map_err(Error::on_path("look at", target))?.f_bsize;
            let block = u64::try_from(block).unwrap_or(4096).max(1);
            ioctl::write(&root, &ioctl::EXT4_IOC_RESIZE_FS, &(device_bytes / block)).map_err(failed)
        }
        Growing::Xfs => {
            let geometry = ioctl::read(&root, &ioctl::XFS_IOC_FSGEOMETRY).map_err(failed)?;
            let blocks = device_bytes / u64::from(geometry.block_bytes.max(1));
            if blocks <= geometry.data_blocks {
                return Ok(());
            }
            let most_inodes_percent = geometry.most_inodes_percent;
            let wanted = XfsGrowData { blocks, most_inodes_percent, padding: 0 };
            ioctl::write(&root, &ioctl::XFS_IOC_FSGROWFSDATA, &wanted).map_err(failed)
        }
        Growing::Btrfs => {
            let mut name = [0; 4088];
            name[..3].copy_from_slice(b"max");
            ioctl::write(&root, &ioctl::BTRFS_IOC_RESIZE, &BtrfsArguments { fd: 0, name }).map_err(failed)
        }
    }
}

/// Makes device `device_id` of the Btrfs volume that is mounted at `target` take `bytes` of it, fewer than before: what lies behind is moved
/// to the front. Returns when all of that is on the device. `ENOSPC` when the front has no room for it; then some of it was moved.
pub fn shrink_btrfs(target: &Path, device_id: u64, bytes: u64) -> Result<(), Error> {
    let failed = |source| Error::io("make smaller", target.display().to_string(), source);
    let root = File::open(target).map_err(Error::on_path("open", target))?;
    let text = format!("{device_id}:{bytes}");
    let mut name = [0; 4088];
    name[..text.len()].copy_from_slice(text.as_bytes());
    ioctl::write(&root, &ioctl::BTRFS_IOC_RESIZE, &BtrfsArguments { fd: 0, name }).map_err(failed)?;
    // What the last unmounting cannot write, nobody is told of.
    rustix::fs::syncfs(&root).map_err(Error::on_path("sync", target))
}
