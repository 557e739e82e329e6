//! Where file records are; runs and attribute lists in them.

use gravure_io::ReadAt;
use zerocopy::FromBytes;

use super::boot::BootSector;
use super::bytes::{at, part, split_reference, units, wide};
use super::fault::Fault;
use super::record::{Attribute, Form, Record, unprotect};
use super::runs::{Holes, decode_runs};
use super::stream::Stream;
use crate::Error;
use crate::disk::{LIST_ENTRY_BYTES, ListEntryDisk, MAX_LIST_BYTES, Run, attribute_type as types};
use crate::rule::Rule;

/// $MFT.
#[derive(Debug, Clone)]
pub(crate) struct Mft {
    pub(crate) stream: Stream,
    pub(crate) record_bytes: usize,
}

impl Mft {
    /// Finds all of $MFT from its own record at cluster `lcn`.
    pub(crate) fn open(source: &dyn ReadAt, boot: &BootSector, lcn: u64) -> Result<Self, Error> {
        let start = boot.offset(lcn);
        let mut bytes = source.read_vec_at(start, boot.record_bytes).map_err(Error::read(start))?;
        let wrong = |fault: Fault| fault.into_error("record of $MFT", start);
        unprotect(&mut bytes).map_err(wrong)?;
        let record = Record::parse(&bytes).map_err(wrong)?;
        let mut mft = Self {
            stream: Stream { cluster_bytes: boot.cluster_bytes, ..Stream::default() },
            record_bytes: boot.record_bytes,
        };
        let mut list = None;
        for attribute in record.attributes() {
            let attribute = attribute.map_err(wrong)?;
            match (attribute.kind, attribute.name) {
                (types::DATA, []) => mft.add(&attribute, boot).map_err(wrong)?,
                (types::ATTRIBUTE_LIST, []) => list = Some(read_list(source, boot, &attribute, start)?),
                _ => {}
            }
        }
        // The parts that follow are found through what is known of the first ones.
        for entry in list.iter().flat_map(|list| list_entries(list)) {
            let entry = entry.map_err(|fault| fault.into_error("attribute list of $MFT", start))?;
            let (number, _) = split_reference(entry.record);
            if entry.kind != types::DATA || !entry.name.is_empty() || number == 0 || entry.lowest == 0 {
                continue;
            }
            let mut bytes = Vec::new();
            mft.read(source, number, &mut bytes)?;
            let wrong =
                |fault: Fault| fault.into_error(format!("record {number} of $MFT"), mft.offset(number));
            unprotect(&mut bytes).map_err(wrong)?;
            let record = Record::parse(&bytes).map_err(wrong)?;
            let attributes: Result<Vec<_>, Fault> = record.attributes().collect();
            let found = attributes.map_err(wrong)?;
            let found = found.iter().find(|one| one.kind == types::DATA && one.instance == entry.instance);
            if let Some(attribute) = found {
                mft.add(attribute, boot).map_err(|fault| fault.into_error("runs of $MFT", start))?;
            }
        }
        let clusters = mft.stream.clusters().saturating_mul(boot.cluster_bytes);
        // Runs that repeat clusters could make a small volume claim any number of records.
        if mft.stream.size == 0 || mft.stream.size > clusters || mft.stream.clusters() > boot.clusters {
            return Err(Error::Corrupt {
                what: "$MFT".to_owned(),
                offset: start,
                expected: format!("1 to {clusters} bytes in at most {} clusters", boot.clusters),
                found: format!("{} in {}", mft.stream.size, mft.stream.clusters()),
            });
        }
        Ok(mft)
    }

    fn add(&mut self, attribute: &Attribute<'_>, boot: &BootSector) -> Result<(), Fault> {
        let Form::Clusters(clusters) = attribute.form else {
            return Err(Fault::new(Rule::AttributeForm, attribute.pos, "clusters", "a value in the record"));
        };
        let runs = runs_of(attribute, boot, Holes::Refused)?;
        if clusters.lowest != self.stream.clusters() {
            return Err(Fault::new(Rule::VcnGap, attribute.pos, self.stream.clusters(), clusters.lowest));
        }
        if clusters.lowest == 0 {
            self.stream.size = clusters.size;
            self.stream.initialized = clusters.initialized;
        }
        self.stream.push(&runs);
        Ok(())
    }

