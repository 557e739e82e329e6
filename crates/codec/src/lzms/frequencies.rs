//! The adaptive Huffman codes: symbol frequencies, and the exact code that follows from them.
//!
//! Encoder and decoder must agree bit for bit, so the order of equal frequencies is part of the format: symbols by
//! value, and leaves before inner nodes.

use super::MAX_OFFSET_SLOTS;
use crate::decode_table::MAX_CODE_LEN;

/// Longest codeword. Frequencies are halved so often that no deeper tree can arise (11 is the most seen).
const MAX_LEN: usize = 15;

/// Frequencies below this are sorted by counting, the few above it by comparing.
const COUNTED: usize = 64;

/// Entries of the builder's tables: room for the largest alphabet and two entries behind it. As a power of two, indices
/// that are masked need no check.
const ROOM: usize = 1024;
const MASK: usize = ROOM - 1;
const _: () = assert!(MAX_OFFSET_SLOTS + 2 <= ROOM);

/// Bits of a leaf that hold the symbol; its frequency stands above.
const SYMBOL_BITS: u32 = 16;

/// Frequencies of the symbols of one code, and the lengths of its codewords.
#[derive(Debug)]
pub(super) struct Frequencies<const SYMBOLS: usize> {
    freqs: [u16; SYMBOLS],
    lens: [u8; SYMBOLS],
    /// Size of the alphabet.
    count: usize,
    /// Symbols until the code is built anew.
    countdown: u32,
    interval: u32,
}

impl<const SYMBOLS: usize> Frequencies<SYMBOLS> {
    pub(super) fn new(interval: u32) -> Self {
        Self { freqs: [1; SYMBOLS], lens: [0; SYMBOLS], count: SYMBOLS, countdown: interval, interval }
    }

    /// Starts a chunk with an alphabet of `count` symbols, 2 or more, all equally frequent.
    pub(super) fn reset(&mut self, count: usize, builder: &mut Builder) {
        self.count = count;
        self.countdown = self.interval;
        self.freqs.fill(1);
        builder.lens(&self.freqs[..count], &mut self.lens[..count]);
    }

    /// Codeword length of each symbol of the alphabet.
    #[inline(always)]
    pub(super) fn lens(&self) -> &[u8] {
        &self.lens[..self.count]
    }

    /// Codeword length of `symbol`; 0 if it is not of the alphabet.
    #[inline(always)]
    pub(super) fn len(&self, symbol: usize) -> u32 {
        u32::from(self.lens[symbol])
    }

    /// Counts `symbol`; true if it is time for [`Self::rebuild`].
    #[inline(always)]
    pub(super) fn count(&mut self, symbol: usize) -> bool {
        self.freqs[symbol] += 1;
        self.countdown -= 1;
        self.countdown == 0
    }

    /// Makes the lengths of the code that is used from now on.
    #[inline(never)]
    pub(super) fn rebuild(&mut self, builder: &mut Builder) {
        let freqs = &mut self.freqs[..self.count];
        builder.lens(freqs, &mut self.lens[..self.count]);
        for freq in freqs {
            *freq = (*freq >> 1) + 1;
        }
        self.countdown = self.interval;
    }
}

