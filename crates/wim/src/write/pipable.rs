//! Writing pipable files (wim-container 5.5): everything in one go, front to back, nothing read or changed afterwards.
//!
//! Hashes stand before the content they belong to and images before all content, so the caller must have hashed
//! everything beforehand. Only wimlib and this project read such files.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;

use gravure_codec::Level;
use gravure_io::ReadAt;
use gravure_tree::Sha1Hash;
use sha1::{Digest, Sha1};
use zerocopy::IntoBytes;

use super::finish::push_entry;
use super::resource::OpenResource;
use super::{ChunkData, WriteOptions, Written};
use crate::blobs::{BlobId, MetadataResource};
use crate::compression::{Compression, Method};
use crate::error::Error;
use crate::header::{HEADER_BYTES, Header, HeaderFlags, Layout};
use crate::info::{ImageInfo, WimInfo};
use crate::integrity::{INTEGRITY_CHUNK_BYTES, IntegrityTable};
use crate::metadata::Metadata;
use crate::pipe::PipeHeaderDisk;
use crate::resource::{ResourceFlags, ResourceHeader};
use crate::wim::{ImageIndex, Wim};

/// Bytes copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// Writes one pipable WIM: all images at its creation, then each blob they refer to, then
/// [`PipableWriter::finish`].
pub struct PipableWriter<'a> {
    out: Out<'a>,
    header: Header,
    info: WimInfo,
    images: Vec<MetadataResource>,
    /// Place and hash of each blob, ascending.
    blobs: Vec<(ResourceHeader, Sha1Hash)>,
    /// References of each blob, and whether it was written.
    known: HashMap<Sha1Hash, (u32, bool)>,
    open: Option<(Sha1Hash, OpenResource)>,
    allow_missing_blobs: bool,
    /// The bootable image, from 1; 0 for none.
    boot_number: u32,
}

impl std::fmt::Debug for PipableWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PipableWriter").field("header", &self.header).finish_non_exhaustive()
    }
}

impl<'a> PipableWriter<'a> {
    /// Writes header, XML document and the metadata of all `images`, which is encoded on this thread. The file is to have
    /// an integrity table or not: it is made on the way.
    pub fn create(
        out: &'a mut dyn Write,
        options: &WriteOptions,
        images: Vec<(Metadata, ImageInfo)>,
        level: Level,
        has_integrity: bool,
    ) -> Result<Self, Error> {
        Self::create_like(out, options, None, images, level, has_integrity)
    }

    /// As [`PipableWriter::create`] for a file that takes the place of `heir_of`: what that says of itself as a whole is
    /// kept, as [`super::WimWriter::adopt`] does.
    pub fn create_like(
        out: &'a mut dyn Write,
        options: &WriteOptions,
        heir_of: Option<&Wim>,
        images: Vec<(Metadata, ImageInfo)>,
        level: Level,
        has_integrity: bool,
    ) -> Result<Self, Error> {
        let mut flags = HeaderFlags::default();
        let was_fixed = heir_of.is_some_and(|wim| wim.header().flags.contains(HeaderFlags::LINKS_FIXED));
        if options.links_fixed || was_fixed {
            flags = flags.with(HeaderFlags::LINKS_FIXED);
        }
        let absent = ResourceHeader::default();
        let count = u32::try_from(images.len()).unwrap_or(u32::MAX);
        let header = Header {
            layout: Layout::Pipable,
            allows_solid: options.compression.is_some_and(|known| known.method() == Method::Lzms),
            flags,
            compression: options.compression,
            guid: options.guid,
            part: 1,
            parts: 1,
            image_count: count,
            blob_table: absent,
            xml: absent,
            boot_metadata: absent,
            boot_number: 0,
            integrity: absent,
        };
        let out = Out { out, at: 0, integrity: has_integrity.then(Hashes::default) };
        let info = heir_of.map_or_else(WimInfo::default, |wim| wim.info().without_images());
        let mut this = Self {
            out,
            header,
            info,
            images: Vec::new(),
            blobs: Vec::new(),
            known: HashMap::new(),
            open: None,
            allow_missing_blobs: options.allow_missing_blobs,
            boot_number: 0,
        };
        let header = this.header.to_bytes()?;
        this.out.write(&header)?;
        let (metadata, infos): (Vec<Metadata>, Vec<ImageInfo>) = images.into_iter().unzip();
        infos.into_iter().for_each(|info| this.info.push_image(info));
        let xml = this.info.to_bytes();
        this.write_table(&xml)?;
        for metadata in metadata {
            this.write_metadata(&metadata, level)?;
        }
        Ok(this)
    }

