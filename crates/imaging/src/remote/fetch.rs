//! One range over HTTP: asked for, resumed where a connection broke, tried again with growing pauses, checked.

use std::io::Read;
use std::time::{Duration, Instant};

use gravure_model::Ctl;
use gravure_model::descriptor::Digest;
use ureq::http::{Response, StatusCode, header};

use super::RemoteOptions;
use crate::{Error, ErrorKind};

/// First pause after a failure; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A range that does not match is fetched this often before it is believed to be damaged: a proxy may have cut it.
const MISMATCH_ATTEMPTS: u32 = 2;
/// Step in which a long pause looks whether it was asked to stop.
const PAUSE_STEP: Duration = Duration::from_millis(50);

/// Why a range did not come. Kept in the cache, so it can be told more than once.
#[derive(Debug, Clone)]
pub(super) enum FetchError {
    NotFound { url: String },
    Network { url: String, why: String },
    Mismatch { url: String, index: u64, offset: u64, expected: String, found: String },
    Stopped,
}

impl FetchError {
    pub(super) fn to_error(&self) -> Error {
        match self.clone() {
            Self::NotFound { url } => Error::NotFound { what: "file", which: url },
            Self::Network { url, why } => Error::Network { url, why },
            Self::Mismatch { url, index, offset, expected, found } => {
                Error::RangeMismatch { file: url, index, offset, expected, found, hits: Vec::new() }
            }
            Self::Stopped => Error::Other {
                what: "fetching".to_owned(),
                source: "stopped".into(),
                kind: ErrorKind::Interrupted,
            },
        }
    }
}

/// What one attempt came to.
enum Attempt {
    /// The connection broke or could not be made; worth another try.
    Again(String),
    Fail(FetchError),
}

/// Fetches ranges of one file.
pub(super) struct Fetcher {
    agent: ureq::Agent,
    url: String,
    size: u64,
    /// False until the server was asked for the size.
    is_size_known: bool,
    range_bytes: u32,
    digests: Option<Vec<Digest>>,
    /// What the server said the file's version is; a file that changes while it is read is an error.
    version: Option<String>,
    patience: Duration,
    ctl: Ctl,
}

impl Fetcher {
    pub(super) fn new(
        agent: ureq::Agent,
        url: String,
        size: u64,
        range_bytes: u32,
        digests: Option<Vec<Digest>>,
        options: &RemoteOptions,
    ) -> Self {
        let (patience, ctl) = (options.patience, options.ctl.clone());
        Self { agent, url, size, is_size_known: true, range_bytes, digests, version: None, patience, ctl }
    }

