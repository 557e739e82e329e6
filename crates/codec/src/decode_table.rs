//! Decoding of canonical prefix codes: a direct table for short codewords, a canonical search for long ones.
//!
//! Codewords are assigned by length, then symbol, and arrive most significant bit first; so each one owns a
//! contiguous range of the direct table and filling it is one sequential sweep.

/// Longest codeword of any code here.
pub(crate) const MAX_CODE_LEN: usize = 16;

/// A decoded entry: the codeword length in the low 8 bits, above it whatever the codec stored for the symbol.
/// Zero stands in the direct table for "codeword longer than the table" and is never a valid entry.
pub(crate) type Entry = u32;

/// Bits of an [`Entry`] that hold the codeword length.
const LEN_MASK: Entry = 0xff;

/// Codeword length of `entry` in bits.
#[inline(always)]
pub(crate) fn bit_count(entry: Entry) -> u32 {
    entry & LEN_MASK
}

/// What a list of code lengths amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Complete,
    /// No symbol is used; every lookup gives zero.
    Empty,
}

/// The lengths over- or under-subscribe the code space; `sum` is in units of 2^-16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incomplete {
    pub(crate) sum: u64,
}

/// Table of `1 << log2(SIZE)` direct entries for a code of up to `SYMBOLS` symbols.
#[derive(Clone)]
pub(crate) struct DecodeTable<const SIZE: usize, const SYMBOLS: usize> {
    direct: [Entry; SIZE],
    /// Entries in order of length, then symbol: unused symbols first, behind them the others in codeword order.
    sorted: [Entry; SYMBOLS],
    /// For each length, the first 16-bit left-aligned codeword that is longer.
    limits: [u32; MAX_CODE_LEN + 1],
    /// For each length, the index in `sorted` of its first codeword less that codeword's value (wrapping).
    bases: [u32; MAX_CODE_LEN + 1],
}

impl<const SIZE: usize, const SYMBOLS: usize> DecodeTable<SIZE, SYMBOLS> {
    const BITS: usize = SIZE.trailing_zeros() as usize;

    pub(crate) fn new() -> Self {
        const { assert!(SIZE.is_power_of_two() && SIZE >= 2 && SIZE <= 1 << MAX_CODE_LEN) };
        Self {
            direct: [0; SIZE],
            sorted: [0; SYMBOLS],
            limits: [0; MAX_CODE_LEN + 1],
            bases: [0; MAX_CODE_LEN + 1],
        }
    }

    /// Builds the table from `lens`, one codeword length (0 to 16) per symbol; `values` gives what to store for
    /// each symbol, its low 8 bits zero.
    pub(crate) fn build(&mut self, lens: &[u8], values: &[Entry]) -> Result<Code, Incomplete> {
        let counts = count_lens(lens);
        let unused = counts[0];
        let mut next = [0u32; MAX_CODE_LEN + 1];
        let mut index = unused;
        let mut code = 0u32; // left-aligned in 16 bits
        for len in 1..=MAX_CODE_LEN {
            next[len] = index;
            self.bases[len] = index.wrapping_sub(code >> (MAX_CODE_LEN - len));
            index += counts[len];
            code += counts[len] << (MAX_CODE_LEN - len);
            self.limits[len] = code;
        }
        if index == unused {
            self.direct.fill(0);
            return Ok(Code::Empty);
        }
        if code != 1 << MAX_CODE_LEN {
            return Err(Incomplete { sum: u64::from(code) });
        }
        for (&len, &value) in lens.iter().zip(values) {
            // `next` counts the symbols of this very list, so the index is below their number. Unused symbols are
            // sorted, too: whether one is used cannot be foreseen, and a wrong guess costs more than the store.
            let next = &mut next[usize::from(len & 31).min(MAX_CODE_LEN)];
            self.sorted[*next as usize] = value + Entry::from(len);
            *next += 1;
        }
        self.fill_direct(&counts);
        Ok(Code::Complete)
    }

    fn fill_direct(&mut self, counts: &[u32; MAX_CODE_LEN + 1]) {
        let mut symbols = &self.sorted[counts[0] as usize..];
        let mut table = &mut self.direct[..];
        for (len, &count) in counts.iter().enumerate().take(Self::BITS + 1).skip(1) {
            let (now, later) = symbols.split_at(count as usize);
            let (fill, rest) = std::mem::take(&mut table).split_at_mut(now.len() << (Self::BITS - len));
            match Self::BITS - len {
                0 => fill.copy_from_slice(now),
                1 => fill_runs::<2>(fill, now),
                2 => fill_runs::<4>(fill, now),
                3 => fill_runs::<8>(fill, now),
                shift => {
                    for (run, &entry) in fill.chunks_exact_mut(1 << shift).zip(now) {
                        run.fill(entry);
                    }
                }
            }
            symbols = later;
            table = rest;
        }
        table.fill(0);
    }

    /// Entry of the codeword on top of `bits`, or zero if it is longer than the direct table.
    #[inline(always)]
    pub(crate) fn lookup(&self, bits: u64) -> Entry {
        self.direct[(bits >> (64 - Self::BITS)) as usize]
    }

    /// Entry of the codeword on top of `bits` after [`Self::lookup`] gave zero. Zero again only for an empty code.
    #[inline(never)]
    pub(crate) fn lookup_long(&self, bits: u64) -> Entry {
        let code = (bits >> (64 - MAX_CODE_LEN)) as u32;
        for len in Self::BITS + 1..=MAX_CODE_LEN {
            if code < self.limits[len] {
                let index = self.bases[len].wrapping_add(code >> (MAX_CODE_LEN - len));
                return self.sorted.get(index as usize).copied().unwrap_or(0);
            }
        }
        0
    }

    /// Entry of the codeword on top of `bits`, whatever its length.
    #[inline(always)]
    pub(crate) fn lookup_any(&self, bits: u64) -> Entry {
        match self.lookup(bits) {
            0 => self.lookup_long(bits),
            entry => entry,
        }
    }
}

/// Writes each entry `RUN` times; a constant length lets the compiler store it in one or two moves.
#[inline(always)]
fn fill_runs<const RUN: usize>(fill: &mut [Entry], entries: &[Entry]) {
    for (run, &entry) in fill.as_chunks_mut::<RUN>().0.iter_mut().zip(entries) {
        *run = [entry; RUN];
    }
}

/// How often each length 0 to 16 occurs. Four counters in turn, as equal neighbours would wait for each other.
fn count_lens(lens: &[u8]) -> [u32; MAX_CODE_LEN + 1] {
    let mut lanes = [[0u16; 32]; 4];
    let (groups, rest) = lens.as_chunks::<4>();
    for group in groups {
        for (lane, len) in lanes.iter_mut().zip(group) {
            lane[usize::from(len & 31)] += 1;
        }
    }
    for len in rest {
        lanes[0][usize::from(len & 31)] += 1;
    }
    std::array::from_fn(|len| lanes.iter().map(|lane| u32::from(lane[len])).sum())
}
