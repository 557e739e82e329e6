//! What tests of file systems that the kernel moves or fills share: a disk around a volume.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;

use gravure_disk::{DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role, TableImage};
use gravure_imaging::{BlockImage, FitReport, VolumeDevice, VolumeFile, apply_volume_anew, is_laid_out_anew};
use gravure_io::{FileAt, ReadAt, WriteAt};
use gravure_model::Ctl;
use gravure_model::event::Silent;

use crate::block_fit::options;

const MIB: u64 = 1 << 20;

/// Makes `disk` with the volume as its second and last partition, which has its size.
pub(crate) fn put_on_disk(volume: &Path, disk: &Path) {
    let bytes = FileAt::open(volume).unwrap();
    let size = bytes.size();
    let request =
        |role, bytes| PartitionRequest { role, size: PartitionSize::Bytes(bytes), name: "p".into() };
    let requests = [request(Role::Esp, 34 * MIB), request(Role::LinuxRoot, size)];
    let shape = DiskShape { size_bytes: size + 40 * MIB, sector_bytes: 512 };
    let layout = Layout::compute(shape, &Identity::new([1; 32]), &requests).unwrap();
    fs::File::create(disk).unwrap().set_len(shape.size_bytes).unwrap();
    let file = VolumeFile::open(disk, None).unwrap();
    let start = layout.partitions[1].range.start;
    for at in (0..size).step_by(1 << 20) {
        let piece = bytes.read_vec_at(at, 1 << 20).unwrap();
        if piece.iter().any(|byte| *byte != 0) {
            file.write_all_at(start + at, &piece).unwrap();
        }
    }
    TableImage::new(&layout, None).write(&file).unwrap();
}

/// Restores the image of a volume that has no room for its blocks on `device`.
pub(crate) fn apply(
    image: &BlockImage,
    device: &dyn VolumeDevice,
) -> Result<FitReport, gravure_imaging::Error> {
    assert!(is_laid_out_anew(image, device));
    apply_volume_anew(image, device, &options(), &Ctl::default(), &Silent)
}
