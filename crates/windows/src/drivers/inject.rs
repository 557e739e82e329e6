//! Drivers put into an image for the devices of a machine, in levels (windows-servicing 1.5).
//!
//! *Inbox*: what Windows has already is left to it. *Staged*: packages lie in `Windows\Gravure\Drivers`, Windows installs them
//! itself before its first screen. *Boot-critical*: a disk controller that Windows has no driver for gets the least that the
//! boot loader and the kernel need; the staged package replaces it later. *Published*: the whole package in driver store and
//! database, as `dism /Add-Driver` leaves it; only on request, and only for simple packages.

mod boot;
mod included;
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
use super::matching::{self, Candidate, DeviceMatch, fitting_packages, matches};
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
    /// Why Windows cannot start from it though it may have to: there is neither a driver of the image nor one that the boot loader would
    /// load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cannot_start: Option<String>,
    /// What drives it.
    pub served: Served,
    /// Packages beside the driver.
    pub extensions: Vec<String>,
    /// Packages of software components that driver and extensions have Windows make.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
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
    inject_with(image, repository, devices, &[], options)
}

/// The same, and the packages `anyway` by their ids, whether a device needs them now or not, as far as they are for this Windows: what
/// its maker's pack has for the machine.
pub fn inject_with(
    image: &mut WindowsImage<'_>,
    repository: &dyn Packages,
    devices: &[Device],
    anyway: &[String],
    options: InjectOptions,
) -> Result<InjectReport, Error> {
    let system = image.system()?;
    let target = system.target();
    let boot = boot_devices(devices);
    let mut chosen: BTreeMap<String, Chosen> = BTreeMap::new();
    let mut reports = Vec::new();
    let mut not_done = Vec::new();
    for (found, is_boot_device) in
        matches(repository, devices, &target, options.unsigned)?.into_iter().zip(boot)
    {
        let ids = DeviceIds {
            hardware: found.device.hardware_ids.clone(),
            compatible: found.device.compatible_ids.clone(),
        };
        let there: Vec<ImageDriver> = image.drivers_for(&ids)?;
        let taken = wanted(&found, &there);
        let inbox = there.into_iter().find(|driver| !driver.extension);
        let best = taken.iter().copied().find(|candidate| !candidate.extension);
        let mut components = Vec::new();
        for below in matching::components(repository, &found.device, &taken, &target, options.unsigned)? {
            let ids = DeviceIds { hardware: below.device.hardware_ids.clone(), compatible: Vec::new() };
            let there = image.drivers_for(&ids)?;
            for candidate in wanted(&below, &there) {
                take(repository, &candidate.package, &mut chosen)?;
                components.push(candidate.package.clone());
            }
        }
        for candidate in &taken {
            take(repository, &candidate.package, &mut chosen)?;
        }
        let mut notes = Vec::new();
        if (is_boot_device || is_card(&found.device))
            && let Some(driver) = &inbox
        {
            boot::wake(image, &system, driver.service.as_deref())?;
        }
        let mut level = Level::Staged;
        let mut cannot_start = (is_boot_device && inbox.is_none())
            .then(|| "no driver for it in the image nor among the site's".to_owned());
        if let Some(candidate) = best
            && is_boot_device
            && options.publish == Publish::Never
            && let Some(package) = chosen.get_mut(&candidate.package)
        {
            match boot::make_boot_critical(image, &system, repository, package, candidate, options)? {
                Ok(()) => (level, cannot_start) = (Level::BootCritical, None),
                Err(why) => match &inbox {
                    Some(driver) => notes.push(format!("starts with {}: {why}", driver.inf)),
                    None => cannot_start = Some(why),
                },
            }
        }
        let served = match (best, inbox) {
            (Some(candidate), _) => Served::Repository { candidate: candidate.clone(), level },
            (None, Some(driver)) => Served::Image { driver },
            (None, None) => Served::Nothing,
        };
        let extensions = taken.iter().filter(|candidate| candidate.extension);
        reports.push(DeviceReport {
            is_boot_device,
            cannot_start,
            served,
            extensions: extensions.map(|candidate| candidate.package.clone()).collect(),
            components,
            notes,
            device: found.device,
        });
    }
    if reports.iter().any(|report| report.is_boot_device) {
        // A machine's controller may be switched between its modes.
        boot::wake_generic(image, &system)?;
    }
    for id in fitting_packages(repository, anyway, &target, options.unsigned)? {
        take(repository, &id, &mut chosen)?;
    }
    if options.publish == Publish::WhereSimple {
        publish_all(image, &system, repository, &mut chosen, &mut reports, options)?;
    }
    let stops = reports.iter().filter_map(|report| {
        let why = report.cannot_start.as_ref()?;
        Some(format!("{}: Windows cannot start from it: {why}", name_of(&report.device)))
    });
    not_done.extend(stops);
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

/// What Windows would take of the repository for a device with the drivers that are `there`, best first: a driver that is better than
/// its own, and extensions that it has none as good of.
fn wanted<'f>(found: &'f DeviceMatch, there: &[ImageDriver]) -> Vec<&'f Candidate> {
    let is_needed = |candidate: &&Candidate| {
        let same = there.iter().find(|known| {
            known.extension == candidate.extension
                && (!candidate.extension || known.extension_id == candidate.extension_id)
        });
        same.is_none_or(|known| is_better(candidate, known))
    };
    found.chosen().filter(is_needed).collect()
}

