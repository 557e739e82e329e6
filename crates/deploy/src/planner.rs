//! From a job and an inventory to a plan: pure, so that the same question always has the same answer and every
//! refusal can be shown before anything is touched (DESIGN sections 4 and 8).

mod blocks;
mod capture;
mod host_name;
mod layout;
mod linux;
mod target;
mod windows;

use std::collections::BTreeMap;

use gravure_model::Timestamp;
use gravure_model::descriptor::{DescribedImage, Digest, ImageDescriptor, SystemKind};
use gravure_model::identity::MachineIdentity;
use gravure_model::inventory::{FirmwareMode, Inventory, machine_facts};
use gravure_model::job::Job;
use gravure_model::plan::{
    Confirm, FileSystem, PLAN_VERSION, PartitionRole, Personality, Plan, PlannedBundle, PlannedDisk,
    PlannedImage, Step,
};

pub use capture::{plan_capture, stored_path};
pub use host_name::NamePattern;
pub use layout::ROOT_LABEL;
pub(crate) use layout::{ESP_LABEL, disk_layout};
#[cfg(test)]
pub(crate) use windows::steps as windows_steps;

/// BLAKE3 contexts; a change changes every identifier of a retried plan.
const PLAN_SEED: &str = "gravure-deploy v1 plan seed";
const MACHINE_ID: &str = "gravure-deploy v1 machine id";

/// An image the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogImage {
    /// Path on the server's HTTP side, e.g. `/images/debian.wim`.
    pub path: String,
    /// BLAKE3 of the descriptor's exact bytes.
    pub digest: Digest,
    /// The descriptor.
    pub descriptor: ImageDescriptor,
}

/// What one asking payload adds to its job.
#[derive(Debug, Clone)]
pub struct PlanRequest {
    /// The server's id for the new plan.
    pub plan: String,
    /// Who asks.
    pub identity: MachineIdentity,
    /// From its hello.
    pub nonce: String,
    /// The server's clock.
    pub now: Timestamp,
    /// How long the plan may be begun, seconds.
    pub lifetime_seconds: i64,
    /// What `{n}` stands for in the host name: the number of this machine among those of its [`name_pattern`], from 1.
    pub number: u32,
    /// How the deployed system reports its first boot; `None` leaves the report out.
    pub confirm: Option<Confirm>,
    /// Driver packages for the machine, for a Windows image.
    pub drivers: Vec<PlannedBundle>,
    /// Ids of those among them that are of the driver pack of its model.
    pub drivers_anyway: Vec<String>,
    /// The job's layers in their order.
    pub layers: Vec<PlannedBundle>,
    /// What the site's table says of the machine, by column.
    pub table: BTreeMap<String, String>,
}