    /// Part `part` of `parts`, from 1, of the pipable file `wim`, which `source` gives the bytes of. The document is the same
    /// in all parts, images are in the first, and blobs come by [`PipableWriter::copy_blob`]. `references` are those of all
    /// images.
    pub fn create_part(
        out: &'a mut dyn Write,
        source: &dyn ReadAt,
        wim: &Wim,
        (part, parts): (u16, u16),
        references: &[(Sha1Hash, u32)],
        has_integrity: bool,
    ) -> Result<Self, Error> {
        let old = wim.header();
        let absent = ResourceHeader::default();
        let header = Header {
            flags: old.flags.with(HeaderFlags::SPANNED),
            part,
            parts,
            blob_table: absent,
            xml: absent,
            boot_metadata: absent,
            boot_number: 0,
            integrity: absent,
            ..old.clone()
        };
        let out = Out { out, at: 0, integrity: has_integrity.then(Hashes::default) };
        let mut known: HashMap<Sha1Hash, (u32, bool)> = HashMap::new();
        for (sha1, count) in references {
            let known = known.entry(*sha1).or_default();
            known.0 = known.0.saturating_add(*count);
        }
        let (images, blobs) = (Vec::new(), Vec::new());
        let (info, allow_missing_blobs, boot_number) = (wim.info().clone(), true, 0);
        let mut this =
            Self { out, header, info, images, blobs, known, open: None, allow_missing_blobs, boot_number };
        let header = this.header.to_bytes()?;
        this.out.write(&header)?;
        let xml = this.info.to_bytes();
        this.write_table(&xml)?;
        for image in wim.images().filter(|_| part == 1) {
            if let Some(MetadataResource { sha1, header }) = wim.metadata_resource(image) {
                let place = this.copy_stored(source, header, *sha1)?;
                this.images.push(MetadataResource { sha1: *sha1, header: place });
            }
        }
        Ok(this)
    }

    /// Writes a blob of the pipable file `wim` as it is stored there; the compression must be that of this file.
    pub fn copy_blob(&mut self, source: &dyn ReadAt, wim: &Wim, id: BlobId) -> Result<(), Error> {
        let not_found = || Error::NotFound { what: "blob", which: id.key().to_string() };
        let blob = wim.blob(id).ok_or_else(not_found)?;
        let resource = wim.resource(blob.resource).ok_or_else(not_found)?;
        let old = wim.header();
        let is_alike = old.layout == Layout::Pipable && old.compression == self.header.compression;
        if !is_alike || resource.solid.is_some() || self.contains(&blob.sha1) {
            let reason = "it is stored in another way, or was written already";
            return Err(Error::unwritable(format!("blob {}", blob.sha1), reason));
        }
        let place = self.copy_stored(source, &resource.header, blob.sha1)?;
        self.known.entry(blob.sha1).or_default().1 = true;
        self.blobs.push((place, blob.sha1));
        Ok(())
    }

    /// Copies the stored bytes of a resource, with a header before them.
    fn copy_stored(
        &mut self,
        source: &dyn ReadAt,
        place: &ResourceHeader,
        sha1: Sha1Hash,
    ) -> Result<ResourceHeader, Error> {
        let head = PipeHeaderDisk::new(place.size, sha1, place.flags);
        self.out.write(head.as_bytes())?;
        let offset = self.out.at;
        let (mut at, mut left) = (place.offset, place.stored_size);
        let mut buffer = vec![0; COPY_BYTES];
        while left > 0 {
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let step = buffer.get_mut(..len).unwrap_or_default();
            source.read_exact_at(at, step).map_err(Error::io("stored bytes of a resource", at))?;
            self.out.write(step)?;
            at = at.saturating_add(step.size());
            left = left.saturating_sub(step.size());
        }
        Ok(ResourceHeader { offset, ..*place })
    }

