//! Bits out of 16-bit little-endian words, most significant bit first: the bit order XPRESS and LZX share.
//!
//! The reader holds up to 63 bits ahead of what was consumed. Words beyond the end of the input read as zero and
//! are counted, so that [`WordReader::overran`] can tell afterwards whether a bit that does not exist was used.

/// Bits that a refill guarantees.
pub(crate) const REFILLED_BITS: u32 = 48;

/// A reader over one compressed chunk. Small enough to live in registers.
#[derive(Debug)]
pub(crate) struct WordReader<'a> {
    input: &'a [u8],
    /// Next byte to load.
    pos: usize,
    /// Unread bits, the next one on top. Bits below `count` are zero or equal to what the next refill brings.
    buffer: u64,
    /// Valid bits in `buffer`, at most 63.
    count: u32,
}

impl<'a> WordReader<'a> {
    pub(crate) fn new(input: &'a [u8], pos: usize) -> Self {
        Self { input, pos, buffer: 0, count: 0 }
    }

    /// All of the input.
    pub(crate) fn input(&self) -> &'a [u8] {
        self.input
    }

    /// Makes at least [`REFILLED_BITS`] available.
    #[inline(always)]
    pub(crate) fn refill(&mut self) {
        let words = match self.input.get(self.pos..).and_then(<[u8]>::first_chunk::<8>) {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => words_at_end(self.input, self.pos),
        };
        // The first word stands lowest and has to go on top.
        let halves = words.rotate_left(32);
        let ordered = ((halves >> 16) & 0x0000_ffff_0000_ffff) | ((halves & 0x0000_ffff_0000_ffff) << 16);
        self.buffer |= ordered >> self.count;
        // Whole words only: the low four bits of the count stay, the rest is filled up to 48.
        let filled = self.count | REFILLED_BITS;
        self.pos += ((filled - self.count) >> 3) as usize;
        self.count = filled;
    }

    /// All unread bits, the next one on top.
    #[inline(always)]
    pub(crate) fn bits(&self) -> u64 {
        self.buffer
    }

    /// Drops `n` bits, at most as many as are available.
    #[inline(always)]
    pub(crate) fn consume(&mut self, n: u32) {
        self.buffer <<= n;
        self.count = self.count.wrapping_sub(n);
    }

    /// Reads `n` bits (0 to 17) as a number; the caller has made sure that they are available.
    #[inline(always)]
    pub(crate) fn take(&mut self, n: u32) -> u32 {
        let value = (self.buffer >> 1 >> (63 - n)) as u32;
        self.consume(n);
        value
    }

    /// Reads `n` bits (0 to 17), loading as needed.
    pub(crate) fn read(&mut self, n: u32) -> u32 {
        self.refill();
        self.take(n)
    }

    /// Gives back the words loaded ahead of the one word that the XPRESS rules hold in advance, so that the next
    /// byte of the interleaved stream stands at the read position. At least 16 bits must be available.
    #[inline(always)]
    pub(crate) fn rewind_to_interleaved(&mut self) {
        let ahead = (self.count >> 4).wrapping_sub(1);
        self.pos = self.pos.wrapping_sub((ahead << 1) as usize);
        self.count &= 31;
        self.count |= 16;
        self.buffer &= !(u64::MAX >> self.count);
    }

    /// Takes one byte at the read position, past the bits already loaded.
    #[inline(always)]
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let byte = *self.input.get(self.pos)?;
        self.pos += 1;
        Some(byte)
    }

    /// Takes `N` bytes at the read position, past the bits already loaded.
    pub(crate) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.input.get(self.pos..)?.first_chunk::<N>()?;
        self.pos += N;
        Some(bytes)
    }

    /// Takes `len` bytes at the read position, past the bits already loaded.
    pub(crate) fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let slice = self.input.get(self.pos..)?.get(..len)?;
        self.pos += len;
        Some(slice)
    }

    /// Skips to the next word boundary, a whole word if already on one, and drops what is loaded.
    pub(crate) fn align_past_word(&mut self) {
        self.refill();
        let partial = self.count & 15;
        self.consume(if partial == 0 { 16 } else { partial });
        self.pos -= (self.count >> 3) as usize;
        self.buffer = 0;
        self.count = 0;
    }

    /// Byte position of the first word of which no bit was used.
    pub(crate) fn position(&self) -> usize {
        self.pos.saturating_sub((self.count >> 4 << 1) as usize)
    }

    /// Whether a bit beyond the end of the input was used.
    pub(crate) fn overran(&self) -> bool {
        self.position() > self.input.len()
    }
}

/// The rare load that touches the end of the input. Half a word counts as none.
#[cold]
#[inline(never)]
fn words_at_end(input: &[u8], pos: usize) -> u64 {
    let rest = input.get(pos..).unwrap_or_default();
    let mut bytes = [0; 8];
    for (to, word) in bytes.chunks_exact_mut(2).zip(rest.chunks_exact(2)) {
        to.copy_from_slice(word);
    }
    u64::from_le_bytes(bytes)
}
