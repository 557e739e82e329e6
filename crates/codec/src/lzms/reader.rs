//! The two ends of an LZMS chunk: decisions from the front, bits from the back. Both supply zeros beyond the input;
//! whether they met in the middle is judged when all is decoded.

use super::decisions::{Class, PROBABILITY_BITS};
use crate::padded::Exhausted;

/// Bits that a refill guarantees.
const REFILLED_BITS: u32 = 56;

/// Decodes decisions. Small enough to live in registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct RangeDecoder<'a> {
    input: &'a [u8],
    /// Byte position of the next word; beyond the input once zeros were supplied.
    pos: usize,
    range: u32,
    code: u32,
}

impl<'a> RangeDecoder<'a> {
    /// Reads the first two words; there are two.
    pub(super) fn new(input: &'a [u8]) -> Self {
        let mut decoder = Self { input, pos: 0, range: u32::MAX, code: 0 };
        decoder.shift();
        decoder.shift();
        decoder
    }

    #[inline(always)]
    fn shift(&mut self) {
        let word = self.input.get(self.pos..self.pos + 2).map_or(0, |word| u16::from_le_bytes([word[0], word[1]]));
        self.code = self.code << 16 | u32::from(word);
        self.pos += 2;
    }

    /// Decodes one decision of `class`: 0 or 1.
    #[inline(always)]
    pub(super) fn decide<const N: usize>(&mut self, class: &mut Class<N>) -> bool {
        if self.range < 1 << 16 {
            self.range <<= 16;
            self.shift();
        }
        let bound = (self.range >> PROBABILITY_BITS) * class.cell().probability();
        if self.code < bound {
            self.range = bound;
            class.update(0);
            false
        } else {
            self.range -= bound;
            self.code -= bound;
            class.update(1);
            true
        }
    }

    /// Bytes taken from the front so far.
    #[inline(always)]
    pub(super) fn used(&self) -> usize {
        self.pos
    }
}

/// Reads codewords and numbers from the end of the input towards its front, most significant bit first.
///
/// The words are little-endian and read backwards, so their bytes are too, and any eight bytes of the input are a
/// stretch of the bit string when loaded as one little-endian number.
#[derive(Debug, Clone, Copy)]
pub(super) struct BackwardBits<'a> {
    /// What is not loaded yet.
    rest: &'a [u8],
    /// Length of the whole input in bytes.
    len: usize,
    /// Unread bits, the next one on top. After a refill all 64 are bits of the stream, but only `count` of them are
    /// taken out of `rest`.
    bits: u64,
    /// At most 63.
    count: u32,
    /// Zero bytes supplied beyond the front of the input.
    supplied: usize,
}

impl<'a> BackwardBits<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { rest: input, len: input.len(), bits: 0, count: 0, supplied: 0 }
    }

    /// Makes at least [`REFILLED_BITS`] available. Fails when bits beyond the input were used.
    #[inline(always)]
    pub(super) fn refill(&mut self) -> Result<(), Exhausted> {
        let Some(bytes) = self.rest.last_chunk::<8>() else { return self.refill_at_front() };
        self.bits |= u64::from_le_bytes(*bytes) >> self.count;
        // Whole bytes only: the low three bits of the count stay, the rest is filled up to 56.
        let filled = self.count | REFILLED_BITS;
        self.rest = &self.rest[..self.rest.len() - ((filled - self.count) >> 3 & 7) as usize];
        self.count = filled;
        Ok(())
    }

    #[cold]
    fn refill_at_front(&mut self) -> Result<(), Exhausted> {
        // Forget what the last refill loaded ahead of the count, and go on byte by byte.
        self.bits &= !(u64::MAX >> self.count);
        while self.count < REFILLED_BITS {
            let byte = match self.rest.split_last() {
                Some((byte, rest)) => {
                    self.rest = rest;
                    *byte
                }
                None => {
                    self.supplied += 1;
                    0
                }
            };
            self.bits |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        if self.used_bits() > 8 * self.len { Err(Exhausted) } else { Ok(()) }
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

    /// Reads `n` bits (0 to 30) as a number; the caller has made sure that they are available.
    #[inline(always)]
    pub(super) fn take(&mut self, n: u32) -> u32 {
        let value = (self.bits >> 1 >> (63 - n)) as u32;
        self.consume(n);
        value
    }

    fn used_bits(&self) -> usize {
        (8 * (self.len - self.rest.len() + self.supplied)).saturating_sub(self.count as usize)
    }

    /// Bytes of the words of which a bit was used.
    pub(super) fn used(&self) -> usize {
        self.used_bits().div_ceil(16) * 2
    }

    /// Byte position of the last word of which a bit was used.
    pub(super) fn position(&self) -> usize {
        self.len.saturating_sub(self.used())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_from_the_last_word_on_and_end_in_zeros() {
        let input = [0x0f, 0x00, 0x34, 0x12, 0x78, 0x56, 0xbc, 0x9a, 0xf0, 0xde];
        let mut reader = BackwardBits::new(&input);
        let mut read = |n| {
            reader.refill()?;
            Ok(reader.take(n))
        };
        let expected = [(4, 0xd), (12, 0xef0), (30, 0x9abc_5678 >> 2), (2, 0), (0, 0), (16, 0x1234), (15, 7), (1, 1)];
        for (n, value) in expected {
            assert_eq!(read(n).map_err(|Exhausted| ()), Ok(value), "{n} bits");
        }
        // All is used. One more bit is a supplied zero, which the next refill notices.
        assert_eq!(read(1).map_err(|Exhausted| ()), Ok(0));
        assert!(read(1).is_err());
        assert_eq!((reader.used(), reader.position()), (12, 0));
    }
}
