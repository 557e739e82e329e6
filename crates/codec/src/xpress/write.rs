//! Writing chosen items as an XPRESS stream.

use super::{END, MAX_CODE_LEN, MIN_MATCH, SYMBOLS, TABLE_BYTES};
use crate::code_builder::{CodeBuilder, Codeword, codewords};
use crate::matches::Match;

/// Literals followed by a match; the last of a chunk may have none (length 0).
#[derive(Debug, Clone, Copy)]
struct Sequence {
    literals: u32,
    found: Match,
}

/// The items chosen for one chunk, with the frequencies of their symbols.
#[derive(Debug)]
pub(super) struct Items {
    sequences: Vec<Sequence>,
    /// Literals since the last match.
    literals: u32,
    freqs: [u32; SYMBOLS],
    /// Bits of offsets and bytes of lengths, which stand outside the code.
    offset_bits: u64,
    length_bytes: u64,
}

/// A code over the XPRESS alphabet.
#[derive(Debug)]
pub(super) struct Code {
    builder: CodeBuilder,
    pub(super) lens: [u8; SYMBOLS],
    words: [Codeword; SYMBOLS],
}

/// Bits of the offset that follow the symbol.
#[inline(always)]
pub(super) fn offset_bits(offset: u32) -> u32 {
    offset.ilog2()
}

/// The symbol of a match.
#[inline(always)]
pub(super) fn match_symbol(found: Match) -> usize {
    let length_class = (found.length as usize - MIN_MATCH).min(15);
    256 + offset_bits(found.offset) as usize * 16 + length_class
}

impl Items {
    pub(super) fn new(chunk_size: usize) -> Self {
        Self {
            sequences: Vec::with_capacity(chunk_size / MIN_MATCH + 2),
            literals: 0,
            freqs: [0; SYMBOLS],
            offset_bits: 0,
            length_bytes: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.sequences.clear();
        self.literals = 0;
        self.freqs.fill(0);
        self.freqs[END] = 1;
        self.offset_bits = 0;
        self.length_bytes = 0;
    }

    #[inline(always)]
    pub(super) fn push_literal(&mut self, byte: u8) {
        self.freqs[usize::from(byte)] += 1;
        self.literals += 1;
    }

    #[inline(always)]
    pub(super) fn push_match(&mut self, found: Match) {
        self.freqs[match_symbol(found)] += 1;
        self.offset_bits += u64::from(offset_bits(found.offset));
        self.length_bytes += match found.length as usize - MIN_MATCH {
            0..15 => 0,
            15..270 => 1,
            _ => 3,
        };
        self.sequences.push(Sequence { literals: self.literals, found });
        self.literals = 0;
    }

    /// Ends the chunk.
    pub(super) fn finish(&mut self) {
        self.sequences.push(Sequence { literals: self.literals, found: Match::default() });
        self.literals = 0;
    }

    pub(super) fn freqs(&self) -> &[u32; SYMBOLS] {
        &self.freqs
    }

    /// Exact length of the stream in bytes when these items are written with `code`.
    pub(super) fn stream_bytes(&self, code: &Code) -> u64 {
        let symbol_bits: u64 =
            self.freqs.iter().zip(&code.lens).map(|(&freq, &len)| u64::from(freq) * u64::from(len)).sum();
        let words = (symbol_bits + self.offset_bits).div_ceil(16) + 1;
        TABLE_BYTES as u64 + 2 * words + self.length_bytes
    }

    /// Writes the stream and returns its length. `output` has room for [`Items::stream_bytes`].
    pub(super) fn write(&self, input: &[u8], code: &Code, output: &mut [u8]) -> usize {
        let (table, _) = output.split_at_mut(TABLE_BYTES);
        for (byte, pair) in table.iter_mut().zip(code.lens.as_chunks::<2>().0) {
            *byte = pair[0] | pair[1] << 4;
        }
        let mut writer = Writer::new(output);
        let mut pos = 0;
        for sequence in &self.sequences {
            let literals = &input[pos..pos + sequence.literals as usize];
            let (pairs, rest) = literals.as_chunks::<2>();
            for pair in pairs {
                writer.push(code.words[usize::from(pair[0])]);
                writer.push(code.words[usize::from(pair[1])]);
                writer.flush_words();
            }
            for &byte in rest {
                writer.push(code.words[usize::from(byte)]);
            }
            pos += literals.len();
            if sequence.found.length != 0 {
                writer.push_match(code, sequence.found);
                pos += sequence.found.length as usize;
            }
        }
        writer.push(code.words[END]);
        writer.finish()
    }
}

impl Code {
    pub(super) fn new() -> Self {
        Self { builder: CodeBuilder::new(), lens: [0; SYMBOLS], words: [Codeword::default(); SYMBOLS] }
    }

