//! Logs since Windows 8.1: entries one after the other, each with hashes and a sequence number.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{LOG_HEADER_BYTES, Log, Replay, marvin, resize, seal};
use crate::base::State;
use crate::image::{slice_mut, wide};

/// File type of these logs.
pub(super) const FILE_TYPE: u32 = 6;

/// Entries start at multiples of this.
const ALIGN: u32 = 512;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct EntryDisk {
    signature: [u8; 4], // 0x00  "HvLE"
    len: U32,           // 0x04  bytes of the entry, a multiple of 512
    flags: U32,         // 0x08  flags of the hive
    sequence: U32,      // 0x0c
    bins_bytes: U32,    // 0x10  of the hive after the entry
    page_count: U32,    // 0x14
    hash_1: U64,        // 0x18  of everything from 0x28
    hash_2: U64,        // 0x20  of the first 32 bytes
} // 0x28  then the places of the pages, then the pages
const ENTRY_BYTES: usize = 40;
const _: () = assert!(size_of::<EntryDisk>() == ENTRY_BYTES);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PageDisk {
    offset: U32, // 0x00  from the start of the bins
    len: U32,    // 0x04
} // 0x08

/// An entry whose hashes are right and whose pages lie inside the hive it describes.
struct Entry<'a> {
    sequence: u32,
    flags: u32,
    bins_bytes: u32,
    pages: Vec<(u32, &'a [u8])>,
}

/// The entries of a log, up to the first that does not continue them.
fn entries<'a>(log: &Log<'a>) -> (Vec<Entry<'a>>, Option<String>) {
    let mut out: Vec<Entry<'a>> = Vec::new();
    let mut rest = log.bytes.get(LOG_HEADER_BYTES..).unwrap_or_default();
    let mut at = LOG_HEADER_BYTES;
    let first = log.header.primary_sequence.get();
    while !rest.is_empty() {
        let note = |why: String| Some(format!("{}: entry at {at:#x} {why}", log.name));
        let (entry, len) = match entry(rest) {
            Ok(found) => found,
            // What was there before the log was last started anew: the usual end.
            Err(None) => break,
            Err(Some(why)) => return (out, note(why)),
        };
        let expected = out.last().map_or(first, |last| last.sequence.wrapping_add(1));
        if entry.sequence != expected {
            let why = format!("has sequence number {}, {expected} expected", entry.sequence);
            return (out, note(why));
        }
        out.push(entry);
        rest = rest.get(len..).unwrap_or_default();
        at = at.saturating_add(len);
    }
    (out, None)
}

/// The entry at the start of `bytes`, and its length; `None` as error when there is none.
fn entry(bytes: &[u8]) -> Result<(Entry<'_>, usize), Option<String>> {
    let Ok((head, _)) = EntryDisk::ref_from_prefix(bytes) else { return Err(None) };
    if head.signature != *b"HvLE" {
        return Err(None);
    }
    let len = head.len.get();
    let whole = bytes.get(..wide(len)).filter(|_| len.is_multiple_of(ALIGN));
    let whole = whole.ok_or_else(|| Some(format!("states {len} bytes, {} left", bytes.len())))?;
    let body = whole.get(ENTRY_BYTES..).unwrap_or_default();
    let head_hash = marvin::hash(whole.get(..32).unwrap_or_default());
    if head_hash != head.hash_2.get() || marvin::hash(body) != head.hash_1.get() {
        return Err(Some("does not have the hashes it states".to_owned()));
    }
    let count = wide(head.page_count.get());
    let Ok((places, mut data)) = <[PageDisk]>::ref_from_prefix_with_elems(body, count) else {
        return Err(Some(format!("states {count} pages")));
    };
    let bins_bytes = head.bins_bytes.get();
    let mut pages = Vec::new();
    for place in places {
        let (offset, len) = (place.offset.get(), place.len.get());
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= bins_bytes);
        let Some((page, after)) = data.split_at_checked(wide(len)).filter(|_| is_inside) else {
            return Err(Some(format!(
                "has a page of {len} bytes for {offset:#x} in {bins_bytes} bytes of bins"
            )));
        };
        pages.push((offset, page));
        data = after;
    }
    let entry = Entry { sequence: head.sequence.get(), flags: head.flags.get(), bins_bytes, pages };
    Ok((entry, wide(len)))
}

/// Applies all logs that continue the hive, and one another. False when nothing could be applied.
pub(super) fn apply(bytes: &mut Vec<u8>, state: &State, logs: &[Log<'_>], replay: &mut Replay) -> bool {
    let mut found: Vec<(&Log<'_>, Vec<Entry<'_>>)> = Vec::new();
    for log in logs {
        if log.header.file_type.get() != FILE_TYPE {
            replay.notes.push(format!("{} is of the old format", log.name));
            continue;
        }
        let (entries, note) = entries(log);
        replay.notes.extend(note);
        if entries.is_empty() {
            replay.notes.push(format!("{} holds no entry that can be applied", log.name));
        } else {
            found.push((log, entries));
        }
    }
    // The log with the earlier entries comes first.
    found.sort_by_key(|(_, entries)| entries.first().map(|entry| entry.sequence));
    if let State::BadChecksum { .. } = state {
        // The hive does not say where it stands: only the latest log is sure to go on from what is in it.
        let latest = found.pop();
        found.drain(..).for_each(|(log, _)| {
            replay.notes.push(format!("{} left aside: the hive's base block is damaged", log.name));
        });
        if let Some((log, entries)) = latest {
            // The log's header is a copy of the base block.
            let header = log.bytes.get(..LOG_HEADER_BYTES).unwrap_or_default();
            bytes.iter_mut().zip(header).for_each(|(to, from)| *to = *from);
            found.push((log, entries));
        }
    }
    let written = match state {
        State::Unfinished { secondary, .. } => *secondary,
        _ => 0,
    };
    let mut last: Option<u32> = None;
    for (log, entries) in &found {
        let first = entries.first().map_or(0, |entry| entry.sequence);
        if first < written {
            let why = format!("its entries start at {first}, the hive has {written} already");
            replay.notes.push(format!("{} left aside: {why}", log.name));
            continue;
        }
        if let Some(last) = last.filter(|last| last.wrapping_add(1) != first) {
            let why = format!("its entries start at {first} and do not follow {last}");
            replay.notes.push(format!("{} left aside: {why}", log.name));
            continue;
        }
        for entry in entries {
            if !apply_entry(bytes, entry) {
                replay.notes.push(format!("{}: entry {} does not fit the hive", log.name, entry.sequence));
                return false;
            }
            replay.entries = replay.entries.saturating_add(1);
            replay.pages = replay.pages.saturating_add(entry.pages.len());
            let first = replay.sequences.map_or(entry.sequence, |(first, _)| first);
            replay.sequences = Some((first, entry.sequence));
            last = Some(entry.sequence);
        }
    }
    last.is_some()
}

fn apply_entry(bytes: &mut Vec<u8>, entry: &Entry<'_>) -> bool {
    if !resize(bytes, entry.bins_bytes) {
        return false;
    }
    for (offset, page) in &entry.pages {
        let len = u32::try_from(page.len()).unwrap_or(u32::MAX);
        let Some(target) = slice_mut(bytes, *offset, len) else { return false };
        target.copy_from_slice(page);
    }
    seal(bytes, entry.sequence.wrapping_add(1), entry.bins_bytes, Some(entry.flags));
    true
}
