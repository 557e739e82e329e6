//! Packages for the devices of a machine, ranked as Windows does.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use gravure_inf::{DeviceIds, Inf, Rank, Signer, Target};
use gravure_model::inventory::Device;
use serde::Serialize;

use super::inject::Unsigned;
use super::manifest::Manifest;
use super::packages::Packages;
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
    /// `ExtensionId`: of extensions with one id Windows takes the best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension_id: Option<String>,
    /// Hardware IDs of software components that Windows makes below the device for it, `SWC\...`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
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
    /// What Windows would install: one driver and the best extension of each `ExtensionId`.
    pub fn chosen(&self) -> impl Iterator<Item = &Candidate> {
        self.driver().into_iter().chain(self.extensions())
    }

    /// The best that is no extension.
    pub fn driver(&self) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| !candidate.extension)
    }

    /// The best extension of each `ExtensionId`, and those without one.
    pub fn extensions(&self) -> impl Iterator<Item = &Candidate> {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let all = self.candidates.iter().filter(|candidate| candidate.extension);
        all.filter(move |candidate| candidate.extension_id.as_deref().is_none_or(|id| seen.insert(id)))
    }
}

/// Most software components followed for a device: those of components too.
const MAX_COMPONENTS: usize = 64;

/// What Windows makes below `device` for its driver and extensions, `chosen`, and for what is made for these in turn.
pub fn components(
    packages: &dyn Packages,
    device: &Device,
    chosen: &[&Candidate],
    target: &Target,
    unsigned: Unsigned,
) -> Result<Vec<DeviceMatch>, Error> {
    let mut wanted: Vec<String> = chosen.iter().flat_map(|candidate| candidate.components.clone()).collect();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut out = Vec::new();
    while let Some(id) = wanted.pop() {
        if seen.len() >= MAX_COMPONENTS || !seen.insert(id.to_uppercase()) {
            continue;
        }
        let component = Device {
            bus: "swc".to_owned(),
            place: id.clone(),
            parent: Some(device.place.clone()),
            hardware_ids: vec![id],
            ..Device::default()
        };
        for found in matches(packages, &[component], target, unsigned)? {
            wanted.extend(found.chosen().flat_map(|candidate| candidate.components.clone()));
            out.push(found);
        }
    }
    Ok(out)
}

/// Ids of all packages that Windows would install for `devices`: drivers, extensions, and those of software components.
pub fn chosen_packages(
    packages: &dyn Packages,
    devices: &[Device],
    target: &Target,
    unsigned: Unsigned,
) -> Result<BTreeSet<String>, Error> {
    let mut out = BTreeSet::new();
    for found in matches(packages, devices, target, unsigned)? {
        let chosen: Vec<&Candidate> = found.chosen().collect();
        for below in components(packages, &found.device, &chosen, target, unsigned)? {
            out.extend(below.chosen().map(|candidate| candidate.package.clone()));
        }
        out.extend(chosen.into_iter().map(|candidate| candidate.package.clone()));
    }
    Ok(out)
}

/// Packages for each of `devices` on `target`. Devices without any are there with an empty list. Those that nobody signed stand behind all
/// others, as Windows ranks them; a machine with test signing takes them like others.
pub fn matches(
    packages: &dyn Packages,
    devices: &[Device],
    target: &Target,
    unsigned: Unsigned,
) -> Result<Vec<DeviceMatch>, Error> {
    let mut loaded: HashMap<String, (Manifest, Inf)> = HashMap::new();
    let mut out = Vec::new();
    for device in devices {
        let ids =
            DeviceIds { hardware: device.hardware_ids.clone(), compatible: device.compatible_ids.clone() };
        let wanted: Vec<&str> = ids.hardware.iter().chain(&ids.compatible).map(String::as_str).collect();
        let mut candidates = Vec::new();
        for name in packages.candidates(&wanted)? {
            if !loaded.contains_key(&name) {
                loaded.insert(name.clone(), packages.load(&name)?);
            }
            let Some((manifest, inf)) = loaded.get(&name) else { continue };
            // What lacks files for this processor cannot be installed on it.
            if !manifest.architectures.iter().any(|arch| arch == target.arch.as_str()) {
                continue;
            }
            let is_trusted = manifest.signature.is_some() || unsigned == Unsigned::Allow;
            let signer = if is_trusted { Signer::Trusted } else { Signer::Untrusted };
            let Some(best) = inf.matches(&ids, target, signer).into_iter().next() else {
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
                    extension_id: version.extension_id.map(|id| id.to_string()),
                    boot_critical: install.as_ref().is_some_and(|install| install.is_boot_critical()),
                    components: install.map(|install| install.components).unwrap_or_default(),
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

/// Those of `ids` that are for this Windows and processor, and signed unless unsigned ones are taken.
pub fn fitting_packages(
    packages: &dyn Packages,
    ids: &[String],
    target: &Target,
    unsigned: Unsigned,
) -> Result<Vec<String>, Error> {
    let mut out = Vec::new();
    for id in ids {
        let (manifest, inf) = packages.load(id)?;
        let is_whole = manifest.architectures.iter().any(|arch| arch == target.arch.as_str());
        let is_trusted = manifest.signature.is_some() || unsigned == Unsigned::Allow;
        if is_whole && is_trusted && !inf.models(target).is_empty() {
            out.push(id.clone());
        }
    }
    Ok(out)
}
