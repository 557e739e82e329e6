//! Writing items: the range encoder at the front of the output, bits at its back, and the adaptive state between.

use super::decisions::{Class, Decisions, PROBABILITY_BITS};
use super::frequencies::{Builder, Frequencies};
use super::queues::Queue;
use super::slots::{LENGTHS, OFFSETS, length_slot, offset_slot, offset_slot_count};
use super::{
    LENGTH_INTERVAL, LENGTH_SLOTS, LITERAL_INTERVAL, LITERALS, MAX_OFFSET_SLOTS, OFFSET_INTERVAL, POWER_INTERVAL,
    POWERS,
};
use crate::code_builder::{Codeword, codewords};

/// The output of one chunk: decisions grow from its front, bits from its back, until they meet.
pub(super) struct Output<'a> {
    bytes: &'a mut [u8],
    /// Where the next word of the front goes, and where the words of the back start.
    front: usize,
    back: usize,
    overflowed: bool,
    /// Bits not yet written, the next one on top.
    bits: u64,
    bit_count: u32,
    low: u64,
    range: u32,
    /// The newest word, to which a carry may still be added; `None` before the first, which does not exist.
    held: Option<u16>,
    /// Words of all ones behind it, through which a carry would run.
    held_ones: usize,
}

impl<'a> Output<'a> {
    /// Uses an even number of `bytes`.
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        let back = bytes.len() & !1;
        Self {
            bytes,
            front: 0,
            back,
            overflowed: false,
            bits: 0,
            bit_count: 0,
            low: 0,
            range: u32::MAX,
            held: None,
            held_ones: 0,
        }
    }

    /// Whether the room was too small. What is written then is lost.
    pub(super) fn overflowed(&self) -> bool {
        self.overflowed
    }

    fn push_front(&mut self, word: u16) {
        if self.front + 2 > self.back {
            self.overflowed = true;
            return;
        }
        self.bytes[self.front..self.front + 2].copy_from_slice(&word.to_le_bytes());
        self.front += 2;
    }

    fn push_back(&mut self, word: u16) {
        if self.front + 2 > self.back {
            self.overflowed = true;
            return;
        }
        self.back -= 2;
        self.bytes[self.back..self.back + 2].copy_from_slice(&word.to_le_bytes());
    }

    /// Writes the low `n` bits (0 to 32) of `value`, which has no others.
    #[inline(always)]
    fn put(&mut self, value: u32, n: u32) {
        // At most 15 bits are left over from before. A shift by 64 only happens to a value of no bits.
        self.bit_count += n;
        self.bits |= u64::from(value) << ((64 - self.bit_count) & 63);
        while self.bit_count >= 16 {
            self.push_back((self.bits >> 48) as u16);
            self.bits <<= 16;
            self.bit_count -= 16;
        }
    }

    /// Takes 16 bits out of `low`. They are held back until no carry can reach them.
    fn shift(&mut self) {
        let carry = (self.low >> 32) as u16;
        let top = (self.low >> 16) as u16;
        if carry != 0 || top != u16::MAX {
            if let Some(held) = self.held {
                self.push_front(held.wrapping_add(carry));
            }
            for _ in 0..std::mem::take(&mut self.held_ones) {
                self.push_front(u16::MAX.wrapping_add(carry));
            }
            self.held = Some(top);
        } else {
            self.held_ones += 1;
        }
        self.low = (self.low & 0xffff) << 16;
    }

    #[inline(always)]
    fn decide<const N: usize>(&mut self, class: &mut Class<N>, result: u32) {
        if self.range < 1 << 16 {
            self.range <<= 16;
            self.shift();
        }
        let bound = (self.range >> PROBABILITY_BITS) * class.cell().probability();
        if result == 0 {
            self.range = bound;
        } else {
            self.low += u64::from(bound);
            self.range -= bound;
        }
        class.update(result);
    }

    /// Ends both streams and moves them together. `None` if the room was too small, else the length.
    pub(super) fn finish(mut self) -> Option<usize> {
        // The word held in the end is a zero nobody reads.
        for _ in 0..4 {
            self.shift();
        }
        if self.bit_count > 0 {
            self.push_back((self.bits >> 48) as u16);
        }
        if self.overflowed {
            return None;
        }
        let end = self.bytes.len() & !1;
        let len = self.front + (end - self.back);
        self.bytes.copy_within(self.back..end, self.front);
        Some(len)
    }
}

