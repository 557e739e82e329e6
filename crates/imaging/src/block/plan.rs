//! What a device is, before it is captured: partitions, file systems, which bytes they use. What is not known for certain to be free
//! is kept; a file system whose maps may be behind its files is refused, unless everything is asked for.

use std::ops::Range;
use std::sync::Arc;

use gravure_blockimg::facts::{FACTS_VERSION, Facts, Hardware, PartitionTable, Scope, Source, Volume};
use gravure_blockimg::{Exclusion, FileSpan, UsedSpan};
use gravure_disk::{FoundKind, Table};
use gravure_fsmap::{Basis, Class, Excluded, Exclusions, Fallback, Owner, State, UsedMap};
use gravure_io::{ReadAt, Window};
use gravure_model::Ctl;
use gravure_unlock::Key;

use super::misfit::find_windows;
use super::{BlockLayout, BlockSource, opened};
use crate::{Error, ErrorKind};

/// Bytes at the ends of a disk that are kept whatever the table says: boot code, tables, their backups.
const ENDS_BYTES: u64 = 1 << 20;
/// File extents of all partitions together: 16 MiB, and as much again while they are collected.
const MAX_EXTENTS: usize = 1 << 19;
/// Runs of all partitions together: 12 MiB.
const MAX_RUNS: usize = 1 << 19;

/// How a device is looked at.
#[derive(Debug, Clone, Default)]
pub struct BlockPlanOptions {
    /// Name of the image.
    pub name: String,
    /// In words.
    pub description: Option<String>,
    /// When it is made; `None` where equal devices are to give equal images.
    pub created_unix_seconds: Option<i64>,
    /// Which bytes are kept.
    pub keep: Keep,
    /// The machine it is made on.
    pub hardware: Option<Hardware>,
    /// Image that it is made after.
    pub parent: Option<gravure_blockimg::ChunkId>,
    /// Keys of encrypted volumes (LUKS, BitLocker), tried one after the other. What is opened is imaged as what is inside: the image is
    /// not encrypted, nor is what is restored from it.
    pub keys: Vec<Key>,
}

/// Which bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Those that file systems use; page files, hibernation files and swap are left out.
    #[default]
    Used,
    /// As `Used`, but all of a file system that is unclean or encrypted.
    UsedOrEverything,
    /// All bytes, whatever stands there.
    Everything,
}

/// A device with its map. Reads as the device does, below replayed journals.
pub struct BlockPlan {
    source: BlockSource,
    /// Where volumes begin that were opened with a key, and what they are.
    opened: Vec<(u64, FoundKind)>,
    parts: Vec<Part>,
    layout: BlockLayout,
    facts: Facts,
}

struct Part {
    offset: u64,
    len: u64,
    map: UsedMap,
}

impl std::fmt::Debug for BlockPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockPlan").field("source", &self.source).finish_non_exhaustive()
    }
}

/// A partition as its table has it.
#[derive(Debug, Default)]
struct Listed {
    number: Option<u32>,
    offset: u64,
    len: u64,
    kind: Option<String>,
    guid: Option<String>,
    name: Option<String>,
    /// A table of its own, no file system.
    is_extended: bool,
}

impl Listed {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.len
    }

    /// In an extended partition.
    fn is_logical(&self) -> bool {
        self.kind.is_some() && self.guid.is_none() && self.number.is_some_and(|number| number > 4)
    }
}