    /// Asks the server for size and version of the file.
    pub(super) fn probe(
        agent: ureq::Agent,
        url: String,
        range_bytes: u32,
        options: &RemoteOptions,
    ) -> Result<Self, Error> {
        let mut this = Self::new(agent, url, 1, range_bytes, None, options);
        this.is_size_known = false;
        let mut first = Vec::new();
        let found = this.persist(&|| false, |this| this.ask(0..1, &mut first)).map_err(|e| e.to_error())?;
        (this.size, this.version) = found;
        this.is_size_known = true;
        Ok(this)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn range_bytes(&self) -> u32 {
        self.range_bytes
    }

    pub(super) fn range_count(&self) -> u64 {
        self.size.div_ceil(u64::from(self.range_bytes))
    }

    pub(super) fn ctl(&self) -> &Ctl {
        &self.ctl
    }

    /// Fetches range `index` and checks it.
    pub(super) fn fetch(&self, index: u64, is_closed: &dyn Fn() -> bool) -> Result<Vec<u8>, FetchError> {
        let start = index * u64::from(self.range_bytes);
        let end = (start + u64::from(self.range_bytes)).min(self.size);
        let mut mismatches = 0;
        loop {
            let mut bytes = Vec::new();
            self.persist(is_closed, |this| {
                let from = start + bytes.len() as u64;
                this.ask(from..end, &mut bytes)
            })?;
            let Some(expected) = self.digests.as_ref().and_then(|all| all.get(usize::try_from(index).ok()?))
            else {
                return Ok(bytes);
            };
            let found = Digest(*blake3::hash(&bytes).as_bytes());
            if found == *expected {
                return Ok(bytes);
            }
            mismatches += 1;
            if mismatches >= MISMATCH_ATTEMPTS {
                let (expected, found) = (expected.to_string(), found.to_string());
                return Err(FetchError::Mismatch {
                    url: self.url.clone(),
                    index,
                    offset: start,
                    expected,
                    found,
                });
            }
        }
    }

    /// Repeats `attempt` until it works, fails for good, or has brought nothing for as long as patience lasts.
    fn persist<T>(
        &self,
        is_closed: &dyn Fn() -> bool,
        mut attempt: impl FnMut(&Self) -> Result<T, Attempt>,
    ) -> Result<T, FetchError> {
        let mut pause = FIRST_PAUSE;
        let mut started = Instant::now();
        let mut count = 0u32;
        loop {
            if is_closed() || self.ctl.check().is_err() {
                return Err(FetchError::Stopped);
            }
            let before = Instant::now();
            match attempt(self) {
                Ok(done) => return Ok(done),
                Err(Attempt::Fail(error)) => return Err(error),
                Err(Attempt::Again(why)) => {
                    count += 1;
                    // A connection that carried bytes for a while shows that the server is alive.
                    if before.elapsed() > LONGEST_PAUSE {
                        (started, pause) = (Instant::now(), FIRST_PAUSE);
                    }
                    if started.elapsed() >= self.patience {
                        let why = format!("{why} (attempt {count}, none succeeded for {:?})", self.patience);
                        return Err(FetchError::Network { url: self.url.clone(), why });
                    }
                }
            }
            let until = Instant::now() + pause;
            while Instant::now() < until && !is_closed() && self.ctl.check().is_ok() {
                std::thread::sleep(PAUSE_STEP.min(until.saturating_duration_since(Instant::now())));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks once for the bytes `range` and appends what comes to `bytes`. Returns size and version of the whole file.
    fn ask(
        &self,
        range: std::ops::Range<u64>,
        bytes: &mut Vec<u8>,
    ) -> Result<(u64, Option<String>), Attempt> {
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            return Ok((self.size, None));
        }
        let mut request = self
            .agent
            .get(&self.url)
            .header(header::RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        request = request.header(header::ACCEPT_ENCODING, "identity");
        let response = request.call().map_err(|error| self.failed(&error))?;
        let (size, version) = self.check(&response, range.start)?;
        let expected = bytes.len() as u64 + wanted.min(size.saturating_sub(range.start));
        let mut body = response.into_body().into_reader().take(wanted);
        body.read_to_end(bytes).map_err(|error| Attempt::Again(error.to_string()))?;
        if (bytes.len() as u64) < expected {
            return Err(Attempt::Again(format!(
                "connection ended {} bytes early",
                expected - bytes.len() as u64
            )));
        }
        Ok((size, version))
    }

    fn failed(&self, error: &ureq::Error) -> Attempt {
        let why = error.to_string();
        match error {
            ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::ConnectionFailed
            | ureq::Error::HostNotFound
            | ureq::Error::Protocol(_) => Attempt::Again(why),
            _ => Attempt::Fail(FetchError::Network { url: self.url.clone(), why }),
        }
    }

    /// Checks status and headers. Returns size and version of the whole file.
    fn check<B>(&self, response: &Response<B>, start: u64) -> Result<(u64, Option<String>), Attempt> {
        let fail = |why: String| Attempt::Fail(FetchError::Network { url: self.url.clone(), why });
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                return Err(Attempt::Fail(FetchError::NotFound { url: self.url.clone() }));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                return Err(Attempt::Again(format!("server says {}", response.status())));
            }
            status if status.is_server_error() => {
                return Err(Attempt::Again(format!("server says {status}")));
            }
            StatusCode::OK => return Err(fail("server does not send ranges".to_owned())),
            status => return Err(fail(format!("server says {status}"))),
        }
        let text = |name: header::HeaderName| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let content_range = text(header::CONTENT_RANGE).unwrap_or_default();
        let Some((first, size)) = parse_content_range(&content_range) else {
            return Err(fail(format!("Content-Range {content_range:?} makes no sense")));
        };
        if first != start {
            return Err(fail(format!("Content-Range {content_range:?} does not start at {start}")));
        }
        if self.is_size_known && size != self.size {
            return Err(fail(format!("the file has {size} bytes, expected {}", self.size)));
        }
        let version = text(header::ETAG).or_else(|| text(header::LAST_MODIFIED));
        // With a descriptor the bytes themselves are checked.
        if self.digests.is_none() && self.version.is_some() && version != self.version {
            return Err(fail("the file was changed on the server while it was read".to_owned()));
        }
        Ok((size, version))
    }
}

/// First byte and size of the whole file in `bytes 0-99/1000`.
fn parse_content_range(text: &str) -> Option<(u64, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size) = (first.parse().ok()?, last.parse::<u64>().ok()?, size.parse().ok()?);
    (first <= last && last < size).then_some((first, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_range_is_checked() {
        assert_eq!(parse_content_range("bytes 0-99/1000"), Some((0, 1000)));
        for bad in
            ["", "bytes */1000", "bytes 5-4/10", "bytes 0-10/10", "0-9/10", "bytes 0-9/*", "bytes -9/10"]
        {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }
}
