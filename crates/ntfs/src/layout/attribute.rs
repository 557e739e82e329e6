//! Writing attributes and records.

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::options::Geometry;
use super::sparse::PartRuns;
use crate::disk::{
    ATTRIBUTE_SPARSE, END_MARK, END_MARK_BYTES, GUARDED_BYTES, NON_RESIDENT_BYTES, NonResidentDisk,
    RECORD_MAGIC, RESIDENT_BYTES, RecordDisk, ResidentDisk, Run, encode_runs, protect, single_run_bytes,
};

/// Largest value of a resident attribute that is worth asking for: no record has more room.
pub(super) const MAX_RESIDENT_BYTES: u64 = 4096;

/// What an attribute with clusters says of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// First cluster, `None` for a hole.
    pub(super) lcn: Option<u64>,
    pub(super) clusters: u64,
    /// Bytes of the stream.
    pub(super) size: u64,
    /// Log2 of the clusters in a unit of a sparse stream; `None` for others.
    pub(super) sparse_unit: Option<u8>,
}

/// An attribute in clusters as it is written.
#[derive(Debug)]
struct StreamPart {
    lowest: u64,
    runs: Vec<Run>,
    /// Clusters of all parts, holes counted.
    clusters: u64,
    /// The same without holes.
    stored: u64,
    size: u64,
    initialized: u64,
    sparse_unit: Option<u8>,
}

impl Extent {
    /// As a stream of one part.
    fn stream(&self, initialized: u64) -> StreamPart {
        StreamPart {
            lowest: 0,
            runs: vec![Run { clusters: self.clusters, lcn: self.lcn }],
            clusters: self.clusters,
            stored: if self.lcn.is_some() { self.clusters } else { 0 },
            size: self.size,
            initialized,
            sparse_unit: self.sparse_unit,
        }
    }
}

/// Bytes of an attribute with its value, padded.
pub(super) fn resident_bytes(name_units: usize, value_bytes: usize) -> usize {
    (RESIDENT_BYTES + (2 * name_units).next_multiple_of(8) + value_bytes).next_multiple_of(8)
}

/// Bytes of an attribute with one run anywhere on the volume, padded.
pub(super) fn non_resident_bytes(name_units: usize, is_sparse: bool, geometry: &Geometry) -> usize {
    let head = NON_RESIDENT_BYTES + if is_sparse { 8 } else { 0 };
    let runs = single_run_bytes(geometry.clusters);
    (head + (2 * name_units).next_multiple_of(8) + runs).next_multiple_of(8)
}

/// One file record in the making.
#[derive(Debug)]
pub(super) struct RecordWriter {
    bytes: Vec<u8>,
    record_bytes: usize,
    next_instance: u16,
    number: u32,
}

/// Head of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordHead {
    pub(super) number: u32,
    pub(super) sequence: u16,
    pub(super) links: u16,
    pub(super) flags: u16,
    /// Reference to the base record; 0 in a base.
    pub(super) base: u64,
}

impl RecordWriter {
    pub(super) fn new(head: &RecordHead, geometry: &Geometry) -> Self {
        let disk = RecordDisk {
            magic: RECORD_MAGIC,
            update_offset: U16::new(to_u16(size_of::<RecordDisk>())),
            update_count: U16::new(to_u16(1 + geometry.record_bytes / GUARDED_BYTES)),
            log_sequence: U64::new(0),
            sequence: U16::new(head.sequence),
            link_count: U16::new(head.links),
            first_attribute: U16::new(to_u16(geometry.first_attribute())),
            flags: U16::new(head.flags),
            used: U32::new(0),
            allocated: U32::new(to_u32(geometry.record_bytes)),
            base_record: U64::new(head.base),
            next_instance: U16::new(0),
            reserved: U16::new(0),
            record_number: U32::new(head.number),
        };
        let mut bytes = Vec::with_capacity(geometry.record_bytes);
        bytes.extend_from_slice(disk.as_bytes());
        bytes.resize(geometry.first_attribute(), 0);
        Self { bytes, record_bytes: geometry.record_bytes, next_instance: 0, number: head.number }
    }

    /// Adds an attribute whose value `write` appends.
    pub(super) fn resident(
        &mut self,
        attribute_type: u32,
        name: &[u16],
        indexed: u8,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.bytes.len();
        let value_offset = RESIDENT_BYTES + (2 * name.len()).next_multiple_of(8);
        self.bytes.resize(start + RESIDENT_BYTES, 0);
        self.push_name(name, start + value_offset);
        write(&mut self.bytes);
        let value_len = self.bytes.len() - start - value_offset;
        let end = start + (self.bytes.len() - start).next_multiple_of(8);
        self.bytes.resize(end, 0);
        let disk = ResidentDisk {
            attribute_type: U32::new(attribute_type),
            len: U32::new(to_u32(end - start)),
            non_resident: 0,
            name_len: to_u8(name.len()),
            // Windows writes the offset even when there is no name.
            name_offset: U16::new(to_u16(RESIDENT_BYTES)),
            flags: U16::new(0),
            instance: U16::new(self.instance()),
            value_len: U32::new(to_u32(value_len)),
            value_offset: U16::new(to_u16(value_offset)),
            indexed,
            reserved: 0,
        };
        self.bytes[start..start + RESIDENT_BYTES].copy_from_slice(disk.as_bytes());
    }

