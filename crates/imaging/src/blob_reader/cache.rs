//! Decoded chunks, the last used ones; a chunk that several threads want at once is decoded by one of them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Error;

/// Filled by whoever holds the lock first; others wait for that.
type Slot = Arc<Mutex<Option<Arc<[u8]>>>>;

#[derive(Debug)]
struct Kept {
    slot: Slot,
    len: usize,
    used: u64,
}

#[derive(Debug)]
struct State<K> {
    kept: HashMap<K, Kept>,
    bytes: usize,
    clock: u64,
}

/// Keeps at most so many bytes of chunks that are called `K`.
#[derive(Debug)]
pub(super) struct ChunkCache<K> {
    max_bytes: usize,
    state: Mutex<State<K>>,
}

impl<K: Copy + Eq + Hash> ChunkCache<K> {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, state: Mutex::new(State { kept: HashMap::new(), bytes: 0, clock: 0 }) }
    }

    /// The chunk `key` of `len` bytes; `decode` makes it when it is not there. A failure is not kept.
    pub(super) fn get(
        &self,
        key: K,
        len: usize,
        decode: impl FnOnce() -> Result<Arc<[u8]>, Error>,
    ) -> Result<Arc<[u8]>, Error> {
        let slot = self.slot(key, len);
        let mut content = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = &*content {
            return Ok(Arc::clone(bytes));
        }
        match decode() {
            Ok(bytes) => {
                *content = Some(Arc::clone(&bytes));
                Ok(bytes)
            }
            Err(error) => {
                drop(content);
                self.forget(key);
                Err(error)
            }
        }
    }

    fn slot(&self, key: K, len: usize) -> Slot {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clock += 1;
        let used = state.clock;
        if let Some(kept) = state.kept.get_mut(&key) {
            kept.used = used;
            return Arc::clone(&kept.slot);
        }
        // Chunks that somebody still reads live on until that is over; they are few, one for each thread.
        while state.bytes + len > self.max_bytes {
            let Some(oldest) = state.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| *key)
            else {
                break;
            };
            state.remove(&oldest);
        }
        let slot = Slot::default();
        state.kept.insert(key, Kept { slot: Arc::clone(&slot), len, used });
        state.bytes += len;
        slot
    }

    fn forget(&self, key: K) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

impl<K: Eq + Hash> State<K> {
    fn remove(&mut self, key: &K) {
        if let Some(kept) = self.kept.remove(key) {
            self.bytes -= kept.len;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn each_chunk_is_decoded_once_while_it_is_kept() {
        let cache = ChunkCache::new(20);
        let decoded = AtomicUsize::new(0);
        let get = |offset: u64| {
            let made = cache.get(offset, 10, || {
                decoded.fetch_add(1, Ordering::SeqCst);
                Ok(vec![u8::try_from(offset).unwrap(); 10].into())
            });
            assert_eq!(made.unwrap()[..], vec![u8::try_from(offset).unwrap(); 10]);
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..100).for_each(|n| get(n % 2)));
            }
        });
        assert_eq!(decoded.load(Ordering::SeqCst), 2);
        // A third one drives out the one that was used least recently.
        get(0);
        get(2);
        get(0);
        assert_eq!(decoded.load(Ordering::SeqCst), 3);
        get(1);
        assert_eq!(decoded.load(Ordering::SeqCst), 4);
        assert_eq!(cache.state.lock().unwrap().bytes, 20);
    }

    #[test]
    fn larger_than_the_cache_works_and_a_failure_is_tried_again() {
        let cache = ChunkCache::new(5);
        let failing = cache.get(1, 10, || Err(Error::NotFound { what: "chunk", which: "1".into() }));
        assert!(failing.is_err());
        assert_eq!(cache.state.lock().unwrap().bytes, 0);
        for _ in 0..2 {
            assert_eq!(cache.get(1, 10, || Ok(vec![7; 10].into())).unwrap()[..], [7; 10]);
        }
        assert_eq!(cache.state.lock().unwrap().kept.len(), 1);
    }
}
