//! Marvin32, the hash of log entries: a keyed 64-bit hash with a fixed key here.

/// Key of the kernel's log entries.
const SEED: (u32, u32) = (0x7a4e_55c5, 0x82ef_4d88);

/// Hash of `bytes`.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    hash_seeded(SEED, bytes)
}

fn hash_seeded(seed: (u32, u32), bytes: &[u8]) -> u64 {
    let mut state = seed;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        mix(&mut state, u32::from_le_bytes(*word));
    }
    let last = match tail {
        [a, b, c, ..] => [*a, *b, *c, 0x80],
        [a, b] => [*a, *b, 0x80, 0],
        [a] => [*a, 0x80, 0, 0],
        [] => [0x80, 0, 0, 0],
    };
    mix(&mut state, u32::from_le_bytes(last));
    mix(&mut state, 0);
    (u64::from(state.1) << 32) | u64::from(state.0)
}

fn mix((low, high): &mut (u32, u32), word: u32) {
    *low = low.wrapping_add(word);
    *high ^= *low;
    *low = low.rotate_left(20).wrapping_add(*high);
    *high = high.rotate_left(9) ^ *low;
    *low = low.rotate_left(27).wrapping_add(*high);
    *high = high.rotate_left(19);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_the_length_count() {
        let all: Vec<u64> = (0..40).map(|len| hash(&vec![7; len])).collect();
        let mut unique = all.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), all.len());
        assert_ne!(hash(b"abcd"), hash(b"abce"));
        assert_ne!(hash_seeded((1, 2), b"abcd"), hash(b"abcd"));
    }
}