impl BlockPlan {
    /// Looks at `source`. Nothing is written.
    pub fn new(source: BlockSource, options: &BlockPlanOptions, ctl: &Ctl) -> Result<Self, Error> {
        let size = source.size();
        let (table, listed) = partitions(&source, options.keep)?;
        // What an extended partition has beside its logical ones is kept: their records, and whatever stands between them.
        let (extended, listed): (Vec<_>, Vec<_>) = listed.into_iter().partition(|part| part.is_extended);
        let extended: Vec<Range<u64>> = extended.iter().map(Listed::range).collect();
        let (source, opened) = open_encrypted(source, &listed, &options.keys)?;
        let scope = if table.is_some() { Scope::Disk } else { Scope::Volume };
        let facts = Facts {
            version: FACTS_VERSION,
            name: options.name.clone(),
            description: options.description.clone(),
            created_unix_seconds: options.created_unix_seconds,
            writer: concat!("gravure ", env!("CARGO_PKG_VERSION")).to_owned(),
            source: Source {
                name: source.name().to_owned(),
                size_bytes: size,
                sector_bytes: source.sector_bytes(),
                physical_sector_bytes: source.physical_sector_bytes(),
                ..Source::default()
            },
            scope,
            table,
            volumes: Vec::new(),
            files: None,
            parent: options.parent,
            hardware: options.hardware.clone(),
        };
        let mut this = Self { source, opened, parts: Vec::new(), layout: BlockLayout::default(), facts };
        let share = listed.len().max(1);
        let mut end = 0;
        let mut used = Vec::new();
        for part in listed {
            ctl.check()?;
            // Before and between partitions: boot code and old boot loaders near the ends, else nothing.
            used.extend(gap(end, part.offset, size));
            used.extend(within(&extended, end..part.offset));
            end = end.max(part.offset + part.len);
            this.add(&part, share, options, ctl, &mut used)?;
        }
        used.extend(gap(end, size, size));
        used.extend(within(&extended, end..size));
        this.layout.used = merged(used, size);
        Ok(this)
    }

    fn add(
        &mut self,
        part: &Listed,
        share: usize,
        options: &BlockPlanOptions,
        ctl: &Ctl,
        used: &mut Vec<UsedSpan>,
    ) -> Result<(), Error> {
        let window = Window::new(&self.source, part.offset, part.len);
        let goes_on = || ctl.check().is_ok();
        let map_options = gravure_fsmap::Options {
            exclude: if options.keep == Keep::Everything { Exclusions::NONE } else { Exclusions::ALL },
            fallback: match options.keep {
                Keep::Used => Fallback::Refuse,
                Keep::UsedOrEverything | Keep::Everything => Fallback::Everything,
            },
            max_runs: (MAX_RUNS / share).max(16),
            max_extents: if options.keep == Keep::Everything { 0 } else { MAX_EXTENTS / share },
            goes_on: &goes_on,
        };
        let mut volume = Volume {
            number: part.number,
            offset_bytes: part.offset,
            size_bytes: part.len,
            partition_type: part.kind.clone(),
            partition_guid: part.guid.clone(),
            partition_name: part.name.clone(),
            basis: "everything".to_owned(),
            ..Volume::default()
        };
        if let Some((_, kind)) = self.opened.iter().find(|(offset, _)| *offset == part.offset) {
            volume.notes.push(format!(
                "opened with a key: the source is encrypted ({}), the image and what is restored from it are not",
                kind.name()
            ));
        }
        let map = match options.keep {
            Keep::Everything => None,
            _ => match gravure_fsmap::map(&window, &map_options) {
                Ok(map) => Some(map),
                // All of it is always right.
                Err(gravure_fsmap::Error::Unsupported { what, value }) => {
                    volume.notes.push(format!("everything is kept: {what} not supported: {value}"));
                    None
                }
                Err(error) => return Err(self.refused(part, error)),
            },
        };
        let Some(mut map) = map else {
            volume.content = gravure_fsmap::probe(&window)
                .map_or_else(|_| "unknown".to_owned(), |probe| probe.kind.name().to_owned());
            volume.has_windows = has_windows(&volume, &window);
            volume.used_bytes = part.len;
            used.push(keep(part.offset, part.len));
            self.facts.volumes.push(volume);
            return Ok(());
        };
        describe(&mut volume, &map);
        volume.has_windows = has_windows(&volume, &window);
        used.extend(map.runs.iter().map(|run| UsedSpan {
            offset: part.offset + run.offset,
            len: run.len,
            excluded: excluded(run.class),
        }));
        // The map's own lists are not needed any more; a journal that was replayed is.
        map.runs = Vec::new();
        let extents = std::mem::take(&mut map.extents);
        self.layout.files.extend(extents.into_iter().map(|extent| FileSpan {
            offset: part.offset + extent.offset,
            len: extent.len,
            file_offset: extent.file_offset,
            content: extent.content,
        }));
        self.facts.volumes.push(volume);
        self.parts.push(Part { offset: part.offset, len: part.len, map });
        Ok(())
    }

