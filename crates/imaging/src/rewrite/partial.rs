//! A tree of which only those directories are read that somebody looks into. A whole Windows has 200,000 files and more; what is changed in
//! it for a machine lies in a dozen directories.
//!
//! Who works on the tree is run again and again, each time with the directories read that it asked for, until it asks for none that is
//! not. What it does is in memory, so that nothing of a run that saw too little is left. Every run but the last adds a directory, so
//! there is a last one.
//!
//! **Memory:** entries of the directories that were looked into.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;
use std::sync::Arc;

use gravure_io::ReadAt;
use gravure_linux::{Dir, NodeKind};
use gravure_model::Ctl;
use gravure_ntfs::Volume;
use gravure_nttypes::{FileAttributes, FileTime, LinkTarget, NtName, ReparseTag};
use gravure_tree::{ContentRef, Node, NodeId, Origin, Reparse, SourceId, Times, Tree, UnixData};

use super::directory::{Names, open_dir, open_file, shown};
use crate::Error;
use crate::directory::unix_data;
use crate::ntfs_source::ntfs_error;

/// Deepest directory that is looked into; Windows' own go to some thirty.
const MAX_DEPTH: usize = 200;
/// Most names of a directory. The fullest one of Windows, `WinSxS`, has some 20,000.
const MAX_NAMES: usize = 1 << 20;
/// Largest file that is read whole, as the largest hive is.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// What contents of the tree refer to; no file of a set of archives has that number.
const OWN: SourceId = SourceId(u32::MAX);

/// What a tree is read from.
pub(super) trait Directories: Send + Sync {
    /// What is in a directory.
    fn entries(&self, path: &[String]) -> Result<Vec<Listed>, Error>;
    /// The content of a file.
    fn read(&self, path: &[String]) -> Result<Vec<u8>, Error>;
}

/// An entry.
pub(super) struct Listed {
    name: String,
    kind: Kind,
    written: FileTime,
    /// Owner and mode, where they count.
    unix: Option<UnixData>,
}

enum Kind {
    Directory,
    /// Of so many bytes, as far as that is known.
    File(u64),
    /// A file that has none.
    Empty,
    /// A symbolic link with this text, where links count.
    Link(String),
    /// What is not looked into.
    Other,
}

/// A tree that is read as far as somebody looks.
pub struct PartialTree {
    source: Arc<dyn Directories>,
    unclean: Option<String>,
    tree: Tree,
    /// By the keys of contents.
    files: Vec<Names>,
    /// What was read, by node.
    pub(super) before: HashMap<NodeId, Before>,
    /// Directories that were not read.
    unread: BTreeMap<NodeId, Names>,
}

/// What a node was when it was read.
pub(super) struct Before {
    pub(super) path: Names,
    pub(super) content: Option<ContentRef>,
    pub(super) is_directory: bool,
}

impl std::fmt::Debug for PartialTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unread = self.unread.len();
        f.debug_struct("PartialTree").field("files", &self.files.len()).field("unread", &unread).finish()
    }
}

/// What is worked on.
pub struct Round<'a> {
    /// The structure as far as it was read, to change as one likes: names, contents, access. Links are in it as what they are, and are
    /// not followed.
    pub tree: &'a mut Tree,
    /// Gives the contents of files as they were.
    pub read: &'a dyn Fn(&ContentRef) -> Result<Vec<u8>, Error>,
    /// Has to be told of every directory whose entries count, also of those that seem empty.
    pub looks_into: &'a dyn Fn(NodeId),
}

impl std::fmt::Debug for Round<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Round").field("tree", &self.tree).finish_non_exhaustive()
    }
}

impl PartialTree {
    /// Of the NTFS volume that fills `source`, called `name` in messages; it may be of a block image that was not restored. Sizes are those of
    /// directories, which Windows brings up to date late.
    pub fn of_volume(source: Box<dyn ReadAt>, name: &str) -> Result<Self, Error> {
        let volume = Volume::open(&*source).map_err(|error| ntfs_error(name, error))?;
        let unclean = volume.state().unclean().map(|unclean| unclean.to_string());
        let source = Arc::new(NtfsDirectories { source, volume, name: name.to_owned() });
        Ok(Self { unclean, ..Self::new(source, directory()) })
    }

    /// Of a Windows that is mounted: nothing of it is told that Windows does not know.
    pub(super) fn of_directory(root: Arc<Dir>) -> Self {
        Self::new(Arc::new(MountedDirectories { root, system: System::Windows }), directory())
    }

    /// Of a Unix system: with owners, modes and links.
    pub(super) fn of_unix_directory(root: Arc<Dir>) -> Result<Self, Error> {
        let unix = unix_data(&root.stat().map_err(Error::linux("directory"))?);
        let top = Node { unix, ..directory() };
        Ok(Self::new(Arc::new(MountedDirectories { root, system: System::Unix }), top))
    }

