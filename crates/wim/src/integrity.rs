//! Integrity table: SHA-1 of everything between header and XML document, in chunks (wim-container section 8).

use std::ops::Range;

use gravure_io::ReadAt;
use gravure_tree::Sha1Hash;
use sha1::{Digest, Sha1};
use zerocopy::byteorder::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Scope};
use crate::header::{HEADER_BYTES, Header};

/// Bytes per chunk that writers use.
pub const INTEGRITY_CHUNK_BYTES: u32 = 10 << 20;
const HEAD_BYTES: u64 = 12;
const HASH_BYTES: u64 = 20;
/// Bytes hashed per read.
const STEP_BYTES: usize = 256 << 10;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct IntegrityHeadDisk {
    size: U32,       // 0x00  bytes of the table
    count: U32,      // 0x04
    chunk_size: U32, // 0x08
} // 0x0c
const _: () = assert!(size_of::<IntegrityHeadDisk>() == 12);

/// The table. Its chunks can be checked in any order, on any number of threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrityTable {
    chunk_size: u32,
    covered: Range<u64>,
    hashes: Vec<Sha1Hash>,
}

/// A chunk whose bytes are not those the table was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrityMismatch {
    /// Zero-based chunk.
    pub chunk: u64,
    /// Absolute byte range.
    pub range: Range<u64>,
    /// Hash in the table.
    pub expected: Sha1Hash,
    /// Hash of the bytes.
    pub found: Sha1Hash,
}

impl IntegrityTable {
    /// Reads and checks the table's own form; `None` if the file has none.
    pub(crate) fn read(source: &dyn ReadAt, header: &Header) -> Result<Option<Self>, Error> {
        let Some(bytes) = header.integrity.read_raw(source, "integrity table", source.size())? else {
            return Ok(None);
        };
        let end = header.blob_table.checked_end("blob table", source.size(), Scope::File)?;
        Self::parse(&bytes, HEADER_BYTES..end, header.integrity.offset).map(Some)
    }

    /// Parses the table's `bytes`, which stand at `offset` and cover `covered`.
    pub(crate) fn parse(bytes: &[u8], covered: Range<u64>, offset: u64) -> Result<Self, Error> {
        let corrupt = |what: &'static str, at: u64, expected: String, found: String| {
            Error::corrupt(Scope::File, what, offset.saturating_add(at), expected, found)
        };
        let Ok((head, hashes)) = IntegrityHeadDisk::read_from_prefix(bytes) else {
            let found = format!("{} bytes", bytes.len());
            return Err(corrupt("integrity table", 0, "at least 12 bytes".into(), found));
        };
        let chunk_size = head.chunk_size.get();
        if chunk_size == 0 {
            return Err(corrupt("integrity chunk size", 8, "at least 1".into(), "0".into()));
        }
        let covered_len = covered.end.saturating_sub(covered.start);
        let count = covered_len.div_ceil(u64::from(chunk_size));
        if u64::from(head.count.get()) != count {
            let found = head.count.get().to_string();
            return Err(corrupt("integrity chunk count", 4, count.to_string(), found));
        }
        let len = count.saturating_mul(HASH_BYTES).saturating_add(HEAD_BYTES);
        let (hashes, rest) = hashes.as_chunks::<20>();
        if u64::from(head.size.get()) != len || !rest.is_empty() || bytes.size() != len {
            let found = format!("{} in a resource of {}", head.size.get(), bytes.len());
            return Err(corrupt("integrity table size", 0, len.to_string(), found));
        }
        Ok(Self { chunk_size, covered, hashes: hashes.iter().copied().map(Sha1Hash).collect() })
    }

    /// A table of hashes the caller computed over the ranges of [`IntegrityTable::ranges`].
    pub fn new(covered: Range<u64>, chunk_size: u32, hashes: Vec<Sha1Hash>) -> Result<Self, Error> {
        let expected = Self::ranges(covered.clone(), chunk_size).count();
        if chunk_size == 0 || hashes.len() != expected {
            let reason = format!("{} hashes for {expected} chunks of {chunk_size} bytes", hashes.len());
            return Err(Error::unwritable("integrity table", reason));
        }
        Ok(Self { chunk_size, covered, hashes })
    }

    /// The ranges into which `covered` is cut.
    pub fn ranges(covered: Range<u64>, chunk_size: u32) -> impl Iterator<Item = Range<u64>> {
        let step = u64::from(chunk_size).max(1);
        let mut at = covered.start;
        std::iter::from_fn(move || {
            let start = at;
            at = start.saturating_add(step).min(covered.end);
            (start < covered.end).then_some(start..at)
        })
    }

    /// Builds the table of `covered` on this thread.
    pub fn build(source: &dyn ReadAt, covered: Range<u64>, chunk_size: u32) -> Result<Self, Error> {
        let hashes = Self::ranges(covered.clone(), chunk_size)
            .map(|range| hash_range(source, range))
            .collect::<Result<_, _>>();
        Self::new(covered, chunk_size, hashes?)
    }

    /// The range of the file that the table covers.
    pub fn covered(&self) -> Range<u64> {
        self.covered.clone()
    }

    /// Each chunk with the hash it should have.
    pub fn chunks(&self) -> impl Iterator<Item = (Range<u64>, Sha1Hash)> + '_ {
        Self::ranges(self.covered.clone(), self.chunk_size).zip(self.hashes.iter().copied())
    }

    /// Compares on this thread; the mismatches in ascending order.
    pub fn verify(&self, source: &dyn ReadAt) -> Result<Vec<IntegrityMismatch>, Error> {
        let mut mismatches = Vec::new();
        for (chunk, (range, expected)) in (0u64..).zip(self.chunks()) {
            let found = hash_range(source, range.clone())?;
            if found != expected {
                mismatches.push(IntegrityMismatch { chunk, range, expected, found });
            }
        }
        Ok(mismatches)
    }

    /// The table as it is stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let too_long = || Error::unwritable("integrity table", "more chunks than its size field counts");
        let count = u32::try_from(self.hashes.len()).map_err(|_| too_long())?;
        let size = count.checked_mul(20).and_then(|len| len.checked_add(12)).ok_or_else(too_long)?;
        let head = IntegrityHeadDisk {
            size: U32::new(size),
            count: U32::new(count),
            chunk_size: U32::new(self.chunk_size),
        };
        let mut out = head.as_bytes().to_vec();
        self.hashes.iter().for_each(|hash| out.extend_from_slice(&hash.0));
        Ok(out)
    }
}

