//! Logs before Windows 8.1: a bitmap of pages, then the pages.

use super::{LOG_HEADER_BYTES, Log, Replay, new, resize, seal};
use crate::base::{BaseDisk, State};
use crate::image::{slice_mut, wide};
use zerocopy::FromBytes as _;

/// Bytes of a page.
const PAGE: u32 = 512;

/// Applies the first log that belongs to the hive. False when none does.
pub(super) fn apply(bytes: &mut Vec<u8>, state: &State, logs: &[Log<'_>], replay: &mut Replay) -> bool {
    for log in logs.iter().filter(|log| log.header.file_type.get() != new::FILE_TYPE) {
        match apply_log(bytes, state, log) {
            Ok(pages) => {
                let sequence = log.header.primary_sequence.get();
                (replay.entries, replay.pages) = (1, pages);
                replay.sequences = Some((sequence, sequence));
                return true;
            }
            Err(why) => replay.notes.push(format!("{} {why}", log.name)),
        }
    }
    false
}

fn apply_log(bytes: &mut Vec<u8>, state: &State, log: &Log<'_>) -> Result<usize, String> {
    belongs(bytes, state, log)?;
    let bins_bytes = log.header.bins_bytes.get();
    let rest = log.bytes.get(LOG_HEADER_BYTES..).unwrap_or_default();
    let bitmap = rest.strip_prefix(b"DIRT".as_slice()).ok_or("has no bitmap \"DIRT\"")?;
    // One bit a page; the pages follow at the next multiple of 512.
    let page_count = bins_bytes.div_ceil(PAGE);
    let bitmap_bytes = wide(page_count.div_ceil(8));
    let bitmap =
        bitmap.get(..bitmap_bytes).ok_or_else(|| format!("has no bitmap of {bitmap_bytes} bytes"))?;
    let data_at = bitmap_bytes.saturating_add(4).next_multiple_of(wide(PAGE));
    let mut data = rest.get(data_at..).unwrap_or_default();
    let mut pages = Vec::new();
    for page in 0..page_count {
        let byte = bitmap.get(wide(page >> 3)).copied().unwrap_or(0);
        if byte & (1 << (page & 7)) == 0 {
            continue;
        }
        let (content, after) = data
            .split_at_checked(wide(PAGE))
            .ok_or_else(|| format!("ends before page {page}, {} were there", pages.len()))?;
        pages.push((page.saturating_mul(PAGE), content));
        data = after;
    }
    // Everything is there: only now the hive is touched.
    if !resize(bytes, bins_bytes) {
        return Err(format!("states {bins_bytes} bytes of bins"));
    }
    if let State::BadChecksum { .. } = state {
        let header = log.bytes.get(..LOG_HEADER_BYTES).unwrap_or_default();
        bytes.iter_mut().zip(header).for_each(|(to, from)| *to = *from);
    }
    for (offset, page) in &pages {
        let target = slice_mut(bytes, *offset, PAGE).ok_or_else(|| format!("has a page for {offset:#x}"))?;
        target.copy_from_slice(page);
    }
    seal(bytes, log.header.primary_sequence.get(), bins_bytes, None);
    Ok(pages.len())
}

/// Both headers are written in one go, so that they bear one time; a damaged base block can only be believed to belong.
fn belongs(bytes: &[u8], state: &State, log: &Log<'_>) -> Result<(), String> {
    let State::Unfinished { secondary, .. } = state else { return Ok(()) };
    let Ok((hive, _)) = BaseDisk::ref_from_prefix(bytes) else { return Ok(()) };
    let (hive_time, log_time) = (hive.written.get(), log.header.written.get());
    if hive_time != log_time {
        return Err(format!("was written at {log_time:#x}, the hive at {hive_time:#x}"));
    }
    let sequence = log.header.primary_sequence.get();
    if sequence < *secondary {
        return Err(format!("has sequence number {sequence}, the hive {secondary} already"));
    }
    Ok(())
}
