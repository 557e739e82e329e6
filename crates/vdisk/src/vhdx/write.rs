//! A new dynamic VHDX: blocks front to back, then the block table, metadata and regions, the headers last.

use gravure_io::{ReadAt, WriteAt};

use super::{
    HEADER_LEN, HEADERS, ITEM_ID, ITEM_LOGICAL, ITEM_PARAMETERS, ITEM_PHYSICAL, ITEM_SIZE, KIB, MAGIC, MIB,
    REGION_BAT, REGION_METADATA, REGION_TABLES, TABLE_LEN, chunk_ratio, entries,
};
use crate::field::{crc32c, narrow, put, wide};
use crate::write::pieces;
use crate::{Error, MAX_DISK_BYTES, Written};

const LOG_AT: u64 = MIB;
const METADATA_AT: u64 = 2 * MIB;
const BAT_AT: u64 = 3 * MIB;
/// Blocks are as small as they may be, so that little is stored that is not used, up to this many of them.
const MAX_BLOCKS: u64 = 1 << 20;
const FULLY_PRESENT: u64 = 6;

/// What makes the file unlike any other: random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VhdxIds {
    /// Of the disk: what a machine sees.
    pub disk: [u8; 16],
    /// Of this state of the file and of its data.
    pub writes: [[u8; 16]; 2],
}

/// Bytes of a block for a disk of this size.
fn block_bytes(size: u64) -> u64 {
    let mut block = MIB;
    while size.div_ceil(block) > MAX_BLOCKS && block < 256 * MIB {
        block = block.saturating_mul(2);
    }
    block
}

/// Writes `source` as a VHDX with sectors of `sector_bytes` (512 or 4096) to `target`, which is empty and reads as zeros where nothing
/// was written. `progress` is told how far the disk was read; an error of it ends the writing.
pub fn write_vhdx(
    source: &dyn ReadAt,
    sector_bytes: u32,
    ids: &VhdxIds,
    target: &dyn WriteAt,
    progress: &mut dyn FnMut(u64) -> std::io::Result<()>,
) -> Result<Written, Error> {
    let unsupported = |what, value: u64| Err(Error::Unsupported { what, value: value.to_string() });
    if sector_bytes != 512 && sector_bytes != 4096 {
        return unsupported("sector size of a VHDX", sector_bytes.into());
    }
    let size = source.size().checked_next_multiple_of(sector_bytes.into()).unwrap_or(u64::MAX);
    if size > MAX_DISK_BYTES || size == 0 {
        return unsupported("size of the disk", size);
    }
    let block = block_bytes(size);
    let ratio = chunk_ratio(block, sector_bytes);
    let count = entries(size, block, ratio);
    let bat_bytes = count.saturating_mul(8).checked_next_multiple_of(MIB).unwrap_or(MIB);
    let mut bat = vec![0u8; narrow(bat_bytes)];
    let mut end = BAT_AT.saturating_add(bat_bytes);
    let (mut data_bytes, mut reached) = (0u64, end);
    let mut open: Option<(u64, u64)> = None;
    pieces(source, MIB.min(64 * KIB), progress, &mut |offset, bytes| {
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let number = at.checked_div(block).unwrap_or(0);
            let inside = at.checked_rem(block).unwrap_or(0);
            let place = match open {
                Some((known, place)) if known == number => place,
                _ => {
                    let place = end;
                    end = end.saturating_add(block);
                    let index = number.saturating_add(number.checked_div(ratio).unwrap_or(0));
                    put(&mut bat, narrow(index).saturating_mul(8), &(place | FULLY_PRESENT).to_le_bytes());
                    open = Some((number, place));
                    place
                }
            };
            let most = narrow(block.saturating_sub(inside));
            let (now, later) = rest.split_at(rest.len().min(most));
            let to = place.saturating_add(inside);
            target.write_all_at(to, now).map_err(Error::io("VHDX block", to))?;
            data_bytes = data_bytes.saturating_add(wide(now.len()));
            reached = to.saturating_add(wide(now.len()));
            at = at.saturating_add(wide(now.len()));
            rest = later;
        }
        Ok(())
    })?;
    let write = |at: u64, bytes: &[u8]| target.write_all_at(at, bytes).map_err(Error::io("VHDX", at));
    // The last block is there whole, even where nothing was written to its end.
    if reached < end {
        write(end.saturating_sub(1), &[0])?;
    }
    write(BAT_AT, &bat)?;
    write(METADATA_AT, &metadata(size, sector_bytes, block, ids))?;
    for at in REGION_TABLES {
        write(at, &region_table(bat_bytes))?;
    }
    target.sync().map_err(Error::io("sync", 0))?;
    for (at, number) in HEADERS.into_iter().zip([1u64, 2]) {
        write(at, &header(number, ids))?;
    }
    let mut identifier = vec![0; narrow(64 * KIB)];
    put(&mut identifier, 0, &MAGIC);
    let creator: Vec<u8> = "gravure".encode_utf16().flat_map(u16::to_le_bytes).collect();
    put(&mut identifier, 8, &creator);
    write(0, &identifier)?;
    target.sync().map_err(Error::io("sync", 0))?;
    Ok(Written { file_bytes: end, data_bytes })
}

