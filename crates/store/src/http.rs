//! A store on any web server that knows ranges: read-only, with `catalog.json` in place of listings.

use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::Duration;

use gravure_io::ReadAt;

use crate::Error;
use crate::objects::{Listed, Objects, Put, Session};
use crate::store::{CATALOG, Catalog};

/// Bytes of a catalogue: 70 bytes for each pack.
const MAX_CATALOG_BYTES: u64 = 64 << 20;
/// Times a request is made before it counts as failed.
const ATTEMPTS: u32 = 4;

/// A store below an address.
#[derive(Debug)]
pub struct HttpObjects {
    url: String,
    agent: ureq::Agent,
    catalog: Catalog,
}

impl HttpObjects {
    /// The store at `url`; its catalogue is fetched.
    pub fn open(agent: ureq::Agent, url: &str) -> Result<Self, Error> {
        let url = url.trim_end_matches('/').to_owned();
        let mut this = Self { url, agent, catalog: Catalog::default() };
        let bytes = this.get(CATALOG, None, MAX_CATALOG_BYTES)?;
        let catalog = serde_json::from_slice(&bytes).map_err(|error| Error::Corrupt {
            name: this.address(CATALOG),
            expected: "a catalogue".to_owned(),
            found: error.to_string(),
        })?;
        this.catalog = catalog;
        Ok(this)
    }

    /// An agent with timeouts that suit packs.
    pub fn agent() -> ureq::Agent {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .timeout_per_read(Some(Duration::from_secs(30)))
            .http_status_as_error(false)
            .build();
        ureq::Agent::new_with_config(config)
    }

    fn address(&self, name: &str) -> String {
        format!("{}/{}", self.url, name.replace(' ', "%20"))
    }

    fn get(&self, name: &str, range: Option<(u64, u64)>, limit: u64) -> Result<Vec<u8>, Error> {
        let url = self.address(name);
        get(&self.agent, &url, range, limit).map_err(|failed| match failed {
            Failed::NotFound => Error::no_object(name, &self.url),
            Failed::Other(why) => Error::Network { url, why },
        })
    }
}

enum Failed {
    NotFound,
    Other(String),
}

/// Fetches bytes `range.0` to `range.1` (exclusive), or all.
fn get(agent: &ureq::Agent, url: &str, range: Option<(u64, u64)>, limit: u64) -> Result<Vec<u8>, Failed> {
    let mut why = String::new();
    for _ in 0..ATTEMPTS {
        let mut request = agent.get(url);
        if let Some((start, end)) = range {
            request = request.header("range", format!("bytes={start}-{}", end - 1));
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(error) => {
                why = error.to_string();
                continue;
            }
        };
        let status = response.status().as_u16();
        let is_whole = range.is_none_or(|(start, _)| start == 0);
        match status {
            404 => return Err(Failed::NotFound),
            206 => {}
            200 if is_whole => {}
            500..=599 | 429 => {
                why = format!("status {status}");
                continue;
            }
            status => return Err(Failed::Other(format!("status {status}"))),
        }
        let expected = range.map(|(start, end)| end - start);
        let mut bytes = Vec::new();
        let body = response.into_body().into_reader();
        match body.take(expected.unwrap_or(limit.saturating_add(1))).read_to_end(&mut bytes) {
            Ok(_) if expected.is_some_and(|expected| bytes.len() as u64 != expected) => {
                why = format!("{} bytes came, expected {}", bytes.len(), expected.unwrap_or(0));
            }
            Ok(_) if bytes.len() as u64 > limit => {
                return Err(Failed::Other(format!("more than {limit} bytes")));
            }
            Ok(_) => return Ok(bytes),
            Err(error) => why = error.to_string(),
        }
    }
    Err(Failed::Other(format!("{why}, {ATTEMPTS} times")))
}

struct HttpSource {
    agent: ureq::Agent,
    url: String,
    size: u64,
}

impl ReadAt for HttpSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if buf.is_empty() {
            return Ok(());
        }
        let limit = buf.len() as u64;
        match get(&self.agent, &self.url, Some((offset, end)), limit) {
            Ok(bytes) => {
                buf.copy_from_slice(&bytes);
                Ok(())
            }
            Err(Failed::NotFound) => Err(io::Error::new(io::ErrorKind::NotFound, self.url.clone())),
            Err(Failed::Other(why)) => Err(io::Error::other(format!("{}: {why}", self.url))),
        }
    }
}

impl Objects for HttpObjects {
    fn name(&self) -> &str {
        &self.url
    }

    fn open(&self, name: &str) -> Result<Arc<dyn ReadAt>, Error> {
        if let Some((_, size)) = self.catalog.objects.iter().find(|(listed, _)| listed == name) {
            let (agent, url) = (self.agent.clone(), self.address(name));
            return Ok(Arc::new(HttpSource { agent, url, size: *size }));
        }
        // Shards of an index are listed like all the rest; what is not is small.
        Ok(Arc::new(self.get(name, None, MAX_CATALOG_BYTES)?))
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

    fn is_read_only(&self) -> bool {
        true
    }
}

impl HttpObjects {
    fn read_only(&self, name: &str) -> Error {
        let why = "a store on a web server is read-only".to_owned();
        Error::Refused { what: format!("writing {}", self.address(name)), why }
    }
}
