//! Writing chosen items as LZX blocks.

use super::{
    ALIGNED_SYMBOLS, DEFAULT_BLOCK, EXTRA_BITS, FIRST_ALIGNED_SLOT, LENGTH_HEADERS, LENGTH_SYMBOLS, LITERALS,
    MAX_MAIN_SYMBOLS, MAX_SLOTS, MIN_MATCH, PRE_SYMBOLS, RECENT_SLOTS, SLOT_BASES, slot_count,
};
use crate::code_builder::{CodeBuilder, Codeword, codewords};

/// Code-length limits of the encoder. The format allows the main and length codes 16 bits; the lower limit costs
/// nothing measurable.
const MAX_MAIN_LEN: usize = 15;
const MAX_LENGTH_LEN: usize = 15;
const MAX_ALIGNED_LEN: usize = 7;
const MAX_PRE_LEN: usize = 15;

/// Bits of the aligned code's lengths in a block header.
const ALIGNED_HEADER_BITS: u32 = 3 * ALIGNED_SYMBOLS as u32;

/// Literals followed by a match; the last of a block may have none (length 0).
#[derive(Debug, Clone, Copy)]
struct Sequence {
    literals: u32,
    length: u16,
    slot: u8,
    /// Offset less the slot's base.
    extra: u32,
}

/// R0, R1 and R2.
pub(super) type Recent = [u32; RECENT_SLOTS];

/// The slot of an explicit offset.
#[inline(always)]
pub(super) fn offset_slot(offset: u32) -> usize {
    // With 2 added, slot bases are 2^n and 3 * 2^(n-1), until they go up by 2^17.
    let adjusted = offset + 2;
    if adjusted >= 1 << 19 {
        return 34 + (adjusted >> 17) as usize;
    }
    let log2 = adjusted.ilog2();
    (2 * log2 + (adjusted >> (log2 - 1) & 1)) as usize
}

/// How often the symbols of each code occur in a block.
#[derive(Debug, Clone)]
pub(super) struct Freqs {
    pub(super) main: [u32; MAX_MAIN_SYMBOLS],
    pub(super) length: [u32; LENGTH_SYMBOLS],
    pub(super) aligned: [u32; ALIGNED_SYMBOLS],
}

/// Code lengths of a block.
#[derive(Debug, Clone)]
pub(super) struct Lens {
    pub(super) main: [u8; MAX_MAIN_SYMBOLS],
    pub(super) length: [u8; LENGTH_SYMBOLS],
    pub(super) aligned: [u8; ALIGNED_SYMBOLS],
    /// Whether the aligned code is used.
    pub(super) use_aligned: bool,
}

/// The items chosen for one block, with the frequencies of their symbols.
#[derive(Debug)]
pub(super) struct Items {
    sequences: Vec<Sequence>,
    /// Literals since the last match.
    literals: u32,
    /// Bytes covered so far.
    bytes: usize,
    pub(super) freqs: Freqs,
}

impl Freqs {
    pub(super) fn new() -> Self {
        Self { main: [0; MAX_MAIN_SYMBOLS], length: [0; LENGTH_SYMBOLS], aligned: [0; ALIGNED_SYMBOLS] }
    }
}

impl Lens {
    pub(super) fn new() -> Self {
        Self {
            main: [0; MAX_MAIN_SYMBOLS],
            length: [0; LENGTH_SYMBOLS],
            aligned: [0; ALIGNED_SYMBOLS],
            use_aligned: false,
        }
    }

    /// Sets the lengths to the best for `freqs`.
    pub(super) fn fit(&mut self, builder: &mut CodeBuilder, freqs: &Freqs) {
        builder.lens(&freqs.main, MAX_MAIN_LEN, &mut self.main);
        builder.lens(&freqs.length, MAX_LENGTH_LEN, &mut self.length);
        builder.lens(&freqs.aligned, MAX_ALIGNED_LEN, &mut self.aligned);
        let pairs = || freqs.aligned.iter().zip(&self.aligned);
        let aligned_bits: u32 = pairs().map(|(&freq, &len)| freq * u32::from(len)).sum();
        let verbatim_bits: u32 = pairs().map(|(&freq, _)| freq * 3).sum();
        self.use_aligned = aligned_bits + ALIGNED_HEADER_BITS < verbatim_bits;
    }
}

