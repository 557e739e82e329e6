//! Whole packages in driver store and database, as `dism /Add-Driver` leaves them (windows-servicing 1.1), for packages that are
//! simple enough that nothing of them is guessed.

use gravure_hive::Data;
use gravure_inf::{EventSource, FileCopy, Install, Model, OsVersion, Place, RegEntry, Root, reg_flags};

use super::boot::{config_scope, file_of, may_take, put_entries, put_registry, put_service, store_name};
use super::included::WindowsFiles;
use super::{Chosen, InjectOptions, Level, Unsigned};
use crate::Error;
use crate::drivers::manifest::{FileEntry, Manifest};
use crate::drivers::packages::Packages;
use crate::drivers::publication::{Apart, Part, Publication, kept_apart};
use crate::image::{HiveFile, WindowsImage};
use crate::system::System;

/// First version whose records are known well enough.
const LEAST_VERSION: OsVersion = OsVersion { major: 10, minor: 0, build: 0 };
/// Catalogues of drivers.
const CATALOGS: &str = "Windows\\System32\\CatRoot\\{F750E6C3-38EE-11D1-85E5-00C04FC295EE}";
const STORE: &str = "Windows\\System32\\DriverStore\\FileRepository";
const LOCKDOWN: &str = "Microsoft\\Windows\\CurrentVersion\\Setup\\PnpLockdownFiles";
/// `Class` of a locked file, and of one that is only noted.
const LOCKED: u32 = 4;
const NOTED: u32 = 5;

/// Publishes a package; `Ok(Err(why))` when it is not simple enough, and then nothing was changed.
pub(super) fn publish(
    image: &mut WindowsImage<'_>,
    system: &System,
    repository: &dyn Packages,
    package: &mut Chosen,
    options: InjectOptions,
) -> Result<Result<(), String>, Error> {
    let target = system.target();
    let mut windows = WindowsFiles::default();
    let mut models: Vec<(Model, Install)> = Vec::new();
    for model in package.inf.models(&target) {
        if let Some(install) = windows.install(image, &package.inf, &model, &target)? {
            models.push((model, install));
        }
    }
    if let Some(why) = why_not_simple(system, package, &models) {
        return Ok(Err(why));
    }
    if image.database_hives()?.is_empty() {
        return Ok(Err("the image has no driver database".to_owned()));
    }
    for service in models.iter().flat_map(|(_, install)| &install.services) {
        match &service.from {
            // Windows has it with its driver, or else what it would be is for Windows to say.
            Some(from) => {
                let key = system.control(&format!("Services\\{}", service.name));
                if !service.name.is_empty() && !image.has_key(HiveFile::System, &key)? {
                    return Ok(Err(format!("service {} of {from} is not in this Windows", service.name)));
                }
            }
            None => {
                if let Err(why) = may_take(image, system, service, &package.manifest)? {
                    return Ok(Err(why));
                }
            }
        }
    }
    let drivers = package.manifest.files.iter().filter(|file| file.path.to_lowercase().ends_with(".sys"));
    if let Err(why) = check_signatures(repository, &package.manifest, drivers, options)? {
        return Ok(Err(why));
    }
    let class = package.inf.version().class_guid.unwrap_or_default();
    let hive = image.hive_of_class(system, &class)?;
    let number = image.free_oem_number()?;
    let published = format!("oem{number}.inf");
    let store = store_name(&package.manifest, system);
    let catalog = package.inf.version().catalog(&target).map(str::to_owned);
    let publication = Publication {
        inf: &package.inf,
        target,
        published: published.clone(),
        original: file_name_of(&package.manifest.inf).to_owned(),
        package: store.clone(),
        catalog: catalog.clone(),
        signer: package.manifest.signature.as_ref().map(|signature| signature.signer.clone()),
        is_hardware_signed: package
            .manifest
            .signature
            .as_ref()
            .is_some_and(|s| s.hardware_program && s.verified),
        submission: package.manifest.signature.as_ref().and_then(|signature| signature.submission.clone()),
        origin: super::stage::directory_of(&package.manifest).replacen("Windows", "C:\\Windows", 1),
        now: image.now(),
        config_scope: config_scope(image)?,
        models,
    };
    put_entries(image, hive, &publication.entries())?;
    image.take_oem_number(number)?;
    super::stage::put_files(image, repository, &package.manifest, &format!("{STORE}\\{store}"))?;
    let inf_file = package.manifest.files.iter().find(|file| file.path == package.manifest.inf);
    if let Some(file) = inf_file {
        image.add_placed(&format!("Windows\\INF\\{published}"), repository.place(file)?)?;
    }
    let by_name = |wanted: &str| {
        package.manifest.files.iter().find(|file| file.path.replace('/', "\\").eq_ignore_ascii_case(wanted))
    };
    if let Some(file) = catalog.as_deref().and_then(by_name) {
        image.add_placed(&format!("{CATALOGS}\\oem{number}.cat"), repository.place(file)?)?;
    }
    let models = &publication.models;
    for (_, install) in distinct(models) {
        for file in &install.files {
            put_reflected(image, repository, &package.manifest, file, &published, &store, &package.inf)?;
        }
        let own = install.services.iter().filter(|service| service.from.is_none());
        for service in own.filter(|service| !service.name.is_empty()) {
            let path = service.binary.as_ref().map(|binary| image_path(binary, &store));
            put_service(image, system, &package.inf, service, &published, path.as_deref())?;
            if let Some(EventSource { log, name, registry, .. }) = &service.event_source {
                let key = system.control(&format!("Services\\EventLog\\{log}\\{name}"));
                for entry in registry {
                    put_registry(image, HiveFile::System, &key, entry)?;
                }
            }
        }
        for entry in install.registry.iter().filter(|entry| entry.root == Root::LocalMachine) {
            put_machine_entry(image, system, entry)?;
        }
    }
    package.level = Level::Published;
    package.published = Some(published);
    Ok(Ok(()))
}

