//! LZX decoder.

use std::hint::select_unpredictable;

use super::calls;
use super::reader::BitReader;
use super::{
    ALIGNED_SYMBOLS, DEFAULT_BLOCK, EXTRA_BITS, FIRST_ALIGNED_SLOT, LENGTH_HEADERS, LENGTH_SYMBOLS, LITERALS,
    MAX_MAIN_SYMBOLS, MAX_SLOTS, MIN_MATCH, PRE_SYMBOLS, RECENT_SLOTS, SLOT_BASES, slot_count,
};
use crate::copying::copy_match;
use crate::decode_table::{Code, DecodeTable, Entry, Incomplete, bit_count};
use crate::error::Fault;
use crate::padded::PaddedInput;

/// Marks a main entry as a literal; the byte stands in bits 8 to 15.
const LITERAL: Entry = 1 << 31;

/// Marks a main entry whose real length is a length symbol more.
const LONG_LENGTH: Entry = 1 << 30;

/// Marks a main entry whose last three offset bits come from the aligned code.
const ALIGNED: Entry = 1 << 29;

/// What the main table stores per symbol in a verbatim and in an aligned block.
///
/// Literals: the byte in bits 8 to 15. Matches: the plain offset bits that follow the codeword in bits 8 to 12 and
/// (unless a length symbol comes between) also added to the bit count, length in bits 13 to 16, slot in bits 17 to
/// 22.
static MAIN_VALUES: [[Entry; MAX_MAIN_SYMBOLS]; 2] = [main_values(false), main_values(true)];

/// What the other tables store: the symbol in bits 8 and up.
static PLAIN_VALUES: [Entry; LENGTH_SYMBOLS] = plain_values();

const fn main_values(aligned: bool) -> [Entry; MAX_MAIN_SYMBOLS] {
    let mut values = [0; MAX_MAIN_SYMBOLS];
    let mut symbol = 0;
    while symbol < LITERALS {
        values[symbol] = LITERAL | (symbol as Entry) << 8;
        symbol += 1;
    }
    while symbol < MAX_MAIN_SYMBOLS {
        let slot = (symbol - LITERALS) / LENGTH_HEADERS;
        let header = (symbol - LITERALS) % LENGTH_HEADERS;
        let mut value = (slot as Entry) << 17 | ((header + MIN_MATCH) as Entry) << 13;
        let mut bits = EXTRA_BITS[slot] as Entry;
        if aligned && slot >= FIRST_ALIGNED_SLOT {
            bits -= 3;
            value |= ALIGNED;
        }
        value |= bits << 8;
        if header == LENGTH_HEADERS - 1 {
            value |= LONG_LENGTH;
        } else {
            value |= bits;
        }
        values[symbol] = value;
        symbol += 1;
    }
    values
}

const fn plain_values() -> [Entry; LENGTH_SYMBOLS] {
    let mut values = [0; LENGTH_SYMBOLS];
    let mut symbol = 0;
    while symbol < LENGTH_SYMBOLS {
        values[symbol] = (symbol as Entry) << 8;
        symbol += 1;
    }
    values
}

/// [`SLOT_BASES`], padded so that six bits of an entry index it.
static BASES: [u32; 64] = {
    let mut bases = [0; 64];
    let mut slot = 0;
    while slot < MAX_SLOTS {
        bases[slot] = SLOT_BASES[slot];
        slot += 1;
    }
    bases
};

/// Tables and input buffer for LZX chunks.
pub(crate) struct Decoder {
    codes: Codes,
    padded: PaddedInput,
}

/// The codes of a chunk; the length lists persist from block to block as reference for the next.
struct Codes {
    main: DecodeTable<2048, MAX_MAIN_SYMBOLS>,
    length: DecodeTable<512, LENGTH_SYMBOLS>,
    aligned: DecodeTable<128, ALIGNED_SYMBOLS>,
    pre: DecodeTable<64, PRE_SYMBOLS>,
    main_lens: [u8; MAX_MAIN_SYMBOLS],
    length_lens: [u8; LENGTH_SYMBOLS],
    main_symbols: usize,
    /// Whether the explicit block length has 24 bits rather than 16.
    wide_block_len: bool,
}

