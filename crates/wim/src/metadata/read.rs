//! From a decoded metadata resource to a tree (wim-container 6.2 to 6.10). Iterative, with every byte read at most
//! once: cycles and shared lists run out of bytes and end in an error.

use std::collections::{HashMap, HashSet};

use gravure_nttypes::{FileAttributes, FileTime, NtName, ReparseTag};
use gravure_tree::{
    ContentRef, Entry, NamedStream, Node, NodeId, Origin, Reparse, SecurityId, Sha1Hash, Times, Tree,
    TreeError,
};
use zerocopy::{FromBytes, IntoBytes};

use super::disk::{ALIGN, END_MARKER_BYTES, NO_SECURITY, RawDentry, ReparseDisk, corrupt, read_dentry};
use super::streams::{self, Streams};
use super::{items, security};
use crate::error::{Error, FileIssue, Opened, Scope, Warning, Warnings};
use crate::limits::Limits;
use crate::parts::BlobSet;

/// Longest path in a warning, in UTF-16 units; a path can have megabytes.
const MAX_WARNING_PATH: usize = 1024;

/// Parses `bytes`; content is looked up in `blobs`.
pub(crate) fn parse(bytes: &[u8], blobs: &BlobSet<'_>, limits: &Limits) -> Result<Opened<Tree>, Error> {
    let mut warnings = Warnings::default();
    let (table, root_at) = security::read(bytes, &mut warnings)?;
    let mut parser = Parser {
        bytes,
        blobs,
        limits,
        warnings,
        security_count: table.len(),
        lists_at: root_at,
        unread: bytes.len().saturating_sub(root_at),
        dirs: Vec::new(),
        pending: Vec::new(),
        links: HashMap::new(),
        content_bytes: 0,
    };
    let mut tree = parser.root(root_at)?;
    tree.set_security_descriptors(table);
    while let Some(list) = parser.pending.pop() {
        parser.list(&mut tree, &list)?;
    }
    Ok(parser.warnings.finish(tree))
}

struct Parser<'a> {
    bytes: &'a [u8],
    blobs: &'a BlobSet<'a>,
    limits: &'a Limits,
    warnings: Warnings,
    security_count: usize,
    /// End of the security data; lists cannot start before.
    lists_at: usize,
    /// Bytes that dentries may still take: all of them together fit into the resource.
    unread: usize,
    /// Directories met so far, for paths in warnings.
    dirs: Vec<Dir<'a>>,
    pending: Vec<List>,
    /// First node of each hard-link group and unnamed data; names that differ in data are different files.
    links: HashMap<(u64, Sha1Hash), NodeId>,
    /// Plain bytes of all contents of all nodes so far, as far as their sizes are known.
    content_bytes: u64,
}

struct Dir<'a> {
    /// Index in [`Parser::dirs`]; the root is its own parent.
    parent: usize,
    name: &'a [u8],
}

/// A children list that is still to be read.
struct List {
    dir: usize,
    node: NodeId,
    offset: u64,
    depth: u32,
}

/// Where a dentry stands in the tree, for warnings.
#[derive(Clone, Copy)]
struct Place<'a> {
    dir: usize,
    name: &'a [u8],
}

impl<'a> Parser<'a> {
    fn root(&mut self, at: usize) -> Result<Tree, Error> {
        let dentry = self.dentry(at)?;
        let Some(dentry) = dentry else {
            return Err(corrupt("root dentry", at, "a directory", "none"));
        };
        let attributes = FileAttributes(dentry.disk.attributes.get());
        if !attributes.contains(FileAttributes::DIRECTORY) {
            let found = format!("attributes {:#x}", attributes.0);
            return Err(corrupt("root dentry", at, "a directory", found));
        }
        self.dirs.push(Dir { parent: 0, name: &[] });
        let place = Place { dir: 0, name: &[] };
        if !dentry.name.is_empty() || !dentry.short_name.is_empty() {
            self.warn(place, FileIssue::NamedRoot);
        }
        let (node, _) = self.node(&dentry, place);
        self.count(&node, at)?;
        let tree = Tree::new(node);
        self.push_list(0, tree.root(), dentry.disk.children.get(), 0);
        Ok(tree)
    }

