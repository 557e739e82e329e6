//! What machines asked for, kept on this server. Packs and indexes never change and are given as they were fetched; catalogue and manifests are
//! fetched whenever they are asked for, and given as they were last when no place answers.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gravure_bootd::{Directory, Found};
use gravure_netboot::names::normalise_name;
use gravure_store::{BoundedObjects, CachedObjects, ErrorKind, LocalObjects, Objects, read_whole};

use super::MAX_WHOLE_BYTES;
use crate::Error;

/// Bytes of what is kept in `path`, as far as it is there.
pub(crate) fn cached_bytes(path: &Path) -> u64 {
    let objects = LocalObjects::new(path);
    let listed = ["packs", "index", "images"].into_iter().filter_map(|folder| objects.list(folder).ok());
    listed.flatten().map(|listed| listed.len).sum()
}

/// The cache.
pub(super) struct Cache {
    near: Arc<BoundedObjects>,
    files: Directory,
    /// What is being fetched: who asks for the same waits instead of fetching it again.
    fetching: Mutex<HashMap<String, Arc<Mutex<()>>>>,
    /// Indexes that were held against their names since the start.
    checked: Mutex<HashSet<String>>,
}

impl Cache {
    /// In the directory `path`, which is there.
    pub(super) fn open(path: &Path, limit_bytes: u64) -> Result<Self, Error> {
        let near = BoundedObjects::new(Arc::new(LocalObjects::new(path)), limit_bytes);
        let near = near.map_err(|error| Error::Store { message: crate::error::chain(&error) })?;
        let files =
            Directory::new(path).map_err(|_| Error::Missing { what: "cache", path: path.to_owned() })?;
        Ok(Self { near: Arc::new(near), files, fetching: Mutex::default(), checked: Mutex::default() })
    }

    /// What is kept, as a place.
    pub(super) fn objects(&self) -> Arc<dyn Objects> {
        Arc::clone(&self.near) as Arc<dyn Objects>
    }

    /// What a machine gets that asks for an object; `None` when it has to be sent elsewhere: it cannot be fetched, or not be kept.
    pub(super) fn find(
        &self,
        object: &str,
        far: impl FnOnce() -> Result<Arc<dyn Objects>, gravure_store::Error>,
    ) -> Option<Found> {
        if !object.starts_with("packs/") && !object.starts_with("index/") {
            return self.fresh(object, far);
        }
        if let Some(found) = self.checked(object) {
            return Some(found);
        }
        let turn = Arc::clone(lock(&self.fetching).entry(object.to_owned()).or_default());
        // Held while it is fetched, for those who wait for the same.
        let held = lock(&turn);
        let found = self.checked(object).or_else(|| {
            let opened = far().and_then(|far| CachedObjects::new(far, self.objects()).open(object));
            match opened {
                Ok(_) => drop(lock(&self.checked).insert(object.to_owned())),
                Err(error) => tracing::debug!(object, %error, "not fetched into the cache"),
            }
            self.kept(object)
        });
        drop(held);
        lock(&self.fetching).remove(object);
        found
    }

    /// An object as it is kept, if that is known to be right: of packs, who reads them finds out.
    fn checked(&self, object: &str) -> Option<Found> {
        let is_right = object.starts_with("packs/") || lock(&self.checked).contains(object);
        is_right.then(|| self.kept(object)).flatten()
    }

    /// An object as it is kept.
    fn kept(&self, object: &str) -> Option<Found> {
        let found = self.files.open(&normalise_name(object.as_bytes()).ok()?);
        self.near.touch(object);
        matches!(found, Found::File { .. }).then_some(found)
    }

    /// An object that may be replaced, as it is now where that can be told.
    fn fresh(
        &self,
        object: &str,
        far: impl FnOnce() -> Result<Arc<dyn Objects>, gravure_store::Error>,
    ) -> Option<Found> {
        match far().and_then(|far| read_whole(&*far, object, MAX_WHOLE_BYTES)) {
            Ok(bytes) => {
                let is_known =
                    read_whole(&*self.near, object, MAX_WHOLE_BYTES).is_ok_and(|known| known == bytes);
                // A full disk must not keep anybody from reading: who asks is sent elsewhere then.
                if !is_known && let Err(error) = self.near.replace(object, &bytes) {
                    tracing::debug!(object, %error, "not kept in the cache");
                    return None;
                }
                // A file, since machines read parts.
                self.kept(object)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Best effort: it is fetched before it is given again anyway.
                let _ = self.near.remove(object);
                Some(Found::Nothing)
            }
            Err(_) => self.kept(object),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
