//! Changes to the tree of an image: files and directories added, deleted and renamed, without a mount.

use std::path::{Path, PathBuf};

use gravure_model::Ctl;
use gravure_nttypes::{FileAttributes, NtName};
use gravure_tree::{ContentRef, Node, NodeId, SourceId, Times, Tree, UnixData};

use super::new_file::directory_id;
use crate::capture::now;
use crate::directory::{DirectorySource, Overlay, ScanOptions, Symlinks, UnixKind, kind_of};
use crate::glob::NameCase;
use crate::meter::Meter;
use crate::{Error, ErrorKind};

/// A change to the tree of an image. Paths are from its root, with `/`; in images of Windows also with `\`, and then
/// the case of letters does not matter.
#[derive(Debug, Clone)]
pub enum TreeChange {
    /// The file or directory `source` goes to the path `to`. Directories above it are made, files of that path are
    /// replaced, directories are merged.
    Add {
        /// On this machine. A link is added as a link.
        source: PathBuf,
        /// In the image.
        to: String,
        /// How it is read.
        scan: ScanOptions,
        /// What happens with a file that is there already.
        overlay: Overlay,
    },
    /// The content `content` becomes the file `to`.
    Write {
        /// What the file is to hold.
        content: Vec<u8>,
        /// In the image.
        to: String,
    },
    /// The file or directory goes, with all below it.
    Delete {
        /// In the image.
        path: String,
        /// What may be deleted.
        rule: DeleteRule,
    },
    /// The file or directory gets another path. A file that is there is replaced.
    Rename {
        /// In the image.
        from: String,
        /// In the image.
        to: String,
    },
}

/// What a deletion may find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteRule {
    /// Whether a directory goes with all below it; otherwise it is refused.
    pub recursive: bool,
    /// Whether nothing at that path is no error.
    pub force: bool,
}

impl Default for DeleteRule {
    fn default() -> Self {
        Self { recursive: true, force: false }
    }
}

/// How paths in an image are understood, and what of Unix is put into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImageRules {
    /// As the image asks for: in images of Unix systems paths have `/`, what is added keeps owners and modes, and what is
    /// made gets some; in images of Windows also `\\`, the case of letters does not matter, and nothing of Unix is added.
    #[default]
    OfImage,
    /// Paths have `/` or `\\`, and names are compared like this; what is added is added as it was read.
    Fixed(NameCase),
}

/// Mode of directories that are made on the way, in images of Unix systems.
const MADE_DIRECTORY_MODE: u32 = 0o040_755;
/// Mode of files that are made of given content.
const MADE_FILE_MODE: u32 = 0o100_644;

/// A tree that is being changed, with the directories that its new contents are in.
pub(super) struct TreeEdit<'a> {
    pub(super) tree: Tree,
    pub(super) directories: Vec<(SourceId, DirectorySource)>,
    /// Whether what is made gets owners and modes: the image has them.
    is_unix: bool,
    /// Whether what is added loses owners and modes.
    is_stripped: bool,
    /// Whether `\\` separates names.
    has_backslash: bool,
    case: NameCase,
    overlay: Overlay,
    meter: &'a Meter<'a>,
    ctl: &'a Ctl,
}

impl<'a> TreeEdit<'a> {
    pub(super) fn new(tree: Tree, rules: ImageRules, meter: &'a Meter<'a>, ctl: &'a Ctl) -> Self {
        let has_owners = tree.node(tree.root()).unix.is_some();
        let (is_unix, is_stripped, has_backslash, case) = match rules {
            ImageRules::OfImage if has_owners => (true, false, false, NameCase::Exact),
            ImageRules::OfImage => (false, true, true, NameCase::Ignore),
            ImageRules::Fixed(case) => (false, false, true, case),
        };
        Self {
            tree,
            directories: Vec::new(),
            is_unix,
            is_stripped,
            has_backslash,
            case,
            overlay: Overlay::Replace,
            meter,
            ctl,
        }
    }

    pub(super) fn apply(&mut self, change: &TreeChange) -> Result<(), Error> {
        match change {
            TreeChange::Add { source, to, scan, overlay } => self.add(source, to, scan, *overlay),
            TreeChange::Write { content, to } => self.write(content, to),
            TreeChange::Delete { path, rule } => self.delete(path, *rule),
            TreeChange::Rename { from, to } => self.rename(from, to),
        }
    }

