//! A place that holds no more than so many bytes, for copies of what is elsewhere: what was used longest ago makes room for what is new.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gravure_io::ReadAt;

use crate::Error;
use crate::objects::{Listed, Objects, Put, Session};

/// Folders of objects in a store that are worth a copy.
const FOLDERS: [&str; 3] = ["packs", "index", "images"];

/// Objects of another place, as many as there is room for.
#[derive(Debug)]
pub struct BoundedObjects {
    inner: Arc<dyn Objects>,
    limit_bytes: u64,
    held: Mutex<Held>,
}

/// What is there. Objects that are being written count, but have no name yet.
#[derive(Debug, Default)]
struct Held {
    bytes: u64,
    /// Length and when it was used last, by name.
    objects: HashMap<String, (u64, u64)>,
    /// Counts uses.
    clock: u64,
}

impl Held {
    fn touch(&mut self, name: &str, len: u64) {
        self.clock += 1;
        let before = self.objects.insert(name.to_owned(), (len, self.clock));
        self.bytes = self.bytes.saturating_sub(before.map_or(0, |(len, _)| len)).saturating_add(len);
    }

    fn forget(&mut self, name: &str) {
        if let Some((len, _)) = self.objects.remove(name) {
            self.bytes = self.bytes.saturating_sub(len);
        }
    }

    /// The one that was used longest ago. Those of before this process, which nobody can tell apart, come in the order of their names.
    fn oldest(&self) -> Option<String> {
        self.objects.iter().min_by_key(|(name, (_, used))| (*used, *name)).map(|(name, _)| name.clone())
    }
}

impl BoundedObjects {
    /// At most `limit_bytes` of packs, indexes and manifests in `inner`, which nobody else writes. What is there already counts.
    pub fn new(inner: Arc<dyn Objects>, limit_bytes: u64) -> Result<Self, Error> {
        let mut held = Held::default();
        for folder in FOLDERS {
            for Listed { name, len } in inner.list(folder)? {
                held.bytes = held.bytes.saturating_add(len);
                held.objects.insert(name, (len, 0));
            }
        }
        let this = Self { inner, limit_bytes, held: Mutex::new(held) };
        this.make_room(0)?;
        Ok(this)
    }

    /// Bytes that are there.
    pub fn held_bytes(&self) -> u64 {
        self.held().bytes
    }

