//! What is finished after a restore: file systems grow into larger partitions, by the kernel's own drivers or, NTFS, by ours, and files learn
//! new identifiers.
//! The restore itself is complete and verified before; what cannot be done here is told, and nothing is lost.

use std::ops::Range;
use std::path::{Path, PathBuf};

use gravure_fsmap::Kind;
use gravure_linux::grow::{Growing, grow};
use gravure_linux::loopdev::{LoopDevice, LoopOptions};
use gravure_linux::mount::{self, MountOptions};
use gravure_linux::{BlockDevice, partition};
use gravure_model::Ctl;

use super::anew::which;
use super::{FittedPartition, references};
use crate::Error;
use crate::capture::chain;
use crate::ntfs_change::grow_to_end;
use crate::volume::{PartOf, VolumeFile};

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

/// Grows file systems of the device or file `path` into the partitions that are larger than they are, and changes `renamed` identifiers in files of
/// Linux systems. The device must be closed.
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
    let wanted = |one: &&FittedPartition| {
        (one.grows && one.content != Kind::Ntfs) || (!renamed.is_empty() && growing(one.content).is_some())
    };
    if !partitions.iter().any(|one| wanted(&one)) {
        return Ok(report);
    }
    let disk = Attached::new(path)?;
    for one in partitions.iter().filter(wanted) {
        let name = one.content.name();
        let what = match one.number {
            0 => format!("the {name} volume"),
            number => format!("{name} on partition {number}"),
        };
        let Some(kind) = growing(one.content) else {
            report.undone.push(format!("{what} has more room now, which its own system has to take"));
            continue;
        };
        // A driver that is a module comes with the first mount.
        match finish_one(&disk, one, kind, renamed) {
            Ok(changed) => {
                report.changed.extend(changed.into_iter().map(|path| (one.number, path)));
                if one.grows {
                    report.grown.push((one.number, one.to.end - one.to.start));
                }
            }
            Err(_) if !kind.is_known() => {
                report.undone.push(format!("{what}: this kernel has no driver for it"));
            }
            Err(error) => report.undone.push(format!("{what}: {}", chain(&error))),
        }
    }
    Ok(report)
}

/// Bytes of the volume that has become as large as its partition; 0 when it was before.
fn grow_ntfs(path: &Path, one: &FittedPartition) -> Result<u64, Error> {
    let disk = VolumeFile::open(path, None)?;
    let part = PartOf::new(&disk, &one.to, &which(one.number));
    let grown = grow_to_end(&part, &Ctl::default())?;
    Ok(if grown.steps > 0 { grown.bytes } else { 0 })
}

fn finish_one(
    disk: &Attached,
    one: &FittedPartition,
    kind: Growing,
    renamed: &[(String, String)],
) -> Result<Vec<String>, Error> {
    let device = disk.partition(one.number, &one.to)?;
    let name = device.display().to_string();
    // Two volumes with one UUID may be about: the one this was made of, too.
    let data = if kind == Growing::Xfs { "nouuid" } else { "" };
    let place = Place::new()?;
    let options = MountOptions { data, no_exec: true, no_dev: true, ..MountOptions::default() };
    mount::mount(device.as_os_str(), &place.0, kind.mount_type(), options).map_err(Error::linux(&name))?;
    let worked = (|| {
        let changed = references::in_tree(&place.0, renamed)?;
        if one.grows {
            grow(&place.0, kind, one.to.end - one.to.start).map_err(Error::linux(&name))?;
        }
        Ok::<_, Error>(changed)
    })();
    let unmounted = mount::unmount(&place.0).map_err(Error::linux(&name));
    let changed = worked?;
    unmounted?;
    Ok(changed)
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
