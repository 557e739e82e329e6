//! Bits and bytes of an XPRESS chunk: 16-bit little-endian words, most significant bit first, and single bytes
//! between them.

use crate::padded::{Exhausted, PADDING, padded_len};

/// Bits that a refill guarantees.
const REFILLED_BITS: u32 = 48;

/// Small enough to live in registers; what needs its address takes a copy and returns it.
#[derive(Debug, Clone, Copy)]
pub(super) struct WordReader<'a> {
    /// The input with zeros behind.
    padded: &'a [u8],
    /// What of it is not loaded yet.
    rest: &'a [u8],
    /// Unread bits, the next one on top. After a refill all 64 are bits of the stream, but only `count` of them
    /// are taken out of `rest`.
    bits: u64,
    /// At most 63.
    count: u32,
}

impl<'a> WordReader<'a> {
    /// Reads `padded` from `pos` on.
    pub(super) fn new(padded: &'a [u8], pos: usize) -> Self {
        Self { padded, rest: padded.get(pos..).unwrap_or_default(), bits: 0, count: 0 }
    }

    /// Makes at least [`REFILLED_BITS`] available.
    #[inline(always)]
    pub(super) fn refill(&mut self) -> Result<(), Exhausted> {
        let Some(bytes) = self.rest.first_chunk::<8>() else { return Err(Exhausted) };
        let words = u64::from_le_bytes(*bytes);
        // The first word stands lowest and has to go on top.
        let halves = words.rotate_left(32);
        let ordered = (halves >> 16 & 0x0000_ffff_0000_ffff) | (halves & 0x0000_ffff_0000_ffff) << 16;
        self.bits |= ordered >> self.count;
        // Whole words only: the low four bits of the count stay, the rest is filled up to 48.
        let filled = self.count | REFILLED_BITS;
        self.rest = &self.rest[((filled - self.count) >> 3 & 7) as usize..];
        self.count = filled;
        Ok(())
    }

    /// All unread bits, the next one on top.
    #[inline(always)]
    pub(super) fn bits(&self) -> u64 {
        self.bits
    }

    /// Drops `n` bits, at most as many as are available.
    #[inline(always)]
    pub(super) fn consume(&mut self, n: u32) {
        self.bits <<= n;
        self.count = self.count.wrapping_sub(n);
    }

    /// Bytes taken out of the input so far.
    #[inline(always)]
    fn loaded(&self) -> usize {
        self.padded.len() - self.rest.len()
    }

    /// Gives back the words loaded ahead of the one word that the format holds in advance, so that the next byte of
    /// the interleaved stream comes first in the rest. At least 16 bits must be available.
    pub(super) fn rewind_to_bytes(&mut self) {
        let ahead = (self.count >> 4).saturating_sub(1);
        self.rest = self.padded.get(self.loaded().saturating_sub(2 * ahead as usize)..).unwrap_or_default();
        self.count -= 16 * ahead;
        self.bits &= !(u64::MAX >> self.count);
    }

    /// Takes one byte after [`Self::rewind_to_bytes`].
    pub(super) fn byte(&mut self) -> Result<u8, Exhausted> {
        let Some((byte, rest)) = self.rest.split_first() else { return Err(Exhausted) };
        if rest.len() < PADDING {
            return Err(Exhausted);
        }
        self.rest = rest;
        Ok(*byte)
    }

    /// Byte position of the first word of which no bit was used.
    #[inline(always)]
    pub(super) fn position(&self) -> usize {
        self.loaded().saturating_sub((self.count >> 4 << 1) as usize)
    }

    /// Whether a bit beyond the end of the input was used.
    pub(super) fn overran(&self) -> bool {
        self.position() > padded_len(self.padded)
    }
}
