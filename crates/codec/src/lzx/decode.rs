//! LZX decoder.

use super::calls;
use super::{
    ALIGNED_SYMBOLS, DEFAULT_BLOCK, EXTRA_BITS, FIRST_ALIGNED_SLOT, LENGTH_HEADERS, LENGTH_SYMBOLS, LITERALS,
    MAX_MAIN_SYMBOLS, MIN_MATCH, PRE_SYMBOLS, RECENT_SLOTS, SLOT_BASES, slot_count,
};
use crate::decode_table::{Code, DecodeTable, Entry, Incomplete, code_len};
use crate::window::{self, Window};
use crate::word_reader::WordReader;
use crate::{Error, Method};

/// Marks a main entry as a literal; the byte stands in bits 8 to 15.
const LITERAL: Entry = 1 << 31;

/// What the main table stores per symbol. Matches: extra bits in bits 8 to 12, length in bits 16 to 19, slot in
/// bits 24 to 29.
static MAIN_VALUES: [Entry; MAX_MAIN_SYMBOLS] = main_values();

/// What the other tables store: the symbol in bits 8 and up.
static PLAIN_VALUES: [Entry; LENGTH_SYMBOLS] = plain_values();

/// Match length of a main symbol whose real length is a length symbol more.
const LONG_LENGTH: usize = LENGTH_HEADERS - 1 + MIN_MATCH;

const fn main_values() -> [Entry; MAX_MAIN_SYMBOLS] {
    let mut values = [0; MAX_MAIN_SYMBOLS];
    let mut symbol = 0;
    while symbol < MAX_MAIN_SYMBOLS {
        values[symbol] = if symbol < LITERALS {
            LITERAL | (symbol as Entry) << 8
        } else {
            let slot = (symbol - LITERALS) / LENGTH_HEADERS;
            let length = (symbol - LITERALS) % LENGTH_HEADERS + MIN_MATCH;
            (slot as Entry) << 24 | (length as Entry) << 16 | (EXTRA_BITS[slot] as Entry) << 8
        };
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

/// Tables and window for LZX chunks.
pub(crate) struct Decoder {
    codes: Codes,
    window: Window,
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
        Self { codes, window: Window::new(chunk_size) }
    }

    /// Decodes one chunk; `output` is not empty and at most one chunk long.
    pub(crate) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), Error> {
        let window = self.window.open(output.len());
        let mut reader = WordReader::new(input, 0);
        self.codes.main_lens.fill(0);
        self.codes.length_lens.fill(0);
        let mut recent: Recent = [1; RECENT_SLOTS];
        let mut pos = 0;
        while pos < output.len() {
            pos = self.codes.decode_block(&mut reader, window, pos, &mut recent)?;
            if reader.overran() {
                return Err(Error::Truncated { method: Method::Lzx, len: input.len() });
            }
        }
        let chunk = self.window.head(output.len());
        calls::to_relative(chunk);
        output.copy_from_slice(chunk);
        Ok(())
    }
}

impl Codes {
    /// Decodes the block that starts at `pos` of the chunk and returns where it ends.
    fn decode_block(
        &mut self,
        reader: &mut WordReader<'_>,
        window: &mut [u8],
        pos: usize,
        recent: &mut Recent,
    ) -> Result<usize, Error> {
        let kind = reader.read(3);
        let len = match (reader.read(1), self.wide_block_len) {
            (1, _) => DEFAULT_BLOCK,
            (_, false) => reader.read(16) as usize,
            (_, true) => ((reader.read(16) << 8) | reader.read(8)) as usize,
        };
        if len == 0 || len > window::limit(window) - pos {
            let expected = "1 to the bytes still wanted";
            return Err(corrupt(reader, "block length", expected, len as u64));
        }
        let end = pos + len;
        match kind {
            1 => {
                self.read_codes(reader)?;
                decode_items::<false>(self, reader, &mut window[..], pos, end, recent)?;
            }
            2 => {
                let lens: [u8; ALIGNED_SYMBOLS] = std::array::from_fn(|_| reader.read(3) as u8);
                let code = self.aligned.build(&lens, &PLAIN_VALUES);
                require_complete(reader, "aligned code", code)?;
                self.read_codes(reader)?;
                decode_items::<true>(self, reader, window, pos, end, recent)?;
            }
            3 => copy_uncompressed(reader, &mut window[pos..end], recent)?,
            _ => return Err(corrupt(reader, "block type", "1, 2 or 3", u64::from(kind))),
        }
        Ok(end)
    }

