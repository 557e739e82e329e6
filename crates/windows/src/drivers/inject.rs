//! Drivers put into an image for the devices of a machine, in levels (windows-servicing 1.5).
//!
//! *Inbox*: what Windows has already is left to it. *Staged*: packages lie in `Windows\Gravure\Drivers`, Windows installs them
//! itself before its first screen. *Boot-critical*: a disk controller that Windows has no driver for gets the least that the
//! boot loader and the kernel need; the staged package replaces it later. *Published*: the whole package in driver store and
//! database, as `dism /Add-Driver` leaves it; only on request, and only for simple packages.

mod boot;
mod publish;
mod stage;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use gravure_inf::{DeviceIds, DriverVersion, Inf, Rank};
use gravure_model::inventory::Device;
use serde::Serialize;

pub use stage::DRIVERS_DIR;

use super::database::ImageDriver;
use super::manifest::Manifest;
use super::matching::{Candidate, matches};
use super::packages::Packages;
use crate::Error;
use crate::image::WindowsImage;
use crate::system::{SetupState, System};

/// How drivers are put into an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InjectOptions {
    /// Whether simple packages are published in driver store and database.
    pub publish: Publish,
    /// Whether packages go in whose drivers are not signed.
    pub unsigned: Unsigned,
}

/// Whether packages are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Publish {
    /// Windows does it itself at its first start.
    #[default]
    Never,
    /// Those that are simple enough.
    WhereSimple,
}

/// Whether unsigned drivers are taken where Windows would have to load them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unsigned {
    /// They are staged only.
    #[default]
    Refuse,
    /// They are taken: for machines with test signing.
    Allow,
}

/// How far a package is in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Windows installs it before its first screen.
    Staged,
    /// Windows can start from the device with it.
    BootCritical,
    /// In driver store and database.
    Published,
}

/// What serves a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Served {
    /// A driver that the image has.
    Image {
        /// Which.
        driver: ImageDriver,
    },
    /// A package of the repository.
    Repository {
        /// Which.
        candidate: Candidate,
        /// How far it is in the image.
        level: Level,
    },
    /// Nothing.
    Nothing,
}

/// A device and what serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceReport {
    /// The device.
    pub device: Device,
    /// Windows may have to start from it.
    pub is_boot_device: bool,
    /// What drives it.
    pub served: Served,
    /// Packages beside the driver.
    pub extensions: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// A package that went into the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageReport {
    /// Id in the repository.
    pub id: String,
    /// Its INF file.
    pub inf: String,
    /// Directory in the image.
    pub directory: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// How far it is in the image.
    pub level: Level,
    /// Name in `Windows\INF`, when it is in the database.
    pub published: Option<String>,
}

/// What injection did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InjectReport {
    /// What the image is.
    pub system: System,
    /// Every device.
    pub devices: Vec<DeviceReport>,
    /// Every package that went in.
    pub packages: Vec<PackageReport>,
    /// What was wanted and could not be done.
    pub not_done: Vec<String>,
}

impl InjectReport {
    /// This report with that of another machine for the same image behind it.
    pub fn join(mut self, other: Self) -> Self {
        for device in other.devices {
            if !self.devices.contains(&device) {
                self.devices.push(device);
            }
        }
        for package in other.packages {
            match self.packages.iter_mut().find(|known| known.id == package.id) {
                Some(known) if known.level >= package.level => {}
                Some(known) => *known = package,
                None => self.packages.push(package),
            }
        }
        for what in other.not_done {
            if !self.not_done.contains(&what) {
                self.not_done.push(what);
            }
        }
        self
    }
}

/// A package on its way into the image.
pub(super) struct Chosen {
    pub(super) manifest: Manifest,
    pub(super) inf: Inf,
    pub(super) level: Level,
    pub(super) published: Option<String>,
}

