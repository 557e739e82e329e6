//! Blocks of one file over HTTP (`gravure-fetch`), each checked.

use std::ops::Range;

use gravure_fetch::{Attempt, Patience, Request, Whole, ask};
use gravure_model::Ctl;
use gravure_model::descriptor::Digest;

use super::RemoteOptions;
use crate::{Error, ErrorKind};

/// A range that does not match is fetched this often before it is believed to be damaged: a proxy may have cut it.
const MISMATCH_ATTEMPTS: u32 = 2;

/// Why a range did not come. Kept in the cache, so it can be told more than once.
#[derive(Debug, Clone)]
pub(super) enum FetchError {
    /// It could not be fetched.
    Fetch(gravure_fetch::FetchError),
    /// What came is not what the descriptor says.
    Mismatch { url: String, index: u64, offset: u64, expected: String, found: String },
}

impl FetchError {
    pub(super) fn to_error(&self) -> Error {
        match self.clone() {
            Self::Fetch(gravure_fetch::FetchError::NotFound { url }) => {
                Error::NotFound { what: "file", which: url }
            }
            Self::Fetch(gravure_fetch::FetchError::Network { url, why }) => Error::Network { url, why },
            Self::Mismatch { url, index, offset, expected, found } => {
                Error::RangeMismatch { file: url, index, offset, expected, found, hits: Vec::new() }
            }
            Self::Fetch(_) => Error::Other {
                what: "fetching".to_owned(),
                source: "stopped".into(),
                kind: ErrorKind::Interrupted,
            },
        }
    }
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
    patience: Patience,
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
        let patience = Patience { limit: options.patience, ctl: options.ctl.clone() };
        Self { agent, url, size, is_size_known: true, range_bytes, digests, version: None, patience }
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
        &self.patience.ctl
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

    /// Tries again and again, as long as patience lasts.
    fn persist<T>(
        &self,
        is_closed: &dyn Fn() -> bool,
        mut attempt: impl FnMut(&Self) -> Result<T, Attempt>,
    ) -> Result<T, FetchError> {
        self.patience.persist(&self.url, is_closed, || attempt(self)).map_err(FetchError::Fetch)
    }

    /// Asks once for the bytes `range` and appends what comes to `bytes`; `take` may take from there whenever something
    /// came. Returns size and version of the whole file.
    fn ask(
        &self,
        range: Range<u64>,
        bytes: &mut Vec<u8>,
        take: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<(u64, Option<String>), Attempt> {
        if range.is_empty() {
            return Ok((self.size, None));
        }
        let request = Request { agent: &self.agent, url: &self.url, headers: &Vec::new };
        let whole = ask(&request, range, bytes, &|whole| self.check(whole), take)?;
        Ok((whole.size, whole.version))
    }

    /// A file that is another one than before is an error.
    fn check(&self, whole: &Whole) -> Result<(), String> {
        if self.is_size_known && whole.size != self.size {
            return Err(format!("the file has {} bytes, expected {}", whole.size, self.size));
        }
        // With a descriptor the bytes themselves are checked.
        if self.digests.is_none() && self.version.is_some() && whole.version != self.version {
            return Err("the file was changed on the server while it was read".to_owned());
        }
        Ok(())
    }
}
