//! A Unix directory as the source of a tree: names, owners, modes, devices, links and extended attributes are read at
//! once, contents later, by handle (wim-container 6.7 to 6.9).
//!
//! Entries are taken in the order of their names' bytes, so that two captures of equal directories are equal.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gravure_linux::{Dir, DirEntry, NodeKind, NodeStat, Timestamp};
use gravure_nttypes::NtName;
use gravure_tree::{ContentRef, ExtendedAttribute, Node, NodeId, Origin, SourceId, Tree};

use super::places::{DirNumber, Handles, Places};
use super::unix;
use crate::meter::Meter;
use crate::{Error, Exclusions};

/// Longest name and value of an extended attribute that the format holds (wim-container 6.7).
const MAX_XATTR_NAME_BYTES: usize = 255;
const MAX_XATTR_VALUE_BYTES: usize = 65535;

/// Whether a capture goes on into other file systems mounted below the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mounts {
    /// Mount points are captured as empty directories.
    #[default]
    Skip,
    /// What is mounted is captured too.
    Follow,
}

/// How a directory is read.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// Whether to go on into other file systems.
    pub mounts: Mounts,
    /// What to leave out.
    pub exclude: Exclusions,
    /// No time later than this is stored, Unix seconds: the value of `SOURCE_DATE_EPOCH` for builds that are to be
    /// reproducible. Access times are then left out too.
    pub latest_time: Option<i64>,
}

/// A directory that was read, ready to give the contents.
#[derive(Debug)]
pub(crate) struct DirectorySource {
    root_path: PathBuf,
    root: Arc<Dir>,
    places: Places,
    files: Vec<FilePlace>,
}

#[derive(Debug)]
struct FilePlace {
    dir: DirNumber,
    name: OsString,
    size: u64,
    modified: Timestamp,
}

/// An open file of a source, with what it was when its directory was read.
#[derive(Debug)]
pub(crate) struct OpenFile {
    file: File,
    size: u64,
    modified: Timestamp,
}

/// How a file differs from what it was when its directory was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changed;

impl OpenFile {
    /// Fills `buf`; bytes that are no longer there are zeros, and that is [`Changed`].
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<Result<(), Changed>> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.file.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => {
                    buf[filled..].fill(0);
                    return Ok(Err(Changed));
                }
                Ok(len) => filled += len,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(()))
    }

    /// The next reads come from the medium.
    pub(crate) fn drop_cache(&self) -> Result<(), gravure_linux::Error> {
        gravure_linux::block::drop_file_cache(&self.file)
    }

    /// Whether size and time are still those of the scan; asked after the last read.
    pub(crate) fn check(&self) -> Result<Result<(), Changed>, gravure_linux::Error> {
        let now = gravure_linux::dir::stat_file(&self.file)?;
        let same = now.size == self.size && now.modified == self.modified;
        Ok(if same { Ok(()) } else { Err(Changed) })
    }
}

impl DirectorySource {
    /// Reads the directory `path` and all below it. Contents of the tree refer to `id`.
    pub(crate) fn scan(
        path: &Path,
        id: SourceId,
        options: &ScanOptions,
        meter: &Meter<'_>,
        ctl: &gravure_model::Ctl,
    ) -> Result<(Tree, Self), Error> {
        let (mut tree, mut scan, root) = Self::start(path, id, options, meter)?;
        let todo = vec![(0, tree.root())];
        scan.all(&mut tree, &root, todo, ctl)?;
        let source = Self { root_path: path.to_owned(), root, places: scan.places, files: scan.files };
        Ok((tree, source))
    }

    /// Reads only the entry `name` of the directory `path`, with all below it.
    pub(crate) fn scan_entry(
        path: &Path,
        name: &OsStr,
        id: SourceId,
        options: &ScanOptions,
        meter: &Meter<'_>,
        ctl: &gravure_model::Ctl,
    ) -> Result<(Tree, Self), Error> {
        let (mut tree, mut scan, root) = Self::start(path, id, options, meter)?;
        let full = path.join(name).display().to_string();
        let nt_name = NtName::from_unix(name.as_bytes()).map_err(|error| Error::Other {
            what: full.clone(),
            source: Box::new(error),
            kind: crate::ErrorKind::Unsupported,
        })?;
        let stat = root.stat_entry(name).map_err(Error::linux(&full))?;
        let into = (tree.root(), name, nt_name);
        let todo = scan.entry(&mut tree, &root, 0, into, &stat, &full)?.into_iter().collect();
        scan.all(&mut tree, &root, todo, ctl)?;
        let source = Self { root_path: path.to_owned(), root, places: scan.places, files: scan.files };
        Ok((tree, source))
    }

