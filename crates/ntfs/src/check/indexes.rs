//! Indexes of names: their order, and that they list exactly the names that files have.

use super::finding::{Spot, Teller};
use super::names::{Match, Names, exact_len};
use super::{Checker, DAMAGED, DIRECTORY, EXTENSION, IN_USE};
use crate::Error;
use crate::disk::{UpCase, attribute_type as types, collation, namespace, reference};
use crate::read::bytes::{at, show_reference, split_reference, u32_at, wide};
use crate::read::fault::Fault;
use crate::read::gather::{FileAttributes, Value};
use crate::read::index::{Entry, IndexKind, IndexParts, Visitor, walk};
use crate::read::names::FileName;
use crate::read::volume::{MAX_INDEX_BITMAP_BYTES, NAME_INDEX};
use crate::rule::Rule;

/// Directories between two questions whether to go on.
const STEP: u32 = 256;

/// An entry that no file's name equals, to be looked at when the walk is over.
struct Odd {
    offset: u64,
    reference: u64,
    key: Vec<u8>,
    answer: Match,
}

/// Goes through the index of one directory.
struct NameVisitor<'c, 'a> {
    teller: &'c mut Teller<'a>,
    names: &'c mut Names,
    upcase: &'c UpCase,
    is_strict: bool,
    directory: u32,
    reference: u64,
    before: Option<(Vec<u16>, u8)>,
    odd: Vec<Odd>,
}

/// Odd entries of one directory that are looked at.
const MAX_ODD: usize = 1000;

impl NameVisitor<'_, '_> {
    fn spot(&self, offset: u64) -> Spot<'static> {
        Spot::record(self.directory).attribute(types::INDEX_ROOT, &NAME_INDEX).at(offset)
    }
}

impl Visitor for NameVisitor<'_, '_> {
    fn entry(&mut self, entry: &Entry<'_>) {
        let spot = self.spot(entry.offset);
        let Some(name) = FileName::parse(entry.key) else {
            self.teller.tell(Rule::IndexKey, spot, "a whole name", format!("{} bytes", entry.key.len()));
            return;
        };
        if entry.key.len() != exact_len(entry.key) {
            self.teller.tell(
                Rule::IndexKey,
                spot,
                format!("{} bytes", exact_len(entry.key)),
                entry.key.len(),
            );
        }
        if name.head.parent.get() != self.reference {
            let (expected, found) = (show_reference(self.reference), show_reference(name.head.parent.get()));
            self.teller.tell(Rule::EntryParent, spot.at(entry.offset.saturating_add(0x10)), expected, found);
        }
        let units = name.units();
        if let Some((before, space)) = &self.before {
            let order = self.upcase.collate(before, &units);
            if order.is_eq() {
                let expected = format!("one name {:?}", name.show());
                self.teller.tell(Rule::NameClash, spot, expected, "two of them");
            } else if order.is_gt() {
                let (expected, found) = (String::from_utf16_lossy(before), name.show());
                self.teller.tell(
                    Rule::IndexOrder,
                    spot,
                    format!("a name behind {expected:?}"),
                    format!("{found:?}"),
                );
            } else if self.upcase.compare(before, &units).is_eq()
                && *space != namespace::POSIX
                && name.head.namespace != namespace::POSIX
            {
                let found = String::from_utf16_lossy(before);
                self.teller.tell(
                    Rule::NameClash,
                    spot,
                    format!("one name {:?} in any case", name.show()),
                    format!("{found:?} beside it"),
                );
            }
        }
        self.before = Some((units, name.head.namespace));
        let answer = self.names.find(entry.reference, entry.key);
        // Drivers bring times and sizes up to date here and leave the record's copy as it was when the file got its name.
        let is_fine = answer == Match::Same || (answer == Match::Differs && !self.is_strict);
        if !is_fine && self.odd.len() < MAX_ODD {
            self.odd.push(Odd {
                offset: entry.offset,
                reference: entry.reference,
                key: entry.key.to_vec(),
                answer,
            });
        }
    }

    fn fault(&mut self, start: u64, fault: Fault) {
        let spot = Spot::record(self.directory).attribute(types::INDEX_ROOT, &NAME_INDEX);
        self.teller.fault(spot, start, &fault);
    }
}

