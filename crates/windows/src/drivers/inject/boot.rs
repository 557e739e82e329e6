//! Disk controllers: what boot loader and kernel need to start from one that Windows does not know, and services of those that
//! it knows, awake again. After the practice of virt-v2v, in production for years: driver file, service, and the least of a
//! driver database that leads plug and play from the device to the service.

use gravure_hive::Data;
use gravure_inf::{Inf, Install, Model, OsVersion, RegEntry, Root, Service, reg_flags};

use super::{Chosen, InjectOptions, Level};
use crate::Error;
use crate::drivers::database::DATABASE;
use crate::drivers::manifest::{FileEntry, Manifest};
use crate::drivers::matching::Candidate;
use crate::drivers::packages::Packages;
use crate::drivers::publication::{
    MAX_KNOWN_SCOPE, Publication, RecordEntry, data_of, file_name, service_values,
};
use crate::image::{HiveFile, WindowsImage};
use crate::system::System;

/// Services of controllers that need no driver of their maker.
const GENERIC: [&str; 2] = ["storahci", "stornvme"];
/// First version with a driver database.
const HAS_DATABASE: OsVersion = OsVersion { major: 6, minor: 2, build: 0 };

/// Lets the boot loader load a service: `Start` 0, and no `StartOverride`, which Windows leaves on machines without the
/// device (42 to 47 services in every used hive).
pub(super) fn wake(
    image: &mut WindowsImage<'_>,
    system: &System,
    service: Option<&str>,
) -> Result<(), Error> {
    let Some(service) = service else { return Ok(()) };
    let key = system.control(&format!("Services\\{service}"));
    if !image.has_key(HiveFile::System, &key)? {
        return Ok(());
    }
    image.remove_key(HiveFile::System, &format!("{key}\\StartOverride"))?;
    if image.number(HiveFile::System, &key, "Start")?.is_some_and(|start| start != 0) {
        image.set_value(HiveFile::System, &key, "Start", &Data::dword(0))?;
    }
    Ok(())
}

pub(super) fn wake_generic(image: &mut WindowsImage<'_>, system: &System) -> Result<(), Error> {
    GENERIC.iter().try_for_each(|service| wake(image, system, Some(service)))
}

/// A service that goes in, with its file.
struct Needed<'a> {
    service: &'a Service,
    file: &'a FileEntry,
    file_name: String,
}

/// Puts the boot-critical part of a package in; `Ok(Err(why))` when that cannot be done, and then nothing was changed.
pub(super) fn make_boot_critical(
    image: &mut WindowsImage<'_>,
    system: &System,
    repository: &dyn Packages,
    package: &mut Chosen,
    candidate: &Candidate,
    options: InjectOptions,
) -> Result<Result<(), String>, Error> {
    // Boot-critical it may be for another of its devices, with another service.
    if package.level == Level::Published {
        return Ok(Ok(()));
    }
    let target = system.target();
    let Some(install) = package.inf.install_named(&candidate.install, &target) else {
        return Ok(Err(format!("{}: section [{}] is missing", package.manifest.inf, candidate.install)));
    };
    let Some(driver) = install.function_driver().map(|service| service.name.clone()) else {
        return Ok(Err(format!("{}: no service drives the device", package.manifest.inf)));
    };
    let mut needed = Vec::new();
    for service in &install.services {
        let is_needed = service.is_function_driver || service.is_boot_start();
        if !is_needed || service.name.is_empty() {
            continue;
        }
        match file_of(&package.manifest, &install, service) {
            Ok((file, file_name)) => needed.push(Needed { service, file, file_name }),
            Err(why) => return Ok(Err(why)),
        }
        if let Err(why) = may_take(image, system, service, &package.manifest)? {
            return Ok(Err(why));
        }
    }
    if let Err(why) = super::publish::check_signatures(
        repository,
        &package.manifest,
        needed.iter().map(|n| n.file),
        options,
    )? {
        return Ok(Err(why));
    }
    let entries = if system.version >= HAS_DATABASE {
        match database_entries(image, &package.inf, &package.manifest, system, &driver)? {
            Ok(entries) => entries,
            Err(why) => return Ok(Err(why)),
        }
    } else {
        critical_devices(&package.inf, system, &driver)
    };
    let name = published_name(image, system, &package.manifest)?;
    for Needed { service, file, file_name } in needed {
        let placed = repository.place(file)?;
        image.add_placed(&format!("Windows\\System32\\drivers\\{file_name}"), placed)?;
        let path = format!("System32\\drivers\\{file_name}");
        let starts_at_boot = Service { start: Some(0), ..service.clone() };
        put_service(image, system, &package.inf, &starts_at_boot, &name, Some(&path))?;
    }
    put_entries(image, HiveFile::System, &entries)?;
    package.level = Level::BootCritical;
    package.published = Some(name);
    Ok(Ok(()))
}