impl Items {
    pub(super) fn new(chunk_size: usize) -> Self {
        Self {
            sequences: Vec::with_capacity(chunk_size / MIN_MATCH + 2),
            literals: 0,
            bytes: 0,
            freqs: Freqs::new(),
        }
    }

    /// Starts a new block.
    pub(super) fn clear(&mut self) {
        self.sequences.clear();
        self.literals = 0;
        self.bytes = 0;
        self.freqs = Freqs::new();
    }

    #[inline(always)]
    pub(super) fn push_literal(&mut self, byte: u8) {
        self.freqs.main[usize::from(byte)] += 1;
        self.literals += 1;
        self.bytes += 1;
    }

    /// Adds a match with recent offset `slot` (0 to 2).
    #[inline(always)]
    pub(super) fn push_recent(&mut self, length: u32, slot: usize) {
        self.push_match(length, slot, 0);
    }

    /// Adds a match with an explicit offset.
    #[inline(always)]
    pub(super) fn push_explicit(&mut self, length: u32, offset: u32) {
        let slot = offset_slot(offset);
        let extra = offset - SLOT_BASES[slot];
        if slot >= FIRST_ALIGNED_SLOT {
            self.freqs.aligned[(extra & 7) as usize] += 1;
        }
        self.push_match(length, slot, extra);
    }

    #[inline(always)]
    fn push_match(&mut self, length: u32, slot: usize, extra: u32) {
        let (main, length_symbol) = match_symbols(length, slot);
        self.freqs.main[main] += 1;
        if let Some(symbol) = length_symbol {
            self.freqs.length[symbol] += 1;
        }
        self.sequences.push(Sequence {
            literals: self.literals,
            length: length as u16,
            slot: slot as u8,
            extra,
        });
        self.literals = 0;
        self.bytes += length as usize;
    }
}

/// Main symbol and, for long matches, length symbol.
#[inline(always)]
pub(super) fn match_symbols(length: u32, slot: usize) -> (usize, Option<usize>) {
    let rest = length as usize - MIN_MATCH;
    let header = rest.min(LENGTH_HEADERS - 1);
    (LITERALS + slot * LENGTH_HEADERS + header, rest.checked_sub(LENGTH_HEADERS - 1))
}

/// Writes the blocks of one chunk after another.
#[derive(Debug)]
pub(super) struct BlockWriter {
    builder: CodeBuilder,
    /// Lengths of the block before, against which those of the next are sent.
    sent: Lens,
    lens: Lens,
    main_words: [Codeword; MAX_MAIN_SYMBOLS],
    length_words: [Codeword; LENGTH_SYMBOLS],
    aligned_words: [Codeword; ALIGNED_SYMBOLS],
    main_symbols: usize,
    wide_block_len: bool,
}

impl BlockWriter {
    pub(super) fn new(chunk_size: usize) -> Self {
        Self {
            builder: CodeBuilder::new(),
            sent: Lens::new(),
            lens: Lens::new(),
            main_words: [Codeword::default(); MAX_MAIN_SYMBOLS],
            length_words: [Codeword::default(); LENGTH_SYMBOLS],
            aligned_words: [Codeword::default(); ALIGNED_SYMBOLS],
            main_symbols: LITERALS + LENGTH_HEADERS * slot_count(chunk_size),
            wide_block_len: chunk_size > DEFAULT_BLOCK,
        }
    }

    /// Starts a new chunk.
    pub(super) fn reset(&mut self) {
        self.sent = Lens::new();
    }