/// SHA-1 of a range of the file.
pub fn hash_range(source: &dyn ReadAt, range: Range<u64>) -> Result<Sha1Hash, Error> {
    let mut hasher = Sha1::new();
    let mut buf = vec![0; STEP_BYTES];
    let mut at = range.start;
    while at < range.end {
        let left = usize::try_from(range.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let step = buf.get_mut(..left.min(STEP_BYTES)).unwrap_or_default();
        source.read_exact_at(at, step).map_err(Error::io("integrity chunk", at))?;
        hasher.update(&*step);
        at = at.saturating_add(step.size());
    }
    Ok(Sha1Hash(hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        (0..2500u32).map(|n| n as u8).collect()
    }

    #[test]
    fn finds_the_changed_chunk() {
        let mut bytes = file();
        let table = IntegrityTable::build(&bytes, 208..2400, 1000).unwrap();
        assert_eq!(table.verify(&bytes).unwrap(), []);
        let stored = table.to_bytes().unwrap();
        assert_eq!(stored.len(), 12 + 3 * 20);
        assert_eq!(IntegrityTable::parse(&stored, 208..2400, 0).unwrap(), table);
        bytes[1300] ^= 1;
        let found = table.verify(&bytes).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].chunk, found[0].range.clone()), (1, 1208..2208));
    }

    #[test]
    fn wrong_forms_are_refused() {
        let good = IntegrityTable::build(&file(), 208..2400, 1000).unwrap().to_bytes().unwrap();
        let parse = |bytes: &[u8]| IntegrityTable::parse(bytes, 208..2400, 0x5000).unwrap_err().to_string();
        for (at, flip, message) in [
            (0, 1, "integrity table size at 0x5000: expected 72, found 73 in a resource of 72"),
            (4, 1, "integrity chunk count at 0x5004: expected 3, found 2"),
            (9, 2, "integrity chunk count at 0x5004: expected 5, found 3"),
        ] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            assert_eq!(parse(&bytes), message);
        }
        assert_eq!(
            parse(&good[..71]),
            "integrity table size at 0x5000: expected 72, found 72 in a resource of 71"
        );
        assert_eq!(
            parse(&good[..11]),
            "integrity table at 0x5000: expected at least 12 bytes, found 11 bytes"
        );
        let mut zero = good;
        zero[8..12].fill(0);
        assert_eq!(parse(&zero), "integrity chunk size at 0x5008: expected at least 1, found 0");
    }

    #[test]
    fn too_few_hashes_are_refused() {
        let error = IntegrityTable::new(208..2400, 1000, vec![]).unwrap_err();
        assert_eq!(error.to_string(), "cannot write integrity table: 0 hashes for 3 chunks of 1000 bytes");
    }
}
