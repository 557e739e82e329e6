//! `gravure apply` into a virtual disk file: a disk with a GPT and one partition, which becomes the volume.
//!
//! Virtual disks are written front to back, volumes are not: the disk is laid out in a sparse file beside the place first. The partition table comes last,
//! then the finished disk is written in its form, and that file takes its name when it is complete.

use std::path::Path;

use gravure_disk::{DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role, TableImage};
use gravure_imaging::{
    ErrorKind, ExistingData, Image, PartOf, VolumeApplyOptions, VolumeFile, VolumeReport, apply_to_volume,
};
use gravure_model::Ctl;

use super::image::export::{Form, Unfinished, write_disk};
use crate::exit::{Failure, chain};
use crate::progress::Reporter;

/// Sector size of virtual disks when nothing else is asked for.
const SECTOR_BYTES: u32 = 512;
/// Smallest partition that makes sense: a volume has a log and tables of several MiB.
const LEAST_BYTES: u64 = 4 << 20;

/// The form of virtual disk that a name asks for.
pub(super) fn form_of(target: &Path) -> Option<Form> {
    match target.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "vhdx" => Some(Form::Vhdx),
        "qcow2" => Some(Form::Qcow2),
        "vhd" => Some(Form::Vhd),
        _ => None,
    }
}

/// A virtual disk that is to be made.
pub(super) struct DiskFile<'a> {
    pub(super) path: &'a Path,
    pub(super) form: Form,
    /// Bytes of the disk.
    pub(super) size: Option<u64>,
    pub(super) sector_bytes: Option<u32>,
}

impl DiskFile<'_> {
    /// Makes it, with the files of `image`.
    pub(super) fn apply(
        &self,
        image: &Image,
        options: &VolumeApplyOptions,
        ctl: &Ctl,
        reporter: &Reporter,
    ) -> Result<Result<VolumeReport, gravure_imaging::Error>, Failure> {
        let name = self.path.display();
        if self.form == Form::Vhd {
            let message = format!("{name}: VHD files are read, not written");
            return Err(Failure::new(ErrorKind::Unsupported, message).with_cure("take .vhdx or .qcow2"));
        }
        if self.path.exists() && options.existing == ExistingData::Refuse {
            let message = format!("refused: making {name} a virtual disk: it is there already");
            return Err(Failure::new(ErrorKind::Refused, message)
                .with_cure("destroy it with --yes, or choose another target"));
        }
        let Some(size) = self.size else {
            let message = format!("{name}: the size of a new virtual disk is not known");
            return Err(Failure::new(ErrorKind::Usage, message).with_cure(super::apply::SAY_SIZE));
        };
        let sector_bytes = self.sector_bytes.unwrap_or(SECTOR_BYTES);
        if self.form == Form::Qcow2 && sector_bytes != SECTOR_BYTES {
            let message =
                format!("{name}: qcow2 files do not say that their disk has sectors of {sector_bytes} bytes");
            return Err(Failure::new(ErrorKind::Unsupported, message).with_cure("take .vhdx or a raw file"));
        }
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        seed[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        let request = PartitionRequest {
            role: Role::MicrosoftData,
            size: PartitionSize::Rest { at_least: LEAST_BYTES },
            name: "Basic data partition".to_owned(),
        };
        let shape = DiskShape { size_bytes: size, sector_bytes };
        let layout = Layout::compute(shape, &Identity::new(seed), &[request])
            .map_err(|error| Failure::new(ErrorKind::Refused, format!("{name}: {}", chain(&error))))?;
        let range = layout.partitions.first().map_or(0..0, |partition| partition.range.clone());

        let unfinished = Unfinished::beside(self.path)?;
        let raw = unfinished.path.with_extension("disk");
        let disk = VolumeFile::open(&raw, Some(size))?.with_sector_bytes(sector_bytes)?;
        let partition = PartOf::new(&disk, &range, "the partition");
        let report = match apply_to_volume(image, &partition, options, ctl, reporter) {
            Ok(report) => report,
            Err(error) => return Ok(Err(error)),
        };
        let table = TableImage::new(&layout, None);
        let written = table.write(&disk).and_then(|()| table.verify(&disk));
        written.map_err(|error| Failure::new(ErrorKind::Io, format!("{name}: {}", chain(&error))))?;
        write_disk(&disk, sector_bytes, self.form, &unfinished.path, self.path, ctl)?;
        unfinished.finish(self.path)?;
        Ok(Ok(report))
    }
}
