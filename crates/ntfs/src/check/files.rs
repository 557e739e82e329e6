//! Rules of whole files: what their attributes say of one another, over all records of a file.

use gravure_nttypes::FileAttributes as Bits;
use zerocopy::FromBytes;

use super::Checker;
use super::finding::Spot;
use super::names::bad_name;
use crate::Error;
use crate::disk::{
    CASE_SENSITIVE, HAS_VIEW_INDEX, NAME_IS_DIRECTORY, RECORD_DIRECTORY, RECORD_VIEW_INDEX, RecordDisk,
    StandardInformationDisk, TimesDisk, attribute_type as types, namespace, numbers, reference,
};
use crate::read::bytes::{at, u32_at, wide};
use crate::read::gather::{FileAttributes, Found, Value};
use crate::read::names::FileName;
use crate::read::node::SECURITY_DESCRIPTOR;
use crate::read::record::{COMPRESSED, ENCRYPTED, SPARSE};
use crate::read::volume::NAME_INDEX;
use crate::rule::Rule;

/// Names of one file at most; Windows stops at 1024 links.
const MAX_NAMES: usize = 0xffff;

/// What the names of a file are compared with.
struct Facts {
    times: Option<[u64; 4]>,
    attributes: u32,
    sizes: Vec<(u64, u64)>,
    extra: u32,
}

