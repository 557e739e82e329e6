//! Reading a pipable file front to back (wim-container 5.5): a header, an XML document, the metadata of all images, then
//! blobs in any order, each behind 40 bytes that say what it is, and the tables at the end.
//!
//! The parts of a split set follow each other in one pipe, each with header, document and tables of its own; the images are
//! in the first.
//!
//! Nothing is kept but what the caller asks for. Every length is bounded before anything is allocated.

use std::io::{self, Read};

use gravure_io::ReadAt;
use gravure_tree::{Sha1Hash, Tree};
use sha1::{Digest, Sha1};
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::chunks::{Chunk, ChunkEncoding, RAW_PIECE_BYTES};
use crate::content::ChunkDecoder;
use crate::error::{Error, Opened, Scope, Warnings};
use crate::header::{Header, Layout, MAGIC_PIPABLE};
use crate::info::WimInfo;
use crate::limits::Limits;
use crate::metadata;
use crate::parts::BlobSet;
use crate::resource::ResourceFlags;

/// "What follows is a resource."
const MAGIC: u64 = 0x2b9b_9ba2_443d_b9d8;
/// Bytes that stand before each resource.
const PIPE_HEADER_BYTES: u64 = 40;
/// Bytes skipped per read.
const STEP_BYTES: usize = 64 << 10;
/// Largest integrity table: 20 bytes for every 10 MiB. Far below what the mark of a header is as a number, which tells the
/// two apart.
const MAX_INTEGRITY_BYTES: u64 = 64 << 20;

/// What stands before each resource.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct PipeHeaderDisk {
    magic: U64,     // 0x00
    size: U64,      // 0x08  plain bytes
    sha1: [u8; 20], // 0x10  of the plain bytes
    flags: U32,     // 0x24  as in resource headers
} // 0x28
const _: () = assert!(size_of::<PipeHeaderDisk>() == 40);

impl PipeHeaderDisk {
    pub(crate) fn new(size: u64, sha1: Sha1Hash, flags: ResourceFlags) -> Self {
        let (magic, size) = (U64::new(MAGIC), U64::new(size));
        Self { magic, size, sha1: sha1.0, flags: U32::new(u32::from(flags.0)) }
    }
}

/// What a resource in a pipe says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeResource {
    /// SHA-1 of its plain bytes.
    pub sha1: Sha1Hash,
    /// Plain bytes; never 0.
    pub size: u64,
    /// Metadata and tables, or a blob; compressed or not.
    pub flags: ResourceFlags,
    /// Absolute offset of its first stored byte.
    pub offset: u64,
}

/// Reads a pipable WIM from anything that gives bytes.
pub struct PipeReader<R> {
    input: R,
    /// Absolute offset of the next byte.
    at: u64,
    /// Which part of a split set is being read, from 1, and where it begins: its own offsets count from there.
    part: u16,
    part_at: u64,
    header: Header,
    info: WimInfo,
    limits: Limits,
    /// Metadata resources that have not been read yet.
    images_left: u32,
    open: Option<Open>,
    /// What the blob tables that went by list, each hash with its plain size.
    listed: Vec<(Sha1Hash, u64)>,
}

/// The resource that is being read.
#[derive(Debug, Clone, Copy)]
struct Open {
    resource: PipeResource,
    /// Plain bytes handed out.
    done: u64,
}

impl<R> std::fmt::Debug for PipeReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PipeReader").field("at", &self.at).finish_non_exhaustive()
    }
}

impl<R: Read> PipeReader<R> {
    /// Reads header and XML document. A file that is not pipable is refused by name: what is needed first stands at its
    /// end.
    pub fn open(input: R, limits: &Limits) -> Result<Opened<Self>, Error> {
        let mut warnings = Warnings::default();
        let mut input = input;
        let mut bytes = [0; 208];
        input.read_exact(&mut bytes).map_err(Error::io("WIM header", 0))?;
        let header = Header::parse(&bytes, 0)?;
        if header.layout != Layout::Pipable {
            return Err(Error::unsupported(Scope::File, "reading from a pipe", "a WIM that is not pipable"));
        }
        if header.part != 1 {
            let value = format!("part {} of {} first", header.part, header.parts);
            return Err(Error::unsupported(Scope::File, "reading a split set from a pipe", value));
        }
        if let Some(compression) = header.compression
            && compression.chunk_size() > limits.max_chunk_bytes
        {
            let (found, limit) = (u64::from(compression.chunk_size()), u64::from(limits.max_chunk_bytes));
            return Err(Error::Limit { what: "chunk size", offset: 0x14, found, limit, scope: Scope::File });
        }
        let (at, images_left) = (bytes.as_slice().size(), header.image_count);
        let (limits, info) = (*limits, WimInfo::default());
        let (part, part_at, listed) = (header.part, 0, Vec::new());
        let mut this =
            Self { input, at, part, part_at, header, info, limits, images_left, open: None, listed };
        let bytes = this.read_document()?;
        this.info = WimInfo::parse(&bytes, &mut warnings)?;
        if this.info.is_encrypted() {
            return Err(Error::unsupported(Scope::File, "encryption", "encrypted download image (ESD)"));
        }
        this.info.resize(usize::try_from(images_left).unwrap_or(usize::MAX));
        Ok(warnings.finish(this))
    }

