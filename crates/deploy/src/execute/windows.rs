//! Windows: the image is serviced in memory before the disk is touched, laid out as an NTFS volume, and made to start.

mod boot;
mod sources;

use gravure_disk::identity::print_uuid;
use gravure_imaging::{
    Compact, ExistingData, Image, Strictness, VolumeApplyOptions, VolumeFile, apply_to_volume, check_volume,
};
use gravure_linux::machine;
use gravure_model::event::Known;
use gravure_model::plan::{PartitionRole, PlannedWindows};
use gravure_nttypes::{FileTime, NtName};
use gravure_windows::answer::AnswerSettings;
use gravure_windows::boot::BootFile;
use gravure_windows::drivers::{
    BundledPackages, DeviceReport, InjectOptions, InjectReport, Level, Publish, Served, Unsigned, inject,
};
use gravure_windows::layers::Layer;
use gravure_windows::{ContentResult, SetupState, System, WindowsImage};

use super::boot_uefi::EspFile;
use super::image::from_imaging;
use super::verify::Compared;
use super::{Run, partition_index};
use crate::failure::{StepError, chain, code};
use sources::Sources;

/// BLAKE3 context of what a volume's serial number derives from.
const VOLUME_SEED: &str = "gravure-deploy v1 ntfs volume";

/// The image as it will be on the disk.
pub(super) struct Serviced {
    image: Image,
    /// Files of the EFI system partition, read already: what cannot be read is found before the disk is touched.
    system_files: Vec<EspFile>,
    recovery_files: Vec<BootFile>,
    /// For the firmware's boot list.
    pub(super) loader: String,
    pub(super) load_option_data: Vec<u8>,
    applied: Option<Compared>,
}

