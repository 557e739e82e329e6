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
    /// Frequency and symbol, ascending.
    leaves: [u32; MAX_OFFSET_SLOTS],
    /// Frequencies of inner nodes in the order of their making, which is ascending.
    weights: [u32; MAX_OFFSET_SLOTS],
    /// Parent of each inner node; then, from the root down, its depth.
    parents: [u16; MAX_OFFSET_SLOTS],
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            leaves: [0; MAX_OFFSET_SLOTS],
            weights: [0; MAX_OFFSET_SLOTS],
            parents: [0; MAX_OFFSET_SLOTS],
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
        let class = |freq: u16| usize::from(freq).min(COUNTED);
        let mut ends = [0u16; COUNTED + 1];
        for &freq in freqs {
            ends[class(freq)] += 1;
        }
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        for (symbol, &freq) in freqs.iter().enumerate() {
            let end = &mut ends[class(freq)];
            self.leaves[usize::from(*end)] = u32::from(freq) << SYMBOL_BITS | symbol as u32;
            *end += 1;
        }
        // Where the last counted class ends, the others start.
        self.leaves[usize::from(ends[COUNTED - 1])..freqs.len()].sort_unstable();
    }

    /// Builds the Huffman tree over the `used` sorted leaves and counts them by depth.
    fn leaves_per_depth(&mut self, used: usize) -> [u32; MAX_CODE_LEN + 1] {
        let leaves = &self.leaves[..used];
        let inner = used - 1;
        let weights = &mut self.weights[..inner];
        let parents = &mut self.parents[..inner];
        // Of each inner node, how many of its children are leaves.
        let mut leaf_children = [0u8; MAX_OFFSET_SLOTS];
        let (mut leaf, mut oldest) = (0, 0);
        for made in 0..inner {
            let mut weight = 0;
            let mut own_leaves = 0;
            for _ in 0..2 {
                let freq = leaves.get(leaf).map_or(u32::MAX, |leaf| leaf >> SYMBOL_BITS);
                // No inner node is ready if the oldest is the one in the making.
                let other = if oldest < made { weights[oldest] } else { u32::MAX };
                if freq <= other {
                    weight += freq;
                    own_leaves += 1;
                    leaf += 1;
                } else {
                    weight += other;
                    parents[oldest] = made as u16;
                    oldest += 1;
                }
            }
            weights[made] = weight;
            leaf_children[made] = own_leaves;
        }
        let mut counts = [0; MAX_CODE_LEN + 1];
        parents[inner - 1] = 0;
        for node in (0..inner).rev() {
            if node + 1 < inner {
                parents[node] = parents[usize::from(parents[node])] + 1;
            }
            let depth = usize::from(parents[node]) + 1;
            debug_assert!(depth <= MAX_LEN);
            counts[depth.min(MAX_LEN)] += u32::from(leaf_children[node]);
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