/// Why there is no plan. The text says what stands in the way; [`Refusal::cure`] what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The file has no such image.
    #[error("{path} holds {count} images, image {index} (counted from 0) was asked for")]
    NoSuchImage {
        /// Image file.
        path: String,
        /// Images in it.
        count: usize,
        /// Asked for.
        index: u32,
    },
    /// An operating system that cannot be deployed yet.
    #[error("{path} image {index} holds {system}, only Linux and Windows systems can be deployed")]
    UnsupportedSystem {
        /// Image file.
        path: String,
        /// Image.
        index: u32,
        /// In words.
        system: &'static str,
    },
    /// A way of starting that this image cannot be given.
    #[error(
        "{path} image {index} holds Windows, which cannot be made to start on a {firmware} machine: {why}"
    )]
    Firmware {
        /// Image file.
        path: String,
        /// Image.
        index: u32,
        /// `bios` or `uefi`.
        firmware: &'static str,
        /// In words.
        why: String,
    },
    /// The job asks for what only a Windows system takes.
    #[error("{path} image {index} holds a Linux system, which takes no {what}")]
    NotForLinux {
        /// Image file.
        path: String,
        /// Image.
        index: u32,
        /// What was asked for.
        what: &'static str,
    },
    /// The job says how a disk is restored, and the image is none of one.
    #[error("{path} is no image of a disk, so there are no identifiers to keep or hardware to judge")]
    NotOfDisk {
        /// Image file.
        path: String,
    },
    /// The job gives a Windows what comes with the image of a disk.
    #[error("{path} is an image of a disk, which brings its own {what}")]
    NotForDisk {
        /// Image file.
        path: String,
        /// What was given.
        what: &'static str,
    },
    /// No disk fits the rule.
    #[error("no disk can be taken: {}", if .reasons.is_empty() { "the machine has none".to_owned() } else { .reasons.join("; ") })]
    NoDisk {
        /// One line for each disk of the machine.
        reasons: Vec<String>,
    },
    /// The rule fits several disks.
    #[error("{} disks could be meant: {}", .disks.len(), .disks.join("; "))]
    ManyDisks {
        /// The candidates by name, model, serial, size.
        disks: Vec<String>,
    },
    /// The disk holds data and the job does not allow destroying it.
    #[error("{disk} holds data ({content})")]
    HoldsData {
        /// The disk.
        disk: String,
        /// What was recognised.
        content: String,
    },
    /// The layout is larger than the disk.
    #[error("{disk} is too small: {wanted_bytes} bytes needed, {available_bytes} available")]
    TooSmall {
        /// The disk.
        disk: String,
        /// Needed.
        wanted_bytes: u64,
        /// There.
        available_bytes: u64,
    },
    /// A sector size this way of booting cannot use.
    #[error("{disk} has sectors of {sector_bytes} bytes, which {firmware} cannot start from")]
    SectorSize {
        /// The disk.
        disk: String,
        /// Its sector, bytes.
        sector_bytes: u32,
        /// `bios` or `uefi`.
        firmware: &'static str,
    },
    /// The host name template gives no name.
    #[error("host name template {template:?} gives {found:?}: {why}")]
    HostName {
        /// From the job.
        template: String,
        /// What came out.
        found: String,
        /// In words.
        why: String,
    },
    /// The job's seed is not what the server writes.
    #[error("seed of job {job} is not 64 hexadecimal digits")]
    Seed {
        /// Job id.
        job: String,
    },
    /// A job that captures where one that deploys is wanted, or the other way round.
    #[error("job {job} {what}")]
    OtherKind {
        /// Job id.
        job: String,
        /// What it does instead, in words.
        what: &'static str,
    },
    /// A machine nobody could tell from another.
    #[error("the machine has no UUID, serial number or network address to be known by")]
    Nameless,
}

impl Refusal {
    /// Exit code family of DESIGN section 5.
    pub fn code(&self) -> u8 {
        match self {
            Self::NoSuchImage { .. } => 3,
            Self::UnsupportedSystem { .. }
            | Self::SectorSize { .. }
            | Self::Firmware { .. }
            | Self::NotForLinux { .. }
            | Self::NotForDisk { .. }
            | Self::NotOfDisk { .. } => 9,
            Self::Seed { .. } | Self::OtherKind { .. } => 1,
            _ => 4,
        }
    }

    /// What the operator can do.
    pub fn cure(&self) -> String {
        match self {
            Self::NoSuchImage { .. } => "`gravure info` lists the images of a file".into(),
            Self::UnsupportedSystem { .. } => {
                "choose an image of a Linux system with GRUB, or of a Windows system".into()
            }
            Self::Firmware { .. } => {
                "start this machine in UEFI mode, or give the boot code of a machine that starts by BIOS: --boot-code".into()
            }
            Self::NotForLinux { .. } => {
                "make the job without --settings, --publish-drivers and --boot-code".into()
            }
            Self::NotForDisk { .. } => "make the job without --boot-code".into(),
            Self::NotOfDisk { .. } => "make the job without --keep-ids, --no-grow and --any-hardware".into(),
            Self::NoDisk { .. } => {
                "free or attach a disk; removable disks must be named with --disk serial=...".into()
            }
            Self::ManyDisks { .. } => {
                "name the disk in the plan: --disk serial=..., smallest or largest".into()
            }
            Self::HoldsData { .. } => "make the plan with --wipe if this data may be destroyed".into(),
            Self::TooSmall { .. } => "use a larger disk or a smaller image".into(),
            Self::SectorSize { .. } => "start this machine in UEFI mode".into(),
            Self::HostName { .. } => "use another --name, e.g. 'pc-{mac}'".into(),
            Self::Seed { .. } | Self::OtherKind { .. } => "delete the job and create it again".into(),
            Self::Nameless => "enter a serial number in the machine's firmware".into(),
        }
    }
}

