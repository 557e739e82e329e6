//! A store on any web server that knows ranges: read-only, with `catalog.json` in place of listings.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use gravure_fetch::{FetchError, Headers, Patience, Request, read_file, read_range};
use gravure_io::ReadAt;

use crate::Error;
use crate::objects::{Listed, Objects, Put, Session};
use crate::store::{CATALOG, Catalog, MAX_CATALOG_BYTES};

/// Who answers is to look whether what it keeps is still right, and not to take it for that (RFC 9111, section 5.2.1.4).
fn afresh() -> Headers {
    vec![("cache-control", "no-cache".to_owned())]
}

/// A store below an address. What was wrong is asked for afresh, once: a cache on the way may have had it, and looks.
#[derive(Debug)]
pub struct HttpObjects {
    url: String,
    agent: ureq::Agent,
    patience: Patience,
    catalog: Catalog,
    doubted: Mutex<HashSet<String>>,
}

impl HttpObjects {
    /// The store at `url`; its catalogue is fetched.
    pub fn open(agent: ureq::Agent, url: &str, patience: Patience) -> Result<Self, Error> {
        let url = url.trim_end_matches('/').to_owned();
        let (catalog, doubted) = (Catalog::default(), Mutex::default());
        let mut this = Self { url, agent, patience, catalog, doubted };
        let bytes = this.get(CATALOG, MAX_CATALOG_BYTES)?;
        let catalog = serde_json::from_slice(&bytes).map_err(|error| Error::Corrupt {
            name: this.address(CATALOG),
            expected: "a catalogue".to_owned(),
            found: error.to_string(),
        })?;
        this.catalog = catalog;
        Ok(this)
    }

    fn address(&self, name: &str) -> String {
        format!("{}/{}", self.url, name.replace(' ', "%20"))
    }

    fn get(&self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let url = self.address(name);
        let request = Request { agent: &self.agent, url: &url, headers: headers(self.is_doubted(name)) };
        read_file(&request, limit, &self.patience).map_err(|error| match error {
            FetchError::NotFound { .. } => Error::no_object(name, &self.url),
            error => fetch_error(error),
        })
    }
}

struct HttpSource {
    agent: ureq::Agent,
    patience: Patience,
    url: String,
    size: u64,
    is_doubted: bool,
}

fn headers(is_doubted: bool) -> &'static dyn Fn() -> Headers {
    if is_doubted { &afresh } else { &Vec::new }
}

impl ReadAt for HttpSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let request = Request { agent: &self.agent, url: &self.url, headers: headers(self.is_doubted) };
        let bytes =
            read_range(&request, self.size, offset..end, &self.patience).map_err(|error| match error {
                FetchError::NotFound { url } => io::Error::new(io::ErrorKind::NotFound, url),
                error => io::Error::other(error),
            })?;
        buf.copy_from_slice(&bytes);
        Ok(())
    }
}

impl Objects for HttpObjects {
    fn name(&self) -> &str {
        &self.url
    }

    fn open(&self, name: &str) -> Result<Arc<dyn ReadAt>, Error> {
        if let Some((_, size)) = self.catalog.objects.iter().find(|(listed, _)| listed == name) {
            let (agent, patience) = (self.agent.clone(), self.patience.clone());
            let (url, is_doubted) = (self.address(name), self.is_doubted(name));
            return Ok(Arc::new(HttpSource { agent, patience, url, size: *size, is_doubted }));
        }
        // Shards of an index are listed like all the rest; what is not is small.
        Ok(Arc::new(self.get(name, MAX_CATALOG_BYTES)?))
    }

    fn put_new(&self, name: &str, _bytes: &[u8]) -> Result<Put, Error> {
        Err(self.read_only(name))
    }

    fn replace(&self, name: &str, _bytes: &[u8]) -> Result<(), Error> {
        Err(self.read_only(name))
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, Error> {
        let prefix = format!("{folder}/");
        let listed = self.catalog.objects.iter().filter(|(name, _)| name.starts_with(&prefix));
        Ok(listed.map(|(name, len)| Listed { name: name.clone(), len: *len }).collect())
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        Err(self.read_only(name))
    }

    fn begin_session(&self) -> Result<Box<dyn Session>, Error> {
        Err(self.read_only("sessions"))
    }

    fn sessions(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn clean(&self) -> Result<(), Error> {
        Ok(())
    }

    fn doubt(&self, name: &str) -> bool {
        self.doubted().insert(name.to_owned())
    }

    fn is_read_only(&self) -> bool {
        true
    }
}

impl HttpObjects {
    fn doubted(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_doubted(&self, name: &str) -> bool {
        self.doubted().contains(name)
    }

    fn read_only(&self, name: &str) -> Error {
        let why = "a store on a web server is read-only".to_owned();
        Error::Refused { what: format!("writing {}", self.address(name)), why }
    }
}

/// What kept a server from giving something, as an error of ours.
pub(crate) fn fetch_error(error: FetchError) -> Error {
    match error {
        FetchError::NotFound { url } => Error::no_object("file", &url),
        FetchError::Network { url, why } => Error::Network { url, why },
        _ => Error::Interrupted(gravure_model::Cancelled),
    }
}
