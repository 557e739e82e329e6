//! LZMS decoder.

use super::decisions::Decisions;
use super::filter::{Direction, Filter};
use super::frequencies::{Builder, Frequencies};
use super::queues::Queue;
use super::reader::{BackwardBits, RangeDecoder};
use super::slots::{LENGTHS, OFFSETS, Slots, offset_slot_count};
use super::{
    LENGTH_INTERVAL, LENGTH_SLOTS, LITERAL_INTERVAL, LITERALS, MAX_OFFSET_SLOTS, OFFSET_INTERVAL,
    POWER_INTERVAL, POWERS,
};
use crate::copying::copy_match;
use crate::decode_table::{DecodeTable, Entry, bit_count};
use crate::error::Fault;

/// Shortest input: the range decoder starts with two words.
const MIN_INPUT: usize = 4;

/// What a table stores per symbol: the number of extra bits in bits 8 to 15, the symbol in bits 16 and up.
const fn values<const N: usize>(slots: &Slots<N>) -> [Entry; N] {
    let mut values = [0; N];
    let mut symbol = 0;
    while symbol < N {
        values[symbol] = (symbol as Entry) << 16 | (slots.extra_bits[symbol] as Entry) << 8;
        symbol += 1;
    }
    values
}

const PLAIN: Slots<LITERALS> = Slots { bases: [0; LITERALS], extra_bits: [0; LITERALS] };

static LITERAL_VALUES: [Entry; LITERALS] = values(&PLAIN);
static LENGTH_VALUES: [Entry; LENGTH_SLOTS] = values(&LENGTHS);
static OFFSET_VALUES: [Entry; MAX_OFFSET_SLOTS] = values(&OFFSETS);

/// An adaptive code with its table.
struct Code<const TABLE: usize, const SYMBOLS: usize> {
    frequencies: Frequencies<SYMBOLS>,
    table: DecodeTable<TABLE, SYMBOLS>,
    values: &'static [Entry],
}

impl<const TABLE: usize, const SYMBOLS: usize> Code<TABLE, SYMBOLS> {
    fn new(interval: u32, values: &'static [Entry]) -> Self {
        Self { frequencies: Frequencies::new(interval), table: DecodeTable::new(), values }
    }

    fn reset(&mut self, count: usize, builder: &mut Builder) {
        self.frequencies.reset(count, builder);
        self.fill_table();
    }

    fn fill_table(&mut self) {
        // A Huffman code over two symbols or more is always complete.
        let built = self.table.build(self.frequencies.lens(), self.values);
        debug_assert!(built.is_ok());
    }

    #[cold]
    #[inline(never)]
    fn rebuild(&mut self, builder: &mut Builder) {
        self.frequencies.rebuild(builder);
        self.fill_table();
    }

    /// Reads one symbol, of which the bits are there, and returns its entry.
    #[inline(always)]
    fn read(&mut self, bits: &mut BackwardBits<'_>, builder: &mut Builder) -> Entry {
        let entry = self.table.lookup_any(bits.bits());
        bits.consume(bit_count(entry));
        if self.frequencies.count((entry >> 16) as usize) {
            self.rebuild(builder);
        }
        entry
    }

    /// Reads a symbol and its extra bits, up to 15 and 30, and returns the value they stand for.
    #[inline(always)]
    fn read_value<const N: usize>(
        &mut self,
        bits: &mut BackwardBits<'_>,
        builder: &mut Builder,
        slots: &Slots<N>,
    ) -> u32 {
        let entry = self.read(bits, builder);
        slots.bases[(entry >> 16) as usize] + bits.take(entry >> 8 & 0xff)
    }
}

/// A delta source: differences over `1 << power` bytes repeat after `offset << power` bytes.
#[derive(Debug, Clone, Copy)]
struct DeltaSource {
    power: u32,
    offset: u32,
}

