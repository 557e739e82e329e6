//! `wim apply` onto NTFS volumes: a partition, or a file that holds one. The syntax names a volume that somebody formatted; it is
//! laid out anew with the label, cluster size and place on the disk it has, which is the same for one that is empty. One
//! that holds files is left alone: merging into it is for mounted volumes.

use std::path::Path;

use super::options::Given;
use super::{Console, mistake, unsupported};
use crate::exit::Failure;
use gravure_imaging::{
    Collisions, Compact, DamagedContent, ErrorKind, ExistingData, Image, ScanOptions, VolumeApplyOptions,
    VolumeFile, VolumeVerify, apply_to_volume, is_ntfs_volume, volume_info, volume_tree,
};
use gravure_nttypes::FileAttributes;
use gravure_tree::NodeId;

/// Whether the target is a volume, not a directory.
pub(super) fn is_volume(target: &Path) -> bool {
    is_ntfs_volume(target)
}

/// Applies `image` to the empty volume at `target`; returns what was left out.
pub(super) fn apply(image: &Image, target: &Path, given: &Given, console: &Console) -> Result<u64, Failure> {
    for option in ["unix-data", "include-invalid-names", "wimboot", "compact"] {
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
        damaged: if given.has("recover-data") { DamagedContent::Keep } else { DamagedContent::Refuse },
        ..VolumeApplyOptions::default()
    };
    let plain = without(image, given);
    let image = plain.as_ref().unwrap_or(image);
    let device = VolumeFile::open(target, None)?;
    let report = apply_to_volume(image, &device, &options, &console.ctl, &console.reporter)?;
    for loss in &report.apply.losses {
        console.warn(&format!("not kept by the volume: {} of {} files", loss.what, loss.count));
    }
    report.apply.warnings.iter().for_each(|warning| console.warn(warning));
    Ok(report.apply.skipped)
}

/// The image without what is not to be restored; `None` when all of it is. Every descriptor and attribute is set as the image says or
/// the apply fails, which is all that --strict-acls asks for.
fn without(image: &Image, given: &Given) -> Option<Image> {
    let (no_acls, no_attributes) = (given.has("no-acls"), given.has("no-attributes"));
    if !no_acls && !no_attributes {
        return None;
    }
    let mut tree = image.tree().clone();
    let nodes: Vec<NodeId> = tree.walk().map(|step| step.entry.node).chain([tree.root()]).collect();
    for id in nodes {
        let node = tree.node_mut(id);
        if no_acls {
            node.security = None;
        }
        if no_attributes {
            let kind = FileAttributes::DIRECTORY | FileAttributes::REPARSE_POINT;
            node.attributes = FileAttributes(node.attributes.0 & kind.0);
        }
    }
    Some(image.with_tree(tree))
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
