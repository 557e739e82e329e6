//! LZX as WIM chunks use it: every chunk a stream of its own, call translation always on.

mod decode;
mod encode;

mod calls;
mod costs;
mod fast;
mod guess;
mod optimal;
mod reader;
mod split;
mod write;

pub(crate) use decode::Decoder;
pub(crate) use encode::Encoder;

/// Literals come first in the main alphabet.
const LITERALS: usize = 256;

/// Main symbols per offset slot: one for each length header.
const LENGTH_HEADERS: usize = 8;

/// Offset slots for a 2 MiB chunk.
const MAX_SLOTS: usize = 50;

/// Main symbols for a 2 MiB chunk.
const MAX_MAIN_SYMBOLS: usize = LITERALS + LENGTH_HEADERS * MAX_SLOTS;

/// Symbols of the length code.
const LENGTH_SYMBOLS: usize = 249;

/// Symbols of the aligned code: the low three bits of an offset.
const ALIGNED_SYMBOLS: usize = 8;

/// Symbols of the code that transmits code lengths.
const PRE_SYMBOLS: usize = 20;

/// Shortest match.
const MIN_MATCH: usize = 2;

/// Block length that has a one-bit form.
const DEFAULT_BLOCK: usize = 1 << 15;

/// Slots below this one stand for the recent offsets.
const RECENT_SLOTS: usize = 3;

/// First slot with three or more extra bits, where aligned blocks code the low three.
const FIRST_ALIGNED_SLOT: usize = 8;

/// Extra bits of each offset slot; none for the recent ones.
const EXTRA_BITS: [u8; MAX_SLOTS] = extra_bits();

/// Smallest offset of each slot; 0 for the recent ones.
const SLOT_BASES: [u32; MAX_SLOTS] = slot_bases();

const fn extra_bits() -> [u8; MAX_SLOTS] {
    let mut bits = [0; MAX_SLOTS];
    let mut slot = 4;
    while slot < MAX_SLOTS {
        bits[slot] = if slot < 38 { slot as u8 / 2 - 1 } else { 17 };
        slot += 1;
    }
    bits
}

const fn slot_bases() -> [u32; MAX_SLOTS] {
    let mut bases = [0; MAX_SLOTS];
    bases[3] = 1;
    let mut slot = 4;
    while slot < MAX_SLOTS {
        bases[slot] = bases[slot - 1] + (1 << EXTRA_BITS[slot - 1]);
        slot += 1;
    }
    bases
}

/// Offset slots for a chunk size, a power of two from 32 KiB to 2 MiB.
const fn slot_count(chunk_size: usize) -> usize {
    // Two slots for each doubling up to 512 KiB, then one for each 128 KiB.
    match chunk_size >> 15 {
        1 => 30,
        2 => 32,
        4 => 34,
        8 => 36,
        16 => 38,
        32 => 42,
        _ => 50,
    }
}

const _: () = assert!(SLOT_BASES[29] == 24574 && SLOT_BASES[37] == 393_214 && SLOT_BASES[49] == 1_966_078);
