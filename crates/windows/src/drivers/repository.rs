//! Packages in and out of a repository.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gravure_inf::{Inf, MAX_FILE_BYTES, Target};
use gravure_model::inventory::Device;

use super::index::{IdsOf, Index};
use super::inject::Unsigned;
use super::lock::WriteLock;
use super::manifest::{FileEntry, Manifest, PackageSignature, is_hash};
use super::matching::{DeviceMatch, matches};
use super::packages::{
    BUNDLE_FILES, BUNDLE_MANIFEST, MAX_MANIFEST_BYTES, MAX_PROGRAM_BYTES, Packages, Placed,
};
use crate::Error;
use crate::signature::{Catalog, MAX_CATALOG_BYTES, Roots, Vouched, vouched};

/// Marks a directory as a repository.
const MARKER: &str = "gravure-drivers.json";
/// How long one who adds waits for another to be done.
const WRITER_PATIENCE: Duration = Duration::from_secs(300);
/// How long one who only reads does so, before an index in memory has to do.
const READER_PATIENCE: Duration = Duration::from_secs(10);
/// Who signs packages that passed Microsoft's hardware program.
const HARDWARE_SIGNER: &str = "Microsoft Windows Hardware Compatibility Publisher";
/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;

/// How packages are taken.
#[derive(Debug, Clone, Copy, Default)]
pub struct AddOptions {
    /// Take packages without a catalogue, and those whose catalogue is not of their files or not as it was signed.
    pub allow_unsigned: bool,
    /// Take packages that lack files for every processor.
    pub allow_incomplete: bool,
}

/// What adding did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// The package.
    pub manifest: Manifest,
    /// Whether it was not there before.
    pub is_new: bool,
}

/// A package whose files are stored and whose description is not yet written.
#[derive(Debug)]
struct Pending {
    manifest: Manifest,
    /// Where contents came from, by hash.
    sources: BTreeMap<String, PathBuf>,
}

/// A driver repository in a directory.
#[derive(Debug)]
pub struct Repository {
    pub(super) root: PathBuf,
    index: Mutex<Index>,
    pending: BTreeMap<String, Pending>,
    /// Certificates that signers' chains must lead to; any chain will do when there is none.
    roots: Option<Roots>,
}

impl Repository {
    /// Makes an empty repository in `root`, or opens the one that is there.
    pub fn create(root: &Path) -> Result<Self, Error> {
        for dir in ["objects", "packages"] {
            let dir = root.join(dir);
            fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        }
        if !root.join(MARKER).is_file() {
            write(root, &root.join(MARKER), b"{\"version\":1}\n")?;
        }
        Self::open(root)
    }

    /// Opens a repository. An index that does not fit is made anew: in its place, or in memory where nothing can be written.
    pub fn open(root: &Path) -> Result<Self, Error> {
        if !root.join(MARKER).is_file() {
            return Err(Error::NotFound { what: "driver repository", name: root.display().to_string() });
        }
        let index = match opened(root)? {
            Some(index) => index,
            None => mended(root, Index::update)?,
        };
        Ok(Self { root: root.to_owned(), index: Mutex::new(index), pending: BTreeMap::new(), roots: None })
    }

    /// Lets only packages in whose signers lead to one of these certificates.
    pub fn require_roots(&mut self, roots: Roots) {
        self.roots = Some(roots);
    }

