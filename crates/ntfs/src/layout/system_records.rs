//! The records of the system files.

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::attribute::{Extent, RecordHead, RecordWriter, to_u16, to_u64};
use super::collect::entry_bytes;
use super::compose::NAME_INDEX;
use super::index::{Entries, Shape, bitmap};
use super::plan::VolumePlan;
use super::records::{NameFacts, write_name, write_name_entry};
use super::secure::SYSTEM_SECURITY_ID;
use super::system::{
    EXTEND_NAMES, ROOT_NAMES, SystemName, VOLUME_FLAGS, log_file_bytes, quota_entries, stream_names,
};
use super::views::{SmallEntries, View};
use crate::disk::{
    BOOT_FILE_BYTES, HAS_VIEW_INDEX, INDEX_BLOCK_BYTES, NAME_IS_DIRECTORY, RECORD_DIRECTORY, RECORD_EXTEND,
    RECORD_IN_USE, RECORD_VIEW_INDEX, StandardInformationDisk, TimesDisk, UPCASE_BYTES,
    VolumeInformationDisk, attribute_definitions, attribute_type as types, collation, fresh_sequence,
    namespace, numbers, reference, upcase_info,
};

/// Hidden and system.
const SYSTEM_ATTRIBUTES: u32 = 0x06;
/// The files in $Extend are marked for archiving besides, as format has it.
const EXTEND_ATTRIBUTES: u32 = 0x26;

/// Entries of $Extend.
struct ExtendEntries<'p, 't>(&'p VolumePlan<'t>);

impl Entries for ExtendEntries<'_, '_> {
    fn count(&self) -> usize {
        EXTEND_NAMES.len()
    }

    fn len(&self, index: usize) -> usize {
        entry_bytes(EXTEND_NAMES[index].units.len())
    }

    fn write(&self, index: usize, out: &mut Vec<u8>) {
        self.0.system_entry(&EXTEND_NAMES[index], self.len(index), out);
    }
}

