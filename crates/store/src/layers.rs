//! Objects over other objects: a local copy of what never changes, and several places with the same content.

use std::sync::Arc;

use gravure_io::ReadAt;

use crate::objects::{Listed, Objects, Put, Session, read_whole};
use crate::{Error, ErrorKind};

/// Objects that never change under their name.
fn is_immutable(name: &str) -> bool {
    name.starts_with("packs/") || name.starts_with("index/")
}

/// Bytes of an object that is copied whole.
const MAX_COPIED_BYTES: u64 = 256 << 20;

/// Keeps what it fetched and never changes: packs and indexes. Chunks are checked by whoever reads them, wherever they come from.
#[derive(Debug)]
pub struct CachedObjects {
    far: Arc<dyn Objects>,
    near: Arc<dyn Objects>,
}

impl CachedObjects {
    /// `near` keeps copies of what is in `far`.
    pub fn new(far: Arc<dyn Objects>, near: Arc<dyn Objects>) -> Self {
        Self { far, near }
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
        if let Ok(copy) = self.near.open(name) {
            return Ok(copy);
        }
        let bytes = read_whole(&*self.far, name, MAX_COPIED_BYTES)?;
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

/// The same store in several places: what one does not give, another may. Writing goes to the first one alone.
#[derive(Debug)]
pub struct FailoverObjects {
    places: Vec<Arc<dyn Objects>>,
}

impl FailoverObjects {
    /// In the order in which they are asked. `None` when there are none.
    pub fn new(places: Vec<Arc<dyn Objects>>) -> Option<Self> {
        (!places.is_empty()).then_some(Self { places })
    }

    fn first(&self) -> &dyn Objects {
        &*self.places[0]
    }

    fn ask<T>(&self, ask: impl Fn(&dyn Objects) -> Result<T, Error>) -> Result<T, Error> {
        let mut first = None;
        for place in &self.places {
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
        let source = self.ask(|place| place.open(name))?;
        Ok(Arc::new(FailoverAt { objects: self.places.clone(), name: name.to_owned(), source }))
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, Error> {
        self.first().put_new(name, bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.first().replace(name, bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, Error> {
        self.ask(|place| place.list(folder))
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.first().remove(name)
    }

    fn begin_session(&self) -> Result<Box<dyn Session>, Error> {
        self.first().begin_session()
    }

    fn sessions(&self) -> Result<Vec<String>, Error> {
        self.first().sessions()
    }

    fn clean(&self) -> Result<(), Error> {
        self.first().clean()
    }

    fn is_read_only(&self) -> bool {
        self.first().is_read_only()
    }
}