    fn refused(&self, part: &Listed, error: gravure_fsmap::Error) -> Error {
        let name = part_name(&self.source, part);
        match error {
            gravure_fsmap::Error::Refused { kind, reason } => {
                Error::Refused { what: format!("imaging {name}"), why: format!("{}: {reason}", kind.name()) }
            }
            error => {
                let kind = match &error {
                    gravure_fsmap::Error::Io { .. } => ErrorKind::Io,
                    gravure_fsmap::Error::Stopped => ErrorKind::Interrupted,
                    gravure_fsmap::Error::Unsupported { .. } => ErrorKind::Unsupported,
                    _ => ErrorKind::Integrity,
                };
                Error::Other { what: format!("map {name}"), source: error.into(), kind }
            }
        }
    }

    /// What is kept.
    pub fn layout(&self) -> &BlockLayout {
        &self.layout
    }

    /// What the image will say of itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Name of the device.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// Names the files that lie in a range, as far as the file system tells.
    pub fn hits(&self, range: &Range<u64>) -> Vec<String> {
        let mut out = Vec::new();
        for part in &self.parts {
            let (start, end) = (range.start.max(part.offset), range.end.min(part.offset + part.len));
            if start >= end {
                continue;
            }
            let window = Window::new(&self.source, part.offset, part.len);
            let inside = start - part.offset..end - part.offset;
            // Metadata that cannot be read either leaves the names unknown.
            let owned =
                gravure_fsmap::owners(&part.map.overlaid(&window), std::slice::from_ref(&inside), &|| true);
            for owned in owned.unwrap_or_default() {
                match owned.owner {
                    Owner::File(names) => out.extend(names),
                    Owner::Free => {}
                    other => out.push(other.to_string()),
                }
            }
        }
        out.dedup();
        out
    }
}

impl ReadAt for BlockPlan {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        let end = offset + buf.len() as u64;
        let mut at = offset;
        while at < end {
            let part = self
                .parts
                .iter()
                .find(|part| part.map.overlay.is_some() && part.offset + part.len > at && part.offset < end);
            let place = |from: u64, to: u64| (from - offset) as usize..(to - offset) as usize;
            let Some(part) = part else { return self.source.read_exact_at(at, &mut buf[place(at, end)]) };
            if part.offset > at {
                self.source.read_exact_at(at, &mut buf[place(at, part.offset)])?;
                at = part.offset;
            }
            let stop = end.min(part.offset + part.len);
            let window = Window::new(&self.source, part.offset, part.len);
            part.map.overlaid(&window).read_exact_at(at - part.offset, &mut buf[place(at, stop)])?;
            at = stop;
        }
        Ok(())
    }
}

/// Opens the encrypted volumes of a source that one of `keys` fits; which they are, by their offset.
fn open_encrypted(
    source: BlockSource,
    listed: &[Listed],
    keys: &[Key],
) -> Result<(BlockSource, Vec<(u64, FoundKind)>), Error> {
    if keys.is_empty() {
        return Ok((source, Vec::new()));
    }
    let shared = Arc::new(source);
    let (mut opened, mut kinds) = (Vec::new(), Vec::new());
    for part in listed {
        let name = part_name(&shared, part);
        if let Some((kind, volume)) = opened::open(&shared, part.offset..part.offset + part.len, &name, keys)?
        {
            kinds.push((part.offset, kind));
            opened.push(volume);
        }
    }
    Ok((BlockSource::opened(&shared, opened), kinds))
}