/// R0, R1 and R2.
type Recent = [u32; RECENT_SLOTS];

impl Decoder {
    pub(crate) fn new(chunk_size: usize) -> Self {
        let codes = Codes {
            main: DecodeTable::new(),
            length: DecodeTable::new(),
            aligned: DecodeTable::new(),
            pre: DecodeTable::new(),
            main_lens: [0; MAX_MAIN_SYMBOLS],
            length_lens: [0; LENGTH_SYMBOLS],
            main_symbols: LITERALS + LENGTH_HEADERS * slot_count(chunk_size),
            wide_block_len: chunk_size > DEFAULT_BLOCK,
        };
        Self { codes, padded: PaddedInput::new(chunk_size) }
    }

    /// Decodes one chunk; `output` is not empty and at most one chunk long.
    pub(crate) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), Fault> {
        self.decode_blocks(input, output)?;
        calls::to_relative(output);
        Ok(())
    }

    /// Fills `output`, calls not yet translated back.
    fn decode_blocks(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), Fault> {
        let mut reader = BitReader::new(self.padded.load_swapped(input));
        self.codes.main_lens.fill(0);
        self.codes.length_lens.fill(0);
        let mut recent: Recent = [1; RECENT_SLOTS];
        let mut pos = 0;
        while pos < output.len() {
            pos = self.codes.decode_block(input, &mut reader, output, pos, &mut recent)?;
            if reader.overran() {
                return Err(Fault::Exhausted);
            }
        }
        Ok(())
    }
}

impl Codes {
    /// Decodes the block that starts at `pos` of the chunk and returns where it ends.
    fn decode_block(
        &mut self,
        input: &[u8],
        reader: &mut BitReader<'_>,
        output: &mut [u8],
        pos: usize,
        recent: &mut Recent,
    ) -> Result<usize, Fault> {
        let kind = reader.read(3)?;
        let len = match (reader.read(1)?, self.wide_block_len) {
            (1, _) => DEFAULT_BLOCK,
            (_, false) => reader.read(16)? as usize,
            (_, true) => reader.read(24)? as usize,
        };
        if len == 0 || len > output.len() - pos {
            return Err(Fault::corrupt(
                reader.position(),
                "block length",
                "1 to the bytes still wanted",
                len as u64,
            ));
        }
        let end = pos + len;
        match kind {
            1 => self.read_codes(reader, &MAIN_VALUES[0])?,
            2 => {
                let mut lens = [0; ALIGNED_SYMBOLS];
                for len in &mut lens {
                    *len = reader.read(3)? as u8;
                }
                let code = self.aligned.build(&lens, &PLAIN_VALUES);
                require_complete(reader, "aligned code", code)?;
                self.read_codes(reader, &MAIN_VALUES[1])?;
            }
            3 => {
                copy_uncompressed(input, reader, &mut output[pos..end], recent)?;
                return Ok(end);
            }
            _ => return Err(Fault::corrupt(reader.position(), "block type", "1, 2 or 3", u64::from(kind))),
        }
        decode_items(self, reader, output, pos, end, recent)?;
        Ok(end)
    }

    /// Reads the main code (two lists) and the length code and builds their tables.
    fn read_codes(&mut self, reader: &mut BitReader<'_>, values: &[Entry]) -> Result<(), Fault> {
        let (literals, rest) = self.main_lens.split_at_mut(LITERALS);
        read_lens(&mut self.pre, reader, literals)?;
        read_lens(&mut self.pre, reader, &mut rest[..self.main_symbols - LITERALS])?;
        read_lens(&mut self.pre, reader, &mut self.length_lens)?;
        let code = self.main.build(&self.main_lens[..self.main_symbols], values);
        require_complete(reader, "main code", code)?;
        match self.length.build(&self.length_lens, &PLAIN_VALUES) {
            Ok(Code::Complete | Code::Empty) => Ok(()),
            incomplete => require_complete(reader, "length code", incomplete),
        }
    }
}

