//! Which partitions a disk gets, and whether the image fits.

use gravure_disk::{DiskShape, Error as DiskError, Identity, Layout, PartitionRequest, PartitionSize, Role};
use gravure_model::inventory::FirmwareMode;
use gravure_model::plan::{PartitionRole, PlannedDisk, PlannedPartition};

use super::Refusal;
use super::target::describe_parts;

/// Label of the system volume; the image's GRUB core image looks for it on BIOS machines.
pub const ROOT_LABEL: &str = "gravure-root";
/// Label of the EFI system partition.
pub(crate) const ESP_LABEL: &str = "ESP";

pub(super) const MIB: u64 = 1 << 20;
/// What vendors and Debian's installer give an EFI system partition.
const ESP_BYTES: u64 = 512 * MIB;
/// On disks below this the EFI system partition takes the small size.
const SMALL_DISK_BYTES: u64 = 8 << 30;
/// Smallest FAT32 of 512-byte sectors has some 33 MiB; 64 leave room for two boot loaders.
const SMALL_ESP_BYTES: u64 = 64 * MIB;
/// What GRUB's documentation recommends; its core image has some 100 KiB.
const BIOS_BOOT_BYTES: u64 = MIB;

/// ext4 overhead assumed for the check of room: inodes, journal, bitmaps. 1/16 of the content plus this.
const ROOT_SLACK_BYTES: u64 = 128 * MIB;
/// Bytes a file costs beyond its content: half a block of waste and its inode, rounded up.
const PER_FILE_BYTES: u64 = 4096;

/// Size of the EFI system partition on a disk of that size.
pub(super) fn esp_bytes(disk_bytes: u64) -> u64 {
    if disk_bytes < SMALL_DISK_BYTES { SMALL_ESP_BYTES } else { ESP_BYTES }
}

/// Partitions in disk order.
pub(super) fn partitions(firmware: FirmwareMode, disk_bytes: u64) -> Vec<PlannedPartition> {
    let esp_bytes = esp_bytes(disk_bytes);
    let (role, size_bytes, label) = match firmware {
        FirmwareMode::Uefi => (PartitionRole::Esp, esp_bytes, ESP_LABEL),
        FirmwareMode::Bios => (PartitionRole::BiosBoot, BIOS_BOOT_BYTES, "bios-boot"),
    };
    vec![
        PlannedPartition { role, size_bytes: Some(size_bytes), label: label.into() },
        PlannedPartition { role: PartitionRole::Root, size_bytes: None, label: ROOT_LABEL.into() },
    ]
}

/// The layout that a plan's partitions mean; planner and payload both compute it and must agree.
pub(crate) fn disk_layout(
    disk: &PlannedDisk,
    partitions: &[PlannedPartition],
    seed: &[u8; 32],
    rest_at_least: u64,
) -> Result<Layout, DiskError> {
    let shape = DiskShape { size_bytes: disk.size_bytes, sector_bytes: disk.logical_sector_bytes };
    let requests: Vec<PartitionRequest> = partitions
        .iter()
        .map(|partition| PartitionRequest {
            role: match partition.role {
                PartitionRole::Esp => Role::Esp,
                PartitionRole::BiosBoot => Role::BiosBoot,
                PartitionRole::Root => Role::LinuxRoot,
                PartitionRole::MicrosoftReserved => Role::MicrosoftReserved,
                PartitionRole::Windows | PartitionRole::System => Role::MicrosoftData,
                PartitionRole::Recovery => Role::WindowsRecovery,
            },
            size: partition
                .size_bytes
                .map_or(PartitionSize::Rest { at_least: rest_at_least }, PartitionSize::Bytes),
            name: partition.label.clone(),
        })
        .collect();
    Layout::compute(shape, &Identity::new(*seed), &requests)
}

/// Checks that the image fits before anything is destroyed.
pub(super) fn check_room(
    disk: &PlannedDisk,
    partitions: &[PlannedPartition],
    seed: &[u8; 32],
    content_bytes: u64,
    file_count: u64,
) -> Result<(), Refusal> {
    let per_file = file_count.saturating_mul(PER_FILE_BYTES);
    let content = content_bytes.saturating_add(per_file);
    let root_bytes = content.saturating_add(content / 16).saturating_add(ROOT_SLACK_BYTES);
    let name = describe_parts(&disk.name, disk.model.as_deref(), disk.serial.as_deref(), disk.size_bytes);
    match disk_layout(disk, partitions, seed, root_bytes) {
        Ok(_) => Ok(()),
        Err(DiskError::DoesNotFit { wanted, available, .. }) => {
            Err(Refusal::TooSmall { disk: name, wanted_bytes: wanted, available_bytes: available })
        }
        Err(_) => Err(Refusal::SectorSize {
            disk: name,
            sector_bytes: disk.logical_sector_bytes,
            firmware: "Gravure",
        }),
    }
}