    /// Writes `items`, which cover `data` (translated bytes), as one block.
    pub(super) fn write_block(&mut self, items: &Items, data: &[u8], bits: &mut BitWriter<'_>) {
        debug_assert_eq!(items.bytes, data.len());
        self.lens.fit(&mut self.builder, &items.freqs);
        bits.push(if self.lens.use_aligned { 2 } else { 1 }, 3);
        if data.len() == DEFAULT_BLOCK {
            bits.push(1, 1);
        } else {
            bits.push(0, 1);
            let count = if self.wide_block_len { 24 } else { 16 };
            bits.push(data.len() as u32, count);
        }
        bits.flush();
        if self.lens.use_aligned {
            for &len in &self.lens.aligned {
                bits.push(u32::from(len), 3);
            }
            bits.flush();
        }
        let (old, new) = (&self.sent, &self.lens);
        let (builder, end) = (&mut self.builder, self.main_symbols);
        send_lens(builder, &old.main[..LITERALS], &new.main[..LITERALS], bits);
        send_lens(builder, &old.main[LITERALS..end], &new.main[LITERALS..end], bits);
        send_lens(builder, &old.length, &new.length, bits);
        codewords(&self.lens.main, &mut self.main_words);
        codewords(&self.lens.length, &mut self.length_words);
        codewords(&self.lens.aligned, &mut self.aligned_words);
        self.write_items(items, data, bits);
        std::mem::swap(&mut self.sent, &mut self.lens);
    }

    fn write_items(&self, items: &Items, data: &[u8], bits: &mut BitWriter<'_>) {
        let mut rest = data;
        for sequence in &items.sequences {
            let (literals, after) = rest.split_at(sequence.literals as usize);
            self.write_literals(literals, bits);
            rest = &after[usize::from(sequence.length)..];
            let slot = usize::from(sequence.slot);
            let (main, length_symbol) = match_symbols(u32::from(sequence.length), slot);
            bits.push_word(self.main_words[main]);
            if let Some(symbol) = length_symbol {
                bits.push_word(self.length_words[symbol]);
            }
            bits.flush();
            let extra_bits = u32::from(EXTRA_BITS[slot]);
            if self.lens.use_aligned && slot >= FIRST_ALIGNED_SLOT {
                bits.push(sequence.extra >> 3, extra_bits - 3);
                bits.push_word(self.aligned_words[(sequence.extra & 7) as usize]);
            } else {
                bits.push(sequence.extra, extra_bits);
            }
            bits.flush();
        }
        self.write_literals(rest, bits);
    }

    fn write_literals(&self, literals: &[u8], bits: &mut BitWriter<'_>) {
        let (pairs, rest) = literals.as_chunks::<2>();
        for pair in pairs {
            bits.push_word(self.main_words[usize::from(pair[0])]);
            bits.push_word(self.main_words[usize::from(pair[1])]);
            bits.flush();
        }
        for &byte in rest {
            bits.push_word(self.main_words[usize::from(byte)]);
            bits.flush();
        }
    }
}

/// One element of a transmitted list: a pre-code symbol, the bits that follow it, and after a 19 the delta.
#[derive(Debug, Clone, Copy, Default)]
struct PreItem {
    symbol: u8,
    extra: u8,
    delta: u8,
}

/// Sends the lengths `new` as differences from `old`, runs shortened, with a pre-code of their own.
fn send_lens(builder: &mut CodeBuilder, old: &[u8], new: &[u8], bits: &mut BitWriter<'_>) {
    let mut items = [PreItem::default(); MAX_MAIN_SYMBOLS];
    let mut count = 0;
    let mut freqs = [0; PRE_SYMBOLS];
    for_each_pre_item(old, new, |item| {
        freqs[usize::from(item.symbol)] += 1;
        if item.symbol == 19 {
            freqs[usize::from(item.delta)] += 1;
        }
        items[count] = item;
        count += 1;
    });
    let mut lens = [0; PRE_SYMBOLS];
    let mut words = [Codeword::default(); PRE_SYMBOLS];
    builder.lens(&freqs, MAX_PRE_LEN, &mut lens);
    codewords(&lens, &mut words);
    for len in lens {
        bits.push(u32::from(len), 4);
        bits.flush();
    }
    for item in &items[..count] {
        bits.push_word(words[usize::from(item.symbol)]);
        match item.symbol {
            17 => bits.push(u32::from(item.extra), 4),
            18 => bits.push(u32::from(item.extra), 5),
            19 => {
                bits.push(u32::from(item.extra), 1);
                bits.push_word(words[usize::from(item.delta)]);
            }
            _ => {}
        }
        bits.flush();
    }
}