/// Reads one list of code lengths; `lens` holds the old values and receives the new ones.
fn read_lens(
    pre: &mut DecodeTable<64, PRE_SYMBOLS>,
    reader: &mut BitReader<'_>,
    lens: &mut [u8],
) -> Result<(), Fault> {
    let mut pre_lens = [0; PRE_SYMBOLS];
    for len in &mut pre_lens {
        *len = reader.read(4)? as u8;
    }
    let code = pre.build(&pre_lens, &PLAIN_VALUES);
    require_complete(reader, "pre-code", code)?;
    let mut index = 0;
    while index < lens.len() {
        // One round takes at most 15 + 1 + 15 bits.
        reader.refill()?;
        let (run, len) = match pre_symbol(pre, reader) {
            17 => (4 + reader.take(4), 0),
            18 => (20 + reader.take(5), 0),
            19 => {
                let run = 4 + reader.take(1);
                let delta = pre_symbol(pre, reader);
                if delta > 16 {
                    let expected = "a length, 0 to 16";
                    return Err(Fault::corrupt(
                        reader.position(),
                        "pre-code symbol in a run",
                        expected,
                        u64::from(delta),
                    ));
                }
                (run, new_len(lens[index], delta))
            }
            delta => {
                lens[index] = new_len(lens[index], delta);
                index += 1;
                continue;
            }
        };
        let Some(slots) = lens[index..].get_mut(..run as usize) else {
            return Err(Fault::corrupt(
                reader.position(),
                "run of code lengths",
                "to end inside its list",
                u64::from(run),
            ));
        };
        slots.fill(len);
        index += run as usize;
    }
    Ok(())
}

#[inline(always)]
fn pre_symbol(pre: &DecodeTable<64, PRE_SYMBOLS>, reader: &mut BitReader<'_>) -> u32 {
    let entry = pre.lookup_any(reader.bits());
    reader.consume(bit_count(entry));
    entry >> 8
}

/// The length that `delta` (0 to 16) below `old` stands for, modulo 17.
#[inline(always)]
fn new_len(old: u8, delta: u32) -> u8 {
    let below = u32::from(old).wrapping_sub(delta);
    (if below > 16 { below.wrapping_add(17) } else { below }) as u8
}

