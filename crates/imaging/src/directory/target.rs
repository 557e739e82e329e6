//! A Unix directory as the target of an image.
//!
//! Directories come first, all of them private to us (mode 0700), so that nobody can plant anything in a tree that
//! is being filled. Each file is then created, filled, given its further names and its metadata by one thread in one
//! go. Directories get their metadata last, deepest first, as filling them changes their times. Everything goes
//! through handles of parents that were opened without following links: a link that came from the image a moment
//! ago leads nowhere (wim-container 14.4).

mod keep;

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gravure_linux::{Dir, dir};
use gravure_nttypes::MAX_REPARSE_BYTES;
use gravure_tree::{ExtendedAttribute, Loss, Node, NodeId, Reparse, Tree, UnixData};

use super::links;
use super::losses::losses;
use super::places::{DirNumber, Handles, Places};
use super::scan::UnixMetadata;
use super::unix::{self, UnixKind};
use crate::meter::Meter;
use crate::uses::{Part, Use};
use crate::{Error, ErrorKind};

/// Longest name on Linux file systems, bytes.
const MAX_NAME_BYTES: usize = 255;
/// Mode while a tree is being filled.
const PRIVATE_DIR: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// What happens to entries that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// Nothing but `lost+found` may be there.
    #[default]
    Refuse,
    /// Others may be there, but none of the names that are to be made, directories excepted.
    Beside,
    /// Files are replaced, directories are kept and filled.
    Replace,
    /// The same, but files that have the content they are to have already are not fetched again: what an interrupted apply left is
    /// gone on with.
    Keep,
}

/// What happens to the target directory itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RootMetadata {
    /// It becomes the root of the image: owner, mode, times, extended attributes.
    #[default]
    Set,
    /// It stays as it is.
    Keep,
}

/// What becomes of links whose target was made to start at the root of the image when it was captured
/// ([`crate::Symlinks::Rebase`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkTargets {
    /// They get the target that the image has.
    #[default]
    Keep,
    /// They lead to the same file below the target directory.
    BelowTarget,
}

/// One tree on its way into one directory. Shared by all threads.
pub(crate) struct DirectoryTarget<'a> {
    tree: &'a Tree,
    root: Arc<Dir>,
    places: Places,
    /// First name of each node that is made, by node index.
    first: Vec<Option<(DirNumber, OsString)>>,
    /// Further names.
    more: HashMap<NodeId, Vec<(DirNumber, OsString)>>,
    /// Directories in the order they were made, parents first.
    directories: Vec<(DirNumber, NodeId)>,
    existing: Existing,
    root_metadata: RootMetadata,
    /// Whether owners, modes, devices and extended attributes of the tree count.
    unix: UnixMetadata,
    /// What is put before targets of links that start at the root of the image.
    link_base: Option<PathBuf>,
    is_root: bool,
    meter: &'a Meter<'a>,
    /// Files that are there with the right content.
    kept: HashSet<NodeId>,
    kept_bytes: u64,
    /// Counted while applying: what this file system or this user cannot set.
    xattrs_lost: AtomicU64,
    owners_lost: AtomicU64,
}

impl std::fmt::Debug for DirectoryTarget<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirectoryTarget").field("root", &self.root).finish_non_exhaustive()
    }
}

