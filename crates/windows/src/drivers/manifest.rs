//! What a package is: its files, and what its INF file says in short.

use gravure_inf::{Arch, Date, DriverVersion, Inf};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Version of manifests.
pub(super) const MANIFEST_VERSION: u32 = 1;

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path within the package, with strokes, as it was found.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// BLAKE3 of the content, hexadecimal.
    pub hash: String,
}

/// What the catalogue of a package proves: it is whole, and all files are those that were signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSignature {
    /// Whose certificate it is.
    pub signer: String,
    /// Whose certificate is at the end of its chain.
    pub root: String,
    /// Microsoft's hardware program signed it, by a certificate of Microsoft's and not by a name alone.
    pub hardware_program: bool,
    /// A certificate of Microsoft's, or one that the site trusts, is in its chain. Without it the signer is no more than a name.
    #[serde(default)]
    pub verified: bool,
    /// The number under which it was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submission: Option<String>,
}

/// A package of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this document.
    pub version: u32,
    /// Hash of the list of files: names the package.
    pub id: String,
    /// Path of the INF file, one of `files`.
    pub inf: String,
    /// All files, sorted by path.
    pub files: Vec<FileEntry>,
    /// Device class.
    pub class: Option<String>,
    /// GUID of the device class.
    pub class_guid: Option<String>,
    /// Who made it.
    pub provider: Option<String>,
    /// Date of `DriverVer`, `yyyy-mm-dd`.
    pub date: Option<String>,
    /// Version of `DriverVer`.
    pub driver_version: Option<String>,
    /// Processors for which all files are there.
    pub architectures: Vec<String>,
    /// An extension of other drivers, not a driver of its own.
    pub extension: bool,
    /// Some service of it is loaded by the boot loader.
    pub boot_critical: bool,
    /// Whether a catalogue that the INF file names is among the files.
    pub has_catalog: bool,
    /// What its catalogue proves of all its files; `None` when nothing is proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<PackageSignature>,
    /// Hardware and compatible IDs, upper case, sorted, each once.
    pub ids: Vec<String>,
}

impl Manifest {
    /// The package of `inf`, which stands at `path` among `files`.
    pub(super) fn new(
        inf: &Inf,
        path: &str,
        mut files: Vec<FileEntry>,
        complete: &[Arch],
        has_catalog: bool,
    ) -> Self {
        files.sort();
        let version = inf.version();
        let mut ids: Vec<String> =
            inf.all_models().iter().flat_map(|m| m.ids()).map(str::to_uppercase).collect();
        ids.sort_unstable();
        ids.dedup();
        Self {
            version: MANIFEST_VERSION,
            id: id_of(&files),
            inf: path.to_owned(),
            files,
            extension: version.is_extension(),
            class_guid: version.class_guid.map(|guid| guid.to_string()),
            class: version.class,
            provider: version.provider,
            date: version.date.as_ref().map(Date::to_string),
            driver_version: version.version.as_ref().map(DriverVersion::to_string),
            architectures: complete.iter().map(Arch::to_string).collect(),
            boot_critical: inf.is_boot_critical(),
            has_catalog,
            signature: None,
            ids,
        }
    }
}

impl Manifest {
    /// Reads a description, whose id must be `id` where that is known. `name` is for messages.
    pub(super) fn parse(bytes: &[u8], id: Option<&str>, name: &str) -> Result<Self, Error> {
        let corrupt = |expected: &str, found: String| Error::Corrupt {
            path: name.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| corrupt("a package's description", error.to_string()))?;
        if manifest.version != MANIFEST_VERSION {
            return Err(corrupt("version 1", format!("version {}", manifest.version)));
        }
        let (found, id) = (id_of(&manifest.files), id.unwrap_or(&manifest.id));
        if found != id || manifest.id != id {
            return Err(corrupt(&format!("files of package {id}"), format!("files of package {found}")));
        }
        if let Some(bad) = manifest.files.iter().find(|file| !is_hash(&file.hash) || !is_plain(&file.path)) {
            return Err(corrupt("hashes and paths below the package", bad.path.clone()));
        }
        if !manifest.files.iter().any(|file| file.path == manifest.inf) {
            return Err(corrupt("an INF file among the files", manifest.inf.clone()));
        }
        Ok(manifest)
    }
}

/// Hash over paths in lower case, lengths and hashes: the same files are the same package wherever they came from.
pub(super) fn id_of(files: &[FileEntry]) -> String {
    let mut hash = blake3::Hasher::new();
    for file in files {
        hash.update(file.path.to_lowercase().as_bytes());
        hash.update(&[0]);
        hash.update(&file.size.to_le_bytes());
        hash.update(file.hash.as_bytes());
    }
    hash.finalize().to_hex().to_string()
}

/// 64 hexadecimal digits in lower case.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A path that stays below where it starts.
fn is_plain(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\\', ':', '\0'])
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
