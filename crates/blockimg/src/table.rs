//! Tables of regions: what every byte of a part of the device is. Extents have no offsets, each follows the one before, so none
//! can overlap and nothing can be left out.

use gravure_io::Cursor;

use crate::limits::{MAX_CHUNK_BYTES, MAX_DEVICE_BYTES, MAX_EXTENTS};
use crate::{ChunkId, Error};

/// What an extent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// A chunk.
    Data(ChunkId),
    /// In use and zero.
    Zero,
    /// Not in use: what is read there is of no interest, and old content should be gone.
    Discard,
    /// In use, but left out on purpose.
    Excluded(Exclusion),
    /// Could not be read from the source; zeros take its place.
    Unreadable,
}

/// What was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusion {
    /// Page and swap files.
    PageFile,
    /// A hibernation file.
    Hibernation,
    /// The pages of a swap partition.
    Swap,
    /// Something a later version knows.
    Other(u8),
}

impl Exclusion {
    fn number(self) -> u8 {
        match self {
            Self::PageFile => 1,
            Self::Hibernation => 2,
            Self::Swap => 3,
            Self::Other(number) => number,
        }
    }

    fn from_number(number: u8) -> Self {
        match number {
            1 => Self::PageFile,
            2 => Self::Hibernation,
            3 => Self::Swap,
            number => Self::Other(number),
        }
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::PageFile => "page file",
            Self::Hibernation => "hibernation file",
            Self::Swap => "swap",
            Self::Other(_) => "other",
        }
    }
}

/// A part of the device that is one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Absolute byte of the device.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// What it is.
    pub kind: ExtentKind,
}

impl Extent {
    /// The first byte behind it.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    /// Its chunk.
    pub fn id(&self) -> Option<ChunkId> {
        match self.kind {
            ExtentKind::Data(id) => Some(id),
            _ => None,
        }
    }

    /// A restored device must read as zeros here.
    pub fn reads_zero(&self) -> bool {
        // A boot loader might wake a system that it finds in the place of an old hibernation file.
        let is_hibernation = matches!(self.kind, ExtentKind::Excluded(Exclusion::Hibernation));
        is_hibernation || matches!(self.kind, ExtentKind::Zero | ExtentKind::Unreadable)
    }
}

const LEN_BITS: u32 = 48;

/// Appends the stored form of an extent of `len` bytes.
pub fn write_extent(out: &mut Vec<u8>, kind: ExtentKind, len: u64) {
    let (number, reason) = match kind {
        ExtentKind::Data(_) => (1u64, 0),
        ExtentKind::Zero => (2, 0),
        ExtentKind::Discard => (3, 0),
        ExtentKind::Excluded(what) => (4, what.number()),
        ExtentKind::Unreadable => (5, 0),
    };
    let word = (number << 56) | (u64::from(reason) << LEN_BITS) | len;
    out.extend_from_slice(&word.to_le_bytes());
    if let ExtentKind::Data(id) = kind {
        out.extend_from_slice(&id.0);
    }
}

/// Reads the table of the region that begins at byte `start` of the device and has `len` bytes.
pub fn parse_table(bytes: &[u8], start: u64, len: u64) -> Result<Vec<Extent>, Error> {
    let mut cursor = Cursor::new(bytes);
    let end = start.saturating_add(len);
    let mut extents = Vec::new();
    let mut offset = start;
    while !cursor.rest().is_empty() {
        let at = u64::try_from(cursor.pos()).unwrap_or(u64::MAX);
        let wrong = |expected: String, found: String| Error::corrupt("region table", at, expected, found);
        let cut = |_| Error::corrupt("region table", at, "a whole extent", "the end");
        let word = cursor.u64().map_err(cut)?;
        let [.., reason, number] = word.to_le_bytes();
        let extent_len = word & ((1u64 << LEN_BITS).wrapping_sub(1));
        let kind = match number {
            1 => ExtentKind::Data(ChunkId(cursor.array().map_err(cut)?)),
            2 => ExtentKind::Zero,
            3 => ExtentKind::Discard,
            4 => ExtentKind::Excluded(Exclusion::from_number(reason)),
            5 => ExtentKind::Unreadable,
            number => return Err(Error::Unsupported { what: "kind of extent", value: number.to_string() }),
        };
        let left = end.saturating_sub(offset);
        let most = match kind {
            ExtentKind::Data(_) => left.min(MAX_CHUNK_BYTES.into()),
            _ => left,
        };
        if extent_len == 0 || extent_len > most {
            return Err(wrong(format!("1 to {most} bytes"), extent_len.to_string()));
        }
        if extents.len() >= MAX_EXTENTS {
            let limit = u64::try_from(MAX_EXTENTS).unwrap_or(u64::MAX);
            return Err(Error::limit("extents of a region", at, limit.saturating_add(1), limit));
        }
        extents.push(Extent { offset, len: extent_len, kind });
        offset = offset.saturating_add(extent_len);
    }
    if offset != end {
        let found = format!("{} bytes", offset.saturating_sub(start));
        return Err(Error::corrupt("region table", 0, format!("extents of {len} bytes"), found));
    }
    Ok(extents)
}