fn seal(bytes: &mut [u8]) {
    let sum = crc32c(bytes);
    put(bytes, 4, &sum.to_le_bytes());
}

fn header(number: u64, ids: &VhdxIds) -> Vec<u8> {
    let mut out = vec![0; HEADER_LEN];
    put(&mut out, 0, b"head");
    put(&mut out, 8, &number.to_le_bytes());
    let [file, data] = ids.writes;
    put(&mut out, 16, &file);
    put(&mut out, 32, &data);
    put(&mut out, 66, &1u16.to_le_bytes());
    put(&mut out, 68, &u32::try_from(MIB).unwrap_or(0).to_le_bytes());
    put(&mut out, 72, &LOG_AT.to_le_bytes());
    seal(&mut out);
    out
}

fn region_table(bat_bytes: u64) -> Vec<u8> {
    let mut out = vec![0; TABLE_LEN];
    put(&mut out, 0, b"regi");
    put(&mut out, 8, &2u32.to_le_bytes());
    let regions = [(REGION_BAT, BAT_AT, bat_bytes), (REGION_METADATA, METADATA_AT, MIB)];
    for ((id, at, len), pos) in regions.into_iter().zip([16usize, 48]) {
        put(&mut out, pos, &id);
        put(&mut out, pos.saturating_add(16), &at.to_le_bytes());
        put(&mut out, pos.saturating_add(24), &u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        put(&mut out, pos.saturating_add(28), &1u32.to_le_bytes());
    }
    seal(&mut out);
    out
}

fn metadata(size: u64, sector_bytes: u32, block: u64, ids: &VhdxIds) -> Vec<u8> {
    let block = u32::try_from(block).unwrap_or(0);
    let parameters = [block.to_le_bytes(), 0u32.to_le_bytes()].concat();
    // Flags: 2 of the disk, 4 required.
    let items: [(&[u8; 16], Vec<u8>, u32); 5] = [
        (&ITEM_PARAMETERS, parameters, 4),
        (&ITEM_SIZE, size.to_le_bytes().to_vec(), 6),
        (&ITEM_ID, ids.disk.to_vec(), 6),
        (&ITEM_LOGICAL, sector_bytes.to_le_bytes().to_vec(), 6),
        (&ITEM_PHYSICAL, 4096u32.to_le_bytes().to_vec(), 6),
    ];
    let mut out = vec![0; narrow(MIB)];
    put(&mut out, 0, b"metadata");
    put(&mut out, 10, &5u16.to_le_bytes());
    let mut place = narrow(64 * KIB);
    for (index, (id, item, flags)) in items.iter().enumerate() {
        let pos = index.saturating_mul(32).saturating_add(32);
        put(&mut out, pos, *id);
        put(&mut out, pos.saturating_add(16), &u32::try_from(place).unwrap_or(0).to_le_bytes());
        put(&mut out, pos.saturating_add(20), &u32::try_from(item.len()).unwrap_or(0).to_le_bytes());
        put(&mut out, pos.saturating_add(24), &flags.to_le_bytes());
        put(&mut out, place, item);
        place = place.saturating_add(item.len());
    }
    out
}
