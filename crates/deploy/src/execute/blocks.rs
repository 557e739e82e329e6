//! Restoring an image of a whole disk: its partitions go where this disk has room, the largest file system fills it, and the system learns who
//! it is. What stands on the disk already is not fetched again, so an interrupted restore goes on where it was.
//!
//! The table is written when every partition was read back and found right; should anything fail afterwards, it is erased again.

use std::sync::Arc;

use gravure_disk::fat::FatVolume;
use gravure_disk::{Partition, guid};
use gravure_imaging::{
    BlockApplyOptions, BlockImage, ExistingData, FitOptions, FitPlan, Growth, Judged, VolumeFile,
    finish_file_systems, hardware_of, is_described_block_image, is_driven_alike, misfits,
};
use gravure_io::Window;
use gravure_linux::{BlockDevice, machine, partition};
use gravure_model::event::Known;
use gravure_model::job::RestoreRequest;

use super::image::from_imaging;
use super::loaders::{self, Loader};
use super::restored::{Judgement, Likeness, judge};
use super::verify::Compared;
use super::{Run, disk};
use crate::failure::{StepError, chain, code};

impl Run<'_> {
    pub(super) fn restore_disk(&mut self, restore: &RestoreRequest, stage: &str) -> Result<u64, StepError> {
        let planned = &self.plan.image;
        let target = self.target()?;
        if !self.plan.disk.wipe && !disk::is_blank(&target.device)? {
            let message =
                format!("{} holds data now, and the plan does not allow destroying it", target.disk.name);
            return Err(StepError::new(code::REFUSED, message).with_cure("make the plan with --wipe"));
        }
        let image = self.machine.images.open_blocks(&planned.path, self.descriptor).map_err(from_imaging)?;
        if !is_described_block_image(&image, self.descriptor) {
            let message = format!(
                "{}: expected the image {}, found {}",
                planned.path,
                self.descriptor.tables,
                image.id()
            );
            return Err(StepError::new(code::INTEGRITY, message)
                .with_cure("the image on the server was changed since it was described: plan again"));
        }
        let judged = self.judge_hardware(&image, restore, stage)?;
        self.layers = self.open_layers()?.map(Arc::new);
        let target = self.target()?;
        partition::delete_all(&target.device)?;
        let path = target.disk.device.clone();
        let device = VolumeFile::open(&path, None).map_err(from_imaging)?;
        let options = fit_options(restore, &self.plan.seed)?;
        let fit = FitPlan::new(&image, &device, &options).map_err(from_imaging)?;
        let layout = fit.layout().cloned();
        let how = BlockApplyOptions {
            stage: stage.to_owned(),
            existing: ExistingData::Destroy,
            ..BlockApplyOptions::default()
        };
        // From here on a failure takes the table away again.
        self.table_written = true;
        let report = fit.apply(&image, &device, &how, self.ctl, self.observer).map_err(from_imaging)?;
        drop(device);
        if let (Some(layout), Some(target)) = (layout, self.target.as_mut()) {
            target.layout = layout;
        }
        self.tell(Known::Transferred {
            stage: stage.to_owned(),
            network_bytes: report.apply.fetched_bytes,
            written_bytes: report.apply.written_bytes,
            kept_bytes: report.apply.kept_bytes,
        });
        // Each was told when it was met.
        self.warnings.extend(report.apply.warnings.iter().cloned());
        judged.odd.iter().for_each(|misfit| self.warn(stage, misfit.to_string()));
        for message in report.notes.iter().cloned() {
            self.tell(Known::Note { stage: Some(stage.to_owned()), message });
        }
        let finished =
            finish_file_systems(&path, &report.partitions, &report.renamed).map_err(from_imaging)?;
        for text in report.undone.iter().chain(&finished.undone) {
            self.warn(stage, text.clone());
        }
        self.target()?.device.reread_table()?;
        self.personalise_restored(&report.partitions, stage)?;
        let bytes = report.apply.verified_bytes;
        self.compared = Some(Compared { files: u64::try_from(self.changes.len()).unwrap_or(0), bytes });
        Ok(bytes)
    }

    /// Whether the systems of the image would start on this machine, with what its Windows gets. Nothing is written by then.
    fn judge_hardware(
        &mut self,
        image: &BlockImage,
        restore: &RestoreRequest,
        stage: &str,
    ) -> Result<Judgement, StepError> {
        let disk = self.target()?.disk.name.clone();
        let here = hardware_of(&machine::collect(&self.machine.roots).inventory, Some(&disk));
        let found = misfits(&Judged::of(image), &here);
        let mut servicing = self.open_servicing()?;
        let foreseen = servicing.foresee(image, self.ctl)?;
        let likeness = match (restore.any_hardware, is_driven_alike(image.facts(), &here)) {
            (true, _) => Likeness::AnyAccepted,
            (false, true) => Likeness::SameController,
            (false, false) => Likeness::Unknown,
        };
        let judged = judge(found, likeness, foreseen, &servicing)?;
        servicing.is_needed = judged.is_needed;
        servicing.accepts_missing = likeness != Likeness::Unknown;
        self.servicing = Some(Arc::new(servicing));
        for misfit in &judged.served {
            let message = format!("{misfit}; Windows gets or has a driver for it");
            self.tell(Known::Note { stage: Some(stage.to_owned()), message });
        }
        for warning in judged.warnings.clone() {
            self.warn(stage, warning);
        }
        Ok(judged)
    }

    /// System partition and loader of the system that was restored.
    pub(super) fn restored_loader(&self) -> Result<(Partition, Loader), StepError> {
        let missing = |what: String| StepError::new(code::NOT_FOUND, what);
        let target = self.target()?;
        let partition = target.layout.partitions.iter().find(|one| one.role.type_guid() == guid::ESP);
        let partition =
            partition.ok_or_else(|| missing("the restored disk has no EFI system partition".to_owned()))?;
        let device = BlockDevice::open_read(&target.disk.device)?;
        let volume = Window::new(&device, partition.range.start, partition.size_bytes());
        let fat = FatVolume::open(&volume).map_err(|error| StepError::new(code::IO, chain(&error)))?;
        let found = loaders::find(&fat, std::env::consts::ARCH);
        let loader = found.map_err(|error| StepError::new(code::IO, chain(&error)))?;
        let loader = loader.ok_or_else(|| {
            missing("no boot loader for this processor was found on the EFI system partition".to_owned())
        })?;
        Ok((partition.clone(), loader))
    }
}

/// What becomes of the image's layout here. Identifiers derive from the plan's seed, so that a restore that goes on has the same.
fn fit_options(restore: &RestoreRequest, seed: &str) -> Result<FitOptions, StepError> {
    let seed = crate::planner::parse_seed(seed)
        .ok_or_else(|| StepError::new(code::REFUSED, "seed of the plan is not 64 hexadecimal digits"))?;
    Ok(FitOptions {
        growth: if restore.grow { Growth::Largest } else { Growth::None },
        identity: restore.new_ids.then_some(seed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_gives_identifiers_of_its_own_and_the_same_when_it_goes_on() {
        let usual = RestoreRequest::default();
        let seed = "ab".repeat(32);
        let options = fit_options(&usual, &seed).unwrap();
        assert_eq!((options.growth, options.identity), (Growth::Largest, Some([0xab; 32])));
        let kept = RestoreRequest { new_ids: false, grow: false, ..usual };
        let options = fit_options(&kept, &seed).unwrap();
        assert_eq!((options.growth, options.identity), (Growth::None, None));
        assert_eq!(fit_options(&kept, "seed").unwrap_err().code, code::REFUSED);
    }
}
