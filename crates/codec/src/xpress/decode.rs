//! XPRESS decoder.

use super::reader::WordReader;
use super::{MIN_MATCH, SYMBOLS, TABLE_BYTES};
use crate::copying::copy_match;
use crate::decode_table::{Code, DecodeTable, Entry, bit_count};
use crate::error::Fault;
use crate::padded::PaddedInput;

/// Marks an entry as a literal; the byte stands in bits 8 to 15.
const LITERAL: Entry = 1 << 31;

/// Marks a match whose real length follows in bytes.
const LONG_LENGTH: Entry = 1 << 30;

/// What the table stores per symbol. Matches: bits of the offset in bits 8 to 11 and (unless length bytes come
/// between) also added to the bit count, length in bits 16 to 23.
static VALUES: [Entry; SYMBOLS] = values();

const fn values() -> [Entry; SYMBOLS] {
    let mut values = [0; SYMBOLS];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        let low = symbol as Entry & 0xff;
        let (offset_bits, length_class) = (low >> 4, low & 15);
        values[symbol] = if symbol < 256 {
            LITERAL | low << 8
        } else if length_class == 15 {
            LONG_LENGTH | offset_bits << 8
        } else {
            (length_class + MIN_MATCH as Entry) << 16 | offset_bits << 8 | offset_bits
        };
        symbol += 1;
    }
    values
}

/// Table and input buffer for XPRESS chunks.
pub(crate) struct Decoder {
    table: DecodeTable<2048, SYMBOLS>,
    padded: PaddedInput,
}

impl Decoder {
    pub(crate) fn new(chunk_size: usize) -> Self {
        Self { table: DecodeTable::new(), padded: PaddedInput::new(chunk_size) }
    }

    /// Decodes one chunk; `output` is not empty and at most one chunk long.
    pub(crate) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), Fault> {
        // The format starts with two words behind the code, whether or not they hold much.
        let lens = input.first_chunk::<TABLE_BYTES>().ok_or(Fault::Exhausted)?;
        if input.len() < TABLE_BYTES + 4 {
            return Err(Fault::Exhausted);
        }
        let lens: [u8; SYMBOLS] = std::array::from_fn(|symbol| lens[symbol / 2] >> (symbol % 2 * 4) & 15);
        let found = match self.table.build(&lens, &VALUES) {
            Ok(Code::Complete) => {
                return decode_items(&self.table, self.padded.load(input), output);
            }
            Ok(Code::Empty) => 0,
            Err(incomplete) => incomplete.sum,
        };
        Err(Fault::corrupt(0, "code", "lengths that sum to 65536 in units of 2^-16", found))
    }
}

#[inline(never)]
fn decode_items(table: &DecodeTable<2048, SYMBOLS>, padded: &[u8], output: &mut [u8]) -> Result<(), Fault> {
    let limit = output.len();
    let mut reader = WordReader::new(padded, TABLE_BYTES);
    let mut pos = 0;
    reader.refill()?;
    // The entry of the next symbol is always looked up before the refill, which does not change the top bits.
    let mut entry = table.lookup(reader.bits());
    while pos < limit {
        reader.refill()?;
        if entry & LITERAL != 0 {
            output[pos] = (entry >> 8) as u8;
            pos += 1;
            reader.consume(bit_count(entry));
            entry = table.lookup(reader.bits());
            if pos == limit {
                break;
            }
            if entry & LITERAL != 0 {
                output[pos] = (entry >> 8) as u8;
                pos += 1;
                reader.consume(bit_count(entry));
                entry = table.lookup(reader.bits());
                continue;
            }
        }
        if entry == 0 {
            entry = table.lookup_long(reader.bits());
            if entry & LITERAL != 0 {
                output[pos] = (entry >> 8) as u8;
                pos += 1;
                reader.consume(bit_count(entry));
                entry = table.lookup(reader.bits());
                continue;
            }
        }
        // A match: at least 33 bits are left, its symbol and offset take at most 30.
        let mut length = (entry >> 16 & 31) as usize;
        let offset_bits = entry >> 8 & 15;
        let mut used = bit_count(entry);
        if entry & LONG_LENGTH != 0 {
            reader.consume(used);
            (reader, length) = read_length(reader)?;
            reader.refill()?;
            used = offset_bits;
        }
        let top = 1u32 << offset_bits;
        let offset = ((reader.bits() >> 1 >> (63 - used)) as u32 & (top - 1) | top) as usize;
        reader.consume(used);
        entry = table.lookup(reader.bits());
        if offset > pos {
            let expected = "no more than the bytes produced so far";
            return Err(Fault::corrupt(reader.position(), "match offset", expected, offset as u64));
        }
        if length > limit - pos {
            let expected = "no more than the bytes still wanted";
            return Err(Fault::corrupt(reader.position(), "match length", expected, length as u64));
        }
        copy_match(output, pos, offset, length);
        pos += length;
    }
    if reader.overran() { Err(Fault::Exhausted) } else { Ok(()) }
}

/// Reads the bytes behind a match symbol of the longest length class. Returns the reader instead of changing it, as
/// one whose address is taken would live in memory.
#[inline(never)]
fn read_length(mut reader: WordReader<'_>) -> Result<(WordReader<'_>, usize), Fault> {
    const LEAST: usize = 15;
    reader.rewind_to_bytes();
    let byte = reader.byte()?;
    if byte < 255 {
        return Ok((reader, LEAST + usize::from(byte) + MIN_MATCH));
    }
    let value = usize::from(u16::from_le_bytes([reader.byte()?, reader.byte()?]));
    if value < LEAST {
        let expected = "15 or more in its long form";
        return Err(Fault::corrupt(reader.position(), "match length less 3", expected, value as u64));
    }
    Ok((reader, value + MIN_MATCH))
}
