//! The parallel half of a capture: contents are read, hashed and compressed by all cores; results come out in the order
//! of the contents, so that the archive's bytes do not depend on the number of threads.
//!
//! Equal small contents are found by their SHA-1 before they are compressed; when two threads have the same content at
//! the same time, the earlier one in order counts, and both may compress it. Large contents are found equal beforehand, see
//! [`super::duplicates`].

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gravure_codec::{Encoder, Level};
use gravure_model::Ctl;
use gravure_tree::Sha1Hash;
use gravure_wim::Compression;
use sha1::Digest;

use super::contents::{Content, Open, Reader, ReaderHandles, State};
use crate::Error;
use crate::chain::{Chain, sha1_of};
use crate::meter::Meter;
use crate::reading::ITEM_BYTES;
use crate::stage::{Item, Outbox, Ticket, Work};

/// What is done with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Hash and compress.
    Store(Option<(Compression, Level)>),
    /// Hash only.
    Hash,
}

/// Buffers of one item.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) plain: Vec<u8>,
    pub(super) stored: Vec<u8>,
    /// Chunks of `stored`, each with stored and plain length.
    pub(super) chunks: Vec<(usize, usize)>,
}

/// What an item is to do.
#[derive(Debug)]
pub(super) enum Job {
    /// These contents as a whole: numbers in the list of contents.
    Pack(Vec<usize>),
    /// A piece of a large one.
    Piece { large: Arc<Large>, number: u64, offset: u64, len: usize, is_last: bool },
    /// A large content that could not be opened.
    Unreadable { content: usize, error: Error },
}

/// A large content on its way in pieces.
#[derive(Debug)]
pub(super) struct Large {
    content: usize,
    open: Open,
    changed: AtomicBool,
    chain: Chain<Parked>,
}

#[derive(Debug)]
struct Parked {
    ticket: Ticket,
    buffers: Buffers,
    result: Result<(), Error>,
    len: usize,
    number: u64,
    is_last: bool,
}

/// One content, or a piece of one, as it comes out.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) content: usize,
    pub(super) plain: Range<usize>,
    /// In [`Buffers::stored`] and [`Buffers::chunks`]; `None` when somebody earlier has the same content, or nothing was
    /// asked for but the hash.
    pub(super) stored: Option<(Range<usize>, Range<usize>)>,
    pub(super) is_first: bool,
    /// SHA-1 of the whole content, with its last piece.
    pub(super) sha1: Option<Sha1Hash>,
    pub(super) state: State,
}

/// Results of one item, in order. An unreadable content is told with its number.
pub(super) type Results = Vec<Result<Done, (usize, Error)>>;

/// Which content had a hash first, in order.
#[derive(Debug, Default)]
pub(super) struct Claims<'a> {
    /// Contents that are stored already, here or in a file that is opened together with this one.
    known: Option<&'a HashSet<Sha1Hash>>,
    first: Mutex<HashMap<Sha1Hash, usize>>,
}

impl<'a> Claims<'a> {
    /// Nobody claims what is `known`.
    pub(super) fn new(known: &'a HashSet<Sha1Hash>) -> Self {
        Self { known: Some(known), first: Mutex::default() }
    }

    /// True when `content` is, so far, the first with this hash.
    fn claim(&self, sha1: Sha1Hash, content: usize) -> bool {
        if self.known.is_some_and(|known| known.contains(&sha1)) {
            return false;
        }
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let known = first.entry(sha1).or_insert(content);
        *known = content.min(*known);
        *known == content
    }
}

/// Cuts the contents `numbers` into jobs, in order.
pub(super) struct Source<'a> {
    reader: &'a Reader<'a>,
    contents: &'a [Content],
    numbers: std::iter::Peekable<std::vec::IntoIter<usize>>,
    handles: ReaderHandles,
    piece_bytes: usize,
    cutting: Option<(Arc<Large>, u64, u64)>,
}

impl<'a> Source<'a> {
    /// `piece_bytes` is a multiple of the chunk size.
    pub(super) fn new(
        reader: &'a Reader<'a>,
        contents: &'a [Content],
        numbers: Vec<usize>,
        piece_bytes: usize,
    ) -> Self {
        let numbers = numbers.into_iter().peekable();
        Self { reader, contents, numbers, handles: reader.handles(), piece_bytes, cutting: None }
    }