impl Checker<'_> {
    /// The indexes of all directories.
    pub(super) fn check_directories(&mut self) -> Result<(), Error> {
        let count = self.mft.count();
        for number in 0..count {
            if number.is_multiple_of(STEP) && !self.teller.goes_on(number, count) {
                return Err(Error::Stopped);
            }
            let state = self.records.get(at(number)).map_or(0, |info| info.state);
            if state & (IN_USE | DIRECTORY | EXTENSION | DAMAGED) == IN_USE | DIRECTORY
                && let Some(file) = self.file(number)?
            {
                self.check_directory(number, &file)?;
            }
        }
        Ok(())
    }

    fn check_directory(&mut self, number: u32, file: &FileAttributes) -> Result<(), Error> {
        let Some(root) = file.get(types::INDEX_ROOT, &NAME_INDEX) else { return Ok(()) };
        let Value::Resident { bytes, pos } = &root.value else { return Ok(()) };
        let offset = self.mft.offset(u64::from(root.record)).saturating_add(wide(*pos));
        let spot = Spot::record(number).attribute(types::INDEX_ROOT, &NAME_INDEX).at(offset);
        let (kind, order) = (u32_at(bytes, 0).unwrap_or(0), u32_at(bytes, 4).unwrap_or(0));
        if kind != types::FILE_NAME {
            self.teller.tell(Rule::IndexType, spot, format!("{:#x}", types::FILE_NAME), format!("{kind:#x}"));
        }
        if order != collation::FILE_NAME {
            self.teller.tell(
                Rule::IndexCollation,
                spot.at(offset.saturating_add(4)),
                collation::FILE_NAME,
                order,
            );
        }
        let sequence = self.records.get(at(number)).map_or(0, |info| info.sequence);
        let mut visitor = NameVisitor {
            teller: &mut self.teller,
            names: &mut self.names,
            upcase: &self.upcase,
            is_strict: self.is_strict,
            directory: number,
            reference: reference(number, sequence),
            before: None,
            odd: Vec::new(),
        };
        walk_index(self.source, &self.boot, &self.mft, file, &NAME_INDEX, IndexKind::Names, &mut visitor)?;
        for odd in std::mem::take(&mut visitor.odd) {
            self.explain(number, &odd)?;
        }
        Ok(())
    }

    /// Says what is wrong with an entry.
    fn explain(&mut self, directory: u32, odd: &Odd) -> Result<(), Error> {
        let spot = Spot::record(directory).attribute(types::INDEX_ROOT, &NAME_INDEX).at(odd.offset);
        let shown = FileName::parse(&odd.key).map_or_else(String::new, |name| name.show());
        if odd.answer == Match::Again {
            self.teller.tell(Rule::EntryTwice, spot, format!("one entry for {shown:?}"), "another");
            return Ok(());
        }
        if let Err(why) = self.leads_to(odd.reference) {
            self.teller.tell(Rule::EntryTarget, spot, format!("a file for {shown:?}"), why);
            return Ok(());
        }
        let rule = if odd.answer == Match::Differs { Rule::EntryCopy } else { Rule::EntryName };
        if !self.teller.is_told(rule) {
            self.teller.tell(rule, spot, "", "");
            return Ok(());
        }
        let number = u32::try_from(split_reference(odd.reference).0).unwrap_or(u32::MAX);
        let file = self.file(number)?;
        let names =
            file.iter().flat_map(|file| file.all(types::FILE_NAME)).filter_map(|found| found.resident());
        let tail = |value: &[u8]| value.get(0x40..).map(<[u8]>::to_vec);
        let same = names
            .filter(|value| tail(value) == tail(&odd.key))
            .find(|value| odd.answer != Match::Differs || value.get(..8) == odd.key.get(..8));
        match same {
            Some(value) => {
                let pos = value.iter().zip(&odd.key).position(|(a, b)| a != b).unwrap_or(0);
                let (field, start, len) = field_at(pos);
                let hex = |bytes: &[u8]| {
                    format!("{:02x?}", bytes.get(start..start.saturating_add(len)).unwrap_or_default())
                };
                let spot = spot.at(odd.offset.saturating_add(0x10).saturating_add(wide(start)));
                let expected = format!("{field} of {shown:?} as record {number} has it, {}", hex(value));
                self.teller.tell(rule, spot, expected, hex(&odd.key));
            }
            None => {
                let space = odd.key.get(0x41).copied().unwrap_or(0);
                self.teller.tell(
                    rule,
                    spot,
                    format!("a name of record {number}"),
                    format!("{shown:?}, namespace {space}, which it does not have"),
                );
            }
        }
        Ok(())
    }

    /// Names of files that no index lists.
    pub(super) fn check_unlisted(&mut self) -> Result<(), Error> {
        let mut records: Vec<u32> = self.names.unlisted().collect();
        records.sort_unstable();
        records.dedup();
        for number in records {
            let start = self.mft.offset(u64::from(number));
            let spot = Spot::record(number).attribute(types::FILE_NAME, &[]).at(start);
            if !self.teller.is_told(Rule::NameUnlisted) {
                self.teller.tell(Rule::NameUnlisted, spot, "", "");
                continue;
            }
            let Some(file) = self.file(number)? else { continue };
            let sequence = self.records.get(at(number)).map_or(0, |info| info.sequence);
            for found in file.all(types::FILE_NAME) {
                let Some(value) = found.resident() else { continue };
                let Some(name) = FileName::parse(value) else { continue };
                if self.names.is_listed(reference(number, sequence), value) {
                    continue;
                }
                let parent = name.head.parent.get();
                match self.leads_to(parent) {
                    Err(why) => self.teller.tell(
                        Rule::NameParent,
                        spot,
                        format!("a directory for {:?}", name.show()),
                        why,
                    ),
                    Ok(info) if info.state & DIRECTORY == 0 => {
                        self.teller.tell(
                            Rule::NameParent,
                            spot,
                            format!("a directory for {:?}", name.show()),
                            format!("{}, a file", show_reference(parent)),
                        );
                    }
                    Ok(_) => {
                        let expected =
                            format!("an entry for {:?} in {}", name.show(), show_reference(parent));
                        self.teller.tell(Rule::NameUnlisted, spot, expected, "none");
                    }
                }
            }
        }
        Ok(())
    }
}

