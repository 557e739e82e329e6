//! Plans for images of whole disks: the image brings its partitions, so there is nothing to lay out or format.

use gravure_model::descriptor::{DescribedImage, ImageDescriptor};
use gravure_model::inventory::FirmwareMode;
use gravure_model::job::{Job, RestoreRequest};
use gravure_model::plan::{PlannedDisk, Step};

use super::target::describe_parts;
use super::{CatalogImage, Refusal};

/// Whether a descriptor is that of a block image.
pub(super) fn is_block_image(descriptor: &ImageDescriptor) -> bool {
    descriptor.format == gravure_imaging::BLOCK_FORMAT
}

/// What a disk has of itself is not given to it. All else that a job may say for Windows is put into the one that stands on the disk.
pub(super) fn check_unwanted(image: &CatalogImage, job: &Job) -> Result<(), Refusal> {
    match job.request.windows.as_ref().is_some_and(|windows| windows.boot_code.is_some()) {
        true => Err(Refusal::NotForDisk { path: image.path.clone(), what: "boot code" }),
        false => Ok(()),
    }
}

/// The steps. What the image's partitions need at least was worked out when it was described; descriptors of earlier versions say only how
/// much content there is, and the machine finds out the rest.
pub(super) fn steps(
    described: &DescribedImage,
    disk: &PlannedDisk,
    firmware: FirmwareMode,
    restore: RestoreRequest,
) -> Result<Vec<Step>, Refusal> {
    let wanted_bytes = described.least_disk_bytes.unwrap_or(described.content_bytes);
    if wanted_bytes > disk.size_bytes {
        let available_bytes = disk.size_bytes;
        let disk = describe_parts(&disk.name, disk.model.as_deref(), disk.serial.as_deref(), disk.size_bytes);
        return Err(Refusal::TooSmall { disk, wanted_bytes, available_bytes });
    }
    let mut steps = vec![Step::CheckDisk {}, Step::RestoreDisk { restore }];
    if firmware == FirmwareMode::Uefi {
        steps.push(Step::FirmwareEntry {});
    }
    Ok(steps)
}
