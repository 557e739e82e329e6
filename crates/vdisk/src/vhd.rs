//! VHD: fixed and dynamic (layout: `FORMAT.md`). Big-endian.

use std::io;
use std::sync::Arc;

use gravure_io::ReadAt;

use crate::field::{be32, be64, narrow};
use crate::map::{Mapped, Place};
use crate::{Error, MAX_DISK_BYTES, MAX_TABLE_BYTES};

pub(crate) const MAGIC: [u8; 8] = *b"conectix";
pub(crate) const FOOTER_BYTES: u64 = 512;
const DYNAMIC_MAGIC: [u8; 8] = *b"cxsparse";
const DYNAMIC_BYTES: usize = 1024;
const SECTOR: u64 = 512;
const UNUSED: u32 = u32::MAX;

/// An opened file.
pub(crate) struct Vhd {
    source: Arc<dyn ReadAt>,
    size: u64,
    blocks: Option<Blocks>,
}

/// Where the blocks of a dynamic disk are.
struct Blocks {
    block_bytes: u64,
    bitmap_bytes: u64,
    /// First sector of each block's bitmap.
    table: Vec<u32>,
}

/// The ones' complement of the sum of all bytes but those of the checksum itself.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let skip = at..at.saturating_add(4);
    let counted = bytes.iter().enumerate().filter(|(pos, _)| !skip.contains(pos));
    !counted.fold(0u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)))
}

impl Vhd {
    pub(crate) fn open(source: &Arc<dyn ReadAt>) -> Result<Self, Error> {
        let source = Arc::clone(source);
        let at = source.size().saturating_sub(FOOTER_BYTES);
        let read = |offset| source.read_vec_at(offset, 512).map_err(Error::io("VHD footer", offset));
        let check = |footer: &[u8], offset: u64| {
            if !footer.starts_with(&MAGIC) {
                return Err(Error::corrupt("VHD footer", offset, "\"conectix\"", "another magic"));
            }
            let (expected, found) = (checksum(footer, 64), be32(footer, 64));
            if expected != found {
                let expected = format!("checksum {expected:#x}");
                return Err(Error::corrupt("VHD footer", offset, expected, format!("{found:#x}")));
            }
            Ok(())
        };
        let mut footer = read(at)?;
        if let Err(error) = check(&footer, at) {
            // Dynamic disks have a copy in front; the one behind is torn when the file was growing.
            footer = read(0)?;
            check(&footer, 0).map_err(|_| error)?;
        }
        let size = be64(&footer, 48);
        if size > MAX_DISK_BYTES {
            return Err(Error::corrupt("disk size", 48, format!("at most {MAX_DISK_BYTES}"), size));
        }
        match be32(&footer, 60) {
            2 if size > at => {
                Err(Error::corrupt("disk size", 48, format!("at most {at} bytes before the footer"), size))
            }
            2 => Ok(Self { source, size, blocks: None }),
            3 => {
                let blocks = Some(Blocks::read(&*source, be64(&footer, 16), size)?);
                Ok(Self { source, size, blocks })
            }
            4 => Err(Error::Unsupported {
                what: "differencing disk",
                value: "a chain of VHD files".to_owned(),
            }),
            other => Err(Error::Unsupported { what: "type of VHD", value: other.to_string() }),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

impl Blocks {
    fn read(source: &dyn ReadAt, offset: u64, size: u64) -> Result<Self, Error> {
        let header = source.read_vec_at(offset, DYNAMIC_BYTES).map_err(Error::io("VHD header", offset))?;
        if !header.starts_with(&DYNAMIC_MAGIC) {
            return Err(Error::corrupt("VHD header", offset, "\"cxsparse\"", "another magic"));
        }
        let (expected, found) = (checksum(&header, 36), be32(&header, 36));
        if expected != found {
            let expected = format!("checksum {expected:#x}");
            return Err(Error::corrupt("VHD header", offset, expected, format!("{found:#x}")));
        }
        let block = be32(&header, 32);
        if !block.is_power_of_two() || block < 4096 {
            return Err(Error::corrupt("block size", offset, "a power of two from 4096", block));
        }
        let block_bytes = u64::from(block);
        let needed = size.div_ceil(block_bytes);
        let count = u64::from(be32(&header, 28));
        let bytes = needed.saturating_mul(4);
        if count < needed || bytes > MAX_TABLE_BYTES {
            let expected = format!("{needed} entries in at most {MAX_TABLE_BYTES} bytes");
            return Err(Error::corrupt("block table", offset, expected, count));
        }
        let table_at = be64(&header, 16);
        let table =
            source.read_vec_at(table_at, narrow(bytes)).map_err(Error::io("block table", table_at))?;
        let table = table.chunks_exact(4).map(|entry| be32(entry, 0)).collect();
        let bitmap_bytes = block_bytes.div_ceil(SECTOR * 8).next_multiple_of(SECTOR);
        Ok(Self { block_bytes, bitmap_bytes, table })
    }
}

impl Mapped for Vhd {
    fn place(&self, offset: u64) -> io::Result<(Place, u64)> {
        let Some(blocks) = &self.blocks else {
            return Ok((Place::File(offset), self.size.saturating_sub(offset).max(1)));
        };
        let inside = offset & blocks.block_bytes.saturating_sub(1);
        let left = blocks.block_bytes.saturating_sub(inside).min(self.size.saturating_sub(offset)).max(1);
        let number = offset.checked_div(blocks.block_bytes).unwrap_or(0);
        let entry = blocks.table.get(narrow(number)).copied().unwrap_or(UNUSED);
        if entry == UNUSED {
            return Ok((Place::Zero, left));
        }
        // Sectors whose bit is not set were never written, whatever stands there.
        let start = u64::from(entry).saturating_mul(SECTOR);
        let sector = inside / SECTOR;
        let count = left.saturating_add(inside & 511).div_ceil(SECTOR);
        let first_byte = sector / 8;
        let bytes = sector.saturating_add(count).div_ceil(8).saturating_sub(first_byte);
        let bitmap = self.source.read_vec_at(start.saturating_add(first_byte), narrow(bytes))?;
        let is_set = |sector: u64| {
            let byte = bitmap.get(narrow((sector / 8).saturating_sub(first_byte))).copied().unwrap_or(0);
            byte & (0x80u8 >> (sector & 7)) != 0
        };
        let end = sector.saturating_add(count);
        let is_data = is_set(sector);
        let stop = (sector..end).find(|other| is_set(*other) != is_data).unwrap_or(end);
        let len = stop.saturating_mul(SECTOR).saturating_sub(inside).min(left);
        let data = start.saturating_add(blocks.bitmap_bytes).saturating_add(inside);
        Ok((if is_data { Place::File(data) } else { Place::Zero }, len))
    }
}