    pub(super) fn next(&mut self) -> Option<Job> {
        if self.cutting.is_some() {
            return self.cut();
        }
        let mut pack = Vec::new();
        let mut len = 0;
        while let Some(number) = self.numbers.peek().copied() {
            let size = self.contents[number].size;
            if let Some(size) = small(size, self.piece_bytes) {
                if !pack.is_empty() && len + size > self.piece_bytes {
                    break;
                }
                self.numbers.next();
                pack.push(number);
                len += size;
            } else if pack.is_empty() {
                self.numbers.next();
                return self.start(number);
            } else {
                break;
            }
        }
        (!pack.is_empty()).then_some(Job::Pack(pack))
    }

    fn start(&mut self, content: usize) -> Option<Job> {
        match self.reader.open(&self.contents[content], &mut self.handles) {
            Err(error) => Some(Job::Unreadable { content, error }),
            Ok(open) => {
                let large = Large { content, open, changed: AtomicBool::new(false), chain: Chain::default() };
                self.cutting = Some((Arc::new(large), 0, 0));
                self.cut()
            }
        }
    }

    fn cut(&mut self) -> Option<Job> {
        let (large, number, offset) = self.cutting.take()?;
        let left = self.contents[large.content].size - offset;
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(self.piece_bytes);
        let is_last = len as u64 == left;
        if !is_last {
            self.cutting = Some((Arc::clone(&large), number + 1, offset + len as u64));
        }
        Some(Job::Piece { large, number, offset, len, is_last })
    }
}

/// The size of a content that travels as a whole.
pub(super) fn small(size: u64, piece_bytes: usize) -> Option<usize> {
    usize::try_from(size).ok().filter(|size| *size <= piece_bytes)
}

/// Bytes per item for chunks of this size.
pub(super) fn piece_bytes(compression: Option<Compression>) -> usize {
    let chunk = compression.map_or(1, |compression| compression.chunk_size() as usize);
    ITEM_BYTES.next_multiple_of(chunk)
}

