//! From directories to a tree: names, owners, modes, devices, links and extended attributes are read at once, contents
//! later (wim-container 6.7 to 6.9).
//!
//! Entries are taken in the order of their names' bytes, so that two captures of equal directories are equal. A tree may
//! come from several directories and files, each put at its own path; a directory that is there already is then filled
//! and keeps what is said of it, a file that is there already is replaced.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use gravure_linux::{DeviceNumber, Dir, NodeKind, NodeStat};
use gravure_model::Ctl;
use gravure_nttypes::{FileAttributes, FileTime, NtName};
use gravure_tree::{
    ContentRef, Entry, ExtendedAttribute, Node, NodeId, Origin, SourceId, Times, Tree, TreeError,
};

use super::follow::{Ancestor, Found, Place, ancestor, follow, open_root};
use super::links::Rebase;
use super::places::{DirNumber, Handles, Places};
use super::source::{DirectorySource, FilePlace};
use super::unix;
use crate::meter::Meter;
use crate::ntfs_source::UncleanVolumes;
use crate::{Error, ErrorKind, Exclusions};

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

/// What a capture makes of symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Symlinks {
    /// Links with the target they have.
    #[default]
    Keep,
    /// Absolute links that lead into the captured directory are made to start at its root, so that they are right
    /// wherever the image is applied with [`crate::LinkTargets::BelowTarget`].
    Rebase,
    /// What they lead to takes their place.
    Follow,
}

/// Whether owners, modes, devices and extended attributes are captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnixMetadata {
    /// They are; devices, pipes and sockets too.
    #[default]
    Keep,
    /// Only what Windows knows is: directories, files and links with their times. Devices, pipes and sockets are left
    /// out.
    Leave,
}

/// What a capture takes of security descriptors. Directories of this system have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecurityMetadata {
    /// All that can be read; one that cannot is left out and told of.
    #[default]
    Keep,
    /// All; one that cannot be read ends the capture.
    Require,
    /// None.
    Leave,
}

/// How a directory is read.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// Whether to go on into other file systems.
    pub mounts: Mounts,
    /// What to make of symbolic links.
    pub symlinks: Symlinks,
    /// Whether to take what only Unix knows.
    pub unix: UnixMetadata,
    /// What to leave out.
    pub exclude: Exclusions,
    /// No time later than this is stored, Unix seconds: the value of `SOURCE_DATE_EPOCH` for builds that are to be
    /// reproducible. Access times are then left out too.
    pub latest_time: Option<i64>,
    /// What happens to volumes that were not left in order.
    pub unclean: UncleanVolumes,
    /// What is taken of the security descriptors of volumes.
    pub security: SecurityMetadata,
}

/// What happens when a file is to be put where one is already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlay {
    /// The later one takes its place.
    #[default]
    Replace,
    /// That is an error.
    Refuse,
}

/// Reads one directory after the other into a tree.
pub(crate) struct Scanner<'a> {
    id: SourceId,
    options: &'a ScanOptions,
    meter: &'a Meter<'a>,
    ctl: &'a Ctl,
    /// Files with several names, by device and inode.
    linked: HashMap<(DeviceNumber, u64), NodeId>,
    places: Places,
    files: Vec<FilePlace>,
}

/// What holds for everything below one source.
struct Source {
    device: DeviceNumber,
    overlay: Overlay,
    rebase: Option<Rebase>,
    /// A file that was named itself: patterns that leave things out are not for it.
    is_single: bool,
}

/// A directory to be read.
struct Task {
    place: DirNumber,
    node: NodeId,
    /// From the directory that is captured, `/` before each name.
    path: Vec<u8>,
    /// Whether it may have entries already.
    is_shared: bool,
    above: Option<Rc<Ancestor>>,
}

