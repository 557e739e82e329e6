//! Windows: the image is serviced in memory before the disk is touched, laid out as an NTFS volume, and made to start.

mod boot;
pub(super) mod changes;

use gravure_disk::boot_code::{BootCode, VOLUME_BYTES};
use gravure_disk::identity::print_uuid;
use gravure_imaging::{
    Compact, ExistingData, Image, Strictness, VolumeApplyOptions, VolumeFile, apply_to_volume, check_volume,
};
use gravure_linux::machine;
use gravure_model::event::Known;
use gravure_model::inventory::FirmwareMode;
use gravure_model::plan::{PartitionRole, PlannedWindows};
use gravure_nttypes::{FileTime, NtName};
use gravure_windows::boot::BootFile;
use gravure_windows::{ContentResult, SetupState, System, WindowsImage};

use super::boot_uefi::EspFile;
use super::image::from_imaging;
use super::sources::Sources;
use super::verify::Compared;
use super::{Run, partition_index};
use crate::failure::{StepError, chain, code};
use changes::{check_start, describe, put_drivers, put_layers, put_settings, settings_of, tell};

/// BLAKE3 context of what a volume's serial number derives from.
const VOLUME_SEED: &str = "gravure-deploy v1 ntfs volume";

/// The image as it will be on the disk.
pub(super) struct Serviced {
    image: Image,
    /// Files of the EFI system partition, read already: what cannot be read is found before the disk is touched.
    esp_files: Vec<EspFile>,
    pub(super) start: Start,
    applied: Option<Compared>,
    /// What the server is told of the new system.
    pub(super) known_by: Known,
}

/// What starts it.
#[derive(Default)]
pub(super) struct Start {
    /// Files of the partition that the firmware starts.
    system_files: Vec<BootFile>,
    recovery_files: Vec<BootFile>,
    /// For the boot list of UEFI firmware.
    pub(super) loader: String,
    pub(super) load_option_data: Vec<u8>,
    /// Of BIOS machines.
    pub(super) boot_code: Option<BootCode>,
}

fn no_boot_code() -> StepError {
    StepError::new(code::REFUSED, "the plan has no boot code for a BIOS machine")
}

