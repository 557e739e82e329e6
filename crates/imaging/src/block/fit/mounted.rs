//! Volumes in files, mounted by the kernel through a loop device for as long as something is done in them.

use std::path::Path;
use std::time::Duration;

use gravure_linux::loopdev::{LoopDevice, LoopOptions};
use gravure_linux::mount::{self, HiddenMount, MountOptions};

use crate::Error;

/// What the kernel answers whoever asks for a driver: it has none (`ENODEV`).
const NO_DRIVER: i32 = 19;
/// How long somebody may have files of a volume open that is to be let go: programs that other threads are just starting, or whoever looks at new
/// volumes.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Fails where the kernel cannot mount file systems of `kind`, before anything is written.
pub(super) fn needs_driver(kind: &str) -> Result<(), Error> {
    mount::needs_driver(kind).map_err(|error| match error.errno() {
        Some(NO_DRIVER) => Error::Unsupported { what: "driver of the kernel", value: kind.to_owned() },
        _ => Error::linux(format!("a volume of {kind}"))(error),
    })
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
    let options = MountOptions { data, no_suid: true, no_atime: true, ..MountOptions::default() };
    let done = mounted_device(device.path(), &name, kind, options, work);
    let detached = device.detach().map_err(Error::linux(&name));
    let out = done?;
    detached?;
    Ok(out)
}

/// Calls `work` with the place where the volume of `kind` on `device` is mounted, called `name` in messages. Nobody else sees it, and it is
/// unmounted for all when this returns.
pub(super) fn mounted_device<T>(
    device: &Path,
    name: &str,
    kind: &str,
    options: MountOptions<'_>,
    work: impl FnOnce(&Path) -> Result<T, Error>,
) -> Result<T, Error> {
    let options = MountOptions { no_exec: true, no_dev: true, ..options };
    let mount = HiddenMount::new(device.as_os_str(), kind, options).map_err(Error::linux(name))?;
    let worked = work(mount.path());
    let released = mount.release(device, PATIENCE).map_err(Error::linux(name));
    let out = worked?;
    released?;
    Ok(out)
}
