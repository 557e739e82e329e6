//! Volumes that are mounted without a place in the tree (fsopen(2), fsmount(2); Linux 5.2).
//!
//! Every mount namespace that is made while a volume is mounted somewhere gets a copy of that mount: a container, `ip netns exec`, `unshare -m`.
//! Where mounts are not shared (a system without systemd), the copy stays when the volume is unmounted here: [`unmount`](super::unmount) says that
//! all is well, and the volume goes on being mounted, its log open, until the other namespace ends. What is mounted nowhere is not copied.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::MountOptions;
use crate::Error;

/// How often it is looked whether a device is free.
const LOOK: Duration = Duration::from_millis(20);

/// A volume that is mounted, but nowhere: it is seen through [`HiddenMount::path`] alone, and goes with this.
#[derive(Debug)]
pub struct HiddenMount {
    root: OwnedFd,
    path: PathBuf,
}

/// Asks the kernel for its driver of `fs_type`, which may be a module that is loaded now: `ENODEV` where there is none, `EPERM` for whoever may
/// not mount.
pub fn needs_driver(fs_type: &str) -> Result<(), Error> {
    open(fs_type).map(drop)
}

fn open(fs_type: &str) -> Result<OwnedFd, Error> {
    rustix::mount::fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|e| Error::io("open the driver of", fs_type, e))
}

impl HiddenMount {
    /// Mounts `source`, as [`mount`](super::mount) does.
    pub fn new(source: &OsStr, fs_type: &str, options: MountOptions<'_>) -> Result<Self, Error> {
        let failed = |e: Errno| Error::io("mount", format!("{} ({fs_type})", source.display()), e);
        let driver = open(fs_type)?;
        rustix::mount::fsconfig_set_string(&driver, "source", source).map_err(failed)?;
        let read_only = options.read_only.then_some("ro");
        for option in read_only.into_iter().chain(options.data.split(',').filter(|option| !option.is_empty()))
        {
            match option.split_once('=') {
                Some((key, value)) => rustix::mount::fsconfig_set_string(&driver, key, value),
                None => rustix::mount::fsconfig_set_flag(&driver, option),
            }
            .map_err(failed)?;
        }
        rustix::mount::fsconfig_create(&driver).map_err(failed)?;
        let table = [
            (options.read_only, MountAttrFlags::MOUNT_ATTR_RDONLY),
            (options.no_suid, MountAttrFlags::MOUNT_ATTR_NOSUID),
            (options.no_dev, MountAttrFlags::MOUNT_ATTR_NODEV),
            (options.no_exec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
            (options.no_atime, MountAttrFlags::MOUNT_ATTR_NOATIME),
        ];
        let wanted = table.iter().filter(|(is_wanted, _)| *is_wanted);
        let attributes = wanted.fold(MountAttrFlags::empty(), |all, (_, flag)| all | *flag);
        let root =
            rustix::mount::fsmount(&driver, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed)?;
        // By the process and not by `self`: programs that are started find it, too. The dot lets the last step be no symbolic link.
        let path = PathBuf::from(format!("/proc/{}/fd/{}/.", std::process::id(), root.as_raw_fd()));
        Ok(Self { root, path })
    }

    /// Its root, for this process and for programs that it starts.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends it, and waits until nobody has `device` any more, on which it stands: programs that are just being started by other threads have its
    /// files open for a moment. Everything is on the disk when this returns; `EBUSY` when somebody kept it for longer than `patience`.
    pub fn release(self, device: &Path, patience: Duration) -> Result<(), Error> {
        let Self { root, .. } = self;
        drop(root);
        let start = Instant::now();
        loop {
            match File::options().read(true).custom_flags(libc::O_EXCL).open(device) {
                Ok(_) => return Ok(()),
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) && start.elapsed() < patience => {
                    std::thread::sleep(LOOK);
                }
                Err(e) => return Err(Error::io("unmount", device.display().to_string(), e)),
            }
        }
    }
}
