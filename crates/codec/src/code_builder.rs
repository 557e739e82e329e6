//! Length-limited canonical prefix codes from symbol frequencies, for the encoders.

use crate::decode_table::MAX_CODE_LEN;

/// Most symbols of any alphabet here: the LZX main code at 2 MiB.
const MAX_SYMBOLS: usize = 656;

/// A codeword: its bits in the low half, its length in the high half; zero for an unused symbol.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Codeword(u32);

impl Codeword {
    fn new(bits: u32, len: u32) -> Self {
        Self(len << 16 | bits)
    }

    #[inline(always)]
    pub(crate) fn bits(self) -> u32 {
        self.0 & 0xffff
    }

    #[inline(always)]
    pub(crate) fn len(self) -> u32 {
        self.0 >> 16
    }
}

/// Working memory of [`CodeBuilder::lens`], reused from code to code.
#[derive(Debug)]
pub(crate) struct CodeBuilder {
    /// Used symbols by ascending frequency: frequency above the low ten bits, symbol in them.
    leaves: Box<[u64; MAX_SYMBOLS]>,
    /// Weights of inner nodes in the order of their making, which is ascending.
    weights: Box<[u64; MAX_SYMBOLS]>,
    /// Parent of each inner node; then, from the root down, its depth.
    parents: Box<[u16; MAX_SYMBOLS]>,
}

/// Bits of a leaf that hold the symbol.
const SYMBOL_BITS: u32 = 10;

impl CodeBuilder {
    pub(crate) fn new() -> Self {
        Self {
            leaves: Box::new([0; MAX_SYMBOLS]),
            weights: Box::new([0; MAX_SYMBOLS]),
            parents: Box::new([0; MAX_SYMBOLS]),
        }
    }

    /// Sets `lens` to codeword lengths for `freqs`: a complete code of at most `max_len` bits in which every symbol
    /// with a frequency above zero has a codeword. A single used symbol gets an unused one for company. With no
    /// symbol used all lengths are zero.
    pub(crate) fn lens(&mut self, freqs: &[u32], max_len: usize, lens: &mut [u8]) {
        lens.fill(0);
        let mut used = 0;
        for (symbol, &freq) in freqs.iter().enumerate() {
            if freq != 0 {
                self.leaves[used] = u64::from(freq) << SYMBOL_BITS | symbol as u64;
                used += 1;
            }
        }
        match used {
            0 => {}
            1 => {
                let symbol = self.symbol(0);
                lens[symbol] = 1;
                lens[usize::from(symbol == 0)] = 1;
            }
            _ => {
                self.leaves[..used].sort_unstable();
                let mut counts = self.leaves_per_depth(used, max_len);
                shorten(&mut counts, max_len);
                let mut next = 0;
                for len in (1..=max_len).rev() {
                    for _ in 0..counts[len] {
                        lens[self.symbol(next)] = len as u8;
                        next += 1;
                    }
                }
            }
        }
    }

    fn symbol(&self, leaf: usize) -> usize {
        (self.leaves[leaf] & ((1 << SYMBOL_BITS) - 1)) as usize
    }

    /// Builds the Huffman tree and counts its leaves per depth, the too deep ones at `max_len`.
    fn leaves_per_depth(&mut self, used: usize, max_len: usize) -> [u32; MAX_CODE_LEN + 1] {
        // Two queues, both ascending: leaves, and inner nodes in the order of their making.
        let inner = used - 1;
        let (mut leaf, mut oldest) = (0, 0);
        // Of each inner node, how many of its children are leaves.
        let mut leaf_children = [0u8; MAX_SYMBOLS];
        for (made, leaf_children) in leaf_children.iter_mut().enumerate().take(inner) {
            let mut weight = 0;
            for _ in 0..2 {
                let take_leaf = leaf < used
                    && (oldest == made || self.leaves[leaf] >> SYMBOL_BITS <= self.weights[oldest]);
                if take_leaf {
                    weight += self.leaves[leaf] >> SYMBOL_BITS;
                    *leaf_children += 1;
                    leaf += 1;
                } else {
                    weight += self.weights[oldest];
                    self.parents[oldest] = made as u16;
                    oldest += 1;
                }
            }
            self.weights[made] = weight;
        }
        let mut counts = [0; MAX_CODE_LEN + 1];
        let depths = &mut self.parents;
        depths[inner - 1] = 0;
        for node in (0..inner).rev() {
            if node + 1 < inner {
                depths[node] = depths[usize::from(depths[node])] + 1;
            }
            let depth = usize::from(depths[node]) + 1;
            counts[depth.min(max_len)] += u32::from(leaf_children[node]);
        }
        counts
    }
}

