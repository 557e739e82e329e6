//! What is different about Windows: its partitions, its steps, the names its setup takes (windows-servicing 3.3, 5).

use gravure_model::descriptor::DescribedImage;
use gravure_model::inventory::FirmwareMode;
use gravure_model::job::{DriverRule, Job};
pub(super) use gravure_model::plan::PlannedWindows;
use gravure_model::plan::{PartitionRole, PlannedBundle, PlannedDisk, PlannedPartition, Step};

use super::layout::{MIB, esp_bytes};
use super::{CatalogImage, Refusal};

/// Label of the Windows volume.
const WINDOWS_LABEL: &str = "Windows";
/// Between the partitions, where Windows expects it.
const RESERVED_BYTES: u64 = 16 * MIB;
/// Room for a recovery environment, whose image has some 600 MB, and its updates.
const RECOVERY_BYTES: u64 = 1024 * MIB;
/// Boot manager, store and languages of a BIOS machine have some 30 MB; Windows' own setup takes 100 to 550.
const SYSTEM_BYTES: u64 = 256 * MIB;
/// What an MBR can tell: 2^32 - 1 sectors of 512 bytes.
const MBR_LIMIT_BYTES: u64 = ((1 << 32) - 1) * 512;
/// Smaller disks keep the recovery environment on the Windows volume.
const RECOVERY_FROM_BYTES: u64 = 32 << 30;

/// Whether the image can be made to start in this mode from this disk.
pub(super) fn check_firmware(
    image: &CatalogImage,
    index: u32,
    firmware: FirmwareMode,
    job: &Job,
    disk: &PlannedDisk,
) -> Result<(), Refusal> {
    if firmware == FirmwareMode::Uefi {
        return Ok(());
    }
    let refuse = |why: String| {
        let (path, firmware) = (image.path.clone(), firmware.as_str());
        Err(Refusal::Firmware { path, index, firmware, why })
    };
    if job.request.windows.as_ref().is_none_or(|windows| windows.boot_code.is_none()) {
        return refuse(
            "its boot sectors are Microsoft's, images of files do not hold them, and none were given"
                .to_owned(),
        );
    }
    if disk.size_bytes > MBR_LIMIT_BYTES {
        return refuse(format!(
            "a BIOS starts Windows from disks of at most {MBR_LIMIT_BYTES} bytes, {} has {}",
            disk.name, disk.size_bytes
        ));
    }
    Ok(())
}

/// System, reserved (on GPT), Windows, and recovery directly behind it, where Windows can make either larger.
pub(super) fn partitions(
    firmware: FirmwareMode,
    disk_bytes: u64,
    described: &DescribedImage,
) -> Vec<PlannedPartition> {
    let one = |role, size_bytes, label: &str| PlannedPartition { role, size_bytes, label: label.to_owned() };
    let mut out = match firmware {
        FirmwareMode::Uefi => vec![
            one(PartitionRole::Esp, Some(esp_bytes(disk_bytes)), "EFI system partition"),
            one(PartitionRole::MicrosoftReserved, Some(RESERVED_BYTES), "Microsoft reserved partition"),
        ],
        FirmwareMode::Bios => vec![one(PartitionRole::System, Some(SYSTEM_BYTES), "System")],
    };
    out.push(one(PartitionRole::Windows, None, "Basic data partition"));
    let has_recovery = described.windows.as_ref().is_some_and(|windows| windows.has_recovery);
    if has_recovery && disk_bytes >= RECOVERY_FROM_BYTES {
        out.push(one(PartitionRole::Recovery, Some(RECOVERY_BYTES), "Recovery"));
    }
    out
}

/// What setup would stop at in its middle is refused before anything is written.
pub(super) fn check_name(template: &str, name: &str) -> Result<(), Refusal> {
    gravure_windows::check_computer_name(name).map_err(|_| Refusal::HostName {
        template: template.to_owned(),
        found: name.to_owned(),
        why: format!(
            "Windows takes names of 1 to {} characters, this one has {}",
            gravure_windows::MAX_COMPUTER_NAME,
            name.len()
        ),
    })
}

/// The image is read and serviced before the disk is touched: most of what can go wrong with it goes wrong there.
pub(crate) fn steps(firmware: FirmwareMode, partitions: Vec<PlannedPartition>) -> Vec<Step> {
    let mut steps = vec![
        Step::CheckDisk {},
        Step::ServiceWindows {},
        Step::Prepare { partitions },
        Step::ApplyVolume { partition: PartitionRole::Windows, label: WINDOWS_LABEL.to_owned() },
        Step::InstallWindowsBoot {},
        Step::Verify {},
        Step::WriteTable {},
    ];
    if firmware == FirmwareMode::Uefi {
        steps.push(Step::FirmwareEntry {});
    }
    steps
}

/// What goes into the system.
pub(super) fn planned(
    job: &Job,
    drivers: Vec<PlannedBundle>,
    drivers_anyway: Vec<String>,
    layers: Vec<PlannedBundle>,
) -> PlannedWindows {
    let asked = job.request.windows.clone().unwrap_or_default();
    PlannedWindows {
        drivers_anyway: if asked.drivers == DriverRule::MatchAndModel { drivers_anyway } else { Vec::new() },
        drivers: if asked.drivers == DriverRule::None { Vec::new() } else { drivers },
        publish_drivers: asked.publish_drivers,
        allow_unsigned: asked.allow_unsigned,
        layers,
        facts: asked.facts,
        settings: asked.settings,
        accept_in_use: asked.accept_in_use,
        accept_missing_drivers: asked.accept_missing_drivers,
        boot_code: asked.boot_code,
    }
}
