//! What is different about Linux: of what a job may put into a system it takes layers alone.

use std::collections::BTreeMap;

use gravure_model::job::Job;
use gravure_model::plan::{PlannedBundle, PlannedLinux, Step};

use super::{CatalogImage, Refusal};

/// A Linux image takes nothing else of what a job may say for Windows.
pub(super) fn check_unwanted(image: &CatalogImage, index: u32, job: &Job) -> Result<(), Refusal> {
    let Some(windows) = &job.request.windows else { return Ok(()) };
    let unwanted = [
        (windows.settings.is_some(), "answer file"),
        (windows.publish_drivers, "Windows drivers"),
        (windows.boot_code.is_some(), "boot code of Windows"),
    ];
    match unwanted.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, what)) => Err(Refusal::NotForLinux { path: image.path.clone(), index, what }),
        None => Ok(()),
    }
}

/// What goes into the system; `None` when that is nothing.
pub(super) fn planned(layers: Vec<PlannedBundle>, facts: BTreeMap<String, String>) -> Option<PlannedLinux> {
    (!layers.is_empty()).then_some(PlannedLinux { layers, facts })
}

/// Layers are put in before the disk is touched: what can go wrong with them goes wrong there.
pub(super) fn add_step(steps: &mut Vec<Step>) {
    let first = steps.iter().take_while(|step| matches!(step, Step::CheckDisk {})).count();
    steps.insert(first, Step::ServiceLinux {});
}