/// An adaptive code with its codewords.
pub(super) struct Code<const SYMBOLS: usize> {
    frequencies: Frequencies<SYMBOLS>,
    words: [Codeword; SYMBOLS],
}

impl<const SYMBOLS: usize> Code<SYMBOLS> {
    fn new(interval: u32) -> Self {
        Self { frequencies: Frequencies::new(interval), words: [Codeword::default(); SYMBOLS] }
    }

    fn reset(&mut self, count: usize, builder: &mut Builder) {
        self.frequencies.reset(count, builder);
        codewords(self.frequencies.lens(), &mut self.words[..count]);
    }

    /// Codeword length of `symbol` in bits.
    #[inline(always)]
    pub(super) fn len(&self, symbol: usize) -> u32 {
        self.frequencies.len(symbol)
    }

    /// Writes `symbol`; true if the code changed.
    #[inline(always)]
    fn write(&mut self, symbol: usize, output: &mut Output<'_>, builder: &mut Builder) -> bool {
        let word = self.words[symbol];
        output.put(word.bits(), word.len());
        let is_due = self.frequencies.count(symbol);
        if is_due {
            self.frequencies.rebuild(builder);
            let lens = self.frequencies.lens();
            codewords(lens, &mut self.words[..lens.len()]);
        }
        is_due
    }
}

/// A delta source: bytes `1 << power` apart differ as those `offset << power` before them. Packed, with the power in
/// the top three of 31 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeltaSource(u32);

impl DeltaSource {
    /// Offsets are below this, so that a source packs into 31 bits; larger ones are of no use.
    pub(super) const MAX_OFFSET: u32 = 1 << 28;

    pub(super) const fn new(power: u32, offset: u32) -> Self {
        Self(power << 28 | offset)
    }

    pub(super) fn from_packed(packed: u32) -> Self {
        Self(packed)
    }

    #[inline(always)]
    pub(super) fn packed(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub(super) fn power(self) -> u32 {
        self.0 >> 28
    }

    #[inline(always)]
    pub(super) fn offset(self) -> u32 {
        self.0 & (Self::MAX_OFFSET - 1)
    }

    /// Bytes between those that are subtracted.
    #[inline(always)]
    pub(super) fn span(self) -> usize {
        1 << self.power()
    }

    /// Bytes between a difference and its model.
    #[inline(always)]
    pub(super) fn distance(self) -> usize {
        (self.offset() as usize) << self.power()
    }
}

/// The two repeat queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sources {
    pub(super) lz: Queue<u32>,
    pub(super) delta: Queue<DeltaSource>,
}

impl Sources {
    pub(super) const START: Self = Self {
        lz: Queue::new([1, 2, 3, 4]),
        delta: Queue::new([
            DeltaSource::new(0, 1),
            DeltaSource::new(0, 2),
            DeltaSource::new(0, 3),
            DeltaSource::new(0, 4),
        ]),
    };

    #[inline(always)]
    pub(super) fn after(mut self, item: Item) -> Self {
        match item {
            Item::Literal => {
                self.lz.pass();
                self.delta.pass();
            }
            Item::Lz(offset) => {
                self.lz.push(offset);
                self.delta.pass();
            }
            Item::LzRepeat(index) => {
                self.lz.reuse(index);
                self.delta.pass();
            }
            Item::Delta(source) => {
                self.lz.pass();
                self.delta.push(source);
            }
            Item::DeltaRepeat(index) => {
                self.lz.pass();
                self.delta.reuse(index);
            }
        }
        self
    }
}

/// What an item is; how long a match is stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    Literal,
    Lz(u32),
    LzRepeat(usize),
    Delta(DeltaSource),
    DeltaRepeat(usize),
}

