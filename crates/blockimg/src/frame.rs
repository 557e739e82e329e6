//! Frames: the unit in which content is stored, sent and checked. A frame says of itself what it holds, so files and packs can
//! be read without any index, and an index can be made of them again (FORMAT.md, "Frames").

use std::fmt;
use std::io::{self, Read};

use gravure_io::{Cursor, ReadAt};

use crate::limits::{
    MAX_CHUNK_BYTES, MAX_ENTRIES, MAX_FACTS_BYTES, MAX_SIGNATURE_BYTES, MAX_STRUCTURE_BYTES,
};
use crate::{ChunkId, Encoding, Error};

/// Bytes of the fixed part.
pub(crate) const FRAME_HEADER_BYTES: usize = 32;
/// Bytes of an entry: id and length.
const ENTRY_BYTES: usize = 36;
const MAGIC: [u8; 4] = *b"GFRM";

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrameKind {
    /// Chunks.
    Data,
    /// The table of a region.
    Table,
    /// Where in the file the chunks of a region are.
    Locations,
    /// The root of an image.
    Root,
    /// A signature over the root.
    Signature,
    /// Facts about the image, JSON.
    Facts,
    /// Where in the file the tables of all regions are.
    Directory,
    /// The index of a pack.
    Index,
}

impl FrameKind {
    const ALL: [Self; 8] = [
        Self::Data,
        Self::Table,
        Self::Locations,
        Self::Root,
        Self::Signature,
        Self::Facts,
        Self::Directory,
        Self::Index,
    ];

    fn number(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Table => 2,
            Self::Locations => 3,
            Self::Root => 4,
            Self::Signature => 5,
            Self::Facts => 6,
            Self::Directory => 7,
            Self::Index => 8,
        }
    }

    /// Name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "chunk",
            Self::Table => "region table",
            Self::Locations => "locations of a region",
            Self::Root => "root",
            Self::Signature => "signature",
            Self::Facts => "facts",
            Self::Directory => "directory of regions",
            Self::Index => "index of a pack",
        }
    }

    fn max_plain(self) -> u32 {
        match self {
            Self::Data => MAX_CHUNK_BYTES,
            Self::Facts => MAX_FACTS_BYTES,
            Self::Signature => MAX_SIGNATURE_BYTES,
            _ => MAX_STRUCTURE_BYTES,
        }
    }
}

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One content in a frame; those of a frame follow each other without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// BLAKE3 of the plain bytes.
    pub id: ChunkId,
    /// Plain bytes, at least 1.
    pub len: u32,
}

/// A frame's header that passed every check: its lengths can be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameHeader {
    /// What it holds.
    pub kind: FrameKind,
    /// How its plain bytes are stored.
    pub encoding: Encoding,
    /// Bytes stored behind the header.
    pub stored: u32,
    /// Plain bytes, the sum of the entries.
    pub plain: u32,
    /// What is in it.
    pub entries: Vec<Entry>,
}

/// The fixed part of a header: enough to know how much follows. Numbers are not judged before the checksum is: damage must not
/// look like a newer version.
#[derive(Debug, Clone, Copy)]
struct Fixed {
    kind: u8,
    encoding: (u8, u8),
    entries: u32,
    stored: u32,
    plain: u32,
    check: [u8; 8],
}

impl FrameHeader {
    /// A header of `entries`, whose sum must be within what `kind` may hold.
    pub fn new(kind: FrameKind, encoding: Encoding, stored: u32, entries: Vec<Entry>) -> Result<Self, Error> {
        let unwritable = |reason: String| Error::Unwritable { what: "frame", reason };
        let max_entries = if kind == FrameKind::Data { MAX_ENTRIES } else { 1 };
        if entries.is_empty() || entries.len() > usize::try_from(max_entries).unwrap_or(0) {
            return Err(unwritable(format!("1 to {max_entries} entries expected, {} given", entries.len())));
        }
        let plain = entries.iter().try_fold(0u32, |sum, entry| sum.checked_add(entry.len));
        let plain = plain.filter(|plain| *plain <= kind.max_plain());
        let plain =
            plain.ok_or_else(|| unwritable(format!("at most {} plain bytes expected", kind.max_plain())))?;
        if entries.iter().any(|entry| entry.len == 0) || stored == 0 || stored > encoding.max_stored(plain) {
            return Err(unwritable(format!("{stored} stored bytes for {plain} plain ones")));
        }
        Ok(Self { kind, encoding, stored, plain, entries })
    }

