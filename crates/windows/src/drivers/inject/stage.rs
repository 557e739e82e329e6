//! Packages laid into the image for Windows to install: files, the search path, and the command that installs them while the
//! machine is made.

use std::collections::BTreeMap;

use gravure_hive::{Data, ValueType};
use gravure_inf::OsVersion;
use serde::{Deserialize, Serialize};

use super::Chosen;
use crate::Error;
use crate::answer::Position;
use crate::drivers::manifest::{FileEntry, Manifest};
use crate::drivers::packages::Packages;
use crate::image::{HiveFile, WindowsImage};
use crate::system::{SetupState, System};

/// Where packages lie in an image.
pub const DRIVERS_DIR: &str = "Windows\\Gravure\\Drivers";
/// The same for Windows itself.
const DRIVERS_DIR_IN_WINDOWS: &str = "%SystemRoot%\\Gravure\\Drivers";
/// What is staged, with the hashes of all files.
const LIST: &str = "Windows\\Gravure\\Drivers\\packages.json";
const MAX_LIST_BYTES: u64 = 64 << 20;
/// First version whose `pnputil` knows `/add-driver` (1607).
const PNPUTIL_WORDS: OsVersion = OsVersion { major: 10, minor: 0, build: 14393 };
/// First version that searches below the directories of `DevicePath`.
const SEARCHES_BELOW: OsVersion = OsVersion { major: 6, minor: 2, build: 0 };

/// What is said of a staged package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Staged {
    id: String,
    inf: String,
    directory: String,
    files: Vec<FileEntry>,
}

/// Directory of a package: its name tells people what it is, its id keeps packages of one name apart.
pub(super) fn directory_of(manifest: &Manifest) -> String {
    let name = manifest.inf.rsplit_once('/').map_or(manifest.inf.as_str(), |(_, name)| name);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_lowercase();
    format!("{DRIVERS_DIR}\\{stem}_{}", manifest.id.get(..12).unwrap_or_default())
}

pub(super) fn stage(
    image: &mut WindowsImage<'_>,
    system: &System,
    repository: &dyn Packages,
    packages: &BTreeMap<String, Chosen>,
) -> Result<(), Error> {
    if packages.is_empty() {
        return Ok(());
    }
    let corrupt = |found: String| Error::Corrupt {
        path: LIST.to_owned(),
        expected: "a list of packages".to_owned(),
        found,
    };
    let mut list: Vec<Staged> = match image.read_file(LIST, MAX_LIST_BYTES)? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?,
        None => Vec::new(),
    };
    for package in packages.values() {
        let manifest = &package.manifest;
        if list.iter().any(|staged| staged.id == manifest.id) {
            continue;
        }
        let directory = directory_of(manifest);
        put_files(image, repository, manifest, &directory)?;
        let (id, inf, files) = (manifest.id.clone(), manifest.inf.clone(), manifest.files.clone());
        list.push(Staged { id, inf, directory, files });
    }
    let mut text = serde_json::to_vec_pretty(&list).map_err(|error| corrupt(error.to_string()))?;
    text.push(b'\n');
    image.write_file(LIST, text)?;
    search_path(image, system, &list)?;
    if system.setup != SetupState::InUse {
        let command = install_command(system.version);
        image.edit_answer_file(|answers| {
            answers.run_in_specialize(system.arch, "Install drivers", &command, Position::First);
        })?;
    }
    Ok(())
}

/// All files of a package below a directory of the image, each checked first.
pub(super) fn put_files(
    image: &mut WindowsImage<'_>,
    repository: &dyn Packages,
    manifest: &Manifest,
    directory: &str,
) -> Result<(), Error> {
    for file in &manifest.files {
        image
            .add_placed(&format!("{directory}\\{}", file.path.replace('/', "\\")), repository.place(file)?)?;
    }
    Ok(())
}

/// `DevicePath`: where Windows looks when it meets a device. It stays of its type, and nothing is there twice.
fn search_path(image: &mut WindowsImage<'_>, system: &System, list: &[Staged]) -> Result<(), Error> {
    let key = "Microsoft\\Windows\\CurrentVersion";
    if !image.has_hive(HiveFile::Software) {
        return Ok(());
    }
    let old = image.text(HiveFile::Software, key, "DevicePath")?;
    let mut path = old.filter(|text| !text.is_empty()).unwrap_or_else(|| "%SystemRoot%\\inf".to_owned());
    let wanted: Vec<String> = if system.version >= SEARCHES_BELOW {
        vec![DRIVERS_DIR_IN_WINDOWS.to_owned()]
    } else {
        list.iter().map(|staged| staged.directory.replacen("Windows", "%SystemRoot%", 1)).collect()
    };
    for dir in wanted {
        if !path.split(';').any(|known| known.trim().eq_ignore_ascii_case(&dir)) {
            path = format!("{path};{dir}");
        }
    }
    let data = Data { kind: ValueType::EXPAND_SZ, ..Data::expand_sz(&path) };
    image.set_value(HiveFile::Software, key, "DevicePath", &data)
}

/// Ends with 0 whatever happened: a driver that does not install must not end setup. Its log says what happened.
fn install_command(version: OsVersion) -> String {
    let dir = DRIVERS_DIR_IN_WINDOWS;
    let log = "%SystemRoot%\\Gravure\\drivers.log";
    if version >= PNPUTIL_WORDS {
        return format!(
            "cmd.exe /c \"pnputil.exe /add-driver \"{dir}\\*.inf\" /subdirs /install > {log} 2>&1 & exit /b 0\""
        );
    }
    format!(
        "cmd.exe /c \"(for /r \"{dir}\" %i in (*.inf) do pnputil.exe -i -a \"%i\") > {log} 2>&1 & exit /b 0\""
    )
}
