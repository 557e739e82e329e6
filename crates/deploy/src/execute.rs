//! Carries a plan out, step by step, in the plan's order.
//!
//! **Invariant:** from `prepare` until `write_table` the disk has no partition table, so that nothing that stops the
//! work, power included, leaves a disk that looks bootable. Should anything fail after the table was written, it is
//! erased again.

mod blocks;
mod boot_bios;
mod boot_uefi;
mod capture;
mod confirm;
mod disk;
mod firmware;
#[cfg(test)]
mod fixtures;
mod grub;
mod image;
mod linux;
mod loaders;
mod personalise;
mod restored;
mod root;
mod sources;
mod table;
mod verify;
mod windows;

pub use restored::foresee_start;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use gravure_disk::{Identity, Layout};
use gravure_imaging::{BlockImage, CaptureTarget, Image};
use gravure_io::ReadAt;
use gravure_linux::BlockDevice;
use gravure_linux::disks::{Disk, Roots};
use gravure_linux::efivars::EfiVariables;
use gravure_model::Ctl;
use gravure_model::descriptor::ImageDescriptor;
use gravure_model::event::{Known, Observer};
use gravure_model::plan::{PartitionRole, Plan, PlannedPartition, Step};
use gravure_trust::Verdict;

use crate::failure::{Failure, StepError, chain, code};

/// Opens images by the path a plan names. What it returns must already check every byte against the descriptor.
pub trait ImageSource: Send + Sync {
    /// Opens `path` for reading. The error is in words, with its causes.
    fn open(&self, path: &str, descriptor: &ImageDescriptor) -> Result<Arc<dyn ReadAt>, String>;

    /// Opens the image of a disk. What is read of it is held against ids in it, and those against the descriptor.
    fn open_blocks(
        &self,
        path: &str,
        descriptor: &ImageDescriptor,
    ) -> Result<BlockImage, gravure_imaging::Error> {
        let source = self.open(path, descriptor).map_err(|why| gravure_imaging::Error::Other {
            what: format!("open {path}"),
            source: why.into(),
            kind: gravure_imaging::ErrorKind::Io,
        })?;
        BlockImage::open(source, path)
    }
}

/// What the executor needs to know of the machine it runs on.
#[derive(Clone)]
pub struct Machine {
    /// Where images come from.
    pub images: Arc<dyn ImageSource>,
    /// Where images of this machine's disks go; `None` without a server.
    pub captures: Option<Arc<dyn CaptureTarget>>,
    /// Our own program, which the deployed system runs once to report its first boot.
    pub confirm_program: PathBuf,
    /// The site's CA in PEM, for that report.
    pub site_ca_pem: String,
    /// mke2fs.
    pub mke2fs: PathBuf,
    /// e2fsck.
    pub e2fsck: PathBuf,
    /// An existing empty directory to mount the new system on.
    pub mount_point: PathBuf,
    /// Kernel views.
    pub roots: Roots,
    /// Firmware variables; `None` on BIOS machines.
    pub firmware: Option<EfiVariables>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("mount_point", &self.mount_point).finish_non_exhaustive()
    }
}

/// A deployment that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Files read back and compared.
    pub files: u64,
    /// Bytes read back and compared.
    pub bytes: u64,
    /// What was odd but did not stop the work.
    pub warnings: Vec<String>,
}

/// Carries out a plan that [`gravure_trust::TrustedPlanKey::plan`] has accepted.
pub fn execute(
    verdict: &Verdict,
    machine: &Machine,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<Report, Failure> {
    let mut run = Run::new(verdict, machine, ctl, observer).map_err(|error| error.at("check_plan"))?;
    for step in &verdict.plan.steps {
        let stage = step.name();
        let result = ctl.check().map_err(StepError::from).and_then(|()| run.step(step, stage));
        if let Err(error) = result {
            run.clean_up();
            return Err(error.at(stage));
        }
    }
    run.finish().map_err(|error| error.at("verify"))
}

/// A file of the new system that is not as in the image, and what it must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    /// Path from the root, without leading slash.
    path: String,
    content: Expected,
}

/// What is at the place of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    /// A file with this content.
    Bytes(Vec<u8>),
    /// A file of this length and BLAKE3, which may be large, and of this mode where that counts.
    Hash { bytes: u64, blake3: [u8; 32], mode: Option<u32> },
    /// A symbolic link with this text.
    Link(String),
    /// A directory or link, whose place alone is ours.
    Any,
    /// Nothing.
    Gone,
}