/// Working memory for building codes.
#[derive(Debug)]
pub(super) struct Builder {
    /// Frequency and symbol, ascending; behind the last two frequencies above all others.
    leaves: [u32; ROOM],
    /// Leaves with frequencies above 1 before they are sorted.
    unsorted: [u32; ROOM],
    /// Frequencies of inner nodes in the order of their making, which is ascending.
    weights: [u32; ROOM],
    /// Parent of each inner node; then, from the root down, its depth.
    parents: [u16; ROOM],
    /// Of each inner node, how many of its children are leaves.
    leaf_children: [u8; ROOM],
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            leaves: [0; ROOM],
            unsorted: [0; ROOM],
            weights: [0; ROOM],
            parents: [0; ROOM],
            leaf_children: [0; ROOM],
        }
    }

    /// Sets `lens` to the codeword lengths for `freqs`, of which there are 2 or more and none is zero.
    fn lens(&mut self, freqs: &[u16], lens: &mut [u8]) {
        self.sort(freqs);
        let counts = self.leaves_per_depth(freqs.len());
        let mut leaves = self.leaves[..freqs.len()].iter();
        for len in (1..=MAX_LEN).rev() {
            for &leaf in leaves.by_ref().take(counts[len] as usize) {
                lens[(leaf & ((1 << SYMBOL_BITS) - 1)) as usize] = len as u8;
            }
        }
    }

    fn sort(&mut self, freqs: &[u16]) {
        // Most symbols of the large alphabets have never been seen: set those with frequency 1 apart, without branches.
        let (mut ones, mut others) = (0, 0);
        for (symbol, &freq) in freqs.iter().enumerate() {
            let leaf = u32::from(freq) << SYMBOL_BITS | symbol as u32;
            self.leaves[ones & MASK] = leaf;
            self.unsorted[others & MASK] = leaf;
            ones += usize::from(freq == 1);
            others += usize::from(freq != 1);
        }
        let unsorted = &self.unsorted[..others];
        let class = |leaf: u32| ((leaf >> SYMBOL_BITS) as usize).min(COUNTED);
        let mut ends = [0u16; COUNTED + 1];
        for &leaf in unsorted {
            ends[class(leaf)] += 1;
        }
        let mut start = ones as u16;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        for &leaf in unsorted {
            let end = &mut ends[class(leaf)];
            self.leaves[usize::from(*end) & MASK] = leaf;
            *end += 1;
        }
        // Where the last counted class ends, the others start.
        self.leaves[usize::from(ends[COUNTED - 1])..freqs.len()].sort_unstable();
    }

    /// Builds the Huffman tree over the `used` sorted leaves and counts them by depth.
    fn leaves_per_depth(&mut self, used: usize) -> [u32; MAX_CODE_LEN + 1] {
        let Self { leaves, weights, parents, leaf_children, .. } = self;
        // Behind either queue stand nodes that never are the lesser ones.
        leaves[used..used + 2].fill(u32::MAX);
        weights[..2].fill(u32::MAX);
        let inner = used - 1;
        let (mut leaf, mut oldest) = (0, 0);
        for made in 0..inner {
            let freq = |ahead: usize| leaves[(leaf + ahead) & MASK] >> SYMBOL_BITS;
            let weight = |ahead: usize| weights[(oldest + ahead) & MASK];
            // Long runs of nodes take the same of these three ways.
            let (sum, own_leaves) = if freq(1) <= weight(0) {
                (freq(0) + freq(1), 2)
            } else if weight(1) < freq(0) {
                (weight(0) + weight(1), 0)
            } else {
                (freq(0) + weight(0), 1)
            };
            // Those of nodes that were not taken are written again when they are.
            parents[oldest & MASK] = made as u16;
            parents[(oldest + 1) & MASK] = made as u16;
            leaf += own_leaves;
            oldest += 2 - own_leaves;
            weights[made & MASK] = sum;
            weights[(made + 2) & MASK] = u32::MAX;
            leaf_children[made & MASK] = own_leaves as u8;
        }
        let mut counts = [0; MAX_CODE_LEN + 1];
        // The root's parent has a depth of one less than 0, so that every node's depth is its parent's plus one.
        parents[inner - 1] = inner as u16;
        parents[inner & MASK] = u16::MAX;
        for node in (0..inner).rev() {
            let depth = parents[usize::from(parents[node & MASK]) & MASK].wrapping_add(1);
            parents[node & MASK] = depth;
            debug_assert!(usize::from(depth) < MAX_LEN);
            counts[(usize::from(depth) + 1).min(MAX_LEN)] += u32::from(leaf_children[node & MASK]);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens_of(freqs: &[u16]) -> Vec<u8> {
        let mut lens = vec![0; freqs.len()];
        Builder::new().lens(freqs, &mut lens);
        lens
    }

    #[test]
    fn equal_frequencies_give_the_codes_of_the_worked_example() {
        assert_eq!(lens_of(&[1; 9]), [4, 4, 3, 3, 3, 3, 3, 3, 3]);
        let lengths = lens_of(&[1; 54]);
        assert!(lengths[..44].iter().all(|&len| len == 6) && lengths[44..].iter().all(|&len| len == 5));
        assert_eq!(lens_of(&[1; 256]), [8; 256]);
        assert_eq!(lens_of(&[5, 9]), [1, 1]);
    }

    /// The rule of the format, done plainly: the least leaf and the oldest least inner node, the leaf first if equal.
    fn by_the_book(freqs: &[u16]) -> Vec<u8> {
        struct Node {
            weight: u32,
            children: Vec<usize>,
        }
        let mut leaves: Vec<(u32, usize)> =
            freqs.iter().enumerate().map(|(symbol, &freq)| (u32::from(freq), symbol)).collect();
        leaves.sort();
        let mut leaves = std::collections::VecDeque::from(leaves);
        let mut inner: std::collections::VecDeque<Node> = std::collections::VecDeque::new();
        let mut lens = vec![0; freqs.len()];
        while leaves.len() + inner.len() > 1 {
            let mut made = Node { weight: 0, children: Vec::new() };
            for _ in 0..2 {
                let takes_leaf = match (leaves.front(), inner.front()) {
                    (Some(leaf), Some(node)) => leaf.0 <= node.weight,
                    (leaf, _) => leaf.is_some(),
                };
                if takes_leaf {
                    let (freq, symbol) = leaves.pop_front().unwrap();
                    made.weight += freq;
                    made.children.push(symbol);
                } else {
                    let node = inner.pop_front().unwrap();
                    made.weight += node.weight;
                    made.children.extend(node.children);
                }
            }
            for &symbol in &made.children {
                lens[symbol] += 1;
            }
            inner.push_back(made);
        }
        lens
    }

    #[test]
    fn codes_follow_the_rule_of_the_format() {
        let mut state = 3u32;
        let mut next = |end: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % end
        };
        for round in 0..400 {
            let count = 2 + next(798) as usize;
            let symbols = 1 + next(count as u32);
            // As the codec does it: frequencies of 1, then a round of symbols, halved in between.
            let mut freqs = vec![1u16; count];
            for _ in 0..1 + round % 4 {
                freqs.iter_mut().for_each(|freq| *freq = (*freq >> 1) + 1);
                for _ in 0..1024 {
                    let symbol = next(symbols).min(next(symbols)).min(next(symbols));
                    freqs[symbol as usize] += 1;
                }
            }
            assert_eq!(lens_of(&freqs), by_the_book(&freqs), "{count} symbols, round {round}");
        }
    }
}