/// Decides everything about one deployment.
pub fn plan(
    job: &Job,
    inventory: &Inventory,
    image: &CatalogImage,
    request: PlanRequest,
) -> Result<Plan, Refusal> {
    if job.request.capture.is_some() {
        return Err(Refusal::OtherKind { job: job.id.clone(), what: "makes an image, it deploys none" });
    }
    if request.identity.is_empty() {
        return Err(Refusal::Nameless);
    }
    let index = job.request.image_index;
    let described = usize::try_from(index).ok().and_then(|index| image.descriptor.images.get(index));
    let described = described.ok_or_else(|| Refusal::NoSuchImage {
        path: image.path.clone(),
        count: image.descriptor.images.len(),
        index,
    })?;
    let is_disk = blocks::is_block_image(&image.descriptor);
    let is_windows = match described.system {
        SystemKind::Linux => false,
        SystemKind::Windows => true,
        SystemKind::Unknown => {
            let (path, system) = (image.path.clone(), "no system that is known");
            return Err(Refusal::UnsupportedSystem { path, index, system });
        }
    };
    if job.request.restore.is_some() && !is_disk {
        return Err(Refusal::NotOfDisk { path: image.path.clone() });
    }
    let firmware = inventory.firmware.mode;
    if !is_windows {
        linux::check_unwanted(image, index, job)?;
    }
    if is_disk {
        blocks::check_unwanted(image, job)?;
    }
    let disk = target::choose(job, inventory, firmware)?;
    if is_windows && !is_disk {
        windows::check_firmware(image, index, firmware, job, &disk)?;
    }
    let seed = seed(job, &request.identity)?;
    let facts = host_name::Facts { inventory, identity: &request.identity, table: &request.table };
    let name = host_name::fill(&job.request.name, facts, request.number)?;
    if is_windows {
        windows::check_name(&job.request.name, &name)?;
    }
    let known = layer_facts(job, facts, &name);
    let (windows, linux) = match is_windows {
        true => {
            let planned = windows::planned(job, request.drivers, request.drivers_anyway, request.layers);
            (Some(windows::PlannedWindows { facts: known, ..planned }), None)
        }
        false => (None, linux::planned(request.layers, known)),
    };
    let steps = if is_disk {
        blocks::steps(described, &disk, firmware, job.request.restore.clone().unwrap_or_default())?
    } else {
        let mut steps = file_steps(described, &disk, firmware, &seed, is_windows)?;
        if linux.is_some() {
            linux::add_step(&mut steps);
        }
        steps
    };
    Ok(Plan {
        version: PLAN_VERSION,
        id: request.plan,
        job: job.id.clone(),
        machine: request.identity,
        nonce: request.nonce,
        created: request.now,
        expires: request.now.plus_seconds(request.lifetime_seconds),
        assurance: job.request.assurance,
        firmware,
        // Windows has no program of ours that could report; what was verified is the last that is known of it. Beside it on a disk may be a
        // Linux that has.
        personality: Personality {
            host_name: name,
            machine_id: machine_id(&seed),
            confirm: request.confirm.filter(|_| !is_windows || is_disk),
        },
        windows,
        linux,
        capture: None,
        seed: blake3::Hash::from_bytes(seed).to_hex().to_string(),
        image: PlannedImage { path: image.path.clone(), descriptor: image.digest, index },
        disk,
        steps,
        then: job.request.then,
    })
}

