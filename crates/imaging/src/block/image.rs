//! An opened block image: one file with its content, or a manifest with its content in a store.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use gravure_blockimg::facts::Scope;
use gravure_blockimg::{ChunkId, Extent, Facts, FrameDecoder, FrameHeader, ImageFile, Root};
use gravure_disk::Table;
use gravure_io::ReadAt;
use gravure_store::{Place, Store};

use super::fit::{Peek, disk_error};
use super::{blockimg, store_error};
use crate::{Error, ErrorKind};

/// A block image. Copies share everything.
#[derive(Clone)]
pub struct BlockImage {
    name: String,
    file: Arc<ImageFile>,
    content: Content,
}

#[derive(Clone)]
enum Content {
    File(Arc<dyn ReadAt>),
    Store(Arc<Store>),
}

impl std::fmt::Debug for BlockImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockImage")
            .field("name", &self.name)
            .field("id", &self.file.id)
            .finish_non_exhaustive()
    }
}

/// Where a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameAt {
    File { offset: u64, len: u32 },
    Store(Place),
}

impl FrameAt {
    /// Pack and offset; the pack of a file is zeros.
    pub(super) fn key(&self) -> (ChunkId, u64) {
        match self {
            Self::File { offset, .. } => (ChunkId([0; 32]), *offset),
            Self::Store(place) => (place.pack, place.entry.frame_offset),
        }
    }
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) at: FrameAt,
    pub(super) entry: u32,
}

/// A frame that is wanted, and what of it goes where.
#[derive(Debug, Clone)]
pub(super) struct Fetch {
    at: FrameAt,
    /// Entry, its id, offset on the device, length; ascending by offset.
    pub(super) targets: Vec<Target>,
}

/// A chunk with its place on the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) entry: u32,
    pub(super) id: ChunkId,
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Fetch {
    /// Bytes that are fetched for it.
    pub(super) fn stored_len(&self) -> u64 {
        match &self.at {
            FrameAt::File { len, .. } => u64::from(*len),
            FrameAt::Store(place) => u64::from(place.entry.frame_len),
        }
    }
}

impl BlockImage {
    /// Opens an image file.
    pub fn open(source: Arc<dyn ReadAt>, name: &str) -> Result<Self, Error> {
        let file = ImageFile::open(&source).map_err(blockimg(name))?;
        if file.is_manifest() {
            let what = "manifest without its store";
            return Err(Error::Unsupported { what, value: name.to_owned() });
        }
        Ok(Self { name: name.to_owned(), file: Arc::new(file), content: Content::File(source) })
    }

    /// Opens the image `image` of a store.
    pub fn open_stored(store: Arc<Store>, image: &str) -> Result<Self, Error> {
        let file = store.image(image).map_err(store_error)?;
        let name = format!("{}:{image}", store.name());
        Ok(Self { name, file: Arc::new(file), content: Content::Store(store) })
    }

    /// Name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says of itself.
    pub fn facts(&self) -> &Facts {
        &self.file.facts
    }

    /// The device.
    pub fn root(&self) -> &Root {
        &self.file.root
    }

    /// Sectors in which the content counts: those of the partition table of a disk, of which the source may have been a copy on a medium
    /// with other sectors; else the source's. Images that do not say it are read for it.
    pub fn sector_bytes(&self) -> Result<u32, Error> {
        let recorded = self.root().sector_bytes;
        let facts = self.facts();
        let said = facts.table.as_ref().and_then(|table| table.sector_bytes);
        if said.is_some() || facts.scope != Scope::Disk {
            return Ok(said.unwrap_or(recorded));
        }
        let read = Table::read(&Peek::new(self)?, recorded);
        Ok(match read.map_err(disk_error(self.name()))? {
            Table::Gpt { sector_bytes, .. } => sector_bytes,
            _ => recorded,
        })
    }

    /// BLAKE3 of the root.
    pub fn id(&self) -> ChunkId {
        self.file.id
    }

    /// Whether it keeps file images: the bytes of an uncompressed WIM.
    pub fn holds_files(&self) -> bool {
        self.file.facts.scope == Scope::Files
    }

