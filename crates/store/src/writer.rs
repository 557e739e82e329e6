//! Writing: frames are collected to packs, packs are made durable, then a manifest makes an image of them. What was not committed is
//! garbage for the next collection, nothing else.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gravure_blockimg::{ChunkId, Frame, FrameEncoder, FrameKind, PackBuilder};

use crate::objects::Session;
use crate::store::{OnExisting, pack_name};
use crate::{Error, Store};

/// Bytes of a pack aimed at.
pub const PACK_BYTES: usize = 24 << 20;
/// Where packs are named that a collection is going to remove.
pub(crate) const CONDEMNED: &str = "condemned";

/// A writer. As long as it lives, collections keep what it may count on.
#[derive(Debug)]
pub struct Writer<'s> {
    store: &'s Store,
    session: Box<dyn Session>,
    /// Packs that are going to be removed: what is in them is stored again.
    condemned: Arc<HashSet<ChunkId>>,
    pack: PackBuilder,
    /// What is in `pack`, and where.
    pending: HashMap<ChunkId, u64>,
    stored_bytes: u64,
}

impl Store {
    /// Begins to write.
    pub fn writer(&self) -> Result<Writer<'_>, Error> {
        if self.objects().is_read_only() {
            let why = "it is read-only".to_owned();
            return Err(Error::Refused { what: format!("writing to {}", self.name()), why });
        }
        // The session first: a collection that does not see it has named its packs before, and they are seen here.
        let session = self.objects().begin_session()?;
        let condemned = Arc::new(condemned(self)?);
        self.mend_catalog()?;
        let (pack, pending) = Default::default();
        Ok(Writer { store: self, session, condemned, pack, pending, stored_bytes: 0 })
    }
}

/// Packs that are named for removal.
pub(crate) fn condemned(store: &Store) -> Result<HashSet<ChunkId>, Error> {
    let listed = store.objects().list(CONDEMNED)?;
    Ok(listed.iter().filter_map(|object| object.name.rsplit('/').next()?.parse().ok()).collect())
}

/// Tells whether contents are in a store, for a writer on another thread.
#[derive(Debug, Clone)]
pub struct Checker<'s> {
    store: &'s Store,
    condemned: Arc<HashSet<ChunkId>>,
}

impl Checker<'_> {
    /// Whether a content need not be stored again.
    pub fn contains(&self, id: &ChunkId) -> Result<bool, Error> {
        Ok(self.store.find_wanted(id, &|pack| !self.condemned.contains(pack))?.is_some())
    }
}

impl<'s> Writer<'s> {
    /// Name of the session.
    pub fn session(&self) -> &str {
        self.session.name()
    }

    /// Whether a content need not be stored again.
    pub fn contains(&self, id: &ChunkId) -> Result<bool, Error> {
        if self.pending.contains_key(id) {
            return Ok(true);
        }
        Ok(self.store.find_wanted(id, &|pack| !self.condemned.contains(pack))?.is_some())
    }

    /// Answers for another thread what was stored before; what this writer has not flushed yet is not seen.
    pub fn checker(&self) -> Checker<'s> {
        Checker { store: self.store, condemned: Arc::clone(&self.condemned) }
    }

    /// Stores a frame.
    pub fn put(&mut self, frame: &Frame) -> Result<(), Error> {
        let offset = u64::try_from(self.pack.len()).unwrap_or(u64::MAX);
        self.pack.push(frame);
        self.pending.extend(frame.header.entries.iter().map(|entry| (entry.id, offset)));
        if self.pack.len() >= PACK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Makes everything stored so far durable.
    pub fn flush(&mut self) -> Result<(), Error> {
        if self.pack.is_empty() {
            return Ok(());
        }
        let mut pack = std::mem::take(&mut self.pack);
        if !self.condemned.is_empty() {
            // Packs are named after their content. One that is condemned may be removed at any time, so a new one with the same
            // content must have another name.
            let encoder = FrameEncoder::new(1)
                .and_then(|mut encoder| encoder.single(FrameKind::Data, self.session.name().as_bytes()));
            pack.push(&encoder.map_err(Error::format("a new pack"))?);
        }
        let (id, bytes, entries) = pack.finish().map_err(Error::format("a new pack"))?;
        self.store.objects().put_new(&pack_name(&id), &bytes)?;
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.stored_bytes = self.stored_bytes.saturating_add(len);
        self.store.add_pack(id, len, &entries)?;
        self.pending.clear();
        Ok(())
    }

    /// Bytes of packs written so far.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Makes an image of what is stored: `manifest` names its content.
    pub fn commit(mut self, name: &str, manifest: &[u8], existing: OnExisting) -> Result<u64, Error> {
        self.flush()?;
        self.store.put_image(name, manifest, existing)?;
        Ok(self.stored_bytes)
    }
}