    /// The header at the front: its tables are not known yet.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The XML document at the front, with an element for every image.
    pub fn info(&self) -> &WimInfo {
        &self.info
    }

    /// What may be held in memory and written at most.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Absolute offset of the next byte.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The decoded metadata of the next image, its hash checked; `None` when all were read.
    pub fn read_metadata(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.images_left == 0 {
            return Ok(None);
        }
        let what = "metadata resource";
        let resource = self.next_resource(what)?;
        if !resource.flags.contains(ResourceFlags::METADATA) {
            let found = format!("flags {:#x}", resource.flags.0);
            return Err(Error::corrupt(Scope::File, what, resource.offset, "the metadata flag", found));
        }
        self.images_left = self.images_left.saturating_sub(1);
        self.read_small(what, &resource, self.limits.max_metadata_bytes).map(Some)
    }

    /// The tree of an image whose metadata this is. Contents are known by their hashes alone; they stand as
    /// [`gravure_tree::Origin::Missing`].
    pub fn parse_image(&self, metadata: &[u8]) -> Result<Opened<Tree>, Error> {
        metadata::parse(metadata, &BlobSet::in_pipe(), &self.limits)
    }

    /// The next blob; `None` when the last blob table begins. What is left of the one before is skipped; all metadata must
    /// have been read. Where one part of a split set ends and the next begins is checked on the way.
    pub fn next_blob(&mut self) -> Result<Option<PipeResource>, Error> {
        self.skip()?;
        while self.read_metadata()?.is_some() {}
        loop {
            let resource = self.next_resource("blob")?;
            if !resource.flags.contains(ResourceFlags::METADATA) {
                return Ok(Some(resource));
            }
            if self.part >= self.header.parts {
                return Ok(None);
            }
            self.end_part(&resource)?;
            self.next_part()?;
        }
    }

    /// Appends the stored bytes of the next chunk of the resource to `stored`; `None` at its end.
    pub fn read_chunk(&mut self, stored: &mut Vec<u8>) -> Result<Option<Chunk>, Error> {
        let Some(Open { resource, done }) = self.open else { return Ok(None) };
        let left = resource.size.saturating_sub(done);
        if left == 0 {
            self.end()?;
            return Ok(None);
        }
        let compression =
            self.header.compression.filter(|_| resource.flags.contains(ResourceFlags::COMPRESSED));
        let chunk_size = compression.map_or(RAW_PIECE_BYTES, |compression| compression.chunk_size());
        let plain_len = u32::try_from(left).unwrap_or(u32::MAX).min(chunk_size);
        let stored_len = match compression {
            None => plain_len,
            Some(_) => {
                let mut len = [0; 4];
                let place = self.at;
                self.fill("size of a chunk", &mut len)?;
                let len = u32::from_le_bytes(len);
                if len == 0 || len > plain_len {
                    let expected = format!("1 to {plain_len}");
                    return Err(Error::corrupt(Scope::File, "size of a chunk", place, expected, len));
                }
                len
            }
        };
        let encoding = match compression {
            Some(compression) if stored_len != plain_len => ChunkEncoding::Compressed(compression),
            _ => ChunkEncoding::Raw,
        };
        let start = self.at;
        let base = stored.len();
        // At most one chunk.
        let len = usize::try_from(stored_len).unwrap_or(usize::MAX);
        stored.resize(base.saturating_add(len), 0);
        let read = stored.get_mut(base..).map(|part| self.fill("chunk", part));
        read.transpose()?;
        if let Some(open) = &mut self.open {
            open.done = done.saturating_add(u64::from(plain_len));
        }
        Ok(Some(Chunk { stored: start..self.at, plain_offset: done, plain_len, encoding }))
    }

