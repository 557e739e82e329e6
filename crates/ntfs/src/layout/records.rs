//! The records of files and directories, and their names in indexes.

use gravure_nttypes::FileAttributes;
use gravure_tree::{Node, NodeId};
use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::attribute::{Extent, RecordHead, RecordWriter, to_u8, to_u16, to_u32};
use super::collect::{NONE, at, ea_bytes};
use super::compose::{Composition, Item, List, NAME_INDEX, Placed, WOF_STREAM, list_entry_bytes};
use super::index::Shape;
use super::plan::{ExtraKind, VolumePlan};
use super::writes::ResidentBytes;
use crate::disk::{
    CASE_SENSITIVE, EaDisk, EaInformationDisk, FileNameDisk, INDEX_BLOCK_BYTES, IndexEntryDisk,
    LIST_ENTRY_BYTES, ListEntryDisk, NAME_IS_DIRECTORY, OBJECT_ID_BYTES, RECORD_DIRECTORY, RECORD_IN_USE,
    ReparseDisk, StandardInformationDisk, TimesDisk, WofDisk, attribute_type, collation, fresh_sequence,
    namespace, reference,
};

/// Attributes that are kept as the image has them. Directory, reparse point and sparse follow from what the file is;
/// compressed and encrypted from how it is stored.
const KEPT_ATTRIBUTES: u32 = FileAttributes::READ_ONLY.0
    | FileAttributes::HIDDEN.0
    | FileAttributes::SYSTEM.0
    | FileAttributes::ARCHIVE.0
    | FileAttributes::TEMPORARY.0
    | FileAttributes::OFFLINE.0
    | FileAttributes::NOT_INDEXED.0
    // No integrity scrubbing; always kept on this machine, never.
    | 0x2_0000
    | 0x8_0000
    | 0x10_0000;

/// What a name says of its file.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameFacts {
    pub(super) parent: u64,
    pub(super) times: TimesDisk,
    pub(super) allocated: u64,
    pub(super) size: u64,
    pub(super) attributes: u32,
    pub(super) extra: u32,
}

/// Appends a $FILE_NAME.
pub(super) fn write_name(facts: &NameFacts, namespace: u8, units: &[u16], out: &mut Vec<u8>) {
    let disk = FileNameDisk {
        parent: U64::new(facts.parent),
        times: facts.times,
        allocated: U64::new(facts.allocated),
        size: U64::new(facts.size),
        attributes: U32::new(facts.attributes),
        extra: U32::new(facts.extra),
        name_len: to_u8(units.len()),
        namespace,
    };
    out.extend_from_slice(disk.as_bytes());
    out.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
}

/// Appends an index entry for a name; `len` bytes.
pub(super) fn write_name_entry(
    file: u64,
    facts: &NameFacts,
    namespace: u8,
    units: &[u16],
    len: usize,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let head = IndexEntryDisk {
        reference: U64::new(file),
        len: U16::new(to_u16(len)),
        key_len: U16::new(to_u16(size_of::<FileNameDisk>() + 2 * units.len())),
        flags: U16::new(0),
        reserved: U16::new(0),
    };
    out.extend_from_slice(head.as_bytes());
    write_name(facts, namespace, units, out);
    out.resize(start + len, 0);
}