/// Each install section once.
fn distinct(models: &[(Model, Install)]) -> impl Iterator<Item = &(Model, Install)> {
    models
        .iter()
        .enumerate()
        .filter(|(at, (_, install))| {
            !models.iter().take(*at).any(|(_, known)| known.section == install.section)
        })
        .map(|(_, model)| model)
}

/// Why a package is not published; `None` when it can be.
fn why_not_simple(system: &System, package: &Chosen, models: &[(Model, Install)]) -> Option<String> {
    if system.version < LEAST_VERSION {
        return Some("published are packages from Windows 10 on".to_owned());
    }
    if models.is_empty() {
        return Some("no device of it is for this Windows".to_owned());
    }
    if package.inf.version().class_guid.is_none() {
        return Some("no class".to_owned());
    }
    let mut boot_services: Vec<&str> = Vec::new();
    for (_, install) in models {
        let at = |what: String| Some(format!("[{}] {what}", install.section));
        if let Some(directive) = install.other_directives.first() {
            return at(format!("has {directive}"));
        }
        if let Some(section) = install.needs_elsewhere.first() {
            return at(match install.includes.as_slice() {
                [] => format!("needs section {section}, which it does not have, and includes no file"),
                files => {
                    format!(
                        "needs section {section} of {}, which this Windows does not have",
                        files.join(" or ")
                    )
                }
            });
        }
        if let Some(note) = install.notes.first() {
            return at(format!("line {}: {}", note.line, note.text));
        }
        for file in &install.files {
            if matches!(file.destination, Place::Elsewhere(_)) {
                return at(format!("copies to {}", file.destination.path()));
            }
        }
        let parts = [(&install.registry, Part::Driver), (&install.hardware_registry, Part::Device)];
        for (entry, part) in
            parts.iter().flat_map(|(entries, part)| entries.iter().map(move |one| (one, *part)))
        {
            if kept_apart(entry, part) == Some(Apart::Unknown) {
                return at(format!("line {}: where Windows keeps {} is not known", entry.line, entry.value));
            }
        }
        let sources = || install.services.iter().filter_map(|service| service.event_source.as_ref());
        let services = install.services.iter().flat_map(|service| &service.registry);
        let services = services.chain(sources().flat_map(|source| &source.registry));
        for entry in install.registry.iter().chain(&install.hardware_registry).chain(services) {
            let allowed = [Root::Relative, Root::LocalMachine];
            let odd = reg_flags::DELETE | reg_flags::OVERWRITE_ONLY | reg_flags::VIEW_32;
            if !allowed.contains(&entry.root) || entry.flags & odd != 0 {
                return at(format!("line {}: an unusual registry entry", entry.line));
            }
        }
        if let Some(entry) = install.hardware_registry.iter().find(|entry| entry.root != Root::Relative) {
            return at(format!("line {}: an entry of the whole machine below the device", entry.line));
        }
        for EventSource { log, name, registry, .. } in sources() {
            if [log, name].iter().any(|part| part.is_empty() || part.contains('\\')) {
                return at(format!("event source {name:?} of log {log:?}"));
            }
            if let Some(entry) = registry.iter().find(|entry| entry.root != Root::Relative) {
                return at(format!(
                    "line {}: an entry of the whole machine below the event source",
                    entry.line
                ));
            }
        }
        for service in install.services.iter().filter(|service| service.from.is_none()) {
            // How Windows keeps it is not known well enough: nothing of it stands beside other services that were published.
            if service.security.is_some() {
                return at(format!("service {} has Security of its own", service.name));
            }
            if matches!(service.binary, Some(Place::Elsewhere(_))) {
                return at(format!("service {} is elsewhere", service.name));
            }
            if file_of(&package.manifest, install, service).is_err() && !service.name.is_empty() {
                return at(format!("service {} is none of its own files", service.name));
            }
            if service.is_boot_start() && !boot_services.contains(&service.name.as_str()) {
                boot_services.push(&service.name);
            }
        }
    }
    (boot_services.len() > 1).then(|| format!("{} services start at boot", boot_services.len()))
}

