//! Writing a WIM as pieces that an engine strings together (wim-container sections 4.3, 5.4, 15): blobs chunk by chunk
//! in the order they come, images, then tables, and the header last. Hashing and encoding are the caller's.
//!
//! **Order of writes and crashes:** a new file has a header with the in-progress flag and no tables until the very end.
//! An appended file keeps its old header, flagged, until everything new is on stable storage; a crash before the
//! last write leaves the old file valid, with unused bytes behind it.

mod finish;
mod pipable;
mod plain;
mod resource;
mod rewrite;
mod sets;
mod solid;
mod tail;

use std::collections::HashMap;

use gravure_codec::Level;
use gravure_io::{ReadAt, WriteAt};
use gravure_nttypes::Guid;
use gravure_tree::Sha1Hash;
use sha1::{Digest, Sha1};

use crate::blobs::MetadataResource;
use crate::compression::{Compression, Method};
use crate::error::Error;
use crate::header::{HEADER_BYTES, Header, HeaderFlags, Layout};
use crate::info::{ImageInfo, WimInfo};
use crate::limits::MAX_IMAGES;
use crate::metadata::Metadata;
use crate::resource::{ResourceFlags, ResourceHeader};
use crate::solid::SolidHeader;
use crate::wim::{ImageIndex, Wim};

pub use finish::{TablesWritten, Written};
pub use pipable::PipableWriter;
pub use plain::{PlainContent, PlainFrame};
use resource::OpenResource;
pub use rewrite::{CopyOutcome, references};
use sets::SetPart;
use solid::OpenSolid;
use tail::Tail;

/// What a WIM is written to. It is read back where the format asks for it: a resource that did not shrink is stored
/// raw after all, and the integrity table covers everything.
pub trait WimTarget: ReadAt + WriteAt {}
impl<T: ReadAt + WriteAt + ?Sized> WimTarget for T {}

/// How a new file is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOptions {
    /// Method and chunk size; `None` stores everything raw.
    pub compression: Option<Compression>,
    /// Identity of the file; a fresh random one for each, or one derived from the content for reproducible builds.
    pub guid: Guid,
    /// Sets the header flag that says that absolute links were rewritten relative to the image root.
    pub links_fixed: bool,
    /// Allows images that refer to content of other files: delta files.
    pub allow_missing_blobs: bool,
}

impl WriteOptions {
    /// A file of its own, LZX in 32 KiB chunks, which every Windows reads.
    pub fn new(guid: Guid) -> Self {
        Self { compression: Some(Compression::LZX_32K), guid, links_fixed: false, allow_missing_blobs: false }
    }
}

/// One chunk's stored bytes.
#[derive(Debug, Clone, Copy)]
pub enum ChunkData<'a> {
    /// Plain bytes: the encoder could not make them smaller, or the file is not compressed.
    Raw(&'a [u8]),
    /// Encoded bytes, fewer than plain.
    Compressed(&'a [u8]),
}

/// What became of a finished blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobOutcome {
    /// It is stored; so many bytes, tables included.
    Stored(u64),
    /// Its content was there already; what was written is dropped.
    Duplicate,
}

/// A blob that is stored in a resource of its own.
#[derive(Debug, Clone)]
struct StoredBlob {
    sha1: Sha1Hash,
    references: u32,
    place: ResourceHeader,
    /// Was in the file before; stays listed without references.
    is_old: bool,
}

/// A solid resource, new or of a file that is appended to.
#[derive(Debug, Clone)]
struct StoredSolid {
    place: ResourceHeader,
    header: SolidHeader,
    /// Offset in the resource, size, hash, references; ascending.
    blobs: Vec<(u64, u64, Sha1Hash, u32)>,
    /// Blobs without references are to be left out.
    is_counted: bool,
}

/// Where a known blob is in the writer's tables.
#[derive(Debug, Clone, Copy)]
enum Known {
    Single(usize),
    Solid(usize, usize),
}

/// Writes one WIM. Pieces come in this order: any number of blobs and images, then [`WimWriter::finish`].
pub struct WimWriter<'a> {
    target: &'a dyn WimTarget,
    tail: Tail<'a>,
    header: Header,
    info: WimInfo,
    images: Vec<MetadataResource>,
    blobs: Vec<StoredBlob>,
    solids: Vec<StoredSolid>,
    known: HashMap<Sha1Hash, Known>,
    open: Option<OpenResource>,
    open_solid: Option<OpenSolid>,
    allow_missing_blobs: bool,
    set: Option<SetPart>,
}

