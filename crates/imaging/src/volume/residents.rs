//! Contents small enough to stand in file records, kept until the records are written.

use std::sync::{Mutex, PoisonError};

use gravure_ntfs::ResidentBytes;

/// Bytes under one lock: many threads seldom want the same.
const SHARD_BYTES: usize = 64 << 10;

/// The bytes of all slots.
#[derive(Debug)]
pub(super) struct Residents {
    shards: Vec<Mutex<Box<[u8]>>>,
}

impl Residents {
    /// Room for `bytes`, which the plan bounds by its options.
    pub(super) fn new(bytes: u64) -> Self {
        let shards = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(SHARD_BYTES);
        Self { shards: (0..shards).map(|_| Mutex::new(vec![0; SHARD_BYTES].into())).collect() }
    }

    /// Keeps `bytes` from `slot` on.
    pub(super) fn put(&self, slot: u64, bytes: &[u8]) {
        self.each(slot, bytes.len(), |shard, range| shard.copy_from_slice(&bytes[range]));
    }

    /// Calls `work` for each shard's share of a slot, with the place in the slot.
    fn each(&self, slot: u64, len: usize, mut work: impl FnMut(&mut [u8], std::ops::Range<usize>)) {
        let start = usize::try_from(slot).unwrap_or(usize::MAX);
        let mut done = 0;
        while done < len {
            let (shard, at) = ((start + done) / SHARD_BYTES, (start + done) % SHARD_BYTES);
            let step = (len - done).min(SHARD_BYTES - at);
            let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut shard[at..at + step], done..done + step);
            done += step;
        }
    }
}

impl ResidentBytes for Residents {
    fn read(&self, slot: u64, buf: &mut [u8]) {
        let len = buf.len();
        self.each(slot, len, |shard, range| buf[range].copy_from_slice(shard));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_across_shards_come_back() {
        let residents = Residents::new(3 * SHARD_BYTES as u64 - 5);
        let bytes: Vec<u8> = (0..SHARD_BYTES + 700).map(|n| (n % 251) as u8).collect();
        let slot = SHARD_BYTES as u64 - 300;
        residents.put(slot, &bytes);
        let mut back = vec![0; bytes.len()];
        residents.read(slot, &mut back);
        assert!(back == bytes);
    }
}
