//! The near-optimal parse: the cheapest way through the chunk under the code of the pass before.

use super::write::{Code, Items, offset_bits};
use super::{END, MIN_MATCH, SYMBOLS};
use crate::matches::{BinaryTrees, Match, MatchCache, MatchLists, SearchLimits};

/// How the search goes.
const LIMITS: SearchLimits = SearchLimits { depth: 32, nice_length: 64 };

/// Passes that choose items anew.
const PASSES: usize = 2;

/// Cost in bits of a symbol that the pass before did not use: enough to be rare, little enough to come back.
const UNUSED_BITS: u8 = 14;

/// Shortest match whose symbol says nothing of the length.
const LONG_MATCH: usize = MIN_MATCH + 15;

/// What to do at a position on the way: a match, or a literal if its length is 1.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    length: u16,
    offset: u16,
}

/// Tables of the near-optimal parse.
#[derive(Debug)]
pub(super) struct OptimalParser {
    trees: BinaryTrees<u16>,
    cache: MatchCache,
    /// Cost in bits of the cheapest way from each position to the end of the chunk, the end included.
    path_costs: Vec<u32>,
    /// First step of that way.
    steps: Vec<Step>,
}

impl OptimalParser {
    pub(super) fn new(chunk_size: usize) -> Self {
        Self {
            trees: BinaryTrees::new(chunk_size, MIN_MATCH),
            cache: MatchCache::new(chunk_size),
            path_costs: vec![0; chunk_size + 1],
            steps: vec![Step::default(); chunk_size],
        }
    }

    /// Chooses the items for `data`; `code` is left fitted to them.
    pub(super) fn parse(&mut self, data: &[u8], items: &mut Items, code: &mut Code) {
        self.trees.reset(data.len());
        self.cache.clear();
        while self.cache.len() < data.len() {
            self.cache.push(&mut self.trees, data, self.cache.len(), data.len(), LIMITS);
        }
        self.parse_greedily(data, items);
        for _ in 0..PASSES {
            code.fit(items.freqs());
            self.find_path(data, &costs(code));
            self.follow_path(data, items);
        }
        code.fit(items.freqs());
    }

    /// A first guess at the frequencies: the longest match wherever it pays.
    fn parse_greedily(&self, data: &[u8], items: &mut Items) {
        items.clear();
        let mut pos = 0;
        while pos < data.len() {
            match self.cache.at(pos).last() {
                Some(&found) if found.length > 4 || found.offset < 1 << (5 * found.length - 4) => {
                    items.push_match(found);
                    pos += found.length as usize;
                }
                _ => {
                    items.push_literal(data[pos]);
                    pos += 1;
                }
            }
        }
        items.finish();
    }

    /// Sets costs and steps, from the end backwards.
    fn find_path(&mut self, data: &[u8], costs: &[u8; SYMBOLS]) {
        let path_costs = &mut self.path_costs[..=data.len()];
        path_costs[data.len()] = u32::from(costs[END]);
        for pos in (0..data.len()).rev() {
            let (head, ahead) = path_costs.split_at_mut(pos + 1);
            // `ahead[length - 1]` is what is left to pay after `length` bytes.
            let mut best = u32::from(costs[usize::from(data[pos])]) + ahead[0];
            let mut step = Step { length: 1, offset: 0 };
            let mut shortest = MIN_MATCH;
            for &found in self.cache.at(pos) {
                let longest = found.length as usize;
                let bits = offset_bits(found.offset);
                let symbols = &costs[256 + 16 * bits as usize..][..16];
                for length in shortest..(longest + 1).min(LONG_MATCH) {
                    let cost = u32::from(symbols[length - MIN_MATCH]) + bits + ahead[length - 1];
                    if cost < best {
                        best = cost;
                        step = Step { length: length as u16, offset: found.offset as u16 };
                    }
                }
                if longest >= LONG_MATCH {
                    // Longer is never dearer, but for two more bytes from a length that hardly ever occurs.
                    let length_bits = if longest - LONG_MATCH < 255 { 8 } else { 24 };
                    let cost = u32::from(symbols[15]) + bits + length_bits + ahead[longest - 1];
                    if cost < best {
                        best = cost;
                        step = Step { length: longest as u16, offset: found.offset as u16 };
                    }
                }
                shortest = longest + 1;
            }
            head[pos] = best;
            self.steps[pos] = step;
        }
    }

    /// Turns the steps into items.
    fn follow_path(&self, data: &[u8], items: &mut Items) {
        items.clear();
        let mut pos = 0;
        while pos < data.len() {
            let Step { length, offset } = self.steps[pos];
            if length == 1 {
                items.push_literal(data[pos]);
            } else {
                items.push_match(Match { length: length.into(), offset: offset.into() });
            }
            pos += usize::from(length);
        }
        items.finish();
    }
}

/// Cost of each symbol in bits.
fn costs(code: &Code) -> [u8; SYMBOLS] {
    code.lens.map(|len| if len == 0 { UNUSED_BITS } else { len })
}