/// Puts the packages of `repository` that `devices` need into `image`.
pub fn inject(
    image: &mut WindowsImage<'_>,
    repository: &dyn Packages,
    devices: &[Device],
    options: InjectOptions,
) -> Result<InjectReport, Error> {
    let system = image.system()?;
    let target = system.target();
    let boot = boot_devices(devices);
    let mut chosen: BTreeMap<String, Chosen> = BTreeMap::new();
    let mut reports = Vec::new();
    let mut not_done = Vec::new();
    for (found, is_boot_device) in matches(repository, devices, &target)?.into_iter().zip(boot) {
        let ids = DeviceIds {
            hardware: found.device.hardware_ids.clone(),
            compatible: found.device.compatible_ids.clone(),
        };
        let inbox: Vec<ImageDriver> = image.drivers_for(&ids)?;
        let inbox = inbox.into_iter().find(|driver| !driver.extension);
        let best = found.candidates.iter().find(|candidate| !candidate.extension);
        let best = best.filter(|candidate| inbox.as_ref().is_none_or(|inbox| is_better(candidate, inbox)));
        let extensions: Vec<&Candidate> = found.candidates.iter().filter(|c| c.extension).collect();
        for candidate in best.into_iter().chain(extensions.iter().copied()) {
            if !chosen.contains_key(&candidate.package) {
                let (manifest, inf) = repository.load(&candidate.package)?;
                let package = Chosen { manifest, inf, level: Level::Staged, published: None };
                chosen.insert(candidate.package.clone(), package);
            }
        }
        let mut notes = Vec::new();
        if is_boot_device && let Some(driver) = &inbox {
            boot::wake(image, &system, driver.service.as_deref())?;
        }
        let mut level = Level::Staged;
        if let Some(candidate) = best
            && is_boot_device
            && options.publish == Publish::Never
            && let Some(package) = chosen.get_mut(&candidate.package)
        {
            match boot::make_boot_critical(image, &system, repository, package, candidate, options)? {
                Ok(()) => level = Level::BootCritical,
                Err(why) => match &inbox {
                    Some(driver) => notes.push(format!("starts with {}: {why}", driver.inf)),
                    None => not_done
                        .push(format!("{}: Windows cannot start from it: {why}", name_of(&found.device))),
                },
            }
        }
        if is_boot_device && best.is_none() && inbox.is_none() {
            not_done.push(format!("{}: no driver, Windows cannot start from it", name_of(&found.device)));
        }
        let served = match (best, inbox) {
            (Some(candidate), _) => Served::Repository { candidate: candidate.clone(), level },
            (None, Some(driver)) => Served::Image { driver },
            (None, None) => Served::Nothing,
        };
        let extensions = extensions.iter().map(|candidate| candidate.package.clone()).collect();
        reports.push(DeviceReport { device: found.device, is_boot_device, served, extensions, notes });
    }
    if reports.iter().any(|report| report.is_boot_device) {
        // A machine's controller may be switched between its modes.
        boot::wake_generic(image, &system)?;
    }
    if options.publish == Publish::WhereSimple {
        publish_all(image, &system, repository, &mut chosen, &mut reports, &mut not_done, options)?;
    }
    stage::stage(image, &system, repository, &chosen)?;
    if !chosen.is_empty() && system.setup == SetupState::InUse {
        let what = "packages are staged, but this image is of a system in use and runs no setup: they are installed when Windows \
                    meets their devices, or by `pnputil`";
        not_done.push(what.to_owned());
    }
    let packages = chosen.values().map(|package| PackageReport {
        id: package.manifest.id.clone(),
        inf: package.manifest.inf.clone(),
        directory: stage::directory_of(&package.manifest),
        bytes: package.manifest.files.iter().map(|file| file.size).sum(),
        level: package.level,
        published: package.published.clone(),
    });
    Ok(InjectReport { system, packages: packages.collect(), devices: reports, not_done })
}

/// Publishes what is simple enough; what is needed to start and is not gets its boot-critical part.
fn publish_all(
    image: &mut WindowsImage<'_>,
    system: &System,
    repository: &dyn Packages,
    chosen: &mut BTreeMap<String, Chosen>,
    reports: &mut [DeviceReport],
    not_done: &mut Vec<String>,
    options: InjectOptions,
) -> Result<(), Error> {
    for package in chosen.values_mut() {
        let why = publish::publish(image, system, repository, package, options)?.err();
        let id = package.manifest.id.clone();
        for report in reports.iter_mut() {
            let Served::Repository { candidate, level } = &mut report.served else { continue };
            if candidate.package != id {
                continue;
            }
            let Some(why) = &why else {
                *level = Level::Published;
                continue;
            };
            report.notes.push(format!("not published: {why}"));
            if !report.is_boot_device || package.level != Level::Staged {
                *level = package.level;
                continue;
            }
            match boot::make_boot_critical(image, system, repository, package, candidate, options)? {
                Ok(()) => *level = Level::BootCritical,
                Err(why) => not_done.push(format!("{}: {why}", name_of(&report.device))),
            }
        }
    }
    Ok(())
}