/// Takes a package, once.
fn take(repository: &dyn Packages, id: &str, chosen: &mut BTreeMap<String, Chosen>) -> Result<(), Error> {
    if !chosen.contains_key(id) {
        let (manifest, inf) = repository.load(id)?;
        let package = Chosen { manifest, inf, level: Level::Staged, published: None };
        chosen.insert(id.to_owned(), package);
    }
    Ok(())
}

/// Publishes what is simple enough; what is needed to start and is not gets its boot-critical part.
fn publish_all(
    image: &mut WindowsImage<'_>,
    system: &System,
    repository: &dyn Packages,
    chosen: &mut BTreeMap<String, Chosen>,
    reports: &mut [DeviceReport],
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
                if report.is_boot_device {
                    // Its own INF may let it start on demand.
                    boot::wake(image, system, driver_of(package, candidate, system).as_deref())?;
                    report.cannot_start = None;
                }
                continue;
            };
            report.notes.push(format!("not published: {why}"));
            if !report.is_boot_device {
                *level = package.level;
                continue;
            }
            match boot::make_boot_critical(image, system, repository, package, candidate, options)? {
                Ok(()) => {
                    *level = package.level;
                    report.cannot_start = None;
                }
                Err(why) if report.cannot_start.is_some() => report.cannot_start = Some(why),
                Err(why) => report.notes.push(format!("starts with Windows' own driver: {why}")),
            }
        }
    }
    Ok(())
}

/// The service that drives a device by a package.
fn driver_of(package: &Chosen, candidate: &Candidate, system: &System) -> Option<String> {
    let install = package.inf.install_named(&candidate.install, &system.target())?;
    install.function_driver().map(|service| service.name.clone())
}

/// Lower rank, then later date, then higher version; of equals Windows' own.
pub fn is_better(candidate: &Candidate, inbox: &ImageDriver) -> bool {
    let version = |text: &Option<String>| {
        text.as_deref().and_then(|text| text.parse::<DriverVersion>().ok()).unwrap_or_default()
    };
    let key = |rank: Rank, date: &Option<String>, version: DriverVersion| {
        (rank, Reverse(date.clone()), Reverse(version))
    };
    key(candidate.rank, &candidate.date, version(&candidate.driver_version))
        < key(inbox.rank, &inbox.date, DriverVersion(inbox.driver_version))
}

/// Which devices Windows may have to start from: disk controllers, whatever disks hang on, and what these hang on.
fn boot_devices(devices: &[Device]) -> Vec<bool> {
    let mut places: BTreeSet<&str> = BTreeSet::new();
    let at = |place: &str| devices.iter().find(|known| known.place == place);
    let controllers = devices.iter().filter(|device| is_disk_controller(device));
    let disks = devices.iter().filter(|device| device.bus == "disk" && !is_on_usb(device));
    let above = disks.filter_map(|disk| disk.parent.as_deref().and_then(at));
    for device in controllers.chain(above) {
        let mut next = Some(device);
        // A chain of parents ends; a circle in a foreign inventory does too.
        while let Some(device) = next.filter(|device| places.insert(&device.place)) {
            next = device.parent.as_deref().and_then(at);
        }
    }
    devices.iter().map(|device| places.contains(device.place.as_str())).collect()
}

/// PCI class 01, mass storage: AHCI, RAID (Intel VMD too), NVMe, SAS, SCSI. Other controllers count when a disk hangs on them: those of eMMC
/// and SD cards, whose disks come and go, and those that are not on PCI.
fn is_disk_controller(device: &Device) -> bool {
    let ids = device.hardware_ids.iter().chain(&device.compatible_ids);
    device.bus == "pci" && ids.into_iter().any(|id| id.to_uppercase().contains("CC_01"))
}

/// Sticks and the like, among them the one that the payload was started from.
fn is_on_usb(disk: &Device) -> bool {
    disk.hardware_ids.iter().any(|id| id.to_uppercase().starts_with("USBSTOR\\"))
}

/// An SD card or eMMC: it has a driver of its own between controller and disk.
fn is_card(disk: &Device) -> bool {
    disk.hardware_ids.iter().any(|id| id.to_uppercase().starts_with("SD\\"))
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
    fn what_a_disk_hangs_on_is_a_boot_device_on_every_bus_but_usb() {
        let disk = |place: &str, parent: &str, id: &str| Device {
            bus: "disk".into(),
            ..device(place, Some(parent), &[id])
        };
        let on = |bus: &str, device: Device| Device { bus: bus.into(), ..device };
        let devices = [
            device("0", None, &["PCI\\VEN_8086&DEV_5ACC&CC_0805"]),
            disk("mmcblk0", "0", "SD\\VID_15&OID_0100&PID_8GME4R"),
            on("acpi", device("VMBUS:00", None, &["ACPI\\VMBUS"])),
            on("vmbus", device("f8b3", Some("VMBUS:00"), &["VMBUS\\{ba61}"])),
            disk("sda", "f8b3", "SCSI\\DiskMsft"),
            device("1", None, &["PCI\\VEN_8086&DEV_A0ED&CC_0C03"]),
            disk("sdb", "1", "USBSTOR\\DiskMaker"),
            device("2", None, &["PCI\\VEN_10EC&DEV_5229&CC_0805"]),
        ];
        assert_eq!(boot_devices(&devices), [true, false, true, true, false, false, false, false]);
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
            extension_id: None,
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
            extension_id: None,
            components: Vec::new(),
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