impl Checker<'_> {
    /// Checks the file with base record `number`.
    pub(super) fn check_file(
        &mut self,
        number: u32,
        head: &RecordDisk,
        file: &FileAttributes,
    ) -> Result<(), Error> {
        let start = self.mft.offset(u64::from(number));
        let spot = Spot::record(number).at(start);
        self.check_presence(number, head, file);
        let mut links = 0usize;
        let information = self.check_information(number, file);
        let reparse = self.check_reparse(number, head, file)?;
        let packed = self.check_extended(number, file)?;
        for found in &file.found {
            self.check_sizes(number, found);
            self.check_compressed(number, found)?;
        }
        self.check_bits(number, file, information.as_ref().map_or(0, |one| one.1), reparse.is_some());
        let facts = Facts {
            times: information.map(|one| one.0),
            attributes: information.map_or(0, |one| one.1) | inner_bits(head, file),
            sizes: data_sizes(head, file),
            extra: reparse.map_or(packed, |tag| tag.0),
        };
        for found in file.all(types::FILE_NAME) {
            links = links.saturating_add(1);
            self.check_name(number, head, found, &facts);
        }
        self.check_pairs(number, file);
        if links != usize::from(head.link_count.get()) {
            self.teller.tell(
                Rule::LinkCount,
                spot.at(start.saturating_add(0x12)),
                links,
                head.link_count.get(),
            );
        }
        if let Some(found) = file.get(types::OBJECT_ID, &[])
            && let Some(id) = found.resident().and_then(|value| value.first_chunk::<16>())
        {
            self.object_ids.push((*id, reference(number, head.sequence.get())));
        }
        Ok(())
    }

    /// Which attributes there must be, and how often.
    fn check_presence(&mut self, number: u32, head: &RecordDisk, file: &FileAttributes) {
        let spot = Spot::record(number).at(self.mft.offset(u64::from(number)));
        // Attributes stand in order, so equal ones are neighbours.
        let mut before: Option<(u32, &[u16])> = None;
        for found in file.found.iter().filter(|found| found.kind != types::FILE_NAME) {
            let key = (found.kind, found.name.as_slice());
            if before == Some(key) {
                self.teller.tell(Rule::AttributeTwice, spot.attribute(found.kind, &found.name), "one", "two");
            }
            before = Some(key);
        }
        match file.get(types::STANDARD_INFORMATION, &[]) {
            None => self.teller.tell(Rule::NoInformation, spot, "$STANDARD_INFORMATION", "none"),
            Some(found) if found.record != number => {
                self.teller.tell(
                    Rule::NoInformation,
                    spot,
                    "$STANDARD_INFORMATION in the base record",
                    format!("in record {}", found.record),
                );
            }
            Some(_) => {}
        }
        let is_unnamed = (numbers::FIRST_RESERVED..numbers::FIRST_FREE).contains(&number);
        let names = file.all(types::FILE_NAME).count();
        if names == 0 && !is_unnamed {
            self.teller.tell(Rule::NoName, spot, "$FILE_NAME", "none");
        }
        if names > MAX_NAMES {
            self.teller.tell(Rule::LinkCount, spot, format!("at most {MAX_NAMES} names"), names);
        }
        let is_directory = head.flags.get() & RECORD_DIRECTORY != 0;
        let has_names = file.get(types::INDEX_ROOT, &NAME_INDEX).is_some();
        if is_directory != has_names {
            let expected = if has_names {
                "the mark of a directory, as there is $I30"
            } else {
                "$I30, as the record is marked a directory"
            };
            self.teller.tell(
                Rule::DirectoryFlag,
                spot.at(self.mft.offset(u64::from(number)).saturating_add(0x16)),
                expected,
                "none",
            );
        }
        let has_view = file.all(types::INDEX_ROOT).any(|found| found.name != NAME_INDEX);
        let is_view = head.flags.get() & RECORD_VIEW_INDEX != 0;
        if is_view != has_view {
            let expected = if has_view { "the mark of other indexes" } else { "no mark of other indexes" };
            self.teller.tell(
                Rule::ViewFlag,
                spot.at(self.mft.offset(u64::from(number)).saturating_add(0x16)),
                expected,
                format!("{:#x}", head.flags.get()),
            );
        }
        let has_data = file.get(types::DATA, &[]).is_some();
        if !has_data && !is_directory && !has_view {
            self.teller.tell(Rule::NoData, spot, "$DATA", "none");
        }
        if has_data && is_directory {
            self.teller.tell(
                Rule::NoData,
                spot.attribute(types::DATA, &[]),
                "none, as it is a directory",
                "one",
            );
        }
        for found in file.all(types::INDEX_ROOT) {
            let large =
                [types::INDEX_ALLOCATION, types::BITMAP].map(|kind| file.get(kind, &found.name).is_some());
            if large == [true, false] || large == [false, true] {
                let spot = spot.attribute(types::INDEX_ROOT, &found.name);
                self.teller.tell(
                    Rule::IndexBlocks,
                    spot,
                    "$INDEX_ALLOCATION and $BITMAP or neither",
                    "one of them",
                );
            }
        }
        for found in file.all(types::INDEX_ALLOCATION) {
            if file.get(types::INDEX_ROOT, &found.name).is_none() {
                let spot = spot.attribute(types::INDEX_ALLOCATION, &found.name);
                self.teller.tell(Rule::IndexRoot, spot, "$INDEX_ROOT of that name", "none");
            }
        }
    }

    /// Times and attributes of a file.
    fn check_information(&mut self, number: u32, file: &FileAttributes) -> Option<([u64; 4], u32)> {
        let found = file.get(types::STANDARD_INFORMATION, &[])?;
        let offset = self.value_offset(found);
        let spot = Spot::record(number).attribute(types::STANDARD_INFORMATION, &[]).at(offset);
        let value = found.resident()?;
        let (times, _) = TimesDisk::read_from_prefix(value).ok()?;
        let times = [times.created, times.written, times.changed, times.accessed].map(|time| time.get());
        for (index, time) in times.iter().enumerate() {
            self.check_time(*time, spot.at(offset.saturating_add(wide(index).saturating_mul(8))));
        }
        let attributes = u32_at(value, 0x20)?;
        if attributes & Bits::DIRECTORY.0 != 0 || attributes & !KNOWN_ATTRIBUTES != 0 {
            let found = format!("{attributes:#x}");
            self.teller.tell(
                Rule::FileBits,
                spot.at(offset.saturating_add(0x20)),
                format!("bits of {KNOWN_ATTRIBUTES:#x} but not 0x10"),
                found,
            );
        }
        if let Ok((information, _)) = StandardInformationDisk::read_from_prefix(value) {
            self.check_fresh_information(&information, file, spot);
            let id = information.security_id.get();
            let has_own = file.get(SECURITY_DESCRIPTOR, &[]).is_some();
            if id != 0 {
                self.security_ids.entry(id).or_insert(number);
            } else if !has_own && number != numbers::MFT {
                self.teller.tell(
                    Rule::SecurityNone,
                    spot.at(offset.saturating_add(0x34)),
                    "a security descriptor",
                    "none",
                );
            }
        } else if file.get(SECURITY_DESCRIPTOR, &[]).is_none() {
            self.teller.tell(
                Rule::SecurityNone,
                spot,
                "$SECURITY_DESCRIPTOR beside short information",
                "none",
            );
        }
        if let Some(own) = file.get(SECURITY_DESCRIPTOR, &[])
            && let Some(bytes) = own.resident()
            && let Err(error) = gravure_nttypes::SecurityDescriptor::parse(bytes)
        {
            let spot = Spot::record(number).attribute(SECURITY_DESCRIPTOR, &[]).at(self.value_offset(own));
            self.teller.tell(Rule::Descriptor, spot, "a security descriptor", error);
        }
        Some((times, attributes))
    }

    /// Fields that Windows fills in later: numbers of versions, class, quota, change journal. Nothing says what they should be
    /// but that a volume that was just made has none of them, case-sensitive directories apart.
    fn check_fresh_information(
        &mut self,
        information: &StandardInformationDisk,
        file: &FileAttributes,
        spot: Spot<'_>,
    ) {
        if !self.is_strict {
            return;
        }
        let is_directory = file.get(types::INDEX_ROOT, &NAME_INDEX).is_some();
        let version = information.version.get();
        let is_marked = is_directory && version == CASE_SENSITIVE;
        let fields = [
            ("number of versions", u64::from(information.max_versions.get())),
            ("version", if is_marked { 0 } else { u64::from(version) }),
            ("class", u64::from(information.class_id.get())),
            ("owner of quota", u64::from(information.owner_id.get())),
            ("charged quota", information.quota_charged.get()),
            ("number in the change journal", information.update_sequence.get()),
        ];
        for (what, value) in fields.into_iter().filter(|(_, value)| *value != 0) {
            self.teller.tell(Rule::InformationRest, spot, format!("no {what}"), format!("{value:#x}"));
        }
    }

    fn check_time(&mut self, time: u64, spot: Spot<'_>) {
        // Signed on disk; Windows shows nothing for the rest.
        if time > i64::MAX.unsigned_abs() {
            self.teller.tell(Rule::Time, spot, "a time from 1601 on", format!("{time:#x}"));
        }
    }

    /// Where a value starts on the volume.
    pub(super) fn value_offset(&self, found: &Found) -> u64 {
        let record = self.mft.offset(u64::from(found.record));
        match &found.value {
            Value::Resident { pos, .. } => record.saturating_add(wide(*pos)),
            Value::Clusters { .. } => record.saturating_add(wide(found.pos)),
        }
    }

    /// Bits of $STANDARD_INFORMATION that follow from what the file has.
    fn check_bits(&mut self, number: u32, file: &FileAttributes, attributes: u32, has_reparse: bool) {
        let offset = file
            .get(types::STANDARD_INFORMATION, &[])
            .map_or(0, |found| self.value_offset(found))
            .saturating_add(0x20);
        let spot = Spot::record(number).attribute(types::STANDARD_INFORMATION, &[]).at(offset);
        let found = format!("{attributes:#x}");
        if has_reparse != (attributes & Bits::REPARSE_POINT.0 != 0) {
            let expected = if has_reparse {
                "bit 0x400, as it is a reparse point"
            } else {
                "no bit 0x400, as it is no reparse point"
            };
            self.teller.tell(Rule::ReparseBit, spot, expected, &found);
        }
        let has = |flag: u16| file.all(types::DATA).any(|data| data.flags & flag != 0);
        // Only a stream can make a file sparse; the bit stays when the stream is no longer.
        if has(SPARSE)
            && file.get(types::DATA, &[]).is_some_and(|data| data.flags & SPARSE != 0)
            && attributes & Bits::SPARSE.0 == 0
        {
            self.teller.tell(Rule::SparseBit, spot, "bit 0x200, as its data is sparse", &found);
        }
        for (flag, bit, rule, what) in [
            (COMPRESSED, Bits::COMPRESSED.0, Rule::CompressedBit, "compressed"),
            (ENCRYPTED, Bits::ENCRYPTED.0, Rule::EncryptedBit, "encrypted"),
        ] {
            if attributes & bit != 0 {
                continue;
            }
            let main = [(types::DATA, &[][..]), (types::INDEX_ROOT, &NAME_INDEX[..])];
            let main = main
                .iter()
                .any(|(kind, name)| file.get(*kind, name).is_some_and(|one| one.flags & flag != 0));
            let expected = format!("bit {bit:#x}, as it is {what}");
            if main {
                self.teller.tell(rule, spot, expected, &found);
            } else if has(flag) {
                // A stream may be compressed by itself, but nothing does that unasked.
                self.teller.tell(Rule::StreamBits, spot, format!("{expected} in a stream"), &found);
            }
        }
    }

    /// One name of a file.
    fn check_name(&mut self, number: u32, head: &RecordDisk, found: &Found, facts: &Facts) {
        let offset = self.value_offset(found);
        let spot = Spot::record(number).attribute(types::FILE_NAME, &[]).at(offset);
        let Some(value) = found.resident() else { return };
        let Some(name) = FileName::parse(value) else {
            self.teller.tell(Rule::Name, spot, "a whole name", format!("{} bytes", value.len()));
            return;
        };
        if let Some(expected) = bad_name(&name) {
            let found = format!("{:?}, namespace {}", name.show(), name.head.namespace);
            self.teller.tell(Rule::Name, spot.at(offset.saturating_add(0x40)), expected, found);
        }
        let reference = reference(number, head.sequence.get());
        self.names.push(reference, value, number);
        let parent = name.head.parent.get();
        if let Some(info) = self.records.get_mut(at(number))
            && info.parent == 0
        {
            info.parent = u32::try_from(parent & 0xffff_ffff_ffff).unwrap_or(u32::MAX);
        }
        let times = [
            name.head.times.created,
            name.head.times.written,
            name.head.times.changed,
            name.head.times.accessed,
        ];
        for (index, time) in times.iter().enumerate() {
            self.check_time(
                time.get(),
                spot.at(offset.saturating_add(8).saturating_add(wide(index).saturating_mul(8))),
            );
        }
        // Windows brings these up to date in the index and leaves the record's copy behind, so they matter only on volumes
        // that were just made.
        if !self.is_strict {
            return;
        }
        if let Some(expected) = facts.times
            && expected != times.map(|time| time.get())
        {
            self.teller.tell(
                Rule::NameTimes,
                spot.at(offset.saturating_add(8)),
                format!("{expected:x?}"),
                format!("{:x?}", times.map(|time| time.get())),
            );
        }
        let sizes = (name.head.allocated.get(), name.head.size.get());
        if !facts.sizes.contains(&sizes) {
            self.teller.tell(
                Rule::NameSizes,
                spot.at(offset.saturating_add(0x28)),
                format!("{:?}", facts.sizes),
                format!("{sizes:?}"),
            );
        }
        let attributes = name.head.attributes.get();
        if attributes != facts.attributes {
            self.teller.tell(
                Rule::NameBits,
                spot.at(offset.saturating_add(0x38)),
                format!("{:#x}", facts.attributes),
                format!("{attributes:#x}"),
            );
        }
        let extra = name.head.extra.get();
        if extra != facts.extra {
            self.teller.tell(
                Rule::NameExtra,
                spot.at(offset.saturating_add(0x3c)),
                format!("{:#x}", facts.extra),
                format!("{extra:#x}"),
            );
        }
    }

    /// Long names that need a short one have it in the same directory, and the other way round.
    fn check_pairs(&mut self, number: u32, file: &FileAttributes) {
        let (mut long, mut short) = (Vec::new(), Vec::new());
        let parsed = file.all(types::FILE_NAME).filter_map(|found| FileName::parse(found.resident()?));
        for name in parsed {
            match name.head.namespace {
                namespace::WIN32 => long.push(name.head.parent.get()),
                namespace::DOS => short.push(name.head.parent.get()),
                _ => {}
            }
        }
        long.sort_unstable();
        short.sort_unstable();
        if long != short {
            let spot =
                Spot::record(number).attribute(types::FILE_NAME, &[]).at(self.mft.offset(u64::from(number)));
            let found = format!("{} long, {} short", long.len(), short.len());
            self.teller.tell(
                Rule::NamePair,
                spot,
                "long names with a short one each, in the same directory",
                found,
            );
        }
    }
}

