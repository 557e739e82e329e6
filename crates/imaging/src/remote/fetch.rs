//! One range over HTTP: asked for, resumed where a connection broke, tried again with growing pauses, checked.

use std::io::Read;
use std::ops::Range;
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
/// Bytes read before somebody may take them.
const STEP_BYTES: u64 = 64 << 10;
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
    Again {
        why: String,
        /// Bytes that came before.
        received: u64,
    },
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
        let found = this
            .persist(&|| false, |this| this.ask(0..1, &mut first, &mut |_| {}))
            .map_err(|e| e.to_error())?;
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

    pub(super) fn is_verified(&self) -> bool {
        self.digests.is_some()
    }

    /// Fetches the blocks `blocks`, which stand side by side, with one request as long as it does not break, checks those
    /// that can be checked, and hands out each as soon as it is whole, or the failure for each that did not come.
    pub(super) fn fetch(
        &self,
        blocks: Range<u64>,
        is_closed: &dyn Fn() -> bool,
        put: &mut dyn FnMut(u64, Result<Vec<u8>, FetchError>),
    ) {
        let mut next = blocks.start;
        let mut mismatches = 0;
        while next < blocks.end {
            let mut bytes = Vec::new();
            let end = self.block(blocks.end - 1).end;
            let mut wrong = None;
            let fetched = self.persist(is_closed, |this| {
                let from = this.block(next).start + bytes.len() as u64;
                this.ask(from..end, &mut bytes, &mut |bytes| {
                    while next < blocks.end && wrong.is_none() {
                        let block = this.block(next);
                        let len = usize::try_from(block.end - block.start).unwrap_or(usize::MAX);
                        if bytes.len() < len {
                            return;
                        }
                        let rest = bytes.split_off(len);
                        let whole = std::mem::replace(bytes, rest);
                        match this.check_block(next, &whole) {
                            Ok(()) => {
                                put(next, Ok(whole));
                                next += 1;
                            }
                            Err(error) => wrong = Some(error),
                        }
                    }
                })
            });
            if let Some(error) = wrong {
                mismatches += 1;
                if mismatches >= MISMATCH_ATTEMPTS {
                    put(next, Err(error));
                    next += 1;
                    mismatches = 0;
                }
            } else if let Err(error) = fetched {
                (next..blocks.end).for_each(|index| put(index, Err(error.clone())));
                return;
            }
        }
    }

    /// Absolute bytes of a block.
    fn block(&self, index: u64) -> Range<u64> {
        let start = index * u64::from(self.range_bytes);
        start..(start + u64::from(self.range_bytes)).min(self.size)
    }

    fn check_block(&self, index: u64, bytes: &[u8]) -> Result<(), FetchError> {
        let digests = self.digests.as_ref();
        let Some(expected) = digests.and_then(|all| all.get(usize::try_from(index).ok()?)) else {
            return Ok(());
        };
        let found = Digest(*blake3::hash(bytes).as_bytes());
        if found == *expected {
            return Ok(());
        }
        let (expected, found) = (expected.to_string(), found.to_string());
        let offset = self.block(index).start;
        Err(FetchError::Mismatch { url: self.url.clone(), index, offset, expected, found })
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
                Err(Attempt::Again { why, received }) => {
                    count += 1;
                    // A connection that carried bytes shows that the server is alive.
                    if received > 0 || before.elapsed() > LONGEST_PAUSE {
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

    /// Asks once for the bytes `range` and appends what comes to `bytes`; `take` may take from there whenever something
    /// came. Returns size and version of the whole file.
    fn ask(
        &self,
        range: Range<u64>,
        bytes: &mut Vec<u8>,
        take: &mut dyn FnMut(&mut Vec<u8>),
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
        let expected = wanted.min(size.saturating_sub(range.start));
        let mut body = response.into_body().into_reader().take(wanted);
        let mut received = 0;
        loop {
            let before = bytes.len();
            let step = body.by_ref().take(STEP_BYTES).read_to_end(bytes);
            // What came before a connection broke counts.
            match step {
                Ok(0) => break,
                Ok(len) => received += len as u64,
                Err(error) => {
                    received += (bytes.len() - before) as u64;
                    return Err(Attempt::Again { why: error.to_string(), received });
                }
            }
            take(bytes);
        }
        if received < expected {
            let why = format!("connection ended {} bytes early", expected - received);
            return Err(Attempt::Again { why, received });
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
            | ureq::Error::Protocol(_) => again(why),
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
                return Err(again(format!("server says {}", response.status())));
            }
            status if status.is_server_error() => {
                return Err(again(format!("server says {status}")));
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

fn again(why: String) -> Attempt {
    Attempt::Again { why, received: 0 }
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