    /// How many records there are.
    pub(crate) fn count(&self) -> u32 {
        let count = self.stream.size.checked_div(wide(self.record_bytes)).unwrap_or(0);
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Absolute offset of record `number`.
    pub(crate) fn offset(&self, number: u64) -> u64 {
        self.stream.offset_of(number.saturating_mul(wide(self.record_bytes))).unwrap_or(0)
    }

    /// Reads record `number` as it is on disk.
    pub(crate) fn read(&self, source: &dyn ReadAt, number: u64, buf: &mut Vec<u8>) -> Result<(), Error> {
        buf.resize(self.record_bytes, 0);
        self.stream.read(source, number.saturating_mul(wide(self.record_bytes)), buf)
    }

    /// Reads `count` records from `first` on.
    pub(crate) fn read_many(
        &self,
        source: &dyn ReadAt,
        first: u32,
        count: usize,
        buf: &mut Vec<u8>,
    ) -> Result<(), Error> {
        buf.resize(count.saturating_mul(self.record_bytes), 0);
        self.stream.read(source, u64::from(first).saturating_mul(wide(self.record_bytes)), buf)
    }
}

/// The runs of an attribute in clusters, as many as it says.
pub(crate) fn runs_of(attribute: &Attribute<'_>, boot: &BootSector, holes: Holes) -> Result<Vec<Run>, Fault> {
    let Form::Clusters(clusters) = attribute.form else { return Ok(Vec::new()) };
    let (runs, _) = decode_runs(clusters.pairs, boot.clusters, holes)
        .map_err(|fault| Fault { pos: fault.pos.saturating_add(clusters.pairs_pos), ..fault })?;
    let placed = runs.iter().filter(|run| run.lcn.is_some());
    let placed = placed.fold(0u64, |sum, run| sum.saturating_add(run.clusters));
    if placed > boot.clusters {
        let expected = format!("at most {} clusters, as the volume has", boot.clusters);
        return Err(Fault::new(Rule::RunsTotal, clusters.pairs_pos, expected, placed));
    }
    let total = runs.iter().fold(0u64, |sum, run| sum.saturating_add(run.clusters));
    let expected = clusters.end.saturating_sub(clusters.lowest);
    if total != expected {
        return Err(Fault::new(Rule::RunsTotal, clusters.pairs_pos, format!("{expected} clusters"), total));
    }
    Ok(runs)
}

/// An entry of an attribute list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListEntry {
    /// In the list.
    pub(crate) pos: usize,
    pub(crate) kind: u32,
    pub(crate) name: Vec<u16>,
    pub(crate) lowest: u64,
    /// Reference.
    pub(crate) record: u64,
    pub(crate) instance: u16,
}

/// The entries of a list, up to the first that cannot be parsed.
pub(crate) fn list_entries(list: &[u8]) -> impl Iterator<Item = Result<ListEntry, Fault>> {
    let mut pos = 0usize;
    std::iter::from_fn(move || {
        let rest = list.get(pos..).filter(|rest| !rest.is_empty())?;
        let parse = || {
            let (head, _) = ListEntryDisk::read_from_prefix(rest).ok()?;
            let len = usize::from(head.len.get());
            let bytes = rest.get(..len).filter(|_| len.is_multiple_of(8) && len >= LIST_ENTRY_BYTES)?;
            let name_len = usize::from(head.name_len).saturating_mul(2);
            let name = match name_len {
                0 => &[][..],
                _ => part(bytes, usize::from(head.name_offset), name_len)?,
            };
            let entry = ListEntry {
                pos,
                kind: head.attribute_type.get(),
                name: units(name),
                lowest: head.lowest_vcn.get(),
                record: head.record.get(),
                instance: head.instance.get(),
            };
            Some((len, entry))
        };
        match parse() {
            Some((len, entry)) => {
                pos = pos.saturating_add(len);
                Some(Ok(entry))
            }
            None => {
                let fault = Fault::new(
                    Rule::ListEntry,
                    pos,
                    "an entry inside the list",
                    format!("{} bytes left", rest.len()),
                );
                pos = list.len();
                Some(Err(fault))
            }
        }
    })
}

/// The value of an attribute list.
pub(super) fn read_list(
    source: &dyn ReadAt,
    boot: &BootSector,
    attribute: &Attribute<'_>,
    start: u64,
) -> Result<Vec<u8>, Error> {
    let wrong = |fault: Fault| fault.into_error("attribute list", start);
    if attribute.size() > wide(MAX_LIST_BYTES) {
        let fault = Fault::new(
            Rule::ListSize,
            attribute.pos,
            format!("at most {MAX_LIST_BYTES} bytes"),
            attribute.size(),
        );
        return Err(wrong(fault));
    }
    match attribute.form {
        Form::Resident { value, .. } => Ok(value.to_vec()),
        Form::Clusters(clusters) => {
            let runs = runs_of(attribute, boot, Holes::Refused).map_err(wrong)?;
            let mut stream = Stream {
                size: clusters.size,
                initialized: clusters.initialized,
                cluster_bytes: boot.cluster_bytes,
                ..Stream::default()
            };
            stream.push(&runs);
            let mut list = vec![0; at(clusters.size)];
            stream.read(source, 0, &mut list)?;
            Ok(list)
        }
    }
}
