//! What is finished after a restore: file systems grow into larger partitions, by the kernel's own drivers or, NTFS, by ours, and files learn
//! new identifiers.
//! The restore itself is complete and verified before; what cannot be done here is told, and nothing is lost.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gravure_fsmap::Kind;
use gravure_linux::grow::{Growing, grow};
use gravure_linux::loopdev::{LoopDevice, LoopOptions};
use gravure_linux::mount::{self, MountOptions};
use gravure_linux::{BlockDevice, partition};
use gravure_model::Ctl;

use super::anew::which;
use super::mounted::mounted_device;
use super::references::TreeChanges;
use super::volumes::{Mountable, mountables};
use super::{FittedPartition, references};
use crate::Error;
use crate::capture::chain;
use crate::ntfs_change::grow_to_end;
use crate::volume::{PartOf, VolumeFile};

/// Shows all subvolumes of Btrfs instead of the one that is the default.
const TOP_LEVEL: &str = "subvolid=5";

/// Somebody has a file open (`EBUSY`): how often, and after what time, unmounting is tried again.
const BUSY: i32 = 16;
const MAX_ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FinishReport {
    /// Partitions whose file systems fill them now, with their bytes.
    pub grown: Vec<(u32, u64)>,
    /// Files with new identifiers, by partition.
    pub changed: Vec<(u32, String)>,
    /// What was not done and why, one sentence each.
    pub undone: Vec<String>,
}

fn growing(kind: Kind) -> Option<Growing> {
    match kind {
        Kind::Ext2 | Kind::Ext3 | Kind::Ext4 => Some(Growing::Ext),
        Kind::Xfs => Some(Growing::Xfs),
        Kind::Btrfs => Some(Growing::Btrfs),
        _ => None,
    }
}

/// Grows file systems of the device or file `path` into the partitions that are larger than they are, and changes `renamed` identifiers in
/// files of Linux systems: on partitions, in all subvolumes of Btrfs, in volumes of LVM. The device must be closed.
pub fn finish_file_systems(
    path: &Path,
    partitions: &[FittedPartition],
    renamed: &[(String, String)],
) -> Result<FinishReport, Error> {
    let mut report = FinishReport::default();
    for one in partitions.iter().filter(|one| one.content == Kind::Ntfs && one.grows) {
        match grow_ntfs(path, one) {
            Ok(0) => {}
            Ok(bytes) => report.grown.push((one.number, bytes)),
            Err(error) => {
                report.undone.push(format!("NTFS on {} does not grow: {}", which(one.number), chain(&error)));
            }
        }
    }
    // NTFS and FAT are searched before their boot sectors come, without a kernel.
    let has_names = |kind: Kind| {
        growing(kind).is_some() || kind == Kind::Lvm || kind.is_encrypted() || matches!(kind, Kind::Other(_))
    };
    let wanted = |one: &&FittedPartition| {
        (one.grows && one.content != Kind::Ntfs) || (!renamed.is_empty() && has_names(one.content))
    };
    if !partitions.iter().any(|one| wanted(&one)) {
        return Ok(report);
    }
    let disk = Attached::new(path)?;
    for one in partitions.iter().filter(wanted) {
        let what = match one.number {
            0 => format!("the {} volume", one.content.name()),
            number => format!("{} on partition {number}", one.content.name()),
        };
        if one.grows && growing(one.content).is_none() {
            report.undone.push(format!("{what} has more room now, which its own system has to take"));
        }
        if let Err(error) = finish_partition(&disk, one, renamed, &mut report) {
            report.undone.push(format!("{what}: {}", chain(&error)));
        }
    }
    Ok(report)
}

fn finish_partition(
    disk: &Attached,
    one: &FittedPartition,
    renamed: &[(String, String)],
    report: &mut FinishReport,
) -> Result<(), Error> {
    let found = mountables(&disk.partition(one.number, &one.to)?, one.content, &which(one.number))?;
    if !renamed.is_empty() {
        let told =
            found.unreached.iter().map(|why| format!("{why}: it was not searched for the old identifiers"));
        report.undone.extend(told);
    }
    for volume in found.volumes {
        let Some(kind) = growing(volume.kind) else { continue };
        let is_whole = growing(one.content).is_some();
        let grown = (is_whole && one.grows).then_some(one.to.end - one.to.start);
        // A driver that is a module comes with the first mount.
        match finish_volume(&volume, kind, grown, renamed) {
            Ok(changes) => {
                report.changed.extend(changes.files.into_iter().map(|path| (one.number, path)));
                let told = changes.undone.into_iter().map(|why| format!("{}: {why}", volume.name));
                report.undone.extend(told);
                report.grown.extend(grown.map(|bytes| (one.number, bytes)));
            }
            Err(_) if !kind.is_known() => {
                report.undone.push(format!("{}: this kernel has no driver for it", volume.name));
            }
            Err(error) => report.undone.push(format!("{}: {}", volume.name, chain(&error))),
        }
        volume.close()?;
    }
    Ok(())
}

