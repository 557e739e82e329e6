//! The files of the system: the mirror of the MFT, $Volume, $AttrDef, $UpCase, $LogFile, $BadClus, and both bitmaps.

use zerocopy::FromBytes;

use super::clusters::Differences;
use super::finding::Spot;
use super::{Checker, DAMAGED, EXTENSION, IN_USE};
use crate::Error;
use crate::disk::{
    BOOT_FILE_BYTES, UPCASE, UPCASE_BYTES, UpCase, VolumeInformationDisk, attribute_type as types, crc64,
    fresh_sequence, numbers,
};
use crate::read::bytes::{at, split_reference, u32_at, u64_at, wide};
use crate::read::index::bit;
use crate::read::mft::{FileAttributes, Found, Value};
use crate::read::names::FileName;
use crate::read::record::{Record, unprotect};
use crate::read::state::{
    Hibernation, LOG_HEAD_BYTES, LogState, VOLUME_DIRTY, VolumeState, hibernation, log_state,
};
use crate::rule::Rule;

/// Bytes of a bitmap read at a time.
const STEP_BYTES: usize = 1 << 20;
/// Records that the mirror has at least.
const MIRROR_RECORDS: u64 = 4;
/// Flags of $Volume that ask for nothing: none; that it was made by Windows 11.
const QUIET_VOLUME_FLAGS: u16 = 0x0080;
/// Flags of $Volume that are known.
const KNOWN_VOLUME_FLAGS: u16 = 0xc0bf;
const ATTRDEF_BYTES: usize = 160;
const INFO: [u16; 5] = [0x24, 0x49, 0x6e, 0x66, 0x6f];
const BAD: [u16; 4] = [0x24, 0x42, 0x61, 0x64];

/// Names of the first records, all in the root.
const NAMES: [(u32, &str); 12] = [
    (numbers::MFT, "$MFT"),
    (numbers::MFT_MIRROR, "$MFTMirr"),
    (numbers::LOG_FILE, "$LogFile"),
    (numbers::VOLUME, "$Volume"),
    (numbers::ATTRIBUTE_DEFINITIONS, "$AttrDef"),
    (numbers::ROOT, "."),
    (numbers::BITMAP, "$Bitmap"),
    (numbers::BOOT, "$Boot"),
    (numbers::BAD_CLUSTERS, "$BadClus"),
    (numbers::SECURE, "$Secure"),
    (numbers::UPCASE, "$UpCase"),
    (numbers::EXTEND, "$Extend"),
];

