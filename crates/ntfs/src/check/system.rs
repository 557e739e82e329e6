//! The files of the system: where they are, the mirror of the MFT, $Volume, $LogFile, $BadClus, the hibernation file.

use zerocopy::FromBytes;

use super::finding::Spot;
use super::{Checker, DAMAGED, EXTENSION, IN_USE};
use crate::Error;
use crate::disk::{
    BOOT_FILE_BYTES, UpCase, VolumeInformationDisk, attribute_type as types, fresh_sequence, numbers,
};
use crate::read::bytes::{at, split_reference, wide};
use crate::read::gather::{FileAttributes, Found, Value};
use crate::read::names::FileName;
use crate::read::state::{
    Hibernation, LOG_HEAD_BYTES, LogState, VOLUME_DIRTY, VolumeState, hibernation, log_state,
};
use crate::rule::Rule;

/// Records that the mirror has at least.
const MIRROR_RECORDS: u64 = 4;
/// Flags of $Volume that ask for nothing: none; that it was made by Windows 11.
const QUIET_VOLUME_FLAGS: u16 = 0x0080;
/// Flags of $Volume that are known.
const KNOWN_VOLUME_FLAGS: u16 = 0xc0bf;
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
    pub(super) fn system_spot(&self, number: u32) -> Spot<'static> {
        Spot::record(number).at(self.mft.offset(u64::from(number)))
    }

    /// Unnamed data in clusters of a file.
    pub(super) fn data<'f>(
        file: &'f FileAttributes,
        name: &[u16],
    ) -> Option<&'f crate::read::stream::Stream> {
        match file.get(types::DATA, name).map(|found| &found.value) {
            Some(Value::Clusters { stream, .. }) => Some(stream),
            _ => None,
        }
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
            let is_longer = stream.size > expected && stream.size == self.boot.offset(stream.clusters());
            let rule = if is_longer { Rule::Growth } else { Rule::BadClusters };
            self.teller.tell(rule, spot, format!("{expected} bytes, the whole volume"), stream.size);
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
}
