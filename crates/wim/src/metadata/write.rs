//! From a tree to a metadata resource, in the order and with the stream layout that Windows writes (wim-container
//! 6.3, 6.6): files before directories in case-insensitive order, lists in depth-first preorder, empty directories
//! with an explicit empty list. The same tree always gives the same bytes.

use std::cmp::Ordering;
use std::collections::HashMap;

use gravure_nttypes::{FileAttributes, NtName};
use gravure_tree::{Entry, Node, NodeId, Sha1Hash, Tree};
use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::disk::{
    DentryDisk, END_MARKER_BYTES, NO_SECURITY, ReparseDisk, STREAM_LEN, StreamDisk, align, dentry_head_len,
};
use super::streams::StoredStreams;
use super::{items, security, streams};
use crate::error::Error;

/// Where the children offset stands in a dentry.
const CHILDREN_FIELD: usize = 0x10;

/// A metadata resource ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The plain bytes.
    pub bytes: Vec<u8>,
    /// Every non-empty content the tree refers to and how often, in the order of first use; every name of a
    /// hard-linked file counts.
    pub references: Vec<(Sha1Hash, u32)>,
}

impl Metadata {
    /// Writes `tree`. Every content that is not empty must have its hash.
    pub fn from_tree(tree: &Tree) -> Result<Self, Error> {
        let mut writer = Writer {
            tree,
            out: security::to_bytes(tree.security_descriptors())?,
            groups: HashMap::new(),
            references: Vec::new(),
            reference_at: HashMap::new(),
        };
        writer.write()?;
        Ok(Self { bytes: writer.out, references: writer.references })
    }
}

struct Writer<'a> {
    tree: &'a Tree,
    out: Vec<u8>,
    groups: HashMap<NodeId, u64>,
    references: Vec<(Sha1Hash, u32)>,
    reference_at: HashMap<Sha1Hash, usize>,
}

/// A directory whose list is still to be written, and where its dentry stands.
struct Pending {
    node: NodeId,
    dentry_at: usize,
}

