//! Plans: what will be done to one machine, decided beforehand, signed, and refused where anything is unknown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::descriptor::{Digest, ImageDescriptor};
use crate::identity::MachineIdentity;
use crate::inventory::FirmwareMode;
use crate::job::{Afterwards, RestoreRequest};
use crate::{Assurance, Secret, Timestamp};

/// Version of this document. A payload refuses any other.
pub const PLAN_VERSION: u32 = 1;

/// A deployment of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// The server's id of this plan.
    pub id: String,
    /// The job it was made from.
    pub job: String,
    /// The machine it is for; another refuses it.
    pub machine: MachineIdentity,
    /// What the payload gave when it asked; another boot refuses it.
    pub nonce: String,
    /// When it was made.
    pub created: Timestamp,
    /// From then on it is refused.
    pub expires: Timestamp,
    /// Least assurance.
    pub assurance: Assurance,
    /// How the machine was started; the other mode refuses it.
    pub firmware: FirmwareMode,
    /// 64 hexadecimal digits from which GUIDs and serials derive, so that a retry is identical.
    pub seed: String,
    /// What is applied.
    pub image: PlannedImage,
    /// Where to.
    pub disk: PlannedDisk,
    /// Name, accounts and such.
    pub personality: Personality,
    /// What is put into a Windows system, of an image of files or on a disk that is restored; `None` for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<PlannedWindows>,
    /// What is put into a Linux system, of an image of files or on a disk that is restored; `None` when that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<PlannedLinux>,
    /// The image that is made of the disk, which is only read then; `None` in plans that deploy. `image` names the place where it
    /// will be, with a descriptor of nothing, and the personality is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<PlannedCapture>,
    /// In order.
    pub steps: Vec<Step>,
    /// After the report.
    pub then: Afterwards,
}

impl Plan {
    /// Whether it puts the image of a whole disk back, with whatever systems are on it.
    pub fn restores_disk(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::RestoreDisk { .. }))
    }
}

/// The image a plan applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedImage {
    /// Path on the server's HTTP side, e.g. `/images/debian.wim`.
    pub path: String,
    /// BLAKE3 of the descriptor that comes with the plan.
    pub descriptor: Digest,
    /// Zero-based image in the file.
    pub index: u32,
}

/// An image that is made of a machine's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedCapture {
    /// Its name in the site's store.
    pub name: String,
    /// What it says of itself, in words.
    pub description: Option<String>,
    /// All bytes are kept, whatever stands there.
    pub raw: bool,
    /// An image of this name is replaced.
    pub replace: bool,
    /// What opens encrypted volumes, as [`Secret::of_bytes`]. The server keeps no copy in the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Secret>,
}

/// The disk a plan writes or reads, named so that a person recognises it and a machine cannot mistake it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedDisk {
    /// Kernel name at planning time. Checked together with what follows; never trusted alone.
    pub name: String,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Size, bytes.
    pub size_bytes: u64,
    /// Logical sector, bytes.
    pub logical_sector_bytes: u32,
    /// Data on it may be destroyed.
    pub wipe: bool,
}

/// What makes the machine itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Personality {
    /// Host name, checked: 1 to 63 of letters, digits and inner dashes.
    pub host_name: String,
    /// 32 hexadecimal digits.
    pub machine_id: String,
    /// How the deployed system reports its first boot.
    pub confirm: Option<Confirm>,
}

/// How the deployed system reports its first boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// `https://address:port` of the server's API.
    pub server: String,
    /// Good for one report.
    pub token: Secret,
}

/// What is put into a Windows system before it is laid out on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedWindows {
    /// Driver packages that fit the machine by its inventory. Which of them are better than what the image has is decided
    /// where the image is.
    pub drivers: Vec<PlannedBundle>,
    /// Ids of those packages among them that go in whether a device needs them or not: of the driver pack of the machine's model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drivers_anyway: Vec<String>,
    /// Whether simple packages are published in driver store and driver database.
    #[serde(default)]
    pub publish_drivers: bool,
    /// Drivers that are not signed may start the machine, as it is set up for test signing.
    #[serde(default)]
    pub allow_unsigned: bool,
    /// Layers, in their order.
    pub layers: Vec<PlannedBundle>,
    /// What `${NAME}` stands for in layers.
    pub facts: BTreeMap<String, String>,
    /// Settings for the answer file in TOML. They may hold passwords, so the server keeps no copy in the plan.
    pub settings: Option<Secret>,
    /// The image may be of a system in use, which runs no setup: for machines that get back what they had.
    #[serde(default)]
    pub accept_in_use: bool,
    /// The machine may be left without a driver for what it starts from.
    #[serde(default)]
    pub accept_missing_drivers: bool,
    /// Boot code that was taken from a disk, for BIOS machines: 512 bytes of its first sector and 8192 of a volume in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_code: Option<String>,
}

/// What is put into a Linux system beside its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedLinux {
    /// Layers, in their order; at least one.
    pub layers: Vec<PlannedBundle>,
    /// What `${NAME}` stands for in them.
    pub facts: BTreeMap<String, String>,
}

/// A file of the server with a driver package or a layer: a WIM of its own, checked like an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedBundle {
    /// For people: the package's INF file, the layer's name.
    pub name: String,
    /// Path on the server's HTTP side.
    pub path: String,
    /// What the file consists of.
    pub descriptor: ImageDescriptor,
}

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionRole {
    /// EFI system partition, FAT.
    Esp,
    /// Holds GRUB's core on BIOS machines with GPT.
    BiosBoot,
    /// The system.
    Root,
    /// Kept free for Windows' own use.
    MicrosoftReserved,
    /// The Windows volume.
    Windows,
    /// Windows' recovery environment.
    Recovery,
    /// Windows' boot manager on BIOS machines: the active partition.
    System,
}

