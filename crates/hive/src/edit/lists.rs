//! Lists of subkeys: finding, inserting in order, splitting full leaves, removing.

use std::cmp::Ordering;

use gravure_nttypes::NtName;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::{Editor, short};
use crate::cells;
use crate::error::{Error, corrupt};
use crate::image::Cell;
use crate::limits::{HASH_LEAF_MINOR, MAX_LEAF_ENTRIES};
use crate::name;
use crate::subkeys::{Entry, Leaf, LeafKind, Subkeys};

/// Room a leaf gets beyond its entries when it moves: one in eight, so that growing lists do not move each time.
fn slack(len: usize) -> usize {
    len >> 3
}

impl Editor {
    pub(super) fn find_subkey(&self, parent: Cell, wanted: &NtName) -> Result<Option<Cell>, Error> {
        let Some(list) = self.subkeys_of(parent)? else { return Ok(None) };
        if !self.is_ordered {
            for entry in list.entries() {
                if cells::key(&self.hive.image, entry.key)?.1.matches(wanted) {
                    return Ok(Some(entry.key));
                }
            }
            return Ok(None);
        }
        let (leaf, index) = self.place(&list, wanted)?;
        let entry = list.leaves.get(leaf).and_then(|leaf| leaf.entries.get(index));
        let Some(entry) = entry else { return Ok(None) };
        Ok((self.order(*entry, wanted)? == Ordering::Equal).then_some(entry.key))
    }

    /// Links `child`, a key named `name`, into the list of `parent`.
    pub(super) fn insert_subkey(&mut self, parent: Cell, child: Cell, name: &NtName) -> Result<(), Error> {
        let kind = self.leaf_kind();
        match self.subkeys_of(parent)? {
            None => {
                let bytes = leaf_bytes(kind, &[entry(kind, child, name)]);
                let cell = self.put(Cell::NIL, &bytes, 0)?;
                self.edit_key(parent, |disk| disk.subkey_list = U32::new(cell.0))?;
            }
            Some(mut list) => {
                let (index, at) = self.place(&list, name)?;
                let leaf = list.leaves.get_mut(index);
                let leaf =
                    leaf.ok_or_else(|| corrupt("list of subkeys", parent.offset(), "leaves", "none"))?;
                leaf.entries.insert(at.min(leaf.entries.len()), entry(leaf.kind, child, name));
                if leaf.entries.len() > MAX_LEAF_ENTRIES {
                    let half = leaf.entries.len() >> 1;
                    let upper = leaf.entries.split_off(half);
                    let second = Leaf { cell: Cell::NIL, kind: leaf.kind, entries: upper };
                    list.leaves.insert(index.saturating_add(1), second);
                }
                self.write_list(parent, &list)?;
            }
        }
        let (now, name_bytes) = (self.now, short(name.units().len().saturating_mul(2)));
        let class_bytes = u32::from(self.disk(child)?.class_bytes.get());
        self.edit_key(parent, |disk| {
            disk.subkey_count = U32::new(disk.subkey_count.get().saturating_add(1));
            disk.max_subkey_name_bytes = U16::new(disk.max_subkey_name_bytes.get().max(name_bytes));
            disk.max_subkey_class_bytes = U32::new(disk.max_subkey_class_bytes.get().max(class_bytes));
            disk.written = U64::new(now.0);
        })
    }

    /// Takes `child` out of the list of `parent`; the key itself stays.
    pub(super) fn remove_subkey(&mut self, parent: Cell, child: Cell) -> Result<(), Error> {
        let mut list = self.subkeys_of(parent)?.unwrap_or(Subkeys { root: None, leaves: Vec::new() });
        let before = list.len();
        list.leaves.iter_mut().for_each(|leaf| leaf.entries.retain(|entry| entry.key != child));
        if list.len() == before {
            return Err(corrupt("list of subkeys", parent.offset(), "the key in it", "none"));
        }
        self.write_list(parent, &list)?;
        let now = self.now;
        self.edit_key(parent, |disk| {
            disk.subkey_count = U32::new(disk.subkey_count.get().saturating_sub(1));
            disk.written = U64::new(now.0);
            if disk.subkey_count.get() == 0 {
                disk.max_subkey_name_bytes = U16::new(0);
                disk.max_subkey_class_bytes = U32::new(0);
            }
        })
    }