pub(super) struct Worker<'a> {
    pub(super) ctl: &'a Ctl,
    pub(super) meter: &'a Meter<'a>,
    pub(super) reader: &'a Reader<'a>,
    pub(super) contents: &'a [Content],
    pub(super) claims: &'a Claims<'a>,
    pub(super) handles: ReaderHandles,
    pub(super) encoder: Option<Encoder>,
    pub(super) purpose: Purpose,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        ctl: &'a Ctl,
        meter: &'a Meter<'a>,
        reader: &'a Reader<'a>,
        contents: &'a [Content],
        claims: &'a Claims<'a>,
        purpose: Purpose,
    ) -> Result<Self, Error> {
        let encoder = match purpose {
            Purpose::Store(Some((compression, level))) => {
                Some(compression.encoder(level).map_err(Error::wim("new image"))?)
            }
            _ => None,
        };
        Ok(Self { ctl, meter, reader, contents, claims, handles: reader.handles(), encoder, purpose })
    }

    /// One content of a pack.
    fn whole(&mut self, number: usize, at: usize, buffers: &mut Buffers) -> Result<Done, Error> {
        self.ctl.check()?;
        let content = &self.contents[number];
        let len = usize::try_from(content.size).unwrap_or(usize::MAX);
        let plain = at..at + len;
        grow(&mut buffers.plain, plain.end);
        let open = self.reader.open(content, &mut self.handles)?;
        let read =
            self.reader.read(content, &open, 0, &mut buffers.plain[plain.clone()], &mut self.handles)?;
        let state = if read == State::Same { self.reader.check(content, &open)? } else { read };
        let sha1 = sha1_of(&buffers.plain[plain.clone()]);
        let is_first = self.claims.claim(sha1, number);
        let stored = match self.purpose {
            Purpose::Store(_) if is_first => Some(self.compress(&open, 0, plain.clone(), buffers)?),
            _ => None,
        };
        self.meter.add(content.size);
        Ok(Done { content: number, plain, stored, is_first: true, sha1: Some(sha1), state })
    }

    /// Compresses a range of the plain bytes, which are those of a content from `offset`, chunk by chunk, to the end of the stored
    /// ones. What the source has compressed in the same way is taken as it is: its decoded bytes are what was hashed.
    fn compress(
        &mut self,
        open: &Open,
        offset: u64,
        plain: Range<usize>,
        buffers: &mut Buffers,
    ) -> Result<(Range<usize>, Range<usize>), Error> {
        let Buffers { plain: bytes, stored, chunks } = buffers;
        let (from, first) = (stored.len(), chunks.len());
        let Some(encoder) = &mut self.encoder else { return Ok((from..from, first..first)) };
        if let Purpose::Store(Some((compression, _))) = self.purpose
            && self.reader.stored(open, compression, (offset, plain.len()), stored, chunks)?
        {
            return Ok((from..stored.len(), first..chunks.len()));
        }
        for chunk in bytes[plain].chunks(encoder.chunk_size() as usize) {
            let at = stored.len();
            stored.resize(at + chunk.len(), 0);
            let len = match encoder.encode(chunk, &mut stored[at..]) {
                Some(len) if len < chunk.len() => len,
                // Stored as it is, which its length says (wim-container 5.4).
                _ => {
                    stored[at..].copy_from_slice(chunk);
                    chunk.len()
                }
            };
            stored.truncate(at + len);
            chunks.push((len, chunk.len()));
        }
        Ok((from..stored.len(), first..chunks.len()))
    }

    fn piece(
        &mut self,
        large: &Large,
        offset: u64,
        len: usize,
        is_last: bool,
        buffers: &mut Buffers,
    ) -> Result<(), Error> {
        self.ctl.check()?;
        let content = &self.contents[large.content];
        grow(&mut buffers.plain, len);
        let to = &mut buffers.plain[..len];
        let mut state = self.reader.read(content, &large.open, offset, to, &mut self.handles)?;
        if is_last && state == State::Same {
            state = self.reader.check(content, &large.open)?;
        }
        if state == State::Changed {
            large.changed.store(true, Ordering::Relaxed);
        }
        if matches!(self.purpose, Purpose::Store(_)) {
            self.compress(&large.open, offset, 0..len, buffers)?;
        }
        Ok(())
    }
}

fn grow(buf: &mut Vec<u8>, len: usize) {
    if buf.len() < len {
        buf.resize(len, 0);
    }
}

impl Work<Job, Buffers, Results> for Worker<'_> {
    fn work(&mut self, item: Item<Job, Buffers>, out: &Outbox<Results, Buffers>) {
        let Item { ticket, job, permit: mut buffers } = item;
        buffers.stored.clear();
        buffers.chunks.clear();
        match job {
            Job::Unreadable { content, error } => out.done(ticket, vec![Err((content, error))], buffers),
            Job::Pack(numbers) => {
                let mut results = Vec::with_capacity(numbers.len());
                let mut at = 0;
                for number in numbers {
                    let result = self.whole(number, at, &mut buffers);
                    at = result.as_ref().map_or(at, |done| done.plain.end);
                    results.push(result.map_err(|error| (number, error)));
                }
                out.done(ticket, results, buffers);
            }
            Job::Piece { large, number, offset, len, is_last } => {
                let result = self.piece(&large, offset, len, is_last, &mut buffers);
                let parked = Parked { ticket, buffers, result, len, number, is_last };
                large.chain.bring(number, parked, |hasher, parked| {
                    let Parked { ticket, buffers, result, len, number, is_last } = parked;
                    hasher.update(&buffers.plain[..len]);
                    let sha1 = is_last.then(|| Sha1Hash(hasher.finalize_reset().into()));
                    let changed = is_last && large.changed.load(Ordering::Relaxed);
                    let stored = matches!(self.purpose, Purpose::Store(_))
                        .then(|| (0..buffers.stored.len(), 0..buffers.chunks.len()));
                    let done = Done {
                        content: large.content,
                        plain: 0..len,
                        stored,
                        is_first: number == 0,
                        sha1,
                        state: if changed { State::Changed } else { State::Same },
                    };
                    self.meter.add(len as u64);
                    out.done(
                        ticket,
                        vec![result.map(|()| done).map_err(|error| (large.content, error))],
                        buffers,
                    );
                });
            }
        }
    }
}
