//! The tree of roots: where the tree of each subvolume stands, which one is the default, and which ones hang in another.

use super::Superblock;
use super::tree::{Key, Node, Reader};
use crate::Error;
use crate::field::{le16, le64, slice, u8};

/// The subvolume above all others.
pub(super) const TOP: u64 = 5;
/// Numbers of subvolumes that are neither the top nor of the file system's own trees.
const FIRST_OWN: u64 = 256;
const LAST_OWN: u64 = u64::MAX - 255;

pub(super) const ITEM_DIRECTORY: u8 = 84;
const ITEM_ROOT: u8 = 132;
const ITEM_ROOT_REFERENCE: u8 = 156;
/// Bytes of the item of a root, as old as such items may be.
const ROOT_BYTES: usize = 239;
/// Bytes of an entry of a directory before its name.
const ENTRY_BYTES: usize = 30;
/// What names the default subvolume.
const DEFAULT: &[u8] = b"default";

/// A tree that the tree of roots names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree {
    /// Its number.
    pub(super) number: u64,
    pub(super) root: Node,
    /// Number of its directory above all others, where it is a subvolume.
    pub(super) directory: u64,
}

/// What an entry of a directory names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The inode of the same subvolume, or the subvolume.
    pub(super) target: Key,
    pub(super) name: Vec<u8>,
}

impl Entry {
    pub(super) fn is_subvolume(&self) -> bool {
        self.target.kind == ITEM_ROOT
    }
}

fn tree_of_roots(sb: &Superblock) -> Node {
    Node { place: sb.root, level: sb.root_level, generation: sb.generation }
}

/// The tree with this number.
pub(super) fn tree(reader: &Reader<'_>, sb: &Superblock, number: u64) -> Result<Option<Tree>, Error> {
    let wanted = Key { object: number, kind: ITEM_ROOT, offset: 0 };
    let mut found = None;
    reader.walk(tree_of_roots(sb), wanted, &mut |key, item| {
        if (key.object, key.kind) == (wanted.object, wanted.kind) && item.len() >= ROOT_BYTES {
            let root = Node { place: le64(item, 176), level: u8(item, 238), generation: le64(item, 160) };
            found = Some(Tree { number, root, directory: le64(item, 168) });
        }
        Ok(false)
    })?;
    Ok(found)
}

/// The subvolume with this number; `None` when there is none.
pub(super) fn subvolume(reader: &Reader<'_>, sb: &Superblock, number: u64) -> Result<Option<Tree>, Error> {
    if number != TOP && !(FIRST_OWN..=LAST_OWN).contains(&number) {
        return Ok(None);
    }
    tree(reader, sb, number)
}

/// Number of the subvolume that is mounted when nobody asks for another one.
pub(super) fn default(reader: &Reader<'_>, sb: &Superblock) -> Result<u64, Error> {
    let first = Key { object: sb.root_directory, kind: ITEM_DIRECTORY, offset: 0 };
    let mut found = TOP;
    reader.walk(tree_of_roots(sb), first, &mut |key, item| {
        if (key.object, key.kind) != (first.object, first.kind) {
            return Ok(false);
        }
        let entries = entries(sb.root, item)?;
        let named = entries.into_iter().find(|entry| entry.name == DEFAULT && entry.is_subvolume());
        found = named.map_or(found, |entry| entry.target.object);
        Ok(true)
    })?;
    Ok(found)
}

/// Whether subvolume `number` hangs in `parent`, in this directory under this name. A snapshot of a subvolume has the names of those in it, but not
/// them: such a name is an empty directory.
pub(super) fn hangs_in(
    reader: &Reader<'_>,
    sb: &Superblock,
    parent: u64,
    directory: u64,
    entry: &Entry,
) -> Result<bool, Error> {
    let wanted = Key { object: parent, kind: ITEM_ROOT_REFERENCE, offset: entry.target.object };
    let mut found = false;
    reader.walk(tree_of_roots(sb), wanted, &mut |key, item| {
        // Directory, number in it, length of the name, name.
        let len = usize::from(le16(item, 16));
        found = key == wanted && le64(item, 0) == directory && slice(item, 18, len) == entry.name;
        Ok(false)
    })?;
    Ok(found)
}

/// The entries of an item: one, or all whose names have one hash. `place` is where to look when they are wrong.
pub(super) fn entries(place: u64, item: &[u8]) -> Result<Vec<Entry>, Error> {
    let mut out = Vec::new();
    let mut rest = item;
    while !rest.is_empty() {
        let (data, len) = (usize::from(le16(rest, 25)), usize::from(le16(rest, 27)));
        let name = slice(rest, ENTRY_BYTES, len);
        // Nothing in a name may pass for more of a path.
        if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            let found = String::from_utf8_lossy(name).into_owned();
            return Err(Error::corrupt("name in a directory", place, "no slash and no zero", found));
        }
        out.push(Entry { target: Key::parse(rest), name: name.to_vec() });
        let end = ENTRY_BYTES.saturating_add(len).saturating_add(data);
        rest = rest.get(end..).unwrap_or_default();
    }
    Ok(out)
}