    /// Takes a package out, and the contents that no other has. The index follows with [`Repository::commit`], or wherever the
    /// repository is opened before.
    pub fn remove(&mut self, manifest: &Manifest) -> Result<(), Error> {
        let _lock = self.lock()?;
        let place = self.place_of(&manifest.id);
        fs::remove_file(&place).map_err(Error::io("delete", &place))?;
        let mut needed: BTreeSet<String> = BTreeSet::new();
        let pending = self.pending.values().map(|pending| &pending.manifest);
        for other in self.packages()?.iter().chain(pending) {
            needed.extend(other.files.iter().map(|file| file.hash.clone()));
        }
        for file in manifest.files.iter().filter(|file| !needed.contains(&file.hash)) {
            let object = self.object(&file.hash);
            // Two files of one package may have one content.
            if let Err(error) = fs::remove_file(&object)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(Error::io("delete", &object)(error));
            }
        }
        Ok(())
    }

    /// All packages, sorted by id.
    pub fn packages(&self) -> Result<Vec<Manifest>, Error> {
        package_names(&self.root)?.iter().map(|id| self.package(id)).collect()
    }

    /// The package whose id starts with `id`, if there is exactly one.
    pub fn find(&self, id: &str) -> Result<Manifest, Error> {
        let names = package_names(&self.root)?;
        let mut fitting = names.iter().filter(|name| !id.is_empty() && name.starts_with(id));
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => self.package(one),
            _ => Err(Error::NotFound { what: "package", name: id.to_owned() }),
        }
    }

    /// Takes the package of the INF file at `path`: the file, its catalogues, and all files it copies. It counts from
    /// [`Repository::commit`] on.
    pub fn add(&mut self, path: &Path, options: AddOptions) -> Result<Added, Error> {
        let shown = path.display().to_string();
        let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
        let inf =
            Inf::parse(&read(path, limit)?).map_err(|source| Error::Inf { path: shown.clone(), source })?;
        let refused = |why: String| Error::Refused { path: shown.clone(), why };
        if inf.all_models().is_empty() {
            return Err(refused("no devices: it installs nothing by hardware ID".to_owned()));
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| refused("name is not UTF-8".to_owned()))?;
        let mut lookup = Lookup::new(dir);

        // By path within the package, lower case: two processors may share files.
        let mut found: BTreeMap<String, (String, PathBuf)> = BTreeMap::new();
        found.insert(name.to_lowercase(), (name.to_owned(), path.to_owned()));
        let catalogs: BTreeSet<String> =
            inf.version().catalogs.into_iter().map(|catalog| catalog.file).collect();
        let mut has_catalog = false;
        for catalog in &catalogs {
            if let Some(file) = lookup.find(catalog)? {
                has_catalog = true;
                found.insert(catalog.to_lowercase(), file);
            }
        }
        if !has_catalog && !options.allow_unsigned {
            let names = catalogs.into_iter().collect::<Vec<_>>().join(", ");
            let which = if names.is_empty() {
                "the INF file names none".to_owned()
            } else {
                format!("{names} is not there")
            };
            return Err(refused(format!("no catalogue, so it is not signed: {which}")));
        }
        let (mut complete, mut missing) = (Vec::new(), Vec::new());
        for arch in inf.architectures() {
            let before = missing.len();
            for file in inf.files(arch) {
                match lookup.find(&file)? {
                    Some(there) => drop(found.insert(file.to_lowercase(), there)),
                    None => missing.push(format!("{file} ({arch})")),
                }
            }
            if missing.len() == before {
                complete.push(arch);
            }
        }
        if complete.is_empty() && !options.allow_incomplete {
            return Err(refused(format!("files are missing: {}", missing.join(", "))));
        }

        let signature = match self.check_signature(&catalogs, &found)? {
            Ok(signature) => Some(signature),
            Err(why) if has_catalog && !options.allow_unsigned => return Err(refused(why)),
            Err(_) => None,
        };
        let (mut files, mut sources) = (Vec::new(), BTreeMap::new());
        for (path, source) in found.into_values() {
            let stored = self.store(&path, &source)?;
            sources.insert(stored.hash.clone(), source);
            files.push(stored);
        }
        let manifest = Manifest { signature, ..Manifest::new(&inf, name, files, &complete, has_catalog) };
        let there = self.place_of(&manifest.id).metadata().is_ok_and(|data| data.len() > 0);
        let is_new = !there && !self.pending.contains_key(&manifest.id);
        if is_new {
            self.pending.insert(manifest.id.clone(), Pending { manifest: manifest.clone(), sources });
        }
        Ok(Added { manifest, is_new })
    }

    /// What the catalogues among `found` prove of all other files; `Ok(Err(why))` when they prove nothing.
    fn check_signature(
        &self,
        catalogs: &BTreeSet<String>,
        found: &BTreeMap<String, (String, PathBuf)>,
    ) -> Result<Result<PackageSignature, String>, Error> {
        let names: BTreeSet<String> = catalogs.iter().map(|name| name.to_lowercase()).collect();
        let mut read_in = Vec::new();
        for (_, (name, path)) in found.iter().filter(|(key, _)| names.contains(*key)) {
            read_in.push((name, read(path, MAX_CATALOG_BYTES)?));
        }
        let mut signature: Option<PackageSignature> = None;
        let mut parsed = Vec::new();
        for (name, bytes) in &read_in {
            let checked = Catalog::parse(bytes).and_then(|catalog| {
                let signed = catalog.verify()?;
                let is_trusted = self.roots.as_ref().map(|roots| roots.trust(&signed)).transpose()?;
                let vouched = vouched(&signed)?;
                Ok((catalog, signed, is_trusted, vouched))
            });
            match checked {
                Ok((_, signed, Some(false), _)) => {
                    return Ok(Err(format!(
                        "{name}: signed by {}, whom no trusted certificate vouches for",
                        signed.signer
                    )));
                }
                Ok((catalog, signed, is_trusted, vouched)) => {
                    let by_microsoft = vouched == Some(Vouched::HardwareProgram);
                    signature.get_or_insert(PackageSignature {
                        hardware_program: by_microsoft && signed.signer == HARDWARE_SIGNER,
                        verified: vouched.is_some() || is_trusted == Some(true),
                        signer: signed.signer,
                        root: signed.root,
                        submission: catalog.submission().map(str::to_owned),
                    });
                    parsed.push(catalog);
                }
                Err(error) => return Ok(Err(format!("{name}: {error}"))),
            }
        }
        let Some(signature) = signature else { return Ok(Err("no catalogue".to_owned())) };
        for (_, (name, path)) in found.iter().filter(|(key, _)| !names.contains(*key)) {
            let bytes = read(path, MAX_PROGRAM_BYTES)?;
            if !parsed.iter().any(|catalog| catalog.contains(&bytes)) {
                return Ok(Err(format!("{name} is not the file that was signed: no catalogue has its hash")));
            }
        }
        Ok(Ok(signature))
    }

    /// Copies a file among the objects; one that is there already is read back instead.
    fn store(&self, path: &str, source: &Path) -> Result<FileEntry, Error> {
        let objects = self.root.join("objects");
        let mut from = fs::File::open(source).map_err(Error::io("read", source))?;
        let mut to = temporary(&objects)?;
        let mut hash = blake3::Hasher::new();
        let mut size = 0u64;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let len = from.read(&mut buffer).map_err(Error::io("read", source))?;
            let Some(part) = buffer.get(..len).filter(|part| !part.is_empty()) else { break };
            hash.update(part);
            size = size.saturating_add(u64::try_from(len).unwrap_or(0));
            to.write_all(part).map_err(Error::io("write", &objects))?;
        }
        let hash = hash.finalize().to_hex().to_string();
        let place = self.object(&hash);
        if !self.is_whole(&place, &hash)? {
            let dir = place.parent().unwrap_or(&objects);
            fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
            to.persist(&place).map_err(|error| Error::io("write", &place)(error.error))?;
        }
        Ok(FileEntry { path: path.replace('\\', "/"), size, hash })
    }

    /// Whether an object is there with the content that its name says.
    fn is_whole(&self, place: &Path, hash: &str) -> Result<bool, Error> {
        let mut file = match fs::File::open(place) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::io("read", place)(error)),
        };
        let mut found = blake3::Hasher::new();
        found.update_reader(&mut file).map_err(Error::io("read", place))?;
        Ok(found.finalize().to_hex().as_str() == hash)
    }

    fn object(&self, hash: &str) -> PathBuf {
        self.root.join("objects").join(hash.get(..2).unwrap_or("00")).join(hash)
    }

    /// Where a file of a package lies, after its content was checked.
    pub(super) fn checked_object(&self, file: &FileEntry) -> Result<PathBuf, Error> {
        let path = self.object(&file.hash);
        if self.is_whole(&path, &file.hash)? {
            return Ok(path);
        }
        let found = if path.is_file() { "another content" } else { "nothing" };
        let (path, expected) = (path.display().to_string(), format!("content {}", file.hash));
        Err(Error::Corrupt { path, expected, found: found.to_owned() })
    }

    /// Makes the packages added since the last time part of the repository, and brings the index up to what is there, whoever else
    /// added and took out. Each step is on the disk before the next: contents, descriptions that name them, the index, which
    /// says that descriptions are whole. Two flushes of the volume, however many files there are.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.flush()?;
        let _lock = self.lock()?;
        if self.store_again()? {
            self.flush()?;
        }
        let dir = self.root.join("packages");
        for (id, Pending { manifest, .. }) in &self.pending {
            let place = self.place_of(id);
            let mut text = serde_json::to_vec_pretty(manifest).map_err(|error| Error::Io {
                what: "describe",
                path: place.display().to_string(),
                source: error.into(),
            })?;
            text.push(b'\n');
            write(&dir, &place, &text)?;
        }
        self.flush()?;
        let written = std::mem::take(&mut self.pending);
        let names = package_names(&self.root)?;
        let index = Index::update(&self.root, &names, &|id| match written.get(id) {
            Some(written) => Ok(written.manifest.ids.clone()),
            None => Ok(package(&self.root, id)?.ids),
        })?;
        self.index = Mutex::new(index);
        Ok(())
    }

    /// Stores contents of new packages again that somebody took out with the last package that named them. Whether there were any.
    fn store_again(&self) -> Result<bool, Error> {
        let mut is_any = false;
        for Pending { manifest, sources } in self.pending.values() {
            for file in manifest.files.iter().filter(|file| !self.object(&file.hash).is_file()) {
                let source = sources.get(&file.hash).map_or_else(|| Path::new(&file.path), PathBuf::as_path);
                let found = self.store(&file.path, source)?.hash;
                if found != file.hash {
                    let (path, expected) = (source.display().to_string(), format!("content {}", file.hash));
                    return Err(Error::Corrupt { path, expected, found: format!("content {found}") });
                }
                is_any = true;
            }
        }
        Ok(is_any)
    }

    /// Nobody else writes while this is held.
    pub(super) fn lock(&self) -> Result<WriteLock, Error> {
        WriteLock::take(&self.root.join(MARKER), WRITER_PATIENCE)
    }

    fn flush(&self) -> Result<(), Error> {
        let dir = gravure_linux::dir::Dir::open_root(&self.root).and_then(|dir| dir.sync_volume());
        dir.map_err(|source| Error::Linux { path: self.root.display().to_string(), source })
    }

    pub(super) fn place_of(&self, id: &str) -> PathBuf {
        place_of(&self.root, id)
    }

    /// Writes all files of a package below `dir`, each checked; nothing there is replaced.
    pub fn export(&self, manifest: &Manifest, dir: &Path) -> Result<(), Error> {
        for file in &manifest.files {
            let to = dir.join(&file.path);
            let parent = to.parent().unwrap_or(dir);
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
            let bytes = self.content(file, u64::MAX)?;
            let mut out = fs::File::create_new(&to).map_err(Error::io("create", &to))?;
            out.write_all(&bytes).map_err(Error::io("write", &to))?;
        }
        Ok(())
    }
}