/// Decodes items until `end` of the chunk.
#[inline(never)]
fn decode_items(
    codes: &Codes,
    shared: &mut BitReader<'_>,
    output: &mut [u8],
    mut pos: usize,
    end: usize,
    recent: &mut Recent,
) -> Result<(), Fault> {
    // A copy of which nobody takes the address lives in registers.
    let mut reader = *shared;
    let main = &codes.main;
    let [mut r0, mut r1, mut r2] = *recent;
    reader.refill()?;
    // The entry of the next symbol is always looked up before the refill, which does not change the top bits.
    let mut entry = main.lookup(reader.bits());
    while pos < end {
        reader.refill()?;
        if entry & LITERAL != 0 {
            output[pos] = (entry >> 8) as u8;
            pos += 1;
            reader.consume(bit_count(entry));
            entry = main.lookup(reader.bits());
            if pos == end {
                break;
            }
            if entry & LITERAL != 0 {
                output[pos] = (entry >> 8) as u8;
                pos += 1;
                reader.consume(bit_count(entry));
                entry = main.lookup(reader.bits());
                continue;
            }
        }
        if entry == 0 {
            entry = main.lookup_long(reader.bits());
            if entry & LITERAL != 0 {
                output[pos] = (entry >> 8) as u8;
                pos += 1;
                reader.consume(bit_count(entry));
                entry = main.lookup(reader.bits());
                continue;
            }
        }
        // A match: at least 56 bits are left. Its symbol takes at most 16, the offset 17 + 7.
        let mut length = (entry >> 13 & 15) as usize;
        let plain_bits = entry >> 8 & 31;
        let mut bits = reader.bits();
        let mut used = bit_count(entry);
        if entry & LONG_LENGTH != 0 {
            reader.consume(used);
            let symbol = codes.length.lookup_any(reader.bits());
            if symbol == 0 {
                return Err(Fault::corrupt(
                    reader.position(),
                    "length code",
                    "not empty, as a match needs it",
                    0,
                ));
            }
            reader.consume(bit_count(symbol));
            length += (symbol >> 8) as usize;
            reader.refill()?;
            bits = reader.bits();
            used = plain_bits;
        }
        reader.consume(used);
        let mut extra = (bits >> 1 >> (63 - used)) as u32 & ((1 << plain_bits) - 1);
        if entry & ALIGNED != 0 {
            let low = codes.aligned.lookup_any(reader.bits());
            reader.consume(bit_count(low));
            extra = (extra << 3) + (low >> 8);
        }
        let slot = entry >> 17 & 63;
        let explicit = BASES[slot as usize] + extra;
        // Which slot it is cannot be foreseen, so no branches: 0 keeps the queue, 1 and 2 swap, others push.
        let (is_r1, is_r2, is_explicit) = (slot == 1, slot == 2, slot >= RECENT_SLOTS as u32);
        let offset = select_unpredictable(is_r1, r1, r0);
        let offset = select_unpredictable(is_r2, r2, offset);
        let offset = select_unpredictable(is_explicit, explicit, offset);
        let pushed = select_unpredictable(is_explicit, r1, r2);
        r2 = select_unpredictable(is_r2, r0, pushed);
        r1 = select_unpredictable(is_r1 | is_explicit, r0, r1);
        r0 = offset;
        entry = main.lookup(reader.bits());
        let offset = offset as usize;
        if offset > pos {
            let expected = "no more than the bytes produced so far";
            return Err(Fault::corrupt(reader.position(), "match offset", expected, offset as u64));
        }
        if length > end - pos {
            let expected = "no more than what is left of the block";
            return Err(Fault::corrupt(reader.position(), "match length", expected, length as u64));
        }
        copy_match(output, pos, offset, length);
        pos += length;
    }
    *recent = [r0, r1, r2];
    *shared = reader;
    Ok(())
}

/// Copies an uncompressed block from `input` and takes over its recent offsets.
fn copy_uncompressed(
    input: &[u8],
    reader: &mut BitReader<'_>,
    to: &mut [u8],
    recent: &mut Recent,
) -> Result<(), Fault> {
    let mut pos = reader.next_boundary();
    for offset in recent.iter_mut() {
        let bytes = input.get(pos..).and_then(<[u8]>::first_chunk::<4>).ok_or(Fault::Exhausted)?;
        *offset = u32::from_le_bytes(*bytes);
        if *offset == 0 {
            return Err(Fault::corrupt(
                reader.position(),
                "recent offset of an uncompressed block",
                "1 or more",
                0,
            ));
        }
        pos += 4;
    }
    let bytes = input.get(pos..).and_then(|rest| rest.get(..to.len())).ok_or(Fault::Exhausted)?;
    to.copy_from_slice(bytes);
    pos += to.len();
    // The padding byte after an odd length may be missing at the end of the chunk.
    reader.jump(if pos < input.len() { pos + pos % 2 } else { pos - pos % 2 });
    Ok(())
}

fn require_complete(
    reader: &BitReader<'_>,
    what: &'static str,
    code: Result<Code, Incomplete>,
) -> Result<(), Fault> {
    let found = match code {
        Ok(Code::Complete) => return Ok(()),
        Ok(Code::Empty) => 0,
        Err(incomplete) => incomplete.sum,
    };
    Err(Fault::corrupt(reader.position(), what, "lengths that sum to 65536 in units of 2^-16", found))
}
