//! VHDX: dynamic and fixed (layout: `FORMAT.md`, after MS-VHDX).

mod write;

use std::io;
use std::sync::Arc;

use gravure_io::ReadAt;

pub use write::{VhdxIds, write_vhdx};

use crate::field::{crc32c, le16, le32, le64, narrow, put};
use crate::map::{Mapped, Place};
use crate::{Error, MAX_DISK_BYTES, MAX_TABLE_BYTES};

pub(crate) const MAGIC: [u8; 8] = *b"vhdxfile";
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const HEADERS: [u64; 2] = [64 * KIB, 128 * KIB];
const REGION_TABLES: [u64; 2] = [192 * KIB, 256 * KIB];
const HEADER_LEN: usize = 4096;
const TABLE_LEN: usize = 64 << 10;
/// Bytes of a region of metadata that are looked at: its table and the small items behind it.
const MAX_METADATA: u64 = 1 << 20;

/// GUIDs, in the byte order of files.
const REGION_BAT: [u8; 16] = guid(0x2dc2_7766, 0xf623, 0x4200, 0x9d64_115e_9bfd_4a08);
const REGION_METADATA: [u8; 16] = guid(0x8b7c_a206, 0x4790, 0x4b9a, 0xb8fe_575f_050f_886e);
const ITEM_PARAMETERS: [u8; 16] = guid(0xcaa1_6737, 0xfa36, 0x4d43, 0xb3b6_33f0_aa44_e76b);
const ITEM_SIZE: [u8; 16] = guid(0x2fa5_4224, 0xcd1b, 0x4876, 0xb211_5dbe_d83b_f4b8);
const ITEM_ID: [u8; 16] = guid(0xbeca_12ab, 0xb2e6, 0x4523, 0x93ef_c309_e000_c746);
const ITEM_LOGICAL: [u8; 16] = guid(0x8141_bf1d, 0xa96f, 0x4709, 0xba47_f233_a8fa_ab5f);
const ITEM_PHYSICAL: [u8; 16] = guid(0xcda3_48c7, 0x445d, 0x4471, 0x9cc9_e988_5251_c556);

const fn guid(a: u32, b: u16, c: u16, d: u64) -> [u8; 16] {
    let (a, b, c, d) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), d.to_be_bytes());
    let ([a0, a1, a2, a3], [b0, b1], [c0, c1]) = (a, b, c);
    let [d0, d1, d2, d3, d4, d5, d6, d7] = d;
    [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7]
}

/// An opened file.
pub(crate) struct Vhdx {
    size: u64,
    sector_bytes: u32,
    block_bytes: u64,
    /// Payload blocks between two of sector bits.
    ratio: u64,
    table: Vec<u64>,
}

/// Whether the checksum at byte 4 of a structure is that of the structure without it.
fn is_sound(bytes: &[u8]) -> bool {
    let mut plain = bytes.to_vec();
    put(&mut plain, 4, &[0; 4]);
    crc32c(&plain) == le32(bytes, 4)
}

/// Payload blocks between two blocks of sector bits.
fn chunk_ratio(block_bytes: u64, sector_bytes: u32) -> u64 {
    (u64::from(sector_bytes) << 23).checked_div(block_bytes).unwrap_or(1).max(1)
}

impl Vhdx {
    pub(crate) fn open(source: &Arc<dyn ReadAt>) -> Result<Self, Error> {
        let mut best: Option<(u64, Vec<u8>)> = None;
        for at in HEADERS {
            let header = source.read_vec_at(at, HEADER_LEN).map_err(Error::io("VHDX header", at))?;
            let number = le64(&header, 8);
            let is_newer = best.as_ref().is_none_or(|(known, _)| number > *known);
            if header.starts_with(b"head") && is_sound(&header) && is_newer {
                best = Some((number, header));
            }
        }
        let (_, header) =
            best.ok_or_else(|| Error::corrupt("VHDX headers", 64 * KIB, "one with its checksum", "none"))?;
        if le16(&header, 66) != 1 {
            return Err(Error::Unsupported { what: "version of VHDX", value: le16(&header, 66).to_string() });
        }
        if header.get(48..64) != Some(&[0; 16]) {
            return Err(Error::Unclean(
                "its log has changes that are not in place; open it once where it was made",
            ));
        }
        let (bat, metadata) = regions(source)?;
        let items = Items::read(source, metadata)?;
        let size = items.field(&ITEM_SIZE, 8, "size of the disk").map(|item| le64(item, 0))?;
        let sector_bytes = items.field(&ITEM_LOGICAL, 4, "sector size").map(|item| le32(item, 0))?;
        let parameters = items.field(&ITEM_PARAMETERS, 8, "file parameters")?;
        let (block, flags) = (le32(parameters, 0), le32(parameters, 4));
        if flags & 2 != 0 {
            return Err(Error::Unsupported {
                what: "differencing disk",
                value: "a chain of VHDX files".to_owned(),
            });
        }
        if sector_bytes != 512 && sector_bytes != 4096 {
            return Err(Error::corrupt("sector size", metadata.0, "512 or 4096", sector_bytes));
        }
        let block_bytes = u64::from(block);
        if !block.is_power_of_two() || !(MIB..=256 * MIB).contains(&block_bytes) {
            return Err(Error::corrupt("block size", metadata.0, "a power of two from 1 to 256 MiB", block));
        }
        if size > MAX_DISK_BYTES || !size.is_multiple_of(sector_bytes.into()) {
            return Err(Error::corrupt("disk size", metadata.0, format!("at most {MAX_DISK_BYTES}"), size));
        }
        let ratio = chunk_ratio(block_bytes, sector_bytes);
        let bytes = entries(size, block_bytes, ratio).saturating_mul(8);
        if bytes > bat.1 || bytes > MAX_TABLE_BYTES {
            let expected = format!("{bytes} bytes, at most {MAX_TABLE_BYTES}");
            return Err(Error::corrupt("block table", bat.0, expected, bat.1));
        }
        let table = source.read_vec_at(bat.0, narrow(bytes)).map_err(Error::io("block table", bat.0))?;
        let table = table.chunks_exact(8).map(|entry| le64(entry, 0)).collect();
        Ok(Self { size, sector_bytes, block_bytes, ratio, table })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }
}

