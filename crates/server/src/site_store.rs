//! Where the site's store is: a directory of this server, a bucket that machines read from straight away, or a web server; where else the
//! same is to be had; and a cache before all of it.
//!
//! From a bucket the server gives machines no bytes: it answers with an address that is signed for one object and some minutes, so
//! machines have no credentials, and what a room of them reads does not pass through here. What is read is held against the ids in the
//! image either way. With a cache it is the other way round: what a machine asks for is fetched once, kept, and given from here.
//!
//! A machine asks this server for every piece. So where it is sent to may change from one piece to the next: a place that does not answer,
//! or has not got an object, is passed by, and a restore under way goes on from a copy. Only the first place is written to.

mod cache;
mod place;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use gravure_bootd::{Asking, Found};
use gravure_fetch::Patience;
use gravure_store::{CachedObjects, FailoverObjects, Objects, Store};

use crate::Error;
use crate::config::{Config, StoreConfig};
use crate::images::Stamp;
use cache::Cache;
pub(crate) use cache::{cached_bytes, damaged};
pub(crate) use place::Place;
use place::{CATALOG, Look};

/// Folder of manifests in a store.
const MANIFESTS: &str = "images";
/// Bytes of an object that may be replaced: a catalogue, a manifest.
const MAX_WHOLE_BYTES: u64 = 80 << 20;

/// The site's store.
pub(crate) struct SiteStore {
    /// The first is written to.
    places: Vec<Place>,
    cache: Option<Cache>,
}

impl fmt::Debug for SiteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())
    }
}

/// The places that the configuration names. Nothing is asked or made.
pub(crate) fn places(config: &Config) -> Result<Vec<Place>, Error> {
    let unset = StoreConfig::default();
    let store = config.store.as_ref().unwrap_or(&unset);
    let wrong = |message| Error::Store { message };
    let mut all = vec![store.place(&config.paths.store).map_err(wrong)?];
    all.extend(store.other_places().map_err(wrong)?);
    all.iter().map(|place| Place::new(place, |name| std::env::var(name).ok())).collect()
}

impl SiteStore {
    /// The store that the configuration names. A directory is made when it is not there: sites of earlier versions have none.
    pub(crate) fn open(config: &Config) -> Result<Self, Error> {
        let places = places(config)?;
        let make =
            |path: &Path| std::fs::create_dir_all(path).map_err(|source| Error::io("create", path, source));
        if let Some(path) = places.first().and_then(Place::directory) {
            make(path)?;
        }
        let cached =
            config.store.as_ref().and_then(|store| Some((store.cache.as_ref()?, store.cache_bytes())));
        let cache = cached.map(|(path, limit_bytes)| {
            make(path)?;
            Cache::open(path, limit_bytes)
        });
        Ok(Self { places, cache: cache.transpose()? })
    }

    fn first(&self) -> &Place {
        &self.places[0]
    }

    /// What messages call it.
    pub(crate) fn place(&self) -> String {
        self.first().name().to_owned()
    }

    /// Nothing can be written to it.
    pub(crate) fn is_read_only(&self) -> bool {
        self.first().is_read_only()
    }

    /// Opens it for writing. Blocks.
    pub(crate) fn to_write(&self) -> Result<Store, gravure_store::Error> {
        Store::open(self.first().patiently()?)
    }

    /// Opens it for reading, with its copies and the cache. Blocks.
    pub(crate) fn store(&self) -> Result<Store, gravure_store::Error> {
        let far = match self.places.as_slice() {
            [only] => only.patiently()?,
            _ => self.far(CATALOG)?,
        };
        Store::open(match &self.cache {
            Some(cache) => Arc::new(CachedObjects::new(far, cache.objects())),
            None => far,
        })
    }

    /// The places in the order in which an object is asked for: those that have it, or were not asked, come first. Blocks.
    fn in_order(&self, object: &str) -> Vec<(&Place, Look)> {
        let mut order = Vec::with_capacity(self.places.len());
        let mut others = Vec::new();
        for place in &self.places {
            // Who was found to have it is enough; the rest are not asked.
            let look = if order.is_empty() { place.look(object) } else { Look::There };
            if look == Look::There { &mut order } else { &mut others }.push((place, look));
        }
        // One that does not answer may have it; one that answers has not.
        others.sort_by_key(|(_, look)| *look == Look::Absent);
        order.extend(others);
        order
    }

    /// What is not in the cache, from whichever place has `object`.
    fn far(&self, object: &str) -> Result<Arc<dyn Objects>, gravure_store::Error> {
        let mut found = Vec::new();
        let mut failed = None;
        for (place, look) in self.in_order(object) {
            // A directory that is not mounted would say of everything that it is not there.
            if look == Look::Down && place.directory().is_some() {
                continue;
            }
            match place.impatiently() {
                Ok(objects) => found.push(objects),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        let joined = FailoverObjects::read_only(found);
        let none = || gravure_store::Error::Refused {
            what: "reading the store".into(),
            why: "no place answers".into(),
        };
        joined.map(|joined| Arc::new(joined) as Arc<dyn Objects>).ok_or_else(|| failed.unwrap_or_else(none))
    }

    /// File names of the manifests in it, with what tells when one was replaced. Blocks.
    pub(crate) fn manifests(&self) -> Result<Vec<(String, Stamp)>, Error> {
        let places = match self.places.as_slice() {
            [only] => return only.manifests(Patience::default()),
            _ => self.in_order(CATALOG),
        };
        let mut failed = None;
        // A store in which nothing was written yet has no catalogue.
        for (place, _) in places {
            match place.manifests(place::impatient()) {
                Ok(found) => return Ok(found),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        Err(failed.unwrap_or_else(|| Error::Store { message: "the store has no place".to_owned() }))
    }

    /// What a machine gets that asks for an object, `afresh` when what it got before was wrong. Blocks.
    pub(crate) fn find(&self, object: &str, asking: Asking, afresh: bool) -> Found {
        if !is_served(object) {
            return Found::Nothing;
        }
        if let Some(cache) = &self.cache
            && let Some(found) = cache.find(object, afresh, || self.far(object))
        {
            return found;
        }
        if let [only] = self.places.as_slice() {
            return only.give(object, asking);
        }
        // Of places that do not answer one may have it: whoever is sent there asks again.
        let order = self.in_order(object);
        match order.first() {
            Some((place, Look::There | Look::Down)) => place.give(object, asking),
            _ => Found::Nothing,
        }
    }
}

fn manifests_in(dir: &Path) -> Result<Vec<(String, Stamp)>, Error> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::io("read", dir, source)),
    };
    let manifests = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.file_name().into_string().ok()?, Stamp::of(&entry.metadata().ok()?)?))
    });
    Ok(manifests.collect())
}

/// What of a store machines may read: not its locks, sessions and files that are on their way.
fn is_served(object: &str) -> bool {
    let folder = object.split_once('/').map(|(folder, _)| folder);
    object == CATALOG || matches!(folder, Some("images" | "index" | "packs"))
}

impl Stamp {
    /// Of a regular file.
    pub(crate) fn of(facts: &std::fs::Metadata) -> Option<Self> {
        let since = facts.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        facts.is_file().then_some(Self { size_bytes: facts.len(), changed })
    }
}

#[cfg(test)]
mod tests;
