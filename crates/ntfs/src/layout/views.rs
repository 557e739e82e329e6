//! View indexes: those of $Secure, $ObjId and $Reparse, and the small ones of $Quota.

use gravure_tree::{NodeId, Tree};
use zerocopy::IntoBytes;

use super::index::{Entries, LEAST_ROOT_ENTRIES_BYTES, Shape, bitmap_bytes};
use super::secure::view_head;
use super::system::SmallEntry;
use crate::disk::INDEX_ENTRY_BYTES;

/// Where a view index is.
#[derive(Debug)]
pub(super) struct View {
    pub(super) shape: Shape,
    /// First cluster of the blocks.
    pub(super) lcn: u64,
    /// First cluster of a bitmap too large for the record.
    pub(super) bitmap_lcn: Option<u64>,
}

impl View {
    /// Cuts `entries`: all into the root when they take at most `small` bytes, else into blocks under a root of at most
    /// `large` bytes.
    pub(super) fn new(entries: &dyn Entries, small: usize, large: usize) -> Self {
        let mut left = small.checked_sub(INDEX_ENTRY_BYTES);
        for index in 0..entries.count() {
            left = left.and_then(|left| left.checked_sub(entries.len(index)));
            if left.is_none() {
                break;
            }
        }
        let root = if left.is_some() { small } else { large.max(LEAST_ROOT_ENTRIES_BYTES) };
        Self { shape: Shape::new(entries, root), lcn: 0, bitmap_lcn: None }
    }

    pub(super) fn blocks(&self) -> u64 {
        self.shape.block_count()
    }

    pub(super) fn bitmap_bytes(&self) -> u64 {
        bitmap_bytes(self.blocks())
    }
}

/// Entries of `$R`: tag and file of every reparse point.
#[derive(Debug)]
pub(super) struct ReparseEntries {
    sorted: Vec<(u32, u64)>,
}

const REPARSE_ENTRY_BYTES: usize = 0x20;

impl ReparseEntries {
    pub(super) fn new(mut points: Vec<(u32, u64)>) -> Self {
        // The order is that of three u32, the lower half of the reference before the upper.
        let halves = |reference: u64| reference.rotate_left(32);
        points.sort_unstable_by_key(|(tag, reference)| (*tag, halves(*reference)));
        Self { sorted: points }
    }
}

impl Entries for ReparseEntries {
    fn count(&self) -> usize {
        self.sorted.len()
    }

    fn len(&self, _index: usize) -> usize {
        REPARSE_ENTRY_BYTES
    }

    fn write(&self, index: usize, out: &mut Vec<u8>) {
        let (tag, reference) = self.sorted[index];
        out.extend_from_slice(view_head(INDEX_ENTRY_BYTES + 12, 0, REPARSE_ENTRY_BYTES, 12).as_bytes());
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&reference.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
    }
}

/// Entries of `$O` of $ObjId: every object id with its file.
#[derive(Debug)]
pub(super) struct ObjectIdEntries<'t> {
    tree: &'t Tree,
    sorted: Vec<(NodeId, u64)>,
}

const OBJECT_ID_ENTRY_BYTES: usize = 0x58;

impl<'t> ObjectIdEntries<'t> {
    pub(super) fn new(tree: &'t Tree, mut files: Vec<(NodeId, u64)>) -> Self {
        files.sort_by_key(|(node, _)| words(object_id(tree, *node)));
        Self { tree, sorted: files }
    }
}

fn object_id(tree: &Tree, node: NodeId) -> &[u8] {
    tree.node(node).object_id.as_deref().unwrap_or_default()
}

/// The order of the index: by four u32.
fn words(id: &[u8]) -> [u32; 4] {
    let mut words = id.chunks(4).map(|word| word.first_chunk().map_or(0, |word| u32::from_le_bytes(*word)));
    std::array::from_fn(|_| words.next().unwrap_or(0))
}

impl Entries for ObjectIdEntries<'_> {
    fn count(&self) -> usize {
        self.sorted.len()
    }

    fn len(&self, _index: usize) -> usize {
        OBJECT_ID_ENTRY_BYTES
    }

    fn write(&self, index: usize, out: &mut Vec<u8>) {
        let (node, reference) = self.sorted[index];
        let start = out.len();
        let id = object_id(self.tree, node);
        let (key, births) = id.split_at_checked(16).unwrap_or((id, &[]));
        out.extend_from_slice(view_head(INDEX_ENTRY_BYTES + 16, 0x38, OBJECT_ID_ENTRY_BYTES, 16).as_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(&reference.to_le_bytes());
        out.extend_from_slice(births);
        out.resize(start + OBJECT_ID_ENTRY_BYTES, 0);
    }
}

/// Entries given as keys and data.
#[derive(Debug)]
pub(super) struct SmallEntries(pub(super) Vec<SmallEntry>);

impl Entries for SmallEntries {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn len(&self, index: usize) -> usize {
        let (key, data) = &self.0[index];
        (INDEX_ENTRY_BYTES + key.len() + data.len()).next_multiple_of(8)
    }

    fn write(&self, index: usize, out: &mut Vec<u8>) {
        let start = out.len();
        let (key, data) = &self.0[index];
        let head = view_head(INDEX_ENTRY_BYTES + key.len(), data.len(), self.len(index), key.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(data);
        out.resize(start + self.len(index), 0);
    }
}
