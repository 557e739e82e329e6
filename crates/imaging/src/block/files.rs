//! File images in a store: a WIM is kept as the block image of the uncompressed WIM that it would be. Each content has chunks of its
//! own, cut at every MiB of it, so file images share what they have in common with each other and with images of partitions; and
//! whatever reads WIMs reads them from the store ([`BlockImage::into_file_images`]).
//!
//! Places: header, contents of less than 1 KiB by their hash and several to a chunk, the others in archive order, metadata, tables.
//! Contents of a MiB and more begin at a MiB, and no smaller one lies across the border of regions, so nothing cuts them elsewhere.
//! Every content is held against its SHA-1 on its way in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gravure_blockimg::facts::{FACTS_VERSION, Facts, FileImage, FileImages, Scope, Source};
use gravure_blockimg::limits::{MAX_CHUNK_BYTES, REGION_BYTES, SMALL_CHUNK_BYTES};
use gravure_blockimg::{FileSpan, UsedSpan};
use gravure_io::ReadAt;
use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_store::{OnExisting, Store};
use gravure_tree::Sha1Hash;
use gravure_wim::{
    BlobId, Compression, HEADER_BYTES, ImageIndex, Method, PlainContent, PlainFrame, references,
};
use sha1::{Digest, Sha1};

use super::at::BlockImageAt;
use super::capture::BadSectors;
use super::{BlockCapture, BlockCaptureOptions, BlockCaptureReport, BlockImage, BlockLayout, no_hits};
use crate::archive::Archives;
use crate::blob_reader::{BlobHandles, BlobReader, OpenBlob};
use crate::{Error, ErrorKind, ImageFile};

/// Contents below this share chunks with their neighbours, so that a region never has too many of them.
const TINY_BYTES: u64 = 1024;
/// Decoded chunks of solid resources kept.
const CACHE_BYTES: usize = 16 << 20;
/// Contents kept open: their tables of chunks are read once and not for every piece.
const OPEN_BLOBS: usize = 16;
/// Decoded metadata resources kept.
const OPEN_IMAGES: usize = 2;

/// What an import says of itself.
#[derive(Debug, Clone, Default)]
pub struct FilesImportOptions {
    /// Name of the image in the store.
    pub name: String,
    /// In words.
    pub description: Option<String>,
    /// When it is made.
    pub created_unix_seconds: Option<i64>,
}

/// A WIM on its way into a store.
#[derive(Debug)]
pub struct FilesImport {
    source: PlainSource,
    layout: BlockLayout,
    facts: Facts,
}

/// What stands in a part of the virtual file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Header,
    /// By position in [`PlainSource::blobs`].
    Blob(usize),
    Metadata(ImageIndex),
    Tables,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    offset: u64,
    len: u64,
    what: What,
}

/// A content of the archives.
#[derive(Debug, Clone, Copy)]
struct Found {
    archive: usize,
    id: BlobId,
    sha1: Sha1Hash,
    size: u64,
    references: u32,
    /// Absolute offset of its resource, and its own in there.
    place: (u64, u64),
}

/// A large content that is being hashed piece by piece, in whatever order the pieces come.
#[derive(Debug, Default)]
struct Hashing {
    hasher: Sha1,
    next: u64,
    parked: BTreeMap<u64, Vec<u8>>,
}

/// The uncompressed WIM, decoded where it is read.
struct PlainSource {
    file: ImageFile,
    blobs: Vec<Found>,
    reader: BlobReader,
    segments: Vec<Segment>,
    frame: PlainFrame,
    size: u64,
    open: Mutex<VecDeque<(usize, OpenBlob)>>,
    images: Mutex<VecDeque<(ImageIndex, Arc<Vec<u8>>)>>,
    handles: Mutex<Vec<BlobHandles>>,
    hashing: Mutex<HashMap<usize, Arc<Mutex<Hashing>>>>,
    failure: Mutex<Option<Error>>,
    has_failed: AtomicBool,
}

impl std::fmt::Debug for PlainSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlainSource")
            .field("file", &self.file)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Lays contents out.
struct Placer {
    pos: u64,
    segments: Vec<Segment>,
    used: Vec<UsedSpan>,
    files: Vec<FileSpan>,
}

impl Placer {
    fn put(&mut self, offset: u64, len: u64, what: What) {
        self.segments.push(Segment { offset, len, what });
        match self.used.last_mut() {
            Some(last) if last.offset + last.len == offset => last.len += len,
            _ => self.used.push(UsedSpan { offset, len, excluded: None }),
        }
        self.pos = offset + len;
    }

