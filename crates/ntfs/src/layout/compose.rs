//! Which attributes a file has, which of them hold their value, and in which of its records each stands.
//!
//! Decided from sizes alone, with the longest form that runs can take on the volume, so that it can be decided a second
//! time, with the same outcome, when clusters are known and the records are written.

use gravure_nttypes::FileAttributes;
use gravure_tree::{Node, NodeId};

use super::attribute::{MAX_RESIDENT_BYTES, non_resident_bytes, resident_bytes, to_u64};
use super::collect::{Collected, NONE, at, ea_bytes};
use super::index::LEAST_ROOT_ENTRIES_BYTES;
use super::names::Form;
use super::options::Geometry;
use crate::Reason;
use crate::disk::{
    EA_INFORMATION_BYTES, FILE_NAME_BYTES, INDEX_ROOT_BYTES, LIST_ENTRY_BYTES, MAX_LIST_BYTES,
    OBJECT_ID_BYTES, REPARSE_HEAD_BYTES, STANDARD_INFORMATION_BYTES, UPCASE, WOF_BYTES,
};

/// Name of the index of names.
pub(super) const NAME_INDEX: [u16; 4] = [0x24, 0x49, 0x33, 0x30];
/// Name of the stream behind a compressed file.
pub(super) const WOF_STREAM: [u16; 17] =
    [0x57, 0x6f, 0x66, 0x43, 0x6f, 0x6d, 0x70, 0x72, 0x65, 0x73, 0x73, 0x65, 0x64, 0x44, 0x61, 0x74, 0x61];
/// Bytes of an index bitmap that may stand in the record.
pub(super) const MAX_RESIDENT_BITMAP_BYTES: u64 = 64;
/// Bytes of an attribute list that may stand in the record.
const MAX_RESIDENT_LIST_BYTES: usize = 192;

/// An attribute of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    StandardInformation,
    Name {
        link: u32,
        is_short: bool,
    },
    ObjectId,
    /// Stream `index` of the node: unnamed data first, then the named ones.
    Stream {
        index: usize,
    },
    /// Unnamed data with holes; a part of it.
    Holes {
        part: usize,
    },
    /// Unnamed data of a compressed file: one hole.
    WofHole,
    WofData,
    IndexRoot,
    IndexBlocks,
    IndexBitmap,
    Reparse,
    WofReparse,
    EaInformation,
    Ea,
}

/// An attribute with its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) item: Item,
    /// 0 is the base record.
    pub(super) record: u16,
    pub(super) is_resident: bool,
    /// Bytes when resident; 0 when that cannot be.
    resident_bytes: usize,
    /// Bytes with clusters; 0 when that cannot be.
    non_resident_bytes: usize,
    /// Units of its name.
    name_units: usize,
}

impl Placed {
    fn bytes(&self) -> usize {
        if self.is_resident { self.resident_bytes } else { self.non_resident_bytes }
    }

    /// The shortest it can be.
    fn least_bytes(&self) -> usize {
        match (self.resident_bytes, self.non_resident_bytes) {
            (0, bytes) | (bytes, 0) => bytes,
            (a, b) => a.min(b),
        }
    }
}

/// The list of attributes of a file with more than one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    None,
    Resident,
    /// In clusters, so many bytes.
    Clusters(usize),
}

/// The attributes of a file in their order, with their places.
#[derive(Debug)]
pub(super) struct Composition {
    pub(super) placed: Vec<Placed>,
    pub(super) records: u16,
    pub(super) list: List,
    /// A directory whose entries stand in blocks: bytes for entries in the root.
    pub(super) root_bytes: Option<usize>,
}

/// Composes one node after the other.
#[derive(Debug)]
pub(super) struct Composer<'a, 't> {
    pub(super) collected: &'a Collected<'t>,
    pub(super) geometry: &'a Geometry,
    /// Whether `(node, stream)` may stand in the record; once the room for such content is used up, none may.
    pub(super) resident_limit: u64,
}

impl Composer<'_, '_> {
    /// The composition of `id`.
    pub(super) fn compose(&self, id: NodeId) -> Result<Composition, Reason> {
        let node = self.collected.tree.node(id);
        let mut out =
            Composition { placed: self.items(id, node), records: 1, list: List::None, root_bytes: None };
        let room = self.geometry.record_room();
        if node.is_directory() {
            self.choose_index(id, &mut out, room);
        }
        // A stream in parts has a list, whatever room there is.
        let in_parts = self.collected.holes_of(id).is_some_and(|sparse| sparse.part_count() > 1);
        if choose_residence(&mut out.placed, room) && !in_parts {
            return Ok(out);
        }
        self.distribute(&mut out, room)?;
        Ok(out)
    }