    /// Bytes of the header with its entries.
    pub fn header_len(&self) -> usize {
        FRAME_HEADER_BYTES.saturating_add(self.entries.len().saturating_mul(ENTRY_BYTES))
    }

    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> u64 {
        u64::try_from(self.header_len()).unwrap_or(u64::MAX).saturating_add(u64::from(self.stored))
    }

    /// Appends the header to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        let (encoding, parameter) = self.encoding.numbers();
        out.extend_from_slice(&[self.kind.number(), encoding, parameter, 0]);
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        for value in [count, self.stored, self.plain, 0] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        let fixed = out.get(start..).map(<[u8]>::to_vec).unwrap_or_default();
        out.extend_from_slice(&[0; 8]);
        let entries_at = out.len();
        for entry in &self.entries {
            out.extend_from_slice(&entry.id.0);
            out.extend_from_slice(&entry.len.to_le_bytes());
        }
        let check = check(&fixed, out.get(entries_at..).unwrap_or_default());
        let check_at = entries_at.saturating_sub(8);
        if let Some(place) = out.get_mut(check_at..entries_at) {
            place.copy_from_slice(&check);
        }
    }

    /// Parses the header at the start of `bytes`; `offset` is for messages.
    pub fn parse(bytes: &[u8], offset: u64) -> Result<Self, Error> {
        let eof = || Error::corrupt("frame", offset, "a whole header", "the end");
        let fixed_bytes = bytes.first_chunk::<FRAME_HEADER_BYTES>().ok_or_else(eof)?;
        let fixed = Fixed::parse(fixed_bytes, offset)?;
        let entries = bytes.get(FRAME_HEADER_BYTES..).and_then(|rest| rest.get(..fixed.entries_len()));
        fixed.with_entries(fixed_bytes, entries.ok_or_else(eof)?, offset)
    }

    /// Reads the header at `offset` of `source`.
    pub fn read(source: &dyn ReadAt, offset: u64) -> Result<Self, Error> {
        let mut fixed_bytes = [0; FRAME_HEADER_BYTES];
        source.read_exact_at(offset, &mut fixed_bytes).map_err(Error::io("read frame", offset))?;
        let fixed = Fixed::parse(&fixed_bytes, offset)?;
        let at = offset.saturating_add(u64::try_from(FRAME_HEADER_BYTES).unwrap_or(0));
        let entries = source.read_vec_at(at, fixed.entries_len()).map_err(Error::io("read frame", offset))?;
        fixed.with_entries(&fixed_bytes, &entries, offset)
    }

    /// Reads the next header of a stream that stands at `offset`.
    pub fn read_next(input: &mut dyn Read, offset: u64) -> Result<Self, Error> {
        let mut fixed_bytes = [0; FRAME_HEADER_BYTES];
        input.read_exact(&mut fixed_bytes).map_err(Error::io("read frame", offset))?;
        let fixed = Fixed::parse(&fixed_bytes, offset)?;
        let mut entries = vec![0; fixed.entries_len()];
        input.read_exact(&mut entries).map_err(Error::io("read frame", offset))?;
        fixed.with_entries(&fixed_bytes, &entries, offset)
    }
}

impl Fixed {
    fn parse(bytes: &[u8; FRAME_HEADER_BYTES], offset: u64) -> Result<Self, Error> {
        let short = |_| Error::corrupt("frame", offset, "a whole header", "the end");
        let mut cursor = Cursor::new(bytes);
        let magic: [u8; 4] = cursor.array().map_err(short)?;
        if magic != MAGIC {
            return Err(Error::corrupt("frame", offset, "\"GFRM\"", format!("{magic:02x?}")));
        }
        let kind = cursor.u8().map_err(short)?;
        let encoding = (cursor.u8().map_err(short)?, cursor.u8().map_err(short)?);
        cursor.u8().map_err(short)?;
        let entries = cursor.u32().map_err(short)?;
        let stored = cursor.u32().map_err(short)?;
        let plain = cursor.u32().map_err(short)?;
        cursor.u32().map_err(short)?;
        let check = cursor.array().map_err(short)?;
        if entries == 0 || entries > MAX_ENTRIES {
            let expected = format!("1 to {MAX_ENTRIES}");
            return Err(Error::corrupt("entries of a frame", offset, expected, entries));
        }
        Ok(Self { kind, encoding, entries, stored, plain, check })
    }

    /// Bounded by [`MAX_ENTRIES`].
    fn entries_len(self) -> usize {
        usize::try_from(self.entries).unwrap_or(0).saturating_mul(ENTRY_BYTES)
    }