impl VolumePlan<'_> {
    /// Record `number` of the system; `None` for the root and for free ones.
    pub(super) fn system_record(&self, number: u32) -> Option<Vec<u8>> {
        let all = ROOT_NAMES.iter().chain(&EXTEND_NAMES);
        let name = all.into_iter().find(|name| name.record == number && number != numbers::ROOT);
        let reserved = numbers::FIRST_RESERVED..numbers::FIRST_FREE;
        if name.is_none() && !reserved.contains(&number) {
            return None;
        }
        let in_extend = EXTEND_NAMES.iter().any(|name| name.record == number);
        let flags = match number {
            numbers::EXTEND => RECORD_DIRECTORY,
            numbers::SECURE => RECORD_VIEW_INDEX,
            _ if in_extend => RECORD_VIEW_INDEX | RECORD_EXTEND,
            _ => 0,
        };
        let mut record = self.system_writer(number, u16::from(name.is_some()), RECORD_IN_USE | flags);
        let attributes = self.system_attributes(number);
        self.write_information(attributes & !NAME_IS_DIRECTORY, &mut record);
        if let Some(name) = name {
            let facts = self.system_facts(number);
            record.resident(types::FILE_NAME, &[], 1, |out| {
                write_name(&facts, namespace::WIN32_AND_DOS, name.units, out);
            });
        }
        self.write_system_parts(number, &mut record);
        Some(record.finish())
    }

    /// A record that is formatted and free.
    pub(super) fn free_record(&self, number: u32) -> Vec<u8> {
        self.system_writer(number, 0, 0).finish()
    }

    fn system_writer(&self, number: u32, links: u16, flags: u16) -> RecordWriter {
        let head = RecordHead { number, sequence: fresh_sequence(number), links, flags, base: 0 };
        RecordWriter::new(&head, &self.geometry)
    }

    fn write_information(&self, attributes: u32, record: &mut RecordWriter) {
        let value = StandardInformationDisk {
            times: self.system_times(),
            attributes: U32::new(attributes),
            max_versions: U32::new(0),
            version: U32::new(0),
            class_id: U32::new(0),
            owner_id: U32::new(0),
            security_id: U32::new(SYSTEM_SECURITY_ID),
            quota_charged: U64::new(0),
            update_sequence: U64::new(0),
        };
        record.resident(types::STANDARD_INFORMATION, &[], 0, |out| out.extend_from_slice(value.as_bytes()));
    }

    /// What follows the names.
    fn write_system_parts(&self, number: u32, record: &mut RecordWriter) {
        let clusters = &self.clusters;
        let data = |record: &mut RecordWriter, name: &[u16], lcn: u64, size: u64| {
            record.non_resident(types::DATA, name, &self.extent(lcn, size), &self.geometry);
        };
        let empty = |record: &mut RecordWriter| record.resident(types::DATA, &[], 0, |_| {});
        let record_bytes = to_u64(self.geometry.record_bytes);
        match number {
            numbers::MFT => {
                data(record, &[], clusters.mft, self.record_count * record_bytes);
                let bitmap = self.extent(clusters.mft_bitmap, self.mft_bitmap_bytes());
                record.non_resident(types::BITMAP, &[], &bitmap, &self.geometry);
            }
            numbers::MFT_MIRROR => data(record, &[], clusters.mirror, self.mirror_bytes()),
            numbers::LOG_FILE => {
                data(record, &[], clusters.log_file, log_file_bytes(self.options.volume_bytes));
            }
            numbers::VOLUME => {
                self.write_volume(record);
                empty(record);
            }
            numbers::ATTRIBUTE_DEFINITIONS => {
                data(record, &[], clusters.definitions, to_u64(attribute_definitions().len()));
            }
            numbers::BITMAP => data(record, &[], clusters.bitmap, self.bitmap_bytes()),
            numbers::BOOT => data(record, &[], 0, BOOT_FILE_BYTES),
            numbers::BAD_CLUSTERS => {
                empty(record);
                self.write_bad_clusters(record);
            }
            numbers::SECURE => {
                data(record, &stream_names::SDS, clusters.sds, to_u64(self.secure.sds().len()));
                let (hashes, ids) = (self.secure.hash_index(), self.secure.id_index());
                self.write_views(
                    &[
                        (&stream_names::SDH, collation::SECURITY_HASH, &self.hash_view, &hashes),
                        (&stream_names::SII, collation::NUMBER, &self.id_view, &ids),
                    ],
                    record,
                );
            }
            numbers::UPCASE => {
                data(record, &[], clusters.upcase, UPCASE_BYTES);
                let info = upcase_info();
                record.resident(types::DATA, &stream_names::INFO, 0, |out| out.extend_from_slice(&info));
            }
            numbers::EXTEND => {
                let entries = ExtendEntries(self);
                let shape = Shape::new(&entries, usize::MAX);
                record.resident(types::INDEX_ROOT, &NAME_INDEX, 0, |out| {
                    self.write_root_head(types::FILE_NAME, collation::FILE_NAME, out);
                    shape.write_root(&entries, self.geometry.index_vcn_step(), out);
                });
            }
            numbers::QUOTA => {
                let (owners, quotas) = quota_entries(self.options.time.0);
                let (owners, quotas) = (SmallEntries(owners), SmallEntries(quotas));
                let whole = |entries| View::new(entries, usize::MAX, usize::MAX);
                let (owner_view, quota_view) = (whole(&owners), whole(&quotas));
                self.write_views(
                    &[
                        (&stream_names::OWNERS, collation::SID, &owner_view, &owners),
                        (&stream_names::QUOTAS, collation::NUMBER, &quota_view, &quotas),
                    ],
                    record,
                );
            }
            numbers::OBJECT_ID => {
                let view = (&stream_names::OWNERS[..], collation::NUMBERS, &self.object_id_view);
                self.write_views(&[(view.0, view.1, view.2, &self.object_ids)], record);
            }
            numbers::REPARSE => {
                let view = (&stream_names::REPARSE[..], collation::NUMBERS, &self.reparse_view);
                self.write_views(&[(view.0, view.1, view.2, &self.reparse_entries)], record);
            }
            _ => empty(record),
        }
    }

    fn write_volume(&self, record: &mut RecordWriter) {
        let label = self.options.label.to_le_bytes();
        if !label.is_empty() {
            record.resident(types::VOLUME_NAME, &[], 0, |out| out.extend_from_slice(&label));
        }
        let information = VolumeInformationDisk {
            reserved: U64::new(0),
            major: 3,
            minor: 1,
            flags: U16::new(VOLUME_FLAGS),
        };
        record.resident(types::VOLUME_INFORMATION, &[], 0, |out| {
            out.extend_from_slice(information.as_bytes());
        });
    }

    /// One hole as large as the volume, without the mark of sparse streams, of which nothing was ever written.
    fn write_bad_clusters(&self, record: &mut RecordWriter) {
        let extent = Extent {
            lcn: None,
            clusters: self.geometry.clusters,
            size: self.geometry.offset(self.geometry.clusters),
            sparse_unit: None,
        };
        record.non_resident_unwritten(types::DATA, &stream_names::BAD, &extent, &self.geometry);
    }

    /// Roots, blocks and bitmaps of indexes in the order of types.
    fn write_views(&self, views: &[(&[u16], u32, &View, &dyn Entries)], record: &mut RecordWriter) {
        for (name, collation, view, entries) in views {
            record.resident(types::INDEX_ROOT, name, 0, |out| {
                self.write_root_head(0, *collation, out);
                view.shape.write_root(*entries, self.geometry.index_vcn_step(), out);
            });
        }
        let with_blocks = || views.iter().filter(|(_, _, view, _)| view.blocks() > 0);
        for (name, _, view, _) in with_blocks() {
            let extent = self.extent(view.lcn, view.blocks() * to_u64(INDEX_BLOCK_BYTES));
            record.non_resident(types::INDEX_ALLOCATION, name, &extent, &self.geometry);
        }
        for (name, _, view, _) in with_blocks() {
            match view.bitmap_lcn {
                Some(lcn) => {
                    let extent = self.extent(lcn, view.bitmap_bytes());
                    record.non_resident(types::BITMAP, name, &extent, &self.geometry);
                }
                None => record.resident(types::BITMAP, name, 0, |out| {
                    out.extend_from_slice(&bitmap(view.blocks()));
                }),
            }
        }
    }

    fn extent(&self, lcn: u64, size: u64) -> Extent {
        Extent { lcn: Some(lcn), clusters: self.geometry.clusters_of(size), size, sparse_unit: None }
    }

    /// Bytes of $MFTMirr.
    fn mirror_bytes(&self) -> u64 {
        (4 * to_u64(self.geometry.record_bytes)).max(self.geometry.cluster_bytes)
    }

    /// Attribute bits of a system file as its name has them.
    fn system_attributes(&self, number: u32) -> u32 {
        match number {
            numbers::EXTEND => SYSTEM_ATTRIBUTES | NAME_IS_DIRECTORY,
            numbers::SECURE => SYSTEM_ATTRIBUTES | HAS_VIEW_INDEX,
            _ if EXTEND_NAMES.iter().any(|name| name.record == number) => EXTEND_ATTRIBUTES | HAS_VIEW_INDEX,
            _ => SYSTEM_ATTRIBUTES,
        }
    }

    fn system_times(&self) -> TimesDisk {
        let time = U64::new(self.options.time.0);
        TimesDisk { created: time, written: time, changed: time, accessed: time }
    }

    /// What the name of a system file says.
    fn system_facts(&self, number: u32) -> NameFacts {
        let parent = match EXTEND_NAMES.iter().any(|name| name.record == number) {
            true => numbers::EXTEND,
            false => numbers::ROOT,
        };
        // Bytes of unnamed data.
        let size = match number {
            numbers::MFT => self.record_count * to_u64(self.geometry.record_bytes),
            numbers::MFT_MIRROR => self.mirror_bytes(),
            numbers::LOG_FILE => log_file_bytes(self.options.volume_bytes),
            numbers::ATTRIBUTE_DEFINITIONS => to_u64(attribute_definitions().len()),
            numbers::BITMAP => self.bitmap_bytes(),
            numbers::BOOT => BOOT_FILE_BYTES,
            numbers::UPCASE => UPCASE_BYTES,
            _ => 0,
        };
        NameFacts {
            parent: reference(parent, fresh_sequence(parent)),
            times: self.system_times(),
            allocated: self.geometry.rounded(size),
            size,
            attributes: self.system_attributes(number),
            extra: 0,
        }
    }

    /// Appends the index entry of a system file.
    pub(super) fn system_entry(&self, name: &SystemName, len: usize, out: &mut Vec<u8>) {
        if name.record == numbers::ROOT {
            return self.root_entry(len, out);
        }
        let file = reference(name.record, fresh_sequence(name.record));
        let facts = self.system_facts(name.record);
        debug_assert_eq!(to_u16(len), to_u16(entry_bytes(name.units.len())));
        write_name_entry(file, &facts, namespace::WIN32_AND_DOS, name.units, len, out);
    }
}
