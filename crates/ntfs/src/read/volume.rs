//! An opened volume: its numbers, its MFT, its label, and how it was left.

use std::ops::Range;

use gravure_io::ReadAt;
use gravure_nttypes::{FileAttributes as Attributes, NtName, ReparseTag};
use zerocopy::FromBytes;

use super::boot::{BOOT_SECTOR_BYTES, BootSector};
use super::bytes::{at, split_reference, wide};
use super::fault::Fault;
use super::gather::{FileAttributes, Found, Gather, Value};
use super::index::{Entry, IndexKind, IndexParts, Visitor, walk};
use super::mft::Mft;
use super::names::FileName;
use super::record::{Record, unprotect};
use super::state::{
    Hibernation, LOG_HEAD_BYTES, LogState, VOLUME_DIRTY, VolumeState, hibernation, log_state,
};
use crate::Error;
use crate::disk::{
    NAME_IS_DIRECTORY, RECORD_IN_USE, RecordDisk, UPCASE, UPCASE_BYTES, UpCase, VolumeInformationDisk,
    attribute_type as types, namespace, numbers,
};

/// Name of the index of names.
pub(crate) const NAME_INDEX: [u16; 4] = [0x24, 0x49, 0x33, 0x30];
/// Largest bitmap of an index that is read: blocks of a directory with more names than an MFT has records.
pub(crate) const MAX_INDEX_BITMAP_BYTES: u64 = 64 << 20;

/// An entry of a directory, by what its index says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedName {
    /// The long name.
    pub name: NtName,
    /// It is a directory.
    pub is_directory: bool,
    /// It is a symbolic link or a junction, which is not followed.
    pub is_link: bool,
    /// Bytes of the unnamed stream. Windows brings the index up to date late, so it may be what the file had before.
    pub size: u64,
}

/// A volume whose boot sector and MFT were found.
#[derive(Debug)]
pub struct Volume {
    pub(crate) boot: BootSector,
    pub(crate) mft: Mft,
    pub(crate) upcase: UpCase,
    label: NtName,
    version: (u8, u8),
    state: VolumeState,
}

impl Volume {
    /// Opens the volume that fills `source`.
    pub fn open(source: &dyn ReadAt) -> Result<Self, Error> {
        let len = at(source.size()).min(BOOT_SECTOR_BYTES);
        let sector = source.read_vec_at(0, len).map_err(Error::read(0))?;
        let boot =
            BootSector::parse(&sector, source.size()).map_err(|fault| fault.into_error("boot sector", 0))?;
        let mft = match Mft::open(source, &boot, boot.mft_lcn) {
            Err(Error::Corrupt { .. }) => Mft::open(source, &boot, boot.mirror_lcn)?,
            other => other?,
        };
        let state = VolumeState { is_dirty: false, log: LogState::Unknown, hibernation: Hibernation::None };
        let mut this =
            Self { boot, mft, upcase: UPCASE.clone(), label: NtName::default(), version: (0, 0), state };
        this.read_information(source)?;
        this.read_upcase(source)?;
        this.state.log = this.read_log(source)?;
        this.state.hibernation = this.read_hibernation(source)?;
        Ok(this)
    }

    /// Its boot sector.
    pub fn boot(&self) -> &BootSector {
        &self.boot
    }

    /// Its label; empty when it has none.
    pub fn label(&self) -> &NtName {
        &self.label
    }

    /// Version of the format; 3.1 since Windows XP.
    pub fn version(&self) -> (u8, u8) {
        self.version
    }

    /// How it was left.
    pub fn state(&self) -> VolumeState {
        self.state
    }

    /// File records, free ones included.
    pub fn record_count(&self) -> u32 {
        self.mft.count()
    }

