//! Contents that are read while an image is mounted: at any place, by many threads, checked.
//!
//! What is small is decoded as a whole when it is first read and has its SHA-1 then. What is larger is hashed as it is
//! read from the front, which is what copying does: a hash that does not match ends the last read with an error. Where
//! a reader jumps about in a large file, decoding is what finds damage.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gravure_tree::{ContentRef, Origin, Sha1Hash};
use sha1::{Digest, Sha1};

use crate::archive::Archives;
use crate::blob_reader::{BlobHandles, BlobReader, OpenBlob};
use crate::chain::sha1_of;
use crate::{Error, ErrorKind};

/// Contents up to this size are decoded as a whole and checked before any of their bytes is given out.
const WHOLE_BYTES: u64 = 1 << 20;
/// Pieces that wait to be hashed until those before them come: at most so much of all files together. Threads overtake each
/// other by a few reads, so that much is needed only by readers that jump.
const PARKED_BYTES: usize = 32 << 20;

/// All contents of an image.
#[derive(Debug)]
pub(super) struct Contents {
    reader: BlobReader,
    handles: Mutex<Vec<BlobHandles>>,
    max_handles: usize,
    verdicts: Mutex<HashMap<Sha1Hash, Verdict>>,
    opened: Mutex<HashMap<u64, Arc<Opened>>>,
    next: AtomicU64,
    parked: AtomicUsize,
}

/// What is known of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Damaged(Sha1Hash),
}

/// An open file.
#[derive(Debug)]
pub(super) struct Opened {
    bytes: Bytes,
    hashing: Mutex<Option<Hashing>>,
}

#[derive(Debug)]
enum Bytes {
    Here(Arc<[u8]>),
    Blob(OpenBlob),
}

/// The hash of a file that is read front to back.
#[derive(Debug, Default)]
struct Hashing {
    next: u64,
    hasher: Sha1,
    /// Pieces that came before their turn.
    parked: BTreeMap<u64, Vec<u8>>,
}

impl Contents {
    pub(super) fn new(archives: Archives, cache_bytes: usize, threads: usize) -> Self {
        Self {
            reader: BlobReader::new(archives, cache_bytes),
            handles: Mutex::default(),
            max_handles: threads,
            verdicts: Mutex::default(),
            opened: Mutex::default(),
            next: AtomicU64::new(1),
            parked: AtomicUsize::new(0),
        }
    }

    /// Opens a content and keeps it under the number that is returned.
    pub(super) fn open(&self, content: &ContentRef) -> Result<u64, Error> {
        let opened = Arc::new(self.open_content(content)?);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.opened).insert(number, opened);
        Ok(number)
    }

    /// What was opened under `number`.
    pub(super) fn opened(&self, number: u64) -> Option<Arc<Opened>> {
        lock(&self.opened).get(&number).map(Arc::clone)
    }

    /// Forgets what was opened under `number`.
    pub(super) fn close(&self, number: u64) {
        let closed = lock(&self.opened).remove(&number);
        if let Some(hashing) = closed.and_then(|closed| lock(&closed.hashing).take()) {
            self.give_up(hashing);
        }
    }

    /// A small content as a whole, of at most `max_bytes`.
    pub(super) fn whole(&self, content: &ContentRef, max_bytes: u64) -> Result<Vec<u8>, Error> {
        if content.size > max_bytes {
            return Err(Error::Unsupported {
                what: "size of content",
                value: format!("{} bytes, at most {max_bytes} are expected", content.size),
            });
        }
        let opened = self.open_content(content)?;
        // Contents of that size were let in by the check above, so this is read as a whole at once.
        let len = usize::try_from(content.size).unwrap_or(usize::MAX);
        self.read(&opened, 0, len)
    }

    fn open_content(&self, content: &ContentRef) -> Result<Opened, Error> {
        let bytes = match &content.origin {
            Origin::Empty => Bytes::Here(Arc::default()),
            Origin::Inline(bytes) => Bytes::Here(Arc::clone(bytes)),
            Origin::Source { source, key } => Bytes::Blob(self.reader.open(*source, *key)?),
            _ => {
                return Err(Error::Other {
                    what: "content".to_owned(),
                    source: "it is in none of the opened files".into(),
                    kind: ErrorKind::NotFound,
                });
            }
        };
        let mut hashing = None;
        if let Bytes::Blob(blob) = &bytes {
            match self.verdict(blob) {
                Some(Verdict::Damaged(found)) => return Err(self.reader.mismatch(blob, found)),
                None if blob.size > WHOLE_BYTES => hashing = Some(Hashing::default()),
                _ => {}
            }
        }
        Ok(Opened { bytes, hashing: Mutex::new(hashing) })
    }

    /// At most `len` bytes from `offset`; fewer at the end.
    pub(super) fn read(&self, opened: &Opened, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let blob = match &opened.bytes {
            Bytes::Here(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                return Ok(bytes[from..from.saturating_add(len).min(bytes.len())].to_vec());
            }
            Bytes::Blob(blob) => blob,
        };
        let end = offset.saturating_add(len as u64).min(blob.size);
        if end <= offset {
            return Ok(Vec::new());
        }
        let verdict = self.verdict(blob);
        if let Some(Verdict::Damaged(found)) = verdict {
            // The kernel asks again for what it did not get.
            return Err(self.reader.mismatch(blob, found));
        }
        if blob.size <= WHOLE_BYTES && verdict.is_none() {
            let mut whole = self.decode(blob, 0..blob.size)?;
            self.judge(blob, sha1_of(&whole))?;
            // Both are within the content, which is small.
            whole.truncate(end as usize);
            whole.drain(..offset as usize);
            return Ok(whole);
        }
        let bytes = self.decode(blob, offset..end)?;
        self.hash(opened, blob, offset, &bytes)?;
        Ok(bytes)
    }

    fn decode(&self, blob: &OpenBlob, range: std::ops::Range<u64>) -> Result<Vec<u8>, Error> {
        let mut handles = lock(&self.handles).pop().unwrap_or_default();
        // A read is no longer than the kernel asks for, or than what is decoded as a whole.
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(usize::MAX)];
        let read = self.reader.read(blob, range.start, &mut bytes, &mut handles);
        let mut kept = lock(&self.handles);
        if kept.len() < self.max_handles {
            kept.push(handles);
        }
        read.map(|()| bytes)
    }

    /// Goes on hashing a file with what was just read of it.
    fn hash(&self, opened: &Opened, blob: &OpenBlob, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut state = lock(&opened.hashing);
        let Some(hashing) = &mut *state else { return Ok(()) };
        match hashing.bring(offset, bytes) {
            Brought::Hashed { freed } => {
                self.parked.fetch_sub(freed, Ordering::Relaxed);
            }
            Brought::Parked => {
                let all = self.parked.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
                if all > PARKED_BYTES {
                    state.take().into_iter().for_each(|hashing| self.give_up(hashing));
                }
                return Ok(());
            }
            Brought::Known => return Ok(()),
        }
        if hashing.next < blob.size {
            return Ok(());
        }
        let found = state.take().map(|hashing| {
            let found = Sha1Hash(hashing.hasher.clone().finalize().into());
            self.give_up(hashing);
            found
        });
        found.map_or(Ok(()), |found| self.judge(blob, found))
    }

    fn give_up(&self, hashing: Hashing) {
        let waiting: usize = hashing.parked.into_values().map(|piece| piece.len()).sum();
        self.parked.fetch_sub(waiting, Ordering::Relaxed);
    }

    fn verdict(&self, blob: &OpenBlob) -> Option<Verdict> {
        lock(&self.verdicts).get(&blob.sha1).copied()
    }

    /// Remembers what the hash of a content is.
    fn judge(&self, blob: &OpenBlob, found: Sha1Hash) -> Result<(), Error> {
        let verdict = if found == blob.sha1 { Verdict::Good } else { Verdict::Damaged(found) };
        lock(&self.verdicts).insert(blob.sha1, verdict);
        if verdict == Verdict::Good { Ok(()) } else { Err(self.reader.mismatch(blob, found)) }
    }
}

