//! The files a Windows deployment draws from: the image, driver packages, layers.

use gravure_imaging::{Image, ImageFile, Which};
use gravure_model::descriptor::ImageDescriptor;
use gravure_model::plan::{Plan, PlannedBundle, PlannedWindows};
use gravure_tree::Tree;

use crate::execute::Machine;
use crate::execute::image::from_imaging;
use crate::failure::{StepError, code};

/// All of them, opened. Contents of bundles are fetched when something of them goes onto the disk.
pub(super) struct Sources {
    pub(super) file: ImageFile,
    /// The planned image, whose contents and those of bundles come from `file`.
    pub(super) image: Image,
    /// Name and tree of each driver package.
    pub(super) drivers: Vec<(String, Tree)>,
    /// The same of each layer, in their order.
    pub(super) layers: Vec<(String, Tree)>,
}

impl Sources {
    pub(super) fn open(
        plan: &Plan,
        planned: &PlannedWindows,
        descriptor: &ImageDescriptor,
        machine: &Machine,
    ) -> Result<Self, StepError> {
        let open = |path: &str, descriptor: &ImageDescriptor| {
            let source = machine.images.open(path, descriptor);
            source.map_err(|why| StepError::new(code::IO, format!("open {path}: {why}")))
        };
        let path = &plan.image.path;
        let mut file =
            ImageFile::open_verified(open(path, descriptor)?, path, descriptor).map_err(from_imaging)?;
        let mut add = |bundles: &[PlannedBundle]| {
            let trees = bundles.iter().map(|bundle| {
                let source = open(&bundle.path, &bundle.descriptor)?;
                let tree =
                    file.add_bundle(source, &bundle.path, Some(&bundle.descriptor)).map_err(from_imaging)?;
                Ok((bundle.name.clone(), tree))
            });
            trees.collect::<Result<Vec<_>, StepError>>()
        };
        let (drivers, layers) = (add(&planned.drivers)?, add(&planned.layers)?);
        let index = file.find(&Which::Number(plan.image.index.saturating_add(1))).map_err(from_imaging)?;
        let image = file.image(index).map_err(from_imaging)?;
        Ok(Self { file, image, drivers, layers })
    }
}
