//! Packages for the devices of a machine, ranked as Windows does.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use gravure_inf::{DeviceIds, Inf, Rank, Signer, Target};
use gravure_model::inventory::Device;
use serde::Serialize;

use super::manifest::Manifest;
use super::packages::Packages;
use super::repository::Repository;
use crate::Error;

/// A package that fits a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Id of the package.
    pub package: String,
    /// Its INF file.
    pub inf: String,
    /// How well it fits.
    pub rank: Rank,
    /// The ID that matched.
    pub matching_id: String,
    /// Name of the device by the package.
    pub description: String,
    /// Install section.
    pub install: String,
    /// An extension goes beside the driver, not in its place.
    pub extension: bool,
    /// The boot loader must load something of it.
    pub boot_critical: bool,
    /// Date of the driver.
    pub date: Option<String>,
    /// Version of the driver.
    pub driver_version: Option<String>,
}

/// A device and the packages for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceMatch {
    /// The device.
    pub device: Device,
    /// Packages, best first: the first that is no extension is the driver that Windows would take.
    pub candidates: Vec<Candidate>,
}

impl DeviceMatch {
    /// What Windows would install: one driver and all extensions.
    pub fn chosen(&self) -> impl Iterator<Item = &Candidate> {
        let driver = self.candidates.iter().find(|candidate| !candidate.extension);
        driver.into_iter().chain(self.candidates.iter().filter(|candidate| candidate.extension))
    }
}

impl Repository {
    /// As [`matches`] for a repository.
    pub fn matches(&self, devices: &[Device], target: &Target) -> Result<Vec<DeviceMatch>, Error> {
        matches(self, devices, target)
    }
}

/// Packages for each of `devices` on `target`. Devices without any are there with an empty list.
pub fn matches(
    packages: &dyn Packages,
    devices: &[Device],
    target: &Target,
) -> Result<Vec<DeviceMatch>, Error> {
    let mut loaded: HashMap<String, (Manifest, Inf)> = HashMap::new();
    let mut out = Vec::new();
    for device in devices {
        let ids =
            DeviceIds { hardware: device.hardware_ids.clone(), compatible: device.compatible_ids.clone() };
        let names: BTreeSet<String> =
            ids.hardware.iter().chain(&ids.compatible).flat_map(|id| packages.candidates(id)).collect();
        let mut candidates = Vec::new();
        for name in names {
            if !loaded.contains_key(&name) {
                loaded.insert(name.clone(), packages.load(&name)?);
            }
            let Some((manifest, inf)) = loaded.get(&name) else { continue };
            // What lacks files for this processor cannot be installed on it.
            if !manifest.architectures.iter().any(|arch| arch == target.arch.as_str()) {
                continue;
            }
            let Some(best) = inf.matches(&ids, target, Signer::Trusted).into_iter().next() else {
                continue;
            };
            let version = inf.version();
            let order = (best.rank, Reverse((version.date, version.version)), name.clone());
            let install = inf.install(&best.model, target);
            candidates.push((
                order,
                Candidate {
                    package: name,
                    inf: manifest.inf.clone(),
                    rank: best.rank,
                    matching_id: best.id,
                    description: best.model.description,
                    install: best.model.install,
                    extension: manifest.extension,
                    boot_critical: install.is_some_and(|install| install.is_boot_critical()),
                    date: manifest.date.clone(),
                    driver_version: manifest.driver_version.clone(),
                },
            ));
        }
        candidates.sort_by(|(a, _), (b, _)| a.cmp(b));
        let candidates = candidates.into_iter().map(|(_, candidate)| candidate).collect();
        out.push(DeviceMatch { device: device.clone(), candidates });
    }
    Ok(out)
}