/// What became of a piece.
#[derive(Debug, PartialEq, Eq)]
enum Brought {
    /// It was due; that many bytes of pieces behind it were freed.
    Hashed { freed: usize },
    /// Those before it are still missing.
    Parked,
    /// Its bytes had come before.
    Known,
}

impl Hashing {
    fn bring(&mut self, offset: u64, bytes: &[u8]) -> Brought {
        let end = offset + bytes.len() as u64;
        if end <= self.next || self.parked.contains_key(&offset) {
            return Brought::Known;
        }
        if offset > self.next {
            self.parked.insert(offset, bytes.to_vec());
            return Brought::Parked;
        }
        self.feed(offset, bytes);
        let mut freed = 0;
        while let Some(entry) = self.parked.first_entry() {
            if *entry.key() > self.next {
                break;
            }
            let (offset, piece) = entry.remove_entry();
            self.feed(offset, &piece);
            freed += piece.len();
        }
        Brought::Hashed { freed }
    }

    /// Hashes what of `bytes` is new; they start at or before what is next.
    fn feed(&mut self, offset: u64, bytes: &[u8]) {
        let known = usize::try_from(self.next - offset).unwrap_or(usize::MAX).min(bytes.len());
        self.hasher.update(&bytes[known..]);
        self.next += (bytes.len() - known) as u64;
    }
}

/// A panic elsewhere leaves these maps as they were: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_hashed_in_order_whatever_order_they_come_in() {
        let data: Vec<u8> = (0..4000u32).flat_map(u32::to_le_bytes).collect();
        let piece = |from: usize, to: usize| (from as u64, &data[from..to]);
        let mut hashing = Hashing::default();
        let mut bring = |(offset, bytes): (u64, &[u8])| hashing.bring(offset, bytes);
        assert_eq!(bring(piece(8000, 12000)), Brought::Parked);
        assert_eq!(bring(piece(8000, 12000)), Brought::Known);
        assert_eq!(bring(piece(0, 4000)), Brought::Hashed { freed: 0 });
        assert_eq!(bring(piece(0, 2000)), Brought::Known);
        // Overlaps what is hashed and what waits.
        assert_eq!(bring(piece(3000, 9000)), Brought::Hashed { freed: 4000 });
        assert_eq!(bring(piece(12000, 16000)), Brought::Hashed { freed: 0 });
        assert_eq!(hashing.next, 16000);
        assert!(hashing.parked.is_empty());
        assert_eq!(Sha1Hash(hashing.hasher.finalize().into()), sha1_of(&data));
    }
}
