//! The store: packs, what is in them, and images. Opening lists packs and takes the index that covers most of them; whatever it does
//! not cover, or all when there is none, is read from the packs themselves.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use gravure_blockimg::{
    ChunkId, Frame, FrameDecoder, FrameHeader, FrameKind, ImageFile, PackEntry, max_pack_bytes, read_pack,
};
use gravure_io::ReadAt;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::index::{HEAD_PREFIX, IndexFile, Place, Recent};
use crate::objects::{Objects, Put, read_whole};

/// Contents kept in memory before they go into a new index: 50 MiB.
const MAX_RECENT: usize = 400_000;
/// Packs held open.
const MAX_OPEN_PACKS: usize = 64;
/// Bytes of a manifest at most.
const MAX_MANIFEST_BYTES: u64 = 80 << 20;
/// What a web server gives in place of listings.
pub(crate) const CATALOG: &str = "catalog.json";
/// Bytes of a catalogue: 70 bytes for each pack.
pub(crate) const MAX_CATALOG_BYTES: u64 = 64 << 20;

/// An opened store.
#[derive(Debug)]
pub struct Store {
    objects: Arc<dyn Objects>,
    state: RwLock<State>,
    open_packs: Mutex<HashMap<ChunkId, Handle>>,
    /// Held while a copy that was found wrong is replaced.
    doubting: Mutex<()>,
    warnings: Vec<String>,
}

#[derive(Debug, Default)]
struct State {
    packs: HashMap<ChunkId, u64>,
    index: Option<IndexFile>,
    recent: Recent,
}

#[derive(Clone)]
struct Handle(Arc<dyn ReadAt>);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("size", &self.0.size()).finish()
    }
}

/// An image of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Its name.
    pub name: String,
    /// Bytes of its manifest.
    pub manifest_bytes: u64,
}

/// What happens when there is an image of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExisting {
    /// It stays, and the new one is refused.
    #[default]
    Refuse,
    /// The new one takes its place.
    Replace,
}

/// What a web server gives in place of listings: names and lengths of everything that is listed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Catalog {
    pub(crate) version: u32,
    pub(crate) objects: Vec<(String, u64)>,
}

pub(crate) fn pack_name(id: &ChunkId) -> String {
    let text = id.to_string();
    format!("packs/{}/{text}", text.get(..2).unwrap_or_default())
}

pub(crate) fn image_name(name: &str) -> String {
    format!("images/{name}.gim")
}

impl Store {
    /// Opens the store in `objects`; one without anything in it is an empty store.
    pub fn open(objects: Arc<dyn Objects>) -> Result<Self, Error> {
        let mut state = State { packs: list_packs(&*objects)?, ..State::default() };
        let mut warnings = Vec::new();
        let mut best = (0, None);
        for head in objects.list("index")?.iter().filter(|object| object.name.starts_with(HEAD_PREFIX)) {
            match IndexFile::open(&*objects, &head.name) {
                Ok(index) => {
                    let covered = index.packs().iter().filter(|pack| state.packs.contains_key(pack)).count();
                    if covered >= best.0 {
                        best = (covered, Some(index));
                    }
                }
                // It is a copy of what the packs say; they are asked instead.
                Err(error) => warnings.push(format!("index not used: {error}")),
            }
        }
        state.index = best.1;
        let covered: HashSet<ChunkId> =
            state.index.iter().flat_map(|index| index.packs().iter().copied()).collect();
        let mut missing: Vec<ChunkId> =
            state.packs.keys().copied().filter(|pack| !covered.contains(pack)).collect();
        missing.sort();
        for pack in missing {
            let name = pack_name(&pack);
            match pack_entries(&*objects, &pack) {
                Ok((entries, damage)) => {
                    state.recent.add(pack, &entries);
                    warnings.extend(damage.map(|damage| format!("{name}: index made anew: {damage}")));
                }
                Err(error @ Error::Format { .. }) => {
                    state.packs.remove(&pack);
                    warnings.push(format!("pack not used: {error}"));
                }
                // Removed by a collection meanwhile.
                Err(Error::NotFound { .. }) => {
                    state.packs.remove(&pack);
                }
                Err(error) => return Err(error),
            }
            if state.recent.len() > MAX_RECENT && !objects.is_read_only() {
                consolidate(&*objects, &mut state)?;
            }
        }
        let (state, open_packs, doubting) = (RwLock::new(state), Mutex::default(), Mutex::default());
        Ok(Self { objects, state, open_packs, doubting, warnings })
    }