/// The names that the job gives to machines like this one, but for their numbers: who plans asks it before, to find the number.
pub fn name_pattern(
    job: &Job,
    inventory: &Inventory,
    identity: &MachineIdentity,
    table: &BTreeMap<String, String>,
) -> Result<NamePattern, Refusal> {
    host_name::pattern(&job.request.name, host_name::Facts { inventory, identity, table })
}

/// What layers may name: what the site's table says of the machine, the job's facts, and those of the machine; what a machine does not tell is
/// empty.
fn layer_facts(job: &Job, machine: host_name::Facts<'_>, name: &str) -> BTreeMap<String, String> {
    let mut facts: BTreeMap<String, String> =
        machine.table.iter().map(|(name, value)| (name.to_uppercase(), value.clone())).collect();
    let asked = job.request.windows.as_ref().map(|windows| windows.facts.clone()).unwrap_or_default();
    facts.extend(asked);
    facts.extend(machine_facts(name, machine.identity, &machine.inventory.smbios));
    facts
}

/// The steps for an image of files.
fn file_steps(
    described: &DescribedImage,
    disk: &PlannedDisk,
    firmware: FirmwareMode,
    seed: &[u8; 32],
    is_windows: bool,
) -> Result<Vec<Step>, Refusal> {
    let partitions = if is_windows {
        windows::partitions(firmware, disk.size_bytes, described)
    } else {
        layout::partitions(firmware, disk.size_bytes)
    };
    layout::check_room(disk, &partitions, seed, described.content_bytes, described.file_count)?;
    if is_windows {
        return Ok(windows::steps(firmware, partitions));
    }
    let root = PartitionRole::Root;
    let mut steps = vec![Step::CheckDisk {}, Step::Prepare { partitions }];
    steps.push(Step::Format { partition: root, file_system: FileSystem::Ext4, label: ROOT_LABEL.into() });
    steps.extend([Step::Apply { partition: root }, Step::Personalise {}]);
    match firmware {
        FirmwareMode::Uefi => steps.push(Step::InstallUefiBoot {}),
        FirmwareMode::Bios => steps.push(Step::InstallBiosBoot {}),
    }
    steps.extend([Step::Verify {}, Step::WriteTable {}]);
    if firmware == FirmwareMode::Uefi {
        steps.push(Step::FirmwareEntry {});
    }
    Ok(steps)
}

/// Derives the plan's seed from the job and the machine: a retry of the same job on the same machine is identical,
/// two machines of one job differ.
fn seed(job: &Job, identity: &MachineIdentity) -> Result<[u8; 32], Refusal> {
    let job_seed = parse_seed(&job.seed).ok_or_else(|| Refusal::Seed { job: job.id.clone() })?;
    let mut hasher = blake3::Hasher::new_derive_key(PLAN_SEED);
    hasher.update(&job_seed);
    // The strongest name alone: an adapter that is plugged in for the retry must not change the layout.
    match (&identity.uuid, &identity.serial) {
        (Some(uuid), _) => hasher.update(b"uuid").update(uuid.as_bytes()),
        (None, Some(serial)) => hasher.update(b"serial").update(serial.as_bytes()),
        (None, None) => hasher.update(b"mac").update(&identity.macs.first().map_or([0; 6], |mac| mac.0)),
    };
    Ok(*hasher.finalize().as_bytes())
}

/// Reads a seed of 64 hexadecimal digits.
pub(crate) fn parse_seed(text: &str) -> Option<[u8; 32]> {
    text.parse::<Digest>().ok().map(|digest| digest.0)
}

/// systemd's machine id: a random-looking UUID of version 4 without dashes.
fn machine_id(seed: &[u8; 32]) -> String {
    let hash = blake3::derive_key(MACHINE_ID, seed);
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(hash) {
        *to = from;
    }
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
