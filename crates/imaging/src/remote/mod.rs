//! An image on a web server as a source of bytes: fetched in ranges, each checked against the image's descriptor before
//! a byte of it is used, fetched ahead over several connections, retried and resumed (DESIGN sections 4 and 8).
//!
//! With a descriptor the unit is its range of 4 MiB, as only whole ranges can be checked. Without one it is a block of
//! 64 KiB, so that little more comes than is read, and blocks side by side are asked for together, up to 4 MiB.
//!
//! **Memory:** at most [`RemoteOptions::kept_ranges`] ranges of 4 MiB plus one in the making per connection.

mod cache;
mod fetch;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use gravure_fetch::agent;
use gravure_io::ReadAt;
use gravure_model::Ctl;
use gravure_model::descriptor::{ImageDescriptor, RANGE_BYTES};

use crate::Error;
use cache::{Cache, Next};
use fetch::Fetcher;

/// Bytes fetched at least, of files without a descriptor.
const BLOCK_BYTES: u32 = 64 << 10;

/// How an image is fetched.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// Connections at a time.
    pub connections: usize,
    /// Ranges fetched ahead of the one that is read.
    pub read_ahead: usize,
    /// Ranges kept in memory; at least connections + read-ahead + 1.
    pub kept_ranges: usize,
    /// How long to go on trying without receiving a byte. A server that restarts is back within it.
    pub patience: Duration,
    /// Ends all waiting when asked to stop.
    pub ctl: Ctl,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            connections: 2,
            read_ahead: 2,
            kept_ranges: 5,
            patience: Duration::from_secs(120),
            ctl: Ctl::default(),
        }
    }
}

/// A file on a web server.
pub struct HttpAt {
    shared: Arc<Shared>,
    fetchers: Vec<JoinHandle<()>>,
}

struct Shared {
    fetcher: Fetcher,
    cache: Cache,
}

impl fmt::Debug for HttpAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAt").field("url", &self.shared.fetcher.url()).finish_non_exhaustive()
    }
}

impl HttpAt {
    /// The file at `url` that `descriptor` describes. Nothing is fetched yet.
    pub fn verified(
        agent: ureq::Agent,
        url: &str,
        descriptor: &ImageDescriptor,
        options: &RemoteOptions,
    ) -> Result<Self, Error> {
        let count = descriptor.size_bytes.div_ceil(u64::from(descriptor.range_bytes.max(1)));
        if descriptor.range_bytes == 0
            || descriptor.range_bytes > RANGE_BYTES
            || count != descriptor.ranges.len() as u64
        {
            return Err(Error::Usage {
                what: format!("descriptor of {url}"),
                expected: format!("{count} ranges of 1 to {RANGE_BYTES} bytes"),
                found: format!("{} of {} bytes", descriptor.ranges.len(), descriptor.range_bytes),
            });
        }
        let ranges = Some(descriptor.ranges.clone());
        let fetcher = Fetcher::new(
            agent,
            url.to_owned(),
            descriptor.size_bytes,
            descriptor.range_bytes,
            ranges,
            options,
        );
        Self::start(fetcher, options)
    }

    /// The file at `url` without a descriptor: what the server sends is believed, as far as the image's own hashes do not
    /// catch it. Asks for the size.
    pub fn unverified(agent: ureq::Agent, url: &str, options: &RemoteOptions) -> Result<Self, Error> {
        let fetcher = Fetcher::probe(agent, url.to_owned(), BLOCK_BYTES, options)?;
        Self::start(fetcher, options)
    }

    fn start(fetcher: Fetcher, options: &RemoteOptions) -> Result<Self, Error> {
        let connections = options.connections.max(1);
        let kept = options.kept_ranges.max(connections + options.read_ahead + 1);
        // What is checked is fetched range by range, else a damaged one would spoil its neighbours.
        let per_request = match fetcher.is_verified() {
            true => 1,
            false => (RANGE_BYTES / fetcher.range_bytes().max(1)).max(1) as usize,
        };
        let (ahead, kept) = (options.read_ahead * per_request, kept * per_request);
        let cache = Cache::new(fetcher.range_count(), ahead, kept, per_request as u64);
        let shared = Arc::new(Shared { fetcher, cache });
        let mut this = Self { shared, fetchers: Vec::new() };
        for number in 0..connections {
            let shared = Arc::clone(&this.shared);
            let thread = std::thread::Builder::new().name(format!("fetch-{number}"));
            let spawned = thread.spawn(move || {
                while let Next::Fetch(blocks) = shared.cache.next() {
                    let is_closed = || shared.cache.is_closed();
                    shared.fetcher.fetch(blocks, &is_closed, &mut |index, result| {
                        shared.cache.put(index, result);
                    });
                }
            });
            this.fetchers.push(spawned.map_err(Error::io("start thread for", this.shared.fetcher.url()))?);
        }
        Ok(this)
    }
}

impl Drop for HttpAt {
    fn drop(&mut self) {
        self.shared.cache.close();
        for fetcher in self.fetchers.drain(..) {
            // A fetcher that panicked has been reported by the panic itself.
            let _ = fetcher.join();
        }
    }
}

impl ReadAt for HttpAt {
    fn size(&self) -> u64 {
        self.shared.fetcher.size()
    }

    fn will_read(&self, ranges: &[Range<u64>]) -> bool {
        let range_bytes = u64::from(self.shared.fetcher.range_bytes());
        let size = self.size();
        let ranges = ranges.iter().map(|range| range.start.min(size)..range.end.min(size));
        let blocks = ranges.map(|range| range.start / range_bytes..range.end.div_ceil(range_bytes));
        self.shared.cache.expect(blocks);
        true
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size());
        let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let range_bytes = u64::from(self.shared.fetcher.range_bytes());
        let end = end.div_ceil(range_bytes);
        let mut rest = buf;
        let mut at = offset;
        while !rest.is_empty() {
            let index = at / range_bytes;
            let range = self.shared.cache.get(index, end, self.shared.fetcher.ctl())?;
            let start = usize::try_from(at % range_bytes).unwrap_or(usize::MAX);
            let found = range.get(start..).unwrap_or_default();
            let len = found.len().min(rest.len());
            if len == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            let (now, after) = rest.split_at_mut(len);
            now.copy_from_slice(&found[..len]);
            rest = after;
            at += len as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