    fn new(source: Arc<dyn Directories>, top: Node) -> Self {
        let tree = Tree::new(top);
        let unread = BTreeMap::from([(tree.root(), Names::new())]);
        Self { source, unclean: None, tree, files: Vec::new(), before: HashMap::new(), unread }
    }

    /// Why files of the volume are not to be taken as they stand: it was not left in order. Of a mounted one the kernel knows.
    pub fn unclean(&self) -> Option<&str> {
        self.unclean.as_deref()
    }

    /// Whether a content of a tree comes from what this one was read from.
    pub fn is_own(content: &ContentRef) -> bool {
        matches!(content.origin, Origin::Source { source: OWN, .. })
    }

    /// Reads the directories on the way to these paths (names parted by strokes, in any case) and they themselves, as far as they are there:
    /// a run less for each that is asked for anyway.
    pub fn read_ahead(&mut self, paths: &[&str], ctl: &Ctl) -> Result<(), Error> {
        for path in paths {
            let mut at = self.tree.root();
            self.look_into(at, ctl)?;
            for name in path.split(['\\', '/']).filter(|name| !name.is_empty()) {
                let name = NtName::from(name);
                let mut entries = self.tree.children(at).iter();
                let found =
                    entries.find(|entry| entry.name.folded().eq(name.folded())).map(|entry| entry.node);
                let Some(found) = found.filter(|node| self.tree.node(*node).is_directory()) else { break };
                self.look_into(found, ctl)?;
                at = found;
            }
        }
        Ok(())
    }

    /// Runs `work` until it has seen all that it looked into, and gives what the last run gave and made of the tree.
    pub fn service<T, E: From<Error>>(
        &mut self,
        ctl: &Ctl,
        mut work: impl FnMut(Round<'_>) -> Result<T, E>,
    ) -> Result<(T, Tree), E> {
        loop {
            ctl.check().map_err(Error::from)?;
            let mut tree = self.tree.clone();
            let looked = RefCell::new(BTreeSet::new());
            let read = |content: &ContentRef| self.read(content);
            let looks_into = |id: NodeId| {
                looked.borrow_mut().insert(id);
            };
            let done = work(Round { tree: &mut tree, read: &read, looks_into: &looks_into });
            let looked = looked.into_inner();
            let unseen: Vec<NodeId> = looked.into_iter().filter(|id| self.unread.contains_key(id)).collect();
            if unseen.is_empty() {
                return Ok((done?, tree));
            }
            // An error may come of what was not seen, too.
            unseen.into_iter().try_for_each(|id| self.look_into(id, ctl))?;
        }
    }

    /// All bytes of a content, as it was.
    pub(super) fn read(&self, content: &ContentRef) -> Result<Vec<u8>, Error> {
        match &content.origin {
            Origin::Empty => Ok(Vec::new()),
            Origin::Inline(bytes) => Ok(bytes.to_vec()),
            Origin::Source { source: OWN, key } => {
                let path = usize::try_from(*key).ok().and_then(|at| self.files.get(at));
                self.source.read(path.ok_or_else(unknown)?)
            }
            _ => Err(unknown()),
        }
    }

    /// Reads a directory, once.
    fn look_into(&mut self, id: NodeId, ctl: &Ctl) -> Result<(), Error> {
        ctl.check()?;
        let Some(path) = self.unread.get(&id) else { return Ok(()) };
        if path.len() > MAX_DEPTH {
            let value = format!("{}: deeper than {MAX_DEPTH}", shown(path));
            return Err(Error::Unsupported { what: "directory", value });
        }
        let path = path.clone();
        for Listed { name, kind, written, unix } in self.source.entries(&path)? {
            let times = Times { created: written, accessed: written, written };
            let at: Names = path.iter().cloned().chain([name.clone()]).collect();
            let node = match kind {
                Kind::Directory => Node { times, ..directory() },
                Kind::File(size) => {
                    let key = u64::try_from(self.files.len()).unwrap_or(u64::MAX);
                    self.files.push(at.clone());
                    let origin = Origin::Source { source: OWN, key };
                    Node { times, data: Some(ContentRef { size, sha1: None, origin }), ..Node::default() }
                }
                Kind::Empty => Node { times, data: Some(ContentRef::empty()), ..Node::default() },
                Kind::Link(text) => {
                    // One with a text that no link of Windows can have is something else.
                    let data =
                        LinkTarget::from_unix(&NtName::from(text.as_str())).to_bytes(ReparseTag::SYMLINK);
                    let reparse = data.ok().map(|data| Reparse {
                        tag: ReparseTag::SYMLINK,
                        reserved: 0,
                        link_flags: 1,
                        content: ContentRef::inline(data),
                    });
                    Node { times, attributes: FileAttributes::REPARSE_POINT, reparse, ..Node::default() }
                }
                Kind::Other => Node { times, ..Node::default() },
            };
            let node = Node { unix, ..node };
            let (content, is_directory) = (node.data.clone(), node.is_directory());
            let added = self.tree.add(id, NtName::from(name.as_str()), node);
            let added = added.map_err(|error| Error::Unsupported {
                what: "name",
                value: format!("{}: {error}", shown(&at)),
            })?;
            if is_directory {
                self.unread.insert(added, at.clone());
            }
            self.before.insert(added, Before { path: at, content, is_directory });
        }
        self.unread.remove(&id);
        Ok(())
    }
}

fn directory() -> Node {
    Node { attributes: FileAttributes::DIRECTORY, children: Some(Vec::new()), ..Node::default() }
}

fn unknown() -> Error {
    Error::NotFound { what: "content", which: "in the directory".to_owned() }
}

/// Whose files they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    Windows,
    Unix,
}

