//! Restoring an image of a whole disk: its partitions go where this disk has room, the largest file system fills it, and the system learns who
//! it is. What stands on the disk already is not fetched again, so an interrupted restore goes on where it was.
//!
//! The table is written when every partition was read back and found right; should anything fail afterwards, it is erased again.

use std::path::{Path, PathBuf};

use gravure_disk::fat::FatVolume;
use gravure_disk::{Partition, guid};
use gravure_imaging::{
    BlockApplyOptions, ExistingData, FileSystemKind, FitOptions, FitPlan, FittedPartition, Growth,
    VolumeFile, finish_file_systems, hardware_of, is_described_block_image, misfits,
};
use gravure_io::Window;
use gravure_linux::mount::{self, MountOptions};
use gravure_linux::{BlockDevice, Dir, machine, partition};
use gravure_model::event::Known;

use super::image::from_imaging;
use super::root::RootEditor;
use super::verify::Compared;
use super::{Run, confirm, disk, personalise};
use crate::failure::{StepError, chain, code};

/// Boot loaders of systems, in the order in which they are looked for on the system partition.
const LOADERS: [(&str, &str); 3] = [
    ("/EFI/debian/shimx64.efi", "debian"),
    ("/EFI/ubuntu/shimx64.efi", "ubuntu"),
    ("/EFI/Microsoft/Boot/bootmgfw.efi", "Windows Boot Manager"),
];