/// Bytes of the volume that has become as large as its partition; 0 when it was before.
fn grow_ntfs(path: &Path, one: &FittedPartition) -> Result<u64, Error> {
    let disk = VolumeFile::open(path, None)?;
    let part = PartOf::new(&disk, &one.to, &which(one.number));
    let grown = grow_to_end(&part, &Ctl::default())?;
    Ok(if grown.steps > 0 { grown.bytes } else { 0 })
}

fn finish_volume(
    volume: &Mountable,
    kind: Growing,
    grown: Option<u64>,
    renamed: &[(String, String)],
) -> Result<TreeChanges, Error> {
    // Two volumes with one UUID may be about: the one this was made of, too.
    let data = if kind == Growing::Xfs { "nouuid" } else { "" };
    let name = volume.device.display().to_string();
    let mut changes = mounted(volume, kind, data, |place| {
        let changes = references::in_tree(place, renamed)?;
        if let Some(bytes) = grown {
            grow(place, kind, bytes).map_err(Error::linux(&name))?;
        }
        Ok(changes)
    })?;
    if kind == Growing::Btrfs && !renamed.is_empty() {
        let others = mounted(volume, kind, TOP_LEVEL, |place| references::in_subvolumes(place, renamed))?;
        changes.files.extend(others.files);
        changes.undone.extend(others.undone);
    }
    Ok(changes)
}

/// Calls `work` with the place where the volume is mounted.
fn mounted<T>(
    volume: &Mountable,
    kind: Growing,
    data: &str,
    work: impl FnOnce(&Path) -> Result<T, Error>,
) -> Result<T, Error> {
    let name = volume.device.display().to_string();
    let options = MountOptions { data, ..MountOptions::default() };
    mounted_device(&volume.device, &name, kind.mount_type(), options, work)
}

/// Unmounts what is at `place`. Programs that are just being started by other threads have its files open for a moment, whoever watches for new
/// volumes looks at it, and a loop device lets its file go a little later than it says.
pub(super) fn unmount(place: &Path) -> Result<(), gravure_linux::Error> {
    for _ in 0..MAX_ATTEMPTS {
        match mount::unmount(place) {
            Err(error) if error.errno() == Some(BUSY) => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    let last = mount::unmount(place);
    if last.is_err() {
        // Nothing is to stay mounted; the error says that it is not known whether everything was written.
        drop(mount::detach(place));
    }
    last
}

/// A directory to mount on, removed when dropped.
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn new() -> Result<Self, Error> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Error::Other {
            what: "name a directory".to_owned(),
            source: error.to_string().into(),
            kind: crate::ErrorKind::Io,
        })?;
        let name = format!("gravure-{:016x}", u64::from_le_bytes(random));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(Error::io("create", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It holds nothing; what is still mounted stays.
        drop(std::fs::remove_dir(&self.0));
    }
}

/// A disk whose partitions the kernel knows.
enum Attached {
    Disk(BlockDevice),
    File(#[expect(dead_code, reason = "given back when dropped")] LoopDevice, BlockDevice),
}

impl Attached {
    fn new(path: &Path) -> Result<Self, Error> {
        use std::os::unix::fs::FileTypeExt;
        let name = path.display().to_string();
        let metadata = std::fs::metadata(path).map_err(Error::io("look at", &name))?;
        if metadata.file_type().is_block_device() {
            let device = BlockDevice::open_rw(path).map_err(Error::linux(&name))?;
            return Ok(Self::Disk(device));
        }
        let attached = LoopDevice::attach(path, LoopOptions::default()).map_err(Error::linux(&name))?;
        let device = BlockDevice::open_rw(attached.path()).map_err(Error::linux(&name))?;
        Ok(Self::File(attached, device))
    }

    /// The device of the partition that stands in `range`; number 0 is the whole.
    fn partition(&self, number: u32, range: &Range<u64>) -> Result<PathBuf, Error> {
        let (Self::Disk(device) | Self::File(_, device)) = self;
        if number == 0 {
            return Ok(device.path().to_owned());
        }
        let name = device.path().display().to_string();
        let known = || {
            let all = partition::known(device).map_err(Error::linux(&name))?;
            Ok::<_, Error>(all.into_iter().find(|one| one.number == number && one.range == *range))
        };
        if let Some(found) = known()? {
            return Ok(found.device());
        }
        // The kernel has the old table in mind.
        drop(partition::delete(device, number));
        partition::add(device, number, range.clone()).map_err(Error::linux(&name))?;
        let found = known()?;
        let found = found
            .ok_or_else(|| Error::NotFound { what: "partition", which: format!("{number} of {name}") })?;
        Ok(found.device())
    }
}