impl Repository {
    /// As [`matches`] for a repository, on machines that take signed drivers only.
    pub fn matches(&self, devices: &[Device], target: &Target) -> Result<Vec<DeviceMatch>, Error> {
        matches(self, devices, target, Unsigned::Refuse)
    }

    /// Writes a package into the empty directory `dir`, from which an image is made that [`super::BundledPackages`] takes:
    /// its description, and its files in a directory below.
    pub fn write_bundle(&self, manifest: &Manifest, dir: &Path) -> Result<(), Error> {
        let place = dir.join(BUNDLE_MANIFEST);
        let text = serde_json::to_vec(manifest).map_err(|error| Error::Io {
            what: "describe",
            path: place.display().to_string(),
            source: error.into(),
        })?;
        fs::write(&place, text).map_err(Error::io("write", &place))?;
        self.export(manifest, &dir.join(BUNDLE_FILES))
    }
}

impl Packages for Repository {
    /// An index that turns out to be damaged is opened again, as somebody may have made it anew; then it is made anew.
    fn candidates(&self, ids: &[&str]) -> Result<BTreeSet<String>, Error> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = index.find(ids) {
            return Ok(found);
        }
        if let Some(other) = opened(&self.root)? {
            *index = other;
            if let Some(found) = index.find(ids) {
                return Ok(found);
            }
        }
        *index = mended(&self.root, Index::rebuild)?;
        index.find(ids).ok_or_else(|| Error::Corrupt {
            path: self.root.display().to_string(),
            expected: "an index that can be read once it was made anew".to_owned(),
            found: "damage in it".to_owned(),
        })
    }

    /// What the description says of its files must be what the id is made of.
    fn package(&self, id: &str) -> Result<Manifest, Error> {
        package(&self.root, id)
    }

    fn content(&self, file: &FileEntry, max: u64) -> Result<Vec<u8>, Error> {
        let path = self.object(&file.hash);
        let bytes = read(&path, max)?;
        let found = blake3::hash(&bytes).to_hex().to_string();
        if found != file.hash {
            let (path, expected) = (path.display().to_string(), format!("content {}", file.hash));
            return Err(Error::Corrupt { path, expected, found: format!("content {found}") });
        }
        Ok(bytes)
    }

    fn place(&self, file: &FileEntry) -> Result<Placed, Error> {
        self.checked_object(file).map(Placed::File)
    }
}