    /// Reads the main code (two lists) and the length code and builds their tables.
    fn read_codes(&mut self, reader: &mut WordReader<'_>) -> Result<(), Error> {
        let (literals, rest) = self.main_lens.split_at_mut(LITERALS);
        read_lens(&mut self.pre, reader, literals)?;
        read_lens(&mut self.pre, reader, &mut rest[..self.main_symbols - LITERALS])?;
        read_lens(&mut self.pre, reader, &mut self.length_lens)?;
        let code = self.main.build(&self.main_lens[..self.main_symbols], &MAIN_VALUES);
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
    reader: &mut WordReader<'_>,
    lens: &mut [u8],
) -> Result<(), Error> {
    let pre_lens: [u8; PRE_SYMBOLS] = std::array::from_fn(|_| reader.read(4) as u8);
    let code = pre.build(&pre_lens, &PLAIN_VALUES);
    require_complete(reader, "pre-code", code)?;
    let mut index = 0;
    while index < lens.len() {
        // One round takes at most 15 + 1 + 15 bits.
        reader.refill();
        let symbol = pre_symbol(pre, reader);
        let (run, len) = match symbol {
            17 => (4 + reader.take(4), 0),
            18 => (20 + reader.take(5), 0),
            19 => {
                let run = 4 + reader.take(1);
                let delta = pre_symbol(pre, reader);
                if delta > 16 {
                    let expected = "a length, 0 to 16";
                    return Err(corrupt(reader, "pre-code symbol in a run", expected, u64::from(delta)));
                }
                (run, new_len(lens[index], delta))
            }
            delta => (1, new_len(lens[index], delta)),
        };
        let Some(slots) = lens[index..].get_mut(..run as usize) else {
            return Err(corrupt(reader, "run of code lengths", "to end inside its list", u64::from(run)));
        };
        slots.fill(len);
        index += run as usize;
    }
    Ok(())
}

fn pre_symbol(pre: &DecodeTable<64, PRE_SYMBOLS>, reader: &mut WordReader<'_>) -> u32 {
    let entry = pre.lookup_any(reader.bits());
    reader.consume(code_len(entry));
    entry >> 8
}

/// The length that `delta` (0 to 16) below `old` stands for, modulo 17.
fn new_len(old: u8, delta: u32) -> u8 {
    ((u32::from(old) + 17 - delta) % 17) as u8
}

/// Decodes items until `end` of the chunk.
fn decode_items<const ALIGNED: bool>(
    codes: &Codes,
    reader: &mut WordReader<'_>,
    window: &mut [u8],
    mut pos: usize,
    end: usize,
    recent: &mut Recent,
) -> Result<(), Error> {
    while pos < end {
        reader.refill();
        let mut entry = codes.main.lookup(reader.bits());
        if entry & LITERAL != 0 {
            window[pos] = (entry >> 8) as u8;
            pos += 1;
            reader.consume(code_len(entry));
            if pos == end {
                break;
            }
            entry = codes.main.lookup(reader.bits());
            if entry & LITERAL != 0 {
                window[pos] = (entry >> 8) as u8;
                pos += 1;
                reader.consume(code_len(entry));
                continue;
            }
            reader.refill();
        }
        if entry == 0 {
            entry = codes.main.lookup_long(reader.bits());
            if entry & LITERAL != 0 {
                window[pos] = (entry >> 8) as u8;
                pos += 1;
                reader.consume(code_len(entry));
                continue;
            }
        }
        // A match: at least 48 bits are left, its symbol takes at most 16.
        reader.consume(code_len(entry));
        let mut length = (entry >> 16 & 15) as usize;
        if length == LONG_LENGTH {
            let symbol = codes.length.lookup_any(reader.bits());
            if symbol == 0 {
                return Err(corrupt(reader, "length code", "not empty, as a match needs it", 0));
            }
            reader.consume(code_len(symbol));
            length += (symbol >> 8) as usize;
            reader.refill();
        }
        // The offset takes at most 17 + 7 bits.
        let slot = (entry >> 24) as usize;
        let offset = if slot < RECENT_SLOTS {
            recent.swap(0, slot);
            recent[0]
        } else {
            let extra_bits = entry >> 8 & 31;
            let extra = if ALIGNED && slot >= FIRST_ALIGNED_SLOT {
                let high = reader.take(extra_bits - 3);
                let low = codes.aligned.lookup_any(reader.bits());
                reader.consume(code_len(low));
                (high << 3) + (low >> 8)
            } else {
                reader.take(extra_bits)
            };
            let offset = SLOT_BASES[slot] + extra;
            *recent = [offset, recent[0], recent[1]];
            offset
        } as usize;
        if offset > pos {
            let expected = "no more than the bytes produced so far";
            return Err(corrupt(reader, "match offset", expected, offset as u64));
        }
        if length > end - pos {
            let expected = "no more than what is left of the block";
            return Err(corrupt(reader, "match length", expected, length as u64));
        }
        window::copy_match(window, pos, offset, length);
        pos += length;
    }
    Ok(())
}

/// Copies an uncompressed block and takes over its recent offsets.
fn copy_uncompressed(reader: &mut WordReader<'_>, to: &mut [u8], recent: &mut Recent) -> Result<(), Error> {
    reader.align_past_word();
    for offset in recent.iter_mut() {
        let Some(bytes) = reader.bytes() else { return Err(missing(reader, 4)) };
        *offset = u32::from_le_bytes(bytes);
        if *offset == 0 {
            return Err(corrupt(reader, "recent offset of an uncompressed block", "1 or more", 0));
        }
    }
    let Some(bytes) = reader.slice(to.len()) else { return Err(missing(reader, to.len())) };
    to.copy_from_slice(bytes);
    if !to.len().is_multiple_of(2) {
        // The last padding byte of a chunk may be missing.
        let _ = reader.byte();
    }
    Ok(())
}

fn require_complete(
    reader: &WordReader<'_>,
    what: &'static str,
    code: Result<Code, Incomplete>,
) -> Result<(), Error> {
    let found = match code {
        Ok(Code::Complete) => return Ok(()),
        Ok(Code::Empty) => 0,
        Err(incomplete) => incomplete.sum,
    };
    Err(corrupt(reader, what, "lengths that sum to 65536 in units of 2^-16", found))
}

#[cold]
fn corrupt(reader: &WordReader<'_>, what: &'static str, expected: &'static str, found: u64) -> Error {
    Error::Corrupt { what, offset: reader.position(), expected, found }
}

#[cold]
fn missing(reader: &WordReader<'_>, wanted: usize) -> Error {
    corrupt(reader, "uncompressed block", "its bytes in the input", wanted as u64)
}