fn part_name(source: &BlockSource, part: &Listed) -> String {
    match part.number {
        Some(number) => format!("partition {number} of {}", source.name()),
        None => source.name().to_owned(),
    }
}

/// The partitions of a disk, ascending, extended ones before those in them; one as large as the device where there is no table.
fn partitions(source: &BlockSource, keep: Keep) -> Result<(Option<PartitionTable>, Vec<Listed>), Error> {
    let (table, mut listed) = listed_partitions(source)?;
    let refuse = |why: String| Error::Refused { what: format!("imaging {}", source.name()), why };
    if overlap(listed.iter().filter(|part| !part.is_logical())) {
        return Err(refuse("partitions of its table overlap".to_owned()));
    }
    let extended: Vec<Range<u64>> =
        listed.iter().filter(|part| part.is_extended).map(Listed::range).collect();
    let is_inside = |part: &Listed| {
        let range = part.range();
        extended.iter().any(|outer| outer.start < range.start && range.end <= outer.end)
    };
    let outside =
        listed.iter().find(|part| part.is_logical() && !is_inside(part)).and_then(|part| part.number);
    let why = match outside {
        Some(number) => Some(format!("logical partition {number} lies outside of the extended one")),
        None if overlap(listed.iter().filter(|part| part.is_logical())) => {
            Some("logical partitions of its table overlap".to_owned())
        }
        None => None,
    };
    match why {
        // Then it does not matter where they are.
        Some(_) if keep == Keep::Everything => listed.retain(|part| !part.is_logical()),
        Some(why) => return Err(refuse(why)),
        None => {}
    }
    Ok((table, listed))
}

/// Whether one of several, ascending, reaches into the next.
fn overlap<'a>(parts: impl Iterator<Item = &'a Listed>) -> bool {
    let ranges: Vec<Range<u64>> = parts.map(Listed::range).collect();
    ranges.windows(2).any(|pair| pair[0].end > pair[1].start)
}

/// What of `range` lies in one of `outer`.
fn within(outer: &[Range<u64>], range: Range<u64>) -> impl Iterator<Item = UsedSpan> + '_ {
    let common = outer.iter().map(move |outer| outer.start.max(range.start)..outer.end.min(range.end));
    common
        .filter(|common| common.start < common.end)
        .map(|common| keep(common.start, common.end - common.start))
}

