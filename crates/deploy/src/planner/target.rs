//! Which disk is written, or read. In doubt none: a wrong disk is the one mistake nobody can take back.

use gravure_model::inventory::{Disk, FirmwareMode, Inventory};
use gravure_model::job::{DiskRule, Job};
use gravure_model::plan::PlannedDisk;

use super::Refusal;

/// What happens with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Written,
    Read,
}

/// Finds the disk that the job's rule means, to be written.
pub(super) fn choose(
    job: &Job,
    inventory: &Inventory,
    firmware: FirmwareMode,
) -> Result<PlannedDisk, Refusal> {
    let disk = find(job, inventory, Use::Written)?;
    if firmware == FirmwareMode::Bios && disk.logical_sector_bytes != 512 {
        let (disk, sector_bytes) = (describe(disk), disk.logical_sector_bytes);
        return Err(Refusal::SectorSize { disk, sector_bytes, firmware: firmware.as_str() });
    }
    if !disk.content.is_empty() && !job.request.wipe {
        return Err(Refusal::HoldsData { disk: describe(disk), content: disk.content.join(", ") });
    }
    Ok(planned(disk, job.request.wipe))
}

/// Finds the disk that the job's rule means, to be read.
pub(super) fn choose_source(job: &Job, inventory: &Inventory) -> Result<PlannedDisk, Refusal> {
    Ok(planned(find(job, inventory, Use::Read)?, false))
}

fn planned(disk: &Disk, wipe: bool) -> PlannedDisk {
    PlannedDisk {
        name: disk.name.clone(),
        model: disk.model.clone(),
        serial: disk.serial.clone(),
        size_bytes: disk.size_bytes,
        logical_sector_bytes: disk.logical_sector_bytes,
        wipe,
    }
}

fn find<'a>(job: &Job, inventory: &'a Inventory, purpose: Use) -> Result<&'a Disk, Refusal> {
    let rule = &job.request.disk;
    let judged = inventory.disks.iter().map(|disk| (disk, objection(disk, rule, purpose)));
    let (free, refused): (Vec<_>, Vec<_>) = judged.partition(|(_, objection)| objection.is_none());
    let mut candidates: Vec<&Disk> = free.into_iter().map(|(disk, _)| disk).collect();
    match rule {
        DiskRule::Smallest => candidates.sort_by_key(|disk| disk.size_bytes),
        DiskRule::Largest => candidates.sort_by_key(|disk| std::cmp::Reverse(disk.size_bytes)),
        DiskRule::Only | DiskRule::Serial { .. } | DiskRule::Name { .. } => {}
    }
    let by_size = matches!(rule, DiskRule::Smallest | DiskRule::Largest);
    match candidates.as_slice() {
        [] => {
            let reasons = refused
                .iter()
                .map(|(disk, why)| format!("{}: {}", describe(disk), why.as_deref().unwrap_or_default()));
            Err(Refusal::NoDisk { reasons: reasons.collect() })
        }
        [disk] => Ok(disk),
        // Two disks of one size are no answer to "the smallest".
        [first, second, ..] if by_size && first.size_bytes != second.size_bytes => Ok(first),
        several => Err(Refusal::ManyDisks { disks: several.iter().map(|disk| describe(disk)).collect() }),
    }
}

/// Why this disk is not taken under this rule; `None` when it may be.
fn objection(disk: &Disk, rule: &DiskRule, purpose: Use) -> Option<String> {
    let named = match rule {
        DiskRule::Serial { serial } => Some(disk.serial.as_ref() == Some(serial)),
        DiskRule::Name { name } => Some(disk.name == *name),
        DiskRule::Only | DiskRule::Smallest | DiskRule::Largest => None,
    };
    match named {
        Some(false) => return Some("not the disk that is named".into()),
        None if disk.removable => return Some("removable".into()),
        None if disk.transport.as_deref() == Some("usb") => return Some("attached by USB".into()),
        _ => {}
    }
    if disk.size_bytes == 0 {
        return Some("no medium".into());
    }
    if disk.read_only && purpose == Use::Written {
        return Some("write-protected".into());
    }
    (!disk.in_use.is_empty()).then(|| format!("in use ({})", disk.in_use.join(", ")))
}

/// A disk as a person knows it: model, serial number, size.
pub(crate) fn describe(disk: &Disk) -> String {
    describe_parts(&disk.name, disk.model.as_deref(), disk.serial.as_deref(), disk.size_bytes)
}

/// The same from a plan.
pub(crate) fn describe_parts(
    name: &str,
    model: Option<&str>,
    serial: Option<&str>,
    size_bytes: u64,
) -> String {
    let model = model.unwrap_or("unknown model");
    let serial = serial.map_or_else(|| "no serial number".to_owned(), |serial| format!("serial {serial}"));
    // Decimal gigabytes with one digit, as on the label.
    let tenths = size_bytes / 100_000_000;
    format!("{name} ({model}, {serial}, {}.{} GB)", tenths / 10, tenths % 10)
}