    /// Where it is kept.
    pub fn objects(&self) -> &Arc<dyn Objects> {
        &self.objects
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        self.objects.name()
    }

    /// What was odd at opening.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Packs and their bytes.
    pub fn packs(&self) -> Vec<(ChunkId, u64)> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let mut packs: Vec<_> = state.packs.iter().map(|(id, len)| (*id, *len)).collect();
        packs.sort();
        packs
    }

    /// All images.
    pub fn images(&self) -> Result<Vec<StoredImage>, Error> {
        let listed = self.objects.list("images")?;
        let images = listed.into_iter().filter_map(|object| {
            let name = object.name.strip_prefix("images/")?.strip_suffix(".gim")?;
            Some(StoredImage { name: name.to_owned(), manifest_bytes: object.len })
        });
        Ok(images.collect())
    }

    /// The manifest of an image.
    pub fn image(&self, name: &str) -> Result<ImageFile, Error> {
        let object = image_name(name);
        let bytes = read_whole(&*self.objects, &object, MAX_MANIFEST_BYTES);
        let bytes = bytes.map_err(|error| match error {
            Error::NotFound { store, .. } => Error::NotFound { what: "image", which: name.to_owned(), store },
            error => error,
        })?;
        ImageFile::open(&bytes).map_err(Error::format(&object))
    }

    /// Puts a signature into the manifest of an image, in the place of any that is there.
    pub fn sign_image(&self, name: &str, signature: &[u8]) -> Result<(), Error> {
        let object = image_name(name);
        let mut bytes = read_whole(&*self.objects, &object, MAX_MANIFEST_BYTES)?;
        let (offset, end) = ImageFile::signed_end(&bytes, signature).map_err(Error::format(&object))?;
        bytes.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
        bytes.extend_from_slice(&end);
        ImageFile::open(&bytes).map_err(Error::format(&object))?;
        self.put_image(name, &bytes, OnExisting::Replace)
    }

    /// Removes an image. Its content stays until the next collection.
    pub fn remove_image(&self, name: &str) -> Result<(), Error> {
        self.image(name).map(drop).or_else(|error| match error {
            Error::NotFound { .. } => Err(error),
            // A damaged one can be removed, too.
            _ => Ok(()),
        })?;
        self.objects.remove(&image_name(name))?;
        self.write_catalog()
    }

    /// Where a content is.
    pub fn find(&self, id: &ChunkId) -> Result<Option<Place>, Error> {
        self.find_wanted(id, &|_| true)
    }

    pub(crate) fn find_wanted(
        &self,
        id: &ChunkId,
        is_wanted: &dyn Fn(&ChunkId) -> bool,
    ) -> Result<Option<Place>, Error> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let is_wanted = |pack: &ChunkId| state.packs.contains_key(pack) && is_wanted(pack);
        if let Some(place) = state.recent.find(id, &is_wanted) {
            return Ok(Some(place));
        }
        state.index.as_ref().map_or(Ok(None), |index| index.find(id, &is_wanted))
    }

    /// The bytes of the frame at `place`, as they are stored.
    fn stored(&self, place: &Place) -> Result<Vec<u8>, Error> {
        let source = self.pack(&place.pack)?;
        let len = usize::try_from(place.entry.frame_len).unwrap_or(usize::MAX);
        let read = source.read_vec_at(place.entry.frame_offset, len);
        read.map_err(Error::io("read", &pack_name(&place.pack)))
    }

    fn pack(&self, pack: &ChunkId) -> Result<Arc<dyn ReadAt>, Error> {
        let mut open = self.open_packs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = open.get(pack) {
            return Ok(Arc::clone(&handle.0));
        }
        drop(open);
        let source = self.objects.open(&pack_name(pack))?;
        open = self.open_packs.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_OPEN_PACKS {
            open.clear();
        }
        open.insert(*pack, Handle(Arc::clone(&source)));
        Ok(source)
    }

    /// Decodes the frame at `place` into `plain`, checked; from another copy of its pack where the first one is wrong and there are
    /// several. Returns what the frame says of itself.
    pub fn decoded(
        &self,
        place: &Place,
        decoder: &mut FrameDecoder,
        plain: &mut Vec<u8>,
    ) -> Result<FrameHeader, Error> {
        let name = pack_name(&place.pack);
        let mut attempt = || {
            let stored = self.stored(place)?;
            let header = decoder.decode_stored(&stored, place.entry.frame_offset, plain);
            let header = header.map_err(Error::format(&name))?;
            let index = usize::try_from(place.entry.entry).unwrap_or(usize::MAX);
            match header.entries.get(index) {
                Some(entry) if entry.id == place.entry.id => Ok(header),
                _ => Err(Error::Corrupt {
                    name: name.clone(),
                    expected: format!("chunk {} at {:#x}", place.entry.id, place.entry.frame_offset),
                    found: "another".to_owned(),
                }),
            }
        };
        let mut tried = attempt();
        if tried.as_ref().is_err_and(is_doubtful) {
            // One after the other, each with what those before found: a copy that is right now must not be doubted for the one it replaced.
            let _alone = self.doubting.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                self.open_packs.lock().unwrap_or_else(PoisonError::into_inner).remove(&place.pack);
                tried = attempt();
                if !tried.as_ref().is_err_and(is_doubtful) || !self.objects.doubt(&name) {
                    break;
                }
            }
        }
        tried
    }

    /// A content, decoded and checked.
    pub fn content(&self, id: &ChunkId, decoder: &mut FrameDecoder) -> Result<Vec<u8>, Error> {
        let place = self.find(id)?.ok_or_else(|| self.no_chunk(id))?;
        let mut plain = Vec::new();
        let header = self.decoded(&place, decoder, &mut plain)?;
        let index = usize::try_from(place.entry.entry).unwrap_or(usize::MAX);
        let len = header.entries.get(index).ok_or_else(|| self.no_chunk(id))?;
        let start: usize = header.entries.iter().take(index).map(|entry| entry.len as usize).sum();
        Ok(plain.get(start..start.saturating_add(len.len as usize)).unwrap_or_default().to_vec())
    }

    /// The error for a chunk that is nowhere.
    pub fn no_chunk(&self, id: &ChunkId) -> Error {
        Error::NotFound { what: "chunk", which: id.to_string(), store: self.name().to_owned() }
    }

    pub(crate) fn add_pack(&self, id: ChunkId, len: u64, entries: &[PackEntry]) -> Result<(), Error> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.packs.insert(id, len);
        state.recent.add(id, entries);
        if state.recent.len() > MAX_RECENT {
            consolidate(&*self.objects, &mut state)?;
        }
        Ok(())
    }

    pub(crate) fn forget_pack(&self, id: &ChunkId) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).packs.remove(id);
        self.open_packs.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Writes an index of all packs, so that the next opening is quick. Older ones stay for those that use them, until the
    /// next collection.
    pub fn write_index(&self) -> Result<(), Error> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        consolidate(&*self.objects, &mut state)
    }

    /// Names of the objects of the index in use.
    pub(crate) fn index_objects(&self) -> HashSet<String> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.index.iter().flat_map(|index| index.objects().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// Names and lengths of everything that a catalogue lists.
    fn listed(&self) -> Result<Vec<(String, u64)>, Error> {
        let mut objects = Vec::new();
        for folder in ["images", "index", "packs"] {
            objects.extend(self.objects.list(folder)?.into_iter().map(|object| (object.name, object.len)));
        }
        Ok(objects)
    }

    /// Writes the catalogue anew where it does not say what is there: whoever stored or removed an image last may have ended between that
    /// and the catalogue.
    pub(crate) fn mend_catalog(&self) -> Result<(), Error> {
        let listed = self.listed()?;
        let said = match read_whole(&*self.objects, CATALOG, MAX_CATALOG_BYTES) {
            // One that is damaged says nothing.
            Ok(bytes) => serde_json::from_slice::<Catalog>(&bytes).ok(),
            Err(Error::NotFound { .. }) if listed.is_empty() => return Ok(()),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        match said {
            Some(catalog) if catalog.objects == listed => Ok(()),
            _ => self.write_catalog(),
        }
    }

    /// Writes what a web server gives in place of listings; again when somebody else changed the store meanwhile.
    pub(crate) fn write_catalog(&self) -> Result<(), Error> {
        let mut last = Vec::new();
        for _ in 0..10 {
            let objects = self.listed()?;
            if objects == last {
                break;
            }
            last.clone_from(&objects);
            let bytes = serde_json::to_vec(&Catalog { version: 1, objects });
            let bytes = bytes.map_err(|error| Error::Io {
                what: "write",
                name: CATALOG.to_owned(),
                source: error.into(),
            })?;
            self.objects.replace(CATALOG, &bytes)?;
        }
        Ok(())
    }

    /// Gives a manifest its name, then tells web servers. Whoever failed between the two may try again: an image that is this one already is
    /// as good as stored.
    pub(crate) fn put_image(&self, name: &str, manifest: &[u8], existing: OnExisting) -> Result<(), Error> {
        let object = image_name(name);
        match existing {
            OnExisting::Replace => self.objects.replace(&object, manifest)?,
            OnExisting::Refuse => {
                if self.objects.put_new(&object, manifest)? == Put::Exists
                    && !self.is_image(name, manifest)?
                {
                    let why = format!("{} has an image of this name", self.name());
                    return Err(Error::Refused { what: format!("storing {name}"), why });
                }
            }
        }
        self.write_catalog()
    }
}

impl Store {
    /// Whether the image `name` is the one of `manifest`, signed or not.
    fn is_image(&self, name: &str, manifest: &[u8]) -> Result<bool, Error> {
        let object = image_name(name);
        let wanted = ImageFile::open(&manifest.to_vec()).map_err(Error::format(&object))?;
        match self.image(name) {
            Ok(there) => Ok(there.id == wanted.id),
            // A damaged one is another.
            Err(Error::Format { .. } | Error::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn consolidate(objects: &dyn Objects, state: &mut State) -> Result<(), Error> {
    let packs = &state.packs;
    let is_there = |pack: &ChunkId| packs.contains_key(pack);
    let name = state.recent.merge(objects, state.index.as_ref(), &is_there)?;
    state.index = Some(IndexFile::open(objects, &name)?);
    state.recent = Recent::default();
    Ok(())
}

pub(crate) fn list_packs(objects: &dyn Objects) -> Result<HashMap<ChunkId, u64>, Error> {
    let packs = objects.list("packs")?.into_iter().filter_map(|object| {
        let id = object.name.rsplit('/').next()?.parse().ok()?;
        Some((id, object.len))
    });
    Ok(packs.collect())
}

/// Whether another copy of the object may be better.
fn is_doubtful(error: &Error) -> bool {
    matches!(error, Error::Format { .. } | Error::Corrupt { .. } | Error::Io { .. })
}

/// What is in a pack, and why its index was of no use. A pack that has another name than its index says is refused. Of several copies the
/// first one that is whole is taken.
pub(crate) fn pack_entries(
    objects: &dyn Objects,
    pack: &ChunkId,
) -> Result<(Vec<PackEntry>, Option<String>), Error> {
    loop {
        let found = entries_of(objects, pack);
        let is_odd = match &found {
            Ok((_, damage)) => damage.is_some(),
            Err(error) => is_doubtful(error),
        };
        if !is_odd || !objects.doubt(&pack_name(pack)) {
            return found;
        }
    }
}

fn entries_of(objects: &dyn Objects, pack: &ChunkId) -> Result<(Vec<PackEntry>, Option<String>), Error> {
    let name = pack_name(pack);
    let source = objects.open(&name)?;
    if source.size() > max_pack_bytes() {
        let expected = format!("at most {} bytes", max_pack_bytes());
        return Err(Error::Corrupt { name, expected, found: source.size().to_string() });
    }
    let index = read_pack(&source).map_err(Error::format(&name))?;
    match index.name {
        Some(found) if found != *pack => {
            let expected = format!("an index with the hash {pack}");
            Err(Error::Corrupt { name, expected, found: found.to_string() })
        }
        _ => Ok((index.entries, index.damage)),
    }
}

/// Whether an entry's frame is a table: needed to follow images.
pub(crate) fn is_table(frame: &Frame) -> bool {
    frame.header.kind == FrameKind::Table
}