    /// The attributes of the file in record `number`. The first broken rule is an error.
    pub(crate) fn file(
        &self,
        source: &dyn ReadAt,
        number: u32,
    ) -> Result<(RecordDisk, FileAttributes), Error> {
        let mut bytes = Vec::new();
        self.mft.read(source, u64::from(number), &mut bytes)?;
        let start = self.mft.offset(u64::from(number));
        let wrong = |fault: Fault| fault.into_error(format!("record {number}"), start);
        unprotect(&mut bytes).map_err(wrong)?;
        let record = Record::parse(&bytes).map_err(wrong)?;
        if record.head.flags.get() & RECORD_IN_USE == 0 {
            return Err(Error::Corrupt {
                what: format!("record {number}"),
                offset: start,
                expected: "a file".to_owned(),
                found: "a free record".to_owned(),
            });
        }
        Ok((record.head, self.gather(source, number, &record)?))
    }

    /// The same of a record that was read.
    pub(crate) fn gather(
        &self,
        source: &dyn ReadAt,
        number: u32,
        record: &Record<'_>,
    ) -> Result<FileAttributes, Error> {
        let mut first = None;
        let mut fault = |record: u32, _, fault: Fault| {
            first.get_or_insert((record, fault));
        };
        let mut gather = Gather { source, boot: &self.boot, mft: &self.mft, fault: &mut fault };
        let attributes = gather.file(number, record)?;
        match first {
            Some((record, fault)) => {
                Err(fault.into_error(format!("record {record}"), self.mft.offset(u64::from(record))))
            }
            None => Ok(attributes),
        }
    }

    fn read_information(&mut self, source: &dyn ReadAt) -> Result<(), Error> {
        let (_, volume) = self.file(source, numbers::VOLUME)?;
        let value = volume.get(types::VOLUME_INFORMATION, &[]).and_then(Found::resident);
        let information = value.and_then(|value| VolumeInformationDisk::read_from_prefix(value).ok());
        let (information, _) = information.ok_or_else(|| Error::Corrupt {
            what: "$VOLUME_INFORMATION".to_owned(),
            offset: self.mft.offset(u64::from(numbers::VOLUME)),
            expected: "12 bytes".to_owned(),
            found: value.map_or(0, <[u8]>::len).to_string(),
        })?;
        self.version = (information.major, information.minor);
        if !(1..=3).contains(&information.major) {
            let value = format!("{}.{}", information.major, information.minor);
            return Err(Error::Unsupported { what: "version of NTFS", value });
        }
        self.state.is_dirty = information.flags.get() & VOLUME_DIRTY != 0;
        let label = volume.get(types::VOLUME_NAME, &[]).and_then(Found::resident).unwrap_or_default();
        self.label = NtName::from_le_bytes(label).unwrap_or_default();
        Ok(())
    }

    fn read_upcase(&mut self, source: &dyn ReadAt) -> Result<(), Error> {
        let (_, file) = self.file(source, numbers::UPCASE)?;
        let data =
            file.get(types::DATA, &[]).map(|data| data.read(source, UPCASE_BYTES)).transpose()?.flatten();
        let found = data.as_ref().map_or(0, Vec::len);
        let table = data.as_deref().and_then(UpCase::from_bytes).ok_or_else(|| Error::Corrupt {
            what: "$UpCase".to_owned(),
            offset: self.mft.offset(u64::from(numbers::UPCASE)),
            expected: format!("{UPCASE_BYTES} bytes"),
            found: found.to_string(),
        })?;
        self.upcase = table;
        Ok(())
    }

    fn read_log(&self, source: &dyn ReadAt) -> Result<LogState, Error> {
        let (_, file) = self.file(source, numbers::LOG_FILE)?;
        match file.get(types::DATA, &[]).map(|data| &data.value) {
            Some(Value::Clusters { stream, .. }) => {
                let mut head = vec![0; at(stream.size.min(wide(LOG_HEAD_BYTES)))];
                stream.read(source, 0, &mut head)?;
                Ok(log_state(&head))
            }
            _ => Ok(LogState::Unknown),
        }
    }

