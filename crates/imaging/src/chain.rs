//! SHA-1 of content whose pieces are made by many threads. SHA-1 has to see the bytes in order, so whoever makes
//! the piece that is next hashes it and all that wait behind it; others leave their piece and go on. Nobody waits.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use gravure_tree::Sha1Hash;
use sha1::{Digest, Sha1};

/// SHA-1 of `bytes`, as WIM names content: zeros for no bytes at all.
pub(crate) fn sha1_of(bytes: &[u8]) -> Sha1Hash {
    if bytes.is_empty() { Sha1Hash::ZERO } else { Sha1Hash(Sha1::digest(bytes).into()) }
}

/// The hash of one content in the making; `T` is a piece with all that is needed to pass it on.
#[derive(Debug)]
pub(crate) struct Chain<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    next: u64,
    /// Away while a thread hashes.
    hasher: Option<Sha1>,
    parked: BTreeMap<u64, T>,
}

impl<T> Default for Chain<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { next: 0, hasher: Some(Sha1::new()), parked: BTreeMap::new() }) }
    }
}

impl<T> Chain<T> {
    /// Brings piece `number` (from 0, each once). `hash` is called for each piece that is due, in order, on this thread;
    /// it feeds the bytes and may take the hasher's result at the last piece.
    pub(crate) fn bring(&self, number: u64, piece: T, mut hash: impl FnMut(&mut Sha1, T)) {
        let mut state = self.lock();
        state.parked.insert(number, piece);
        let Some(hasher) = state.hasher.take() else { return };
        self.work_off(state, hasher, &mut hash);
    }

    /// Brings piece 0, which is due at once and need not be given away: `first` feeds it. Then `hash` is called as in
    /// [`Chain::bring`] for those that waited for it.
    pub(crate) fn start(&self, first: impl FnOnce(&mut Sha1), mut hash: impl FnMut(&mut Sha1, T)) {
        let mut state = self.lock();
        // Nobody else takes it away before piece 0 was here.
        let Some(mut hasher) = state.hasher.take() else { return };
        drop(state);
        first(&mut hasher);
        state = self.lock();
        state.next += 1;
        self.work_off(state, hasher, &mut hash);
    }

    fn work_off<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T>>,
        mut hasher: Sha1,
        hash: &mut impl FnMut(&mut Sha1, T),
    ) {
        loop {
            let next = state.next;
            let Some(piece) = state.parked.remove(&next) else { break };
            drop(state);
            hash(&mut hasher, piece);
            state = self.lock();
            state.next += 1;
        }
        state.hasher = Some(hasher);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_in_any_order_give_the_hash_of_the_whole() {
        let data: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
        let pieces: Vec<&[u8]> = data.chunks(1000).collect();
        let chain = Chain::default();
        let done = Mutex::new((Vec::new(), None));
        std::thread::scope(|scope| {
            for thread in 0..4usize {
                let (chain, done, pieces) = (&chain, &done, &pieces);
                scope.spawn(move || {
                    // Each thread brings its pieces from the last to the first.
                    for number in (thread..pieces.len()).step_by(4).rev() {
                        chain.bring(number as u64, (number, pieces[number]), |hasher, (number, bytes)| {
                            hasher.update(bytes);
                            let mut done = done.lock().unwrap();
                            done.0.push(number);
                            if number + 1 == pieces.len() {
                                done.1 = Some(Sha1Hash(hasher.finalize_reset().into()));
                            }
                        });
                    }
                });
            }
        });
        let (order, hash) = done.into_inner().unwrap();
        assert_eq!(order, (0..pieces.len()).collect::<Vec<_>>());
        assert_eq!(hash, Some(sha1_of(&data)));
    }

    #[test]
    fn no_bytes_have_the_hash_of_zeros() {
        assert_eq!(sha1_of(&[]), Sha1Hash::ZERO);
        assert_eq!(sha1_of(b"abc").to_string(), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }
}
