//! Image files: header, facts, then for each region its table, the chunks that are new and where all of them are; at the end
//! root, directory, signature and trailer. Written front to back, so the same bytes serve as a stream. A manifest in a store
//! is such a file without regions.

use std::io::{Read, Write};

use gravure_io::{Cursor, ReadAt};

use crate::facts::{self, Facts};
use crate::table::{Extent, Location, parse_locations, parse_table};
use crate::{ChunkId, Error, Frame, FrameDecoder, FrameEncoder, FrameHeader, FrameKind, Region, Root};

const HEADER_MAGIC: [u8; 8] = *b"GRAVGIM\0";
const TRAILER_MAGIC: [u8; 8] = *b"GIMTRAIL";
/// The version this one writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes of header and trailer each.
const END_BYTES: usize = 64;
/// Bytes of an entry of the directory.
const DIRECTORY_ENTRY_BYTES: usize = 16;

/// Whether `bytes`, the first of a file, are those of an image file.
pub fn is_image(bytes: &[u8]) -> bool {
    bytes.starts_with(&HEADER_MAGIC)
}

/// 64 bytes with a magic number in front and the start of their BLAKE3 at the end.
fn sealed(magic: [u8; 8], fields: &[u8]) -> [u8; END_BYTES] {
    let mut out = [0; END_BYTES];
    for (to, from) in out.iter_mut().zip(magic.iter().chain(fields)) {
        *to = *from;
    }
    let (body, seal) = out.split_at_mut(END_BYTES.saturating_sub(8));
    let check = ChunkId::of(body);
    seal.iter_mut().zip(check.0).for_each(|(to, from)| *to = from);
    out
}

fn unseal<'a>(
    what: &'static str,
    magic: [u8; 8],
    bytes: &'a [u8; END_BYTES],
    offset: u64,
) -> Result<Cursor<'a>, Error> {
    let (body, seal) = bytes.split_at(END_BYTES.saturating_sub(8));
    if !body.starts_with(&magic) {
        let found = format!("{:02x?}", body.get(..8).unwrap_or_default());
        return Err(Error::corrupt(what, offset, format!("{:?}", String::from_utf8_lossy(&magic)), found));
    }
    if !ChunkId::of(body).0.starts_with(seal) {
        return Err(Error::corrupt(what, offset, "its checksum", "another"));
    }
    Ok(Cursor::new(body.get(8..).unwrap_or_default()))
}

