//! The image of one volume onto a device that is too small for its blocks, or has sectors of another size: its files are laid out anew, or
//! blocks moved.

use std::sync::Arc;

use gravure_blockimg::facts::Scope;
use gravure_disk::transfer::Placed;
use gravure_fsmap::Kind;
use gravure_model::Ctl;
use gravure_model::event::Observer;

use super::anew::{Anew, Files};
use super::device::Relocated;
use super::{FitReport, FittedPartition};
use crate::block::apply::{BlockApplyOptions, BlockApplyReport, BlockVerify, apply_parts, refuse_data};
use crate::block::at::BlockImageAt;
use crate::block::image::BlockImage;
use crate::volume::{ExistingData, VolumeDevice};
use crate::{Error, ErrorKind};

/// Why the blocks of an image cannot stand on a device; nothing when they can.
fn obstacle(image: &BlockImage, device: &dyn VolumeDevice) -> Option<String> {
    let (root, size) = (image.root(), device.size());
    if device.size() < root.size {
        return Some(format!("its blocks reach over {} bytes and there is room for {size}", root.size));
    }
    let (old, new) = (root.sector_bytes, device.sector_bytes());
    (old != new).then(|| format!("it was made for sectors of {old} bytes, the target has {new}"))
}

fn kind(image: &BlockImage) -> Option<Kind> {
    let volume = image.facts().volumes.first()?;
    let known =
        [Kind::Ntfs, Kind::Fat16, Kind::Fat32, Kind::Ext2, Kind::Ext3, Kind::Ext4, Kind::Xfs, Kind::Btrfs];
    known.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(&volume.content))
}

/// Whether `image` is one of a volume whose blocks cannot stand on `device` where they were, but whose files may.
pub fn is_laid_out_anew(image: &BlockImage, device: &dyn VolumeDevice) -> bool {
    let is_possible = match kind(image) {
        Some(Kind::Ext2 | Kind::Ext3 | Kind::Ext4 | Kind::Xfs | Kind::Btrfs) => {
            image.root().sector_bytes == device.sector_bytes()
        }
        other => other.is_some(),
    };
    image.facts().scope == Scope::Volume && is_possible && obstacle(image, device).is_some()
}

/// Makes `device` a volume with the files of the one that `image` was made of. NTFS, FAT and XFS are none before everything on it was written and checked.
pub fn apply_volume_anew(
    image: &BlockImage,
    device: &dyn VolumeDevice,
    options: &BlockApplyOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<FitReport, Error> {
    let refuse =
        |why: String| Error::Refused { what: format!("applying {} to {}", image.name(), device.name()), why };
    let content = kind(image).ok_or_else(|| refuse("its files cannot be laid out anew".to_owned()))?;
    let why = obstacle(image, device).unwrap_or_else(|| "that was asked for".to_owned());
    let read = Arc::new(BlockImageAt::new(image.clone()));
    let size = image.root().size;
    let files = Files::open(&read, 0, &(0..size), content, ctl)?;
    let least = files.least_bytes(device.sector_bytes()).map_err(|error| {
        let kind = match error.kind() {
            ErrorKind::Failed | ErrorKind::Usage => ErrorKind::Refused,
            other => other,
        };
        Error::Other {
            what: format!("{}: {why}, and it cannot be laid out anew", image.name()),
            source: error.into(),
            kind,
        }
    })?;
    if least > device.size() {
        return Err(refuse(format!("{why}; its files need {least} bytes")));
    }
    if options.existing == ExistingData::Refuse && !options.is_blank {
        refuse_data(device)?;
    }
    let anew = Anew { number: 0, files, why };
    let mut apply = BlockApplyReport {
        size_bytes: device.size(),
        is_verified: options.verify == BlockVerify::Full,
        unreadable_bytes: image.root().outcome.unreadable_bytes,
        ..BlockApplyReport::default()
    };
    let keeps_blocks = anew.files.keeps_blocks();
    if keeps_blocks {
        // What fits is restored as it is; the rest is moved behind that.
        let placed = [Placed { number: 0, from: 0..size, to: 0..device.size() }];
        let view = Relocated::new(device, size, image.root().sector_bytes, &placed);
        let inner = BlockApplyOptions { existing: ExistingData::Destroy, ..options.clone() };
        apply =
            apply_parts(image, &view, &inner, std::slice::from_ref(&(device.size()..size)), ctl, observer)?;
    }
    let outcome = anew.write(device, &(0..device.size()), options, ctl, observer)?;
    if !keeps_blocks {
        apply.data_bytes = outcome.written_bytes;
    }
    let mut notes = vec![anew.note()];
    notes.extend(outcome.notes.iter().cloned());
    apply.add(&outcome);
    let whole = FittedPartition { number: 0, content, from: 0..size, to: 0..device.size(), grows: false };
    let (laid_out_anew, made_smaller) = if keeps_blocks { (vec![], vec![0]) } else { (vec![0], vec![]) };
    let partitions = vec![whole];
    Ok(FitReport { apply, partitions, laid_out_anew, made_smaller, notes, ..FitReport::default() })
}