/// What the steps hand on to each other.
struct Run<'a> {
    plan: &'a Plan,
    descriptor: &'a ImageDescriptor,
    machine: &'a Machine,
    ctl: &'a Ctl,
    observer: &'a dyn Observer,
    identity: Identity,
    partitions: &'a [PlannedPartition],
    target: Option<Target>,
    /// What is applied, and what the disk is compared with.
    image: Option<Image>,
    mounted: bool,
    changes: Vec<Change>,
    esp_files: Vec<boot_uefi::EspFile>,
    bios: Option<gravure_disk::bios::GrubPlacement>,
    table_written: bool,
    compared: Option<verify::Compared>,
    captured: Option<capture::Captured>,
    serviced: Option<windows::Serviced>,
    /// What Windows get that are restored with their disk.
    servicing: Option<Arc<restored::Servicing>>,
    /// What Linux systems get that are restored with their disk.
    layers: Option<Arc<linux::Layers>>,
    /// Systems that got them.
    layered: usize,
    /// What the server is told of each of them.
    restored_windows: Vec<Known>,
    warnings: Vec<String>,
}

/// The disk, once it was found and checked.
struct Target {
    disk: Disk,
    device: BlockDevice,
    layout: Layout,
}

impl<'a> Run<'a> {
    fn new(
        verdict: &'a Verdict,
        machine: &'a Machine,
        ctl: &'a Ctl,
        observer: &'a dyn Observer,
    ) -> Result<Self, StepError> {
        let plan = &verdict.plan;
        check_order(&plan.steps, plan.capture.is_some())?;
        let seed = crate::planner::parse_seed(&plan.seed)
            .ok_or_else(|| StepError::new(code::REFUSED, "seed of the plan is not 64 hexadecimal digits"))?;
        let partitions = plan.steps.iter().find_map(|step| match step {
            Step::Prepare { partitions } => Some(partitions.as_slice()),
            _ => None,
        });
        Ok(Self {
            plan,
            descriptor: &verdict.descriptor,
            machine,
            ctl,
            observer,
            identity: Identity::new(seed),
            partitions: partitions.unwrap_or_default(),
            target: None,
            image: None,
            mounted: false,
            changes: Vec::new(),
            esp_files: Vec::new(),
            bios: None,
            table_written: false,
            compared: None,
            captured: None,
            serviced: None,
            servicing: None,
            layers: None,
            layered: 0,
            restored_windows: Vec::new(),
            warnings: Vec::new(),
        })
    }

    fn step(&mut self, step: &Step, stage: &'static str) -> Result<(), StepError> {
        let total_bytes = self.expected_bytes(step);
        self.tell(Known::StageStarted { stage: stage.into(), total_bytes });
        let start = Instant::now();
        let bytes = match step {
            Step::CheckDisk {} => self.check_disk().map(|()| 0),
            Step::Prepare { .. } => self.prepare().map(|()| 0),
            Step::Format { partition, label, .. } => self.format(*partition, label).map(|()| 0),
            Step::Apply { partition } => self.apply(*partition, stage),
            Step::Personalise {} => self.personalise().map(|()| 0),
            Step::ServiceWindows {} => self.service_windows(stage).map(|()| 0),
            Step::ServiceLinux {} => self.service_linux(stage).map(|()| 0),
            Step::ApplyVolume { partition, label } => self.apply_volume(*partition, label, stage),
            Step::InstallWindowsBoot {} => self.install_windows_boot(stage),
            Step::InstallUefiBoot {} => self.install_uefi_boot(),
            Step::InstallBiosBoot {} => self.install_bios_boot(),
            Step::Verify {} if self.plan.windows.is_some() => self.verify_windows(stage),
            Step::Verify {} => self.verify(stage),
            Step::WriteTable {} => self.write_table().map(|()| 0),
            Step::RestoreDisk { restore } => self.restore_disk(restore, stage),
            Step::CaptureDisk {} => self.capture_disk(stage),
            Step::FirmwareEntry {} => self.firmware_entry().map(|()| 0),
        }?;
        let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.tell(Known::StageFinished { stage: stage.into(), bytes, milliseconds });
        Ok(())
    }

    fn expected_bytes(&self, step: &Step) -> Option<u64> {
        let described =
            usize::try_from(self.plan.image.index).ok().and_then(|i| self.descriptor.images.get(i));
        match step {
            Step::Apply { .. } | Step::ApplyVolume { .. } | Step::Verify {} | Step::RestoreDisk { .. } => {
                described.map(|image| image.content_bytes)
            }
            _ => None,
        }
    }

