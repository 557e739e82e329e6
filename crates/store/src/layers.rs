//! Objects over other objects: a local copy of what never changes, and several places with the same content.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gravure_blockimg::ChunkId;
use gravure_io::ReadAt;

use crate::objects::{Listed, Objects, Put, Session, read_whole};
use crate::{Error, ErrorKind};

/// Objects that never change under their name.
fn is_immutable(name: &str) -> bool {
    name.starts_with("packs/") || name.starts_with("index/")
}

/// Bytes of an object that is copied whole.
pub(crate) const MAX_COPIED_BYTES: u64 = 256 << 20;

/// Whether the name of an object says its content, and that is another: objects of an index are named by their hashes, packs are not.
pub(crate) fn is_misnamed(name: &str, bytes: &[u8]) -> bool {
    let hash = name.strip_prefix("index/").map(|name| name.strip_prefix("head-").unwrap_or(name));
    hash.and_then(|hash| hash.parse::<ChunkId>().ok()).is_some_and(|hash| hash != ChunkId::of(bytes))
}

/// Keeps what it fetched and never changes: packs and indexes. An index is held against its name whenever it is opened; chunks are checked by
/// whoever reads them, and a copy that was found wrong is fetched anew.
#[derive(Debug)]
pub struct CachedObjects {
    far: Arc<dyn Objects>,
    near: Arc<dyn Objects>,
    /// Copies that are wrong and cannot be removed: not used.
    passed_by: Mutex<HashSet<String>>,
}

impl CachedObjects {
    /// `near` keeps copies of what is in `far`.
    pub fn new(far: Arc<dyn Objects>, near: Arc<dyn Objects>) -> Self {
        Self { far, near, passed_by: Mutex::default() }
    }

    fn passed_by(&self) -> MutexGuard<'_, HashSet<String>> {
        self.passed_by.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The copy of `name` is not used again.
    fn forget(&self, name: &str) {
        if self.near.remove(name).is_err() {
            self.passed_by().insert(name.to_owned());
        }
    }
}

impl Objects for CachedObjects {
    fn name(&self) -> &str {
        self.far.name()
    }

