//! Plans for images of whole disks: the image brings its partitions, so there is nothing to lay out or format.

use gravure_model::descriptor::{DescribedImage, ImageDescriptor};
use gravure_model::inventory::FirmwareMode;
use gravure_model::plan::{PlannedDisk, Step};

use super::Refusal;
use super::target::describe_parts;

/// Whether a descriptor is that of a block image.
pub(super) fn is_block_image(descriptor: &ImageDescriptor) -> bool {
    descriptor.format == gravure_imaging::BLOCK_FORMAT
}

/// The steps. Whether the partitions fit is known when the image's table was read; its content must fit in any case.
pub(super) fn steps(
    described: &DescribedImage,
    disk: &PlannedDisk,
    firmware: FirmwareMode,
) -> Result<Vec<Step>, Refusal> {
    if described.content_bytes > disk.size_bytes {
        let disk = describe_parts(&disk.name, disk.model.as_deref(), disk.serial.as_deref(), disk.size_bytes);
        let (wanted_bytes, available_bytes) = (described.content_bytes, 0);
        return Err(Refusal::TooSmall { disk, wanted_bytes, available_bytes });
    }
    let mut steps = vec![Step::CheckDisk {}, Step::RestoreDisk {}];
    if firmware == FirmwareMode::Uefi {
        steps.push(Step::FirmwareEntry {});
    }
    Ok(steps)
}