impl Checker<'_> {
    fn system_spot(&self, number: u32) -> Spot<'static> {
        Spot::record(number).at(self.mft.offset(u64::from(number)))
    }

    /// Unnamed data in clusters of a file.
    fn data<'f>(file: &'f FileAttributes, name: &[u16]) -> Option<&'f crate::read::stream::Stream> {
        match file.get(types::DATA, name).map(|found| &found.value) {
            Some(Value::Clusters { stream, .. }) => Some(stream),
            _ => None,
        }
    }

    /// $UpCase comes first: the order of everything else depends on it.
    pub(super) fn check_upcase(&mut self) -> Result<(), Error> {
        let spot = self.system_spot(numbers::UPCASE).attribute(types::DATA, &[]);
        let mut bytes = Vec::new();
        let read = self.mft.read(self.source, u64::from(numbers::UPCASE), &mut bytes);
        if self.readable(spot, read)?.is_none() {
            return Ok(());
        }
        let Ok(record) = unprotect(&mut bytes).and_then(|()| Record::parse(&bytes)) else { return Ok(()) };
        let file = self.gather(numbers::UPCASE, &record)?;
        let data = file.get(types::DATA, &[]);
        let table = match data.map(|data| data.read(self.source, UPCASE_BYTES)).transpose() {
            Err(error @ Error::Io { .. }) => return Err(error),
            other => other.ok().flatten().flatten(),
        };
        let Some(table) = table.filter(|table| wide(table.len()) == UPCASE_BYTES) else {
            self.teller.tell(
                Rule::UpCaseSize,
                spot,
                format!("{UPCASE_BYTES} bytes"),
                data.map_or(0, Found::size),
            );
            return Ok(());
        };
        let offset = data.and_then(|data| match &data.value {
            Value::Clusters { stream, .. } => stream.offset_of(0),
            Value::Resident { .. } => None,
        });
        let spot = spot.at(offset.unwrap_or(0));
        if let Some(info) = file.get(types::DATA, &INFO).and_then(Found::resident) {
            let (expected, found) = (crc64(&table), u64_at(info, 8));
            if found != Some(expected) || u32_at(info, 0) != Some(32) {
                self.teller.tell(
                    Rule::UpCaseInfo,
                    self.system_spot(numbers::UPCASE).attribute(types::DATA, &INFO),
                    format!("length 32 and checksum {expected:#x}"),
                    format!("{:?} and {:#x}", u32_at(info, 0), found.unwrap_or(0)),
                );
            }
        }
        let Some(table) = UpCase::from_bytes(&table) else { return Ok(()) };
        if table != *UPCASE {
            let unit = (0..=u16::MAX).find(|unit| table.of(*unit) != UPCASE.of(*unit)).unwrap_or(0);
            let spot = spot.at(offset.unwrap_or(0).saturating_add(u64::from(unit).saturating_mul(2)));
            // Other versions of Windows have other tables, but never for these.
            let is_plain = (0..0x80).all(|unit| table.of(unit) == UPCASE.of(unit));
            let rule = if is_plain { Rule::UpCaseTable } else { Rule::UpCaseBroken };
            self.teller.tell(
                rule,
                spot,
                format!("{:#06x} as the capital of {unit:#06x}", UPCASE.of(unit)),
                format!("{:#06x}", table.of(unit)),
            );
        }
        self.upcase = table;
        Ok(())
    }

    /// $MFTMirr holds the first records byte for byte.
    pub(super) fn check_mirror(&mut self) -> Result<(), Error> {
        let len = at(MIRROR_RECORDS).saturating_mul(self.mft.record_bytes);
        let offset = self.boot.offset(self.boot.mirror_lcn);
        let (mut first, mut copy) = (vec![0; len], vec![0; len]);
        let read = self.mft.stream.read(self.source, 0, &mut first);
        if self.readable(Spot::record(numbers::MFT), read)?.is_none() {
            return Ok(());
        }
        if offset.saturating_add(wide(len)) > self.source.size() {
            self.teller.tell(
                Rule::Mirror,
                Spot::record(numbers::MFT_MIRROR).at(offset),
                "a copy of four records",
                "the end of the volume",
            );
            return Ok(());
        }
        self.source.read_exact_at(offset, &mut copy).map_err(Error::read(offset))?;
        if let Some(pos) = first.iter().zip(&copy).position(|(a, b)| a != b) {
            let number = pos.checked_div(self.mft.record_bytes).unwrap_or(0);
            let byte = |bytes: &[u8]| format!("{:#04x}", bytes.get(pos).copied().unwrap_or(0));
            let spot = Spot::record(numbers::MFT_MIRROR).at(offset.saturating_add(wide(pos)));
            self.teller.tell(
                Rule::Mirror,
                spot,
                format!("{} as in record {number}", byte(&first)),
                byte(&copy),
            );
        }
        Ok(())
    }

    /// Names the files that share clusters.
    pub(super) fn tell_shared(&mut self) -> Result<(), Error> {
        let shared = std::mem::take(&mut self.shared);
        if shared.is_empty() {
            return Ok(());
        }
        for number in 0..self.mft.count() {
            let Some(file) = self.file(number)? else { continue };
            for found in &file.found {
                let Value::Clusters { stream, .. } = &found.value else { continue };
                let hit = stream.extents.iter().find_map(|extent| {
                    let start = extent.lcn?;
                    let end = start.saturating_add(extent.clusters);
                    shared.iter().find(|(first, count)| *first < end && first.saturating_add(*count) > start)
                });
                if let Some((first, count)) = hit {
                    let offset = self.mft.offset(u64::from(found.record)).saturating_add(wide(found.pos));
                    let spot = Spot::record(number).attribute(found.kind, &found.name).at(offset);
                    self.teller.tell(
                        Rule::ClusterTwice,
                        spot,
                        "clusters that no other stream has",
                        format!("{count} from {first} on"),
                    );
                }
            }
        }
        Ok(())
    }

    /// Files 0 to 15.
    pub(super) fn check_system(&mut self) -> Result<(), Error> {
        for number in 0..numbers::FIRST_FREE.min(self.mft.count()) {
            let info = self.records.get(at(number)).copied().unwrap_or_default();
            let spot = self.system_spot(number);
            if info.state & (IN_USE | EXTENSION | DAMAGED) != IN_USE {
                if info.state & DAMAGED == 0 {
                    self.teller.tell(Rule::SystemFile, spot, "a file of the system", "a free record");
                }
                continue;
            }
            if info.sequence != fresh_sequence(number) {
                self.teller.tell(
                    Rule::SystemSequence,
                    spot.at(self.mft.offset(u64::from(number)).saturating_add(0x10)),
                    fresh_sequence(number),
                    info.sequence,
                );
            }
            let Some(file) = self.file(number)? else { continue };
            if let Some((_, expected)) = NAMES.iter().find(|(record, _)| *record == number) {
                let name = file.all(types::FILE_NAME).find_map(|found| FileName::parse(found.resident()?));
                let found = name.as_ref().map_or_else(String::new, FileName::show);
                let (parent, sequence) = name.map_or((0, 0), |name| split_reference(name.head.parent.get()));
                if found != *expected
                    || parent != u64::from(numbers::ROOT)
                    || !self.is_directory(numbers::ROOT, sequence)
                {
                    self.teller.tell(
                        Rule::SystemName,
                        spot,
                        format!("{expected} in the root"),
                        format!("{found:?} in record {parent}"),
                    );
                }
            }
            self.check_system_file(number, &file)?;
        }
        self.check_hibernation()
    }

    fn check_system_file(&mut self, number: u32, file: &FileAttributes) -> Result<(), Error> {
        let spot = self.system_spot(number).attribute(types::DATA, &[]);
        let place =
            |file: &FileAttributes| Self::data(file, &[]).and_then(crate::read::stream::Stream::first_lcn);
        match number {
            numbers::MFT => {
                let record_bytes = wide(self.mft.record_bytes);
                if !self.mft.stream.size.is_multiple_of(record_bytes) {
                    self.teller.tell(
                        Rule::MftSize,
                        spot,
                        format!("a multiple of {record_bytes} bytes"),
                        self.mft.stream.size,
                    );
                }
                if place(file) != Some(self.boot.mft_lcn) {
                    self.teller.tell(
                        Rule::SystemPlace,
                        spot,
                        format!("cluster {}, as the boot sector has it", self.boot.mft_lcn),
                        format!("{:?}", place(file)),
                    );
                }
            }
            numbers::MFT_MIRROR => {
                if place(file) != Some(self.boot.mirror_lcn) {
                    self.teller.tell(
                        Rule::SystemPlace,
                        spot,
                        format!("cluster {}, as the boot sector has it", self.boot.mirror_lcn),
                        format!("{:?}", place(file)),
                    );
                }
                let least = MIRROR_RECORDS.saturating_mul(wide(self.mft.record_bytes));
                let size = Self::data(file, &[]).map_or(0, |stream| stream.size);
                if size < least || !size.is_multiple_of(wide(self.mft.record_bytes)) {
                    self.teller.tell(
                        Rule::SystemSize,
                        spot,
                        format!("{least} bytes or more, whole records"),
                        size,
                    );
                }
            }
            numbers::BOOT => {
                let size = Self::data(file, &[]).map_or(0, |stream| stream.size);
                if place(file) != Some(0) || size != BOOT_FILE_BYTES.max(size.min(self.boot.cluster_bytes)) {
                    self.teller.tell(
                        Rule::SystemPlace,
                        spot,
                        format!("{BOOT_FILE_BYTES} bytes from cluster 0 on"),
                        format!("{size} bytes at {:?}", place(file)),
                    );
                }
            }
            numbers::VOLUME => self.check_volume(file),
            numbers::LOG_FILE => self.check_log(file)?,
            numbers::ATTRIBUTE_DEFINITIONS => self.check_definitions(file)?,
            numbers::BAD_CLUSTERS => self.check_bad_clusters(file),
            _ => {}
        }
        Ok(())
    }

    fn check_volume(&mut self, file: &FileAttributes) {
        let found = file.get(types::VOLUME_INFORMATION, &[]);
        let spot = self.system_spot(numbers::VOLUME).attribute(types::VOLUME_INFORMATION, &[]);
        let parsed = found
            .and_then(Found::resident)
            .and_then(|value| VolumeInformationDisk::read_from_prefix(value).ok());
        let Some((information, _)) = parsed else {
            self.teller.tell(Rule::VolumeVersion, spot, "version and flags", "none");
            return;
        };
        let (major, minor, flags) = (information.major, information.minor, information.flags.get());
        if (major, minor) != (3, 1) {
            self.teller.tell(Rule::VolumeVersion, spot, "version 3.1", format!("{major}.{minor}"));
        }
        if flags & VOLUME_DIRTY != 0 {
            self.teller.tell(
                Rule::VolumeDirty,
                spot,
                "a volume that was unmounted",
                "the mark of one that was not, or has errors",
            );
        }
        if flags & !KNOWN_VOLUME_FLAGS != 0 {
            self.teller.tell(
                Rule::VolumeFlags,
                spot,
                format!("bits of {KNOWN_VOLUME_FLAGS:#x}"),
                format!("{flags:#x}"),
            );
        } else if flags & !QUIET_VOLUME_FLAGS & !VOLUME_DIRTY != 0 {
            self.teller.tell(
                Rule::VolumePending,
                spot,
                "nothing that is to be done at the next mount",
                format!("{flags:#x}"),
            );
        }
        self.state = Some(VolumeState {
            is_dirty: flags & VOLUME_DIRTY != 0,
            log: LogState::Unknown,
            hibernation: Hibernation::None,
        });
    }

    fn check_log(&mut self, file: &FileAttributes) -> Result<(), Error> {
        let spot = self.system_spot(numbers::LOG_FILE).attribute(types::DATA, &[]);
        let Some(stream) = Self::data(file, &[]) else {
            self.teller.tell(Rule::LogSize, spot, "a log in clusters", "none");
            return Ok(());
        };
        if stream.size < wide(LOG_HEAD_BYTES) {
            self.teller.tell(Rule::LogSize, spot, "64 KiB or more", stream.size);
        }
        let mut head = vec![0; at(stream.size.min(wide(LOG_HEAD_BYTES)))];
        let read = stream.read(self.source, 0, &mut head);
        if self.readable(spot, read)?.is_none() {
            return Ok(());
        }
        let log = log_state(&head);
        let spot = spot.at(stream.offset_of(0).unwrap_or(0));
        match log {
            LogState::Empty | LogState::Clean => {}
            LogState::Pending => self.teller.tell(
                Rule::LogPending,
                spot,
                "a log whose changes were made",
                "changes to be made",
            ),
            LogState::Unknown => self.teller.tell(
                Rule::LogUnknown,
                spot,
                "restart pages, or 0xff throughout",
                format!("{:02x?}", head.first_chunk::<4>()),
            ),
        }
        self.log = Some(log);
        Ok(())
    }

    fn check_hibernation(&mut self) -> Result<(), Error> {
        let Some(number) = self.hibernation_file()? else { return self.set_state(Hibernation::None) };
        let Some(file) = self.file(number)? else { return self.set_state(Hibernation::None) };
        let head = match file.get(types::DATA, &[]).map(|found| &found.value) {
            Some(Value::Clusters { stream, .. }) => {
                let mut head = vec![0; at(stream.size.min(8))];
                let read = stream.read(self.source, 0, &mut head);
                self.readable(Spot::record(number), read)?;
                head
            }
            Some(Value::Resident { bytes, .. }) => bytes.clone(),
            None => Vec::new(),
        };
        let state = hibernation(&head);
        if state != Hibernation::None {
            let spot = Spot::record(number).at(self.mft.offset(u64::from(number)));
            self.teller.tell(
                Rule::Hibernated,
                spot,
                "no sleeping system",
                format!("{:02x?}", head.first_chunk::<4>()),
            );
        }
        self.set_state(state)
    }

    fn set_state(&mut self, hibernation: Hibernation) -> Result<(), Error> {
        if let (Some(state), Some(log)) = (&mut self.state, self.log) {
            (state.log, state.hibernation) = (log, hibernation);
        }
        Ok(())
    }

    /// The record of hiberfil.sys in the root.
    fn hibernation_file(&mut self) -> Result<Option<u32>, Error> {
        struct Finder<'a>(Vec<u16>, &'a UpCase, Option<u64>);
        impl crate::read::index::Visitor for Finder<'_> {
            fn entry(&mut self, entry: &crate::read::index::Entry<'_>) {
                if FileName::parse(entry.key)
                    .is_some_and(|name| self.1.compare(&name.units(), &self.0).is_eq())
                {
                    self.2 = Some(entry.reference);
                }
            }
            fn fault(&mut self, _: u64, _: crate::read::fault::Fault) {}
        }
        let Some(root) = self.file(numbers::ROOT)? else { return Ok(None) };
        let mut finder = Finder("hiberfil.sys".encode_utf16().collect(), &self.upcase, None);
        let index = crate::read::volume::NAME_INDEX;
        super::indexes::walk_index(
            self.source,
            &self.boot,
            &self.mft,
            &root,
            &index,
            crate::read::index::IndexKind::Names,
            &mut finder,
        )?;
        Ok(finder.2.and_then(|reference| u32::try_from(split_reference(reference).0).ok()))
    }

    /// $AttrDef: types ascending, each with a name and sizes that can be.
    fn check_definitions(&mut self, file: &FileAttributes) -> Result<(), Error> {
        let spot = self.system_spot(numbers::ATTRIBUTE_DEFINITIONS).attribute(types::DATA, &[]);
        let found = file.get(types::DATA, &[]);
        let read = found.map(|found| found.read(self.source, 1 << 20)).transpose();
        let bytes = self.readable(spot, read)?.flatten().flatten().unwrap_or_default();
        let offset = match found.map(|found| &found.value) {
            Some(Value::Clusters { stream, .. }) => stream.offset_of(0).unwrap_or(0),
            _ => 0,
        };
        let mut before = 0u32;
        let mut known = Vec::new();
        for (index, definition) in bytes.chunks_exact(ATTRDEF_BYTES).enumerate() {
            let spot = spot.at(offset.saturating_add(wide(index.saturating_mul(ATTRDEF_BYTES))));
            let kind = u32_at(definition, 0x80).unwrap_or(0);
            if kind == 0 {
                break;
            }
            let name: Vec<u16> = crate::read::bytes::units(definition.get(..0x80).unwrap_or_default());
            let name: Vec<u16> = name.into_iter().take_while(|unit| *unit != 0).collect();
            let name = String::from_utf16_lossy(&name);
            if kind <= before || !kind.is_multiple_of(0x10) {
                self.teller.tell(
                    Rule::Definition,
                    spot,
                    format!("a type above {before:#x}"),
                    format!("{kind:#x}"),
                );
            }
            let expected = super::finding::attribute_name(kind);
            // Types that are not used any more have names that differ between versions.
            if expected.starts_with('$') && name != expected {
                self.teller.tell(Rule::Definition, spot, &expected, format!("{name:?}"));
            }
            let (flags, least, most) = (
                u32_at(definition, 0x8c).unwrap_or(0),
                u64_at(definition, 0x90).unwrap_or(0),
                u64_at(definition, 0x98).unwrap_or(0),
            );
            if flags & !0xc2 != 0 {
                self.teller.tell(
                    Rule::Definition,
                    spot.at(offset
                        .saturating_add(wide(index.saturating_mul(ATTRDEF_BYTES)))
                        .saturating_add(0x8c)),
                    "flags of 0xc2",
                    format!("{flags:#x}"),
                );
            }
            if let Some((_, low, high)) = LIMITS.iter().find(|(known, _, _)| *known == kind)
                && (*low, *high) != (least, most)
            {
                self.teller.tell(
                    Rule::DefinitionLimits,
                    spot,
                    format!("{low:#x} to {high:#x} bytes"),
                    format!("{least:#x} to {most:#x}"),
                );
            }
            known.push(kind);
            before = kind;
        }
        for (kind, _, _) in LIMITS {
            if !known.contains(&kind) {
                self.teller.tell(
                    Rule::Definition,
                    spot,
                    super::finding::attribute_name(kind),
                    "no definition",
                );
            }
        }
        Ok(())
    }

    /// `$Bad` covers the volume; what it holds is damaged.
    fn check_bad_clusters(&mut self, file: &FileAttributes) {
        let spot = self.system_spot(numbers::BAD_CLUSTERS).attribute(types::DATA, &BAD);
        let Some(found) = file.get(types::DATA, &BAD) else {
            self.teller.tell(Rule::BadClusters, spot, "the stream $Bad", "none");
            return;
        };
        let Value::Clusters { stream, .. } = &found.value else {
            self.teller.tell(Rule::BadClusters, spot, "a stream in clusters", "a value in the record");
            return;
        };
        let expected = self.boot.offset(self.boot.clusters);
        if stream.size != expected || stream.clusters() != self.boot.clusters {
            self.teller.tell(
                Rule::BadClusters,
                spot,
                format!("{expected} bytes, the whole volume"),
                stream.size,
            );
        }
        if stream.initialized != 0 && stream.first_lcn().is_none() {
            self.teller.tell(Rule::BadClusters, spot, "nothing written", stream.initialized);
        }
        if let Some(lcn) = stream.first_lcn() {
            self.teller.tell(
                Rule::BadClusterFound,
                spot,
                "no damaged clusters",
                format!("cluster {lcn} and maybe more"),
            );
        }
    }

    /// $MFT's own bitmap and $Bitmap.
    pub(super) fn check_bitmaps(&mut self) -> Result<(), Error> {
        self.check_record_bitmap()?;
        let Some(file) = self.file(numbers::BITMAP)? else { return Ok(()) };
        let spot = self.system_spot(numbers::BITMAP).attribute(types::DATA, &[]);
        let Some(stream) = Self::data(&file, &[]) else {
            self.teller.tell(Rule::BitmapSize, spot, "a bitmap in clusters", "none");
            return Ok(());
        };
        let stream = stream.clone();
        let least = self.boot.clusters.div_ceil(8);
        if stream.size < least || stream.size > least.next_multiple_of(8) {
            self.teller.tell(
                Rule::BitmapSize,
                spot,
                format!("{} bytes", least.next_multiple_of(8)),
                stream.size,
            );
        }
        let room = stream
            .size
            .min(stream.clusters().saturating_mul(self.boot.cluster_bytes))
            .min(least.next_multiple_of(8));
        let (mut pos, mut bytes, mut differences) = (0u64, Vec::new(), Differences::default());
        while pos < room {
            bytes.resize(at(room.saturating_sub(pos)).min(STEP_BYTES), 0);
            let read = stream.read(self.source, pos, &mut bytes);
            if self.readable(spot, read)?.is_none() {
                return Ok(());
            }
            self.clusters.compare(
                pos.saturating_mul(8),
                &bytes,
                stream.offset_of(pos).unwrap_or(0),
                &mut differences,
            );
            pos = pos.saturating_add(wide(bytes.len()));
        }
        differences.tell(&mut self.teller);
        Ok(())
    }

    fn check_record_bitmap(&mut self) -> Result<(), Error> {
        let Some(file) = self.file(numbers::MFT)? else { return Ok(()) };
        let spot = self.system_spot(numbers::MFT).attribute(types::BITMAP, &[]);
        let Some(found) = file.get(types::BITMAP, &[]) else {
            self.teller.tell(Rule::MftBitmapSize, spot, "a bitmap", "none");
            return Ok(());
        };
        let least = u64::from(self.mft.count()).div_ceil(8);
        // One bit a record, so as large as an MFT can get.
        let read = found.read(self.source, 1 << 29);
        let bytes = self.readable(spot, read)?.flatten().unwrap_or_default();
        let offset = match &found.value {
            Value::Clusters { stream, .. } => stream.offset_of(0).unwrap_or(0),
            Value::Resident { pos, .. } => self.mft.offset(0).saturating_add(wide(*pos)),
        };
        if wide(bytes.len()) < least || !bytes.len().is_multiple_of(8) {
            self.teller.tell(
                Rule::MftBitmapSize,
                spot,
                format!("{least} bytes or more, a multiple of 8"),
                bytes.len(),
            );
        }
        for (number, info) in (0u32..).zip(&self.records) {
            let is_marked = bit(&bytes, u64::from(number));
            let is_used = info.state & IN_USE != 0;
            if is_marked != is_used && info.state & DAMAGED == 0 {
                let words = |used: bool| if used { "in use" } else { "free" };
                let spot = Spot::record(number).at(offset.saturating_add(u64::from(number >> 3)));
                self.teller.tell(
                    Rule::MftBitmap,
                    spot,
                    format!("{}, as the record says", words(is_used)),
                    words(is_marked),
                );
            }
        }
        let bits = wide(bytes.len()).saturating_mul(8);
        if let Some(number) = (u64::from(self.mft.count())..bits).find(|number| bit(&bytes, *number)) {
            let spot = spot.at(offset.saturating_add(number >> 3));
            self.teller.tell(
                Rule::MftBitmap,
                spot,
                "no records behind the last marked",
                format!("record {number}"),
            );
        }
        Ok(())
    }
}

/// Smallest and largest value of types by $AttrDef of version 3.1.
const LIMITS: [(u32, u64, u64); 15] = [
    (types::STANDARD_INFORMATION, 0x30, 0x48),
    (types::ATTRIBUTE_LIST, 0, u64::MAX),
    (types::FILE_NAME, 0x44, 0x242),
    (types::OBJECT_ID, 0, 0x100),
    (0x50, 0, u64::MAX),
    (types::VOLUME_NAME, 2, 0x100),
    (types::VOLUME_INFORMATION, 0xc, 0xc),
    (types::DATA, 0, u64::MAX),
    (types::INDEX_ROOT, 0, u64::MAX),
    (types::INDEX_ALLOCATION, 0, u64::MAX),
    (types::BITMAP, 0, u64::MAX),
    (types::REPARSE_POINT, 0, 0x4000),
    (types::EA_INFORMATION, 8, 8),
    (types::EA, 0, 0x1_0000),
    (0x100, 0, 0x1_0000),
];