    fn with_entries(
        self,
        fixed: &[u8; FRAME_HEADER_BYTES],
        bytes: &[u8],
        offset: u64,
    ) -> Result<FrameHeader, Error> {
        let (checked, _) = fixed.split_at(FRAME_HEADER_BYTES.saturating_sub(8));
        let found = check(checked, bytes);
        if found != self.check {
            let expected = format!("checksum {:02x?}", self.check);
            return Err(Error::corrupt("frame header", offset, expected, format!("{found:02x?}")));
        }
        let kind = FrameKind::ALL.into_iter().find(|kind| kind.number() == self.kind);
        let kind =
            kind.ok_or_else(|| Error::Unsupported { what: "kind of frame", value: self.kind.to_string() })?;
        let encoding = Encoding::from_numbers(self.encoding.0, self.encoding.1)?;
        if self.plain > kind.max_plain() {
            return Err(Error::limit(kind.name(), offset, self.plain.into(), kind.max_plain().into()));
        }
        if self.stored == 0 || self.stored > encoding.max_stored(self.plain) {
            let expected = format!("1 to {} stored bytes", encoding.max_stored(self.plain));
            return Err(Error::corrupt("frame", offset, expected, self.stored));
        }
        let entries: Vec<Entry> = bytes.chunks_exact(ENTRY_BYTES).filter_map(entry).collect();
        FrameHeader::new(kind, encoding, self.stored, entries)
            .ok()
            .filter(|header| header.plain == self.plain)
            .ok_or_else(|| {
                Error::corrupt(
                    "entries of a frame",
                    offset,
                    format!("lengths above 0 that make {} bytes", self.plain),
                    "others",
                )
            })
    }
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    let (id, len) = bytes.split_at_checked(ChunkId::LEN)?;
    Some(Entry { id: ChunkId(id.try_into().ok()?), len: u32::from_le_bytes(len.try_into().ok()?) })
}

fn check(fixed: &[u8], entries: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(fixed);
    hasher.update(entries);
    let mut out = [0; 8];
    hasher.finalize_xof().fill(&mut out);
    out
}

/// Header and stored bytes of the frame at the start of `bytes`, which were read at `offset`.
pub(crate) fn split(bytes: &[u8], offset: u64) -> Result<(FrameHeader, &[u8]), Error> {
    let header = FrameHeader::parse(bytes, offset)?;
    let len = usize::try_from(header.stored).unwrap_or(usize::MAX);
    let payload = bytes.get(header.header_len()..).and_then(|rest| rest.get(..len));
    let payload = payload.ok_or_else(|| Error::corrupt("frame", offset, "all its bytes", "the end"))?;
    Ok((header, payload))
}

/// A frame with its stored bytes.
#[derive(Debug, Clone)]
pub struct Frame {
    /// What it says of itself.
    pub header: FrameHeader,
    /// Its stored bytes.
    pub payload: Vec<u8>,
    /// Where it stood.
    pub offset: u64,
}

impl Frame {
    /// Reads the frame at `offset`.
    pub fn read(source: &dyn ReadAt, offset: u64) -> Result<Self, Error> {
        let header = FrameHeader::read(source, offset)?;
        let at = offset.saturating_add(u64::try_from(header.header_len()).unwrap_or(u64::MAX));
        let len = usize::try_from(header.stored).unwrap_or(usize::MAX);
        let payload = source.read_vec_at(at, len).map_err(Error::io("read frame", offset))?;
        Ok(Self { header, payload, offset })
    }

    /// Takes the frame at the start of `bytes`, which were read at `offset`.
    pub fn parse(bytes: &[u8], offset: u64) -> Result<Self, Error> {
        let (header, payload) = split(bytes, offset)?;
        Ok(Self { payload: payload.to_vec(), header, offset })
    }

    /// Reads the next frame of a stream that stands at `offset`.
    pub fn read_next(input: &mut dyn Read, offset: u64) -> Result<Self, Error> {
        let header = FrameHeader::read_next(input, offset)?;
        let mut payload = Vec::new();
        // What does not come is not allocated.
        let read = input.take(header.stored.into()).read_to_end(&mut payload);
        read.map_err(Error::io("read frame", offset))?;
        if payload.len() != usize::try_from(header.stored).unwrap_or(usize::MAX) {
            return Err(Error::io("read frame", offset)(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(Self { header, payload, offset })
    }

    /// Appends the frame to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.header.write(out);
        out.extend_from_slice(&self.payload);
    }

    /// Checks that the frame is of this kind.
    pub fn expect(self, kind: FrameKind) -> Result<Self, Error> {
        if self.header.kind == kind {
            return Ok(self);
        }
        Err(Error::corrupt("frame", self.offset, kind.name(), self.header.kind))
    }
}