    fn read_hibernation(&self, source: &dyn ReadAt) -> Result<Hibernation, Error> {
        let name: Vec<u16> = "hiberfil.sys".encode_utf16().collect();
        let Some(number) = self.find_in_root(source, &name)? else { return Ok(Hibernation::None) };
        let (_, file) = self.file(source, number)?;
        match file.get(types::DATA, &[]).map(|data| &data.value) {
            Some(Value::Clusters { stream, .. }) => {
                let mut head = vec![0; at(stream.size.min(8))];
                stream.read(source, 0, &mut head)?;
                Ok(hibernation(&head))
            }
            Some(Value::Resident { bytes, .. }) => Ok(hibernation(bytes)),
            None => Ok(Hibernation::None),
        }
    }

    /// The unnamed stream of the file at `path` (names parted by strokes, in any case), at most `max` bytes of it; `None` when there is
    /// no such file. Reads the directories on the way and nothing else, so that it is quick on volumes of any size.
    pub fn read_file(&self, source: &dyn ReadAt, path: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(number) = self.find(source, path)? else { return Ok(None) };
        let (_, file) = self.file(source, number)?;
        let Some(data) = file.get(types::DATA, &[]) else { return Ok(None) };
        let too_large = || Error::Unsupported {
            what: "size of a file that is read whole",
            value: format!("{path}: {} bytes, more than {max}", data.size()),
        };
        data.read(source, max)?.ok_or_else(too_large).map(Some)
    }

    /// The entries of the directory at `path` (names parted by strokes, in any case; none for the root), as its index has them, without
    /// those of the file system itself; `None` when there is no such directory. At most `max` are taken in.
    pub fn list(
        &self,
        source: &dyn ReadAt,
        path: &str,
        max: usize,
    ) -> Result<Option<Vec<ListedName>>, Error> {
        struct Lister {
            max: usize,
            found: Vec<ListedName>,
            is_full: bool,
        }
        impl Visitor for Lister {
            fn entry(&mut self, entry: &Entry<'_>) {
                let Some(key) = FileName::parse(entry.key) else { return };
                let is_own = split_reference(entry.reference).0 < u64::from(numbers::FIRST_FREE);
                if key.head.namespace == namespace::DOS || is_own {
                    return;
                }
                if self.found.len() >= self.max {
                    self.is_full = true;
                    return;
                }
                let attributes = key.head.attributes.get();
                let has_reparse = attributes & Attributes::REPARSE_POINT.0 != 0;
                let tag = ReparseTag(key.head.extra.get());
                self.found.push(ListedName {
                    name: NtName::from_units(&key.units()),
                    is_directory: attributes & NAME_IS_DIRECTORY != 0,
                    is_link: has_reparse && matches!(tag, ReparseTag::SYMLINK | ReparseTag::MOUNT_POINT),
                    size: key.head.size.get(),
                });
            }
            // A damaged index is the checker's business; what is found is found.
            fn fault(&mut self, _: u64, _: Fault) {}
        }
        let Some(number) = self.find(source, path)? else { return Ok(None) };
        let (_, directory) = self.file(source, number)?;
        if directory.get(types::INDEX_ROOT, &NAME_INDEX).is_none() {
            return Ok(None);
        }
        let mut lister = Lister { max, found: Vec::new(), is_full: false };
        self.walk(source, &directory, &NAME_INDEX, IndexKind::Names, &mut lister)?;
        if lister.is_full {
            let value = format!("{path}: more than {max} names");
            return Err(Error::Unsupported { what: "size of a directory that is listed", value });
        }
        Ok(Some(lister.found))
    }