/// Attribute bits that are known. Windows adds some now and then, so the list is wide: integrity, scrubbing, pinned and not,
/// recall.
const KNOWN_ATTRIBUTES: u32 = 0x007f_ffe7 & !0x40 | NAME_IS_DIRECTORY | HAS_VIEW_INDEX;

/// Bits that names have besides those of the information.
fn inner_bits(head: &RecordDisk, file: &FileAttributes) -> u32 {
    let directory = if head.flags.get() & RECORD_DIRECTORY != 0 { NAME_IS_DIRECTORY } else { 0 };
    let has_view = file.all(types::INDEX_ROOT).any(|found| found.name != NAME_INDEX);
    directory | if has_view { HAS_VIEW_INDEX } else { 0 }
}

/// Allocated and real size as names may state them.
fn data_sizes(head: &RecordDisk, file: &FileAttributes) -> Vec<(u64, u64)> {
    if head.flags.get() & RECORD_DIRECTORY != 0 {
        return vec![(0, 0)];
    }
    let Some(found) = file.get(types::DATA, &[]) else { return vec![(0, 0)] };
    let size = found.size();
    match &found.value {
        Value::Resident { .. } => vec![(size.next_multiple_of(8), size)],
        Value::Clusters { allocated, on_disk, .. } => {
            std::iter::once(*allocated).chain(*on_disk).map(|allocated| (allocated, size)).collect()
        }
    }
}