    /// Reads to the end and checks that tables and header are there and agree with what came before. Returns the complete
    /// header, of a split set that of its last part, and the hashes of all blob tables, each with its plain size.
    pub fn finish(mut self) -> Result<(Header, Vec<(Sha1Hash, u64)>), Error> {
        let table = match self.open {
            Some(open) if open.resource.flags.contains(ResourceFlags::METADATA) => open.resource,
            _ => loop {
                if self.next_blob()?.is_none() {
                    match self.open {
                        Some(open) => break open.resource,
                        None => return Ok((self.header, Vec::new())),
                    }
                }
            },
        };
        let header = self.end_part(&table)?;
        let mut more = [0; 1];
        let place = self.at;
        match self.input.read(&mut more) {
            Ok(0) => Ok((header, self.listed)),
            Ok(_) => Err(Error::corrupt(Scope::File, "pipable WIM", place, "its end", "more bytes")),
            Err(error) => Err(Error::io("pipable WIM", place)(error)),
        }
    }

    /// Reads the tables and the header at the end of a part, whose blob table was begun, and checks that they agree with what
    /// came before.
    fn end_part(&mut self, table: &PipeResource) -> Result<Header, Error> {
        let bytes = self.read_small("blob table", table, self.limits.max_metadata_bytes)?;
        let mut rest = bytes.as_slice();
        while let Ok((entry, after)) = crate::blobs::BlobEntryDisk::read_from_prefix(rest) {
            rest = after;
            let place = crate::resource::ResourceHeader::parse(&entry.resource);
            if !place.flags.contains(ResourceFlags::METADATA) {
                self.listed.push((Sha1Hash(entry.sha1), place.size));
            }
        }
        let xml_at = self.at.saturating_add(PIPE_HEADER_BYTES);
        self.read_document()?;
        let (mut at, mut bytes) = (self.at, [0; 208]);
        let (mark, rest) = bytes.split_at_mut(MAGIC_PIPABLE.len());
        self.fill("WIM header", mark)?;
        if *mark != MAGIC_PIPABLE {
            self.skip_integrity(mark, at)?;
            at = self.at;
            self.fill("WIM header", mark)?;
        }
        self.fill("WIM header", rest)?;
        let header = Header::parse(&bytes, at)?;
        let place = |at: u64| at.saturating_sub(self.part_at);
        let found = (header.guid, header.part, header.blob_table.offset, header.xml.offset);
        let expected = (self.header.guid, self.part, place(table.offset), place(xml_at));
        if found != expected {
            let text = |(guid, part, table, xml): (gravure_nttypes::Guid, u16, u64, u64)| {
                format!("GUID {guid}, part {part}, blob table at {table:#x}, XML document at {xml:#x}")
            };
            return Err(Error::corrupt(Scope::File, "WIM header", at, text(expected), text(found)));
        }
        Ok(header)
    }

    /// Passes over an integrity table that begins with `start` at `at`: it covers a file as it lies on a disk.
    fn skip_integrity(&mut self, start: &[u8], at: u64) -> Result<(), Error> {
        let size = start.first_chunk().map_or(0, |size| u64::from(u32::from_le_bytes(*size)));
        let left = size.checked_sub(start.size()).filter(|_| size <= MAX_INTEGRITY_BYTES);
        let Some(left) = left else {
            let expected = "the header, or an integrity table before it";
            let found = format_args!("{size:#x}");
            return Err(Error::corrupt(Scope::File, "end of a pipable WIM", at, expected, found));
        };
        self.pass("integrity table", left)
    }

    /// Begins with the next part of a split set.
    fn next_part(&mut self) -> Result<(), Error> {
        let mut bytes = [0; 208];
        let at = self.at;
        self.fill("header of the next part", &mut bytes)?;
        let header = Header::parse(&bytes, at)?;
        let first = &self.header;
        let found = (header.layout, header.guid, header.part, header.parts, header.compression);
        let part = self.part.saturating_add(1);
        let expected = (Layout::Pipable, first.guid, part, first.parts, first.compression);
        if found != expected {
            let text = |(_, guid, part, parts, compression): (
                Layout,
                gravure_nttypes::Guid,
                u16,
                u16,
                Option<_>,
            )| {
                let compression: Option<crate::compression::Compression> = compression;
                let named = compression.map_or_else(|| "none".to_owned(), |used| used.to_string());
                format!("part {part} of {parts} of {guid}, pipable, compression {named}")
            };
            return Err(Error::corrupt(
                Scope::File,
                "header of the next part",
                at,
                text(expected),
                text(found),
            ));
        }
        (self.part, self.part_at) = (part, at);
        self.read_document().map(|_| ())
    }