    fn add(&mut self, source: &Path, to: &str, scan: &ScanOptions, overlay: Overlay) -> Result<(), Error> {
        self.overlay = overlay;
        let shown = source.display().to_string();
        // A link is added as a link, unless links are to be followed or it stands for the root.
        let is_followed = scan.symlinks == Symlinks::Follow || self.names(to).is_empty();
        let meta = if is_followed { std::fs::metadata(source) } else { std::fs::symlink_metadata(source) };
        let meta = meta.map_err(Error::io("read", &shown))?;
        let id = directory_id(self.directories.len());
        let (part, directory) = if meta.is_dir() {
            DirectorySource::scan(source, id, scan, self.meter, self.ctl)?
        } else {
            let above = source.parent().filter(|above| !above.as_os_str().is_empty());
            let name =
                source.file_name().ok_or_else(|| Error::NotFound { what: "file", which: shown.clone() })?;
            let above = above.unwrap_or_else(|| Path::new("."));
            DirectorySource::scan_entry(above, name, id, scan, self.meter, self.ctl)?
        };
        self.directories.push((id, directory));
        let names = self.names(to);
        if meta.is_dir() {
            let into = self.make_directories(&names, Some(part.node(part.root())))?;
            return self.merge(&part, part.root(), into, to);
        }
        let Some((last, above)) = names.split_last() else {
            return Err(refused(to, "a file cannot take the place of the root directory"));
        };
        let into = self.make_directories(above, None)?;
        match part.children(part.root()).first() {
            Some(entry) => {
                let mut copies = vec![None; part.node_count()];
                self.put(&part, entry.node, into, last, to, &mut copies).map(|_| ())
            }
            // It was told why.
            None => Ok(()),
        }
    }

    fn write(&mut self, content: &[u8], to: &str) -> Result<(), Error> {
        self.overlay = Overlay::Replace;
        let names = self.names(to);
        let Some((last, above)) = names.split_last() else {
            return Err(refused(to, "a file cannot take the place of the root directory"));
        };
        let into = self.make_directories(above, None)?;
        let node = Node {
            data: Some(ContentRef::inline(content.to_vec())),
            attributes: FileAttributes::NORMAL,
            times: times_now(),
            unix: self.unix(MADE_FILE_MODE),
            ..Node::default()
        };
        let name = self.clear_place(into, last, to)?;
        self.tree.add(into, name, node).map(|_| ()).map_err(|error| failed(to, error))
    }