/// The same with every partition that the table names, those in others, too.
fn listed_partitions(source: &BlockSource) -> Result<(Option<PartitionTable>, Vec<Listed>), Error> {
    let sector = source.sector_bytes();
    let size = source.size();
    let whole = || vec![Listed { len: size, ..Listed::default() }];
    let found = gravure_disk::recognise(&source).map_err(|error| disk_error(source, error))?;
    let read = Table::read(&source, sector).map_err(|error| disk_error(source, error))?;
    let bytes = u64::from(sector);
    let (table, mut listed): (PartitionTable, Vec<Listed>) = match read {
        Table::Empty => return Ok((None, whole())),
        // A boot sector of a file system passes for a table by its signature.
        Table::Mbr(_) if !found.is_empty() => return Ok((None, whole())),
        Table::Mbr(mbr) => {
            let table = PartitionTable {
                kind: "mbr".to_owned(),
                identifier: format!("{:08x}", mbr.disk_signature),
                sector_bytes: Some(sector),
            };
            let listed = mbr.entries.iter().map(|entry| Listed {
                number: Some(entry.number),
                offset: entry.first_lba.saturating_mul(bytes),
                len: entry.sectors.saturating_mul(bytes),
                kind: Some(format!("{:02x}", entry.kind)),
                is_extended: gravure_disk::mbr::is_extended(entry.kind),
                ..Listed::default()
            });
            (table, listed.collect())
        }
        Table::Gpt { gpt, sector_bytes, .. } => {
            let bytes = u64::from(sector_bytes);
            let table = PartitionTable {
                kind: "gpt".to_owned(),
                identifier: gpt.disk_guid.to_string(),
                sector_bytes: Some(sector_bytes),
            };
            let listed = gpt.entries.iter().map(|entry| Listed {
                number: Some(entry.number),
                offset: entry.first_lba.saturating_mul(bytes),
                len: (entry.last_lba.saturating_sub(entry.first_lba) + 1).saturating_mul(bytes),
                kind: Some(entry.type_guid.to_string()),
                guid: Some(entry.unique_guid.to_string()),
                name: Some(entry.name.clone()).filter(|name| !name.is_empty()),
                is_extended: false,
            });
            (table, listed.collect())
        }
        Table::BrokenGpt { faults } => {
            return Err(Error::Refused {
                what: format!("imaging {}", source.name()),
                why: format!("its partition table is damaged: {}", faults.join("; ")),
            });
        }
    };
    listed.retain(|part| part.len > 0 && part.offset < size);
    listed.iter_mut().for_each(|part| part.len = part.len.min(size - part.offset));
    listed.sort_by_key(|part| (part.offset, !part.is_extended));
    Ok((Some(table), listed))
}

/// Where partition `number` of a disk lies, and its number; without a number the only one that `is_wanted` by its first bytes. A disk
/// without a table is a volume itself.
pub(crate) fn find_partition(
    source: &BlockSource,
    number: Option<u32>,
    is_wanted: impl Fn(&dyn ReadAt) -> bool,
) -> Result<(Option<u32>, Range<u64>), Error> {
    let (table, listed) = listed_partitions(source)?;
    let place = |part: &Listed| (part.number, part.offset..part.offset + part.len);
    let numbers = || {
        let numbers: Vec<String> = listed.iter().filter_map(|part| Some(part.number?.to_string())).collect();
        if numbers.is_empty() { "none".to_owned() } else { numbers.join(", ") }
    };
    let whole = listed.first().filter(|_| table.is_none());
    match (number, whole) {
        (None, Some(whole)) => Ok(place(whole)),
        (Some(number), Some(_)) => {
            let which = format!("{number} of {}, which has no partition table", source.name());
            Err(Error::NotFound { what: "partition", which })
        }
        (Some(number), None) => {
            let found = listed.iter().find(|part| part.number == Some(number));
            found.map(place).ok_or_else(|| Error::NotFound {
                what: "partition",
                which: format!("{number} of {}; it has {}", source.name(), numbers()),
            })
        }
        (None, None) => {
            let wanted = listed.iter().filter(|part| is_wanted(&Window::new(source, part.offset, part.len)));
            match wanted.collect::<Vec<_>>().as_slice() {
                [only] => Ok(place(only)),
                several => Err(Error::Usage {
                    what: format!("partition of {}", source.name()),
                    expected: format!("one of {}, as FILE:NUMBER", numbers()),
                    found: format!("none named, and {} that could be meant", several.len()),
                }),
            }
        }
    }
}

fn disk_error(source: &BlockSource, error: gravure_disk::Error) -> Error {
    Error::Other { what: format!("look at {}", source.name()), source: error.into(), kind: ErrorKind::Io }
}

fn keep(offset: u64, len: u64) -> UsedSpan {
    UsedSpan { offset, len, excluded: None }
}

/// What is kept of a gap between partitions: what lies near the ends of the disk.
fn gap(start: u64, end: u64, size: u64) -> impl Iterator<Item = UsedSpan> {
    let head = start.min(end)..end.min(ENDS_BYTES.max(start));
    // Boot loaders of old disks use everything before the first partition.
    let head = if start == 0 { 0..end.min(ENDS_BYTES * 2) } else { head };
    let tail = start.max(size.saturating_sub(ENDS_BYTES)).max(head.end)..end;
    [head, tail]
        .into_iter()
        .filter(|range| range.start < range.end)
        .map(|range| keep(range.start, range.end - range.start))
}

