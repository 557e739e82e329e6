//! Nodes of trees: read by logical address, checked, walked in the order of their keys.

use gravure_io::ReadAt;

use super::chunks::Chunks;
use super::{Superblock, check_sum};
use crate::Error;
use crate::field::{le32, le64, read, size, slice, u8};

/// Bytes of a node's header.
const HEADER_BYTES: usize = 0x65;
/// Bytes of an item's entry in a leaf, and of a pointer in any other node.
const ITEM_BYTES: usize = 25;
const POINTER_BYTES: usize = 33;
/// Highest level of a tree.
const MAX_LEVEL: u8 = 7;

/// Key of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) object: u64,
    pub(super) kind: u8,
    pub(super) offset: u64,
}

impl Key {
    /// Before all others.
    pub(super) const FIRST: Self = Self { object: 0, kind: 0, offset: 0 };

    pub(super) fn parse(bytes: &[u8]) -> Self {
        Self { object: le64(bytes, 0), kind: u8(bytes, 8), offset: le64(bytes, 9) }
    }
}

/// What is known of a node before it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// Logical address.
    pub(super) place: u64,
    pub(super) level: u8,
    pub(super) generation: u64,
}

/// Called with each item; false ends the walk.
type Visit<'v> = dyn FnMut(Key, &[u8]) -> Result<bool, Error> + 'v;

/// Reads nodes.
pub(super) struct Reader<'a> {
    dev: &'a dyn ReadAt,
    sb: &'a Superblock,
    chunks: &'a Chunks,
    goes_on: &'a dyn Fn() -> bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        dev: &'a dyn ReadAt,
        sb: &'a Superblock,
        chunks: &'a Chunks,
        goes_on: &'a dyn Fn() -> bool,
    ) -> Self {
        Self { dev, sb, chunks, goes_on }
    }

    /// All items from `first` on, ascending.
    pub(super) fn walk(&self, root: Node, first: Key, visit: &mut Visit<'_>) -> Result<(), Error> {
        if root.level > MAX_LEVEL {
            return Err(Error::corrupt(
                "level of a tree",
                root.place,
                format!("at most {MAX_LEVEL}"),
                root.level,
            ));
        }
        let mut last = None;
        self.node(root, first, &mut last, visit).map(drop)
    }

    /// Keys must ascend through the whole walk, so no node is seen twice, whatever the pointers say.
    fn node(
        &self,
        node: Node,
        first: Key,
        last: &mut Option<Key>,
        visit: &mut Visit<'_>,
    ) -> Result<bool, Error> {
        if !(self.goes_on)() {
            return Err(Error::Stopped);
        }
        let (bytes, offset) = self.read(node)?;
        let count = size(le32(&bytes, 0x60).into());
        let entry_len = if node.level == 0 { ITEM_BYTES } else { POINTER_BYTES };
        let room = bytes.len().saturating_sub(HEADER_BYTES).checked_div(entry_len).unwrap_or(0);
        if count > room {
            return Err(Error::corrupt("node, count of items", offset, format!("at most {room}"), count));
        }
        let entry = |index: usize| {
            slice(&bytes, index.saturating_mul(entry_len).saturating_add(HEADER_BYTES), entry_len)
        };
        let disordered = || Error::corrupt("node", offset, "keys that ascend", "one that does not");
        if node.level == 0 {
            for index in 0..count {
                let entry = entry(index);
                let key = Key::parse(entry);
                if key < first {
                    continue;
                }
                if last.is_some_and(|last| last >= key) {
                    return Err(disordered());
                }
                *last = Some(key);
                let at = size(le32(entry, 17).into()).saturating_add(HEADER_BYTES);
                let len = size(le32(entry, 21).into());
                let Some(item) = bytes.get(at..).and_then(|rest| rest.get(..len)) else {
                    return Err(Error::corrupt(
                        "item",
                        offset,
                        "data inside its node",
                        format!("{len} bytes at {at}"),
                    ));
                };
                if !visit(key, item)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        for index in 0..count {
            let below = Key::parse(entry(index));
            // All keys of a child lie below the next one's first.
            let next = index.checked_add(1).filter(|next| *next < count).map(|next| Key::parse(entry(next)));
            if next.is_some_and(|next| next <= below) {
                return Err(disordered());
            }
            if next.is_some_and(|next| next <= first) {
                continue;
            }
            let child = Node {
                place: le64(entry(index), 17),
                level: node.level.saturating_sub(1),
                generation: le64(entry(index), 25),
            };
            let before = *last;
            if !self.node(child, first, last, visit)? {
                return Ok(false);
            }
            // An empty child would let a loop of pointers go on without any key.
            if *last == before && below > first {
                return Err(Error::corrupt("node", offset, "children with items", "one without"));
            }
        }
        Ok(true)
    }

    /// A node and the byte of the device at which it was found. Of two copies the first that is sound.
    fn read(&self, node: Node) -> Result<(Vec<u8>, u64), Error> {
        let len = self.sb.node_bytes;
        let mut first_error = None;
        for place in self.chunks.places(node.place, len.into()) {
            let result = read(self.dev, "node", place, size(len.into())).and_then(|bytes| {
                self.check(node, place, &bytes)?;
                Ok(bytes)
            });
            match result {
                Ok(bytes) => return Ok((bytes, place)),
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| {
            Error::corrupt("address of a node", node.place, "inside a chunk", format!("{:#x}", node.place))
        }))
    }

    fn check(&self, node: Node, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        check_sum("node", offset, bytes)?;
        if slice(bytes, 0x20, 16) != self.sb.meta_uuid {
            return Err(Error::corrupt("node, UUID", offset, "that of the file system", "another"));
        }
        let found = (le64(bytes, 0x30), u8(bytes, 0x64), le64(bytes, 0x50));
        let expected = (node.place, node.level, node.generation);
        if found != expected {
            let text = |(place, level, generation): (u64, u8, u64)| {
                format!("address {place:#x}, level {level}, generation {generation}")
            };
            return Err(Error::corrupt("node", offset, text(expected), text(found)));
        }
        Ok(())
    }
}
