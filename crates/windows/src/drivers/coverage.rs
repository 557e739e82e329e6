//! Coverage: what would serve the devices of many machines, told before anything is written anywhere.

use gravure_inf::{DeviceIds, Target};
use gravure_model::inventory::{Device, Inventory};
use serde::Serialize;

use super::inject::is_better;
use super::repository::Repository;
use crate::Error;
use crate::image::WindowsImage;

/// What serves a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "by", content = "inf")]
pub enum Cover {
    /// Windows itself.
    Inbox(String),
    /// A package of the repository.
    Repository(String),
    /// Nothing.
    Missing,
}

/// A device of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Maker and model.
    pub model: String,
    /// The device.
    pub device: Device,
    /// What serves it.
    pub covered: Cover,
}

/// Says for each device of each model what serves it: machines of one model count once. Without an image everything that
/// is not in the repository counts as missing.
pub fn coverage(
    mut image: Option<&mut WindowsImage<'_>>,
    repository: &Repository,
    machines: &[Inventory],
    target: &Target,
) -> Result<Vec<Coverage>, Error> {
    let mut out: Vec<Coverage> = Vec::new();
    for machine in machines {
        let model = model_of(machine);
        for found in repository.matches(&machine.devices, target)? {
            let device = found.device;
            // A disk that says nothing of itself: no driver could name it.
            if device.hardware_ids.is_empty() && device.compatible_ids.is_empty() {
                continue;
            }
            let known = |row: &Coverage| row.model == model && row.device.hardware_ids == device.hardware_ids;
            if out.iter().any(known) {
                continue;
            }
            let best = found.candidates.iter().find(|candidate| !candidate.extension);
            let inbox = match &mut image {
                None => None,
                Some(image) => {
                    let (hardware, compatible) = (device.hardware_ids.clone(), device.compatible_ids.clone());
                    let drivers = image.drivers_for(&DeviceIds { hardware, compatible })?;
                    drivers.into_iter().find(|driver| !driver.extension)
                }
            };
            let covered = match (best, inbox) {
                (Some(best), Some(inbox)) if !is_better(best, &inbox) => Cover::Inbox(inbox.inf),
                (Some(best), _) => Cover::Repository(best.inf.clone()),
                (None, Some(inbox)) => Cover::Inbox(inbox.inf),
                (None, None) => Cover::Missing,
            };
            out.push(Coverage { model: model.clone(), device, covered });
        }
    }
    Ok(out)
}

fn model_of(machine: &Inventory) -> String {
    let system = &machine.smbios.system;
    let parts: Vec<&str> =
        [&system.manufacturer, &system.product].into_iter().filter_map(|part| part.as_deref()).collect();
    if parts.is_empty() { "unknown model".to_owned() } else { parts.join(" ") }
}