    /// Says that an object was used, by whoever reads it without asking here.
    pub fn touch(&self, name: &str) {
        let mut held = self.held();
        if let Some((len, _)) = held.objects.get(name).copied() {
            held.touch(name, len);
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes objects until `len` more bytes have room, and counts these from now on.
    fn make_room(&self, len: u64) -> Result<(), Error> {
        if len > self.limit_bytes {
            let why = format!("{len} bytes are more than the {} that it may hold", self.limit_bytes);
            return Err(Error::Refused { what: format!("a copy in {}", self.name()), why });
        }
        loop {
            let oldest = {
                let mut held = self.held();
                if held.bytes.saturating_add(len) <= self.limit_bytes {
                    held.bytes = held.bytes.saturating_add(len);
                    return Ok(());
                }
                held.oldest()
            };
            // All there is may be on its way in, by others.
            let Some(oldest) = oldest else {
                let why = "everything in it is being written".to_owned();
                return Err(Error::Refused { what: format!("a copy in {}", self.name()), why });
            };
            self.remove(&oldest)?;
        }
    }

    /// Writes `len` bytes; once more after making as much room, where the file system is full before the limit is reached.
    fn write<T>(
        &self,
        name: &str,
        len: u64,
        write: impl Fn() -> Result<T, Error>,
        is_written: impl Fn(&T) -> bool,
    ) -> Result<T, Error> {
        // What is there under the name already has its room.
        let known = self.held().objects.get(name).map_or(0, |(len, _)| *len);
        let more = len.saturating_sub(known);
        self.make_room(more)?;
        let mut written = write();
        if written.as_ref().is_err_and(is_full) {
            let mut freed = 0;
            while freed < len {
                let oldest = self.held().oldest();
                let Some(oldest) = oldest else { break };
                freed += self.held().objects.get(&oldest).map_or(0, |(len, _)| *len);
                self.remove(&oldest)?;
            }
            if freed >= len {
                written = write();
            }
        }
        let mut held = self.held();
        held.bytes = held.bytes.saturating_sub(more);
        if written.as_ref().is_ok_and(is_written) {
            held.touch(name, len);
        }
        written
    }
}

fn is_full(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. }
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

impl Objects for BoundedObjects {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn open(&self, name: &str) -> Result<Arc<dyn ReadAt>, Error> {
        let source = self.inner.open(name)?;
        self.touch(name);
        Ok(source)
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, Error> {
        let write = || self.inner.put_new(name, bytes);
        self.write(name, bytes.len() as u64, write, |put| *put == Put::Created)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.write(name, bytes.len() as u64, || self.inner.replace(name, bytes), |()| true)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, Error> {
        self.inner.list(folder)
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.inner.remove(name)?;
        self.held().forget(name);
        Ok(())
    }

    fn begin_session(&self) -> Result<Box<dyn Session>, Error> {
        self.inner.begin_session()
    }

    fn sessions(&self) -> Result<Vec<String>, Error> {
        self.inner.sessions()
    }

    fn clean(&self) -> Result<(), Error> {
        self.inner.clean()
    }

    fn doubt(&self, name: &str) -> bool {
        self.inner.doubt(name)
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalObjects;

    fn names(objects: &dyn Objects) -> Vec<String> {
        let listed = FOLDERS.iter().flat_map(|folder| objects.list(folder).unwrap());
        listed.map(|listed| listed.name).collect()
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let inner = Arc::new(LocalObjects::new(dir.path()));
        inner.put_new("packs/aa/old", &[1; 40]).unwrap();
        let bounded = BoundedObjects::new(inner.clone(), 100).unwrap();
        assert_eq!(bounded.held_bytes(), 40, "what is there already counts");
        bounded.put_new("packs/bb/one", &[2; 30]).unwrap();
        bounded.put_new("index/two", &[3; 30]).unwrap();
        assert_eq!(names(&bounded), ["packs/aa/old", "packs/bb/one", "index/two"]);
        // Read, so that others go first; one that is there needs no more room.
        bounded.open("packs/aa/old").unwrap();
        assert_eq!(bounded.put_new("packs/aa/old", &[9; 40]).unwrap(), Put::Exists);
        assert_eq!((bounded.held_bytes(), names(&bounded).len()), (100, 3));
        bounded.put_new("packs/cc/three", &[4; 20]).unwrap();
        assert_eq!(names(&bounded), ["packs/aa/old", "packs/cc/three", "index/two"]);
        assert_eq!(bounded.held_bytes(), 90);
        // An object that takes the place of another one.
        bounded.replace("images/x.gim", &[5; 10]).unwrap();
        bounded.replace("images/x.gim", &[6; 2]).unwrap();
        assert_eq!((bounded.held_bytes(), names(&bounded).len()), (92, 4));
        bounded.replace("images/x.gim", &[6; 12]).unwrap();
        assert_eq!(names(&bounded), ["packs/aa/old", "packs/cc/three", "images/x.gim"]);
        assert_eq!(bounded.held_bytes(), 72);
        // Read by somebody else.
        bounded.touch("packs/aa/old");
        bounded.remove("images/x.gim").unwrap();
        bounded.put_new("packs/dd/four", &[7; 50]).unwrap();
        assert_eq!(names(&bounded), ["packs/aa/old", "packs/dd/four"]);
        assert_eq!(bounded.held_bytes(), 90);

        let long = bounded.put_new("packs/ee/long", &[7; 101]).unwrap_err().to_string();
        assert!(long.contains("101 bytes are more than the 100 that it may hold"), "{long}");
        assert_eq!(names(&bounded).len(), 2, "nothing went for it");
        // A limit that was lowered holds at once.
        assert_eq!(BoundedObjects::new(inner, 60).unwrap().held_bytes(), 50);
        assert_eq!(names(&bounded), ["packs/dd/four"]);
    }
}