    /// The dentry at `at`, its bytes taken off what may still be read.
    fn dentry(&mut self, at: usize) -> Result<Option<RawDentry<'a>>, Error> {
        let dentry = read_dentry(self.bytes, at)?;
        if let Some(dentry) = &dentry {
            self.take(dentry.end.saturating_sub(at), at)?;
        }
        Ok(dentry)
    }

    fn take(&mut self, len: usize, at: usize) -> Result<(), Error> {
        self.unread = self.unread.checked_sub(len).ok_or_else(|| {
            let expected = "dentries that all fit into the resource";
            corrupt("children list", at, expected, "a cycle, or lists that several directories share")
        })?;
        Ok(())
    }

    fn push_list(&mut self, dir: usize, node: NodeId, offset: u64, depth: u32) {
        if offset != 0 {
            self.pending.push(List { dir, node, offset, depth });
        }
    }

    /// Reads one children list; its directories' lists become pending, so that the first is read next.
    fn list(&mut self, tree: &mut Tree, list: &List) -> Result<(), Error> {
        let mut at = self.list_start(list)?;
        let depth = list.depth.saturating_add(1);
        let first_pending = self.pending.len();
        let mut names = HashSet::new();
        while let Some(dentry) = self.dentry(at)? {
            let place = Place { dir: list.dir, name: dentry.name };
            let next = dentry.end;
            if !is_file_name(dentry.name) {
                self.warn(place, FileIssue::BadName);
            } else if !names.insert(dentry.name) {
                self.warn(place, FileIssue::DuplicateName);
            } else {
                if let Some(id) =
                    self.entry(tree, list, &dentry, place, depth).map_err(|error| error.at(at))?
                {
                    self.count(tree.node(id), at)?;
                }
            }
            at = next;
        }
        // Empty lists cost no bytes, so that a writer may let empty directories share one.
        if !names.is_empty() {
            self.take(END_MARKER_BYTES.min(self.unread), at)?;
        }
        self.pending.get_mut(first_pending..).unwrap_or_default().reverse();
        Ok(())
    }

    fn list_start(&self, list: &List) -> Result<usize, Error> {
        if list.depth >= self.limits.max_depth {
            return Err(Error::Limit {
                what: "directory depth",
                offset: list.offset,
                found: u64::from(list.depth).saturating_add(1),
                limit: u64::from(self.limits.max_depth),
                scope: Scope::Image,
            });
        }
        let at = usize::try_from(list.offset)
            .ok()
            .filter(|at| at.is_multiple_of(ALIGN) && *at >= self.lists_at && *at < self.bytes.len());
        at.ok_or_else(|| {
            let expected = format!("multiple of 8 from {:#x} to {:#x}", self.lists_at, self.bytes.len());
            let what = "metadata: offset of a children list";
            Error::corrupt(Scope::Image, what, list.offset, expected, format_args!("{:#x}", list.offset))
        })
    }

    /// Adds an entry; the node comes back when it is new, not another name of one.
    fn entry(
        &mut self,
        tree: &mut Tree,
        list: &List,
        dentry: &RawDentry<'a>,
        place: Place<'a>,
        depth: u32,
    ) -> Result<Option<NodeId>, EntryError> {
        // Even lengths were checked with the dentry.
        let name = NtName::from_le_bytes(dentry.name).unwrap_or_default();
        let short_name = NtName::from_le_bytes(dentry.short_name).ok().filter(|name| !name.is_empty());
        let attributes = FileAttributes(dentry.disk.attributes.get());
        let is_directory = attributes.contains(FileAttributes::DIRECTORY);
        let group = dentry.disk.group.get();
        let can_link = group != 0 && !is_directory && !attributes.contains(FileAttributes::REPARSE_POINT);
        let children = dentry.disk.children.get();
        if children != 0 && !is_directory {
            self.warn(place, FileIssue::ChildrenOfFile);
        }
        let (node, data) = self.node(dentry, place);
        if can_link && let Some(first) = self.links.get(&(group, data)) {
            tree.link_checked(list.node, Entry { name, short_name, node: *first })?;
            return Ok(None);
        }
        let id = tree.add_checked(list.node, name, short_name, node)?;
        if can_link {
            self.links.insert((group, data), id);
        }
        if is_directory {
            let dir = self.dirs.len();
            self.dirs.push(Dir { parent: list.dir, name: dentry.name });
            self.push_list(dir, id, children, depth);
        }
        Ok(Some(id))
    }

    /// Adds the contents of a node at `at` to those of the image.
    fn count(&mut self, node: &Node, at: usize) -> Result<(), Error> {
        for content in node.contents() {
            self.content_bytes = self.content_bytes.saturating_add(content.size);
        }
        let (found, limit) = (self.content_bytes, self.limits.max_image_bytes);
        if found > limit {
            let (what, offset) = ("contents of the image", u64::try_from(at).unwrap_or(u64::MAX));
            return Err(Error::Limit { what, offset, found, limit, scope: Scope::Image });
        }
        Ok(())
    }

    /// The node of a dentry, and the hash of its unnamed data, which decides about hard links.
    fn node(&mut self, dentry: &RawDentry<'a>, place: Place<'a>) -> (Node, Sha1Hash) {
        let disk = &dentry.disk;
        let attributes = FileAttributes(disk.attributes.get());
        let mut issues = Vec::new();
        let mut issue = |found| issues.push(found);
        let main = Sha1Hash(disk.sha1);
        let Streams { reparse, data, efs, named } =
            streams::assign(attributes, main, &dentry.streams, &mut issue);
        let security = match disk.security.get() {
            NO_SECURITY => None,
            index if usize::try_from(index).is_ok_and(|index| index < self.security_count) => {
                Some(SecurityId(index))
            }
            index => {
                issue(FileIssue::SecurityIndex(index));
                None
            }
        };
        let mut node = Node {
            attributes,
            times: Times {
                created: FileTime(disk.created.get()),
                accessed: FileTime(disk.accessed.get()),
                written: FileTime(disk.written.get()),
            },
            security,
            unknown_0x54: disk.unknown_0x54.get(),
            children: attributes.contains(FileAttributes::DIRECTORY).then(Vec::new),
            ..Node::default()
        };
        items::read(dentry.items, &mut node, &mut issue);
        if attributes.contains(FileAttributes::REPARSE_POINT) {
            node.reparse = Some(read_reparse(disk.group.as_bytes(), self.content(reparse, &mut issues)));
        }
        node.data = data.map(|sha1| self.content(Some(sha1), &mut issues));
        node.efs = efs.map(|sha1| self.content(Some(sha1), &mut issues));
        node.named_streams = named
            .into_iter()
            .map(|(name, sha1)| NamedStream { name, content: self.content(Some(sha1), &mut issues) })
            .collect();
        issues.into_iter().for_each(|issue| self.warn(place, issue));
        (node, data.or(efs).unwrap_or(Sha1Hash::ZERO))
    }

    fn content(&self, sha1: Option<Sha1Hash>, issues: &mut Vec<FileIssue>) -> ContentRef {
        let Some(sha1) = sha1.filter(|sha1| *sha1 != Sha1Hash::ZERO) else {
            return ContentRef::empty();
        };
        match self.blobs.find(&sha1) {
            Some(found) => ContentRef {
                size: found.size,
                sha1: Some(sha1),
                origin: Origin::Source { source: found.source, key: found.blob.key() },
            },
            None => {
                if !self.blobs.comes_later() {
                    issues.push(FileIssue::MissingBlob(sha1));
                }
                ContentRef { size: 0, sha1: Some(sha1), origin: Origin::Missing }
            }
        }
    }

    fn warn(&mut self, place: Place<'a>, issue: FileIssue) {
        let dirs = &self.dirs;
        self.warnings.push_with(|| Warning::File { path: path_of(dirs, place), issue });
    }
}