    /// Sets the code lengths to the best for `freqs`.
    pub(super) fn fit(&mut self, freqs: &[u32; SYMBOLS]) {
        self.builder.lens(freqs, MAX_CODE_LEN, &mut self.lens);
    }

    /// Assigns the codewords, as needed before writing.
    pub(super) fn assign(&mut self) {
        codewords(&self.lens, &mut self.words);
    }
}

/// Bits and bytes interleaved as the decoder's look-ahead of one word wants them: two word slots are always
/// reserved, and a byte goes behind them.
struct Writer<'a> {
    output: &'a mut [u8],
    slots: [usize; 2],
    pos: usize,
    /// Bits not yet in a slot, the oldest on top of the low `count`.
    bits: u64,
    count: u32,
}

impl<'a> Writer<'a> {
    fn new(output: &'a mut [u8]) -> Self {
        Self { output, slots: [TABLE_BYTES, TABLE_BYTES + 2], pos: TABLE_BYTES + 4, bits: 0, count: 0 }
    }

    /// Adds a codeword. Between two flushes 48 bits may be added.
    #[inline(always)]
    fn push(&mut self, word: Codeword) {
        self.push_bits(word.bits(), word.len());
    }

    #[inline(always)]
    fn push_bits(&mut self, bits: u32, count: u32) {
        self.bits = self.bits << count | u64::from(bits);
        self.count += count;
    }

    /// Stores whole words until at most 16 bits are left, as the reader holds a word more than it needs.
    #[inline(always)]
    fn flush_words(&mut self) {
        while self.count > 16 {
            self.count -= 16;
            self.store((self.bits >> self.count) as u16);
            self.slots = [self.slots[1], self.pos];
            self.pos += 2;
        }
    }

    /// Stores a word in the first slot.
    #[inline(always)]
    fn store(&mut self, word: u16) {
        if let Some(to) = self.output.get_mut(self.slots[0]..).and_then(<[u8]>::first_chunk_mut::<2>) {
            *to = word.to_le_bytes();
        }
    }

    #[inline(always)]
    fn push_match(&mut self, code: &Code, found: Match) {
        self.push(code.words[match_symbol(found)]);
        self.flush_words();
        let rest = found.length as usize - MIN_MATCH;
        if rest >= 15 {
            self.push_byte((rest - 15).min(255) as u8);
            if rest - 15 >= 255 {
                // A chunk has at most 64 KiB, so the value fits two bytes.
                self.push_byte(rest as u8);
                self.push_byte((rest >> 8) as u8);
            }
        }
        let count = offset_bits(found.offset);
        self.push_bits(found.offset ^ 1 << count, count);
        self.flush_words();
    }

    fn push_byte(&mut self, byte: u8) {
        if let Some(to) = self.output.get_mut(self.pos) {
            *to = byte;
        }
        self.pos += 1;
    }

    /// Pads the last word, fills the spare slot and returns the length of the stream.
    fn finish(mut self) -> usize {
        self.flush_words();
        self.store((self.bits << (16 - self.count)) as u16);
        self.slots[0] = self.slots[1];
        self.store(0);
        self.pos
    }
}