impl Run<'_> {
    pub(super) fn restore_disk(&mut self, stage: &str) -> Result<u64, StepError> {
        let planned = &self.plan.image;
        let target = self.target()?;
        if !self.plan.disk.wipe && !disk::is_blank(&target.device)? {
            let message =
                format!("{} holds data now, and the plan does not allow destroying it", target.disk.name);
            return Err(StepError::new(code::REFUSED, message).with_cure("make the plan with --wipe"));
        }
        let image = self.machine.images.open_blocks(&planned.path, self.descriptor).map_err(from_imaging)?;
        if !is_described_block_image(&image, self.descriptor) {
            let message = format!(
                "{}: expected the image {}, found {}",
                planned.path,
                self.descriptor.tables,
                image.id()
            );
            return Err(StepError::new(code::INTEGRITY, message)
                .with_cure("the image on the server was changed since it was described: plan again"));
        }
        let here = hardware_of(&machine::collect(&self.machine.roots).inventory);
        let (fatal, odd): (Vec<_>, Vec<_>) =
            misfits(image.facts(), &here).into_iter().partition(|misfit| misfit.is_fatal);
        if !fatal.is_empty() {
            let fatal: Vec<String> = fatal.iter().map(ToString::to_string).collect();
            let message = format!("the system in this image would not start here: {}", fatal.join("; "));
            return Err(StepError::new(code::REFUSED, message)
                .with_cure("take a WIM, which gets the drivers of each machine (`gravure image advise`)"));
        }
        partition::delete_all(&target.device)?;
        let path = target.disk.device.clone();
        let device = VolumeFile::open(&path, None).map_err(from_imaging)?;
        let options = FitOptions { growth: Growth::Largest, identity: None };
        let fit = FitPlan::new(&image, &device, &options).map_err(from_imaging)?;
        let layout = fit.layout().cloned();
        let how = BlockApplyOptions {
            stage: stage.to_owned(),
            existing: ExistingData::Destroy,
            ..BlockApplyOptions::default()
        };
        // From here on a failure takes the table away again.
        self.table_written = true;
        let report = fit.apply(&image, &device, &how, self.ctl, self.observer).map_err(from_imaging)?;
        drop(device);
        if let (Some(layout), Some(target)) = (layout, self.target.as_mut()) {
            target.layout = layout;
        }
        self.tell(Known::Transferred {
            stage: stage.to_owned(),
            network_bytes: report.apply.fetched_bytes,
            written_bytes: report.apply.written_bytes,
            kept_bytes: report.apply.kept_bytes,
        });
        // Each was told when it was met.
        self.warnings.extend(report.apply.warnings.iter().cloned());
        odd.iter().for_each(|misfit| self.warn(stage, misfit.to_string()));
        for message in report.notes.iter().cloned() {
            self.tell(Known::Note { stage: Some(stage.to_owned()), message });
        }
        let finished =
            finish_file_systems(&path, &report.partitions, &report.renamed).map_err(from_imaging)?;
        for text in &finished.undone {
            self.warn(stage, text.clone());
        }
        self.target()?.device.reread_table()?;
        self.personalise_restored(&report.partitions, stage)?;
        let bytes = report.apply.verified_bytes;
        self.compared = Some(Compared { files: u64::try_from(self.changes.len()).unwrap_or(0), bytes });
        Ok(bytes)
    }

    /// Name, machine id and first-boot report of the Linux system among the partitions; what is written is read back.
    fn personalise_restored(&mut self, partitions: &[FittedPartition], stage: &str) -> Result<(), StepError> {
        for one in partitions {
            let Some(fs_type) = mount_type(one.content) else { continue };
            let device = self.fitted_device(one)?;
            self.mount_fitted(&device, fs_type, false)?;
            let mut root = RootEditor::new(Dir::open_root(&self.machine.mount_point)?);
            let is_root = root.read("etc/os-release")?.is_some();
            if is_root {
                let personality = &self.plan.personality;
                let name = &personality.host_name;
                root.write("etc/hostname", format!("{name}\n").as_bytes(), 0o644)?;
                let hosts = personalise::hosts(root.read("etc/hosts")?.as_deref(), name);
                root.write("etc/hosts", hosts.as_bytes(), 0o644)?;
                root.write("etc/machine-id", format!("{}\n", personality.machine_id).as_bytes(), 0o444)?;
                if let Some(report) = &personality.confirm {
                    confirm::install(&mut root, report, self.machine, &self.plan.id)?;
                }
                self.changes = root.into_changes();
            } else {
                drop(root);
            }
            self.unmount()?;
            if is_root {
                gravure_linux::block::drop_caches()?;
                self.mount_fitted(&device, fs_type, true)?;
                self.verify_changes()?;
                return self.unmount();
            }
        }
        self.warn(stage, "no Linux system was found on the disk: it keeps the name it has".to_owned());
        Ok(())
    }

    fn mount_fitted(&mut self, device: &Path, fs_type: &str, read_only: bool) -> Result<(), StepError> {
        let data = if fs_type == "xfs" { "nouuid" } else { "" };
        let options = MountOptions { read_only, data, ..MountOptions::default() };
        mount::mount(device.as_os_str(), &self.machine.mount_point, fs_type, options)?;
        self.mounted = true;
        Ok(())
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

    /// System partition, loader and title of the system that was restored.
    pub(super) fn restored_loader(&self) -> Result<(Partition, &'static str, &'static str), StepError> {
        let missing = |what: String| StepError::new(code::NOT_FOUND, what);
        let target = self.target()?;
        let partition = target.layout.partitions.iter().find(|one| one.role.type_guid() == guid::ESP);
        let partition =
            partition.ok_or_else(|| missing("the restored disk has no EFI system partition".to_owned()))?;
        let device = BlockDevice::open_read(&target.disk.device)?;
        let volume = Window::new(&device, partition.range.start, partition.size_bytes());
        let fat = FatVolume::open(&volume).map_err(|error| StepError::new(code::IO, chain(&error)))?;
        for (path, title) in LOADERS {
            if fat.contains(path).map_err(|error| StepError::new(code::IO, chain(&error)))? {
                return Ok((partition.clone(), path, title));
            }
        }
        let known: Vec<&str> = LOADERS.iter().map(|(path, _)| *path).collect();
        Err(missing(format!("none of {} is on the system partition", known.join(", "))))
    }
}

/// Type to mount a file system as that a Linux system may stand on.
fn mount_type(kind: FileSystemKind) -> Option<&'static str> {
    match kind {
        FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4 => Some("ext4"),
        FileSystemKind::Xfs => Some("xfs"),
        FileSystemKind::Btrfs => Some("btrfs"),
        _ => None,
    }
}