    fn subkeys_of(&self, cell: Cell) -> Result<Option<Subkeys>, Error> {
        let (disk, _) = cells::key(&self.hive.image, cell)?;
        self.hive.subkeys(disk, cell, self.hive.most_keys())
    }

    /// Writes changed leaves back: empty ones go, a second leaf brings an index root.
    fn write_list(&mut self, parent: Cell, list: &Subkeys) -> Result<(), Error> {
        let mut cells = Vec::new();
        for leaf in &list.leaves {
            if leaf.entries.is_empty() {
                self.free(leaf.cell)?;
                continue;
            }
            let bytes = leaf_bytes(leaf.kind, &leaf.entries);
            cells.push(self.put(leaf.cell, &bytes, slack(bytes.len()))?);
        }
        let list = match (list.root, cells.as_slice()) {
            (None, []) => Cell::NIL,
            (None, [only]) => *only,
            (Some(root), []) => {
                self.free(root)?;
                Cell::NIL
            }
            (root, cells) => {
                let mut bytes = b"ri".to_vec();
                bytes.extend_from_slice(&short(cells.len()).to_le_bytes());
                cells.iter().for_each(|cell| bytes.extend_from_slice(&cell.0.to_le_bytes()));
                self.put(root.unwrap_or(Cell::NIL), &bytes, slack(bytes.len()))?
            }
        };
        self.edit_key(parent, |disk| disk.subkey_list = U32::new(list.0))
    }

    /// Leaf and index in it where `wanted` is or belongs.
    fn place(&self, list: &Subkeys, wanted: &NtName) -> Result<(usize, usize), Error> {
        let mut at = list.leaves.len().saturating_sub(1);
        for (index, leaf) in list.leaves.iter().enumerate() {
            let last = leaf.entries.last();
            if last.map(|last| self.order(*last, wanted)).transpose()?.is_some_and(Ordering::is_ge) {
                at = index;
                break;
            }
        }
        let entries = list.leaves.get(at).map(|leaf| leaf.entries.as_slice()).unwrap_or_default();
        let (mut low, mut high) = (0, entries.len());
        while low < high {
            let middle = low.saturating_add(high) >> 1;
            let Some(entry) = entries.get(middle) else { break };
            if self.order(*entry, wanted)? == Ordering::Less {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        Ok((at, low))
    }

    fn order(&self, entry: Entry, wanted: &NtName) -> Result<Ordering, Error> {
        let (_, name) = cells::key(&self.hive.image, entry.key)?;
        Ok(name::compare(name.units(), wanted.units().iter().copied()))
    }

    fn leaf_kind(&self) -> LeafKind {
        if self.hive.base.minor < HASH_LEAF_MINOR { LeafKind::Hinted } else { LeafKind::Hashed }
    }
}

fn entry(kind: LeafKind, key: Cell, name: &NtName) -> Entry {
    let units = name.units().iter().copied();
    let tag = match kind {
        LeafKind::Plain => 0,
        LeafKind::Hinted => name::leaf_hint(units),
        LeafKind::Hashed => name::leaf_hash(units),
    };
    Entry { key, tag }
}

fn leaf_bytes(kind: LeafKind, entries: &[Entry]) -> Vec<u8> {
    let mut out = kind.signature().to_vec();
    out.extend_from_slice(&short(entries.len()).to_le_bytes());
    for entry in entries {
        out.extend_from_slice(&entry.key.0.to_le_bytes());
        if kind != LeafKind::Plain {
            out.extend_from_slice(&entry.tag.to_le_bytes());
        }
    }
    out
}
