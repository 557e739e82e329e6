//! The files a deployment draws from beside its plan: the image, driver packages, layers.

use std::sync::Arc;

use gravure_imaging::{Bundles, Image, ImageFile, Which};
use gravure_io::ReadAt;
use gravure_model::descriptor::ImageDescriptor;
use gravure_model::plan::{Plan, PlannedBundle};
use gravure_tree::Tree;

use super::Machine;
use super::image::from_imaging;
use crate::failure::{StepError, code};

/// Names and trees of bundles.
type Named = Vec<(String, Tree)>;

/// All of them, opened. Contents of bundles are fetched when something of them goes onto the disk.
pub(super) struct Sources {
    pub(super) file: ImageFile,
    /// The planned image, whose contents and those of bundles come from `file`.
    pub(super) image: Image,
    /// Name and tree of each driver package.
    pub(super) drivers: Named,
    /// The same of each layer, in their order.
    pub(super) layers: Named,
}

impl Sources {
    pub(super) fn open(
        plan: &Plan,
        drivers: &[PlannedBundle],
        layers: &[PlannedBundle],
        descriptor: &ImageDescriptor,
        machine: &Machine,
    ) -> Result<Self, StepError> {
        let path = &plan.image.path;
        let source = open(machine, path, descriptor)?;
        let mut file = ImageFile::open_verified(source, path, descriptor).map_err(from_imaging)?;
        let mut add = |bundles: &[PlannedBundle]| {
            each(machine, bundles, |source, bundle| {
                file.add_bundle(source, &bundle.path, Some(&bundle.descriptor))
            })
        };
        let (drivers, layers) = (add(drivers)?, add(layers)?);
        let index = file.find(&Which::Number(plan.image.index.saturating_add(1))).map_err(from_imaging)?;
        let image = file.image(index).map_err(from_imaging)?;
        Ok(Self { file, image, drivers, layers })
    }
}

/// The bundles alone, for a system that is on a disk.
#[derive(Default)]
pub(super) struct BundleSources {
    pub(super) bundles: Bundles,
    /// Name and tree of each driver package.
    pub(super) drivers: Named,
    /// The same of each layer, in their order.
    pub(super) layers: Named,
}

impl BundleSources {
    pub(super) fn open(
        drivers: &[PlannedBundle],
        layers: &[PlannedBundle],
        machine: &Machine,
    ) -> Result<Self, StepError> {
        let mut bundles = Bundles::default();
        let mut add = |planned: &[PlannedBundle]| {
            each(machine, planned, |source, bundle| {
                bundles.add(source, &bundle.path, Some(&bundle.descriptor))
            })
        };
        let (drivers, layers) = (add(drivers)?, add(layers)?);
        Ok(Self { bundles, drivers, layers })
    }
}

fn open(machine: &Machine, path: &str, descriptor: &ImageDescriptor) -> Result<Arc<dyn ReadAt>, StepError> {
    let source = machine.images.open(path, descriptor);
    source.map_err(|why| StepError::new(code::IO, format!("open {path}: {why}")))
}

fn each(
    machine: &Machine,
    bundles: &[PlannedBundle],
    mut add: impl FnMut(Arc<dyn ReadAt>, &PlannedBundle) -> Result<Tree, gravure_imaging::Error>,
) -> Result<Named, StepError> {
    let trees = bundles.iter().map(|bundle| {
        let source = open(machine, &bundle.path, &bundle.descriptor)?;
        Ok((bundle.name.clone(), add(source, bundle).map_err(from_imaging)?))
    });
    trees.collect()
}