/// Turns leaf counts whose deepest level was cut at `max_len` into those of a complete code.
fn shorten(counts: &mut [u32; MAX_CODE_LEN + 1], max_len: usize) {
    let mut sum: u64 = (1..=max_len).map(|len| u64::from(counts[len]) << (max_len - len)).sum();
    while sum > 1 << max_len {
        // One leaf goes a level down and takes one of the deepest beside it: one unit less.
        let Some(len) = (1..max_len).rev().find(|&len| counts[len] > 0) else { return };
        counts[len] -= 1;
        counts[len + 1] += 2;
        counts[max_len] -= 1;
        sum -= 1;
    }
}

/// Sets `words` to the canonical codewords for `lens`.
pub(crate) fn codewords(lens: &[u8], words: &mut [Codeword]) {
    let mut counts = [0u32; MAX_CODE_LEN + 1];
    for &len in lens {
        counts[usize::from(len)] += 1;
    }
    counts[0] = 0;
    let mut next = [0u32; MAX_CODE_LEN + 1];
    for len in 1..=MAX_CODE_LEN {
        next[len] = (next[len - 1] + counts[len - 1]) << 1;
    }
    for (word, &len) in words.iter_mut().zip(lens) {
        *word = if len == 0 {
            Codeword::default()
        } else {
            let bits = next[usize::from(len)];
            next[usize::from(len)] += 1;
            Codeword::new(bits, u32::from(len))
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sum over the used symbols of 2^-len, in units of 2^-16.
    fn kraft(lens: &[u8]) -> u64 {
        lens.iter().filter(|&&len| len != 0).map(|&len| 1 << (16 - len)).sum()
    }

    #[test]
    fn codes_are_complete_and_within_their_limit() {
        let fibonacci: Vec<u32> = std::iter::successors(Some((1u32, 1u32)), |&(a, b)| Some((b, a + b)))
            .map(|pair| pair.0)
            .take(40)
            .collect();
        let tables: [(&str, Vec<u32>, usize); 6] = [
            ("two", vec![0, 7, 0, 1], 15),
            ("flat", vec![3; 656], 16),
            ("fibonacci", fibonacci.clone(), 15),
            ("fibonacci, tight", fibonacci[..7].to_vec(), 3),
            ("squares", (0..512).map(|at| at * at).collect(), 15),
            ("one huge", (0..249).map(|at| if at == 9 { u32::MAX } else { 1 }).collect(), 16),
        ];
        let mut builder = CodeBuilder::new();
        for (name, freqs, max_len) in tables {
            let mut lens = vec![99; freqs.len()];
            builder.lens(&freqs, max_len, &mut lens);
            assert_eq!(kraft(&lens), 1 << 16, "{name}");
            for (symbol, (&freq, &len)) in freqs.iter().zip(&lens).enumerate() {
                assert_eq!(freq == 0, len == 0, "{name}: symbol {symbol}");
                assert!(usize::from(len) <= max_len, "{name}: symbol {symbol} has length {len}");
            }
        }
    }

    #[test]
    fn rarer_symbols_never_have_shorter_codewords() {
        let freqs: Vec<u32> = (0..300).map(|at| 1 + at * 7919 % 1000).collect();
        let mut lens = vec![0; freqs.len()];
        CodeBuilder::new().lens(&freqs, 15, &mut lens);
        for a in 0..freqs.len() {
            for b in 0..freqs.len() {
                assert!(freqs[a] <= freqs[b] || lens[a] <= lens[b], "symbols {a} and {b}");
            }
        }
    }

    #[test]
    fn a_lone_symbol_gets_company() {
        for (symbol, other) in [(0, 1), (1, 0), (5, 0)] {
            let mut freqs = [0; 8];
            freqs[symbol] = 3;
            let mut lens = [0; 8];
            CodeBuilder::new().lens(&freqs, 7, &mut lens);
            assert_eq!((lens[symbol], lens[other], kraft(&lens)), (1, 1, 1 << 16));
        }
    }

    #[test]
    fn codewords_follow_length_then_symbol() {
        // The code of the worked example in the XPRESS specification, section 7.
        let mut words = [Codeword::default(); 5];
        codewords(&[2, 2, 2, 3, 3], &mut words);
        assert_eq!(words.map(Codeword::bits), [0b00, 0b01, 0b10, 0b110, 0b111]);
        assert_eq!(words.map(Codeword::len), [2, 2, 2, 3, 3]);
    }
}