impl VolumePlan<'_> {
    /// Appends all records of a node but the base, then returns the base. `resident` has the contents that stand in records.
    pub(super) fn node_records(&self, id: NodeId, resident: &dyn ResidentBytes) -> Vec<Vec<u8>> {
        let node = self.collected.tree.node(id);
        // It was composed once before without a reason to refuse it.
        let Ok(composition) = self.compose(id) else { return Vec::new() };
        let links = composition.placed.iter().filter(|one| matches!(one.item, Item::Name { .. })).count();
        let base = self.node_reference(id);
        let mut records = Vec::with_capacity(usize::from(composition.records));
        for index in 0..composition.records {
            let number = self.record_number(id, index);
            let directory = if node.is_directory() && index == 0 { RECORD_DIRECTORY } else { 0 };
            let head = RecordHead {
                number,
                sequence: fresh_sequence(number),
                links: if index == 0 { to_u16(links) } else { 0 },
                flags: RECORD_IN_USE | directory,
                base: if index == 0 { 0 } else { base },
            };
            let mut record = RecordWriter::new(&head, &self.geometry);
            for placed in composition.placed.iter().filter(|placed| placed.record == index) {
                self.write_item(id, node, placed, resident, &mut record);
                if placed.item == Item::StandardInformation {
                    self.write_list(id, &composition, &mut record);
                }
            }
            records.push(record.finish());
        }
        records
    }

    fn write_item(
        &self,
        id: NodeId,
        node: &Node,
        placed: &Placed,
        resident: &dyn ResidentBytes,
        record: &mut RecordWriter,
    ) {
        use attribute_type as types;
        let plan = self.collected.nodes[id.index()];
        match placed.item {
            Item::StandardInformation => {
                let value = self.standard_information(id, node);
                record.resident(types::STANDARD_INFORMATION, &[], 0, |out| {
                    out.extend_from_slice(value.as_bytes());
                });
            }
            Item::Name { link, is_short } => {
                let (namespace, units) = self.link_name(link, is_short);
                let facts = self.name_facts(id, link);
                record.resident(types::FILE_NAME, &[], 1, |out| write_name(&facts, namespace, units, out));
            }
            Item::ObjectId => {
                // Where the file was born stands in the index alone, as Windows has it since 2000.
                let value = node.object_id.as_deref().and_then(|id| id.get(..OBJECT_ID_BYTES));
                let value = value.unwrap_or_default();
                record.resident(types::OBJECT_ID, &[], 0, |out| out.extend_from_slice(value));
            }
            Item::Stream { index } => self.write_stream(id, node, index, resident, record),
            Item::Holes { part } => self.write_holes(id, part, record),
            Item::WofHole => {
                let extent = Extent { lcn: None, ..self.sparse_extent(id) };
                record.non_resident(types::DATA, &[], &extent, &self.geometry);
            }
            Item::WofData => {
                let size = self.wof(id).map_or(0, |wof| wof.stored_bytes);
                let lcn = self.places[at(plan.streams)].lcn();
                let extent =
                    Extent { lcn, clusters: self.geometry.clusters_of(size), size, sparse_unit: None };
                record.non_resident(types::DATA, &WOF_STREAM, &extent, &self.geometry);
            }
            Item::IndexRoot => self.write_index_root(plan.detail, record),
            Item::IndexBlocks => {
                let dir = &self.collected.dirs[at(plan.detail)];
                let size = dir.blocks * super::attribute::to_u64(INDEX_BLOCK_BYTES);
                let clusters = self.geometry.clusters_of(size);
                let extent = Extent { lcn: Some(dir.lcn), clusters, size, sparse_unit: None };
                record.non_resident(types::INDEX_ALLOCATION, &NAME_INDEX, &extent, &self.geometry);
            }
            Item::IndexBitmap => {
                self.write_index_bitmap(id, self.collected.dirs[at(plan.detail)].blocks, record);
            }
            Item::Reparse => match self.extra_extent(id, ExtraKind::Reparse) {
                Some(extent) => record.non_resident(types::REPARSE_POINT, &[], &extent, &self.geometry),
                None => {
                    let value = self.reparse_value(id, node, resident);
                    record.resident(types::REPARSE_POINT, &[], 0, |out| out.extend_from_slice(&value));
                }
            },
            Item::WofReparse => {
                let value = self.wof_reparse(id);
                record.resident(types::REPARSE_POINT, &[], 0, |out| out.extend_from_slice(&value));
            }
            Item::EaInformation => {
                let value = ea_information(node);
                record.resident(types::EA_INFORMATION, &[], 0, |out| out.extend_from_slice(value.as_bytes()));
            }
            Item::Ea => match self.extra_extent(id, ExtraKind::Ea) {
                Some(extent) => record.non_resident(types::EA, &[], &extent, &self.geometry),
                None => {
                    record.resident(types::EA, &[], 0, |out| out.extend_from_slice(&ea_value(node)));
                }
            },
        }
    }

    fn write_stream(
        &self,
        id: NodeId,
        node: &Node,
        index: usize,
        resident: &dyn ResidentBytes,
        record: &mut RecordWriter,
    ) {
        let named = index.checked_sub(usize::from(!node.is_directory()));
        let name = named.and_then(|named| node.named_streams.get(named));
        let name = name.map_or(&[][..], |stream| stream.name.units());
        let size = self.stream_size(id, index);
        let code = self.places[at(self.collected.nodes[id.index()].streams) + index];
        if let Some(lcn) = code.lcn() {
            let extent = match self.is_sparse(id, index) {
                true => Extent { lcn: Some(lcn), ..self.sparse_extent(id) },
                false => Extent {
                    lcn: Some(lcn),
                    clusters: self.geometry.clusters_of(size),
                    size,
                    sparse_unit: None,
                },
            };
            return record.non_resident(attribute_type::DATA, name, &extent, &self.geometry);
        }
        record.resident(attribute_type::DATA, name, 0, |out| {
            if let Some(slot) = code.slot() {
                fill(resident, slot, size, out);
            }
        });
    }

    /// Unnamed data with holes, a part of it.
    fn write_holes(&self, id: NodeId, part: usize, record: &mut RecordWriter) {
        let first = self.places[at(self.collected.nodes[id.index()].streams)];
        if let (Some(sparse), Some(lcn)) = (self.collected.holes_of(id), first.lcn()) {
            let extent = self.sparse_extent(id);
            record.part(
                attribute_type::DATA,
                &extent,
                &sparse.part_runs(part, lcn),
                sparse.clusters,
                &self.geometry,
            );
        }
    }

    fn sparse_extent(&self, id: NodeId) -> Extent {
        let size = self.stream_size(id, 0);
        Extent {
            lcn: None,
            clusters: self.geometry.sparse_clusters(size),
            size,
            sparse_unit: Some(self.geometry.sparse_unit()),
        }
    }

    fn extra_extent(&self, id: NodeId, kind: ExtraKind) -> Option<Extent> {
        let extra = self.extra_of(id, kind)?;
        let clusters = self.geometry.clusters_of(extra.bytes);
        Some(Extent { lcn: Some(extra.lcn), clusters, size: extra.bytes, sparse_unit: None })
    }

    fn write_index_root(&self, dir: u32, record: &mut RecordWriter) {
        let entries = self.dir_entries(dir);
        let plan = &self.collected.dirs[at(dir)];
        let root_bytes = if plan.blocks > 0 { at(plan.root_bytes) } else { usize::MAX };
        let shape = Shape::new(&entries, root_bytes);
        record.resident(attribute_type::INDEX_ROOT, &NAME_INDEX, 0, |out| {
            self.write_root_head(attribute_type::FILE_NAME, collation::FILE_NAME, out);
            shape.write_root(&entries, self.geometry.index_vcn_step(), out);
        });
    }

    /// Appends what stands before the root node.
    pub(super) fn write_root_head(&self, indexed: u32, collation: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&indexed.to_le_bytes());
        out.extend_from_slice(&collation.to_le_bytes());
        out.extend_from_slice(&to_u32(INDEX_BLOCK_BYTES).to_le_bytes());
        let step = u8::try_from(self.geometry.index_vcn_step()).unwrap_or(1);
        out.extend_from_slice(&[step, 0, 0, 0]);
    }

    fn write_index_bitmap(&self, id: NodeId, blocks: u64, record: &mut RecordWriter) {
        match self.extra_extent(id, ExtraKind::IndexBitmap) {
            Some(extent) => record.non_resident(attribute_type::BITMAP, &NAME_INDEX, &extent, &self.geometry),
            None => record.resident(attribute_type::BITMAP, &NAME_INDEX, 0, |out| {
                out.extend_from_slice(&super::index::bitmap(blocks));
            }),
        }
    }

    fn write_list(&self, id: NodeId, composition: &Composition, record: &mut RecordWriter) {
        match composition.list {
            List::None => {}
            List::Resident => record.resident(attribute_type::ATTRIBUTE_LIST, &[], 0, |out| {
                out.extend_from_slice(&self.list_value(id, composition));
            }),
            List::Clusters(_) => {
                if let Some(extent) = self.extra_extent(id, ExtraKind::List) {
                    record.non_resident(attribute_type::ATTRIBUTE_LIST, &[], &extent, &self.geometry);
                }
            }
        }
    }

    /// The list of all attributes but itself.
    fn list_value(&self, id: NodeId, composition: &Composition) -> Vec<u8> {
        let node = self.collected.tree.node(id);
        let mut next_instance = vec![0u16; usize::from(composition.records)];
        let mut out = Vec::new();
        for placed in &composition.placed {
            let (attribute_type, name) = self.identity(node, placed.item);
            let instance = &mut next_instance[usize::from(placed.record)];
            let number = self.record_number(id, placed.record);
            let len = list_entry_bytes(name.len());
            let disk = ListEntryDisk {
                attribute_type: U32::new(attribute_type),
                len: U16::new(to_u16(len)),
                name_len: to_u8(name.len()),
                name_offset: to_u8(LIST_ENTRY_BYTES),
                lowest_vcn: U64::new(self.lowest_vcn(id, placed.item)),
                record: U64::new(reference(number, fresh_sequence(number))),
                instance: U16::new(*instance),
            };
            *instance += 1;
            if placed.item == Item::StandardInformation {
                // The list itself stands behind it in the base.
                *instance += 1;
            }
            let start = out.len();
            out.extend_from_slice(disk.as_bytes());
            out.extend(name.iter().flat_map(|unit| unit.to_le_bytes()));
            out.resize(start + len, 0);
        }
        out
    }

    /// The first cluster of its stream that an attribute says something of.
    fn lowest_vcn(&self, id: NodeId, item: Item) -> u64 {
        match (item, self.collected.holes_of(id)) {
            (Item::Holes { part }, Some(sparse)) => sparse.lowest(part),
            _ => 0,
        }
    }

    /// Type and name of an attribute.
    fn identity<'a>(&self, node: &'a Node, item: Item) -> (u32, &'a [u16]) {
        use attribute_type as types;
        let named = |index: usize| {
            let named = index.checked_sub(usize::from(!node.is_directory()));
            let stream = named.and_then(|named| node.named_streams.get(named));
            stream.map_or(&[][..], |stream| stream.name.units())
        };
        match item {
            Item::StandardInformation => (types::STANDARD_INFORMATION, &[]),
            Item::Name { .. } => (types::FILE_NAME, &[]),
            Item::ObjectId => (types::OBJECT_ID, &[]),
            Item::Stream { index } => (types::DATA, named(index)),
            Item::Holes { .. } | Item::WofHole => (types::DATA, &[]),
            Item::WofData => (types::DATA, &WOF_STREAM),
            Item::IndexRoot => (types::INDEX_ROOT, &NAME_INDEX),
            Item::IndexBlocks => (types::INDEX_ALLOCATION, &NAME_INDEX),
            Item::IndexBitmap => (types::BITMAP, &NAME_INDEX),
            Item::Reparse | Item::WofReparse => (types::REPARSE_POINT, &[]),
            Item::EaInformation => (types::EA_INFORMATION, &[]),
            Item::Ea => (types::EA, &[]),
        }
    }

    /// What stands in a file's own clusters of metadata.
    pub(super) fn extra_value(&self, id: NodeId, kind: ExtraKind, resident: &dyn ResidentBytes) -> Vec<u8> {
        let node = self.collected.tree.node(id);
        match kind {
            ExtraKind::List => {
                self.compose(id).map(|composition| self.list_value(id, &composition)).unwrap_or_default()
            }
            ExtraKind::IndexBitmap => {
                let dir = &self.collected.dirs[at(self.collected.nodes[id.index()].detail)];
                super::index::bitmap(dir.blocks)
            }
            ExtraKind::Reparse => self.reparse_value(id, node, resident),
            ExtraKind::Ea => ea_value(node),
        }
    }

    fn reparse_value(&self, id: NodeId, node: &Node, resident: &dyn ResidentBytes) -> Vec<u8> {
        let Some(reparse) = &node.reparse else { return Vec::new() };
        let head = ReparseDisk {
            tag: U32::new(reparse.tag.0),
            len: U16::new(u16::try_from(reparse.content.size).unwrap_or(u16::MAX)),
            reserved: U16::new(reparse.reserved),
        };
        let mut out = head.as_bytes().to_vec();
        let place = at(self.collected.nodes[id.index()].streams) + self.reparse_index(id);
        if let Some(slot) = self.places[place].slot() {
            fill(resident, slot, reparse.content.size, &mut out);
        }
        out
    }

    fn wof_reparse(&self, id: NodeId) -> Vec<u8> {
        let algorithm = self.wof(id).map_or(0, |wof| wof.algorithm.number());
        let value = WofDisk {
            version: U32::new(1),
            provider: U32::new(2),
            provider_version: U32::new(1),
            algorithm: U32::new(algorithm),
        };
        let head = ReparseDisk {
            tag: U32::new(self.reparse_tag(id).0),
            len: U16::new(to_u16(size_of::<WofDisk>())),
            reserved: U16::new(0),
        };
        [head.as_bytes(), value.as_bytes()].concat()
    }

    /// Attribute bits without that of directories.
    fn attributes(&self, id: NodeId, node: &Node) -> u32 {
        let mut attributes = node.attributes.0 & KEPT_ATTRIBUTES;
        if self.reparse_tag(id).0 != 0 {
            attributes |= FileAttributes::REPARSE_POINT.0;
        }
        let is_sparse = self.wof(id).is_some() || (self.is_sparse(id, 0) && self.stream_size(id, 0) > 0);
        if is_sparse {
            attributes |= FileAttributes::SPARSE.0;
        }
        attributes
    }

    fn standard_information(&self, id: NodeId, node: &Node) -> StandardInformationDisk {
        StandardInformationDisk {
            times: node_times(node),
            attributes: U32::new(self.attributes(id, node)),
            max_versions: U32::new(0),
            version: U32::new(if self.is_case_sensitive(id, node) { CASE_SENSITIVE } else { 0 }),
            class_id: U32::new(0),
            owner_id: U32::new(0),
            security_id: U32::new(self.secure.id(node.security.map(|security| security.0))),
            quota_charged: U64::new(0),
            update_sequence: U64::new(0),
        }
    }

    /// Whether a directory is marked so.
    fn is_case_sensitive(&self, id: NodeId, node: &Node) -> bool {
        node.is_directory()
            && self.collected.dirs[at(self.collected.nodes[id.index()].detail)].is_case_sensitive
    }

    /// What the names of a file say; `link` is one of its names or [`NONE`] for the root's own.
    fn name_facts(&self, id: NodeId, link: u32) -> NameFacts {
        let node = self.collected.tree.node(id);
        let parent = match link {
            NONE => self.node_reference(id),
            link => self.node_reference(self.collected.dirs[at(self.collected.links[at(link)].dir)].node),
        };
        let (allocated, size) = self.data_sizes(id, node);
        let directory = if node.is_directory() { NAME_IS_DIRECTORY } else { 0 };
        let tag = self.reparse_tag(id).0;
        let packed = u32::from(ea_information(node).packed_len.get());
        NameFacts {
            parent,
            times: node_times(node),
            allocated,
            size,
            attributes: self.attributes(id, node) | directory,
            extra: if tag == 0 { packed } else { tag },
        }
    }

    /// Bytes that unnamed data takes and has; both 0 for directories.
    fn data_sizes(&self, id: NodeId, node: &Node) -> (u64, u64) {
        if node.is_directory() {
            return (0, 0);
        }
        let size = self.stream_size(id, 0);
        let code = self.places[at(self.collected.nodes[id.index()].streams)];
        let allocated = if code.is_compressed() {
            0
        } else if code.lcn().is_some() {
            self.geometry.offset(self.stored_clusters(id, 0))
        } else {
            size.next_multiple_of(8)
        };
        (allocated, size)
    }

    fn link_name(&self, link: u32, is_short: bool) -> (u8, &[u16]) {
        const ROOT_NAME: [u16; 1] = [0x2e];
        if link == NONE {
            return (namespace::WIN32_AND_DOS, &ROOT_NAME);
        }
        let long = self.collected.links[at(link)].form.long_namespace();
        (if is_short { namespace::DOS } else { long }, self.collected.link_name(link, is_short))
    }

    /// Appends a link's index entry.
    pub(super) fn link_entry(&self, link: u32, is_short: bool, len: usize, out: &mut Vec<u8>) {
        let node = self.collected.links[at(link)].node;
        let (namespace, units) = self.link_name(link, is_short);
        let facts = self.name_facts(node, link);
        write_name_entry(self.node_reference(node), &facts, namespace, units, len, out);
    }

    /// Appends the root's entry for itself.
    pub(super) fn root_entry(&self, len: usize, out: &mut Vec<u8>) {
        let root = self.collected.tree.root();
        let (namespace, units) = self.link_name(NONE, false);
        write_name_entry(self.node_reference(root), &self.name_facts(root, NONE), namespace, units, len, out);
    }
}