/// Bytes of the device that a table covers: of a stream, whose root comes last.
pub fn table_len(bytes: &[u8]) -> Result<u64, Error> {
    let mut rest = bytes;
    let mut len = 0u64;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        len = len.saturating_add(word & ((1u64 << LEN_BITS).wrapping_sub(1)));
        let id_len = if word >> 56 == 1 { ChunkId::LEN } else { 0 };
        rest = after.get(id_len..).unwrap_or_default();
    }
    if len <= MAX_DEVICE_BYTES {
        return Ok(len);
    }
    Err(Error::limit("region", 0, len, MAX_DEVICE_BYTES))
}

/// Where in a file a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Absolute byte of its frame.
    pub frame_offset: u64,
    /// Bytes of the frame.
    pub frame_len: u32,
    /// Which entry of the frame it is.
    pub entry: u32,
}

const LOCATION_BYTES: usize = 16;

/// Appends the stored form of a location.
pub fn write_location(out: &mut Vec<u8>, location: &Location) {
    out.extend_from_slice(&location.frame_offset.to_le_bytes());
    out.extend_from_slice(&location.frame_len.to_le_bytes());
    out.extend_from_slice(&location.entry.to_le_bytes());
}

/// Reads the locations of `count` data extents, which must lie in `file_len` bytes.
pub fn parse_locations(bytes: &[u8], count: usize, file_len: u64) -> Result<Vec<Location>, Error> {
    if bytes.len() != count.saturating_mul(LOCATION_BYTES) {
        let expected = format!("{count} locations of {LOCATION_BYTES} bytes");
        return Err(Error::corrupt("locations of a region", 0, expected, format!("{} bytes", bytes.len())));
    }
    let mut cursor = Cursor::new(bytes);
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        let at = u64::try_from(cursor.pos()).unwrap_or(u64::MAX);
        let cut = |_| Error::corrupt("locations of a region", at, "a whole location", "the end");
        let (frame_offset, frame_len) = (cursor.u64().map_err(cut)?, cursor.u32().map_err(cut)?);
        let entry = cursor.u32().map_err(cut)?;
        let end = frame_offset.checked_add(frame_len.into());
        if frame_len > crate::limits::MAX_CHUNK_BYTES.saturating_mul(2)
            || end.is_none_or(|end| end > file_len)
        {
            let expected = format!("a frame within {file_len} bytes");
            let found = format!("{frame_len} bytes at {frame_offset:#x}");
            return Err(Error::corrupt("locations of a region", at, expected, found));
        }
        out.push(Location { frame_offset, frame_len, entry });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(extents: &[(ExtentKind, u64)]) -> Vec<u8> {
        let mut out = Vec::new();
        extents.iter().for_each(|(kind, len)| write_extent(&mut out, *kind, *len));
        out
    }

    #[test]
    fn extents_follow_each_other() {
        let id = ChunkId::of(b"x");
        let kinds = [
            (ExtentKind::Data(id), 4096),
            (ExtentKind::Zero, 1 << 40),
            (ExtentKind::Discard, 7),
            (ExtentKind::Excluded(Exclusion::Hibernation), 512),
            (ExtentKind::Excluded(Exclusion::Other(99)), 512),
            (ExtentKind::Unreadable, 512),
        ];
        let len = kinds.iter().map(|(_, len)| len).sum();
        let parsed = parse_table(&table(&kinds), 1000, len).unwrap();
        assert_eq!(parsed.iter().map(|extent| (extent.kind, extent.len)).collect::<Vec<_>>(), kinds);
        assert_eq!((parsed[1].offset, parsed[2].offset), (5096, 5096 + (1 << 40)));
    }

    #[test]
    fn tables_that_do_not_fill_their_region_are_refused() {
        let data = ExtentKind::Data(ChunkId::of(b""));
        let cases = [
            (vec![(ExtentKind::Zero, 10)], 11, "expected extents of 11 bytes, found 10 bytes"),
            (vec![(ExtentKind::Zero, 10)], 9, "expected 1 to 9 bytes, found 10"),
            (vec![(ExtentKind::Zero, 0)], 9, "expected 1 to 9 bytes, found 0"),
            (vec![(data, (1 << 20) + 1)], 1 << 30, "expected 1 to 1048576 bytes, found 1048577"),
            (vec![], 1, "expected extents of 1 bytes, found 0 bytes"),
        ];
        for (extents, len, message) in cases {
            let error = parse_table(&table(&extents), 0, len).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let mut odd = table(&[(ExtentKind::Zero, 10)]);
        odd[7] = 77;
        let error = parse_table(&odd, 0, 10).unwrap_err().to_string();
        assert_eq!(error, "kind of extent not supported: 77");
    }
}