/// Field of a $FILE_NAME at a position, its start and length.
fn field_at(pos: usize) -> (&'static str, usize, usize) {
    match pos {
        0..8 => ("directory", 0, 8),
        8..0x10 => ("time of creation", 8, 8),
        0x10..0x18 => ("time of writing", 0x10, 8),
        0x18..0x20 => ("time of change", 0x18, 8),
        0x20..0x28 => ("time of access", 0x20, 8),
        0x28..0x30 => ("allocated size", 0x28, 8),
        0x30..0x38 => ("size", 0x30, 8),
        0x38..0x3c => ("attributes", 0x38, 4),
        0x3c..0x40 => ("reparse tag or size of extended attributes", 0x3c, 4),
        _ => ("name", 0x40, 2),
    }
}

/// Walks an index of a file.
pub(super) fn walk_index(
    source: &dyn gravure_io::ReadAt,
    boot: &crate::read::boot::BootSector,
    mft: &crate::read::mft::Mft,
    file: &FileAttributes,
    name: &[u16],
    kind: IndexKind,
    visitor: &mut dyn Visitor,
) -> Result<(), Error> {
    let Some(root) = file.get(types::INDEX_ROOT, name) else { return Ok(()) };
    let Value::Resident { bytes, pos } = &root.value else { return Ok(()) };
    let root_offset = mft.offset(u64::from(root.record)).saturating_add(wide(*pos));
    let blocks = match file.get(types::INDEX_ALLOCATION, name).map(|found| &found.value) {
        Some(Value::Clusters { stream, .. }) => Some(stream),
        _ => None,
    };
    let bitmap = file.get(types::BITMAP, name).map(|found| found.read(source, MAX_INDEX_BITMAP_BYTES));
    let bitmap = match bitmap.transpose() {
        Err(error @ Error::Io { .. }) => return Err(error),
        // Sizes were told with the file.
        other => other.ok().flatten().flatten(),
    };
    let parts = IndexParts { root: bytes, root_offset, blocks, bitmap: bitmap.as_deref(), kind };
    match walk(source, boot, &parts, visitor) {
        Err(error @ Error::Corrupt { .. }) => {
            visitor.fault(root_offset, Fault::new(Rule::IndexRead, 0, "blocks that can be read", error));
            Ok(())
        }
        other => other,
    }
}