    /// A signature over the root, as it came.
    pub fn signature(&self) -> Option<&[u8]> {
        self.file.signature.as_deref()
    }

    /// Whether content lies in a store.
    pub fn is_stored(&self) -> bool {
        matches!(self.content, Content::Store(_))
    }

    /// Bytes of the image file; `None` of one in a store.
    pub fn file_bytes(&self) -> Option<u64> {
        match &self.content {
            Content::File(source) => Some(source.size()),
            Content::Store(_) => None,
        }
    }

    /// The extents of region `index`.
    pub(super) fn extents(&self, decoder: &mut FrameDecoder, index: usize) -> Result<Vec<Extent>, Error> {
        match &self.content {
            Content::File(source) => self.file.extents(source, decoder, index).map_err(blockimg(&self.name)),
            Content::Store(store) => {
                let region = self
                    .file
                    .root
                    .regions
                    .get(index)
                    .ok_or_else(|| Error::NotFound { what: "region", which: index.to_string() })?;
                let table = store.content(&region.table, decoder).map_err(store_error)?;
                let found = ChunkId::of(&table);
                gravure_blockimg::check_region(&table, found, region, 0).map_err(blockimg(&self.name))
            }
        }
    }

    /// Which frames are wanted for the extents of region `index` that `is_wanted` by their position in the list, in the order in
    /// which they are stored. Tells a source on the network what is coming.
    pub(super) fn fetches(
        &self,
        decoder: &mut FrameDecoder,
        index: usize,
        extents: &[Extent],
        is_wanted: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<Fetch>, Error> {
        let wanted = self.wanted(decoder, index, extents, is_wanted)?;
        Ok(self.joined(wanted.into_iter().map(|(_, at, target)| (at, target))))
    }

    /// The same chunk by chunk, with the position of its extent.
    pub(super) fn wanted(
        &self,
        decoder: &mut FrameDecoder,
        index: usize,
        extents: &[Extent],
        is_wanted: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<(usize, FrameAt, Target)>, Error> {
        let data = extents.iter().enumerate().filter_map(|(at, extent)| Some((at, extent, extent.id()?)));
        let target =
            |entry, id, extent: &Extent| Target { entry, id, offset: extent.offset, len: extent.len };
        match &self.content {
            Content::File(source) => {
                let data: Vec<_> = data.collect();
                if !data.iter().any(|(at, ..)| is_wanted(*at)) {
                    return Ok(Vec::new());
                }
                let locations = self.file.locations(source, decoder, index, extents);
                let locations = locations.map_err(blockimg(&self.name))?;
                let wanted = data.into_iter().zip(locations).filter(|((at, ..), _)| is_wanted(*at));
                Ok(wanted
                    .map(|((at, extent, id), place)| {
                        let frame = FrameAt::File { offset: place.frame_offset, len: place.frame_len };
                        (at, frame, target(place.entry, id, extent))
                    })
                    .collect())
            }
            Content::Store(store) => data
                .filter(|(at, ..)| is_wanted(*at))
                .map(|(at, extent, id)| {
                    let place = store.find(&id).map_err(store_error)?;
                    let place = place.ok_or_else(|| store_error(store.no_chunk(&id)))?;
                    Ok((at, FrameAt::Store(place), target(place.entry.entry, id, extent)))
                })
                .collect(),
        }
    }

    /// Chunks by the frames they are in, in the order in which these are stored. Tells a source on the network what is coming.
    pub(super) fn joined(&self, wanted: impl Iterator<Item = (FrameAt, Target)>) -> Vec<Fetch> {
        let mut frames: HashMap<(ChunkId, u64), Fetch> = HashMap::new();
        for (at, target) in wanted {
            frames.entry(at.key()).or_insert_with(|| Fetch { at, targets: Vec::new() }).targets.push(target);
        }
        let mut frames: Vec<Fetch> = frames.into_values().collect();
        frames.sort_by_key(|fetch| {
            let (pack, offset) = fetch.at.key();
            (u64::from_be_bytes(pack.0[..8].try_into().unwrap_or_default()), offset)
        });
        if let Content::File(source) = &self.content {
            let ranges: Vec<Range<u64>> = frames
                .iter()
                .filter_map(|fetch| match &fetch.at {
                    FrameAt::File { offset, len } => Some(*offset..*offset + u64::from(*len)),
                    FrameAt::Store(_) => None,
                })
                .collect();
            source.will_read(&ranges);
        }
        frames
    }

    /// Where the chunks of region `index` are, by position of their extents: as the file says, nothing for one in a store.
    pub(super) fn places(
        &self,
        decoder: &mut FrameDecoder,
        index: usize,
        extents: &[Extent],
    ) -> Result<HashMap<usize, Placed>, Error> {
        let Content::File(source) = &self.content else { return Ok(HashMap::new()) };
        let data = extents.iter().enumerate().filter(|(_, extent)| extent.id().is_some());
        let data: Vec<usize> = data.map(|(at, _)| at).collect();
        if data.is_empty() {
            return Ok(HashMap::new());
        }
        let locations = self.file.locations(source, decoder, index, extents);
        let locations = locations.map_err(blockimg(&self.name))?;
        let placed = locations.into_iter().map(|place| Placed {
            at: FrameAt::File { offset: place.frame_offset, len: place.frame_len },
            entry: place.entry,
        });
        Ok(data.into_iter().zip(placed).collect())
    }

    /// Where a chunk is in the store.
    pub(super) fn find(&self, id: &ChunkId) -> Result<Placed, Error> {
        match &self.content {
            Content::Store(store) => {
                let place = store.find(id).map_err(store_error)?;
                let place = place.ok_or_else(|| store_error(store.no_chunk(id)))?;
                Ok(Placed { at: FrameAt::Store(place), entry: place.entry.entry })
            }
            Content::File(_) => Err(Error::NotFound { what: "chunk", which: id.to_string() }),
        }
    }

    /// Fetches a frame and decodes it into `plain`, checked. Returns what it says of itself.
    pub(super) fn fetch(
        &self,
        fetch: &Fetch,
        decoder: &mut FrameDecoder,
        plain: &mut Vec<u8>,
    ) -> Result<FrameHeader, Error> {
        self.decoded(&fetch.at, decoder, plain)
    }

    /// Decodes the frame at a place into `plain`, checked. Returns what it says of itself.
    pub(super) fn decoded(
        &self,
        at: &FrameAt,
        decoder: &mut FrameDecoder,
        plain: &mut Vec<u8>,
    ) -> Result<FrameHeader, Error> {
        let elsewhere = |what: &'static str| Error::Other {
            what: format!("read {}", self.name),
            source: what.into(),
            kind: ErrorKind::Failed,
        };
        match (at, &self.content) {
            (FrameAt::Store(place), Content::Store(store)) => {
                store.decoded(place, decoder, plain).map_err(store_error)
            }
            (FrameAt::File { offset, len }, Content::File(source)) => {
                decoder.read(source, *offset, *len as usize, plain).map_err(blockimg(&self.name))
            }
            (FrameAt::Store(_), Content::File(_)) => Err(elsewhere("a place in a store for a file")),
            (FrameAt::File { .. }, Content::Store(_)) => Err(elsewhere("a place in a file for a store")),
        }
    }

    /// The part of a decoded frame that `target` wants.
    pub(super) fn part<'a>(
        &self,
        header: &FrameHeader,
        plain: &'a [u8],
        target: &Target,
    ) -> Result<&'a [u8], Error> {
        let index = target.entry as usize;
        let entry = header
            .entries
            .get(index)
            .filter(|entry| entry.id == target.id && u64::from(entry.len) == target.len);
        let start: usize = header.entries.iter().take(index).map(|entry| entry.len as usize).sum();
        let content = entry.and_then(|entry| plain.get(start..start + entry.len as usize));
        content.ok_or_else(|| {
            blockimg(&self.name)(gravure_blockimg::Error::Corrupt {
                what: "content of the device".into(),
                offset: target.offset,
                expected: format!("chunk {} of {} bytes as entry {index}", target.id, target.len).into(),
                found: "another".to_owned(),
            })
        })
    }
}