/// The path of a place; its front is cut off when it is long.
fn path_of(dirs: &[Dir<'_>], place: Place<'_>) -> String {
    let mut names = vec![place.name];
    let mut at = place.dir;
    let mut len = place.name.len();
    let mut is_cut = false;
    while let Some(dir) = dirs.get(at).filter(|_| at != 0) {
        len = len.saturating_add(dir.name.len());
        is_cut = len > MAX_WARNING_PATH.saturating_mul(2);
        if is_cut {
            break;
        }
        names.push(dir.name);
        at = dir.parent;
    }
    let mut path = String::from(if is_cut { "..." } else { "" });
    for name in names.iter().rev() {
        path.push('/');
        let shown = name.get(..name.len().min(MAX_WARNING_PATH)).unwrap_or_default();
        path.push_str(&NtName::from_le_bytes(shown).unwrap_or_default().to_string());
    }
    path
}

fn read_reparse(field: &[u8], content: ContentRef) -> Reparse {
    let disk = ReparseDisk::read_from_bytes(field).ok();
    Reparse {
        tag: ReparseTag(disk.map_or(0, |disk| disk.tag.get())),
        reserved: disk.map_or(0, |disk| disk.reserved.get()),
        link_flags: disk.map_or(0, |disk| disk.link_flags.get()),
        content,
    }
}

/// Refuses what could leave the directory or means the directory itself (wim-container 6.10). Names that are only
/// impossible on Windows stay.
fn is_file_name(name: &[u8]) -> bool {
    let units = name.as_chunks::<2>().0;
    let is_dots = !units.is_empty() && units.len() <= 2 && units.iter().all(|unit| unit == b".\0");
    !units.is_empty() && !is_dots && !units.iter().any(|unit| unit == b"\0\0" || unit == b"/\0")
}

/// A tree that refuses an entry is out of node numbers: the parser gives it no other reason.
struct EntryError(TreeError);

impl From<TreeError> for EntryError {
    fn from(error: TreeError) -> Self {
        Self(error)
    }
}

impl EntryError {
    fn at(self, offset: usize) -> Error {
        corrupt("dentry", offset, "an entry the tree can hold", self.0)
    }
}