    /// Chunks of their own for what was put since `offset`.
    fn file(&mut self, offset: u64) {
        let len = self.pos - offset;
        self.files.push(FileSpan { offset, len, file_offset: 0, content: len });
    }

    /// A content with chunks of its own. Returns where it is.
    fn content(&mut self, len: u64, what: What) -> u64 {
        let step = if len >= u64::from(MAX_CHUNK_BYTES) { u64::from(MAX_CHUNK_BYTES) } else { REGION_BYTES };
        let is_across = self.pos / step != (self.pos + len - 1) / step;
        let offset = if is_across { self.pos.next_multiple_of(step) } else { self.pos };
        self.put(offset, len, what);
        self.file(offset);
        offset
    }
}

impl FilesImport {
    /// Looks at all images of `file`. Nothing is written.
    pub fn new(file: &ImageFile, options: &FilesImportOptions, ctl: &Ctl) -> Result<Self, Error> {
        let mut blobs = wanted(file, ctl)?;
        // The tiny ones by hash, so that one more or less changes one chunk; the others as they lie in the archives.
        blobs.sort_by_key(|blob| (blob.size >= TINY_BYTES, blob.archive, blob.place));
        let tiny = blobs.partition_point(|blob| blob.size < TINY_BYTES);
        blobs[..tiny].sort_by_key(|blob| blob.sha1);
        let mut placer = Placer { pos: 0, segments: vec![], used: vec![], files: vec![] };
        placer.put(0, HEADER_BYTES, What::Header);
        placer.file(0);
        let mut contents = Vec::with_capacity(blobs.len());
        let mut start = placer.pos;
        let mut prefix = None;
        for (index, blob) in blobs.iter().enumerate() {
            let content = |offset| PlainContent {
                sha1: blob.sha1,
                offset,
                size: blob.size,
                references: blob.references,
            };
            if blob.size >= TINY_BYTES {
                if placer.pos > start && prefix.take().is_some() {
                    placer.file(start);
                }
                contents.push(content(placer.content(blob.size, What::Blob(index))));
                continue;
            }
            let is_full = placer.pos + blob.size - start > u64::from(SMALL_CHUNK_BYTES);
            if placer.pos > start && (is_full || prefix != Some(blob.sha1.0[0])) {
                placer.file(start);
                start = placer.pos;
            }
            prefix = Some(blob.sha1.0[0]);
            contents.push(content(placer.pos));
            placer.put(placer.pos, blob.size, What::Blob(index));
        }
        if placer.pos > start && prefix.is_some() {
            placer.file(start);
        }
        let wim = file.wim();
        let mut images = Vec::new();
        for image in wim.images() {
            let Some(metadata) = wim.metadata_resource(image) else { continue };
            let size = metadata.header.size;
            let offset = placer.content(size.max(1), What::Metadata(image));
            images.push(PlainContent { sha1: metadata.sha1, offset, size, references: 1 });
        }
        let frame = PlainFrame::new(wim.header(), wim.info(), &images, &contents, placer.pos);
        let frame = frame.map_err(Error::wim(file.name()))?;
        let tables_at = placer.pos;
        placer.put(tables_at, frame.tables.len() as u64, What::Tables);
        placer.file(tables_at);
        let Placer { pos: size, segments, used, files } = placer;
        let facts = facts(file, options, size, contents.iter().map(|content| content.size).sum());
        let reader = BlobReader::new(file.archives().clone(), CACHE_BYTES);
        let (file, segments) = (file.clone(), segments);
        let source = PlainSource {
            file,
            blobs,
            reader,
            segments,
            frame,
            size,
            open: Mutex::default(),
            images: Mutex::default(),
            handles: Mutex::default(),
            hashing: Mutex::default(),
            failure: Mutex::default(),
            has_failed: AtomicBool::new(false),
        };
        Ok(Self { source, layout: BlockLayout { used, files }, facts })
    }

    /// What the image will say of itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    fn run(
        &self,
        options: &BlockCaptureOptions,
        work: impl FnOnce(&BlockCapture<'_>, &BlockCaptureOptions) -> Result<BlockCaptureReport, Error>,
    ) -> Result<BlockCaptureReport, Error> {
        let capture = BlockCapture {
            source: &self.source,
            name: self.source.file.name(),
            layout: &self.layout,
            facts: &self.facts,
            hits: &no_hits,
        };
        // A content that cannot be decoded is no bad sector.
        let options = BlockCaptureOptions { bad_sectors: BadSectors::Refuse, ..options.clone() };
        work(&capture, &options).map_err(|error| {
            let failure = self.source.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
            failure.unwrap_or(error)
        })
    }