/// Entries of the block table: one of sector bits after each `ratio` of payload, but for the last ones.
fn entries(size: u64, block_bytes: u64, ratio: u64) -> u64 {
    let blocks = size.div_ceil(block_bytes.max(1));
    blocks.saturating_add(blocks.saturating_sub(1).checked_div(ratio).unwrap_or(0))
}

/// Offset and length of a region.
type Region = (u64, u64);

/// The block table and the metadata.
fn regions(source: &dyn ReadAt) -> Result<(Region, Region), Error> {
    for at in REGION_TABLES {
        let table = source.read_vec_at(at, TABLE_LEN).map_err(Error::io("VHDX regions", at))?;
        if !table.starts_with(b"regi") || !is_sound(&table) {
            continue;
        }
        let count = narrow(le32(&table, 8).min(2047).into());
        let (mut bat, mut metadata) = (None, None);
        for entry in table.get(16..).unwrap_or_default().chunks_exact(32).take(count) {
            let place = (le64(entry, 16), u64::from(le32(entry, 24)));
            if entry.starts_with(&REGION_BAT) {
                bat = Some(place);
            } else if entry.starts_with(&REGION_METADATA) {
                metadata = Some(place);
            } else if le32(entry, 28) & 1 != 0 {
                let value = format!("region {:02x?}", entry.get(..16).unwrap_or_default());
                return Err(Error::Unsupported { what: "required part of a VHDX", value });
            }
        }
        return bat
            .zip(metadata)
            .ok_or_else(|| Error::corrupt("VHDX regions", at, "block table and metadata", "one is missing"));
    }
    Err(Error::corrupt("VHDX regions", 192 * KIB, "a table with its checksum", "none"))
}

/// The region of metadata.
struct Items {
    bytes: Vec<u8>,
    offset: u64,
}

impl Items {
    fn read(source: &dyn ReadAt, (offset, len): (u64, u64)) -> Result<Self, Error> {
        let len = len.min(MAX_METADATA).min(source.size().saturating_sub(offset));
        let bytes = source.read_vec_at(offset, narrow(len)).map_err(Error::io("VHDX metadata", offset))?;
        if !bytes.starts_with(b"metadata") {
            return Err(Error::corrupt("VHDX metadata", offset, "\"metadata\"", "another magic"));
        }
        Ok(Self { bytes, offset })
    }

    fn field(&self, id: &[u8; 16], len: usize, what: &'static str) -> Result<&[u8], Error> {
        let count = usize::from(le16(&self.bytes, 10).min(2047));
        let table = self.bytes.get(32..).unwrap_or_default().chunks_exact(32).take(count);
        let mut found = table.filter(|entry| entry.starts_with(id));
        let item = found.next().and_then(|entry| {
            let start = narrow(le32(entry, 16).into());
            self.bytes.get(start..start.saturating_add(len))
        });
        item.ok_or_else(|| Error::corrupt(what, self.offset, format!("an item of {len} bytes"), "none"))
    }
}

impl Mapped for Vhdx {
    fn place(&self, offset: u64) -> io::Result<(Place, u64)> {
        let inside = offset & self.block_bytes.saturating_sub(1);
        let left = self.block_bytes.saturating_sub(inside).min(self.size.saturating_sub(offset)).max(1);
        let block = offset.checked_div(self.block_bytes).unwrap_or(0);
        let index = block.saturating_add(block.checked_div(self.ratio).unwrap_or(0));
        let entry = self.table.get(narrow(index)).copied().unwrap_or(0);
        match entry & 7 {
            // Not present, undefined, zero, unmapped: Windows reads all of them as zeros in a disk without a parent.
            0..=3 => Ok((Place::Zero, left)),
            6 => Ok((Place::File((entry & !(MIB.saturating_sub(1))).saturating_add(inside)), left)),
            state => {
                let error = Error::corrupt("state of a block", offset, "0 to 3 or 6", state);
                Err(error.into())
            }
        }
    }
}