    /// The directory `path` alone.
    fn start<'a>(
        path: &Path,
        id: SourceId,
        options: &'a ScanOptions,
        meter: &'a Meter<'a>,
    ) -> Result<(Tree, Scan<'a>, Arc<Dir>), Error> {
        let root = Arc::new(Dir::open_root(path).map_err(Error::linux(path.display()))?);
        let stat = root.stat().map_err(Error::linux(path.display()))?;
        let scan = Scan {
            id,
            options,
            meter,
            device: stat.device,
            linked: HashMap::new(),
            places: Places::new(),
            files: Vec::new(),
        };
        let xattrs = gravure_linux::xattr::read_file_xattrs(&*root).map_err(Error::linux(path.display()))?;
        let tree = Tree::new(scan.node(&stat, xattrs, "/"));
        Ok((tree, scan, root))
    }

    /// A thread's own set of open directories.
    pub(crate) fn handles(&self) -> Handles {
        Handles::new(Arc::clone(&self.root))
    }

    /// Opens the file `key`.
    pub(crate) fn open(&self, key: u64, handles: &mut Handles) -> Result<OpenFile, Error> {
        let place = self.file(key)?;
        let dir = handles.get(&self.places, place.dir)?;
        let file = dir.open_file(&place.name).map_err(|error| Error::linux(self.display_path(key))(error))?;
        Ok(OpenFile { file, size: place.size, modified: place.modified })
    }

    /// Full path of the file `key`, for messages.
    pub(crate) fn display_path(&self, key: u64) -> String {
        let root = self.root_path.display();
        match self.file(key) {
            Ok(place) => format!("{root}{}", self.places.entry_path(place.dir, &place.name)),
            Err(_) => format!("{root}: file {key}"),
        }
    }

    fn file(&self, key: u64) -> Result<&FilePlace, Error> {
        let found = usize::try_from(key).ok().and_then(|index| self.files.get(index));
        found.ok_or_else(|| Error::NotFound { what: "file", which: key.to_string() })
    }
}

struct Scan<'a> {
    id: SourceId,
    options: &'a ScanOptions,
    meter: &'a Meter<'a>,
    device: gravure_linux::DeviceNumber,
    /// Files with several names, by device and inode.
    linked: HashMap<(gravure_linux::DeviceNumber, u64), NodeId>,
    places: Places,
    files: Vec<FilePlace>,
}