/// A partition of the layout, in disk order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedPartition {
    /// What it is for; each role at most once.
    pub role: PartitionRole,
    /// Size in bytes; `None` takes what is left, allowed once.
    pub size_bytes: Option<u64>,
    /// Name in the partition table, at most 36 UTF-16 units.
    pub label: String,
}

/// File systems a `format` step makes. The EFI system partition is not among them: its step writes it whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileSystem {
    /// ext4, made by mke2fs.
    Ext4,
}

/// One step. An unknown one makes the whole plan unreadable, which is intended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Find the disk, check model, serial, size and that nobody uses it.
    CheckDisk {},
    /// Destroy old signatures, and make the partitions known to the kernel without a table.
    Prepare {
        /// In disk order.
        partitions: Vec<PlannedPartition>,
    },
    /// Make a file system.
    Format {
        /// On which partition.
        partition: PartitionRole,
        /// Which.
        file_system: FileSystem,
        /// Volume label.
        label: String,
    },
    /// Apply the image.
    Apply {
        /// Onto which partition.
        partition: PartitionRole,
    },
    /// Set host name, machine id, file system table, boot menu and the first-boot report.
    Personalise {},
    /// Put drivers, settings and layers into the Windows image in memory, before anything on the disk is touched.
    ServiceWindows {},
    /// Put layers into the Linux image in memory, before anything on the disk is touched.
    ServiceLinux {},
    /// Lay the serviced image out as an NTFS volume, and read it back.
    ApplyVolume {
        /// On which partition.
        partition: PartitionRole,
        /// Volume label.
        label: String,
    },
    /// Write the system partition (EFI, or on BIOS machines the active one with captured boot code) with Windows' boot files and boot
    /// store, and the recovery partition.
    InstallWindowsBoot {},
    /// Write the EFI system partition (FAT) with the boot loader files.
    InstallUefiBoot {},
    /// Put GRUB's core into its partition and keep its boot sector for the last step.
    InstallBiosBoot {},
    /// Read everything back from the disk and compare.
    Verify {},
    /// Write boot sector and partition table: from here on the disk looks bootable.
    WriteTable {},
    /// Restore an image of a whole disk: what stands there already stays, partitions go where there is room, the largest file system fills
    /// it, everything is read back, the table comes last; then host name, machine id and the first-boot report.
    RestoreDisk {
        /// How.
        #[serde(default)]
        restore: RestoreRequest,
    },
    /// Enter the system in the firmware's boot list: first, or behind the network where the machine starts from that first.
    FirmwareEntry {},
    /// Find the disk, check model, serial, size and that nobody uses it; then make an image of it, which goes to the server. Nothing is
    /// written on the disk.
    CaptureDisk {},
}

impl Step {
    /// Stable name, as in the serialised form.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CheckDisk {} => "check_disk",
            Self::Prepare { .. } => "prepare",
            Self::Format { .. } => "format",
            Self::Apply { .. } => "apply",
            Self::Personalise {} => "personalise",
            Self::ServiceWindows {} => "service_windows",
            Self::ServiceLinux {} => "service_linux",
            Self::ApplyVolume { .. } => "apply_volume",
            Self::InstallWindowsBoot {} => "install_windows_boot",
            Self::InstallUefiBoot {} => "install_uefi_boot",
            Self::InstallBiosBoot {} => "install_bios_boot",
            Self::Verify {} => "verify",
            Self::WriteTable {} => "write_table",
            Self::RestoreDisk { .. } => "restore_disk",
            Self::FirmwareEntry {} => "firmware_entry",
            Self::CaptureDisk {} => "capture_disk",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_steps_and_fields_are_refused_by_name() {
        let error = serde_json::from_str::<Step>(r#"{"step":"format_everything"}"#).unwrap_err();
        assert!(error.to_string().contains("format_everything"), "{error}");
        let error = serde_json::from_str::<Step>(r#"{"step":"verify","quick":true}"#).unwrap_err();
        assert!(error.to_string().contains("quick"), "{error}");
    }

    #[test]
    fn the_name_is_the_serialised_one() {
        let steps = [
            Step::CheckDisk {},
            Step::Prepare { partitions: Vec::new() },
            Step::Format {
                partition: PartitionRole::Root,
                file_system: FileSystem::Ext4,
                label: "root".into(),
            },
            Step::Apply { partition: PartitionRole::Root },
            Step::Personalise {},
            Step::ServiceWindows {},
            Step::ServiceLinux {},
            Step::ApplyVolume { partition: PartitionRole::Windows, label: "Windows".into() },
            Step::InstallWindowsBoot {},
            Step::InstallUefiBoot {},
            Step::InstallBiosBoot {},
            Step::Verify {},
            Step::WriteTable {},
            Step::RestoreDisk { restore: RestoreRequest::default() },
            Step::FirmwareEntry {},
            Step::CaptureDisk {},
        ];
        for step in steps {
            let value = serde_json::to_value(&step).unwrap();
            assert_eq!(value["step"], step.name());
            assert_eq!(serde_json::from_value::<Step>(value).unwrap(), step);
        }
    }
}
