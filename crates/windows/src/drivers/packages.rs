//! Where packages for injection come from: a repository on this machine, or bundles that a server made of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use gravure_inf::{Inf, MAX_FILE_BYTES};
use gravure_nttypes::NtName;
use gravure_tree::{ContentRef, NodeId, Origin, Tree};

use super::manifest::{FileEntry, Manifest};
use crate::Error;
use crate::image::ReadContent;
use crate::signature::{embedded_signer, vouched};

/// Largest program that is looked into; the largest graphics driver has 100 MB.
pub(super) const MAX_PROGRAM_BYTES: u64 = 1 << 30;
/// Largest description read. One of the largest INF file has some 40,000 IDs: 2 MB.
pub(super) const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// The description of a package in a bundle, and the directory of its files.
pub(super) const BUNDLE_MANIFEST: &str = "package.json";
pub(super) const BUNDLE_FILES: &str = "files";

/// Where a checked content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// A file of this machine.
    File(PathBuf),
    /// What the engine of the image knows.
    Content(ContentRef),
}

/// Packages to choose from.
pub trait Packages {
    /// Ids of packages that may name one of the hardware or compatible IDs.
    fn candidates(&self, ids: &[&str]) -> Result<BTreeSet<String>, Error>;
    /// The package of that id.
    fn package(&self, id: &str) -> Result<Manifest, Error>;
    /// The content of a file of a package, checked against its hash.
    fn content(&self, file: &FileEntry, max: u64) -> Result<Vec<u8>, Error>;
    /// Where the content of a file is, which is as its hash says.
    fn place(&self, file: &FileEntry) -> Result<Placed, Error>;

    /// A package and its INF file.
    fn load(&self, id: &str) -> Result<(Manifest, Inf), Error> {
        let manifest = self.package(id)?;
        let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
        let not_found = || Error::NotFound { what: "INF file of package", name: id.to_owned() };
        let file = manifest.files.iter().find(|file| file.path == manifest.inf).ok_or_else(not_found)?;
        let bytes = self.content(file, limit)?;
        let inf = Inf::parse(&bytes).map_err(|source| Error::Inf { path: manifest.inf.clone(), source })?;
        Ok((manifest, inf))
    }

    /// Who signed a program by a signature in itself, and whether a certificate of Microsoft's vouches for that.
    fn embedded_signature(&self, file: &FileEntry) -> Result<Option<(String, bool)>, Error> {
        let bytes = self.content(file, MAX_PROGRAM_BYTES)?;
        let Ok(Some(signed)) = embedded_signer(&bytes) else { return Ok(None) };
        let is_verified = vouched(&signed).is_ok_and(|vouched| vouched.is_some());
        Ok(Some((signed.signer, is_verified)))
    }
}

/// Packages out of bundles ([`super::Repository::write_bundle`]), which the engine of the image has among its sources.
pub struct BundledPackages<'a> {
    read: &'a ReadContent<'a>,
    packages: BTreeMap<String, Manifest>,
    by_device: BTreeMap<String, Vec<String>>,
    contents: BTreeMap<String, ContentRef>,
}

impl std::fmt::Debug for BundledPackages<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BundledPackages").field("packages", &self.packages.keys()).finish_non_exhaustive()
    }
}

impl<'a> BundledPackages<'a> {
    /// None yet; contents come through `read`.
    pub fn new(read: &'a ReadContent<'a>) -> Self {
        let (packages, by_device, contents) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { read, packages, by_device, contents }
    }

    /// Adds the package of a bundle and gives its id. `name` is for messages.
    pub fn add(&mut self, name: &str, tree: &Tree) -> Result<String, Error> {
        let corrupt = |expected: &str, found: String| Error::Corrupt {
            path: name.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let missing = |path: &str| corrupt("a bundle of a driver package", format!("no {path} in it"));
        let content = content_at(tree, BUNDLE_MANIFEST).ok_or_else(|| missing(BUNDLE_MANIFEST))?;
        let bytes = read_limited(self.read, content, name, MAX_MANIFEST_BYTES)?;
        let manifest = Manifest::parse(&bytes, None, name)?;
        for file in &manifest.files {
            let path = format!("{BUNDLE_FILES}/{}", file.path);
            let content = content_at(tree, &path).ok_or_else(|| missing(&path))?;
            if content.size != file.size {
                return Err(corrupt(&format!("{path} of {} bytes", file.size), content.size.to_string()));
            }
            self.contents.insert(file.hash.clone(), content.clone());
        }
        for id in &manifest.ids {
            self.by_device.entry(id.clone()).or_default().push(manifest.id.clone());
        }
        let id = manifest.id.clone();
        self.packages.insert(id.clone(), manifest);
        Ok(id)
    }

    fn known(&self, file: &FileEntry) -> Result<&ContentRef, Error> {
        let found = self.contents.get(&file.hash);
        found.ok_or_else(|| Error::NotFound { what: "file of a package", name: file.path.clone() })
    }
}

impl Packages for BundledPackages<'_> {
    fn candidates(&self, ids: &[&str]) -> Result<BTreeSet<String>, Error> {
        Ok(ids.iter().filter_map(|id| self.by_device.get(&id.to_uppercase())).flatten().cloned().collect())
    }

    fn package(&self, id: &str) -> Result<Manifest, Error> {
        let found = self.packages.get(id).cloned();
        found.ok_or_else(|| Error::NotFound { what: "package", name: id.to_owned() })
    }

    fn content(&self, file: &FileEntry, max: u64) -> Result<Vec<u8>, Error> {
        let bytes = read_limited(self.read, self.known(file)?, &file.path, max)?;
        let found = blake3::hash(&bytes).to_hex().to_string();
        if found != file.hash {
            let (path, expected) = (file.path.clone(), format!("content {}", file.hash));
            return Err(Error::Corrupt { path, expected, found: format!("content {found}") });
        }
        Ok(bytes)
    }

    /// The engine holds what it reads against the hashes of the bundle, so nothing is read here.
    fn place(&self, file: &FileEntry) -> Result<Placed, Error> {
        Ok(Placed::Content(self.known(file)?.clone()))
    }
}

/// The content of the file at a path with strokes.
pub(crate) fn content_at<'t>(tree: &'t Tree, path: &str) -> Option<&'t ContentRef> {
    tree.node(node_at(tree, path)?).data.as_ref()
}

pub(crate) fn node_at(tree: &Tree, path: &str) -> Option<NodeId> {
    let names = path.split('/').filter(|name| !name.is_empty());
    names.into_iter().try_fold(tree.root(), |at, name| Some(tree.child(at, &NtName::from(name))?.node))
}

pub(crate) fn read_limited(
    read: &ReadContent<'_>,
    content: &ContentRef,
    name: &str,
    max: u64,
) -> Result<Vec<u8>, Error> {
    if content.size > max {
        let (path, expected) = (name.to_owned(), format!("at most {max} bytes"));
        return Err(Error::Corrupt { path, expected, found: content.size.to_string() });
    }
    match &content.origin {
        Origin::Empty => Ok(Vec::new()),
        Origin::Inline(bytes) => Ok(bytes.to_vec()),
        _ => read(content).map_err(|source| Error::Content { path: name.to_owned(), source }),
    }
}