    fn finish(mut self) -> Result<Report, StepError> {
        if let Some(captured) = self.captured.take() {
            let capture::Captured { image, bytes } = captured;
            self.tell(Known::Captured { plan: self.plan.id.clone(), image, bytes });
            return Ok(Report { files: 0, bytes, warnings: self.warnings });
        }
        let compared = self.compared.take();
        let compared =
            compared.ok_or_else(|| StepError::new(code::REFUSED, "the plan has no verify step"))?;
        if let Some(windows) = self.serviced.take() {
            self.tell(windows.known_by);
        }
        for known_by in std::mem::take(&mut self.restored_windows) {
            self.tell(known_by);
        }
        self.tell(Known::Verified {
            plan: self.plan.id.clone(),
            image: self.plan.image.descriptor,
            files: compared.files,
            bytes: compared.bytes,
        });
        Ok(Report { files: compared.files, bytes: compared.bytes, warnings: self.warnings })
    }

    fn tell(&self, event: Known) {
        self.observer.event(event.into());
    }

    fn warn(&mut self, stage: &str, message: String) {
        tracing::warn!(stage, "{message}");
        self.tell(Known::Warning { stage: Some(stage.to_owned()), message: message.clone() });
        self.warnings.push(message);
    }

    fn target(&self) -> Result<&Target, StepError> {
        self.target.as_ref().ok_or_else(|| StepError::new(code::REFUSED, "the disk was not checked"))
    }

    /// After a failure: nothing stays mounted, and a table that was written is taken away again.
    fn clean_up(&mut self) {
        if self.mounted && gravure_linux::mount::detach(&self.machine.mount_point).is_ok() {
            self.mounted = false;
        }
        if self.table_written
            && let Some(target) = &self.target
        {
            let erased = gravure_disk::TableImage::new(&target.layout, None).erase(&target.device);
            if let Err(error) = erased {
                self.warn("write_table", format!("partition table could not be erased: {}", chain(&error)));
            }
        }
    }
}

/// A plan must verify before it writes the table, and must begin with the checks. The server makes them so; a payload
/// that believed it blindly would turn one bug there into lost data here. A plan that makes an image does nothing else.
fn check_order(steps: &[Step], captures: bool) -> Result<(), StepError> {
    let order: Vec<&str> = steps.iter().map(Step::name).collect();
    if captures {
        if order == ["capture_disk"] {
            return Ok(());
        }
        let message = format!("steps of the plan are {}, expected capture_disk alone", order.join(", "));
        return Err(StepError::new(code::REFUSED, message));
    }
    // A disk that is restored as a whole verifies and writes its table by itself.
    if matches!(
        order.as_slice(),
        ["check_disk", "restore_disk"] | ["check_disk", "restore_disk", "firmware_entry"]
    ) {
        return Ok(());
    }
    let position = |name: &str| order.iter().position(|step| *step == name);
    let is_windows = position("service_windows").is_some();
    let (wanted, applied, boots): (&[&str], &str, &[&str]) = if is_windows {
        let order = &["check_disk", "service_windows", "prepare", "apply_volume", "verify", "write_table"];
        (order, "apply_volume", &["install_windows_boot"])
    } else {
        let order = &["check_disk", "prepare", "format", "apply", "personalise", "verify", "write_table"];
        (order, "personalise", &["install_uefi_boot", "install_bios_boot"])
    };
    let positions: Vec<Option<usize>> = wanted.iter().map(|name| position(name)).collect();
    let complete = positions.iter().all(Option::is_some);
    let unique = wanted.iter().all(|name| order.iter().filter(|step| *step == name).count() == 1);
    // Layers of a Linux: in memory, before anything is destroyed, or not at all.
    let layers = position("service_linux");
    let layers_in_time = layers.is_none_or(|layers| !is_windows && layers == 1)
        && order.iter().filter(|step| **step == "service_linux").count() <= 1;
    let boot = boots.iter().find_map(|name| position(name));
    let boot_in_time = boot.is_some() && boot < position("verify") && position(applied) < boot;
    let in_time = boot_in_time && layers_in_time;
    if complete && unique && positions.is_sorted() && in_time && position("check_disk") == Some(0) {
        return Ok(());
    }
    let message =
        format!("steps of the plan are {}, expected {} in this order", order.join(", "), wanted.join(", "));
    Err(StepError::new(code::REFUSED, message))
}

/// The partition of `role` in the plan, zero-based.
fn partition_index(partitions: &[PlannedPartition], role: PartitionRole) -> Result<usize, StepError> {
    let found = partitions.iter().position(|partition| partition.role == role);
    found.ok_or_else(|| StepError::new(code::REFUSED, format!("the plan has no {role:?} partition")))
}

#[cfg(test)]
mod tests;