impl std::fmt::Debug for WimWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WimWriter")
            .field("header", &self.header)
            .field("images", &self.images.len())
            .field("blobs", &self.blobs.len())
            .finish_non_exhaustive()
    }
}

impl<'a> WimWriter<'a> {
    /// Starts a new file: writes a header that says that it is not complete.
    pub fn create(target: &'a dyn WimTarget, options: &WriteOptions) -> Result<Self, Error> {
        let mut flags = HeaderFlags::WRITE_IN_PROGRESS;
        if options.links_fixed {
            flags = flags.with(HeaderFlags::LINKS_FIXED);
        }
        let header = Header {
            layout: Layout::Normal,
            allows_solid: options.compression.is_some_and(|known| known.method() == Method::Lzms),
            flags,
            compression: options.compression,
            guid: options.guid,
            part: 1,
            parts: 1,
            image_count: 0,
            blob_table: ResourceHeader::default(),
            xml: ResourceHeader::default(),
            boot_metadata: ResourceHeader::default(),
            boot_number: 0,
            integrity: ResourceHeader::default(),
        };
        target.write_all_at(0, &header.to_bytes()?).map_err(Error::io("WIM header", 0))?;
        Ok(Self {
            target,
            tail: Tail::new(target, HEADER_BYTES),
            header,
            info: WimInfo::default(),
            images: Vec::new(),
            blobs: Vec::new(),
            solids: Vec::new(),
            known: HashMap::new(),
            open: None,
            open_solid: None,
            allow_missing_blobs: options.allow_missing_blobs,
            set: None,
        })
    }

    /// Continues `wim`, which was read from `target`: everything new goes behind its end, method and chunk size stay.
    /// Files that are read-only, part of a set, pipable or being written are refused, and those whose resources overlap.
    pub fn append(target: &'a dyn WimTarget, wim: &Wim) -> Result<Self, Error> {
        let header = wim.header();
        let refuse = |reason: &'static str| Err(Error::unwritable("into this file", reason));
        if header.flags.contains(HeaderFlags::READ_ONLY) {
            return refuse("it is marked read-only");
        }
        if header.flags.contains(HeaderFlags::WRITE_IN_PROGRESS) {
            return refuse("another writer is at work, or one crashed");
        }
        if header.parts > 1 {
            return refuse("it is part of a split set");
        }
        if header.layout == Layout::Pipable {
            return refuse("it has the pipable layout");
        }
        if has_overlap(wim) {
            return refuse("its resources overlap");
        }
        let mut header = header.clone();
        header.flags = header.flags.with(HeaderFlags::WRITE_IN_PROGRESS);
        target.write_all_at(0, &header.to_bytes()?).map_err(Error::io("WIM header", 0))?;
        target.sync().map_err(Error::io("WIM header", 0))?;
        let mut this = Self {
            target,
            tail: Tail::new(target, target.size()),
            header,
            info: wim.info().clone(),
            images: wim.images().filter_map(|image| wim.metadata_resource(image).cloned()).collect(),
            blobs: Vec::new(),
            solids: Vec::new(),
            known: HashMap::new(),
            open: None,
            open_solid: None,
            // Old images may well lack content: the file could be a delta file.
            allow_missing_blobs: false,
            set: None,
        };
        this.take_over(wim);
        Ok(this)
    }

    /// Lists the blobs of an existing file.
    fn take_over(&mut self, wim: &Wim) {
        let mut solid_at = HashMap::new();
        for (_, blob) in wim.blobs() {
            let Some(resource) = wim.resource(blob.resource) else { continue };
            let known = match resource.solid {
                None => {
                    self.blobs.push(StoredBlob {
                        sha1: blob.sha1,
                        references: blob.references,
                        place: resource.header,
                        is_old: true,
                    });
                    Known::Single(self.blobs.len().saturating_sub(1))
                }
                Some(header) => {
                    let at = *solid_at.entry(blob.resource).or_insert_with(|| {
                        let (place, blobs) = (resource.header, Vec::new());
                        self.solids.push(StoredSolid { place, header, blobs, is_counted: false });
                        self.solids.len().saturating_sub(1)
                    });
                    let Some(solid) = self.solids.get_mut(at) else { continue };
                    solid.blobs.push((blob.offset, blob.size, blob.sha1, blob.references));
                    Known::Solid(at, solid.blobs.len().saturating_sub(1))
                }
            };
            self.known.insert(blob.sha1, known);
        }
    }

