//! The systems on a disk that was restored from an image become this machine's: name, machine id, first-boot report, SSH host keys of Linux
//! and its layers (`restored/linux.rs`), the name of Windows and all that a Windows in an image of files gets but what it starts from (`restored/windows.rs`). All
//! of it is read back.
//!
//! The disk is restored and right before. A system that cannot be reached here is told, and keeps the name it has.

#[cfg(test)]
pub(super) mod fixtures;
mod foresight;
mod linux;
mod outlook;
mod servicing;
mod windows;

use std::path::{Path, PathBuf};

use gravure_imaging::{FileSystemKind, FittedPartition, Mountable, mountables};
use gravure_linux::mount::{self, MountOptions};
use gravure_linux::partition;

use super::Run;
use super::image::from_imaging;
use super::root::RootEditor;
use crate::failure::{StepError, chain, code};

pub(super) use foresight::{Judgement, Likeness, judge};
pub use outlook::foresee_start;
pub(super) use servicing::Servicing;

/// A file system that a system may stand on.
struct Candidate<'a> {
    device: &'a Path,
    /// For messages.
    name: &'a str,
    /// As mount calls it.
    fs_type: &'static str,
}

impl Run<'_> {
    /// Makes every system among the partitions this machine's.
    pub(super) fn personalise_restored(
        &mut self,
        partitions: &[FittedPartition],
        stage: &str,
    ) -> Result<(), StepError> {
        let mut is_named = false;
        let mut changed = Vec::new();
        for one in partitions {
            if !may_hold_system(one.content) {
                continue;
            }
            let device = self.fitted_device(one);
            let name = format!("partition {}", one.number);
            let found =
                device.and_then(|device| mountables(&device, one.content, &name).map_err(from_imaging));
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    self.warn(
                        stage,
                        format!("{name} was not searched for a system to name: {}", error.message),
                    );
                    continue;
                }
            };
            for why in found.unreached {
                self.warn(stage, format!("{why}: a system on it keeps the name it has"));
            }
            for volume in found.volumes {
                is_named |= self.personalise_volume(&volume, stage)?;
                changed.append(&mut self.changes);
                volume.close().map_err(from_imaging)?;
            }
        }
        self.changes = changed;
        if self.restored_windows.is_empty()
            && let Some(servicing) = self.servicing.as_ref().filter(|servicing| servicing.is_needed)
        {
            return Err(servicing.undone("the disk", "no Windows was found on it"));
        }
        if self.layers.is_some() && self.layered == 0 {
            return Err(StepError::new(code::FAILED, "the disk: layers could not be put into a Linux: none was found on it")
                .with_cure("make the plan without --layer, or of an image of a disk with a Linux that can be mounted here"));
        }
        if !is_named {
            let name = &self.plan.personality.host_name;
            let message = format!("no system on the disk was given the name {name}: it keeps the one it has");
            self.warn(stage, message);
        }
        Ok(())
    }

    fn personalise_volume(&mut self, volume: &Mountable, stage: &str) -> Result<bool, StepError> {
        let Some(fs_type) = mount_type(volume.kind) else { return Ok(false) };
        let one = Candidate { device: &volume.device, name: &volume.name, fs_type };
        let done = match volume.kind {
            FileSystemKind::Ntfs => self.personalise_windows(&one, stage),
            _ => self.personalise_linux(&one, stage),
        };
        // A half-done one must not be there when the next comes.
        if self.mounted {
            self.unmount()?;
        }
        done
    }

    /// Mounts it at the mount point; says why not in a warning, for that is no reason to give up a restored disk.
    fn mount_candidate(
        &mut self,
        one: &Candidate<'_>,
        options: MountOptions<'_>,
        stage: &str,
    ) -> Result<bool, StepError> {
        match mount::mount(one.device.as_os_str(), &self.machine.mount_point, one.fs_type, options) {
            Ok(()) => {
                self.mounted = true;
                Ok(true)
            }
            Err(error) => {
                let message = format!(
                    "{} cannot be mounted, so no name was given to a system on it: {}",
                    one.name,
                    chain(&error)
                );
                self.warn(stage, message);
                Ok(false)
            }
        }
    }

    /// Reads what was changed back from the medium.
    fn verify_mounted(
        &mut self,
        one: &Candidate<'_>,
        data: &str,
        root: impl Fn(&Path) -> Result<Option<RootEditor>, StepError>,
    ) -> Result<(), StepError> {
        self.unmount()?;
        gravure_linux::block::drop_caches()?;
        let options = MountOptions { read_only: true, data, ..MountOptions::default() };
        mount::mount(one.device.as_os_str(), &self.machine.mount_point, one.fs_type, options)?;
        self.mounted = true;
        let gone =
            || StepError::new(code::INTEGRITY, format!("{}: the system is not there any more", one.name));
        let found = root(&self.machine.mount_point)?.ok_or_else(gone)?;
        self.verify_changes_in(&found)?;
        drop(found);
        self.unmount()
    }

    fn fitted_device(&self, one: &FittedPartition) -> Result<PathBuf, StepError> {
        let target = self.target()?;
        let known = partition::known(&target.device)?;
        let found = known.iter().find(|part| part.number == one.number && part.range == one.to);
        found.map(partition::KnownPartition::device).ok_or_else(|| {
            let message =
                format!("the kernel does not know partition {} of {}", one.number, target.disk.name);
            StepError::new(code::IO, message)
        })
    }
}

/// Also what cannot be looked into, which is told then. Extended partitions of an MBR, which have no device of their size, are none.
fn may_hold_system(kind: FileSystemKind) -> bool {
    mount_type(kind).is_some()
        || kind.is_encrypted()
        || matches!(kind, FileSystemKind::Lvm | FileSystemKind::Other(_))
}

/// Type to mount a file system as that a system may stand on.
fn mount_type(kind: FileSystemKind) -> Option<&'static str> {
    match kind {
        FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4 => Some("ext4"),
        FileSystemKind::Xfs => Some("xfs"),
        FileSystemKind::Btrfs => Some("btrfs"),
        FileSystemKind::Ntfs => Some("ntfs3"),
        _ => None,
    }
}
