//! Bits of an LZX chunk. The bytes of its words are swapped beforehand, so that the stream is one big-endian bit
//! string and can be loaded from any byte.

use crate::padded::{Exhausted, padded_len};

/// Bits that a refill guarantees.
const REFILLED_BITS: u32 = 56;

/// Small enough to live in registers; what needs its address takes a copy and returns it.
#[derive(Debug, Clone, Copy)]
pub(super) struct BitReader<'a> {
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

impl<'a> BitReader<'a> {
    pub(super) fn new(padded: &'a [u8]) -> Self {
        Self { padded, rest: padded, bits: 0, count: 0 }
    }

    /// Makes at least [`REFILLED_BITS`] available.
    #[inline(always)]
    pub(super) fn refill(&mut self) -> Result<(), Exhausted> {
        let Some(bytes) = self.rest.first_chunk::<8>() else { return Err(Exhausted) };
        self.bits |= u64::from_be_bytes(*bytes) >> self.count;
        // Whole bytes only: the low three bits of the count stay, the rest is filled up to 56.
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

    /// Reads `n` bits (0 to 24) as a number; the caller has made sure that they are available.
    #[inline(always)]
    pub(super) fn take(&mut self, n: u32) -> u32 {
        let value = (self.bits >> 1 >> (63 - n)) as u32;
        self.consume(n);
        value
    }

    /// Reads `n` bits (0 to 24), loading as needed.
    pub(super) fn read(&mut self, n: u32) -> Result<u32, Exhausted> {
        self.refill()?;
        Ok(self.take(n))
    }

    /// Bits used so far.
    #[inline(always)]
    fn used(&self) -> usize {
        (8 * (self.padded.len() - self.rest.len())).saturating_sub(self.count as usize)
    }

    /// Byte position of the first word of which no bit was used.
    #[inline(always)]
    pub(super) fn position(&self) -> usize {
        self.used().div_ceil(16) * 2
    }

    /// Whether bits beyond the end of the input were used.
    pub(super) fn overran(&self) -> bool {
        self.position() > padded_len(self.padded)
    }

    /// Where the bytes of an uncompressed block stand in the input: at the next word boundary, a whole word later
    /// if already on one.
    pub(super) fn next_boundary(&self) -> usize {
        (self.used() / 16 + 1) * 2
    }

    /// Continues at byte `pos` of the input, the start of a word.
    pub(super) fn jump(&mut self, pos: usize) {
        *self = Self { rest: self.padded.get(pos..).unwrap_or_default(), ..Self::new(self.padded) };
    }
}
