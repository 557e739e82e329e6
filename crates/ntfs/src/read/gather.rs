//! The attributes of a file over all of its records.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use gravure_io::ReadAt;

use super::boot::BootSector;
use super::bytes::{at, show_reference, split_reference, wide};
use super::fault::Fault;
use super::mft::{ListEntry, Mft, list_entries, read_list, runs_of};
use super::record::{Attribute, COMPRESSED, Form, Record, SPARSE, unprotect};
use super::runs::Holes;
use super::stream::Stream;
use crate::Error;
use crate::disk::{RECORD_IN_USE, attribute_type as types, numbers, reference};
use crate::rule::Rule;

/// An attribute of a file, put together from all its parts.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) kind: u32,
    pub(crate) name: Vec<u16>,
    pub(crate) flags: u16,
    /// Record in which it starts, and where there.
    pub(crate) record: u32,
    pub(crate) pos: usize,
    pub(crate) value: Value,
}

/// The value of an attribute.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Resident {
        bytes: Vec<u8>,
        /// In the record.
        pos: usize,
    },
    Clusters {
        stream: Stream,
        allocated: u64,
        on_disk: Option<u64>,
        unit: u8,
    },
}

impl Found {
    /// Bytes of the stream.
    pub(crate) fn size(&self) -> u64 {
        match &self.value {
            Value::Resident { bytes, .. } => wide(bytes.len()),
            Value::Clusters { stream, .. } => stream.size,
        }
    }

    /// The value when it stands in the record.
    pub(crate) fn resident(&self) -> Option<&[u8]> {
        match &self.value {
            Value::Resident { bytes, .. } => Some(bytes),
            Value::Clusters { .. } => None,
        }
    }

    /// Up to `limit` bytes of the value, wherever it stands; `None` when it is longer.
    pub(crate) fn read(&self, source: &dyn ReadAt, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        match &self.value {
            _ if self.size() > limit => Ok(None),
            Value::Clusters { stream, .. }
                if stream.size > stream.clusters().saturating_mul(stream.cluster_bytes) =>
            {
                Err(Error::Corrupt {
                    what: "size of a stream".to_owned(),
                    offset: stream.offset_of(0).unwrap_or(0),
                    expected: format!("at most what {} clusters hold", stream.clusters()),
                    found: format!("{} bytes", stream.size),
                })
            }
            Value::Resident { bytes, .. } => Ok(Some(bytes.clone())),
            Value::Clusters { stream, .. } => {
                let mut bytes = vec![0; at(stream.size)];
                stream.read(source, 0, &mut bytes)?;
                Ok(Some(bytes))
            }
        }
    }
}

/// The attributes of a file.
#[derive(Debug, Default)]
pub(crate) struct FileAttributes {
    pub(crate) found: Vec<Found>,
    /// Extension records, ascending.
    pub(crate) extensions: Vec<u32>,
    /// False when something could not be read, which was told.
    pub(crate) is_complete: bool,
}

impl FileAttributes {
    /// The first attribute of a type and name.
    pub(crate) fn get(&self, kind: u32, name: &[u16]) -> Option<&Found> {
        self.found.iter().find(|found| found.kind == kind && found.name == name)
    }

    /// All attributes of a type.
    pub(crate) fn all(&self, kind: u32) -> impl Iterator<Item = &Found> {
        self.found.iter().filter(move |found| found.kind == kind)
    }
}

/// What is needed to put a file together.
pub(crate) struct Gather<'a> {
    pub(crate) source: &'a dyn ReadAt,
    pub(crate) boot: &'a BootSector,
    pub(crate) mft: &'a Mft,
    /// Told of each fault with the record in which it is, and whether its position is in the attribute list.
    pub(crate) fault: &'a mut dyn FnMut(u32, InList, Fault),
}

/// Where the position of a fault counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InList {
    Record,
    List,
}