/// Cuts a list of lengths into pre-code items.
fn for_each_pre_item(old: &[u8], new: &[u8], mut emit: impl FnMut(PreItem)) {
    let mut index = 0;
    while index < new.len() {
        let len = new[index];
        let mut run = 1 + new[index + 1..].iter().take_while(|&&next| next == len).count();
        while len == 0 && run >= 20 {
            let taken = run.min(51);
            emit(PreItem { symbol: 18, extra: (taken - 20) as u8, delta: 0 });
            index += taken;
            run -= taken;
        }
        if len == 0 && run >= 4 {
            // At most 19 are left, which is the longest run of this kind.
            emit(PreItem { symbol: 17, extra: (run - 4) as u8, delta: 0 });
            index += run;
            run = 0;
        }
        while run >= 4 {
            let taken = run.min(5);
            emit(PreItem { symbol: 19, extra: (taken - 4) as u8, delta: delta(old[index], len) });
            index += taken;
            run -= taken;
        }
        for _ in 0..run {
            emit(PreItem { symbol: delta(old[index], len), extra: 0, delta: 0 });
            index += 1;
        }
    }
}

/// What is sent for a length: how far below the old one it is, modulo 17.
fn delta(old: u8, new: u8) -> u8 {
    (old + 17 - new) % 17
}

/// Bits into 16-bit little-endian words, most significant bit first.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    output: &'a mut [u8],
    pos: usize,
    /// Bits not yet stored, the oldest on top of the low `count`.
    bits: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(output: &'a mut [u8]) -> Self {
        Self { output, pos: 0, bits: 0, count: 0 }
    }

    /// Adds the low `count` bits of `bits`. Between two flushes 48 bits may be added.
    #[inline(always)]
    fn push(&mut self, bits: u32, count: u32) {
        self.bits = self.bits << count | u64::from(bits);
        self.count += count;
    }

    #[inline(always)]
    fn push_word(&mut self, word: Codeword) {
        self.push(word.bits(), word.len());
    }

    /// Stores whole words. What does not fit is dropped but counted.
    #[inline(always)]
    fn flush(&mut self) {
        while self.count >= 16 {
            self.count -= 16;
            self.store((self.bits >> self.count) as u16);
        }
    }

    #[inline(always)]
    fn store(&mut self, word: u16) {
        if let Some(to) = self.output.get_mut(self.pos..).and_then(<[u8]>::first_chunk_mut::<2>) {
            *to = word.to_le_bytes();
        }
        self.pos += 2;
    }

    /// Whether more was written than the output holds.
    pub(super) fn overflowed(&self) -> bool {
        self.pos > self.output.len()
    }

    /// Pads the last word; the length of the stream, or `None` if it did not fit.
    pub(super) fn finish(mut self) -> Option<usize> {
        self.flush();
        if self.count != 0 {
            self.store((self.bits << (16 - self.count)) as u16);
        }
        (!self.overflowed()).then_some(self.pos)
    }
}

const _: () = assert!(MAX_SLOTS == 50 && MAX_MAIN_LEN <= 16 && MAX_LENGTH_LEN <= 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_falls_into_the_slot_that_covers_it() {
        for offset in 1..2_097_150 {
            let slot = offset_slot(offset);
            assert!((RECENT_SLOTS..MAX_SLOTS).contains(&slot), "offset {offset}: slot {slot}");
            let extra = offset - SLOT_BASES[slot];
            assert!(extra < 1 << EXTRA_BITS[slot], "offset {offset}: slot {slot}");
        }
    }

    #[test]
    fn pre_items_cover_the_list_they_were_made_from() {
        let old: Vec<u8> = (0..249u32).map(|at| (at * at % 17) as u8).collect();
        let mut new = vec![0; 249];
        for (at, len) in [(0, 3), (60, 5), (61, 5), (62, 5), (63, 5), (64, 5), (65, 5), (90, 16), (248, 1)] {
            new[at] = len;
        }
        new[100..123].fill(9);
        let mut rebuilt: Vec<u8> = Vec::new();
        for_each_pre_item(&old, &new, |item| {
            let value = |delta: u8| (old[rebuilt.len()] + 17 - delta) % 17;
            let (len, run) = match item.symbol {
                17 => (0, 4 + item.extra),
                18 => (0, 20 + item.extra),
                19 => (value(item.delta), 4 + item.extra),
                symbol => (value(symbol), 1),
            };
            rebuilt.resize(rebuilt.len() + usize::from(run), len);
        });
        assert_eq!(rebuilt, new);
    }
}