impl Writer<'_> {
    fn write(&mut self) -> Result<(), Error> {
        let tree = self.tree;
        let root = Pending { node: tree.root(), dentry_at: self.out.len() };
        self.dentry(tree.root(), None)?;
        self.end_list();
        let mut pending = vec![root];
        while let Some(directory) = pending.pop() {
            self.patch_children_offset(directory.dentry_at);
            let mut entries: Vec<&Entry> = tree.children(directory.node).iter().collect();
            entries.sort_by(|a, b| self.order(a, b));
            let first_pending = pending.len();
            for entry in entries {
                if self.has_list(entry.node) {
                    pending.push(Pending { node: entry.node, dentry_at: self.out.len() });
                }
                self.dentry(entry.node, Some(entry))?;
            }
            self.end_list();
            pending.get_mut(first_pending..).unwrap_or_default().reverse();
        }
        Ok(())
    }

    /// Directories have a list even when they are empty; junctions, which other readers take for files, only when they
    /// do have children.
    fn has_list(&self, id: NodeId) -> bool {
        let node = self.tree.node(id);
        node.is_directory() && (node.reparse.is_none() || !self.tree.children(id).is_empty())
    }

    fn order(&self, a: &Entry, b: &Entry) -> Ordering {
        let is_directory = |entry: &Entry| self.tree.node(entry.node).is_directory();
        let by_kind = is_directory(a).cmp(&is_directory(b));
        by_kind.then_with(|| a.name.folded().cmp(b.name.folded())).then_with(|| a.name.cmp(&b.name))
    }

    fn end_list(&mut self) {
        self.out.extend_from_slice(&[0; END_MARKER_BYTES]);
    }

    fn patch_children_offset(&mut self, dentry_at: usize) {
        let offset = u64::try_from(self.out.len()).unwrap_or(u64::MAX).to_le_bytes();
        let field = dentry_at.saturating_add(CHILDREN_FIELD);
        if let Some(bytes) = self.out.get_mut(field..field.saturating_add(offset.len())) {
            bytes.copy_from_slice(&offset);
        }
    }

    fn dentry(&mut self, id: NodeId, entry: Option<&Entry>) -> Result<(), Error> {
        let tree = self.tree;
        let node = tree.node(id);
        let refuse = |reason| streams::unwritable(path_of(tree, id), reason);
        self.check(node).map_err(refuse)?;
        let stored = streams::store(node).map_err(refuse)?;
        let items = items::to_bytes(node).map_err(refuse)?;
        let name = name_bytes(entry.map(|entry| &entry.name)).map_err(refuse)?;
        let short_name = name_bytes(entry.and_then(|entry| entry.short_name.as_ref())).map_err(refuse)?;
        if entry.is_some() && name.is_empty() {
            return Err(refuse("a file without a name"));
        }
        let head_len = dentry_head_len(name.len(), short_name.len());
        let len = align(head_len.saturating_add(items.len()));
        let disk = DentryDisk {
            len: U64::new(u64::try_from(len).unwrap_or(u64::MAX)),
            attributes: U32::new(node.attributes.0),
            security: U32::new(node.security.map_or(NO_SECURITY, |id| id.0)),
            children: U64::new(0),
            reserved: [0; 16],
            created: U64::new(node.times.created.0),
            accessed: U64::new(node.times.accessed.0),
            written: U64::new(node.times.written.0),
            sha1: stored.main.0,
            unknown_0x54: U32::new(node.unknown_0x54),
            group: self.group_field(id, node),
            stream_count: U16::new(len_u16(stored.entries.len()).map_err(refuse)?),
            short_name_len: U16::new(len_u16(short_name.len()).map_err(refuse)?),
            name_len: U16::new(len_u16(name.len()).map_err(refuse)?),
        };
        let start = self.out.len();
        self.out.extend_from_slice(disk.as_bytes());
        for name in [&name, &short_name] {
            if !name.is_empty() {
                self.out.extend_from_slice(name);
                self.out.extend_from_slice(&[0, 0]);
            }
        }
        self.out.resize(start.saturating_add(head_len), 0);
        self.out.extend_from_slice(&items);
        self.out.resize(start.saturating_add(len), 0);
        self.streams(&stored).map_err(refuse)?;
        stored.used.iter().for_each(|sha1| self.count(*sha1));
        Ok(())
    }

    /// What would come back as something else.
    fn check(&self, node: &Node) -> Result<(), &'static str> {
        if node.attributes.contains(FileAttributes::REPARSE_POINT) != node.reparse.is_some() {
            return Err("the reparse point attribute and reparse data must go together");
        }
        if node.attributes.contains(FileAttributes::DIRECTORY) != node.is_directory() {
            return Err("the directory attribute and children must go together");
        }
        let descriptors = self.tree.security_descriptors().len();
        let is_known = |index: u32| usize::try_from(index).is_ok_and(|index| index < descriptors);
        if node.security.is_some_and(|id| !is_known(id.0)) {
            return Err("its security descriptor does not exist");
        }
        Ok(())
    }

    fn group_field(&mut self, id: NodeId, node: &Node) -> U64 {
        if let Some(reparse) = &node.reparse {
            // Reparse points have no group: further names become files of their own (wim-container 6.8).
            let disk = ReparseDisk {
                tag: U32::new(reparse.tag.0),
                reserved: U16::new(reparse.reserved),
                link_flags: U16::new(reparse.link_flags),
            };
            return zerocopy::transmute!(disk);
        }
        if node.is_directory() || self.tree.link_count(id) < 2 {
            return U64::new(0);
        }
        let next = u64::try_from(self.groups.len()).unwrap_or(u64::MAX).saturating_add(1);
        U64::new(*self.groups.entry(id).or_insert(next))
    }

    fn streams(&mut self, stored: &StoredStreams<'_>) -> Result<(), &'static str> {
        for (name, sha1) in &stored.entries {
            let name = name_bytes(*name)?;
            let name_end = if name.is_empty() { 0 } else { name.len().saturating_add(2) };
            let len = align(STREAM_LEN.saturating_add(name_end));
            let disk = StreamDisk {
                len: U64::new(u64::try_from(len).unwrap_or(u64::MAX)),
                reserved: U64::new(0),
                sha1: sha1.0,
                name_len: U16::new(len_u16(name.len())?),
            };
            let start = self.out.len();
            self.out.extend_from_slice(disk.as_bytes());
            self.out.extend_from_slice(&name);
            self.out.resize(start.saturating_add(len), 0);
        }
        Ok(())
    }

    fn count(&mut self, sha1: Sha1Hash) {
        let at = *self.reference_at.entry(sha1).or_insert_with(|| {
            self.references.push((sha1, 0));
            self.references.len().saturating_sub(1)
        });
        if let Some((_, count)) = self.references.get_mut(at) {
            *count = count.saturating_add(1);
        }
    }
}

fn name_bytes(name: Option<&NtName>) -> Result<Vec<u8>, &'static str> {
    let bytes = name.map(NtName::to_le_bytes).unwrap_or_default();
    if bytes.len() > usize::from(u16::MAX) {
        return Err("a name of more than 32767 units");
    }
    Ok(bytes)
}

fn len_u16(len: usize) -> Result<u16, &'static str> {
    u16::try_from(len).map_err(|_| "a name of more than 32767 units")
}

/// A path of the node, searched only when there is something to say about it.
fn path_of(tree: &Tree, id: NodeId) -> String {
    let step = tree.walk().find(|step| step.entry.node == id);
    step.map_or_else(|| "/".to_owned(), |step| step.display_path())
}