    /// Where the bytes of that stream stand on the volume, in its order, so that they can be changed in place; `None` when there is no such
    /// file. A stream in a file record, compressed or with parts that stand nowhere is not supported.
    pub fn file_ranges(&self, source: &dyn ReadAt, path: &str) -> Result<Option<Vec<Range<u64>>>, Error> {
        let Some(number) = self.find(source, path)? else { return Ok(None) };
        let (_, file) = self.file(source, number)?;
        let Some(data) = file.get(types::DATA, &[]) else { return Ok(None) };
        let unlike = |how: &str| Error::Unsupported {
            what: "file that is changed in place",
            value: format!("{path}, which is {how}"),
        };
        let stream = match &data.value {
            Value::Resident { .. } => return Err(unlike("in its file record")),
            Value::Clusters { stream, .. } => stream,
        };
        if stream.unit_clusters != 0 {
            return Err(unlike("compressed"));
        }
        if !stream.holes().is_empty() {
            return Err(unlike("not all written"));
        }
        let mut left = stream.size;
        let mut ranges = Vec::new();
        for extent in &stream.extents {
            let start = extent.lcn.and_then(|lcn| lcn.checked_mul(stream.cluster_bytes));
            let start = start.ok_or_else(|| unlike("not all written"))?;
            let len = extent.clusters.saturating_mul(stream.cluster_bytes).min(left);
            if len > 0 {
                ranges.push(start..start.saturating_add(len));
            }
            left = left.saturating_sub(len);
        }
        if left > 0 {
            return Err(unlike("longer than its clusters"));
        }
        Ok(Some(ranges))
    }

    /// The record of the file at `path`.
    fn find(&self, source: &dyn ReadAt, path: &str) -> Result<Option<u32>, Error> {
        let mut number = numbers::ROOT;
        for name in path.split(['/', '\\']).filter(|name| !name.is_empty()) {
            let name: Vec<u16> = name.encode_utf16().collect();
            let Some(found) = self.find_in(source, number, &name)? else { return Ok(None) };
            number = found;
        }
        Ok(Some(number))
    }

    /// The record of the file `name` of the root, in any case.
    pub(crate) fn find_in_root(&self, source: &dyn ReadAt, name: &[u16]) -> Result<Option<u32>, Error> {
        self.find_in(source, numbers::ROOT, name)
    }

    /// The record of the file `name` of a directory, in any case; `None` also when that is no directory.
    fn find_in(&self, source: &dyn ReadAt, directory: u32, name: &[u16]) -> Result<Option<u32>, Error> {
        struct Finder<'a> {
            name: &'a [u16],
            upcase: &'a UpCase,
            found: Option<u64>,
        }
        impl Visitor for Finder<'_> {
            fn entry(&mut self, entry: &Entry<'_>) {
                let Some(key) = FileName::parse(entry.key) else { return };
                if self.upcase.compare(&key.units(), self.name).is_eq() {
                    self.found = Some(entry.reference);
                }
            }
            // A damaged index is the checker's business; what is found is found.
            fn fault(&mut self, _: u64, _: Fault) {}
        }
        let (_, directory) = self.file(source, directory)?;
        let mut finder = Finder { name, upcase: &self.upcase, found: None };
        self.walk(source, &directory, &NAME_INDEX, IndexKind::Names, &mut finder)?;
        Ok(finder.found.and_then(|reference| u32::try_from(split_reference(reference).0).ok()))
    }

    /// Walks the index `name` of a file; nothing when it has none.
    pub(crate) fn walk(
        &self,
        source: &dyn ReadAt,
        file: &FileAttributes,
        name: &[u16],
        kind: IndexKind,
        visitor: &mut dyn Visitor,
    ) -> Result<(), Error> {
        let Some(root) = file.get(types::INDEX_ROOT, name) else { return Ok(()) };
        let Value::Resident { bytes, pos } = &root.value else { return Ok(()) };
        let blocks = match file.get(types::INDEX_ALLOCATION, name).map(|found| &found.value) {
            Some(Value::Clusters { stream, .. }) => Some(stream),
            _ => None,
        };
        let bitmap = file.get(types::BITMAP, name);
        let bitmap = bitmap.map(|bitmap| bitmap.read(source, MAX_INDEX_BITMAP_BYTES)).transpose()?.flatten();
        let root_offset = self.mft.offset(u64::from(root.record)).saturating_add(wide(*pos));
        let parts = IndexParts { root: bytes, root_offset, blocks, bitmap: bitmap.as_deref(), kind };
        walk(source, &self.boot, &parts, visitor)
    }
}
