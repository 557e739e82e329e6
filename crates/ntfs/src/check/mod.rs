//! Checking a volume: every structure against the rules of the format and against every other that says the same.
//!
//! Written from the tables of the format and not from the code that writes volumes, so that each judges the other. Read-only. A
//! record takes about 8 bytes, a name 16, a cluster 1 bit; nothing else grows with the volume. First all records are gone through
//! in order, then the indexes of directories, then what belongs to the system, then the bitmaps.

mod attributes;
mod bitmaps;
mod boot;
mod clusters;
mod files;
mod finding;
mod indexes;
mod names;
mod secure;
mod special;
mod streams;
mod system;
mod tables;
mod views;

use std::collections::HashMap;

use gravure_io::ReadAt;

use crate::Error;
use crate::disk::{RECORD_DIRECTORY, RECORD_IN_USE, RECORD_MAGIC, UPCASE, UpCase, numbers};
use crate::read::boot::BootSector;
use crate::read::bytes::{at, show_reference, split_reference};
use crate::read::gather::{FileAttributes, Gather, InList};
use crate::read::mft::Mft;
use crate::read::record::{Record, unprotect};
use crate::read::state::{LogState, VolumeState};
use crate::rule::Rule;
use clusters::ClusterMap;
pub use finding::{CheckObserver, Finding};
use finding::{Spot, Teller};
use names::Names;

/// Bytes of the MFT read at a time.
const BATCH_BYTES: usize = 1 << 20;
/// Flags of records that are known: in use, directory, in $Extend, other indexes.
const KNOWN_FLAGS: u16 = 0xf;

/// Ranges of clusters whose owners are found when there are several.
const MAX_SHARED: usize = 100;

/// How strict a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// What drivers leave behind is a note: lagging copies of times and sizes in names, marks, lost clusters.
    #[default]
    Usual,
    /// The volume was just made: every copy is exact, everything found is an error.
    Fresh,
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// Broken rules that lose files or keep a driver from working.
    pub errors: u64,
    /// Broken rules that drivers live with.
    pub notes: u64,
    /// File records, free ones included.
    pub records: u64,
    /// Records of files and directories in use.
    pub files: u64,
    /// Directories among them.
    pub directories: u64,
    /// Names, short ones included.
    pub names: u64,
    /// Clusters of files.
    pub used_clusters: u64,
    /// How the volume was left; `None` when that could not be found out.
    pub state: Option<VolumeState>,
}

impl CheckReport {
    /// Whether no rule is broken that matters.
    pub fn is_clean(&self) -> bool {
        self.errors == 0
    }
}

/// What is known of a record after it was read.
#[derive(Debug, Clone, Copy, Default)]
struct RecordInfo {
    sequence: u16,
    state: u8,
    /// Record of the directory of the first name; 0 when there is none.
    parent: u32,
}

/// States of a record.
const IN_USE: u8 = 0x01;
const EXTENSION: u8 = 0x02;
const DIRECTORY: u8 = 0x04;
/// An extension that its base lists.
const LISTED: u8 = 0x08;
/// It could not be read.
const DAMAGED: u8 = 0x10;

/// A check under way.
struct Checker<'a> {
    source: &'a dyn ReadAt,
    boot: BootSector,
    mft: Mft,
    upcase: UpCase,
    is_strict: bool,
    teller: Teller<'a>,
    records: Vec<RecordInfo>,
    names: Names,
    clusters: ClusterMap,
    /// Clusters of files so far, those of several counted for each.
    claimed: u64,
    /// Clusters that two files have.
    shared: Vec<(u64, u64)>,
    /// Ids in use, each with the first record.
    security_ids: HashMap<u32, u32>,
    object_ids: Vec<([u8; 16], u64)>,
    reparse_points: Vec<(u32, u64)>,
    state: Option<VolumeState>,
    log: Option<LogState>,
    files: u64,
    directories: u64,
}

/// Checks the volume that fills `source`. Only what keeps the check itself from going on is an error.
pub fn check(
    source: &dyn ReadAt,
    strictness: Strictness,
    observer: &mut dyn CheckObserver,
) -> Result<CheckReport, Error> {
    let is_strict = strictness == Strictness::Fresh;
    let mut teller = Teller::new(observer, is_strict);
    let Some(boot) = boot::check(source, &mut teller)? else {
        return Ok(CheckReport { errors: teller.errors, notes: teller.notes, ..CheckReport::default() });
    };
    let mft = match Mft::open(source, &boot, boot.mft_lcn) {
        Err(error @ Error::Corrupt { .. }) => {
            teller.tell(
                Rule::MftRecord,
                Spot::record(numbers::MFT).at(boot.offset(boot.mft_lcn)),
                "the record of $MFT",
                &error,
            );
            match Mft::open(source, &boot, boot.mirror_lcn) {
                Err(Error::Corrupt { .. }) => {
                    return Ok(CheckReport {
                        errors: teller.errors,
                        notes: teller.notes,
                        ..CheckReport::default()
                    });
                }
                other => other?,
            }
        }
        other => other?,
    };
    let count = mft.count();
    let mut checker = Checker {
        source,
        clusters: ClusterMap::new(boot.clusters),
        boot,
        mft,
        upcase: UPCASE.clone(),
        is_strict,
        teller,
        records: vec![RecordInfo::default(); at(count)],
        names: Names::default(),
        claimed: 0,
        shared: Vec::new(),
        security_ids: HashMap::new(),
        object_ids: Vec::new(),
        reparse_points: Vec::new(),
        state: None,
        log: None,
        files: 0,
        directories: 0,
    };
    checker.run()?;
    Ok(CheckReport {
        errors: checker.teller.errors,
        notes: checker.teller.notes,
        records: u64::from(count),
        files: checker.files,
        directories: checker.directories,
        names: checker.names.len(),
        used_clusters: checker.clusters.used,
        state: checker.state,
    })
}