/// `ImagePath` as Windows writes it.
fn image_path(binary: &Place, store: &str) -> String {
    match binary {
        Place::Store(path) => format!("\\SystemRoot\\System32\\DriverStore\\FileRepository\\{store}\\{path}"),
        place => {
            let path = place.path();
            let below = path.get(..8).filter(|start| start.eq_ignore_ascii_case("Windows\\"));
            let rest = path.get(8..).unwrap_or_default();
            match below {
                // Drivers are named from the Windows directory on, programs by a variable.
                Some(_) if rest.to_lowercase().ends_with(".sys") => rest.to_owned(),
                Some(_) => format!("%SystemRoot%\\{rest}"),
                None => format!("%SystemDrive%\\{path}"),
            }
        }
    }
}

/// A file outside of the driver store, and the record of who put it there.
fn put_reflected(
    image: &mut WindowsImage<'_>,
    repository: &dyn Packages,
    manifest: &Manifest,
    file: &FileCopy,
    published: &str,
    store: &str,
    inf: &gravure_inf::Inf,
) -> Result<(), Error> {
    let Place::Volume(path) = &file.destination else { return Ok(()) };
    let source = file.source.replace('\\', "/");
    let Some(entry) = manifest.files.iter().find(|known| known.path.eq_ignore_ascii_case(&source)) else {
        return Ok(());
    };
    image.add_placed(path, repository.place(entry)?)?;
    let rest =
        path.get(8..).filter(|_| path.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("Windows\\")));
    let Some(rest) = rest.filter(|_| image.has_hive(HiveFile::Software)) else { return Ok(()) };
    let key = format!("{LOCKDOWN}\\%SystemRoot%/{}", rest.replace('\\', "/"));
    let source = format!(
        "%SystemRoot%\\System32\\DriverStore\\FileRepository\\{store}\\{}",
        file_name_of(&entry.path)
    );
    image.set_value(HiveFile::Software, &key, "Source", &Data::expand_sz(&source))?;
    let owners =
        image.value(HiveFile::Software, &key, "Owners")?.and_then(|data| data.as_multi()).unwrap_or_default();
    let mut owners: Vec<String> = owners.iter().map(ToString::to_string).collect();
    if !owners.iter().any(|owner| owner.eq_ignore_ascii_case(published)) {
        owners.push(published.to_owned());
    }
    image.set_value(HiveFile::Software, &key, "Owners", &Data::multi_sz(&owners))?;
    let class = if inf.version().pnp_lockdown { LOCKED } else { NOTED };
    image.set_value(HiveFile::Software, &key, "Class", &Data::dword(class))
}

/// An entry of the whole machine: of the control set, or of SOFTWARE.
fn put_machine_entry(image: &mut WindowsImage<'_>, system: &System, entry: &RegEntry) -> Result<(), Error> {
    let (hive, rest) = match entry.key.trim_matches('\\').split_once('\\') {
        Some((hive, rest)) if hive.eq_ignore_ascii_case("SYSTEM") => (HiveFile::System, rest),
        Some((hive, rest)) if hive.eq_ignore_ascii_case("SOFTWARE") => (HiveFile::Software, rest),
        _ => return Ok(()),
    };
    if !image.has_hive(hive) {
        return Ok(());
    }
    let key = match rest.split_once('\\') {
        Some((set, below)) if hive == HiveFile::System && set.eq_ignore_ascii_case("CurrentControlSet") => {
            system.control(below)
        }
        _ => rest.to_owned(),
    };
    put_registry(image, hive, "", &RegEntry { key, ..entry.clone() })
}

/// Whether Windows will load these files at its start; `Ok(Err(why))` when not.
pub(super) fn check_signatures<'f>(
    repository: &dyn Packages,
    manifest: &Manifest,
    files: impl Iterator<Item = &'f FileEntry>,
    options: InjectOptions,
) -> Result<Result<(), String>, Error> {
    let is_verified = manifest.signature.as_ref().is_some_and(|signature| signature.verified);
    if options.unsigned == Unsigned::Allow || is_verified {
        return Ok(Ok(()));
    }
    for file in files {
        let by_catalog = manifest.signature.as_ref().map(|signature| signature.signer.clone());
        match repository.embedded_signature(file)? {
            Some((_, true)) => {}
            Some((signer, false)) => return Ok(Err(unverified(&file.path, &signer))),
            None => {
                return Ok(Err(match by_catalog {
                    Some(signer) => unverified(&file.path, &signer),
                    None => format!("{} is not signed", file.path),
                }));
            }
        }
    }
    Ok(Ok(()))
}

fn unverified(path: &str, signer: &str) -> String {
    format!(
        "{path} is signed by {signer}, unverified: no certificate of Microsoft's or of the site's vouches for that"
    )
}

fn file_name_of(path: &str) -> &str {
    path.rsplit_once(['/', '\\']).map_or(path, |(_, name)| name)
}
