//! XPRESS decoder.

use super::{MIN_MATCH, SYMBOLS, TABLE_BYTES};
use crate::decode_table::{Code, DecodeTable, Entry, code_len};
use crate::window::{self, Window};
use crate::word_reader::WordReader;
use crate::{Error, Method};

/// Marks an entry as a literal; the byte stands in bits 8 to 15.
const LITERAL: Entry = 1 << 31;

/// Match length of an entry whose real length follows in bytes.
const LONG_LENGTH: usize = 15 + MIN_MATCH;

/// What the table stores per symbol. Matches: bits of the offset in bits 8 to 11, length in bits 16 to 23.
static VALUES: [Entry; SYMBOLS] = values();

const fn values() -> [Entry; SYMBOLS] {
    let mut values = [0; SYMBOLS];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        let low = symbol as Entry & 0xff;
        values[symbol] = if symbol < 256 {
            LITERAL | low << 8
        } else {
            (low >> 4) << 8 | ((low & 15) + MIN_MATCH as Entry) << 16
        };
        symbol += 1;
    }
    values
}

/// Tables and window for XPRESS chunks.
pub(crate) struct Decoder {
    table: DecodeTable<2048, SYMBOLS>,
    window: Window,
}

impl Decoder {
    pub(crate) fn new(chunk_size: usize) -> Self {
        Self { table: DecodeTable::new(), window: Window::new(chunk_size) }
    }

    /// Decodes one chunk; `output` is not empty and at most one chunk long.
    pub(crate) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), Error> {
        let Some(lens) = input.first_chunk::<TABLE_BYTES>() else {
            return Err(truncated(input));
        };
        let lens: [u8; SYMBOLS] = std::array::from_fn(|symbol| lens[symbol / 2] >> (symbol % 2 * 4) & 15);
        let sum = match self.table.build(&lens, &VALUES) {
            Ok(Code::Complete) => None,
            Ok(Code::Empty) => Some(0),
            Err(incomplete) => Some(incomplete.sum),
        };
        if let Some(found) = sum {
            let what = "sum of code lengths in units of 2^-16";
            return Err(Error::Corrupt { what, offset: 0, expected: "65536", found });
        }
        decode_items(&self.table, input, self.window.open(output.len()))?;
        output.copy_from_slice(self.window.head(output.len()));
        Ok(())
    }
}

fn decode_items(table: &DecodeTable<2048, SYMBOLS>, input: &[u8], window: &mut [u8]) -> Result<(), Error> {
    let limit = window::limit(window);
    let mut reader = WordReader::new(input, TABLE_BYTES);
    let mut pos = 0;
    while pos < limit {
        reader.refill();
        let mut entry = table.lookup(reader.bits());
        if entry & LITERAL != 0 {
            window[pos] = (entry >> 8) as u8;
            pos += 1;
            reader.consume(code_len(entry));
            if pos == limit {
                break;
            }
            entry = table.lookup(reader.bits());
            if entry & LITERAL != 0 {
                window[pos] = (entry >> 8) as u8;
                pos += 1;
                reader.consume(code_len(entry));
                continue;
            }
        }
        if entry == 0 {
            entry = table.lookup_long(reader.bits());
            if entry & LITERAL != 0 {
                window[pos] = (entry >> 8) as u8;
                pos += 1;
                reader.consume(code_len(entry));
                continue;
            }
        }
        // A match: at least 33 bits are left, its symbol and offset take at most 30.
        reader.consume(code_len(entry));
        let mut length = (entry >> 16) as usize;
        if length == LONG_LENGTH {
            length = read_length(&mut reader)?;
            reader.refill();
        }
        let offset_bits = entry >> 8 & 15;
        let offset = (1 << offset_bits | reader.take(offset_bits)) as usize;
        if offset > pos {
            return Err(beyond_start(&reader, offset));
        }
        if length > limit - pos {
            return Err(beyond_end(&reader, length));
        }
        window::copy_match(window, pos, offset, length);
        pos += length;
    }
    if reader.overran() { Err(truncated(input)) } else { Ok(()) }
}

/// Reads the bytes behind a match symbol of the longest length class.
fn read_length(reader: &mut WordReader<'_>) -> Result<usize, Error> {
    reader.rewind_to_interleaved();
    let Some(byte) = reader.byte() else { return Err(truncated(reader.input())) };
    if byte < 255 {
        return Ok(LONG_LENGTH + usize::from(byte));
    }
    let Some(bytes) = reader.bytes() else { return Err(truncated(reader.input())) };
    let value = u16::from_le_bytes(bytes);
    if value < 15 {
        let (what, offset) = ("long match length less 3", reader.position());
        return Err(Error::Corrupt { what, offset, expected: "15 or more", found: u64::from(value) });
    }
    Ok(usize::from(value) + MIN_MATCH)
}

#[cold]
fn truncated(input: &[u8]) -> Error {
    Error::Truncated { method: Method::Xpress, len: input.len() }
}

#[cold]
fn beyond_start(reader: &WordReader<'_>, found: usize) -> Error {
    let (what, expected) = ("match offset", "no more than the bytes produced so far");
    Error::Corrupt { what, offset: reader.position(), expected, found: found as u64 }
}

#[cold]
fn beyond_end(reader: &WordReader<'_>, found: usize) -> Error {
    let (what, expected) = ("match length", "no more than the bytes still wanted");
    Error::Corrupt { what, offset: reader.position(), expected, found: found as u64 }
}