    /// Method and chunk size the caller's chunks must have.
    pub fn compression(&self) -> Option<Compression> {
        self.header.compression
    }

    /// True if content of this hash is in the file. Empty content always is.
    pub fn contains(&self, sha1: &Sha1Hash) -> bool {
        *sha1 == Sha1Hash::ZERO || self.known.contains_key(sha1)
    }

    /// Images so far, those of an appended file included.
    pub fn image_count(&self) -> u32 {
        u32::try_from(self.images.len()).unwrap_or(u32::MAX)
    }

    /// Bytes written so far, those of an appended file included.
    pub fn len(&self) -> u64 {
        self.tail.end()
    }

    /// True if nothing but the header is written.
    pub fn is_empty(&self) -> bool {
        self.len() == HEADER_BYTES
    }

    /// What the XML document will say, numbers of bytes excepted.
    pub fn info(&self) -> &WimInfo {
        &self.info
    }

    /// Changes what the XML document says of an image.
    pub fn set_image_info(&mut self, image: ImageIndex, info: ImageInfo) -> Result<(), Error> {
        match self.info.set_image(image.index(), info) {
            true => Ok(()),
            false => Err(Error::NotFound { what: "image", which: image.number().to_string() }),
        }
    }

    /// Makes an image the bootable one, or none.
    pub fn set_boot_image(&mut self, image: Option<ImageIndex>) -> Result<(), Error> {
        let number = image.map_or(0, ImageIndex::number);
        if number > self.image_count() {
            return Err(Error::NotFound { what: "image", which: number.to_string() });
        }
        self.header.boot_number = number;
        Ok(())
    }

    /// Starts a resource for `size` plain bytes, at least 1: a blob or the metadata of an image. Its chunks follow.
    pub fn begin(&mut self, size: u64) -> Result<(), Error> {
        if self.open.is_some() || self.open_solid.is_some() {
            return Err(Error::unwritable("a resource", "the one before is not finished"));
        }
        if size == 0 {
            return Err(Error::unwritable("a resource", "empty content has none"));
        }
        let open = OpenResource::new(self.tail.end(), size, self.header.compression);
        self.tail.append_zeros(open.table_len())?;
        self.open = Some(open);
        Ok(())
    }

    /// Adds the next chunk: of a compressed file exactly one chunk of plain bytes, of another a piece of any length.
    pub fn append_chunk(&mut self, chunk: ChunkData<'_>) -> Result<(), Error> {
        let Some(open) = &mut self.open else {
            return Err(Error::unwritable("a chunk", "no resource was begun"));
        };
        let bytes = open.accept(chunk)?;
        self.tail.append(bytes)
    }

    /// Drops the resource that was begun.
    pub fn abandon(&mut self) -> Result<(), Error> {
        match self.open.take() {
            Some(open) => self.tail.truncate(open.start()),
            None => Ok(()),
        }
    }

    /// Ends a blob whose plain bytes have this hash.
    pub fn finish_blob(&mut self, sha1: Sha1Hash) -> Result<BlobOutcome, Error> {
        if sha1 == Sha1Hash::ZERO {
            return Err(Error::unwritable("a blob", "its hash is zero"));
        }
        if self.contains(&sha1) {
            self.abandon()?;
            return Ok(BlobOutcome::Duplicate);
        }
        let place = self.finish_resource()?;
        self.known.insert(sha1, Known::Single(self.blobs.len()));
        self.blobs.push(StoredBlob { sha1, references: 0, place, is_old: false });
        Ok(BlobOutcome::Stored(place.stored_size))
    }

    /// Ends the metadata resource of an image: adds the image behind the last, with what the XML document says of it,
    /// and counts its references.
    pub fn finish_image(
        &mut self,
        sha1: Sha1Hash,
        references: &[(Sha1Hash, u32)],
        info: ImageInfo,
    ) -> Result<ImageIndex, Error> {
        let index = self.check_new_image(references)?;
        let place = self.finish_resource()?;
        Ok(self.push_image(index, sha1, place, references, info))
    }