    fn open(&self, name: &str) -> Result<Arc<dyn ReadAt>, Error> {
        if !is_immutable(name) {
            return self.far.open(name);
        }
        let is_used = !self.passed_by().contains(name);
        if is_used && let Ok(copy) = self.near.open(name) {
            if !name.starts_with("index/") {
                return Ok(copy);
            }
            match read_whole(&*self.near, name, MAX_COPIED_BYTES) {
                // Not what was read for it: an index of a large store is not for memory.
                Ok(bytes) if !is_misnamed(name, &bytes) => return Ok(copy),
                _ => self.forget(name),
            }
        }
        let bytes = read_whole(&*self.far, name, MAX_COPIED_BYTES)?;
        if self.passed_by().contains(name) {
            return Ok(Arc::new(bytes));
        }
        match self.near.put_new(name, &bytes) {
            Ok(_) => self.near.open(name),
            // A full disk must not keep anybody from reading.
            Err(_) => Ok(Arc::new(bytes)),
        }
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, Error> {
        self.far.put_new(name, bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.far.replace(name, bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, Error> {
        self.far.list(folder)
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.far.remove(name)?;
        if is_immutable(name) { self.near.remove(name) } else { Ok(()) }
    }

    /// The far object takes the place of the near copy where they differ; else the far one is doubted.
    fn doubt(&self, name: &str) -> bool {
        if !is_immutable(name) {
            return self.far.doubt(name);
        }
        let near = read_whole(&*self.near, name, MAX_COPIED_BYTES);
        let Ok(far) = read_whole(&*self.far, name, MAX_COPIED_BYTES) else {
            // The near copy may be right in other places, and there is nothing better.
            return self.far.doubt(name);
        };
        let is_other = !self.passed_by().contains(name) && near.is_ok_and(|near| near != far);
        self.forget(name);
        is_other || self.far.doubt(name)
    }

    fn begin_session(&self) -> Result<Box<dyn Session>, Error> {
        self.far.begin_session()
    }

    fn sessions(&self) -> Result<Vec<String>, Error> {
        self.far.sessions()
    }

    fn clean(&self) -> Result<(), Error> {
        self.far.clean()
    }

    fn is_read_only(&self) -> bool {
        self.far.is_read_only()
    }
}

/// The same store in several places: what one does not give, or gives wrong, another may. Writing goes to the first one alone.
#[derive(Debug)]
pub struct FailoverObjects {
    places: Vec<Arc<dyn Objects>>,
    is_read_only: bool,
    /// From which place on an object is asked for, as it was wrong in those before.
    doubted: Mutex<HashMap<String, usize>>,
}

impl FailoverObjects {
    /// In the order in which they are asked. `None` when there are none.
    pub fn new(places: Vec<Arc<dyn Objects>>) -> Option<Self> {
        (!places.is_empty()).then(|| Self { places, is_read_only: false, doubted: Mutex::default() })
    }

    /// The same for reading alone: the place that is written to is not among them.
    pub fn read_only(places: Vec<Arc<dyn Objects>>) -> Option<Self> {
        Self::new(places).map(|this| Self { is_read_only: true, ..this })
    }

    fn first(&self) -> &dyn Objects {
        &*self.places[0]
    }

    fn first_to_write(&self) -> Result<&dyn Objects, Error> {
        if self.is_read_only {
            let why = "the place that is written to cannot be reached".to_owned();
            return Err(Error::Refused { what: format!("writing to {}", self.name()), why });
        }
        Ok(self.first())
    }

    /// The places in the order in which `name` is asked for.
    fn places_of(&self, name: &str) -> Vec<Arc<dyn Objects>> {
        let doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        let first = doubted.get(name).copied().unwrap_or(0).min(self.places.len());
        let mut places = self.places.clone();
        places.rotate_left(first);
        places
    }

    fn ask<T>(
        &self,
        places: &[Arc<dyn Objects>],
        ask: impl Fn(&dyn Objects) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut first = None;
        for place in places {
            match ask(&**place) {
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(error) => {
                    first.get_or_insert(error);
                }
                found => return found,
            }
        }
        Err(first.unwrap_or_else(|| Error::no_object("", self.name())))
    }
}

/// A source that goes on elsewhere when reading fails.
struct FailoverAt {
    objects: Vec<Arc<dyn Objects>>,
    name: String,
    source: Arc<dyn ReadAt>,
}

impl ReadAt for FailoverAt {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        let failed = match self.source.read_exact_at(offset, buf) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // Objects are equal by name only where they never change.
        if is_immutable(&self.name) {
            for place in &self.objects {
                let read = place.open(&self.name).ok().filter(|source| source.size() == self.size());
                if read.is_some_and(|source| source.read_exact_at(offset, buf).is_ok()) {
                    return Ok(());
                }
            }
        }
        Err(failed)
    }
}

impl Objects for FailoverObjects {
    fn name(&self) -> &str {
        self.first().name()
    }

    fn open(&self, name: &str) -> Result<Arc<dyn ReadAt>, Error> {
        let places = self.places_of(name);
        let source = self.ask(&places, |place| place.open(name))?;
        Ok(Arc::new(FailoverAt { objects: places, name: name.to_owned(), source }))
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, Error> {
        self.first_to_write()?.put_new(name, bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.first_to_write()?.replace(name, bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, Error> {
        self.ask(&self.places, |place| place.list(folder))
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.first_to_write()?.remove(name)
    }

    fn begin_session(&self) -> Result<Box<dyn Session>, Error> {
        self.first_to_write()?.begin_session()
    }

    fn sessions(&self) -> Result<Vec<String>, Error> {
        self.first().sessions()
    }

    fn clean(&self) -> Result<(), Error> {
        self.first_to_write()?.clean()
    }

    /// The next copy of this place, or the next place. Each is doubted once, so that this ends.
    fn doubt(&self, name: &str) -> bool {
        if !is_immutable(name) {
            return false;
        }
        let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        let at = doubted.entry(name.to_owned()).or_default();
        let Some(place) = self.places.get(*at) else { return false };
        if place.doubt(name) {
            return true;
        }
        *at += 1;
        *at < self.places.len()
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only || self.first().is_read_only()
    }
}