/// The package's own INF name, as virt-v2v has it: no number of `oemN.inf` is used up, and the staged package gets one. A name
/// that another package has gets a word in front.
fn published_name(
    image: &mut WindowsImage<'_>,
    system: &System,
    manifest: &Manifest,
) -> Result<String, Error> {
    let name = inf_name(manifest);
    let key = format!("{DATABASE}\\DriverInfFiles\\{name}");
    let active = image.text(HiveFile::System, &key, "Active")?;
    let is_taken = match active {
        Some(active) => active != store_name(manifest, system),
        None => image.has_key(HiveFile::System, &key)? || image.exists(&format!("Windows\\INF\\{name}")),
    };
    Ok(if is_taken { format!("gravure-{name}") } else { name })
}

/// File name of the INF file in lower case.
pub(super) fn inf_name(manifest: &Manifest) -> String {
    manifest.inf.rsplit_once('/').map_or(manifest.inf.as_str(), |(_, name)| name).to_lowercase()
}

/// Name of a package in the driver store. Windows' own suffix is not known (any unique one serves); ours is of the files.
pub(super) fn store_name(manifest: &Manifest, system: &System) -> String {
    format!("{}_{}_{}", inf_name(manifest), system.arch, manifest.id.get(..16).unwrap_or_default())
}

/// The file of a service in the package, and the name it has in the image.
pub(super) fn file_of<'m>(
    manifest: &'m Manifest,
    install: &Install,
    service: &Service,
) -> Result<(&'m FileEntry, String), String> {
    let missing = |what: &str| format!("{}: {what} of service {}", manifest.inf, service.name);
    let binary = service.binary.as_ref().ok_or_else(|| missing("no ServiceBinary"))?;
    let name = file_name(binary);
    let copied = install.files.iter().find(|file| file_name(&file.destination).eq_ignore_ascii_case(name));
    let source = copied.map_or(name, |file| file.source.as_str()).replace('\\', "/");
    let file = manifest.files.iter().find(|file| file.path.eq_ignore_ascii_case(&source));
    let file = file.ok_or_else(|| missing(&format!("no file {source}")))?;
    Ok((file, name.to_owned()))
}

/// Whether a service may be made or changed: one of Windows' own, or of another package, is not.
pub(super) fn may_take(
    image: &mut WindowsImage<'_>,
    system: &System,
    service: &Service,
    manifest: &Manifest,
) -> Result<Result<(), String>, Error> {
    let key = system.control(&format!("Services\\{}", service.name));
    if !image.has_key(HiveFile::System, &key)? {
        return Ok(Ok(()));
    }
    let owners = image.value(HiveFile::System, &key, "Owners")?.and_then(|data| data.as_multi());
    let Some(owners) = owners.filter(|owners| !owners.is_empty()) else {
        // A service that no INF file owns was made by a program or by hand. With the same file it is the same driver.
        let there = image.text(HiveFile::System, &key, "ImagePath")?;
        // What Windows takes for a driver without.
        let there = there.unwrap_or_else(|| format!("System32\\drivers\\{}.sys", service.name));
        if service.binary.as_ref().is_some_and(|binary| is_same_file(&there, file_name(binary))) {
            return Ok(Ok(()));
        }
        return Ok(Err(format!(
            "service {} is there with {there} and belongs to no INF file: it is not taken",
            service.name
        )));
    };
    let ours = inf_name(manifest);
    // `!` in front marks an owner that waits for a restart.
    let other = owners.iter().map(ToString::to_string).find(|owner| {
        let owner = owner.trim_start_matches('!').to_lowercase();
        owner != ours && owner != format!("gravure-{ours}") && !owner.starts_with(&format!("{ours}_"))
    });
    Ok(match other {
        Some(owner) => Err(format!("service {} belongs to {owner}, and is not taken from it", service.name)),
        None => Ok(()),
    })
}