    fn items(&self, id: NodeId, node: &Node) -> Vec<Placed> {
        let mut items = Items { list: Vec::with_capacity(6), geometry: self.geometry };
        items.resident(Item::StandardInformation, 0, STANDARD_INFORMATION_BYTES);
        let links: Vec<_> = self.collected.links_of(id).map(|(number, link)| (number, link.form)).collect();
        for (link, form) in links.into_iter().rev() {
            for is_short in [false, true] {
                if !is_short || form == Form::Pair {
                    let units = self.collected.link_name(link, is_short).len();
                    items.resident(Item::Name { link, is_short }, 0, FILE_NAME_BYTES + 2 * units);
                }
            }
        }
        if id == self.collected.tree.root() {
            items.resident(Item::Name { link: NONE, is_short: false }, 0, FILE_NAME_BYTES + 2);
        }
        if node.object_id.is_some() {
            items.resident(Item::ObjectId, 0, OBJECT_ID_BYTES);
        }
        let wof = self.collected.wof_of(id);
        let sparse = node.attributes.contains(FileAttributes::SPARSE);
        let unnamed = usize::from(!node.is_directory());
        if wof.is_some() {
            items.clusters(Item::WofHole, 0, true);
        } else if let Some(sparse) = self.collected.holes_of(id) {
            for part in 0..sparse.part_count() {
                items.push(Item::Holes { part }, 0, 0, sparse.part_bytes(part, self.geometry));
            }
        } else if unnamed == 1 {
            let size = node.data.as_ref().map_or(0, |data| data.size);
            items.stream(Item::Stream { index: 0 }, 0, size, sparse, self.resident_limit);
        }
        let mut named: Vec<usize> = (0..node.named_streams.len()).collect();
        let name = |index: &usize| node.named_streams[*index].name.units();
        named.sort_by(|a, b| UPCASE.collate(name(a), name(b)));
        let before = named.iter().filter(|index| UPCASE.collate(name(index), &WOF_STREAM).is_lt()).count();
        for (position, index) in named.iter().enumerate() {
            if position == before && wof.is_some() {
                items.clusters(Item::WofData, WOF_STREAM.len(), false);
            }
            let (size, units) = (node.named_streams[*index].content.size, name(index).len());
            let item = Item::Stream { index: unnamed + index };
            items.stream(item, units, size, false, self.resident_limit);
        }
        if before == named.len() && wof.is_some() {
            items.clusters(Item::WofData, WOF_STREAM.len(), false);
        }
        if node.is_directory() {
            items.resident(Item::IndexRoot, NAME_INDEX.len(), 0);
        }
        if let Some(reparse) = &node.reparse {
            let bytes = to_u64(REPARSE_HEAD_BYTES).saturating_add(reparse.content.size);
            items.either(Item::Reparse, 0, bytes, false, bytes <= MAX_RESIDENT_BYTES);
        } else if wof.is_some() {
            items.resident(Item::WofReparse, 0, REPARSE_HEAD_BYTES + WOF_BYTES);
        }
        if !node.extended_attributes.is_empty() {
            items.resident(Item::EaInformation, 0, EA_INFORMATION_BYTES);
            let bytes = to_u64(node.extended_attributes.iter().map(ea_bytes).sum());
            items.either(Item::Ea, 0, bytes, false, bytes <= MAX_RESIDENT_BYTES);
        }
        items.list
    }

    /// Decides whether a directory's entries stand in its record, or in blocks with a root as large as there is room.
    fn choose_index(&self, id: NodeId, out: &mut Composition, room: usize) {
        let dir = &self.collected.dirs[at(self.collected.nodes[id.index()].detail)];
        let Some(root) = out.placed.iter().position(|placed| placed.item == Item::IndexRoot) else { return };
        let root_of = |entries: usize| resident_bytes(NAME_INDEX.len(), INDEX_ROOT_BYTES + entries);
        let others: usize =
            out.placed.iter().map(Placed::least_bytes).sum::<usize>() - out.placed[root].bytes();
        let small = usize::try_from(dir.entries_bytes).unwrap_or(usize::MAX).saturating_add(0x10);
        if small <= room && others.saturating_add(root_of(small)) <= room {
            out.placed[root].resident_bytes = root_of(small);
            return;
        }
        let mut items = Items { list: Vec::new(), geometry: self.geometry };
        items.clusters(Item::IndexBlocks, NAME_INDEX.len(), false);
        // Room for a bitmap in the record, which takes more than one in clusters.
        items.resident(Item::IndexBitmap, NAME_INDEX.len(), 64);
        let with_blocks: usize = items.list.iter().map(Placed::bytes).sum();
        let left = room.saturating_sub(others + with_blocks + root_of(0));
        let root_bytes = (left & !7).max(LEAST_ROOT_ENTRIES_BYTES);
        out.placed[root].resident_bytes = root_of(root_bytes);
        out.root_bytes = Some(root_bytes);
        out.placed.splice(root + 1..root + 1, items.list);
    }