/// The adaptive state, as the decoder will have it too.
pub(super) struct Model {
    pub(super) decisions: Decisions,
    pub(super) sources: Sources,
    pub(super) literals: Code<LITERALS>,
    pub(super) lengths: Code<LENGTH_SLOTS>,
    pub(super) lz_offsets: Code<MAX_OFFSET_SLOTS>,
    pub(super) delta_offsets: Code<MAX_OFFSET_SLOTS>,
    pub(super) delta_powers: Code<POWERS>,
    /// Counts the changes of the length code.
    pub(super) length_code: u32,
    builder: Builder,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            decisions: Decisions::NEW,
            sources: Sources::START,
            literals: Code::new(LITERAL_INTERVAL),
            lengths: Code::new(LENGTH_INTERVAL),
            lz_offsets: Code::new(OFFSET_INTERVAL),
            delta_offsets: Code::new(OFFSET_INTERVAL),
            delta_powers: Code::new(POWER_INTERVAL),
            length_code: 0,
            builder: Builder::new(),
        }
    }

    /// Starts a chunk of `size` plain bytes.
    pub(super) fn reset(&mut self, size: usize) {
        let offsets = offset_slot_count(size);
        self.decisions = Decisions::NEW;
        self.sources = Sources::START;
        self.literals.reset(LITERALS, &mut self.builder);
        self.lengths.reset(LENGTH_SLOTS, &mut self.builder);
        self.lz_offsets.reset(offsets, &mut self.builder);
        self.delta_offsets.reset(offsets, &mut self.builder);
        self.delta_powers.reset(POWERS, &mut self.builder);
        self.length_code = 0;
    }

    pub(super) fn write_literal(&mut self, byte: u8, output: &mut Output<'_>) {
        output.decide(&mut self.decisions.main, 0);
        self.literals.write(usize::from(byte), output, &mut self.builder);
        self.sources = self.sources.after(Item::Literal);
    }

    /// Writes a match; `item` is no literal and `length` is 1 or more.
    pub(super) fn write_match(&mut self, item: Item, length: u32, output: &mut Output<'_>) {
        let Decisions { main, kind, lz, lz_repeats, delta, delta_repeats } = &mut self.decisions;
        output.decide(main, 1);
        let is_delta = matches!(item, Item::Delta(_) | Item::DeltaRepeat(_));
        output.decide(kind, u32::from(is_delta));
        match item {
            Item::Literal => {}
            Item::Lz(offset) => {
                output.decide(lz, 0);
                write_offset(&mut self.lz_offsets, offset, output, &mut self.builder);
            }
            Item::LzRepeat(index) => {
                output.decide(lz, 1);
                write_repeat(lz_repeats, index, output);
            }
            Item::Delta(source) => {
                output.decide(delta, 0);
                self.delta_powers.write(source.power() as usize, output, &mut self.builder);
                write_offset(&mut self.delta_offsets, source.offset(), output, &mut self.builder);
            }
            Item::DeltaRepeat(index) => {
                output.decide(delta, 1);
                write_repeat(delta_repeats, index, output);
            }
        }
        let slot = length_slot(length);
        let changed = self.lengths.write(slot, output, &mut self.builder);
        self.length_code += u32::from(changed);
        output.put(length - LENGTHS.bases[slot], LENGTHS.extra_bits[slot].into());
        self.sources = self.sources.after(item);
    }
}

fn write_repeat(decisions: &mut [Class<64>; 2], index: usize, output: &mut Output<'_>) {
    let [first, second] = decisions;
    output.decide(first, u32::from(index > 0));
    if index > 0 {
        output.decide(second, u32::from(index > 1));
    }
}

#[inline(always)]
fn write_offset(code: &mut Code<MAX_OFFSET_SLOTS>, offset: u32, output: &mut Output<'_>, builder: &mut Builder) {
    let slot = offset_slot(offset);
    code.write(slot, output, builder);
    output.put(offset - OFFSETS.bases[slot], OFFSETS.extra_bits[slot].into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_example_gives_its_bytes() {
        let mut model = Model::new();
        model.reset(12);
        let mut bytes = [0; 20];
        let mut output = Output::new(&mut bytes);
        for byte in *b"abc" {
            model.write_literal(byte, &mut output);
        }
        model.write_match(Item::Lz(3), 9, &mut output);
        let len = output.finish().unwrap();
        assert_eq!(bytes[..len], *b"\xff\x50\xd0\xff\x00\x00\x00\x00\x0e\x63\x62\x61");
    }

    #[test]
    fn any_room_too_small_is_noticed() {
        let write = |room: usize| {
            let mut model = Model::new();
            model.reset(1000);
            let mut bytes = vec![0; room];
            let mut output = Output::new(&mut bytes);
            for at in 0..200u8 {
                model.write_literal(at.wrapping_mul(37), &mut output);
                model.write_match(Item::LzRepeat(usize::from(at % 3)), 1, &mut output);
            }
            output.finish()
        };
        let len = write(1000).unwrap();
        for room in 0..=len + 3 {
            assert_eq!(write(room), (room >= len).then_some(len), "room of {room}");
        }
    }
}
