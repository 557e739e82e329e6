//! Volumes made by others are opened: LUKS 1 by QEMU, LUKS 2 by cryptsetup, BitLocker by Windows.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test, in helper functions too")]
#![expect(clippy::disallowed_types, reason = "tests read files; the crate itself does not")]

mod bitlocker;
mod fuzz_bodies;
mod luks;

use std::path::Path;
use std::sync::Arc;

use gravure_io::{FileAt, ReadAt};
use gravure_unlock::{Error, Key, Limits, unlock};

fn open(path: &Path, key: &str) -> Result<Arc<dyn ReadAt>, Error> {
    unlock(Arc::new(FileAt::open(path).unwrap()), &Key::new(key.as_bytes()), &Limits::default())
}

/// Content that is different everywhere.
fn content(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len / 8).flat_map(|_| next()).collect()
}

/// Reads in pieces that begin and end anywhere.
fn read_odd(source: &dyn ReadAt) -> Vec<u8> {
    let mut out = Vec::new();
    for step in [1_u64, 511, 512, 513, 4095, 70_000, 3_000_001].iter().cycle() {
        let left = source.size() - out.len() as u64;
        if left == 0 {
            return out;
        }
        let piece = source.read_vec_at(out.len() as u64, usize::try_from(left.min(*step)).unwrap());
        out.extend(piece.unwrap());
    }
    out
}