/// By the kernel's file system.
struct MountedDirectories {
    root: Arc<Dir>,
    system: System,
}

impl Directories for MountedDirectories {
    fn entries(&self, path: &[String]) -> Result<Vec<Listed>, Error> {
        let dir = open_dir(&self.root, path)?;
        let mut out = Vec::new();
        for entry in dir.entries().map_err(Error::linux(shown(path)))? {
            let Some(name) = entry.name.to_str().map(str::to_owned) else {
                // Of Unix systems they are not told: what is done to such a directory leaves them alone.
                if self.system == System::Unix {
                    continue;
                }
                let value = format!("{}/{}", shown(path), entry.name.to_string_lossy());
                return Err(Error::Unsupported { what: "name that is not UTF-8", value });
            };
            let stat = dir.stat_entry(&entry.name);
            let stat = stat.map_err(Error::linux(format!("{}/{name}", shown(path))))?;
            let kind = match stat.kind {
                NodeKind::Directory => Kind::Directory,
                NodeKind::File if stat.size == 0 => Kind::Empty,
                NodeKind::File => Kind::File(stat.size),
                NodeKind::Symlink if self.system == System::Unix => {
                    let text = dir.read_link(&entry.name).map_err(Error::linux(shown(path)))?;
                    text.into_string().map_or(Kind::Other, Kind::Link)
                }
                _ => Kind::Other,
            };
            let unix = if self.system == System::Unix { unix_data(&stat) } else { None };
            let written = FileTime::from_unix(stat.modified.seconds, stat.modified.nanos);
            out.push(Listed { name, kind, written, unix });
        }
        Ok(out)
    }

    fn read(&self, path: &[String]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let mut file = open_file(&self.root, path)?.take(MAX_FILE_BYTES.saturating_add(1));
        file.read_to_end(&mut out).map_err(Error::io("read", shown(path)))?;
        match u64::try_from(out.len()).is_ok_and(|len| len <= MAX_FILE_BYTES) {
            true => Ok(out),
            false => Err(Error::Unsupported {
                what: "file in memory",
                value: format!("{}: more than {MAX_FILE_BYTES} bytes", shown(path)),
            }),
        }
    }
}

/// By our own reader.
struct NtfsDirectories {
    source: Box<dyn ReadAt>,
    volume: Volume,
    name: String,
}

impl Directories for NtfsDirectories {
    fn entries(&self, path: &[String]) -> Result<Vec<Listed>, Error> {
        let listed = self.volume.list(&*self.source, &path.join("/"), MAX_NAMES);
        let listed = listed.map_err(|error| ntfs_error(&self.name, error))?;
        let not_found =
            || Error::NotFound { what: "directory", which: format!("{} on {}", shown(path), self.name) };
        let usable = listed.ok_or_else(not_found)?.into_iter().filter_map(|entry| {
            // Names that are no text cannot be asked for.
            let name = String::from_utf16(entry.name.units()).ok().filter(|name| !name.contains('/'))?;
            let kind = match (entry.is_link, entry.is_directory) {
                (true, _) => Kind::Other,
                (false, true) => Kind::Directory,
                (false, false) => Kind::File(entry.size),
            };
            Some(Listed { name, kind, written: FileTime::default(), unix: None })
        });
        Ok(usable.collect())
    }

    fn read(&self, path: &[String]) -> Result<Vec<u8>, Error> {
        let read = self.volume.read_file(&*self.source, &path.join("/"), MAX_FILE_BYTES);
        let read = read.map_err(|error| ntfs_error(&self.name, error))?;
        read.ok_or_else(|| Error::NotFound {
            what: "file",
            which: format!("{} on {}", shown(path), self.name),
        })
    }
}

#[cfg(test)]
mod tests;