impl Run<'_> {
    /// Whether the plan is of Windows on a disk with an MBR.
    pub(super) fn is_bios_windows(&self) -> bool {
        self.plan.windows.is_some() && self.plan.firmware == FirmwareMode::Bios
    }

    pub(super) fn service_windows(&mut self, stage: &str) -> Result<(), StepError> {
        let planned = self.plan.windows.clone();
        let planned =
            planned.ok_or_else(|| StepError::new(code::REFUSED, "the plan has nothing for Windows"))?;
        let sources =
            Sources::open(self.plan, &planned.drivers, &planned.layers, self.descriptor, self.machine)?;
        let contents = sources.file.contents();
        let read = |content: &gravure_tree::ContentRef| -> ContentResult { Ok(contents.read(content)?) };
        let mut tree = sources.image.tree().clone();
        let mut windows = WindowsImage::open(&mut tree, &read, self.now())?;
        let system = windows.system()?;
        let mut notes = vec![describe(&system)];
        if let Some(note) = gate(&system, &planned)? {
            notes.push(note);
        }
        // Setup makes new ones; a copy of a system in use keeps what it had.
        let keeps = system.setup != SetupState::Generalized;
        let machine_sid = match windows.machine_sid() {
            Ok(sid) => sid.filter(|_| keeps).map(|sid| sid.to_string()),
            // Nothing that is done here needs it.
            Err(error) => {
                notes.push(format!("the SID of the image could not be read: {}", chain(&error)));
                None
            }
        };
        let computer_name = match system.setup {
            SetupState::InUse => system.computer_name.clone(),
            _ => Some(self.plan.personality.host_name.clone()),
        };
        let known_by = Known::Windows { machine_sid, computer_name };

        let devices = machine::collect(&self.machine.roots).inventory.devices;
        let report = put_drivers(&mut windows, &read, &sources.drivers, &devices, &planned)?;
        notes.extend(report.devices.iter().map(tell));
        let unchecked = check_start(&report, &self.target()?.disk.name, &planned)?;
        let mut not_done = report.not_done;
        not_done.extend(unchecked);

        let settings = settings_of(&planned, &self.plan.personality.host_name)?;
        let locale = settings.ui_language.clone().unwrap_or_else(|| "en-US".to_owned());
        not_done.extend(put_settings(&mut windows, &settings, &system, &planned)?);
        let told = put_layers(&mut windows, &read, &sources.layers, &system, &planned)?;
        notes.extend(told.notes);
        not_done.extend(told.not_done);

        let boot_code = planned.boot_code.as_deref().map(BootCode::from_text).transpose()?;
        windows.settle_on_disk(&system, &self.boot_device(PartitionRole::Windows)?)?;
        let options = self.boot_options(&system, locale)?;
        let start = if self.is_bios_windows() {
            let boot = windows.bios_boot_files(&options)?;
            not_done.extend(boot.notes);
            notes.push("boot manager: bootmgr, started by captured code".to_owned());
            Start {
                system_files: boot.system,
                recovery_files: boot.recovery,
                boot_code: Some(boot_code.ok_or_else(no_boot_code)?),
                ..Start::default()
            }
        } else {
            let boot = windows.boot_files(&options)?;
            notes.push(format!("boot manager: {}", boot.reason));
            not_done.extend(boot.notes);
            Start {
                system_files: boot.system,
                recovery_files: boot.recovery,
                loader: boot.loader,
                load_option_data: boot.load_option_data,
                boot_code: None,
            }
        };
        let mut esp_files = Vec::new();
        if !self.is_bios_windows() {
            for BootFile { path, content } in &start.system_files {
                let content = contents.read(content).map_err(from_imaging)?;
                esp_files.push(EspFile { path: path.clone(), content });
            }
        }
        let finished = windows.finish(&self.what())?;
        notes.push(format!("{} changes", finished.changes.len()));
        self.serviced = Some(Serviced {
            image: sources.image.with_tree(tree),
            esp_files,
            start,
            applied: None,
            known_by,
        });
        for message in notes {
            self.tell(Known::Note { stage: Some(stage.to_owned()), message });
        }
        not_done.into_iter().for_each(|message| self.warn(stage, message));
        Ok(())
    }

    /// Of the plan, so that a retry is identical.
    pub(super) fn now(&self) -> FileTime {
        FileTime::from_unix(self.plan.created.seconds(), 0)
    }

    pub(super) fn apply_volume(
        &mut self,
        role: PartitionRole,
        label: &str,
        stage: &str,
    ) -> Result<u64, StepError> {
        let mut serviced = self.take_serviced()?;
        let report = self.lay_out(role, label, &serviced.image, Compact::Auto, None, stage)?;
        if let Some(why) = &report.compact.why_not {
            self.tell(Known::Note {
                stage: Some(stage.to_owned()),
                message: format!("not compressed: {why}"),
            });
        }
        serviced.applied = Some(Compared { files: report.apply.files, bytes: report.verified_bytes });
        self.serviced = Some(serviced);
        Ok(report.apply.bytes)
    }

    fn take_serviced(&mut self) -> Result<Serviced, StepError> {
        self.serviced.take().ok_or_else(|| StepError::new(code::REFUSED, "no image was serviced"))
    }

    /// Makes a partition an NTFS volume; everything on it is read back before it gets its boot sectors.
    fn lay_out(
        &mut self,
        role: PartitionRole,
        label: &str,
        image: &Image,
        compact: Compact,
        boot_code: Option<&[u8; VOLUME_BYTES]>,
        stage: &str,
    ) -> Result<gravure_imaging::VolumeReport, StepError> {
        let index = partition_index(self.partitions, role)?;
        let part = self.target()?.layout.partitions.get(index);
        let part = part.ok_or_else(|| StepError::new(code::REFUSED, "the layout lacks the partition"))?;
        let volume_id = print_uuid(self.identity.volume_uuid(part.index()));
        let options = VolumeApplyOptions {
            stage: stage.to_owned(),
            label: NtName::from(label),
            hidden_sectors: part.first_lba,
            boot_code: boot_code.map(|code| Box::new(*code)),
            seed: Some(blake3::derive_key(VOLUME_SEED, volume_id.as_bytes())),
            time: Some(self.now()),
            // `prepare` has looked, and destroyed what stood there.
            existing: ExistingData::Destroy,
            compact,
            ..VolumeApplyOptions::default()
        };
        let device = VolumeFile::open(&self.partition_device(role)?, None).map_err(from_imaging)?;
        let report =
            apply_to_volume(image, &device, &options, self.ctl, self.observer).map_err(from_imaging)?;
        for warning in &report.apply.warnings {
            self.warnings.push(warning.clone());
        }
        Ok(report)
    }

    pub(super) fn install_windows_boot(&mut self, stage: &str) -> Result<u64, StepError> {
        let mut serviced = self.take_serviced()?;
        let mut bytes = if self.is_bios_windows() {
            let code =
                serviced.start.boot_code.as_ref().and_then(|code| code.of_volume().first_chunk().copied());
            let code = code.ok_or_else(no_boot_code)?;
            let image = serviced.image.with_tree(boot::tree_of(&serviced.start.system_files, self.now())?);
            let role = PartitionRole::System;
            self.lay_out(role, "System", &image, Compact::Never, Some(&code), stage)?.apply.bytes
        } else {
            self.write_esp(std::mem::take(&mut serviced.esp_files))?
        };
        let has_partition = self.partitions.iter().any(|part| part.role == PartitionRole::Recovery);
        if has_partition {
            let tree = boot::tree_of(&serviced.start.recovery_files, self.now())?;
            let image = serviced.image.with_tree(tree);
            let role = PartitionRole::Recovery;
            let report = self.lay_out(role, "Recovery", &image, Compact::Never, None, stage)?;
            bytes = bytes.saturating_add(report.apply.bytes);
        }
        self.serviced = Some(serviced);
        Ok(bytes)
    }

    /// Contents were read back when the volumes were written, before they got their boot sectors. What is left are these sectors,
    /// the structure as others will find it, and the EFI system partition.
    pub(super) fn verify_windows(&mut self, stage: &str) -> Result<u64, StepError> {
        let applied = self.serviced.as_ref().and_then(|serviced| serviced.applied);
        let applied = applied.ok_or_else(|| StepError::new(code::REFUSED, "no image was applied"))?;
        super::disk::sync(&self.target()?.device)?;
        gravure_linux::block::sync_all();
        self.target()?.device.drop_cache()?;
        gravure_linux::block::drop_caches()?;
        let volumes = [PartitionRole::System, PartitionRole::Windows, PartitionRole::Recovery];
        for role in volumes.into_iter().filter(|role| self.partitions.iter().any(|part| part.role == *role)) {
            self.check_structure(role, stage)?;
        }
        let boot = self.verify_esp()?;
        self.compared = Some(Compared { files: applied.files.saturating_add(boot), bytes: applied.bytes });
        Ok(applied.bytes)
    }

    fn check_structure(&self, role: PartitionRole, stage: &str) -> Result<(), StepError> {
        let path = self.partition_device(role)?;
        let mut first = None;
        let mut note = |finding: &gravure_imaging::Finding| {
            let message = finding.to_string();
            self.tell(Known::Warning { stage: Some(stage.to_owned()), message: message.clone() });
            first.get_or_insert(message);
        };
        check_volume(&path, Strictness::Fresh, &mut note, self.ctl).map_err(from_imaging)?;
        match first {
            None => Ok(()),
            Some(finding) => {
                let message = format!("{}: structure of the volume: {finding}", path.display());
                Err(StepError::new(code::INTEGRITY, message))
            }
        }
    }
}