    /// Adds an attribute whose value stands in clusters.
    pub(super) fn non_resident(
        &mut self,
        attribute_type: u32,
        name: &[u16],
        extent: &Extent,
        geometry: &Geometry,
    ) {
        self.in_clusters(attribute_type, name, &extent.stream(extent.size), geometry);
    }

    /// The same for a stream of which nothing was ever written.
    pub(super) fn non_resident_unwritten(
        &mut self,
        attribute_type: u32,
        name: &[u16],
        extent: &Extent,
        geometry: &Geometry,
    ) {
        self.in_clusters(attribute_type, name, &extent.stream(0), geometry);
    }

    /// Adds a part of a sparse stream without a name, of which `stored` clusters are on the volume in all. Only the first part
    /// says how large the stream is.
    pub(super) fn part(
        &mut self,
        attribute_type: u32,
        extent: &Extent,
        part: &PartRuns,
        stored: u64,
        geometry: &Geometry,
    ) {
        let stream =
            StreamPart { lowest: part.lowest, runs: part.runs.clone(), stored, ..extent.stream(extent.size) };
        self.in_clusters(attribute_type, &[], &stream, geometry);
    }

    fn in_clusters(&mut self, attribute_type: u32, name: &[u16], stream: &StreamPart, geometry: &Geometry) {
        let start = self.bytes.len();
        let is_first = stream.lowest == 0;
        let says_stored = stream.sparse_unit.is_some() && is_first;
        let head = NON_RESIDENT_BYTES + if says_stored { 8 } else { 0 };
        let runs_offset = head + (2 * name.len()).next_multiple_of(8);
        self.bytes.resize(start + head, 0);
        self.push_name(name, start + runs_offset);
        encode_runs(&stream.runs, &mut self.bytes);
        let end = start + (self.bytes.len() - start).next_multiple_of(8);
        self.bytes.resize(end, 0);
        let in_first = |bytes: u64| U64::new(if is_first { bytes } else { 0 });
        let covered: u64 = stream.runs.iter().map(|run| run.clusters).sum();
        let disk = NonResidentDisk {
            attribute_type: U32::new(attribute_type),
            len: U32::new(to_u32(end - start)),
            non_resident: 1,
            name_len: to_u8(name.len()),
            name_offset: U16::new(to_u16(head)),
            flags: U16::new(if stream.sparse_unit.is_some() { ATTRIBUTE_SPARSE } else { 0 }),
            instance: U16::new(self.instance()),
            lowest_vcn: U64::new(stream.lowest),
            highest_vcn: U64::new((stream.lowest + covered).saturating_sub(1)),
            runs_offset: U16::new(to_u16(runs_offset)),
            compression_unit: stream.sparse_unit.filter(|_| is_first).unwrap_or(0),
            reserved: [0; 5],
            allocated: in_first(geometry.offset(stream.clusters)),
            size: in_first(stream.size),
            initialized: in_first(stream.initialized),
        };
        self.bytes[start..start + NON_RESIDENT_BYTES].copy_from_slice(disk.as_bytes());
        if says_stored {
            let stored = geometry.offset(stream.stored);
            self.bytes[start + NON_RESIDENT_BYTES..start + head].copy_from_slice(&stored.to_le_bytes());
        }
    }

    /// Closes and protects the record.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&END_MARK.to_le_bytes());
        self.bytes.resize(self.bytes.len() + END_MARK_BYTES - 4, 0);
        let used = self.bytes.len();
        assert!(used <= self.record_bytes, "record {} of {used} bytes was planned smaller", self.number);
        self.bytes[0x18..0x1c].copy_from_slice(&to_u32(used).to_le_bytes());
        self.bytes[0x28..0x2a].copy_from_slice(&self.next_instance.to_le_bytes());
        self.bytes.resize(self.record_bytes, 0);
        protect(&mut self.bytes, size_of::<RecordDisk>());
        self.bytes
    }

    fn push_name(&mut self, name: &[u16], end: usize) {
        self.bytes.extend(name.iter().flat_map(|unit| unit.to_le_bytes()));
        self.bytes.resize(end, 0);
    }

    fn instance(&mut self) -> u16 {
        let instance = self.next_instance;
        self.next_instance += 1;
        instance
    }
}

/// Numbers that a record's size bounds.
pub(super) fn to_u8(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

pub(super) fn to_u16(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

pub(super) fn to_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

pub(super) fn to_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