impl Scan<'_> {
    /// Reads the directories `todo` with all below them.
    fn all(
        &mut self,
        tree: &mut Tree,
        root: &Arc<Dir>,
        mut todo: Vec<(DirNumber, NodeId)>,
        ctl: &gravure_model::Ctl,
    ) -> Result<(), Error> {
        let mut handles = Handles::new(Arc::clone(root));
        while let Some((number, node)) = todo.pop() {
            ctl.check()?;
            let dir = handles.get(&self.places, number)?;
            let below = self.directory(tree, &dir, number, node)?;
            // Depth first, in the order of names: handles of parents stay in use.
            todo.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// Adds the entries of one directory; returns the directories among them that are to be read.
    fn directory(
        &mut self,
        tree: &mut Tree,
        dir: &Dir,
        number: DirNumber,
        parent: NodeId,
    ) -> Result<Vec<(DirNumber, NodeId)>, Error> {
        let mut below = Vec::new();
        let entries = dir.entries().map_err(|e| Error::linux(self.places.path(number))(e))?;
        for DirEntry { name, .. } in entries {
            let path = self.places.entry_path(number, &name);
            if !self.options.exclude.is_empty() {
                let mut bytes = self.places.path(number).into_bytes();
                bytes.push(b'/');
                bytes.extend_from_slice(name.as_bytes());
                if self.options.exclude.matches(&bytes) {
                    continue;
                }
            }
            let nt_name = match NtName::from_unix(name.as_bytes()) {
                Ok(nt_name) => nt_name,
                Err(error) => {
                    self.meter.skip(|| format!("{path}: {error}; left out"));
                    continue;
                }
            };
            let stat = match dir.stat_entry(&name) {
                Ok(stat) => stat,
                // Gone since the directory was listed.
                Err(error) if error.io_kind() == std::io::ErrorKind::NotFound => {
                    self.meter.warn(|| format!("{path}: vanished while it was captured"));
                    continue;
                }
                Err(error) => return Err(Error::linux(path)(error)),
            };
            if let Some(node) = self.entry(tree, dir, number, (parent, &name, nt_name), &stat, &path)? {
                below.push(node);
            }
        }
        Ok(below)
    }

    fn entry(
        &mut self,
        tree: &mut Tree,
        dir: &Dir,
        number: DirNumber,
        (parent, name, nt_name): (NodeId, &OsStr, NtName),
        stat: &NodeStat,
        path: &str,
    ) -> Result<Option<(DirNumber, NodeId)>, Error> {
        // Reparse points cannot be hard linked in a WIM (wim-container 6.8).
        let can_link = !matches!(stat.kind, NodeKind::Directory | NodeKind::Symlink);
        let key = (stat.device, stat.inode);
        if can_link
            && stat.links > 1
            && let Some(known) = self.linked.get(&key)
        {
            let entry = gravure_tree::Entry { name: nt_name, short_name: None, node: *known };
            tree.link_checked(parent, entry).map_err(|error| tree_error(path, error))?;
            return Ok(None);
        }
        let xattrs = dir.xattrs(name).map_err(|e| Error::linux(path)(e))?;
        let mut node = self.node(stat, xattrs, path);
        match stat.kind {
            NodeKind::Symlink => {
                let target = dir.read_link(name).map_err(|e| Error::linux(path)(e))?;
                match unix::link_reparse(&target) {
                    Ok(reparse) => node.reparse = Some(reparse),
                    Err(why) => {
                        self.meter.skip(|| format!("{path}: link target: {why}; left out"));
                        return Ok(None);
                    }
                }
            }
            NodeKind::File if stat.size > 0 => {
                let key = self.files.len() as u64;
                let (name, size, modified) = (name.to_owned(), stat.size, stat.modified);
                self.files.push(FilePlace { dir: number, name, size, modified });
                let origin = Origin::Source { source: self.id, key };
                node.data = Some(ContentRef { size, sha1: None, origin });
            }
            _ => {}
        }
        let is_directory = stat.kind == NodeKind::Directory;
        let id = tree.add_checked(parent, nt_name, None, node).map_err(|error| tree_error(path, error))?;
        if can_link && stat.links > 1 {
            self.linked.insert(key, id);
        }
        if !is_directory {
            return Ok(None);
        }
        if stat.device != self.device && self.options.mounts == Mounts::Skip {
            return Ok(None);
        }
        Ok(Some((self.places.add(number, name.to_owned()), id)))
    }

    /// A node with all but its content and link target.
    fn node(&self, stat: &NodeStat, xattrs: Vec<(OsString, Vec<u8>)>, path: &str) -> Node {
        let unix = unix::unix_data(stat);
        if unix.is_none() {
            self.meter.skip(|| {
                format!("{path}: device {} does not fit into the format; owner and mode lost", stat.special)
            });
        }
        let mut extended_attributes = Vec::new();
        for (name, value) in xattrs {
            if name.len() > MAX_XATTR_NAME_BYTES || value.len() > MAX_XATTR_VALUE_BYTES {
                self.meter.skip(|| format!("{path}: extended attribute {name:?} is too long; left out"));
                continue;
            }
            extended_attributes.push(ExtendedAttribute { name: name.into_vec(), flags: 0, value });
        }
        let is_directory = stat.kind == NodeKind::Directory;
        Node {
            attributes: unix::attributes(stat.kind),
            times: unix::times(stat, self.options.latest_time),
            unix,
            extended_attributes,
            data: (!is_directory).then(ContentRef::empty),
            children: is_directory.then(Vec::new),
            ..Node::default()
        }
    }
}

fn tree_error(path: &str, error: gravure_tree::TreeError) -> Error {
    Error::Other { what: path.to_owned(), source: Box::new(error), kind: crate::ErrorKind::Failed }
}