    fn delete(&mut self, path: &str, rule: DeleteRule) -> Result<(), Error> {
        if self.names(path).is_empty() {
            return self.delete_all(path, rule);
        }
        let (parent, name) = match self.find_entry(path) {
            Err(error) if rule.force && error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        let node = self.tree.child(parent, &name).map(|entry| entry.node);
        if !rule.recursive && node.is_some_and(|node| self.tree.node(node).is_directory()) {
            return Err(refused(path, "it is a directory, and is to be deleted only with what is in it"));
        }
        self.tree.remove(parent, &name).map_err(|error| failed(path, error))
    }

    /// Empties the root directory, which stays.
    fn delete_all(&mut self, path: &str, rule: DeleteRule) -> Result<(), Error> {
        if !rule.recursive {
            return Err(refused(path, "it is the root directory"));
        }
        let root = self.tree.root();
        let names: Vec<NtName> = self.tree.children(root).iter().map(|entry| entry.name.clone()).collect();
        names.iter().try_for_each(|name| self.tree.remove(root, name)).map_err(|error| failed(path, error))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), Error> {
        let (parent, name) = self.find_entry(from)?;
        let names = self.names(to);
        let Some((last, above)) = names.split_last() else {
            return Err(refused(to, "it is the root directory"));
        };
        let mut into = self.tree.root();
        for name in above {
            into = self.child(into, name).ok_or_else(|| not_found(to))?.1;
        }
        let moved = self.tree.child(parent, &name).map(|entry| entry.node);
        if let Some((known, there)) = self.child(into, last)
            && Some(there) != moved
        {
            let is_file = |node: NodeId| !self.tree.node(node).is_directory();
            if !(is_file(there) && moved.is_some_and(is_file)) {
                return Err(refused(to, "it is there already"));
            }
            self.tree.remove(into, &known).map_err(|error| failed(to, error))?;
        }
        self.tree.rename(parent, &name, into, last.clone()).map_err(|error| failed(from, error))
    }

    /// Names of a path.
    fn names(&self, path: &str) -> Vec<NtName> {
        let is_separator = |c: char| c == '/' || (c == '\\' && self.has_backslash);
        path.split(is_separator).filter(|name| !name.is_empty()).map(NtName::from).collect()
    }

    /// The entry `name` of a directory, by exact name or, in images of Windows, by one that differs in case only.
    fn child(&self, parent: NodeId, name: &NtName) -> Option<(NtName, NodeId)> {
        let exact = self.tree.child(parent, name);
        let found = exact.or_else(|| {
            let like = |entry: &&gravure_tree::Entry| entry.name.folded().eq(name.folded());
            self.tree.children(parent).iter().find(like).filter(|_| self.case == NameCase::Ignore)
        });
        found.map(|entry| (entry.name.clone(), entry.node))
    }

    /// Directory and name of what is at `path`.
    fn find_entry(&self, path: &str) -> Result<(NodeId, NtName), Error> {
        let names = self.names(path);
        let Some((last, above)) = names.split_last() else {
            return Err(refused(path, "it is the root directory"));
        };
        let mut at = self.tree.root();
        for name in above {
            at = self.child(at, name).ok_or_else(|| not_found(path))?.1;
        }
        let (name, _) = self.child(at, last).ok_or_else(|| not_found(path))?;
        Ok((at, name))
    }

    /// The directory at the end of `names`; what is missing of it is made. The last one is made like `like`.
    fn make_directories(&mut self, names: &[NtName], like: Option<&Node>) -> Result<NodeId, Error> {
        let mut at = self.tree.root();
        for (number, name) in names.iter().enumerate() {
            let shown: String = names[..=number].iter().map(|name| format!("/{name}")).collect();
            at = match self.child(at, name) {
                Some((_, node)) if self.tree.node(node).is_directory() => node,
                Some(_) => return Err(refused(&shown, "it is there and is no directory")),
                None => {
                    let like = like.filter(|_| number + 1 == names.len());
                    let node = like.map_or_else(|| self.new_directory(), |like| self.adapted(like));
                    self.tree.add(at, name.clone(), node).map_err(|error| failed(&shown, error))?
                }
            };
        }
        Ok(at)
    }

    fn new_directory(&self) -> Node {
        Node {
            children: Some(Vec::new()),
            attributes: FileAttributes::DIRECTORY,
            times: times_now(),
            unix: self.unix(MADE_DIRECTORY_MODE),
            ..Node::default()
        }
    }

    fn unix(&self, mode: u32) -> Option<UnixData> {
        self.is_unix.then_some(UnixData { uid: 0, gid: 0, mode, rdev: 0 })
    }

    /// A node of a directory of this machine as it fits into the image.
    fn adapted(&self, node: &Node) -> Node {
        let children = node.children.as_ref().map(|_| Vec::new());
        let mut node = Node { children, ..node.clone() };
        if self.is_stripped {
            node.unix = None;
            node.extended_attributes.clear();
        }
        node
    }

    /// Puts everything below directory `from` of `part` into the directory `into`.
    fn merge(&mut self, part: &Tree, from: NodeId, into: NodeId, path: &str) -> Result<(), Error> {
        let mut copies = vec![None; part.node_count()];
        let mut todo = vec![(from, into, path.trim_end_matches('/').to_owned())];
        while let Some((from, into, path)) = todo.pop() {
            self.ctl.check()?;
            for entry in part.children(from) {
                let path = format!("{path}/{}", entry.name);
                if let Some(made) = self.put(part, entry.node, into, &entry.name, &path, &mut copies)? {
                    todo.push((entry.node, made, path));
                }
            }
        }
        Ok(())
    }

    /// Puts one node into a directory; returns the directory that it became or was merged with.
    fn put(
        &mut self,
        part: &Tree,
        node: NodeId,
        into: NodeId,
        name: &NtName,
        path: &str,
        copies: &mut [Option<NodeId>],
    ) -> Result<Option<NodeId>, Error> {
        let original = part.node(node);
        if original.is_directory() {
            return match self.child(into, name) {
                Some((_, there)) if self.tree.node(there).is_directory() => Ok(Some(there)),
                Some(_) => Err(refused(path, "a file of this name is there")),
                None => {
                    let made = self.tree.add(into, name.clone(), self.adapted(original));
                    made.map(Some).map_err(|error| failed(path, error))
                }
            };
        }
        if self.is_stripped && !matches!(kind_of(original), UnixKind::File | UnixKind::Link) {
            self.meter.skip(|| format!("{path}: images of Windows hold no device files; left out"));
            return Ok(None);
        }
        let name = self.clear_place(into, name, path)?;
        match copies[node.index()] {
            Some(known) => self.tree.link(into, name, known).map_err(|error| failed(path, error))?,
            None => {
                let made = self.tree.add(into, name, self.adapted(original));
                copies[node.index()] = Some(made.map_err(|error| failed(path, error))?);
            }
        }
        Ok(None)
    }

    /// Takes away a file that has the name; the name under which a new one goes there, which is the old one's if the
    /// two differ in case only.
    fn clear_place(&mut self, into: NodeId, name: &NtName, path: &str) -> Result<NtName, Error> {
        let Some((known, there)) = self.child(into, name) else { return Ok(name.clone()) };
        if self.tree.node(there).is_directory() {
            return Err(refused(path, "a directory of this name is there"));
        }
        if self.overlay == Overlay::Refuse {
            return Err(refused(path, "a file of this name is there"));
        }
        self.tree.remove(into, &known).map_err(|error| failed(path, error))?;
        Ok(known)
    }
}

fn times_now() -> Times {
    let now = now();
    Times { created: now, accessed: now, written: now }
}

fn refused(path: &str, why: &str) -> Error {
    Error::Refused { what: format!("changing {path} in the image"), why: why.to_owned() }
}

fn not_found(path: &str) -> Error {
    Error::NotFound { what: "path", which: path.to_owned() }
}

fn failed(path: &str, error: gravure_tree::TreeError) -> Error {
    Error::Other { what: path.to_owned(), source: Box::new(error), kind: ErrorKind::Failed }
}
