//! `wim apply` onto NTFS volumes: a partition, or a file that holds one. The syntax names a volume that somebody formatted; it is
//! laid out anew with the label, cluster size and place on the disk it has, which is the same for one that is empty. One
//! that holds files is left alone: merging into it is for mounted volumes.

use std::path::Path;

use super::options::Given;
use super::{Console, mistake, unsupported};
use crate::exit::Failure;
use gravure_imaging::{
    Collisions, Compact, ErrorKind, ExistingData, Image, ScanOptions, VolumeApplyOptions, VolumeFile,
    VolumeVerify, apply_to_volume, is_ntfs_volume, volume_info, volume_tree,
};

/// Whether the target is a volume, not a directory.
pub(super) fn is_volume(target: &Path) -> bool {
    is_ntfs_volume(target)
}

/// Applies `image` to the empty volume at `target`; returns what was left out.
pub(super) fn apply(image: &Image, target: &Path, given: &Given, console: &Console) -> Result<u64, Failure> {
    for option in ["unix-data", "recover-data", "wimboot", "compact"] {
        if given.has(option) {
            return Err(unsupported(format!("--{option} with an NTFS volume"))
                .with_cure("`gravure apply` has more choices for volumes, e.g. --compact=always"));
        }
    }
    check_empty(target, console)?;
    let info = volume_info(target)?;
    let boot = info.volume.boot();
    let options = VolumeApplyOptions {
        threads: given.number("threads").map_err(mistake)?,
        label: info.volume.label().clone(),
        cluster_bytes: Some(u32::try_from(boot.cluster_bytes).unwrap_or(u32::MAX)),
        hidden_sectors: boot.hidden_sectors.into(),
        collisions: Collisions::Keep,
        existing: ExistingData::Destroy,
        compact: Compact::Never,
        verify: VolumeVerify::Decode,
        ..VolumeApplyOptions::default()
    };
    let device = VolumeFile::open(target, None)?;
    let report = apply_to_volume(image, &device, &options, &console.ctl, &console.reporter)?;
    for loss in &report.apply.losses {
        console.warn(&format!("not kept by the volume: {} of {} files", loss.what, loss.count));
    }
    report.apply.warnings.iter().for_each(|warning| console.warn(warning));
    Ok(report.apply.skipped)
}

fn check_empty(target: &Path, console: &Console) -> Result<(), Failure> {
    let (tree, _) = volume_tree(target, &ScanOptions::default(), &console.ctl, &console.reporter)?;
    let children = tree.node(tree.root()).children.as_deref().unwrap_or_default();
    let Some(first) = children.first() else { return Ok(()) };
    let found = children.len();
    let message = format!(
        "{}: expected an empty volume, found \"{}\" and {} more",
        target.display(),
        first.name,
        found - 1
    );
    Err(Failure::new(ErrorKind::Refused, message)
        .with_cure("format it first, mount it and apply to the directory, or use `gravure apply --yes`"))
}
