//! Volumes in files, mounted by the kernel through a loop device for as long as something is done in them.

use std::path::Path;

use gravure_linux::loopdev::{LoopDevice, LoopOptions};
use gravure_linux::mount::{self, MountOptions};

use super::kernel::{Place, unmount};
use crate::Error;

/// What the kernel answers who wants to mount nothing: it has no such file system (`ENODEV`), or not for this user (`EPERM`).
const NO_DRIVER: i32 = 19;
const NOT_ALLOWED: i32 = 1;

/// Fails where the kernel cannot mount file systems of `kind`, before anything is written; a driver that is a module is loaded by the question.
pub(super) fn needs_driver(kind: &str) -> Result<(), Error> {
    let place = Place::new()?;
    let nothing = place.path().join("nothing");
    match mount::mount(nothing.as_os_str(), place.path(), kind, MountOptions::default()) {
        Err(error) if error.errno() == Some(NO_DRIVER) => {
            Err(Error::Unsupported { what: "driver of the kernel", value: kind.to_owned() })
        }
        Err(error) if error.errno() == Some(NOT_ALLOWED) => {
            Err(Error::linux(format!("a volume of {kind}"))(error))
        }
        _ => Ok(()),
    }
}

/// Calls `work` with the place where the volume of `kind` in `file` is mounted, with what the driver is told by `data`.
pub(super) fn mounted<T>(
    file: &Path,
    kind: &str,
    data: &str,
    work: impl FnOnce(&Path) -> Result<T, Error>,
) -> Result<T, Error> {
    let name = file.display().to_string();
    let options = LoopOptions { partitions: false, ..LoopOptions::default() };
    let device = LoopDevice::attach(file, options).map_err(Error::linux(&name))?;
    let place = Place::new()?;
    let options = MountOptions {
        data,
        no_exec: true,
        no_dev: true,
        no_suid: true,
        no_atime: true,
        ..MountOptions::default()
    };
    mount::mount(device.path().as_os_str(), place.path(), kind, options).map_err(Error::linux(&name))?;
    let worked = work(place.path());
    let unmounted = unmount(place.path()).map_err(Error::linux(&name));
    let detached = device.detach().map_err(Error::linux(&name));
    let out = worked?;
    unmounted?;
    detached?;
    Ok(out)
}