    /// The index a new image gets, if there is room for it and its content is there.
    fn check_new_image(&self, references: &[(Sha1Hash, u32)]) -> Result<ImageIndex, Error> {
        let number = self.image_count().saturating_add(1);
        let index = ImageIndex::from_number(number).filter(|_| number <= MAX_IMAGES);
        let index = index.ok_or_else(|| Error::unwritable("an image", "the file has 65535 already"))?;
        let missing = references.iter().find(|(sha1, _)| !self.contains(sha1));
        match missing.filter(|_| !self.allow_missing_blobs) {
            Some((sha1, _)) => {
                let reason = format!("content {sha1} is not in the file");
                Err(Error::unwritable(format!("image {number}"), reason))
            }
            None => Ok(index),
        }
    }

    fn push_image(
        &mut self,
        index: ImageIndex,
        sha1: Sha1Hash,
        place: ResourceHeader,
        references: &[(Sha1Hash, u32)],
        info: ImageInfo,
    ) -> ImageIndex {
        let flags = ResourceFlags(place.flags.0 | ResourceFlags::METADATA.0);
        self.images.push(MetadataResource { sha1, header: ResourceHeader { flags, ..place } });
        self.info.push_image(info);
        self.count_references(references);
        index
    }

    /// Adds an image, encoding its metadata on this thread.
    pub fn add_image(
        &mut self,
        metadata: &Metadata,
        info: ImageInfo,
        level: Level,
    ) -> Result<ImageIndex, Error> {
        self.write_whole(&metadata.bytes, level)?;
        let sha1 = Sha1Hash(Sha1::digest(&metadata.bytes).into());
        self.finish_image(sha1, &metadata.references, info)
    }

    /// Adds a blob that is in memory, encoding it on this thread; returns its hash. Nothing is written if the content
    /// is there already.
    pub fn add_blob(&mut self, content: &[u8], level: Level) -> Result<Sha1Hash, Error> {
        if content.is_empty() {
            return Ok(Sha1Hash::ZERO);
        }
        let sha1 = Sha1Hash(Sha1::digest(content).into());
        if !self.contains(&sha1) {
            self.write_whole(content, level)?;
            self.finish_blob(sha1)?;
        }
        Ok(sha1)
    }

    fn write_whole(&mut self, content: &[u8], level: Level) -> Result<(), Error> {
        self.begin(content.size())?;
        let Some(compression) = self.header.compression else {
            return self.append_chunk(ChunkData::Raw(content));
        };
        let mut encoder = compression.encoder(level)?;
        let chunk_len = usize::try_from(compression.chunk_size()).unwrap_or(usize::MAX);
        let mut encoded = vec![0; chunk_len.min(content.len())];
        for plain in content.chunks(chunk_len) {
            let len = encoder.encode(plain, &mut encoded);
            let chunk = match len.and_then(|len| encoded.get(..len)) {
                Some(bytes) => ChunkData::Compressed(bytes),
                None => ChunkData::Raw(plain),
            };
            self.append_chunk(chunk)?;
        }
        Ok(())
    }

    fn finish_resource(&mut self) -> Result<ResourceHeader, Error> {
        let open = self.open.take().ok_or_else(|| Error::unwritable("a resource", "none was begun"))?;
        open.finish(self.target, &mut self.tail)
    }

    fn count_references(&mut self, references: &[(Sha1Hash, u32)]) {
        for (sha1, count) in references {
            let known = match self.known.get(sha1) {
                Some(Known::Single(at)) => self.blobs.get_mut(*at).map(|blob| &mut blob.references),
                Some(Known::Solid(at, blob)) => {
                    let solid = self.solids.get_mut(*at).and_then(|solid| solid.blobs.get_mut(*blob));
                    solid.map(|(_, _, _, references)| references)
                }
                None => None,
            };
            if let Some(known) = known {
                *known = known.saturating_add(*count);
            }
        }
    }
}

/// True if two different resources share bytes. Images may well share a whole metadata resource.
fn has_overlap(wim: &Wim) -> bool {
    let blobs = wim.resources().iter().map(|resource| resource.header);
    let images = wim.images().filter_map(|image| wim.metadata_resource(image)).map(|image| image.header);
    let mut ranges: Vec<(u64, u64)> = blobs
        .chain(images)
        .map(|place| (place.offset, place.offset.saturating_add(place.stored_size)))
        .collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges.windows(2).any(|pair| matches!(pair, [(_, end), (start, _)] if start < end))
}