    /// Puts it into `store` as `image`.
    pub fn to_store(
        &self,
        store: &Store,
        image: &str,
        existing: OnExisting,
        options: &BlockCaptureOptions,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<BlockCaptureReport, Error> {
        self.run(options, |capture, options| capture.to_store(store, image, existing, options, ctl, observer))
    }

    /// Puts it into a file.
    pub fn to_file(
        &self,
        path: &std::path::Path,
        options: &BlockCaptureOptions,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<BlockCaptureReport, Error> {
        self.run(options, |capture, options| capture.to_file(path, options, ctl, observer))
    }
}

/// Everything that the images of `file` refer to.
fn wanted(file: &ImageFile, ctl: &Ctl) -> Result<Vec<Found>, Error> {
    let mut counts: HashMap<Sha1Hash, u32> = HashMap::new();
    for image in file.wim().images() {
        ctl.check()?;
        for (sha1, count) in references(file.image(image)?.tree()) {
            let sum = counts.entry(sha1).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    let find = |(sha1, references): (Sha1Hash, u32)| {
        let found = file.archives().iter().find_map(|(number, archive)| {
            let id = archive.wim().find_blob(&sha1)?;
            let blob = archive.wim().blob(id)?;
            let resource = archive.wim().resource(blob.resource)?;
            let place = (resource.header.offset, blob.offset);
            Some(Found { archive: number, id, sha1, size: blob.size, references, place })
        });
        found.ok_or_else(|| Error::NotFound { what: "content", which: format!("{sha1} of {}", file.name()) })
    };
    counts.into_iter().map(find).collect()
}

fn facts(file: &ImageFile, options: &FilesImportOptions, size: u64, content_bytes: u64) -> Facts {
    let wim = file.wim();
    let images = wim.info().images().map(|info| {
        let counts = info.counts();
        FileImage {
            name: info.name().unwrap_or_default(),
            description: info.description(),
            files: counts.files,
            bytes: counts.total_bytes,
        }
    });
    let solid = wim.resources().iter().find_map(gravure_wim::Resource::solid_compression);
    let details = vec![("content_bytes".to_owned(), content_bytes.to_string())];
    Facts {
        version: FACTS_VERSION,
        name: options.name.clone(),
        description: options.description.clone(),
        created_unix_seconds: options.created_unix_seconds,
        writer: concat!("gravure ", env!("CARGO_PKG_VERSION")).to_owned(),
        source: Source {
            name: file.name().to_owned(),
            size_bytes: size,
            sector_bytes: 512,
            ..Source::default()
        },
        scope: Scope::Files,
        files: Some(FileImages {
            compression: compression_text(wim.header().compression.or(solid)),
            is_solid: solid.is_some(),
            images: images.collect(),
        }),
        volumes: vec![gravure_blockimg::facts::Volume {
            size_bytes: size,
            content: "files".to_owned(),
            basis: "allocation".to_owned(),
            used_bytes: content_bytes,
            details,
            ..Default::default()
        }],
        ..Facts::default()
    }
}

fn compression_text(compression: Option<Compression>) -> String {
    let Some(compression) = compression else { return "none".to_owned() };
    let method = match compression.method() {
        Method::Xpress => "xpress",
        Method::Lzx => "lzx",
        Method::Lzms => "lzms",
        _ => "unknown",
    };
    format!("{method}:{}", compression.chunk_size())
}

impl PlainSource {
    fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let end = offset + buf.len() as u64;
        let mut handles = Self::lock(&self.handles).pop().unwrap_or_default();
        let mut at = offset;
        let first = self.segments.partition_point(|segment| segment.offset + segment.len <= offset);
        let mut result = Ok(());
        for segment in self.segments[first..].iter().take_while(|segment| segment.offset < end) {
            let start = segment.offset.max(offset);
            let stop = end.min(segment.offset + segment.len);
            buf[(at - offset) as usize..(start - offset) as usize].fill(0);
            let to = &mut buf[(start - offset) as usize..(stop - offset) as usize];
            let from = start - segment.offset;
            result = self.fill(segment, from, to, &mut handles);
            if result.is_err() {
                break;
            }
            at = stop;
        }
        if result.is_ok() {
            buf[(at - offset) as usize..].fill(0);
        }
        Self::lock(&self.handles).push(handles);
        result
    }

    fn fill(
        &self,
        segment: &Segment,
        from: u64,
        to: &mut [u8],
        handles: &mut BlobHandles,
    ) -> Result<(), Error> {
        let mut copy = |bytes: &[u8]| {
            let start = from as usize;
            let part = bytes.get(start..start + to.len());
            let part = part.ok_or_else(|| Error::Other {
                what: self.file.name().to_owned(),
                source: "metadata is shorter than its header says".into(),
                kind: ErrorKind::Integrity,
            })?;
            to.copy_from_slice(part);
            Ok(())
        };
        match segment.what {
            What::Header => copy(&self.frame.header),
            What::Tables => copy(&self.frame.tables),
            What::Metadata(image) => copy(&self.metadata(image)?),
            What::Blob(index) => {
                let blob = self.open(index)?;
                self.reader.read(&blob, from, to, handles)?;
                self.check(index, &blob, from, to)
            }
        }
    }

    fn metadata(&self, image: ImageIndex) -> Result<Arc<Vec<u8>>, Error> {
        let mut images = Self::lock(&self.images);
        if let Some((_, bytes)) = images.iter().find(|(known, _)| *known == image) {
            return Ok(Arc::clone(bytes));
        }
        let archive = self.file.archives().get(0);
        let bytes = archive.wim().read_metadata(archive.source(), image, archive.limits());
        let bytes = Arc::new(bytes.map_err(Error::wim(archive.name()))?);
        images.push_front((image, Arc::clone(&bytes)));
        images.truncate(OPEN_IMAGES);
        Ok(bytes)
    }

    fn open(&self, index: usize) -> Result<OpenBlob, Error> {
        if let Some((_, blob)) = Self::lock(&self.open).iter().find(|(known, _)| *known == index) {
            return Ok(blob.clone());
        }
        let found = &self.blobs[index];
        let blob = self.reader.open(Archives::source_id(found.archive), found.id.key())?;
        let mut open = Self::lock(&self.open);
        open.push_front((index, blob.clone()));
        open.truncate(OPEN_BLOBS);
        Ok(blob)
    }

    /// Holds what was decoded of a content against its SHA-1.
    fn check(&self, index: usize, blob: &OpenBlob, from: u64, bytes: &[u8]) -> Result<(), Error> {
        let found = &self.blobs[index];
        if from == 0 && bytes.len() as u64 == found.size {
            let hash = Sha1Hash(Sha1::digest(bytes).into());
            return if hash == found.sha1 { Ok(()) } else { Err(self.reader.mismatch(blob, hash)) };
        }
        let hashing = Arc::clone(Self::lock(&self.hashing).entry(index).or_default());
        let mut hashing = Self::lock(&hashing);
        let hashing = &mut *hashing;
        if from > hashing.next {
            hashing.parked.insert(from, bytes.to_vec());
            return Ok(());
        }
        if from < hashing.next {
            // Read twice; it was seen.
            return Ok(());
        }
        hashing.hasher.update(bytes);
        hashing.next += bytes.len() as u64;
        while let Some(parked) = hashing.parked.first_entry() {
            if *parked.key() != hashing.next {
                break;
            }
            let parked = parked.remove();
            hashing.hasher.update(&parked);
            hashing.next += parked.len() as u64;
        }
        if hashing.next < found.size {
            return Ok(());
        }
        let hash = Sha1Hash(hashing.hasher.clone().finalize().into());
        if hash == found.sha1 { Ok(()) } else { Err(self.reader.mismatch(blob, hash)) }
    }
}

impl ReadAt for PlainSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        // The first failure ends it all; sectors are not tried one by one.
        if self.has_failed.load(Ordering::Relaxed) {
            return Err(io::Error::other("reading has failed before"));
        }
        self.read(offset, buf).map_err(|error| {
            self.has_failed.store(true, Ordering::Relaxed);
            let text = error.to_string();
            Self::lock(&self.failure).get_or_insert(error);
            io::Error::other(text)
        })
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let first = self.segments.partition_point(|segment| segment.offset + segment.len <= offset);
        let data = self.segments.get(first);
        Ok(data.map(|segment| segment.offset.max(offset)..segment.offset + segment.len))
    }
}

impl BlockImage {
    /// The file images in it, read from the chunks where they are.
    pub fn into_file_images(self) -> Result<ImageFile, Error> {
        if !self.holds_files() {
            let (what, value) = ("file image in an image of a device", self.name().to_owned());
            return Err(Error::Unsupported { what, value });
        }
        let name = self.name().to_owned();
        ImageFile::open(Arc::new(BlockImageAt::new(self)), &name)
    }
}
