//! The root: the list of regions with the hashes of their tables, and what they make together.

use gravure_io::Cursor;

use crate::facts::{self, Outcome};
use crate::limits::{MAX_DEVICE_BYTES, MAX_FACTS_BYTES, MAX_REGIONS};
use crate::{ChunkId, Error};

const MAGIC: [u8; 8] = *b"GIMROOT\0";
const VERSION: u32 = 1;
/// Bytes of a region in the root.
const REGION_ENTRY_BYTES: usize = 48;
/// Separates tree hashes from any other use of BLAKE3.
const TREE_CONTEXT: &str = "gravure block image 2026-11 tree of a device v1";

/// A part of the device with a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First byte of the device.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Bytes of data extents in it.
    pub data_bytes: u64,
    /// BLAKE3 of its table.
    pub table: ChunkId,
}

/// The whole device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Bytes of the device.
    pub size: u64,
    /// Unit in which the device is addressed, bytes.
    pub sector_bytes: u32,
    /// BLAKE3 of the facts.
    pub facts: ChunkId,
    /// Known at the end of the capture.
    pub outcome: Outcome,
    /// All regions, ascending, without gaps, from 0 to `size`.
    pub regions: Vec<Region>,
}

impl Root {
    /// What the device holds: a hash over size and tables, hence over every extent and chunk. Equal content in equal places
    /// gives equal hashes, whatever the encoding, the names and the day.
    pub fn tree_hash(&self) -> ChunkId {
        let mut hasher = blake3::Hasher::new_derive_key(TREE_CONTEXT);
        hasher.update(&self.size.to_le_bytes());
        for region in &self.regions {
            hasher.update(&region.len.to_le_bytes());
            hasher.update(&region.table.0);
        }
        ChunkId(*hasher.finalize().as_bytes())
    }

    /// Bytes of data extents.
    pub fn data_bytes(&self) -> u64 {
        self.regions.iter().fold(0u64, |sum, region| sum.saturating_add(region.data_bytes))
    }

    /// The stored form. Its BLAKE3 is the id of the image.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let unwritable = |reason: String| Error::Unwritable { what: "root", reason };
        let outcome = facts::to_json("outcome", &self.outcome)?;
        let count = u32::try_from(self.regions.len()).ok().filter(|count| *count <= MAX_REGIONS);
        let count = count.ok_or_else(|| unwritable(format!("more than {MAX_REGIONS} regions")))?;
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.sector_bytes.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&self.facts.0);
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&u32::try_from(outcome.len()).unwrap_or(u32::MAX).to_le_bytes());
        let mut offset = 0u64;
        for region in &self.regions {
            if region.offset != offset || region.len == 0 {
                return Err(unwritable(format!("a region at {:#x}, expected {offset:#x}", region.offset)));
            }
            out.extend_from_slice(&region.len.to_le_bytes());
            out.extend_from_slice(&region.data_bytes.to_le_bytes());
            out.extend_from_slice(&region.table.0);
            offset = offset.saturating_add(region.len);
        }
        if offset != self.size || self.size > MAX_DEVICE_BYTES {
            return Err(unwritable(format!("regions of {offset} bytes for {} bytes", self.size)));
        }
        out.extend_from_slice(&outcome);
        Ok(out)
    }

    /// Reads the stored form.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut cursor = Cursor::new(bytes);
        let cut = |_| Error::corrupt("root", 0, "a whole root", format!("{} bytes", bytes.len()));
        let magic: [u8; 8] = cursor.array().map_err(cut)?;
        if magic != MAGIC {
            return Err(Error::corrupt("root", 0, "\"GIMROOT\"", format!("{magic:02x?}")));
        }
        let version = cursor.u32().map_err(cut)?;
        if version != VERSION {
            return Err(Error::Unsupported { what: "version of the root", value: version.to_string() });
        }
        let sector_bytes = cursor.u32().map_err(cut)?;
        if !sector_bytes.is_power_of_two() || !(512..=65536).contains(&sector_bytes) {
            return Err(Error::corrupt("sector size", 12, "a power of two from 512 to 65536", sector_bytes));
        }
        let size = cursor.u64().map_err(cut)?;
        if size > MAX_DEVICE_BYTES {
            return Err(Error::limit("size of the device", 16, size, MAX_DEVICE_BYTES));
        }
        let facts = ChunkId(cursor.array().map_err(cut)?);
        let (count, outcome_len) = (cursor.u32().map_err(cut)?, cursor.u32().map_err(cut)?);
        if count > MAX_REGIONS || outcome_len > MAX_FACTS_BYTES {
            return Err(Error::limit("regions", 56, count.into(), MAX_REGIONS.into()));
        }
        let entries_len = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(REGION_ENTRY_BYTES);
        let mut entries = Cursor::new(cursor.take(entries_len).map_err(cut)?);
        let mut regions = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        let mut offset = 0u64;
        for index in 0..count {
            let (len, data_bytes) = (entries.u64().map_err(cut)?, entries.u64().map_err(cut)?);
            let table = ChunkId(entries.array().map_err(cut)?);
            let left = size.saturating_sub(offset);
            if len == 0 || len > left || data_bytes > len {
                let found = format!("{len} bytes with {data_bytes} of data");
                return Err(Error::corrupt(
                    format!("region {index}"),
                    64,
                    format!("1 to {left} bytes"),
                    found,
                ));
            }
            regions.push(Region { offset, len, data_bytes, table });
            offset = offset.saturating_add(len);
        }
        if offset != size {
            return Err(Error::corrupt("regions", 64, format!("{size} bytes in all"), offset));
        }
        let outcome = cursor.take(usize::try_from(outcome_len).unwrap_or(usize::MAX)).map_err(cut)?;
        if !cursor.rest().is_empty() {
            return Err(Error::corrupt(
                "root",
                0,
                "nothing behind it",
                format!("{} bytes", cursor.rest().len()),
            ));
        }
        let outcome = facts::from_json("outcome", outcome, 0)?;
        Ok(Self { size, sector_bytes, facts, outcome, regions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root {
        let region =
            |offset, len| Region { offset, len, data_bytes: 512, table: ChunkId::of(&[offset as u8]) };
        Root {
            size: 3 << 20,
            sector_bytes: 512,
            facts: ChunkId::of(b"{}"),
            outcome: Outcome { chunks: 2, ..Outcome::default() },
            regions: vec![region(0, 1 << 20), region(1 << 20, 2 << 20)],
        }
    }

    #[test]
    fn roots_come_back_and_any_cut_is_refused() {
        let bytes = root().to_bytes().unwrap();
        assert_eq!(Root::parse(&bytes).unwrap(), root());
        for len in 0..bytes.len() {
            assert!(Root::parse(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn the_tree_hash_is_of_content_alone() {
        let (a, mut b) = (root(), root());
        b.facts = ChunkId::of(b"other");
        assert_eq!(a.tree_hash(), b.tree_hash());
        b.regions[1].table = ChunkId::of(b"other");
        assert_ne!(a.tree_hash(), b.tree_hash());
    }

    #[test]
    fn gaps_are_not_written() {
        let mut gap = root();
        gap.regions[1].offset += 512;
        assert!(gap.to_bytes().is_err());
        gap = root();
        gap.size += 1;
        assert!(gap.to_bytes().is_err());
    }
}