impl<'a> DirectoryTarget<'a> {
    /// Takes the directory `path`, which is made when it is not there.
    pub(crate) fn open(
        path: &Path,
        tree: &'a Tree,
        existing: Existing,
        root_metadata: RootMetadata,
        unix: UnixMetadata,
        links: LinkTargets,
        meter: &'a Meter<'a>,
    ) -> Result<Self, Error> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("make directory", path.display())(error));
            }
            _ => {}
        }
        let root = Dir::open_root(path).map_err(Error::linux(path.display()))?;
        if existing == Existing::Refuse {
            let entries = root.entries().map_err(Error::linux(path.display()))?;
            if let Some(entry) = entries.iter().find(|entry| entry.name != "lost+found") {
                return Err(Error::Refused {
                    what: format!("applying to {}", path.display()),
                    why: format!("it is not empty: {} is there", entry.name.to_string_lossy()),
                });
            }
        }
        let link_base = match links {
            LinkTargets::Keep => None,
            LinkTargets::BelowTarget => {
                Some(path.canonicalize().map_err(Error::io("find the absolute path of", path.display()))?)
            }
        };
        Ok(Self {
            tree,
            root: Arc::new(root),
            places: Places::new(),
            first: vec![None; tree.node_count()],
            more: HashMap::new(),
            directories: vec![(0, tree.root())],
            existing,
            root_metadata,
            unix,
            link_base,
            is_root: gravure_linux::process::is_root(),
            meter,
            kept: HashSet::new(),
            kept_bytes: 0,
            xattrs_lost: AtomicU64::new(0),
            owners_lost: AtomicU64::new(0),
        })
    }

    pub(crate) fn handles(&self) -> Handles {
        Handles::new(Arc::clone(&self.root))
    }

    /// Makes all directories and decides under which names files go.
    pub(crate) fn structure(&mut self, ctl: &gravure_model::Ctl) -> Result<(), Error> {
        let mut handles = self.handles();
        let mut at = 0;
        // The list grows while it is worked off: parents before children.
        while let Some((number, id)) = self.directories.get(at).copied() {
            at += 1;
            ctl.check()?;
            for entry in self.tree.children(id) {
                let name = unix::os_name(&entry.name);
                if name.len() > MAX_NAME_BYTES {
                    let path = self.places.entry_path(number, &name);
                    self.meter.skip(|| format!("{path}: name of {} bytes is too long; left out", name.len()));
                    continue;
                }
                if self.kind(self.tree.node(entry.node)) == UnixKind::Directory {
                    let parent = handles.get(&self.places, number)?;
                    self.make_dir(&parent, number, &name)?;
                    let number = self.places.add(number, name);
                    self.directories.push((number, entry.node));
                } else if self.first[entry.node.index()].is_none() {
                    self.first[entry.node.index()] = Some((number, name));
                } else {
                    self.more.entry(entry.node).or_default().push((number, name));
                }
            }
        }
        Ok(())
    }

    fn make_dir(&self, parent: &Dir, number: DirNumber, name: &OsStr) -> Result<(), Error> {
        self.replacing(parent, number, name, |parent| match parent.make_dir(name, PRIVATE_DIR) {
            // What is there may be a directory already, which is kept; `open_dir` refuses links.
            Err(error) if is_exists(&error) && parent.open_dir(name).is_ok() => Ok(()),
            other => other,
        })
    }

    /// Whether `wanted` goes into the directory.
    pub(crate) fn wants(&self, wanted: Use) -> bool {
        if self.first[wanted.node.index()].is_none() || self.kept.contains(&wanted.node) {
            return false;
        }
        let node = self.tree.node(wanted.node);
        match self.kind(node) {
            UnixKind::File => wanted.part == Part::Data,
            // More than any system takes: left to `node`, which says so.
            UnixKind::Link => {
                let size = node.reparse.as_ref().map_or(0, |reparse| reparse.content.size);
                wanted.part == Part::Reparse && size <= MAX_REPARSE_BYTES as u64
            }
            _ => false,
        }
    }

    /// Whether `node`, of which no content is wanted, is to be made by [`DirectoryTarget::node`].
    pub(crate) fn makes(&self, node: NodeId) -> bool {
        self.first[node.index()].is_some()
    }

    /// Files that were there with the right content, and their bytes.
    pub(crate) fn kept(&self) -> (u64, u64) {
        (self.kept.len() as u64, self.kept_bytes)
    }

    /// How many nodes are made.
    pub(crate) fn count(&self) -> u64 {
        (self.first.iter().flatten().count() + self.directories.len()) as u64
    }

    /// Makes everything that uses a content which is here as a whole.
    pub(crate) fn whole(&self, handles: &mut Handles, uses: &[Use], bytes: &[u8]) -> Result<(), Error> {
        for wanted in uses {
            let node = self.tree.node(wanted.node);
            match wanted.part {
                Part::Reparse => self.make_link(handles, wanted.node, node, bytes)?,
                _ => {
                    let file = self.create(handles, wanted.node)?;
                    file.write_all_at(bytes, 0).map_err(|e| self.io("write", wanted.node)(e))?;
                    self.finish_file(handles, wanted.node, &file)?;
                }
            }
        }
        Ok(())
    }

    fn create(&self, handles: &mut Handles, id: NodeId) -> Result<File, Error> {
        let (number, name) = self.first_name(id)?;
        let parent = handles.get(&self.places, *number)?;
        self.replacing(&parent, *number, name, |parent| parent.create_file(name, PRIVATE_FILE))
    }

    /// Creates the file that pieces go to: that of the first use. The others are copied from it.
    pub(crate) fn create_first(&self, handles: &mut Handles, uses: &[Use]) -> Result<File, Error> {
        let first = uses.first().ok_or_else(|| no_use("open"))?;
        self.create(handles, first.node)
    }

    /// Writes a piece.
    pub(crate) fn write(&self, uses: &[Use], file: &File, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let first = uses.first().ok_or_else(|| no_use("write"))?;
        file.write_all_at(bytes, offset).map_err(|e| self.io("write", first.node)(e))
    }

    /// Finishes the file that pieces were written to, and copies it for the other files with the same content.
    pub(crate) fn finish(
        &self,
        handles: &mut Handles,
        uses: &[Use],
        file: &File,
        size: u64,
    ) -> Result<(), Error> {
        let Some((first, others)) = uses.split_first() else { return Ok(()) };
        self.finish_file(handles, first.node, file)?;
        for other in others {
            let copy = self.create(handles, other.node)?;
            self.copy(other.node, file, &copy, size)?;
            self.finish_file(handles, other.node, &copy)?;
        }
        Ok(())
    }

    fn copy(&self, id: NodeId, from: &File, to: &File, size: u64) -> Result<(), Error> {
        let mut buf = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(1 << 20)];
        let mut offset = 0;
        while offset < size {
            let len = usize::try_from(size - offset).unwrap_or(usize::MAX).min(buf.len());
            let piece = &mut buf[..len];
            from.read_exact_at(piece, offset).map_err(|e| self.io("read back", id)(e))?;
            to.write_all_at(piece, offset).map_err(|e| self.io("write", id)(e))?;
            offset += len as u64;
        }
        Ok(())
    }

    /// Makes a node that has no content to wait for: an empty file, a special file, a link whose target is known.
    pub(crate) fn node(&self, handles: &mut Handles, id: NodeId) -> Result<(), Error> {
        let node = self.tree.node(id);
        match self.kind(node) {
            UnixKind::Directory => Ok(()),
            UnixKind::File => {
                let file = match self.kept.contains(&id) {
                    true => self.open_kept(handles, id)?,
                    false => self.create(handles, id)?,
                };
                self.finish_file(handles, id, &file)
            }
            UnixKind::Link => self.make_link(handles, id, node, &[]),
            UnixKind::Special(special) => {
                let (number, name) = self.first_name(id)?;
                let parent = handles.get(&self.places, *number)?;
                let made = self.replacing(&parent, *number, name, |parent| {
                    match parent.make_node(name, special, PRIVATE_FILE) {
                        Err(error) if is_not_permitted(&error) => Ok(false),
                        other => other.map(|()| true),
                    }
                })?;
                if !made {
                    let path = self.places.entry_path(*number, name);
                    self.meter.skip(|| format!("{path}: not permitted to make device nodes; left out"));
                    return Ok(());
                }
                self.finish_entry(handles, id, &parent, name)
            }
            UnixKind::Opaque => {
                let (number, name) = self.first_name(id)?;
                let path = self.places.entry_path(*number, name);
                let tag = node.reparse.as_ref().map_or(0, |reparse| reparse.tag.0);
                self.meter.skip(|| format!("{path}: reparse point {tag:#010x} has no form here; left out"));
                Ok(())
            }
        }
    }

    fn make_link(&self, handles: &mut Handles, id: NodeId, node: &Node, data: &[u8]) -> Result<(), Error> {
        let (number, name) = self.first_name(id)?;
        let target = match &node.reparse {
            Some(Reparse { tag, .. }) => unix::link_target(*tag, data),
            None => Err("no reparse data".to_owned()),
        };
        let target = match target {
            Ok(target) if !target.is_empty() && !target.as_bytes().contains(&0) => {
                let is_rebased =
                    node.reparse.as_ref().is_some_and(|reparse| unix::is_rebased(reparse, &target));
                match &self.link_base {
                    Some(base) if is_rebased => links::below(base, &target),
                    _ => target,
                }
            }
            other => {
                let path = self.places.entry_path(*number, name);
                let why = other.err().unwrap_or_else(|| "empty or with a zero byte".to_owned());
                self.meter.skip(|| format!("{path}: link target: {why}; left out"));
                return Ok(());
            }
        };
        let parent = handles.get(&self.places, *number)?;
        self.replacing(&parent, *number, name, |parent| parent.make_symlink(&target, name))?;
        self.finish_entry(handles, id, &parent, name)
    }

    /// Further names and metadata of a file by its handle.
    fn finish_file(&self, handles: &mut Handles, id: NodeId, file: &File) -> Result<(), Error> {
        let (number, name) = self.first_name(id)?;
        if self.more.contains_key(&id) {
            let parent = handles.get(&self.places, *number)?;
            self.link_more(handles, id, &parent, name)?;
        }
        self.open_metadata(self.tree.node(id), file).map_err(|e| self.linux(id)(e))
    }

    /// Further names and metadata of what cannot be opened.
    fn finish_entry(
        &self,
        handles: &mut Handles,
        id: NodeId,
        parent: &Dir,
        name: &OsStr,
    ) -> Result<(), Error> {
        self.link_more(handles, id, parent, name)?;
        self.entry_metadata(self.tree.node(id), parent, name).map_err(|e| self.linux(id)(e))
    }

    fn link_more(&self, handles: &mut Handles, id: NodeId, from: &Dir, name: &OsStr) -> Result<(), Error> {
        for (number, further) in self.more.get(&id).into_iter().flatten() {
            let into = handles.get(&self.places, *number)?;
            self.replacing(&into, *number, further, |into| from.link(name, into, further))?;
        }
        Ok(())
    }

    /// Owner, mode, extended attributes, times, in the order in which one does not undo the other: a change of owner
    /// drops set-id bits and capabilities, an access list rewrites the mode.
    fn open_metadata(
        &self,
        node: &Node,
        file: impl std::os::fd::AsFd + Copy,
    ) -> Result<(), gravure_linux::Error> {
        if let Some(unix) = self.unix_data(node) {
            self.owner(|| dir::set_file_owner(file, unix.uid, unix.gid))?;
        }
        dir::set_file_mode(file, self.mode(node))?;
        for attribute in self.xattrs(node) {
            let name = OsStr::from_bytes(&attribute.name);
            self.xattr(|| gravure_linux::xattr::set_file_xattr(file, name, &attribute.value))?;
        }
        let times = &node.times;
        dir::set_file_times(file, unix::timestamp(times.accessed), unix::timestamp(times.written))
    }

    fn entry_metadata(&self, node: &Node, parent: &Dir, name: &OsStr) -> Result<(), gravure_linux::Error> {
        if let Some(unix) = self.unix_data(node) {
            self.owner(|| parent.set_owner(name, unix.uid, unix.gid))?;
        }
        if self.kind(node) != UnixKind::Link {
            parent.set_mode(name, self.mode(node))?;
        }
        for attribute in self.xattrs(node) {
            let key = OsStr::from_bytes(&attribute.name);
            self.xattr(|| parent.set_xattr(name, key, &attribute.value))?;
        }
        let times = &node.times;
        parent.set_times(name, unix::timestamp(times.accessed), unix::timestamp(times.written))
    }

    /// What `node` becomes: a device that does not count as one is an empty file.
    fn kind(&self, node: &Node) -> UnixKind {
        match (unix::kind_of(node), self.unix) {
            (UnixKind::Special(_), UnixMetadata::Leave) => UnixKind::File,
            (kind, _) => kind,
        }
    }

    fn unix_data(&self, node: &Node) -> Option<UnixData> {
        node.unix.filter(|_| self.unix == UnixMetadata::Keep)
    }

    fn mode(&self, node: &Node) -> u32 {
        match self.unix {
            UnixMetadata::Keep => unix::mode_of(node),
            UnixMetadata::Leave => unix::plain_mode_of(node),
        }
    }

    fn xattrs<'n>(&self, node: &'n Node) -> &'n [ExtendedAttribute] {
        match self.unix {
            UnixMetadata::Keep => &node.extended_attributes,
            UnixMetadata::Leave => &[],
        }
    }

    fn owner(
        &self,
        set: impl FnOnce() -> Result<(), gravure_linux::Error>,
    ) -> Result<(), gravure_linux::Error> {
        if self.is_root {
            return set();
        }
        self.owners_lost.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn xattr(
        &self,
        set: impl FnOnce() -> Result<(), gravure_linux::Error>,
    ) -> Result<(), gravure_linux::Error> {
        match set() {
            // The file system has no such attributes, or only root may set them.
            Err(error) if is_not_permitted(&error) || error.io_kind() == io::ErrorKind::Unsupported => {
                self.xattrs_lost.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            other => other,
        }
    }

    /// Gives directories their metadata, deepest first. Returns what was lost.
    pub(crate) fn metadata(&self, ctl: &gravure_model::Ctl) -> Result<Vec<Loss>, Error> {
        let mut handles = self.handles();
        for (number, id) in self.directories.iter().rev() {
            ctl.check()?;
            if *number == 0 && self.root_metadata == RootMetadata::Keep {
                continue;
            }
            let dir = handles.get(&self.places, *number)?;
            let done = self.open_metadata(self.tree.node(*id), &*dir);
            done.map_err(|e| Error::linux(self.places.path(*number))(e))?;
        }
        let mut all = losses(self.tree);
        for (what, count) in [
            ("extended attributes", &self.xattrs_lost),
            ("owners (only root can set them)", &self.owners_lost),
        ] {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                all.push(Loss { what, count });
            }
        }
        Ok(all)
    }

    /// Returns once everything is on stable storage.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.root.sync_volume().map_err(Error::linux("/"))
    }

    fn first_name(&self, id: NodeId) -> Result<&(DirNumber, OsString), Error> {
        self.first[id.index()].as_ref().ok_or_else(|| Error::Other {
            what: "directory target".to_owned(),
            source: format!("node {} has no name", id.index()).into(),
            kind: ErrorKind::Failed,
        })
    }

    /// Does `make`; when the entry is there and may be replaced, removes it first.
    fn replacing<T>(
        &self,
        parent: &Dir,
        number: DirNumber,
        name: &OsStr,
        make: impl Fn(&Dir) -> Result<T, gravure_linux::Error>,
    ) -> Result<T, Error> {
        let made = match make(parent) {
            Err(error)
                if is_exists(&error) && matches!(self.existing, Existing::Replace | Existing::Keep) =>
            {
                parent.remove_file(name).and_then(|()| make(parent))
            }
            other => other,
        };
        made.map_err(|error| Error::linux(self.places.entry_path(number, name))(error))
    }

    fn path_of(&self, id: NodeId) -> String {
        match &self.first[id.index()] {
            Some((number, name)) => self.places.entry_path(*number, name),
            None => "/".to_owned(),
        }
    }

    fn io(&self, what: &'static str, id: NodeId) -> impl FnOnce(io::Error) -> Error + '_ {
        move |source| Error::Io { what, path: self.path_of(id), source }
    }

    fn linux(&self, id: NodeId) -> impl FnOnce(gravure_linux::Error) -> Error + '_ {
        move |source| Error::Linux { path: self.path_of(id), source }
    }
}

/// A content that nobody uses was handed over: a mistake of the caller.
fn no_use(what: &str) -> Error {
    Error::Other { what: what.to_owned(), source: "content without a use".into(), kind: ErrorKind::Failed }
}

fn is_exists(error: &gravure_linux::Error) -> bool {
    error.io_kind() == io::ErrorKind::AlreadyExists
}

fn is_not_permitted(error: &gravure_linux::Error) -> bool {
    error.io_kind() == io::ErrorKind::PermissionDenied
}