impl Checker<'_> {
    fn run(&mut self) -> Result<(), Error> {
        self.check_upcase()?;
        self.check_mirror()?;
        self.check_records()?;
        self.tell_shared()?;
        self.check_extensions();
        self.names.sort();
        self.check_directories()?;
        self.check_unlisted()?;
        self.check_cycles();
        self.check_system()?;
        self.check_secure()?;
        self.check_extend()?;
        self.check_bitmaps()
    }

    /// Goes through all records in order.
    fn check_records(&mut self) -> Result<(), Error> {
        let count = self.mft.count();
        let per_batch = BATCH_BYTES.checked_div(self.mft.record_bytes).unwrap_or(1).max(1);
        let (mut first, mut batch) = (0u32, Vec::new());
        while first < count {
            if !self.teller.goes_on(first, count) {
                return Err(Error::Stopped);
            }
            let now = at(count.saturating_sub(first)).min(per_batch);
            self.mft.read_many(self.source, first, now, &mut batch)?;
            for (number, bytes) in (first..).zip(batch.chunks_exact_mut(self.mft.record_bytes)) {
                self.check_record(number, bytes)?;
            }
            first = first.saturating_add(u32::try_from(now).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    fn check_record(&mut self, number: u32, bytes: &mut [u8]) -> Result<(), Error> {
        // Records that were never formatted are as free as any.
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let start = self.mft.offset(u64::from(number));
        let spot = Spot::record(number).at(start);
        if !bytes.starts_with(&RECORD_MAGIC) {
            self.teller.tell(
                Rule::RecordMagic,
                spot,
                "\"FILE\"",
                format!("{:02x?}", bytes.first_chunk::<4>()),
            );
            self.mark(number, DAMAGED);
            return Ok(());
        }
        let record = match unprotect(bytes).and_then(|()| Record::parse(bytes)) {
            Ok(record) => record,
            Err(fault) => {
                self.teller.fault(Spot::record(number), start, &fault);
                self.mark(number, DAMAGED);
                return Ok(());
            }
        };
        let head = record.head;
        let (flags, sequence) = (head.flags.get(), head.sequence.get());
        // The field is younger than the format: with an update sequence at 0x2a it is not there.
        // Free records of mkntfs have none.
        let is_used = flags & RECORD_IN_USE != 0 || self.is_strict;
        if is_used && head.update_offset.get() >= 0x30 && head.record_number.get() != number {
            self.teller.tell(
                Rule::RecordNumber,
                spot.at(start.saturating_add(0x2c)),
                number,
                head.record_number.get(),
            );
        }
        // ntfs3 leaves 0 in records that it makes and that nobody has used yet.
        if sequence == 0 && (flags & RECORD_IN_USE != 0 || self.is_strict) {
            self.teller.tell(Rule::RecordSequence, spot.at(start.saturating_add(0x10)), "1 or more", 0);
        }
        if flags & !KNOWN_FLAGS != 0 {
            self.teller.tell(
                Rule::RecordFlags,
                spot.at(start.saturating_add(0x16)),
                format!("bits of {KNOWN_FLAGS:#x}"),
                format!("{flags:#x}"),
            );
        }
        let mut state = 0;
        if flags & RECORD_IN_USE != 0 {
            state |= IN_USE;
            if head.base_record.get() != 0 {
                state |= EXTENSION;
            } else if flags & RECORD_DIRECTORY != 0 {
                state |= DIRECTORY;
            }
        }
        if let Some(info) = self.records.get_mut(at(number)) {
            info.sequence = sequence;
            info.state |= state;
        }
        if state & IN_USE == 0 {
            return Ok(());
        }
        attributes::check(&record, number, start, &self.boot, &self.upcase, &mut self.teller);
        if state & EXTENSION != 0 {
            if head.link_count.get() != 0 {
                self.teller.tell(
                    Rule::LinkCount,
                    spot.at(start.saturating_add(0x12)),
                    "0 in an extension record",
                    head.link_count.get(),
                );
            }
            return Ok(());
        }
        self.files = self.files.saturating_add(1);
        self.directories = self.directories.saturating_add(u64::from(state & DIRECTORY != 0));
        let file = self.gather(number, &record)?;
        for extension in &file.extensions {
            self.mark(*extension, LISTED);
        }
        self.check_file(number, &head, &file)
    }

    fn mark(&mut self, number: u32, state: u8) {
        if let Some(info) = self.records.get_mut(at(number)) {
            info.state |= state;
        }
    }

    /// The attributes of a file; what is wrong with its list is told.
    fn gather(&mut self, number: u32, record: &Record<'_>) -> Result<FileAttributes, Error> {
        let mut faults = Vec::new();
        let mut keep = |record: u32, place: InList, fault| faults.push((record, place, fault));
        let mut gather = Gather { source: self.source, boot: &self.boot, mft: &self.mft, fault: &mut keep };
        let file = gather.file(number, record)?;
        for (record, place, fault) in faults {
            match place {
                // Single attributes were checked with their records.
                InList::Record if record == number && is_of_record(fault.rule) => {}
                InList::Record => {
                    self.teller.fault(Spot::record(record), self.mft.offset(u64::from(record)), &fault)
                }
                InList::List => {
                    let spot =
                        Spot::record(number).attribute(crate::disk::attribute_type::ATTRIBUTE_LIST, &[]);
                    self.teller.tell(
                        fault.rule,
                        spot.at(self.mft.offset(u64::from(number))),
                        &fault.expected,
                        format!("{} at {:#x} of the list", fault.found, fault.pos),
                    );
                }
            }
        }
        Ok(file)
    }

    /// Reads the file in record `number` once more; `None` when there is none that can be read.
    fn file(&mut self, number: u32) -> Result<Option<FileAttributes>, Error> {
        let info = self.records.get(at(number)).copied().unwrap_or_default();
        if info.state & (IN_USE | EXTENSION | DAMAGED) != IN_USE {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read = self.mft.read(self.source, u64::from(number), &mut bytes);
        let spot = Spot::record(number);
        if self.readable(spot, read)?.is_none() {
            return Ok(None);
        }
        let Ok(record) = unprotect(&mut bytes).and_then(|()| Record::parse(&bytes)) else { return Ok(None) };
        let mut ignore = |_, _, _| {};
        let mut gather = Gather { source: self.source, boot: &self.boot, mft: &self.mft, fault: &mut ignore };
        gather.file(number, &record).map(Some)
    }

    /// What was read; bytes that cannot be are told, unless it is the disk that fails.
    fn readable<T>(&mut self, spot: Spot<'_>, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error @ (Error::Corrupt { .. } | Error::Unsupported { .. })) => {
                self.teller.tell(Rule::Unreadable, spot, "bytes that can be read", error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a reference leads to a file in use.
    fn leads_to(&self, reference: u64) -> Result<RecordInfo, String> {
        let (number, sequence) = split_reference(reference);
        let info = u32::try_from(number).ok().and_then(|number| self.records.get(at(number)));
        match info {
            None => Err(format!("{}, which the MFT does not have", show_reference(reference))),
            Some(info) if info.state & IN_USE == 0 => {
                Err(format!("{}, which is free", show_reference(reference)))
            }
            Some(info) if info.state & EXTENSION != 0 => {
                Err(format!("{}, an extension record", show_reference(reference)))
            }
            Some(info) if info.sequence != sequence => {
                Err(format!("{}, which has sequence {} now", show_reference(reference), info.sequence))
            }
            Some(info) => Ok(*info),
        }
    }

    /// Extension records that no file lists.
    fn check_extensions(&mut self) {
        for (number, info) in (0u32..).zip(&self.records) {
            if info.state & (IN_USE | EXTENSION | LISTED) == IN_USE | EXTENSION {
                let spot = Spot::record(number).at(self.mft.offset(u64::from(number)));
                self.teller.tell(Rule::ExtensionLost, spot, "a file that lists the extension record", "none");
            }
        }
    }

    /// Directories that do not lead to the root.
    fn check_cycles(&mut self) {
        const OPEN: u8 = 0x40;
        const DONE: u8 = 0x80;
        self.mark(numbers::ROOT, DONE);
        for number in 0..self.mft.count() {
            let mut path = Vec::new();
            let mut now = number;
            while let Some(info) = self.records.get_mut(at(now)) {
                if info.state & DIRECTORY == 0 || info.state & DONE != 0 || info.parent == 0 {
                    break;
                }
                if info.state & OPEN != 0 {
                    let spot = Spot::record(now).at(self.mft.offset(u64::from(now)));
                    self.teller.tell(
                        Rule::Cycle,
                        spot,
                        "a directory below the root",
                        "one that lies in itself",
                    );
                    break;
                }
                info.state |= OPEN;
                path.push(now);
                now = info.parent;
            }
            for number in path {
                if let Some(info) = self.records.get_mut(at(number)) {
                    info.state = (info.state & !OPEN) | DONE;
                }
            }
        }
    }
}

/// Faults that the check of single attributes tells, too.
fn is_of_record(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::AttributeLength
            | Rule::AttributeForm
            | Rule::AttributeName
            | Rule::AttributeValue
            | Rule::VcnRange
            | Rule::CompressionUnit
            | Rule::RunsPlace
            | Rule::RecordEnd
    )
}