/// Whether an `ImagePath` is of the driver `name`: among Windows' drivers, where it goes, or in the driver store.
fn is_same_file(path: &str, name: &str) -> bool {
    let path = path.trim_matches('"').replace('/', "\\").to_lowercase();
    let starts = ["\\systemroot\\", "%systemroot%\\", "%windir%\\", "\\??\\c:\\windows\\", "c:\\windows\\"];
    let below = starts.iter().find_map(|start| path.strip_prefix(start)).unwrap_or(&path);
    let Some((dir, file)) = below.rsplit_once('\\') else { return false };
    file == name.to_lowercase()
        && (dir == "system32\\drivers" || dir.starts_with("system32\\driverstore\\filerepository\\"))
}

/// Models of a package whose devices a service drives.
fn models_of(inf: &Inf, system: &System, driver: &str) -> Vec<(Model, Install)> {
    let target = system.target();
    let models = inf.models(&target).into_iter();
    let installs = models.filter_map(|model| inf.install(&model, &target).map(|install| (model, install)));
    let is_driven =
        |install: &Install| install.function_driver().is_some_and(|s| s.name.eq_ignore_ascii_case(driver));
    installs.filter(|(_, install)| is_driven(install)).collect()
}

/// Entries of the driver database: those of a published package, without what only installing needs.
fn database_entries(
    image: &mut WindowsImage<'_>,
    inf: &Inf,
    manifest: &Manifest,
    system: &System,
    driver: &str,
) -> Result<Result<Vec<RecordEntry>, String>, Error> {
    if !image.has_key(HiveFile::System, DATABASE)? {
        return Ok(Err("the image has no driver database".to_owned()));
    }
    let mut models = models_of(inf, system, driver);
    for (_, install) in &mut models {
        // What other files would add comes with the staged package.
        install.includes.clear();
        // The driver's own key is made when the device is installed.
        install.registry.clear();
    }
    let publication = Publication {
        inf,
        target: system.target(),
        published: published_name(image, system, manifest)?,
        original: inf_name(manifest),
        package: store_name(manifest, system),
        catalog: None,
        signer: None,
        is_hardware_signed: false,
        submission: None,
        origin: super::stage::directory_of(manifest).replacen("Windows", "C:\\Windows", 1),
        now: image.now(),
        config_scope: config_scope(image)?,
        models,
    };
    Ok(Ok(publication.entries()))
}

/// `ConfigScope` that most packages of the image have, where it means something that is not known here; `None` where it follows from
/// the sections of each package.
pub(super) fn config_scope(image: &mut WindowsImage<'_>) -> Result<Option<u32>, Error> {
    /// As many as make a clear majority.
    const SAMPLE: usize = 40;
    let mut counts: std::collections::BTreeMap<u64, usize> = std::collections::BTreeMap::new();
    let packages = format!("{DATABASE}\\DriverPackages");
    for package in image.subkeys(HiveFile::System, &packages)?.into_iter().take(SAMPLE) {
        let configurations = format!("{packages}\\{package}\\Configurations");
        for name in image.subkeys(HiveFile::System, &configurations)? {
            let scope =
                image.number(HiveFile::System, &format!("{configurations}\\{name}"), "ConfigScope")?;
            scope.into_iter().for_each(|scope| *counts.entry(scope).or_default() += 1);
        }
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(scope, _)| scope);
    Ok(most.and_then(|scope| u32::try_from(scope).ok()).filter(|scope| *scope > MAX_KNOWN_SCOPE))
}

