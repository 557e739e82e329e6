//! Mounting the new volume and filling it with the image.

use gravure_imaging::{ApplyOptions, Image};
use gravure_linux::mount::{self, MountOptions};
use gravure_model::plan::PartitionRole;

use super::Run;
use crate::failure::{StepError, chain, code};

impl Run<'_> {
    pub(super) fn apply(&mut self, role: PartitionRole, stage: &str) -> Result<u64, StepError> {
        let image = match self.image.take() {
            Some(serviced) => serviced,
            None => self.open_image()?,
        };
        self.mount(role, MountOptions::default())?;
        let options = ApplyOptions { stage: stage.to_owned(), ..ApplyOptions::default() };
        let report = gravure_imaging::apply_to_directory(
            &image,
            &self.machine.mount_point,
            &options,
            self.ctl,
            self.observer,
        )
        .map_err(from_imaging)?;
        for warning in report.warnings {
            self.warn(stage, warning);
        }
        self.image = Some(image);
        Ok(report.bytes)
    }

    fn open_image(&self) -> Result<Image, StepError> {
        let planned = &self.plan.image;
        let source = self.machine.images.open(&planned.path, self.descriptor);
        let source =
            source.map_err(|why| StepError::new(code::IO, format!("open {}: {why}", planned.path)))?;
        Image::open(source, planned.index).map_err(from_imaging)
    }

    pub(super) fn mount(&mut self, role: PartitionRole, options: MountOptions<'_>) -> Result<(), StepError> {
        let device = self.partition_device(role)?;
        mount::mount(device.as_os_str(), &self.machine.mount_point, "ext4", options)?;
        self.mounted = true;
        Ok(())
    }

    pub(super) fn unmount(&mut self) -> Result<(), StepError> {
        mount::unmount(&self.machine.mount_point)?;
        self.mounted = false;
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn from_imaging(error: gravure_imaging::Error) -> StepError {
    let code = error.kind().exit_code();
    let failure = StepError::new(code, chain(&error));
    match code {
        code::INTEGRITY => failure.with_cure(
            "the image on the server is damaged or was changed since it was described: import it again",
        ),
        _ => failure,
    }
}

impl From<gravure_imaging::Error> for StepError {
    fn from(error: gravure_imaging::Error) -> Self {
        from_imaging(error)
    }
}
