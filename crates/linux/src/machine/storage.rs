//! Disks as the inventory has them.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use gravure_model::inventory::Disk;
use gravure_probe::content;

use crate::disks::{self, Roots, Transport};
use crate::sysfs;

/// SCSI peripheral type of CD and DVD drives.
const SCSI_TYPE_CD: u64 = 5;

/// All disks: no loop, RAM or device-mapper disks, no CD drives, no floppies, no empty card readers, no eMMC boot areas.
pub(super) fn disks(roots: &Roots, warnings: &mut Vec<String>) -> Vec<Disk> {
    let found = disks::disks(roots).unwrap_or_else(|error| {
        warnings.push(error.to_string());
        Vec::new()
    });
    let mut out = Vec::new();
    for disk in found {
        let class = roots.sys.join("class/block").join(&disk.name);
        let optical = sysfs::number(&class.join("device/type")) == Some(SCSI_TYPE_CD);
        if is_none(&disk) || optical || disk.size_bytes == 0 {
            continue;
        }
        let in_use = disks::uses(roots, &disk).map_or_else(
            // Unknown is not free.
            |error| vec![format!("cannot be told: {error}")],
            |uses| uses.iter().map(ToString::to_string).collect(),
        );
        let mut content: Vec<String> = start_of(&disk.device).into_iter().map(str::to_owned).collect();
        for partition in &disk.partitions {
            let device = roots.dev.join(&partition.name);
            content.extend(start_of(&device).iter().map(|what| format!("{}: {what}", partition.name)));
        }
        out.push(Disk {
            name: disk.name,
            model: disk.model,
            serial: disk.serial,
            wwn: disk.wwid,
            size_bytes: disk.size_bytes,
            logical_sector_bytes: disk.logical_sector_bytes,
            physical_sector_bytes: disk.physical_sector_bytes,
            rotational: disk.rotational,
            removable: disk.removable,
            read_only: disk.read_only,
            transport: word(disk.transport).map(str::to_owned),
            in_use,
            content,
        });
    }
    out
}

/// What the kernel lists among disks and is none: loops, floppies, boot areas of eMMC.
pub(super) fn is_none(disk: &disks::Disk) -> bool {
    let boot_area =
        disk.name.strip_prefix("mmcblk").is_some_and(|rest| rest.contains("boot") || rest.contains("rpmb"));
    disk.transport == Transport::Virtual || disk.name.starts_with("fd") || boot_area
}

fn word(transport: Transport) -> Option<&'static str> {
    match transport {
        Transport::Nvme => Some("nvme"),
        Transport::Ata => Some("sata"),
        Transport::Virtio => Some("virtio"),
        Transport::Usb => Some("usb"),
        Transport::Mmc => Some("mmc"),
        Transport::Scsi => Some("scsi"),
        Transport::Virtual | Transport::Other => None,
    }
}

/// What stands at the start of a device; nothing when it cannot be read.
fn start_of(device: &Path) -> Vec<&'static str> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(content::WANTED_BYTES).unwrap_or(u64::MAX);
    // A device that fails half way has still shown its first sectors.
    let _ = File::open(device).map(|file| file.take(limit).read_to_end(&mut bytes));
    content::recognise(&bytes)
}