/// Windows 7 and older: `CriticalDeviceDatabase`, a key for each ID with `#` for the backslash.
fn critical_devices(inf: &Inf, system: &System, driver: &str) -> Vec<RecordEntry> {
    let class = inf.version().class_guid.unwrap_or_default();
    let mut out = Vec::new();
    for (model, _) in models_of(inf, system, driver) {
        for id in model.ids() {
            let key = system.control(&format!("Control\\CriticalDeviceDatabase\\{}", id.replace('\\', "#")));
            let mut set = |name: &str, text: &str| {
                out.push(RecordEntry { key: key.clone(), value: Some((name.to_owned(), Data::sz(text))) });
            };
            set("Service", driver);
            set("ClassGUID", &format!("{{{class}}}"));
        }
    }
    out
}

/// Makes a service, or continues it: owners are added, what is there of others was asked for before.
pub(super) fn put_service(
    image: &mut WindowsImage<'_>,
    system: &System,
    inf: &Inf,
    service: &Service,
    published: &str,
    image_path: Option<&str>,
) -> Result<(), Error> {
    let hive = HiveFile::System;
    let key = system.control(&format!("Services\\{}", service.name));
    for (name, data) in service_values(inf, service, published, image_path) {
        image.set_value(hive, &key, &name, &data)?;
    }
    let owners = image.value(hive, &key, "Owners")?.and_then(|data| data.as_multi()).unwrap_or_default();
    let mut owners: Vec<String> = owners.iter().map(ToString::to_string).collect();
    if !owners.iter().any(|owner| owner.eq_ignore_ascii_case(published)) {
        owners.push(published.to_owned());
    }
    image.set_value(hive, &key, "Owners", &Data::multi_sz(&owners))?;
    image.remove_key(hive, &format!("{key}\\StartOverride"))?;
    let relative = service.registry.iter().filter(|entry| entry.root == Root::Relative);
    relative.clone().try_for_each(|entry| put_registry(image, hive, &key, entry))
}

/// Does what an `AddReg` line says, below `root`.
pub(super) fn put_registry(
    image: &mut WindowsImage<'_>,
    hive: HiveFile,
    root: &str,
    entry: &RegEntry,
) -> Result<(), Error> {
    let below = entry.key.trim_matches('\\');
    let key = if below.is_empty() { root.to_owned() } else { format!("{root}\\{below}") };
    let there = image.value(hive, &key, &entry.value)?;
    let has = |flag: u32| entry.flags & flag != 0;
    let Some(data) = &entry.data else {
        if has(reg_flags::DELETE) {
            if entry.value.is_empty() {
                image.remove_key(hive, &key)?;
            } else {
                image.remove_value(hive, &key, &entry.value)?;
            }
        } else {
            image.create_key(hive, &key)?;
        }
        return Ok(());
    };
    let is_left = (has(reg_flags::NO_CLOBBER) && there.is_some())
        || (has(reg_flags::OVERWRITE_ONLY) && there.is_none());
    if is_left {
        return Ok(());
    }
    let mut data = data_of(data);
    if has(reg_flags::APPEND)
        && let (Some(old), Some(new)) = (there.and_then(|data| data.as_multi()), data.as_multi())
    {
        let mut texts: Vec<String> = old.iter().map(ToString::to_string).collect();
        for text in new.iter().map(ToString::to_string) {
            if !texts.iter().any(|known| known.eq_ignore_ascii_case(&text)) {
                texts.push(text);
            }
        }
        data = Data::multi_sz(&texts);
    }
    image.set_value(hive, &key, &entry.value, &data)
}

pub(super) fn put_entries(
    image: &mut WindowsImage<'_>,
    hive: HiveFile,
    entries: &[RecordEntry],
) -> Result<(), Error> {
    for entry in entries {
        match &entry.value {
            Some((name, data)) => image.set_value(hive, &entry.key, name, data)?,
            None => drop(image.create_key(hive, &entry.key)?),
        }
    }
    Ok(())
}