/// A system in use keeps its identity and runs no setup: it takes no name, no settings, and makes two machines out of one.
fn gate(system: &System, planned: &PlannedWindows) -> Result<Option<String>, StepError> {
    match system.setup {
        SetupState::Generalized => Ok(None),
        SetupState::InSetup => {
            Ok(Some("the image goes through setup, but was not generalised (sysprep /generalize)".to_owned()))
        }
        SetupState::InUse if planned.accept_in_use => {
            Ok(Some("the image is of a system in use: it keeps its name, its SID and its accounts".to_owned()))
        }
        SetupState::InUse => Err(StepError::new(
            code::REFUSED,
            "the image is of a system in use, which was not generalised: machines made of it would have one identity",
        )
        .with_cure(
            "run `sysprep /generalize /oobe` before the capture, or make the plan with --accept-in-use for a machine that gets back \
             what it had",
        )),
    }
}

impl From<gravure_windows::Error> for StepError {
    fn from(error: gravure_windows::Error) -> Self {
        use gravure_windows::Error;
        let code = match &error {
            Error::NotFound { .. } => code::NOT_FOUND,
            Error::Refused { .. } | Error::Invalid { .. } => code::REFUSED,
            Error::Corrupt { .. } | Error::Inf { .. } | Error::Hive { .. } => code::INTEGRITY,
            Error::Unsupported { .. } => code::UNSUPPORTED,
            Error::Io { .. } | Error::Linux { .. } => code::IO,
            Error::Content { source, .. } => source
                .downcast_ref::<gravure_imaging::Error>()
                .map_or(code::FAILED, |error| error.kind().exit_code()),
            _ => code::FAILED,
        };
        Self::new(code, chain(&error))
    }
}

#[cfg(test)]
mod tests;