/// Tables for LZMS chunks; their size does not depend on the chunk size.
pub(crate) struct Decoder {
    literals: Code<1024, LITERALS>,
    lengths: Code<512, LENGTH_SLOTS>,
    lz_offsets: Code<2048, MAX_OFFSET_SLOTS>,
    delta_offsets: Code<2048, MAX_OFFSET_SLOTS>,
    delta_powers: Code<128, POWERS>,
    builder: Builder,
    filter: Filter,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            literals: Code::new(LITERAL_INTERVAL, &LITERAL_VALUES),
            lengths: Code::new(LENGTH_INTERVAL, &LENGTH_VALUES),
            lz_offsets: Code::new(OFFSET_INTERVAL, &OFFSET_VALUES),
            delta_offsets: Code::new(OFFSET_INTERVAL, &OFFSET_VALUES),
            delta_powers: Code::new(POWER_INTERVAL, &LITERAL_VALUES),
            builder: Builder::new(),
            filter: Filter::new(),
        }
    }

    /// Decodes one chunk; `output` is not empty and at most one chunk long.
    pub(crate) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), Fault> {
        if !input.len().is_multiple_of(2) || input.len() < MIN_INPUT {
            return Err(Fault::corrupt(
                0,
                "length of the compressed chunk",
                "even, 4 or more",
                input.len() as u64,
            ));
        }
        let offsets = offset_slot_count(output.len());
        self.literals.reset(LITERALS, &mut self.builder);
        self.lengths.reset(LENGTH_SLOTS, &mut self.builder);
        self.lz_offsets.reset(offsets, &mut self.builder);
        self.delta_offsets.reset(offsets, &mut self.builder);
        self.delta_powers.reset(POWERS, &mut self.builder);
        self.decode_items(input, output)?;
        self.filter.translate(output, Direction::ToRelative);
        Ok(())
    }

    /// Fills `output`, operands of machine code not yet translated back.
    #[inline(never)]
    fn decode_items(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), Fault> {
        // What of these nobody takes the address lives in registers.
        let mut front = RangeDecoder::new(input);
        let mut bits = BackwardBits::new(input);
        let mut decisions = Decisions::NEW;
        let mut lz_sources = Queue::new([1u32, 2, 3, 4]);
        let mut delta_sources = Queue::new([1, 2, 3, 4].map(|offset| DeltaSource { power: 0, offset }));
        let mut pos = 0;
        while pos < output.len() {
            bits.refill()?;
            if !front.decide(&mut decisions.main) {
                let entry = self.literals.read(&mut bits, &mut self.builder);
                output[pos] = (entry >> 16) as u8;
                pos += 1;
                lz_sources.pass();
                delta_sources.pass();
            } else if !front.decide(&mut decisions.kind) {
                // An LZ match. Offset and length take 45 bits each at most.
                let offset = if !front.decide(&mut decisions.lz) {
                    let offset = self.lz_offsets.read_value(&mut bits, &mut self.builder, &OFFSETS);
                    lz_sources.push(offset);
                    offset
                } else {
                    lz_sources.reuse(repeat(&mut front, &mut decisions.lz_repeats))
                };
                delta_sources.pass();
                bits.refill()?;
                let length = self.lengths.read_value(&mut bits, &mut self.builder, &LENGTHS) as usize;
                let offset = offset as usize;
                if offset > pos {
                    let expected = "no more than the bytes produced so far";
                    return Err(Fault::corrupt(bits.position(), "match offset", expected, offset as u64));
                }
                if length > output.len() - pos {
                    return Err(too_long(&bits, length));
                }
                copy_match(output, pos, offset, length);
                pos += length;
            } else {
                // Rare, so kept out of the way. By value: readers whose address is taken would live in memory.
                lz_sources.pass();
                (front, bits, pos) =
                    self.decode_delta(front, bits, output, pos, &mut decisions, &mut delta_sources)?;
            }
        }
        // The two ends may touch, not overlap.
        if front.used() + bits.used() > input.len() { Err(Fault::Exhausted) } else { Ok(()) }
    }

    /// Decodes what follows the decision for a delta match.
    #[inline(never)]
    fn decode_delta<'a>(
        &mut self,
        mut front: RangeDecoder<'a>,
        mut bits: BackwardBits<'a>,
        output: &mut [u8],
        pos: usize,
        decisions: &mut Decisions,
        sources: &mut Queue<DeltaSource>,
    ) -> Result<(RangeDecoder<'a>, BackwardBits<'a>, usize), Fault> {
        let source = if !front.decide(&mut decisions.delta) {
            let power = self.delta_powers.read(&mut bits, &mut self.builder) >> 16;
            bits.refill()?;
            let offset = self.delta_offsets.read_value(&mut bits, &mut self.builder, &OFFSETS);
            let source = DeltaSource { power, offset };
            sources.push(source);
            source
        } else {
            sources.reuse(repeat(&mut front, &mut decisions.delta_repeats))
        };
        bits.refill()?;
        let length = self.lengths.read_value(&mut bits, &mut self.builder, &LENGTHS) as usize;
        if length > output.len() - pos {
            return Err(too_long(&bits, length));
        }
        let reach = u64::from(source.offset + 1) << source.power;
        if reach > pos as u64 {
            let expected = "to reach no further back than the bytes produced so far";
            return Err(Fault::corrupt(bits.position(), "delta match", expected, reach));
        }
        // In bounds: both are at most `reach`.
        let span = 1usize << source.power;
        copy_delta(output, pos, span, (source.offset as usize) << source.power, length);
        Ok((front, bits, pos + length))
    }
}

#[inline(always)]
fn repeat(front: &mut RangeDecoder<'_>, decisions: &mut [super::decisions::Class<64>; 2]) -> usize {
    if !front.decide(&mut decisions[0]) {
        0
    } else if !front.decide(&mut decisions[1]) {
        1
    } else {
        2
    }
}

#[cold]
fn too_long(bits: &BackwardBits<'_>, length: usize) -> Fault {
    Fault::corrupt(bits.position(), "match length", "no more than the bytes still wanted", length as u64)
}

/// Continues differences: `distance` before, bytes differed from those `span` before them as they do here.
/// `distance + span <= pos`, `pos + length` is in `output`.
#[inline(always)]
fn copy_delta(output: &mut [u8], pos: usize, span: usize, distance: usize, length: usize) {
    for at in pos..pos + length {
        let step = output[at - distance].wrapping_sub(output[at - distance - span]);
        output[at] = output[at - span].wrapping_add(step);
    }
}
