//! The Elephant diffuser (Ferguson, "AES-CBC + Elephant diffuser", 2006, sections 4.2 and 4.3): mixes a whole sector, so that one changed
//! bit changes all of it.

use crate::cipher::Aes;

const A_CYCLES: usize = 5;
const B_CYCLES: usize = 3;
const A_ROTATIONS: [u32; 4] = [9, 0, 13, 0];
const B_ROTATIONS: [u32; 4] = [0, 10, 0, 25];

/// Undoes it on a sector that CBC has decrypted already; `place` is where the sector lies.
pub(crate) fn undo(tweak: &Aes, place: u64, sector: &mut [u8]) {
    let (blocks, _) = sector.as_chunks::<4>();
    let mut words: Vec<u32> = blocks.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let n = words.len();
    if n < 8 {
        return;
    }
    for at in (0..B_CYCLES).flat_map(|_| 0..n) {
        let other = words[(at + 5) % n].rotate_left(B_ROTATIONS[at % 4]);
        words[at] = words[at].wrapping_add(words[(at + 2) % n] ^ other);
    }
    for at in (0..A_CYCLES).flat_map(|_| 0..n) {
        let other = words[(at + n - 5) % n].rotate_left(A_ROTATIONS[at % 4]);
        words[at] = words[at].wrapping_add(words[(at + n - 2) % n] ^ other);
    }
    let mut key = [0; 32];
    let (first, second) = key.split_at_mut(16);
    for (part, last) in [(first, 0), (second, 0x80)] {
        let mut block = u128::from(place).to_le_bytes();
        block[15] = last;
        tweak.encrypt(&mut block);
        part.copy_from_slice(&block);
    }
    for (bytes, word) in sector.chunks_exact_mut(4).zip(&words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    sector.iter_mut().zip(key.iter().cycle()).for_each(|(byte, other)| *byte ^= other);
}