    fn write_metadata(&mut self, metadata: &Metadata, level: Level) -> Result<(), Error> {
        let sha1 = Sha1Hash(Sha1::digest(&metadata.bytes).into());
        self.start(sha1, metadata.bytes.size(), ResourceFlags::METADATA)?;
        match self.header.compression {
            None => self.append_chunk(ChunkData::Raw(&metadata.bytes))?,
            Some(compression) => {
                let mut encoder = compression.encoder(level)?;
                let chunk_len = usize::try_from(compression.chunk_size()).unwrap_or(usize::MAX);
                let mut encoded = vec![0; chunk_len.min(metadata.bytes.len())];
                for plain in metadata.bytes.chunks(chunk_len) {
                    let len = encoder.encode(plain, &mut encoded);
                    let chunk = match len.and_then(|len| encoded.get(..len)) {
                        Some(bytes) => ChunkData::Compressed(bytes),
                        None => ChunkData::Raw(plain),
                    };
                    self.append_chunk(chunk)?;
                }
            }
        }
        let (sha1, place) = self.end()?;
        let header = ResourceHeader { flags: with(place.flags, ResourceFlags::METADATA), ..place };
        self.images.push(MetadataResource { sha1, header });
        for (sha1, count) in &metadata.references {
            let known = self.known.entry(*sha1).or_default();
            known.0 = known.0.saturating_add(*count);
        }
        Ok(())
    }

    /// Makes an image the bootable one, or none. Only the complete header at the end of the file says so.
    pub fn set_boot_image(&mut self, image: Option<ImageIndex>) -> Result<(), Error> {
        let number = image.map_or(0, ImageIndex::number);
        if number > self.header.image_count {
            return Err(Error::NotFound { what: "image", which: number.to_string() });
        }
        self.boot_number = number;
        Ok(())
    }

    /// Method and chunk size the caller's chunks must have.
    pub fn compression(&self) -> Option<Compression> {
        self.header.compression
    }

    /// True if content of this hash was written. Empty content always is.
    pub fn contains(&self, sha1: &Sha1Hash) -> bool {
        *sha1 == Sha1Hash::ZERO || self.known.get(sha1).is_some_and(|(_, is_written)| *is_written)
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.out.at
    }

    /// Never: the header is written at once.
    pub fn is_empty(&self) -> bool {
        self.out.at == 0
    }

    /// Starts the blob with this hash, of `size` plain bytes, at least 1. An image must refer to it.
    pub fn begin(&mut self, sha1: Sha1Hash, size: u64) -> Result<(), Error> {
        if self.open.is_some() {
            return Err(Error::unwritable("a blob", "the one before is not finished"));
        }
        if self.contains(&sha1) || !self.known.contains_key(&sha1) || size == 0 {
            let reason = "it was written already, no image refers to it, or it is empty";
            return Err(Error::unwritable(format!("blob {sha1}"), reason));
        }
        self.start(sha1, size, ResourceFlags::default())
    }

    fn start(&mut self, sha1: Sha1Hash, size: u64, flags: ResourceFlags) -> Result<(), Error> {
        let compressed = match self.header.compression {
            Some(_) => ResourceFlags::COMPRESSED,
            None => ResourceFlags::default(),
        };
        let head = PipeHeaderDisk::new(size, sha1, with(flags, compressed));
        self.out.write(head.as_bytes())?;
        self.open = Some((sha1, OpenResource::new(self.out.at, size, self.header.compression)));
        Ok(())
    }

    /// Adds the next chunk, as [`super::WimWriter::append_chunk`].
    pub fn append_chunk(&mut self, chunk: ChunkData<'_>) -> Result<(), Error> {
        let Some((_, open)) = &mut self.open else {
            return Err(Error::unwritable("a chunk", "no resource was begun"));
        };
        let bytes = open.accept(chunk)?;
        if self.header.compression.is_some() {
            // Chunks are at most 1 GiB.
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            self.out.write(&len.to_le_bytes())?;
        }
        self.out.write(bytes)
    }

    /// Ends the blob, of which exactly the announced bytes must have come. Their hash is the caller's word.
    pub fn finish_blob(&mut self) -> Result<u64, Error> {
        let (sha1, place) = self.end()?;
        if let Some((_, is_written)) = self.known.get_mut(&sha1) {
            *is_written = true;
        }
        self.blobs.push((place, sha1));
        Ok(place.stored_size)
    }

    fn end(&mut self) -> Result<(Sha1Hash, ResourceHeader), Error> {
        let (sha1, open) =
            self.open.take().ok_or_else(|| Error::unwritable("a resource", "none was begun"))?;
        let (start, size) = (open.start(), open.size());
        let table = open.finish_in_pipe()?;
        self.out.write(&table)?;
        let flags = match self.header.compression {
            Some(_) => ResourceFlags::COMPRESSED,
            None => ResourceFlags::default(),
        };
        let stored_size = self.out.at.saturating_sub(start);
        Ok((sha1, ResourceHeader { stored_size, flags, offset: start, size }))
    }