/// An entry by name, and in full for messages.
struct Named<'n> {
    name: &'n OsStr,
    nt_name: NtName,
    shown: &'n str,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(id: SourceId, options: &'a ScanOptions, meter: &'a Meter<'a>, ctl: &'a Ctl) -> Self {
        let (linked, places, files) = (HashMap::new(), Places::new(), Vec::new());
        Self { id, options, meter, ctl, linked, places, files }
    }

    /// What gives the contents of all that was read.
    pub(crate) fn finish(self) -> DirectorySource {
        DirectorySource::new(self.places, self.files)
    }

    /// A tree of the directory `path`.
    pub(crate) fn root(&mut self, path: &Path) -> Result<Tree, Error> {
        let (root, stat) = open_root(path)?;
        let node = self.root_node(&root, &stat, path)?;
        let mut tree = Tree::new(node);
        let at = tree.root();
        self.below(&mut tree, at, path, root, &stat, Overlay::Replace, false)?;
        Ok(tree)
    }

    /// A tree without anything in it, for sources that come to lie below its root.
    pub(crate) fn empty(&self) -> Tree {
        Tree::new(self.made_directory())
    }

    /// Puts the directory or file `path` at `target`, a list of names from the root. Directories on the way are made. A
    /// root that was made is replaced by the first directory that is put there.
    pub(crate) fn add(
        &mut self,
        tree: &mut Tree,
        path: &Path,
        target: &[NtName],
        overlay: Overlay,
    ) -> Result<(), Error> {
        let shown = || target.iter().map(|name| format!("/{name}")).collect::<String>();
        // A link that is to become the root stands for its directory; elsewhere it is a link like any other.
        let is_followed = target.is_empty() || self.options.symlinks == Symlinks::Follow;
        let read = if is_followed { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) };
        let metadata = read.map_err(Error::io("read", path.display()))?;
        let Some((name, above)) = target.split_last() else {
            if !metadata.is_dir() {
                return Err(no_directory(path.display().to_string()));
            }
            let (root, stat) = open_root(path)?;
            let at = tree.root();
            let is_new = tree.children(at).is_empty();
            if is_new {
                let node = self.root_node(&root, &stat, path)?;
                *tree.node_mut(at) = node;
            }
            return self.below(tree, at, path, root, &stat, overlay, !is_new);
        };
        let mut parent = tree.root();
        for name in above {
            parent = match tree.child(parent, name).map(|entry| entry.node) {
                Some(node) if tree.node(node).is_directory() => node,
                Some(_) => return Err(no_directory(format!("{name} of {}", shown()))),
                None => {
                    let made = tree.add(parent, name.clone(), self.made_directory());
                    made.map_err(|error| tree_error(&shown(), error))?
                }
            };
        }
        let existing = tree.child(parent, name).map(|entry| entry.node);
        if metadata.is_dir() {
            let (root, stat) = open_root(path)?;
            let at = match existing {
                Some(node) if tree.node(node).is_directory() => node,
                Some(_) => return Err(in_the_way(&shown(), "a directory", "a file")),
                None => {
                    let node = self.root_node(&root, &stat, path)?;
                    tree.add(parent, name.clone(), node).map_err(|error| tree_error(&shown(), error))?
                }
            };
            return self.below(tree, at, path, root, &stat, overlay, existing.is_some());
        }
        self.single(tree, path, parent, name.clone(), overlay, &shown())
    }

    /// A file, link or special file as a source of its own.
    fn single(
        &mut self,
        tree: &mut Tree,
        path: &Path,
        parent: NodeId,
        nt_name: NtName,
        overlay: Overlay,
        shown: &str,
    ) -> Result<(), Error> {
        let name = path.file_name().ok_or_else(|| no_directory(path.display().to_string()))?;
        let above = match path.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        let (dir, stat) = open_root(above)?;
        let dir = Arc::new(dir);
        let place = self.places.add_base(above, Arc::clone(&dir));
        let source = Source { device: stat.device, overlay, rebase: None, is_single: true };
        let task = Task { place, node: parent, path: Vec::new(), is_shared: true, above: None };
        self.entry(tree, &dir, &source, &task, Named { name, nt_name, shown })?;
        Ok(())
    }

    /// Reads everything below an opened directory.
    #[expect(clippy::too_many_arguments, reason = "what a source consists of; three call sites in this file")]
    fn below(
        &mut self,
        tree: &mut Tree,
        at: NodeId,
        path: &Path,
        root: Dir,
        stat: &NodeStat,
        overlay: Overlay,
        is_shared: bool,
    ) -> Result<(), Error> {
        let is_root = at == tree.root();
        let rebase = match self.options.symlinks {
            Symlinks::Rebase if is_root => Some(Rebase::to(path)?),
            _ => None,
        };
        let source = Source { device: stat.device, overlay, rebase, is_single: false };
        let place = self.places.add_base(path, Arc::new(root));
        let above = ancestor(stat, None);
        let mut handles = Handles::of_bases();
        let mut todo = vec![Task { place, node: at, path: Vec::new(), is_shared, above }];
        while let Some(task) = todo.pop() {
            self.ctl.check()?;
            let dir = handles.get(&self.places, task.place)?;
            let below = self.directory(tree, &dir, &source, &task)?;
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
        source: &Source,
        task: &Task,
    ) -> Result<Vec<Task>, Error> {
        let mut below = Vec::new();
        let entries = dir.entries().map_err(|e| Error::linux(self.places.path(task.place))(e))?;
        for entry in entries {
            let shown = self.places.entry_path(task.place, &entry.name);
            let nt_name = match NtName::from_unix(entry.name.as_bytes()) {
                Ok(nt_name) => nt_name,
                Err(error) => {
                    self.meter.skip(|| format!("{shown}: {error}; left out"));
                    continue;
                }
            };
            let named = Named { name: &entry.name, nt_name, shown: &shown };
            below.extend(self.entry(tree, dir, source, task, named)?);
        }
        Ok(below)
    }

    /// Adds one entry; returns it when it is a directory that is to be read.
    fn entry(
        &mut self,
        tree: &mut Tree,
        dir: &Dir,
        source: &Source,
        task: &Task,
        named: Named<'_>,
    ) -> Result<Option<Task>, Error> {
        let shown = named.shown;
        let mut path = task.path.clone();
        path.push(b'/');
        path.extend_from_slice(named.name.as_bytes());
        let Some(found) = self.find(dir, task, &named, !source.is_single, &path)? else { return Ok(None) };
        let Found { stat, place } = found;
        let is_directory = stat.kind == NodeKind::Directory;
        let is_read = is_directory && (stat.device == source.device || self.options.mounts == Mounts::Follow);
        let existing = match task.is_shared {
            true => tree.child(task.node, &named.nt_name).map(|entry| entry.node),
            false => None,
        };
        if let Some(node) = existing {
            match (tree.node(node).is_directory(), is_directory) {
                (true, true) => {
                    let place = self.place_of(task, named.name, place);
                    let above = ancestor(&stat, task.above.clone());
                    return Ok(is_read.then(|| Task { place, node, path, is_shared: true, above }));
                }
                (true, false) => return Err(in_the_way(shown, "a file", "a directory")),
                (false, true) => return Err(in_the_way(shown, "a directory", "a file")),
                (false, false) if source.overlay == Overlay::Refuse => {
                    let why = "a file of that name is there already".to_owned();
                    return Err(Error::Refused { what: format!("adding {shown}"), why });
                }
                (false, false) => {
                    let removed = tree.remove(task.node, &named.nt_name);
                    removed.map_err(|error| tree_error(shown, error))?;
                }
            }
        }
        // Reparse points cannot be hard linked in a WIM (wim-container 6.8). A link that is followed adds a name to
        // what it leads to, whatever the number of its own names.
        let can_link = !matches!(stat.kind, NodeKind::Directory | NodeKind::Symlink)
            && (stat.links > 1 || self.options.symlinks == Symlinks::Follow);
        let key = (stat.device, stat.inode);
        if can_link && let Some(known) = self.linked.get(&key) {
            let entry = Entry { name: named.nt_name, short_name: None, node: *known };
            tree.link_checked(task.node, entry).map_err(|error| tree_error(shown, error))?;
            return Ok(None);
        }
        let Some(node) = self.node_of(dir, source, task, &named, &stat, &place)? else { return Ok(None) };
        let added = tree.add_checked(task.node, named.nt_name, None, node);
        let node = added.map_err(|error| tree_error(shown, error))?;
        if can_link {
            self.linked.insert(key, node);
        }
        if !is_read {
            return Ok(None);
        }
        let place = self.place_of(task, named.name, place);
        let above = ancestor(&stat, task.above.clone());
        Ok(Some(Task { place, node, path, is_shared: false, above }))
    }

    /// What an entry is, or what it leads to. `None` when it is gone or left out.
    fn find(
        &self,
        dir: &Dir,
        task: &Task,
        named: &Named<'_>,
        can_exclude: bool,
        path: &[u8],
    ) -> Result<Option<Found>, Error> {
        let shown = named.shown;
        let stat = match dir.stat_entry(named.name) {
            Ok(stat) => stat,
            // Gone since the directory was listed.
            Err(error) if error.io_kind() == std::io::ErrorKind::NotFound && can_exclude => {
                self.meter.warn(|| format!("{shown}: vanished while it was captured"));
                return Ok(None);
            }
            Err(error) => return Err(Error::linux(shown)(error)),
        };
        let is_followed = stat.kind == NodeKind::Symlink && self.options.symlinks == Symlinks::Follow;
        let excludes = |is_directory| can_exclude && self.options.exclude.excludes(path, is_directory);
        // Before a link is followed: one that leads nowhere can be left out.
        if excludes(stat.kind == NodeKind::Directory || is_followed) {
            return Ok(None);
        }
        let found = if is_followed { follow(shown)? } else { Found { stat, place: Place::Here } };
        let kind = found.stat.kind;
        if is_followed && excludes(kind == NodeKind::Directory) {
            return Ok(None);
        }
        if kind == NodeKind::Directory && task.above.as_ref().is_some_and(|above| above.has(&found.stat)) {
            return Err(Error::Refused {
                what: format!("capturing {shown}"),
                why: "it leads to a directory above it, so there is no end".to_owned(),
            });
        }
        let is_special = !matches!(kind, NodeKind::File | NodeKind::Directory | NodeKind::Symlink);
        if is_special && self.options.unix == UnixMetadata::Leave {
            self.meter.warn(|| format!("{shown}: special files are captured with Unix data only; left out"));
            return Ok(None);
        }
        Ok(Some(found))
    }

    /// The directory that an entry of `task` is.
    fn place_of(&mut self, task: &Task, name: &OsStr, place: Place) -> DirNumber {
        match place {
            Place::Here => self.places.add(task.place, name.to_owned()),
            Place::There(path, _) => self.places.add_distant_base(path),
        }
    }

    /// A node with its content or link target; `None` when it had to be left out.
    fn node_of(
        &mut self,
        dir: &Dir,
        source: &Source,
        task: &Task,
        named: &Named<'_>,
        stat: &NodeStat,
        place: &Place,
    ) -> Result<Option<Node>, Error> {
        let (name, shown) = (named.name, named.shown);
        let xattrs = match (self.options.unix, place) {
            (UnixMetadata::Leave, _) => Vec::new(),
            (_, Place::Here) => dir.xattrs(name).map_err(|e| Error::linux(shown)(e))?,
            (_, Place::There(_, xattrs)) => xattrs.clone(),
        };
        let mut node = self.node(stat, xattrs, shown);
        match stat.kind {
            NodeKind::Symlink => {
                let target = dir.read_link(name).map_err(|e| Error::linux(shown)(e))?;
                let fixed = source.rebase.as_ref().and_then(|rebase| rebase.target(&target));
                match unix::link_reparse(fixed.as_deref().unwrap_or(&target), fixed.is_some()) {
                    Ok(reparse) => node.reparse = Some(reparse),
                    Err(why) => {
                        self.meter.skip(|| format!("{shown}: link target: {why}; left out"));
                        return Ok(None);
                    }
                }
            }
            NodeKind::File if stat.size > 0 => {
                let (dir, name) = match place {
                    Place::Here => (task.place, name.to_owned()),
                    Place::There(leads, _) => {
                        let above = leads.parent().unwrap_or(leads).to_owned();
                        (
                            self.places.add_distant_base(above),
                            leads.file_name().unwrap_or_default().to_owned(),
                        )
                    }
                };
                let key = self.files.len() as u64;
                let (size, modified) = (stat.size, stat.modified);
                self.files.push(FilePlace { dir, name, size, modified });
                let origin = Origin::Source { source: self.id, key };
                node.data = Some(ContentRef { size, sha1: None, origin });
            }
            _ => {}
        }
        Ok(Some(node))
    }

    fn root_node(&self, root: &Dir, stat: &NodeStat, path: &Path) -> Result<Node, Error> {
        let xattrs = match self.options.unix {
            UnixMetadata::Leave => Vec::new(),
            UnixMetadata::Keep => {
                gravure_linux::xattr::read_file_xattrs(root).map_err(Error::linux(path.display()))?
            }
        };
        Ok(self.node(stat, xattrs, "/"))
    }

    /// A directory that no source has.
    fn made_directory(&self) -> Node {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let now = match self.options.latest_time {
            Some(latest) => FileTime::from_unix(latest, 0),
            None => FileTime::from_unix(seconds, since.subsec_nanos()),
        };
        Node {
            attributes: FileAttributes::DIRECTORY,
            times: Times { created: now, accessed: now, written: now },
            children: Some(Vec::new()),
            ..Node::default()
        }
    }

    /// A node with all but its content and link target.
    fn node(&self, stat: &NodeStat, xattrs: Vec<(OsString, Vec<u8>)>, path: &str) -> Node {
        let unix = match self.options.unix {
            UnixMetadata::Leave => None,
            UnixMetadata::Keep => {
                let unix = unix::unix_data(stat);
                if unix.is_none() {
                    self.meter.skip(|| {
                        let device = stat.special;
                        format!("{path}: device {device} does not fit into the format; owner and mode lost")
                    });
                }
                unix
            }
        };
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

fn no_directory(what: String) -> Error {
    Error::Usage { what, expected: "a directory".to_owned(), found: "something else".to_owned() }
}

fn in_the_way(path: &str, wanted: &str, found: &str) -> Error {
    let (what, why) =
        (format!("putting {wanted} at {path}"), format!("{found} of that name is there already"));
    Error::Refused { what, why }
}

fn tree_error(path: &str, error: TreeError) -> Error {
    Error::Other { what: path.to_owned(), source: Box::new(error), kind: ErrorKind::Failed }
}

#[cfg(test)]
mod tests;