    /// Spreads attributes over several records. The base keeps what the file is found by; names and named streams go on
    /// in extension records.
    fn distribute(&self, out: &mut Composition, room: usize) -> Result<(), Reason> {
        let root_bytes = |placed: &mut Placed| {
            placed.resident_bytes =
                resident_bytes(NAME_INDEX.len(), INDEX_ROOT_BYTES + LEAST_ROOT_ENTRIES_BYTES);
        };
        if out.root_bytes.is_some() {
            out.root_bytes = Some(LEAST_ROOT_ENTRIES_BYTES);
            out.placed.iter_mut().filter(|placed| placed.item == Item::IndexRoot).for_each(root_bytes);
        }
        let list_bytes = out.placed.iter().map(|placed| list_entry_bytes(placed.name_units)).sum::<usize>();
        if list_bytes > MAX_LIST_BYTES {
            return Err(Reason::AttributeList(list_bytes));
        }
        let (list, list_attribute) = if list_bytes <= MAX_RESIDENT_LIST_BYTES {
            (List::Resident, resident_bytes(0, list_bytes))
        } else {
            (List::Clusters(list_bytes), non_resident_bytes(0, false, self.geometry))
        };
        out.list = list;
        let mut left = room - list_attribute;
        let stays = |item: &Item| !matches!(item, Item::Name { .. } | Item::Stream { index: 1.. } | Item::Ea);
        let mut moving = Vec::new();
        for (position, placed) in out.placed.iter_mut().enumerate() {
            match left.checked_sub(placed.bytes()) {
                Some(now) if stays(&placed.item) => left = now,
                _ => moving.push(position),
            }
        }
        let mut record = 0;
        for position in moving {
            let bytes = out.placed[position].bytes();
            match left.checked_sub(bytes) {
                Some(now) => left = now,
                None => {
                    record += 1;
                    // Only a name that was refused is longer than a record.
                    left = room.saturating_sub(bytes);
                }
            }
            out.placed[position].record = record;
        }
        out.records = record + 1;
        Ok(())
    }
}

/// Collects attributes with the bytes they take.
struct Items<'a> {
    list: Vec<Placed>,
    geometry: &'a Geometry,
}

impl Items<'_> {
    fn push(&mut self, item: Item, name_units: usize, resident_bytes: usize, non_resident_bytes: usize) {
        let is_resident = resident_bytes > 0;
        self.list.push(Placed {
            item,
            record: 0,
            is_resident,
            resident_bytes,
            non_resident_bytes,
            name_units,
        });
    }

    fn resident(&mut self, item: Item, name_units: usize, bytes: usize) {
        self.push(item, name_units, resident_bytes(name_units, bytes), 0);
    }

    fn clusters(&mut self, item: Item, name_units: usize, is_sparse: bool) {
        self.push(item, name_units, 0, non_resident_bytes(name_units, is_sparse, self.geometry));
    }

    fn either(&mut self, item: Item, name_units: usize, bytes: u64, is_sparse: bool, may_be_resident: bool) {
        let resident = usize::try_from(bytes).unwrap_or(usize::MAX);
        let resident = if may_be_resident { resident_bytes(name_units, resident) } else { 0 };
        self.push(item, name_units, resident, non_resident_bytes(name_units, is_sparse, self.geometry));
    }

    /// A stream of content. Empty ones always stand in the record, sparse ones never.
    fn stream(&mut self, item: Item, name_units: usize, size: u64, is_sparse: bool, limit: u64) {
        if size == 0 {
            return self.resident(item, name_units, 0);
        }
        let may_be_resident = size <= limit.min(MAX_RESIDENT_BYTES) && !is_sparse;
        self.either(item, name_units, size, is_sparse, may_be_resident);
    }
}

/// Makes as many values resident as there is room for, the smallest first. False when even the shortest forms do not fit;
/// they are chosen then.
fn choose_residence(placed: &mut [Placed], room: usize) -> bool {
    let all: usize = placed.iter().map(Placed::bytes).sum();
    if all <= room {
        return true;
    }
    for one in placed.iter_mut() {
        one.is_resident = one.resident_bytes > 0
            && (one.non_resident_bytes == 0 || one.resident_bytes <= one.non_resident_bytes);
    }
    let mut used: usize = placed.iter().map(Placed::bytes).sum();
    if used > room {
        return false;
    }
    loop {
        let candidates = placed.iter_mut().filter(|one| !one.is_resident && one.resident_bytes > 0);
        let Some(smallest) = candidates.min_by_key(|one| one.resident_bytes) else { return true };
        used = used - smallest.bytes() + smallest.resident_bytes;
        if used > room {
            return true;
        }
        smallest.is_resident = true;
    }
}

/// Bytes of an attribute's entry in the list.
pub(super) fn list_entry_bytes(name_units: usize) -> usize {
    (LIST_ENTRY_BYTES + 2 * name_units).next_multiple_of(8)
}