/// The index as it is, if it fits what is there.
fn opened(root: &Path) -> Result<Option<Index>, Error> {
    // Names alone first: an index of all of them says that each was whole when it was written, and saves a look at each.
    let names = listed(root)?;
    if let Some(index) = Index::open(root, &names) {
        return Ok(Some(index));
    }
    let whole = package_names(root)?;
    Ok(if whole == names { None } else { Index::open(root, &whole) })
}

/// The index made to fit by `how`; in memory where nothing can be written, or somebody else writes for too long.
fn mended(
    root: &Path,
    how: impl FnOnce(&Path, &[String], &IdsOf<'_>) -> Result<Index, Error>,
) -> Result<Index, Error> {
    let ids_of = |id: &str| Ok(package(root, id)?.ids);
    if let Ok(_lock) = WriteLock::take(&root.join(MARKER), READER_PATIENCE)
        && let Ok(index) = how(root, &package_names(root)?, &ids_of)
    {
        return Ok(index);
    }
    // What is wrong with packages, and not with writing, is told here, too.
    Index::in_memory(root, &package_names(root)?, &ids_of)
}

/// Ids of all packages, sorted. Empty files are what a power cut leaves.
fn package_names(root: &Path) -> Result<Vec<String>, Error> {
    let mut names = listed(root)?;
    names.retain(|id| place_of(root, id).metadata().is_ok_and(|data| data.len() > 0));
    Ok(names)
}

/// Ids that files of packages are called by, sorted, whatever is in them.
fn listed(root: &Path) -> Result<Vec<String>, Error> {
    let dir = root.join("packages");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
        let entry = entry.map_err(Error::io("list", &dir))?;
        let name = entry.file_name();
        // Files that are still being written have other names.
        let id = name.to_str().and_then(|name| name.strip_suffix(".json")).filter(|id| is_hash(id));
        names.extend(id.map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
}

fn place_of(root: &Path, id: &str) -> PathBuf {
    root.join("packages").join(format!("{id}.json"))
}

fn package(root: &Path, id: &str) -> Result<Manifest, Error> {
    let path = place_of(root, id);
    Manifest::parse(&read(&path, MAX_MANIFEST_BYTES)?, Some(id), &path.display().to_string())
}

/// Files below a directory by path without regard to case, as Windows finds them.
struct Lookup<'a> {
    root: &'a Path,
    /// Names in a directory: in lower case, as they are.
    dirs: BTreeMap<PathBuf, BTreeMap<String, String>>,
}

impl<'a> Lookup<'a> {
    fn new(root: &'a Path) -> Self {
        Self { root, dirs: BTreeMap::new() }
    }

    /// Path within the package as it is there, and where that is. Nothing outside of the package is found.
    fn find(&mut self, path: &str) -> Result<Option<(String, PathBuf)>, Error> {
        let mut place = self.root.to_owned();
        let mut inner = Vec::new();
        for part in path.split(['\\', '/']).filter(|part| !part.is_empty() && *part != ".") {
            let Some(name) = self.names(&place)?.get(&part.to_lowercase()).cloned() else { return Ok(None) };
            place.push(&name);
            inner.push(name);
        }
        // A link could lead anywhere.
        let is_file = fs::symlink_metadata(&place).is_ok_and(|data| data.is_file());
        Ok(is_file.then(|| (inner.join("/"), place)))
    }

    fn names(&mut self, dir: &Path) -> Result<&BTreeMap<String, String>, Error> {
        if !self.dirs.contains_key(dir) {
            let mut names = BTreeMap::new();
            if fs::symlink_metadata(dir).is_ok_and(|data| data.is_dir()) || dir == self.root {
                for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
                    let name = entry.map_err(Error::io("list", dir))?.file_name();
                    if let Some(name) = name.to_str() {
                        names.insert(name.to_lowercase(), name.to_owned());
                    }
                }
            }
            self.dirs.insert(dir.to_owned(), names);
        }
        Ok(self.dirs.entry(dir.to_owned()).or_default())
    }
}

/// A whole file of at most `max` bytes.
fn read(path: &Path, max: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let limit = max.saturating_add(1);
    let file = fs::File::open(path).map_err(Error::io("read", path))?;
    let len = file.take(limit).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if u64::try_from(len).unwrap_or(u64::MAX) > max {
        let (expected, found) = (format!("at most {max} bytes"), "more".to_owned());
        return Err(Error::Corrupt { path: path.display().to_string(), expected, found });
    }
    Ok(bytes)
}

/// A new file in `dir` that others may read once it has its name.
pub(super) fn temporary(dir: &Path) -> Result<tempfile::NamedTempFile, Error> {
    let permissions = fs::Permissions::from_mode(0o644);
    let file = tempfile::Builder::new().prefix(".gravure-").permissions(permissions).tempfile_in(dir);
    file.map_err(Error::io("create a file in", dir))
}

/// Writes a file beside its place and renames it; `commit` flushes.
fn write(dir: &Path, place: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = temporary(dir)?;
    file.write_all(bytes).map_err(Error::io("write", place))?;
    file.persist(place).map_err(|error| Error::io("write", place)(error.error))?;
    Ok(())
}