/// Images know no time of change of the record; that of the content is the nearest.
fn node_times(node: &Node) -> TimesDisk {
    TimesDisk {
        created: U64::new(node.times.created.0),
        written: U64::new(node.times.written.0),
        changed: U64::new(node.times.written.0),
        accessed: U64::new(node.times.accessed.0),
    }
}

fn fill(resident: &dyn ResidentBytes, slot: u64, size: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + usize::try_from(size).unwrap_or(0), 0);
    resident.read(slot, &mut out[start..]);
}

fn ea_information(node: &Node) -> EaInformationDisk {
    let list = &node.extended_attributes;
    let packed: usize = list.iter().map(|ea| 5 + ea.name.len() + ea.value.len()).sum();
    let needed = list.iter().filter(|ea| ea.flags & 0x80 != 0).count();
    EaInformationDisk {
        packed_len: U16::new(to_u16(packed)),
        needed_count: U16::new(to_u16(needed)),
        len: U32::new(to_u32(list.iter().map(ea_bytes).sum())),
    }
}

fn ea_value(node: &Node) -> Vec<u8> {
    let mut out = Vec::new();
    for ea in &node.extended_attributes {
        let start = out.len();
        let head = EaDisk {
            next: U32::new(to_u32(ea_bytes(ea))),
            flags: ea.flags,
            name_len: to_u8(ea.name.len()),
            value_len: U16::new(to_u16(ea.value.len())),
        };
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&ea.name);
        out.push(0);
        out.extend_from_slice(&ea.value);
        out.resize(start + ea_bytes(ea), 0);
    }
    out
}