/// Ascending, without overlaps; neighbours of one kind are one.
fn merged(mut spans: Vec<UsedSpan>, size: u64) -> Vec<UsedSpan> {
    spans.sort_by_key(|span| span.offset);
    let mut out: Vec<UsedSpan> = Vec::with_capacity(spans.len());
    for mut span in spans {
        let end = (span.offset + span.len).min(size);
        span.offset = span.offset.max(out.last().map_or(0, |last| last.offset + last.len));
        if span.offset >= end {
            continue;
        }
        span.len = end - span.offset;
        match out.last_mut() {
            Some(last) if last.excluded == span.excluded && last.offset + last.len == span.offset => {
                last.len += span.len;
            }
            _ => out.push(span),
        }
    }
    out
}

fn excluded(class: Class) -> Option<Exclusion> {
    match class {
        Class::Used => None,
        Class::Excluded(Excluded::PageFile) => Some(Exclusion::PageFile),
        Class::Excluded(Excluded::Hibernation) => Some(Exclusion::Hibernation),
        Class::Excluded(Excluded::Swap) => Some(Exclusion::Swap),
        // What a later version leaves out is kept by this one.
        Class::Excluded(_) => None,
    }
}

fn describe(volume: &mut Volume, map: &UsedMap) {
    let probe = &map.probe;
    volume.content = probe.kind.name().to_owned();
    volume.label.clone_from(&probe.label);
    volume.uuid.clone_from(&probe.uuid);
    volume.state = Some(match probe.state {
        State::Clean => "clean".to_owned(),
        State::NeedsReplay => "journal replayed".to_owned(),
        State::Unclean(reason) => reason.to_string(),
        _ => "unknown".to_owned(),
    });
    volume.basis = match map.basis {
        Basis::Allocation => "allocation".to_owned(),
        _ => "everything".to_owned(),
    };
    volume.used_bytes = map.kept();
    volume.excluded_bytes = map.excluded();
    let replayed = map.overlay.iter().flat_map(|overlay| overlay.ranges());
    volume.replayed_bytes = replayed.map(|range| range.end - range.start).sum();
    volume.details = probe.facts.iter().map(|fact| (fact.name.to_owned(), fact.value.clone())).collect();
    volume.notes.extend(map.notes.iter().cloned());
}

/// What an image says of its NTFS volumes: whether there is a Windows on it.
fn has_windows(volume: &Volume, window: &dyn ReadAt) -> Option<bool> {
    (volume.content == gravure_fsmap::Kind::Ntfs.name()).then(|| find_windows(window)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_keep_what_is_near_the_ends() {
        const MIB: u64 = 1 << 20;
        let size = 100 * MIB;
        let kept = |start, end| gap(start, end, size).map(|span| (span.offset, span.len)).collect::<Vec<_>>();
        assert_eq!(kept(0, MIB), [(0, MIB)]);
        assert_eq!(kept(0, 50 * MIB), [(0, 2 * MIB)]);
        assert_eq!(kept(20 * MIB, 50 * MIB), []);
        assert_eq!(kept(90 * MIB, size), [(99 * MIB, MIB)]);
        assert_eq!(kept(size - 512, size), [(size - 512, 512)]);
        assert_eq!(kept(30, 30), []);
    }

    #[test]
    fn spans_are_put_in_order() {
        let spans = vec![keep(100, 50), keep(0, 40), keep(40, 10), keep(120, 100)];
        let merged: Vec<_> = merged(spans, 200).iter().map(|span| (span.offset, span.len)).collect();
        assert_eq!(merged, [(0, 50), (100, 100)]);
    }
}