    /// The XML document that comes next.
    fn read_document(&mut self) -> Result<Vec<u8>, Error> {
        let xml = self.next_resource("XML document")?;
        self.read_small("XML document", &xml, self.limits.max_xml_bytes)
    }

    /// Reads the 40 bytes before a resource.
    fn next_resource(&mut self, what: &'static str) -> Result<PipeResource, Error> {
        let place = self.at;
        let mut bytes = [0; 40];
        self.fill(what, &mut bytes)?;
        let disk: PipeHeaderDisk = zerocopy::transmute!(bytes);
        if disk.magic.get() != MAGIC {
            let found = format!("{:#x}", disk.magic.get());
            return Err(Error::corrupt(Scope::File, what, place, "the mark of a resource", found));
        }
        // Bits above the lowest eight have no meaning yet.
        let [flags, ..] = disk.flags.get().to_le_bytes();
        let flags = ResourceFlags(flags);
        let size = disk.size.get();
        if size == 0 || flags.contains(ResourceFlags::SOLID) {
            let found = format!("{size} bytes, flags {:#x}", flags.0);
            return Err(Error::corrupt(Scope::File, what, place, "content, not solid", found));
        }
        if flags.contains(ResourceFlags::COMPRESSED) && self.header.compression.is_none() {
            let expected = "no compressed resource in a file without compression";
            let found = format!("flags {:#x}", flags.0);
            return Err(Error::corrupt(Scope::File, what, place, expected, found));
        }
        let resource = PipeResource { sha1: Sha1Hash(disk.sha1), size, flags, offset: self.at };
        self.open = Some(Open { resource, done: 0 });
        Ok(resource)
    }

    /// Decodes the resource that was begun, of at most `limit` bytes, on this thread, and checks its hash.
    fn read_small(
        &mut self,
        what: &'static str,
        resource: &PipeResource,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let PipeResource { sha1, size, offset, .. } = *resource;
        if size > limit {
            return Err(Error::Limit { what, offset, found: size, limit, scope: Scope::File });
        }
        let mut decoder = ChunkDecoder::default();
        let (mut stored, mut content) = (Vec::new(), Vec::new());
        while let Some(chunk) = self.read_chunk(&mut stored)? {
            let from = content.len();
            // Grows with what came, not with what was announced.
            content.resize(from.saturating_add(usize::try_from(chunk.plain_len).unwrap_or(0)), 0);
            decoder.decode(&chunk, &stored, content.get_mut(from..).unwrap_or_default())?;
            stored.clear();
        }
        let found = Sha1Hash(Sha1::digest(&content).into());
        if found != sha1 {
            return Err(Error::HashMismatch { what, offset, expected: sha1, found, scope: Scope::File });
        }
        Ok(content)
    }

    /// Skips what is left of the resource.
    fn skip(&mut self) -> Result<(), Error> {
        let mut stored = Vec::new();
        while self.read_chunk(&mut stored)?.is_some() {
            stored.clear();
        }
        Ok(())
    }

    /// Skips the chunk table behind the last chunk, which only readers with random access need.
    fn end(&mut self) -> Result<(), Error> {
        let Some(Open { resource, .. }) = self.open.take() else { return Ok(()) };
        let Some(compression) = self.header.compression else { return Ok(()) };
        if !resource.flags.contains(ResourceFlags::COMPRESSED) {
            return Ok(());
        }
        let count = resource.size.div_ceil(u64::from(compression.chunk_size()));
        let width = if resource.size > u64::from(u32::MAX) { 8 } else { 4 };
        self.pass("chunk table", count.saturating_sub(1).saturating_mul(width))
    }

    /// Passes over `len` bytes.
    fn pass(&mut self, what: &'static str, len: u64) -> Result<(), Error> {
        let mut left = len;
        let mut buf = [0; STEP_BYTES];
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            let part = buf.get_mut(..step).unwrap_or_default();
            let len = part.len();
            self.fill(what, part)?;
            left = left.saturating_sub(u64::try_from(len).unwrap_or(left));
        }
        Ok(())
    }

    fn fill(&mut self, what: &'static str, buf: &mut [u8]) -> Result<(), Error> {
        match self.input.read_exact(buf) {
            Ok(()) => {
                self.at = self.at.saturating_add((*buf).size());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the pipe ended");
                Err(Error::io(what, self.at)(error))
            }
            Err(error) => Err(Error::io(what, self.at)(error)),
        }
    }
}
