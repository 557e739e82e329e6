//! What `apply` does where a disk is not the one a block image was made of: another size, other sectors, new identifiers.

use std::path::Path;

use gravure_blockimg::facts::Scope;
use gravure_imaging::{
    BlockApplyOptions, BlockApplyReport, BlockImage, Error, FinishReport, FitOptions, FitPlan, FitReport,
    FittedPartition, Growth, VolumeFile, apply_block_image, apply_volume_anew, finish_file_systems,
    has_to_be_fitted, is_laid_out_anew,
};
use gravure_linux::BlockDevice;
use gravure_model::Ctl;
use gravure_model::event::Observer;
use serde::Serialize;
use uuid::Uuid;

/// What is asked for beside the image itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fit {
    /// File systems take the room that is left.
    pub(super) grow: bool,
    /// Disk and partitions get new identifiers.
    pub(super) new_ids: bool,
    /// Partitions whose blocks have no place are laid out anew, file by file.
    pub(super) by_files: bool,
}

/// What became of partitions.
#[derive(Debug, Default, Serialize)]
pub(super) struct Fitted {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    partitions: Vec<Line>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    renamed: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changed_files: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// What was asked for and is not done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    undone: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Line {
    number: u32,
    content: &'static str,
    offset_bytes: u64,
    size_bytes: u64,
    grown: bool,
    /// Its files were laid out anew, as its blocks had no place.
    laid_out_anew: bool,
    /// Its file system was made smaller.
    made_smaller: bool,
}

impl Fitted {
    fn new(fit: FitReport, finished: FinishReport) -> Self {
        let line = |one: &FittedPartition| Line {
            number: one.number,
            content: one.content.name(),
            offset_bytes: one.to.start,
            size_bytes: one.to.end - one.to.start,
            grown: finished.grown.iter().any(|(number, _)| *number == one.number),
            laid_out_anew: fit.laid_out_anew.contains(&one.number),
            made_smaller: fit.made_smaller.contains(&one.number),
        };
        let changed = fit.changed.into_iter().chain(finished.changed.clone());
        Self {
            partitions: fit.partitions.iter().map(line).collect(),
            renamed: fit.renamed,
            changed_files: changed.map(|(number, path)| format!("partition {number}: {path}")).collect(),
            notes: fit.notes,
            undone: fit.undone.into_iter().chain(finished.undone).collect(),
        }
    }

    /// Nothing but notes: the disk is as the image has it.
    pub(super) fn with_notes(notes: Vec<String>) -> Self {
        Self { notes, ..Self::default() }
    }

    /// Lines for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        self.notes.iter().for_each(|note| text.push_str(&format!("\nnote: {note}")));
        for line in self.partitions.iter().filter(|line| line.grown) {
            text.push_str(&format!(
                "\npartition {}: {} grown to {} bytes",
                line.number, line.content, line.size_bytes
            ));
        }
        self.changed_files.iter().for_each(|file| text.push_str(&format!("\nnew identifiers in {file}")));
        self.undone.iter().for_each(|line| text.push_str(&format!("\nNOT done: {line}")));
        text
    }

    /// How much that was asked for is not done.
    pub(super) fn undone(&self) -> u64 {
        self.undone.len() as u64
    }
}

impl Fit {
    fn is_wanted(self, image: &BlockImage, device: &VolumeFile) -> Result<bool, Error> {
        Ok(self.grow
            || self.new_ids
            || has_to_be_fitted(image, device)?
            || (self.by_files && is_laid_out_anew(image, device)))
    }

    /// Restores `image` onto `device`, which is `target`, as it is or fitted to it.
    pub(super) fn apply(
        self,
        image: &BlockImage,
        device: VolumeFile,
        target: &Path,
        how: &BlockApplyOptions,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<(BlockApplyReport, Fitted), Error> {
        if !self.is_wanted(image, &device)? {
            return Ok((apply_block_image(image, &device, how, ctl, observer)?, Fitted::default()));
        }
        let fit = match image.facts().scope {
            Scope::Disk => {
                let options = FitOptions {
                    growth: if self.grow { Growth::Largest } else { Growth::None },
                    identity: self.new_ids.then(random_seed),
                };
                let plan = match self.by_files {
                    true => FitPlan::new(image, &device, &options)?,
                    false => FitPlan::of_blocks(image, &device, &options)?,
                };
                plan.apply(image, &device, how, ctl, observer)?
            }
            _ if self.by_files && is_laid_out_anew(image, &device) => {
                apply_volume_anew(image, &device, how, ctl, observer)?
            }
            _ => {
                let growth = if self.grow { Growth::Largest } else { Growth::None };
                let whole = FittedPartition::of_volume(image, &device, growth)?;
                let apply = apply_block_image(image, &device, how, ctl, observer)?;
                FitReport { apply, partitions: vec![whole], ..FitReport::default() }
            }
        };
        let is_disk = image.facts().scope == Scope::Disk;
        drop(device);
        let mut finished = FinishReport::default();
        if self.grow || self.new_ids {
            finished = finish_file_systems(target, &fit.partitions, &fit.renamed)?;
        }
        if is_disk && let Ok(disk) = BlockDevice::open_rw(target) {
            // A kernel that keeps the old table in mind says so by itself when somebody looks.
            drop(disk.reread_table());
        }
        let apply = fit.apply.clone();
        Ok((apply, Fitted::new(fit, finished)))
    }
}

fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    seed[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    seed
}