    /// Blob table or XML document with the header that stands before it.
    fn write_table(&mut self, bytes: &[u8]) -> Result<ResourceHeader, Error> {
        let flags = ResourceFlags::METADATA;
        let head = PipeHeaderDisk::new(bytes.size(), Sha1Hash(Sha1::digest(bytes).into()), flags);
        self.out.write(head.as_bytes())?;
        let offset = self.out.at;
        self.out.write(bytes)?;
        Ok(ResourceHeader { stored_size: bytes.size(), flags, offset, size: bytes.size() })
    }

    /// Writes blob table, XML document, integrity table and the complete header. Every blob that an image refers to must
    /// have been written.
    pub fn finish(mut self) -> Result<Written, Error> {
        if self.open.is_some() {
            return Err(Error::unwritable("the tables", "a resource is not finished"));
        }
        let missing = self.known.iter().find(|(_, (_, is_written))| !is_written);
        if let Some((sha1, _)) = missing.filter(|_| !self.allow_missing_blobs) {
            return Err(Error::unwritable("the tables", format!("content {sha1} was not written")));
        }
        let mut table = Vec::new();
        for image in &self.images {
            push_entry(&mut table, image.header, self.header.part, 1, image.sha1)?;
        }
        for (place, sha1) in &self.blobs {
            let references = self.known.get(sha1).map_or(0, |(count, _)| *count);
            push_entry(&mut table, *place, self.header.part, references, *sha1)?;
        }
        self.header.blob_table = self.write_table(&table)?;
        let integrity = self.out.integrity.take().map(|hashes| hashes.finish(HEADER_BYTES..self.out.at));
        // The document counts itself in, with the header before it, as Windows does for others. That of a split set is the same
        // in all parts.
        if self.header.parts == 1 {
            self.info.set_total_bytes(self.out.at);
        }
        let xml = self.info.to_bytes();
        self.header.xml = self.write_table(&xml)?;
        if let Some(table) = integrity.transpose()? {
            let bytes = table.to_bytes()?;
            let (offset, size) = (self.out.at, bytes.size());
            self.out.write(&bytes)?;
            self.header.integrity =
                ResourceHeader { stored_size: size, flags: ResourceFlags::default(), offset, size };
        }
        self.header.boot_number = self.boot_number;
        let boot = usize::try_from(self.boot_number).ok().and_then(|number| number.checked_sub(1));
        if let Some(image) = boot.and_then(|index| self.images.get(index)) {
            self.header.boot_metadata = image.header;
        }
        let header = self.header.to_bytes()?;
        self.out.write(&header)?;
        self.out.out.flush().map_err(Error::io("pipable WIM", self.out.at))?;
        Ok(Written { size: self.out.at })
    }
}

fn with(flags: ResourceFlags, more: ResourceFlags) -> ResourceFlags {
    ResourceFlags(flags.0 | more.0)
}

/// The pipe, how far it was written, and hashes of what an integrity table covers.
struct Out<'a> {
    out: &'a mut dyn Write,
    at: u64,
    integrity: Option<Hashes>,
}

impl Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(Error::io("pipable WIM", self.at))?;
        if self.at >= HEADER_BYTES
            && let Some(hashes) = &mut self.integrity
        {
            hashes.update(bytes);
        }
        self.at = self.at.saturating_add(bytes.size());
        Ok(())
    }
}

/// Hashes of the chunks of an integrity table, made on the way.
#[derive(Default)]
struct Hashes {
    done: Vec<Sha1Hash>,
    hasher: Sha1,
    /// Bytes in `hasher`.
    len: usize,
}

impl Hashes {
    fn update(&mut self, bytes: &[u8]) {
        let chunk = usize::try_from(INTEGRITY_CHUNK_BYTES).unwrap_or(usize::MAX);
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, after) = rest.split_at(rest.len().min(chunk.saturating_sub(self.len)));
            self.hasher.update(now);
            self.len = self.len.saturating_add(now.len());
            rest = after;
            if self.len == chunk {
                self.end_chunk();
            }
        }
    }

    fn end_chunk(&mut self) {
        self.done.push(Sha1Hash(self.hasher.finalize_reset().into()));
        self.len = 0;
    }

    fn finish(mut self, covered: Range<u64>) -> Result<IntegrityTable, Error> {
        if self.len > 0 {
            self.end_chunk();
        }
        IntegrityTable::new(covered, INTEGRITY_CHUNK_BYTES, self.done)
    }
}