impl Gather<'_> {
    /// The attributes of the file whose base record is `record`.
    pub(crate) fn file(&mut self, number: u32, record: &Record<'_>) -> Result<FileAttributes, Error> {
        let mut out = FileAttributes { is_complete: true, ..FileAttributes::default() };
        let mut list = None;
        let mut own = Vec::new();
        for attribute in record.attributes() {
            match attribute {
                Ok(attribute) if attribute.kind == types::ATTRIBUTE_LIST => {
                    match read_list(self.source, self.boot, &attribute, self.mft.offset(u64::from(number))) {
                        Ok(bytes) => {
                            self.add(&mut out, number, &attribute);
                            list = Some(bytes);
                        }
                        Err(error @ Error::Io { .. }) => return Err(error),
                        Err(error) => {
                            let fault =
                                Fault::new(Rule::ListSize, attribute.pos, "a list that can be read", error);
                            self.tell(&mut out, number, InList::Record, fault);
                        }
                    }
                }
                Ok(attribute) => own.push(attribute),
                Err(fault) => self.tell(&mut out, number, InList::Record, fault),
            }
        }
        match list {
            Some(list) => self.listed(&mut out, number, record, &own, &list)?,
            None => own.iter().for_each(|attribute| self.add(&mut out, number, attribute)),
        }
        Ok(out)
    }

    fn tell(&mut self, out: &mut FileAttributes, record: u32, place: InList, fault: Fault) {
        out.is_complete = false;
        (self.fault)(record, place, fault);
    }

    /// Everything that an attribute list names, in its order.
    fn listed(
        &mut self,
        out: &mut FileAttributes,
        number: u32,
        record: &Record<'_>,
        own: &[Attribute<'_>],
        list: &[u8],
    ) -> Result<(), Error> {
        let base = reference(number, record.head.sequence.get());
        // Records are read once each; a list of 256 KiB names 8192 at most.
        let mut extensions: HashMap<u32, Vec<u8>> = HashMap::new();
        let (mut listed_own, mut listed_others) = (0usize, 0usize);
        for entry in list_entries(list) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(fault) => {
                    self.tell(out, number, InList::List, fault);
                    return Ok(());
                }
            };
            if entry.record == base {
                listed_own = listed_own.saturating_add(1);
                let found = own.iter().find(|attribute| matches(&entry, attribute));
                match found {
                    Some(attribute) => self.add(out, number, attribute),
                    None => self.tell(out, number, InList::List, missing(&entry)),
                }
                continue;
            }
            let Some(extension) = self.extension(base, &entry, &mut extensions)? else {
                let expected = format!("an extension record of {}", show_reference(base));
                let fault = Fault::new(
                    Rule::ListRecord,
                    entry.pos.saturating_add(0x10),
                    expected,
                    show_reference(entry.record),
                );
                self.tell(out, number, InList::List, fault);
                return Ok(());
            };
            let bytes = extensions.get(&extension).map_or(&[][..], Vec::as_slice);
            let Ok(record) = Record::parse(bytes) else { continue };
            let found =
                record.attributes().map_while(Result::ok).find(|attribute| matches(&entry, attribute));
            listed_others = listed_others.saturating_add(1);
            match found {
                Some(attribute) => self.add(out, extension, &attribute),
                None => self.tell(out, number, InList::List, missing(&entry)),
            }
        }
        let unlisted = own.len().saturating_sub(listed_own);
        if unlisted > 0 {
            let fault = Fault::new(
                Rule::ListMissing,
                0,
                "every attribute of the record",
                format!("{unlisted} fewer"),
            );
            self.tell(out, number, InList::List, fault);
        }
        out.extensions = extensions.keys().copied().collect();
        out.extensions.sort_unstable();
        let there = extensions.values().filter_map(|bytes| Record::parse(bytes).ok());
        let there: usize = there.map(|record| record.attributes().map_while(Result::ok).count()).sum();
        if there != listed_others {
            let found = format!("{listed_others} listed");
            let fault = Fault::new(
                Rule::ListMissing,
                0,
                format!("all {there} attributes of extension records"),
                found,
            );
            self.tell(out, number, InList::List, fault);
        }
        Ok(())
    }

    /// Reads the record that an entry names, unless it was read; `None` when it is none of this file's.
    fn extension(
        &self,
        base: u64,
        entry: &ListEntry,
        known: &mut HashMap<u32, Vec<u8>>,
    ) -> Result<Option<u32>, Error> {
        let (number, sequence) = split_reference(entry.record);
        let Some(number) = u32::try_from(number).ok().filter(|number| *number < self.mft.count()) else {
            return Ok(None);
        };
        if let Entry::Vacant(vacant) = known.entry(number) {
            let mut bytes = Vec::new();
            self.mft.read(self.source, u64::from(number), &mut bytes)?;
            if unprotect(&mut bytes).is_err() {
                return Ok(None);
            }
            vacant.insert(bytes);
        }
        let record = known.get(&number).and_then(|bytes| Record::parse(bytes).ok());
        let is_ours = record.is_some_and(|record| {
            let head = record.head;
            head.flags.get() & RECORD_IN_USE != 0
                && head.base_record.get() == base
                && head.sequence.get() == sequence
        });
        Ok(is_ours.then_some(number))
    }

    /// Adds an attribute, or a part to the one before.
    fn add(&mut self, out: &mut FileAttributes, record: u32, attribute: &Attribute<'_>) {
        let clusters = match attribute.form {
            Form::Resident { value, pos, .. } => {
                out.found.push(found(record, attribute, Value::Resident { bytes: value.to_vec(), pos }));
                return;
            }
            Form::Clusters(clusters) => clusters,
        };
        let is_bad_list = record == numbers::BAD_CLUSTERS && !attribute.name.is_empty();
        let may_have_holes = attribute.flags & (SPARSE | COMPRESSED) != 0 || is_bad_list;
        let holes = if may_have_holes { Holes::Allowed } else { Holes::Refused };
        let runs = match runs_of(attribute, self.boot, holes) {
            Ok(runs) => runs,
            Err(fault) => return self.tell(out, record, InList::Record, fault),
        };
        if clusters.lowest > 0 {
            let name = attribute.name_units();
            let before = out.found.last_mut().filter(|last| last.kind == attribute.kind && last.name == name);
            let stream = before.and_then(|last| match &mut last.value {
                Value::Clusters { stream, .. } => Some(stream),
                Value::Resident { .. } => None,
            });
            match stream {
                Some(stream) if stream.clusters() == clusters.lowest => stream.push(&runs),
                other => {
                    let expected = other.map_or(0, |stream| stream.clusters());
                    let fault = Fault::new(
                        Rule::VcnGap,
                        attribute.pos.saturating_add(0x10),
                        expected,
                        clusters.lowest,
                    );
                    self.tell(out, record, InList::Record, fault);
                }
            }
            return;
        }
        let is_compressed = attribute.flags & COMPRESSED != 0 && clusters.unit > 0;
        let mut stream = Stream {
            size: clusters.size,
            initialized: clusters.initialized,
            cluster_bytes: self.boot.cluster_bytes,
            unit_clusters: if is_compressed {
                1u64.checked_shl(u32::from(clusters.unit)).unwrap_or(0)
            } else {
                0
            },
            ..Stream::default()
        };
        stream.push(&runs);
        let (allocated, on_disk, unit) = (clusters.allocated, clusters.on_disk, clusters.unit);
        out.found.push(found(record, attribute, Value::Clusters { stream, allocated, on_disk, unit }));
    }
}

fn found(record: u32, attribute: &Attribute<'_>, value: Value) -> Found {
    let (kind, flags, pos) = (attribute.kind, attribute.flags, attribute.pos);
    Found { kind, name: attribute.name_units(), flags, record, pos, value }
}

fn matches(entry: &ListEntry, attribute: &Attribute<'_>) -> bool {
    let lowest = match attribute.form {
        Form::Resident { .. } => 0,
        Form::Clusters(clusters) => clusters.lowest,
    };
    entry.kind == attribute.kind
        && entry.instance == attribute.instance
        && entry.lowest == lowest
        && entry.name == attribute.name_units()
}

fn missing(entry: &ListEntry) -> Fault {
    let expected = format!(
        "an attribute of type {:#x}, instance {}, cluster {}",
        entry.kind, entry.instance, entry.lowest
    );
    Fault::new(Rule::ListTarget, entry.pos, expected, format!("none in {}", show_reference(entry.record)))
}