/// Lower rank, then later date, then higher version; of equals Windows' own.
pub(super) fn is_better(candidate: &Candidate, inbox: &ImageDriver) -> bool {
    let version = |text: &Option<String>| {
        text.as_deref().and_then(|text| text.parse::<DriverVersion>().ok()).unwrap_or_default()
    };
    let key = |rank: Rank, date: &Option<String>, version: DriverVersion| {
        (rank, Reverse(date.clone()), Reverse(version))
    };
    key(candidate.rank, &candidate.date, version(&candidate.driver_version))
        < key(inbox.rank, &inbox.date, DriverVersion(inbox.driver_version))
}

/// Which devices Windows may have to start from: disk controllers, and what they hang on.
fn boot_devices(devices: &[Device]) -> Vec<bool> {
    let mut places: BTreeSet<&str> = BTreeSet::new();
    for device in devices.iter().filter(|device| is_disk_controller(device)) {
        let mut at = Some(device);
        // A chain of parents ends; a circle in a foreign inventory does too.
        while let Some(device) = at.filter(|device| places.insert(&device.place)) {
            at = device
                .parent
                .as_deref()
                .and_then(|parent| devices.iter().find(|known| known.place == parent));
        }
    }
    devices.iter().map(|device| places.contains(device.place.as_str())).collect()
}

/// PCI class 01, mass storage: AHCI, RAID (Intel VMD too), NVMe, SAS, SCSI.
fn is_disk_controller(device: &Device) -> bool {
    let ids = device.hardware_ids.iter().chain(&device.compatible_ids);
    device.bus == "pci" && ids.into_iter().any(|id| id.to_uppercase().contains("CC_01"))
}

fn name_of(device: &Device) -> String {
    let id = device.name.as_deref().or(device.hardware_ids.first().map(String::as_str)).unwrap_or("device");
    format!("{} {id}", device.place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(place: &str, parent: Option<&str>, ids: &[&str]) -> Device {
        Device {
            bus: "pci".into(),
            place: place.into(),
            parent: parent.map(str::to_owned),
            hardware_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            ..Device::default()
        }
    }

    #[test]
    fn disk_controllers_and_all_above_them_are_boot_devices() {
        let devices = [
            device("0", None, &["PCI\\VEN_8086&DEV_1&CC_0604"]),
            device("1", Some("0"), &["PCI\\VEN_8086&DEV_9A0B&CC_010400"]),
            device("2", Some("1"), &["PCI\\VEN_144D&DEV_A80A&CC_010802"]),
            device("3", Some("0"), &["PCI\\VEN_8086&DEV_15F3&CC_0200"]),
            device("4", Some("5"), &["PCI\\VEN_1&DEV_2&cc_0106"]),
            device("5", Some("4"), &["PCI\\VEN_1&DEV_3&CC_0604"]),
        ];
        assert_eq!(boot_devices(&devices), [true, true, true, false, true, true]);
    }

    #[test]
    fn of_equal_drivers_the_images_own_stays() {
        let inbox = ImageDriver {
            inf: "a.inf".into(),
            package: String::new(),
            rank: Rank(0x00ff_2000),
            matching_id: String::new(),
            service: None,
            extension: false,
            date: Some("2006-06-21".into()),
            driver_version: [10, 0, 19041, 1],
        };
        let candidate = |rank: u32, date: &str, version: &str| Candidate {
            package: String::new(),
            inf: String::new(),
            rank: Rank(rank),
            matching_id: String::new(),
            description: String::new(),
            install: String::new(),
            extension: false,
            boot_critical: false,
            date: Some(date.to_owned()),
            driver_version: Some(version.to_owned()),
        };
        for (rank, date, version, expected) in [
            (0x00ff_0000, "2000-01-01", "1.0", true),
            (0x00ff_2000, "2006-06-21", "10.0.19041.1", false),
            (0x00ff_2000, "2006-06-21", "10.0.19041.2", true),
            (0x00ff_2000, "2006-06-20", "99.0", false),
            (0x00ff_2000, "2020-01-01", "1.0", true),
            (0x00ff_2001, "2020-01-01", "1.0", false),
        ] {
            assert_eq!(
                is_better(&candidate(rank, date, version), &inbox),
                expected,
                "{rank:x} {date} {version}"
            );
        }
    }
}