fn parse_header(bytes: &[u8; END_BYTES]) -> Result<(), Error> {
    let cut = |_| Error::corrupt("header", 0, "a whole header", "the end");
    let mut cursor = unseal("header", HEADER_MAGIC, bytes, 0)?;
    let version = cursor.u32().map_err(cut)?;
    if version != FORMAT_VERSION {
        return Err(Error::Unsupported { what: "version of the image", value: version.to_string() });
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trailer {
    root: u64,
    /// 0 in a manifest.
    directory: u64,
    /// 0 when there is none.
    signature: u64,
}

impl Trailer {
    fn to_bytes(self) -> [u8; END_BYTES] {
        let fields = [self.root, self.directory, self.signature].map(u64::to_le_bytes).concat();
        sealed(TRAILER_MAGIC, &fields)
    }

    fn parse(bytes: &[u8; END_BYTES], offset: u64) -> Result<Self, Error> {
        let cut = |_| Error::corrupt("trailer", offset, "a whole trailer", "the end");
        let mut cursor = unseal("trailer", TRAILER_MAGIC, bytes, offset)?;
        let (root, directory) = (cursor.u64().map_err(cut)?, cursor.u64().map_err(cut)?);
        Ok(Self { root, directory, signature: cursor.u64().map_err(cut)? })
    }
}

/// Where a frame was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Absolute byte.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

/// Writes an image file or a manifest, front to back.
#[derive(Debug)]
pub struct ImageWriter<W> {
    output: W,
    offset: u64,
    facts: ChunkId,
    encoder: FrameEncoder,
    /// Table and locations of each region.
    directory: Vec<u8>,
    buf: Vec<u8>,
}

impl<W: Write> ImageWriter<W> {
    /// Writes header and facts.
    pub fn new(mut output: W, facts: &Facts) -> Result<Self, Error> {
        let header = sealed(HEADER_MAGIC, &FORMAT_VERSION.to_le_bytes());
        output.write_all(&header).map_err(Error::io("write header", 0))?;
        let bytes = facts::to_json("facts", facts)?;
        let offset = u64::try_from(END_BYTES).unwrap_or(u64::MAX);
        // Structures are few and compress badly; a low level costs nothing.
        let encoder = FrameEncoder::new(3)?;
        let (directory, buf) = (Vec::new(), Vec::new());
        let mut this = Self { output, offset, facts: ChunkId::of(&bytes), encoder, directory, buf };
        this.structure(FrameKind::Facts, &bytes)?;
        Ok(this)
    }

    /// BLAKE3 of the facts, for the root.
    pub fn facts(&self) -> ChunkId {
        self.facts
    }

    /// Writes a frame.
    pub fn frame(&mut self, frame: &Frame) -> Result<Placed, Error> {
        self.buf.clear();
        frame.write(&mut self.buf);
        self.output.write_all(&self.buf).map_err(Error::io("write frame", self.offset))?;
        let len = u32::try_from(self.buf.len()).unwrap_or(u32::MAX);
        let placed = Placed { offset: self.offset, len };
        self.offset = self.offset.saturating_add(len.into());
        Ok(placed)
    }

    fn structure(&mut self, kind: FrameKind, plain: &[u8]) -> Result<Placed, Error> {
        let frame = self.encoder.single(kind, plain)?;
        self.frame(&frame)
    }

    /// Writes the table of the next region. Its frames follow, then its locations.
    pub fn table(&mut self, table: &[u8]) -> Result<Placed, Error> {
        let placed = self.structure(FrameKind::Table, table)?;
        self.directory.extend_from_slice(&placed.offset.to_le_bytes());
        // The locations, when there are some.
        self.directory.extend_from_slice(&0u64.to_le_bytes());
        Ok(placed)
    }

    /// Writes where the chunks of the region are.
    pub fn locations(&mut self, locations: &[u8]) -> Result<(), Error> {
        let placed = self.structure(FrameKind::Locations, locations)?;
        let at = self.directory.len().saturating_sub(8);
        if let Some(place) = self.directory.get_mut(at..) {
            place.copy_from_slice(&placed.offset.to_le_bytes());
        }
        Ok(())
    }

    /// Writes what stands at the end. Returns the output and the length of the file.
    pub fn finish(mut self, root: &Root, signature: Option<&[u8]>) -> Result<(W, u64), Error> {
        let regions = self.directory.len().checked_div(DIRECTORY_ENTRY_BYTES).unwrap_or(0);
        if root.facts != self.facts || (regions != 0 && regions != root.regions.len()) {
            let reason = format!("{} regions in the root, {regions} written", root.regions.len());
            return Err(Error::Unwritable { what: "root", reason });
        }
        let bytes = root.to_bytes()?;
        let root = self.structure(FrameKind::Root, &bytes)?.offset;
        let directory = std::mem::take(&mut self.directory);
        let directory = match directory.is_empty() {
            true => 0,
            false => self.structure(FrameKind::Directory, &directory)?.offset,
        };
        let signature = match signature {
            Some(signature) => self.structure(FrameKind::Signature, signature)?.offset,
            None => 0,
        };
        let trailer = Trailer { root, directory, signature }.to_bytes();
        self.output.write_all(&trailer).map_err(Error::io("write trailer", self.offset))?;
        let len = self.offset.saturating_add(u64::try_from(END_BYTES).unwrap_or(0));
        Ok((self.output, len))
    }
}

/// An opened image file or manifest: everything but tables and chunks has been read and checked.
#[derive(Debug, Clone)]
pub struct ImageFile {
    /// What it says of itself.
    pub facts: Facts,
    /// The device.
    pub root: Root,
    /// BLAKE3 of the root: the id of the image. It binds the facts, too.
    pub id: ChunkId,
    /// A signature over the root, as it came.
    pub signature: Option<Vec<u8>>,
    /// Table and locations of each region; empty in a manifest.
    directory: Vec<(u64, u64)>,
    len: u64,
}

impl ImageFile {
    /// Opens the file in `source`.
    pub fn open(source: &dyn ReadAt) -> Result<Self, Error> {
        let mut bytes = [0; END_BYTES];
        source.read_exact_at(0, &mut bytes).map_err(Error::io("read header", 0))?;
        parse_header(&bytes)?;
        let len = source.size();
        let end = u64::try_from(END_BYTES).unwrap_or(u64::MAX);
        let trailer_at = len.saturating_sub(end);
        source.read_exact_at(trailer_at, &mut bytes).map_err(Error::io("read trailer", trailer_at))?;
        let trailer = Trailer::parse(&bytes, trailer_at)?;
        let mut decoder = FrameDecoder::new()?;
        let mut structure = |kind: FrameKind, offset: u64| -> Result<(Vec<u8>, ChunkId), Error> {
            if offset < end || offset >= trailer_at {
                let expected = format!("an offset from {end:#x} to {trailer_at:#x}");
                return Err(Error::corrupt("trailer", trailer_at, expected, format!("{offset:#x}")));
            }
            read_structure(source, &mut decoder, kind, offset)
        };
        let (facts_bytes, facts_id) = structure(FrameKind::Facts, end)?;
        let facts = facts::from_json("facts", &facts_bytes, end)?;
        let (root_bytes, id) = structure(FrameKind::Root, trailer.root)?;
        let root = Root::parse(&root_bytes)?;
        if root.facts != facts_id {
            let (expected, found) = (root.facts, facts_id);
            return Err(Error::Mismatch { what: "facts", offset: end, expected, found });
        }
        let directory = match trailer.directory {
            0 => Vec::new(),
            offset => parse_directory(&structure(FrameKind::Directory, offset)?.0, &root, trailer_at)?,
        };
        let signature = match trailer.signature {
            0 => None,
            offset => Some(structure(FrameKind::Signature, offset)?.0),
        };
        Ok(Self { facts, root, id, signature, directory, len })
    }

    /// The end of the file or manifest in `source` with `signature` in the place of any that is there: from which byte on it goes.
    /// Everything before stays; what is behind it then has to go.
    pub fn signed_end(source: &dyn ReadAt, signature: &[u8]) -> Result<(u64, Vec<u8>), Error> {
        let mut bytes = [0; END_BYTES];
        let end = u64::try_from(END_BYTES).unwrap_or(u64::MAX);
        let trailer_at = source.size().saturating_sub(end);
        source.read_exact_at(trailer_at, &mut bytes).map_err(Error::io("read trailer", trailer_at))?;
        let old = Trailer::parse(&bytes, trailer_at)?;
        let offset = if old.signature == 0 { trailer_at } else { old.signature };
        let frame = FrameEncoder::new(3)?.single(FrameKind::Signature, signature)?;
        let mut out = Vec::new();
        frame.write(&mut out);
        out.extend_from_slice(&Trailer { signature: offset, ..old }.to_bytes());
        Ok((offset, out))
    }

    /// Whether this is a manifest: content lies in a store.
    pub fn is_manifest(&self) -> bool {
        self.directory.is_empty() && !self.root.regions.is_empty()
    }

    /// The extents of region `index`, which `source` must be the file of.
    pub fn extents(
        &self,
        source: &dyn ReadAt,
        decoder: &mut FrameDecoder,
        index: usize,
    ) -> Result<Vec<Extent>, Error> {
        let (region, (table, _)) = self.region(index)?;
        let (bytes, found) = read_structure(source, decoder, FrameKind::Table, table)?;
        check_region(&bytes, found, region, table)
    }

    /// Where the chunks of region `index` are; one for each data extent.
    pub fn locations(
        &self,
        source: &dyn ReadAt,
        decoder: &mut FrameDecoder,
        index: usize,
        extents: &[Extent],
    ) -> Result<Vec<Location>, Error> {
        let (_, (_, locations)) = self.region(index)?;
        let count = extents.iter().filter(|extent| extent.id().is_some()).count();
        if count == 0 {
            return Ok(Vec::new());
        }
        let (bytes, _) = read_structure(source, decoder, FrameKind::Locations, locations)?;
        parse_locations(&bytes, count, self.len)
    }

    fn region(&self, index: usize) -> Result<(&Region, (u64, u64)), Error> {
        let found = self.root.regions.get(index).zip(self.directory.get(index).copied());
        found.ok_or_else(|| Error::Unsupported { what: "region", value: format!("{index} of this file") })
    }
}

/// The extents in a table whose BLAKE3 is `found`, checked against the root.
pub fn check_region(
    table: &[u8],
    found: ChunkId,
    region: &Region,
    offset: u64,
) -> Result<Vec<Extent>, Error> {
    if found != region.table {
        return Err(Error::Mismatch { what: "region table", offset, expected: region.table, found });
    }
    let extents = parse_table(table, region.offset, region.len)?;
    let data = extents.iter().filter(|extent| extent.id().is_some());
    let data_bytes = data.fold(0u64, |sum, extent| sum.saturating_add(extent.len));
    if data_bytes != region.data_bytes {
        let expected = format!("{} bytes of data", region.data_bytes);
        return Err(Error::corrupt("region table", offset, expected, data_bytes));
    }
    Ok(extents)
}

fn read_structure(
    source: &dyn ReadAt,
    decoder: &mut FrameDecoder,
    kind: FrameKind,
    offset: u64,
) -> Result<(Vec<u8>, ChunkId), Error> {
    let frame = Frame::read(source, offset)?.expect(kind)?;
    let mut out = Vec::new();
    decoder.decode(&frame, &mut out)?;
    let id = ChunkId::of(&out);
    Ok((out, id))
}

fn parse_directory(bytes: &[u8], root: &Root, end: u64) -> Result<Vec<(u64, u64)>, Error> {
    let count = root.regions.len();
    if bytes.len() != count.saturating_mul(DIRECTORY_ENTRY_BYTES) {
        let expected = format!("{count} entries of {DIRECTORY_ENTRY_BYTES} bytes");
        return Err(Error::corrupt("directory of regions", 0, expected, format!("{} bytes", bytes.len())));
    }
    let mut cursor = Cursor::new(bytes);
    let mut out = Vec::with_capacity(count);
    for region in &root.regions {
        let cut = |_| Error::corrupt("directory of regions", 0, "a whole entry", "the end");
        let (table, locations) = (cursor.u64().map_err(cut)?, cursor.u64().map_err(cut)?);
        if table >= end || locations >= end || (locations == 0) != (region.data_bytes == 0) {
            let expected = format!("offsets below {end:#x}, locations where there is data");
            let found = format!("{table:#x} and {locations:#x}");
            return Err(Error::corrupt("directory of regions", 0, expected, found));
        }
        out.push((table, locations));
    }
    Ok(out)
}

/// Reads an image file front to back.
#[derive(Debug)]
pub struct ImageStream<R> {
    input: R,
    offset: u64,
    facts: Facts,
    facts_id: ChunkId,
    decoder: FrameDecoder,
}

/// What comes next of a stream.
#[derive(Debug)]
pub enum StreamItem {
    /// The table of the next region, with its BLAKE3; what the root will say of it is not known yet.
    Table(Vec<u8>, ChunkId),
    /// Chunks, not decoded yet.
    Data(Frame),
    /// The end: everything was there.
    End {
        /// The root; tables must be compared with it.
        root: Box<Root>,
        /// The id of the image.
        id: ChunkId,
        /// A signature over the root, as it came.
        signature: Option<Vec<u8>>,
    },
}

impl<R: Read> ImageStream<R> {
    /// Reads header and facts.
    pub fn open(mut input: R) -> Result<Self, Error> {
        let mut bytes = [0; END_BYTES];
        input.read_exact(&mut bytes).map_err(Error::io("read header", 0))?;
        parse_header(&bytes)?;
        let mut decoder = FrameDecoder::new()?;
        let offset = u64::try_from(END_BYTES).unwrap_or(u64::MAX);
        let frame = Frame::read_next(&mut input, offset)?.expect(FrameKind::Facts)?;
        let mut plain = Vec::new();
        decoder.decode(&frame, &mut plain)?;
        let facts = facts::from_json("facts", &plain, offset)?;
        let offset = offset.saturating_add(frame.header.frame_len());
        Ok(Self { input, offset, facts, facts_id: ChunkId::of(&plain), decoder })
    }

    /// What the image says of itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The next part that a restore needs.
    pub fn next_item(&mut self) -> Result<StreamItem, Error> {
        loop {
            let frame = self.next_frame()?;
            match frame.header.kind {
                FrameKind::Data => return Ok(StreamItem::Data(frame)),
                FrameKind::Locations => {}
                FrameKind::Table => {
                    let (plain, id) = self.plain(&frame)?;
                    return Ok(StreamItem::Table(plain, id));
                }
                FrameKind::Root => return self.finish(&frame),
                kind => {
                    let expected = "a table, chunks or the root";
                    return Err(Error::corrupt("frame", frame.offset, expected, kind));
                }
            }
        }
    }

    fn next_frame(&mut self) -> Result<Frame, Error> {
        let frame = Frame::read_next(&mut self.input, self.offset)?;
        self.offset = self.offset.saturating_add(frame.header.frame_len());
        Ok(frame)
    }

    fn plain(&mut self, frame: &Frame) -> Result<(Vec<u8>, ChunkId), Error> {
        let mut plain = Vec::new();
        self.decoder.decode(frame, &mut plain)?;
        let id = ChunkId::of(&plain);
        Ok((plain, id))
    }

    fn finish(&mut self, frame: &Frame) -> Result<StreamItem, Error> {
        let (bytes, id) = self.plain(frame)?;
        let root = Root::parse(&bytes)?;
        if root.facts != self.facts_id {
            let (expected, found) = (root.facts, self.facts_id);
            return Err(Error::Mismatch { what: "facts", offset: 64, expected, found });
        }
        let mut expected = Trailer { root: frame.offset, directory: 0, signature: 0 };
        if !root.regions.is_empty() {
            let directory = self.next_frame()?.expect(FrameKind::Directory)?;
            expected.directory = directory.offset;
        }
        let mut signature = None;
        let mut head = [0; END_BYTES];
        // A frame and a trailer differ in their first bytes, so the shorter of both headers is read first.
        let (first, rest) = head.split_at_mut(crate::frame::FRAME_HEADER_BYTES);
        self.input.read_exact(first).map_err(Error::io("read trailer", self.offset))?;
        if !first.starts_with(&TRAILER_MAGIC) {
            let start = first.to_vec();
            let mut input = start.as_slice().chain(&mut self.input);
            let frame = Frame::read_next(&mut input, self.offset)?.expect(FrameKind::Signature)?;
            expected.signature = self.offset;
            self.offset = self.offset.saturating_add(frame.header.frame_len());
            signature = Some(self.plain(&frame)?.0);
            self.input.read_exact(first).map_err(Error::io("read trailer", self.offset))?;
        }
        self.input.read_exact(rest).map_err(Error::io("read trailer", self.offset))?;
        let found = Trailer::parse(&head, self.offset)?;
        if found != expected {
            return Err(Error::corrupt(
                "trailer",
                self.offset,
                format!("{expected:x?}"),
                format!("{found:x?}"),
            ));
        }
        Ok(StreamItem::End { root: Box::new(root), id, signature })
    }
}

/// The headers of all frames of a file, front to back, for rebuilding what is lost. Ends at the first thing that is no
/// frame; the offset behind the last frame comes with it.
pub(crate) fn scan(source: &dyn ReadAt, start: u64) -> (Vec<(u64, FrameHeader)>, u64) {
    let mut out = Vec::new();
    let mut offset = start;
    while let Ok(header) = FrameHeader::read(source, offset) {
        let end = offset.saturating_add(header.frame_len());
        if end > source.size() {
            break;
        }
        out.push((offset, header));
        offset = end;
    }
    (out, offset)
}