impl Run<'_> {
    pub(super) fn service_windows(&mut self, stage: &str) -> Result<(), StepError> {
        let planned = self.plan.windows.clone();
        let planned =
            planned.ok_or_else(|| StepError::new(code::REFUSED, "the plan has nothing for Windows"))?;
        let sources = Sources::open(self.plan, &planned, self.descriptor, self.machine)?;
        let contents = sources.file.contents();
        let read = |content: &gravure_tree::ContentRef| -> ContentResult { Ok(contents.read(content)?) };
        let mut tree = sources.image.tree().clone();
        let mut windows = WindowsImage::open(&mut tree, &read, self.now())?;
        let system = windows.system()?;
        let mut notes = vec![describe(&system)];
        if let Some(note) = gate(&system, &planned)? {
            notes.push(note);
        }

        let mut packages = BundledPackages::new(&read);
        for (name, tree) in &sources.drivers {
            packages.add(name, tree)?;
        }
        let devices = machine::collect(&self.machine.roots).inventory.devices;
        let report = inject(&mut windows, &packages, &devices, inject_options(&planned))?;
        notes.extend(report.devices.iter().map(tell));
        check_start(&report, &self.target()?.disk.name, &planned)?;
        let mut not_done = report.not_done;

        let settings = self.settings(&planned)?;
        let locale = settings.ui_language.clone().unwrap_or_else(|| "en-US".to_owned());
        windows.apply_settings(&settings, &system)?;
        for (name, tree) in &sources.layers {
            let layer = Layer::of_bundle(tree, &read, &planned.facts);
            let done = layer.and_then(|layer| layer.apply(&mut windows, &system)).map_err(|error| {
                let failure = StepError::from(error);
                StepError { message: format!("layer {name}: {}", failure.message), ..failure }
            })?;
            let word = if done.applied { "applied" } else { "there already" };
            notes.push(format!("layer {} {}: {word}", done.id, done.version));
            not_done.extend(done.not_done);
        }

        windows.settle_on_disk(&system, self.partition_guid(PartitionRole::Windows)?)?;
        let boot = windows.boot_files(&self.boot_options(&system, locale)?)?;
        notes.push(format!("boot manager: {}", boot.reason));
        not_done.extend(boot.notes);
        let mut system_files = Vec::new();
        for BootFile { path, content } in boot.system {
            let content = contents.read(&content).map_err(from_imaging)?;
            system_files.push(EspFile { path, content });
        }
        let finished = windows.finish(&format!("deployment {}", self.plan.id))?;
        notes.push(format!("{} changes", finished.changes.len()));
        self.serviced = Some(Serviced {
            image: sources.image.with_tree(tree),
            system_files,
            recovery_files: boot.recovery,
            loader: boot.loader,
            load_option_data: boot.load_option_data,
            applied: None,
        });
        for message in notes {
            self.tell(Known::Note { stage: Some(stage.to_owned()), message });
        }
        not_done.into_iter().for_each(|message| self.warn(stage, message));
        Ok(())
    }

    /// The plan's settings with the name that the plan gives.
    fn settings(&self, planned: &PlannedWindows) -> Result<AnswerSettings, StepError> {
        let text = planned.settings.as_ref().map_or("", |settings| settings.reveal());
        let mut settings = AnswerSettings::from_toml(text)?;
        settings.computer_name = Some(self.plan.personality.host_name.clone());
        Ok(settings)
    }

    /// Of the plan, so that a retry is identical.
    fn now(&self) -> FileTime {
        FileTime::from_unix(self.plan.created.seconds(), 0)
    }

    pub(super) fn apply_volume(
        &mut self,
        role: PartitionRole,
        label: &str,
        stage: &str,
    ) -> Result<u64, StepError> {
        let mut serviced = self.take_serviced()?;
        let report = self.lay_out(role, label, &serviced.image, Compact::Auto, stage)?;
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
        let mut bytes = self.write_esp(std::mem::take(&mut serviced.system_files))?;
        let has_partition = self.partitions.iter().any(|part| part.role == PartitionRole::Recovery);
        if has_partition {
            let tree = boot::tree_of(&serviced.recovery_files, self.now())?;
            let image = serviced.image.with_tree(tree);
            let report = self.lay_out(PartitionRole::Recovery, "Recovery", &image, Compact::Never, stage)?;
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
        let volumes = [PartitionRole::Windows, PartitionRole::Recovery];
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

/// What the image is, in a line.
fn describe(system: &System) -> String {
    let name = system.product_name.as_deref().unwrap_or("Windows");
    format!("{name} {} {}", system.version, system.arch)
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

fn inject_options(planned: &PlannedWindows) -> InjectOptions {
    InjectOptions {
        publish: if planned.publish_drivers { Publish::WhereSimple } else { Publish::Never },
        unsigned: if planned.allow_unsigned { Unsigned::Allow } else { Unsigned::Refuse },
    }
}

/// The controller of the disk, or what it hangs on, without a driver is a machine that does not start, which is better known before
/// the disk is overwritten.
fn check_start(report: &InjectReport, disk: &str, planned: &PlannedWindows) -> Result<(), StepError> {
    let lacks = |device: &&&DeviceReport| device.is_boot_device && device.served == Served::Nothing;
    let found = above(&report.devices, disk);
    let Some(device) = found.iter().find(lacks).filter(|_| !planned.accept_missing_drivers) else {
        return Ok(());
    };
    let ids = device.device.hardware_ids.first().map_or("", String::as_str);
    let message = format!(
        "{} {ids}: no driver for it in the image nor among the site's, and Windows starts from it",
        device.device.place
    );
    Err(StepError::new(code::REFUSED, message)
        .with_cure("add its driver to the server's repository: gravure driver add, or make the plan with --accept-missing-drivers"))
}

/// What a disk hangs on, from its controller up.
fn above<'d>(devices: &'d [DeviceReport], disk: &str) -> Vec<&'d DeviceReport> {
    let at = |place: &str| devices.iter().find(|known| known.device.place == place);
    let mut found: Vec<&DeviceReport> = Vec::new();
    let mut next = at(disk).and_then(|disk| disk.device.parent.as_deref());
    // A circle in what the kernel says ends.
    while let Some(device) = next.and_then(at).filter(|device| !found.contains(device)) {
        found.push(device);
        next = device.device.parent.as_deref();
    }
    found
}

/// A device and what serves it, in a line.
fn tell(report: &DeviceReport) -> String {
    let device = &report.device;
    let name = device.name.as_deref().or(device.hardware_ids.first().map(String::as_str)).unwrap_or("-");
    let served = match &report.served {
        Served::Image { driver } => format!("Windows' own {}", driver.inf),
        Served::Repository { candidate, level } => {
            let version = candidate.driver_version.as_deref().unwrap_or("-");
            let level = match level {
                Level::Staged => "staged",
                Level::BootCritical => "boot-critical",
                Level::Published => "published",
            };
            format!("{} {version} ({level})", candidate.inf)
        }
        Served::Nothing => "no driver".to_owned(),
    };
    format!("{} {name}: {served}", device.place)
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
