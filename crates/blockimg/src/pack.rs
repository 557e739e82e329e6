//! Packs: files of a store with many frames and an index of them at the end. The index is a convenience, the frames say it all.

use std::collections::BTreeMap;

use gravure_io::{Cursor, ReadAt};

use crate::file::scan;
use crate::limits::MAX_STRUCTURE_BYTES;
use crate::{ChunkId, Error, Frame, FrameDecoder, FrameEncoder, FrameHeader, FrameKind};

const HEADER: [u8; 16] = *b"GRAVPAK\0\x01\0\0\0\0\0\0\0";
const TRAILER_MAGIC: [u8; 8] = *b"GPKTRAIL";
const TRAILER_BYTES: usize = 32;

/// Where a content is in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackEntry {
    /// The content.
    pub id: ChunkId,
    /// Plain bytes.
    pub len: u32,
    /// Absolute byte of its frame in the pack.
    pub frame_offset: u64,
    /// Bytes of the frame.
    pub frame_len: u32,
    /// Which entry of the frame it is.
    pub entry: u32,
}

/// Puts a pack together in memory.
#[derive(Debug)]
pub struct PackBuilder {
    bytes: Vec<u8>,
    entries: Vec<PackEntry>,
    headers: Vec<u8>,
}

impl Default for PackBuilder {
    fn default() -> Self {
        Self { bytes: HEADER.to_vec(), entries: Vec::new(), headers: Vec::new() }
    }
}

impl PackBuilder {
    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Nothing is in it yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is in it.
    pub fn entries(&self) -> &[PackEntry] {
        &self.entries
    }

    /// Adds a frame.
    pub fn push(&mut self, frame: &Frame) {
        let frame_offset = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        frame.write(&mut self.bytes);
        self.headers.extend_from_slice(&frame_offset.to_le_bytes());
        frame.header.write(&mut self.headers);
        self.entries.extend(entries(frame_offset, &frame.header));
    }

    /// The frame at `frame_offset`, from before the pack was finished.
    pub fn frame(&self, frame_offset: u64) -> Result<Frame, Error> {
        Frame::read(&self.bytes, frame_offset)
    }

    /// The whole pack and its name: BLAKE3 of the index, so equal packs have one name.
    pub fn finish(mut self) -> Result<(ChunkId, Vec<u8>, Vec<PackEntry>), Error> {
        let index = FrameEncoder::new(3)?.single(FrameKind::Index, &self.headers)?;
        let index_offset = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        index.write(&mut self.bytes);
        let mut trailer = TRAILER_MAGIC.to_vec();
        trailer.extend_from_slice(&index_offset.to_le_bytes());
        trailer.extend_from_slice(&[0; 8]);
        let check = ChunkId::of(&trailer);
        trailer.extend_from_slice(check.0.get(..8).unwrap_or_default());
        self.bytes.extend_from_slice(&trailer);
        Ok((ChunkId::of(&self.headers), self.bytes, self.entries))
    }
}

fn entries(frame_offset: u64, header: &FrameHeader) -> impl Iterator<Item = PackEntry> {
    let frame_len = u32::try_from(header.frame_len()).unwrap_or(u32::MAX);
    (0..).zip(&header.entries).map(move |(entry, item)| PackEntry {
        id: item.id,
        len: item.len,
        frame_offset,
        frame_len,
        entry,
    })
}

/// Reads the index of a pack, or makes it anew of the frames when the index is damaged.
pub fn read_pack(source: &dyn ReadAt) -> Result<PackIndex, Error> {
    let mut header = [0; HEADER.len()];
    source.read_exact_at(0, &mut header).map_err(Error::io("read pack", 0))?;
    if header != HEADER {
        return Err(Error::corrupt("pack", 0, "\"GRAVPAK\" and version 1", format!("{header:02x?}")));
    }
    match read_index(source) {
        Ok((name, entries)) => Ok(PackIndex { name: Some(name), entries, damage: None }),
        Err(error) if error.is_integrity() || matches!(error, Error::Limit { .. }) => {
            let (frames, _) = scan(source, u64::try_from(HEADER.len()).unwrap_or(0));
            let data = frames.into_iter().filter(|(_, header)| header.kind != FrameKind::Index);
            let entries = data.flat_map(|(offset, header)| entries(offset, &header).collect::<Vec<_>>());
            Ok(PackIndex { name: None, entries: entries.collect(), damage: Some(error.to_string()) })
        }
        Err(error) => Err(error),
    }
}

/// What is in a pack.
#[derive(Debug, Clone)]
pub struct PackIndex {
    /// BLAKE3 of the index; `None` when the index is damaged.
    pub name: Option<ChunkId>,
    /// Everything that can be found.
    pub entries: Vec<PackEntry>,
    /// Why the index could not be read.
    pub damage: Option<String>,
}

fn read_index(source: &dyn ReadAt) -> Result<(ChunkId, Vec<PackEntry>), Error> {
    let trailer_at = source.size().saturating_sub(u64::try_from(TRAILER_BYTES).unwrap_or(u64::MAX));
    let mut trailer = [0; TRAILER_BYTES];
    source.read_exact_at(trailer_at, &mut trailer).map_err(Error::io("read pack", trailer_at))?;
    let (body, seal) = trailer.split_at(TRAILER_BYTES.saturating_sub(8));
    if !body.starts_with(&TRAILER_MAGIC) || !ChunkId::of(body).0.starts_with(seal) {
        return Err(Error::corrupt("trailer of a pack", trailer_at, "its checksum", "another"));
    }
    let mut cursor = Cursor::new(body.get(8..).unwrap_or_default());
    let cut = |_| Error::corrupt("index of a pack", trailer_at, "a whole entry", "the end");
    let index_offset = cursor.u64().map_err(cut)?;
    let frame = Frame::read(source, index_offset)?.expect(FrameKind::Index)?;
    let mut plain = Vec::new();
    FrameDecoder::new()?.decode(&frame, &mut plain)?;
    let mut out = Vec::new();
    let mut rest = plain.as_slice();
    let mut expected = u64::try_from(HEADER.len()).unwrap_or(0);
    while !rest.is_empty() {
        let (offset, bytes) = rest
            .split_first_chunk::<8>()
            .ok_or_else(|| Error::corrupt("index of a pack", index_offset, "a whole entry", "the end"))?;
        let offset = u64::from_le_bytes(*offset);
        let header = FrameHeader::parse(bytes, offset)?;
        if offset != expected {
            let found = format!("{offset:#x}");
            return Err(Error::corrupt("index of a pack", index_offset, format!("{expected:#x}"), found));
        }
        expected = offset.saturating_add(header.frame_len());
        rest = bytes.get(header.header_len()..).unwrap_or_default();
        out.extend(entries(offset, &header));
    }
    if expected != index_offset {
        let found = format!("{expected:#x}");
        return Err(Error::corrupt("end of the frames", index_offset, format!("{index_offset:#x}"), found));
    }
    Ok((ChunkId::of(&plain), out))
}

/// The contents of a pack by id; where an id occurs twice the first one counts.
pub fn by_id(entries: &[PackEntry]) -> BTreeMap<ChunkId, PackEntry> {
    let mut out = BTreeMap::new();
    for entry in entries {
        out.entry(entry.id).or_insert(*entry);
    }
    out
}

/// Bytes of a pack at most: what its index may name, and its frames.
pub fn max_pack_bytes() -> u64 {
    u64::from(MAX_STRUCTURE_BYTES).saturating_mul(4)
}
