//! Match finder of the near-optimal level: for each position all matches worth a look, the nearest for each length.
//!
//! Earlier positions with the same hash of four bytes form a binary tree, ordered by the bytes that follow and with
//! the latest position as root; entering a position splits the tree along its path. Shorter matches come from tables
//! of the last position with the same two and three bytes.

use super::{Match, MatchLists, Position, SearchLimits, common_length, hash, load4};

/// Sizes of the tables of last positions, as powers of two: of two bytes, of three bytes, and of tree roots.
#[derive(Debug, Clone, Copy)]
struct TableSizes {
    heads2: u32,
    heads3: u32,
    roots: u32,
}

/// For chunks that mostly have the same size.
const FIXED_SIZES: TableSizes = TableSizes { heads2: 12, heads3: 14, roots: 15 };

impl TableSizes {
    /// About an entry per position of a chunk of `len` bytes, within limits.
    fn scaled(len: usize) -> Self {
        let log2 = usize::BITS - len.leading_zeros();
        Self { heads2: log2.clamp(8, 16), heads3: log2.clamp(8, 18), roots: log2.clamp(8, 22) }
    }
}

/// Positions are stored plus one, so that zero means none.
#[derive(Debug)]
pub(crate) struct BinaryTrees<P> {
    heads2: Box<[P]>,
    heads3: Box<[P]>,
    roots: Box<[P]>,
    /// For each position, the subtree of what sorts below it, then of what sorts above it.
    children: Box<[P]>,
    /// Shortest match looked for: 2 or 3.
    min_length: usize,
    /// How much of the tables is in use.
    sizes: TableSizes,
    is_scaled: bool,
}

impl<P: Position> BinaryTrees<P> {
    pub(crate) fn new(chunk_size: usize, min_length: usize) -> Self {
        Self::with_sizes(chunk_size, min_length, FIXED_SIZES, false)
    }

    /// For chunks whose sizes differ by orders of magnitude: the tables adapt to each. Memory that no chunk needed was
    /// never touched.
    pub(crate) fn scaled(chunk_size: usize, min_length: usize) -> Self {
        Self::with_sizes(chunk_size, min_length, TableSizes::scaled(chunk_size), true)
    }

    fn with_sizes(chunk_size: usize, min_length: usize, sizes: TableSizes, is_scaled: bool) -> Self {
        let table = |len: usize| vec![P::default(); len].into_boxed_slice();
        Self {
            heads2: table(1 << sizes.heads2),
            heads3: table(1 << sizes.heads3),
            roots: table(1 << sizes.roots),
            children: table(2 * chunk_size),
            min_length,
            sizes,
            is_scaled,
        }
    }

    /// Makes `pos` the root of its tree and calls `longer` for each match longer than `best` and all before it.
    #[inline(always)]
    fn walk(
        &mut self,
        data: &[u8],
        pos: usize,
        most: usize,
        limits: SearchLimits,
        mut best: usize,
        mut longer: impl FnMut(usize, usize),
    ) {
        let nice_length = limits.nice_length.min(most);
        let root = &mut self.roots[hash(load4(data, pos), self.sizes.roots)];
        let mut node = std::mem::replace(root, P::from_usize(pos + 1));
        // Where the next smaller and the next greater subtree are to hang, and how much of `pos` their nodes share.
        let (mut below, mut above) = (2 * pos, 2 * pos + 1);
        let (mut below_shared, mut above_shared) = (0, 0);
        for _ in 0..limits.depth {
            let Some(candidate) = node.to_usize().checked_sub(1) else { break };
            let shared = common_length(data, candidate, pos, below_shared.min(above_shared), most);
            if shared > best {
                best = shared;
                longer(shared, pos - candidate);
            }
            if shared >= nice_length {
                self.children[below] = self.children[2 * candidate];
                self.children[above] = self.children[2 * candidate + 1];
                return;
            }
            // A branch, although it is missed half the time: guessing lets the next node load early.
            if data[candidate + shared] < data[pos + shared] {
                self.children[below] = node;
                below = 2 * candidate + 1;
                below_shared = shared;
                node = self.children[below];
            } else {
                self.children[above] = node;
                above = 2 * candidate;
                above_shared = shared;
                node = self.children[above];
            }
        }
        self.children[below] = P::default();
        self.children[above] = P::default();
    }
}

impl<P: Position> MatchLists for BinaryTrees<P> {
    type Position = P;

    fn reset(&mut self, len: usize) {
        if self.is_scaled {
            self.sizes = TableSizes::scaled(len);
        }
        self.heads2[..1 << self.sizes.heads2].fill(P::default());
        self.heads3[..1 << self.sizes.heads3].fill(P::default());
        self.roots[..1 << self.sizes.roots].fill(P::default());
    }

    fn find(&mut self, data: &[u8], pos: usize, most: usize, limits: SearchLimits, found: &mut Vec<Match>) {
        let bytes = load4(data, pos);
        let mut best = 1;
        let entered = P::from_usize(pos + 1);
        if self.min_length == 2 {
            let head = &mut self.heads2[hash(bytes << 16, self.sizes.heads2)];
            if let Some(candidate) = std::mem::replace(head, entered).to_usize().checked_sub(1)
                && (load4(data, candidate) ^ bytes) << 16 == 0
            {
                found.push(Match { length: 2, offset: (pos - candidate) as u32 });
                best = 2;
            }
        }
        let head = &mut self.heads3[hash(bytes << 8, self.sizes.heads3)];
        if let Some(candidate) = std::mem::replace(head, entered).to_usize().checked_sub(1)
            && (load4(data, candidate) ^ bytes) << 8 == 0
        {
            let offset = (pos - candidate) as u32;
            // The same position may have served two bytes already.
            if let Some(last) = found.last_mut().filter(|last| best == 2 && last.offset == offset) {
                last.length = 3;
            } else {
                found.push(Match { length: 3, offset });
            }
            best = 3;
        }
        self.walk(data, pos, most, limits, best.max(3), |length, offset| {
            found.push(Match { length: length as u32, offset: offset as u32 });
        });
    }

    fn skip(&mut self, data: &[u8], pos: usize, limits: SearchLimits) {
        let bytes = load4(data, pos);
        let entered = P::from_usize(pos + 1);
        if self.min_length == 2 {
            self.heads2[hash(bytes << 16, self.sizes.heads2)] = entered;
        }
        self.heads3[hash(bytes << 8, self.sizes.heads3)] = entered;
        let most = limits.nice_length.min(data.len() - pos);
        self.walk(data, pos, most, limits, most, |_, _| {});
    }
}

#[cfg(test)]
mod tests {
    use super::super::LOOKAHEAD;
    use super::*;

    /// Matches by trying everything: for each length longer than the last, the nearest offset.
    fn by_force(data: &[u8], pos: usize, min_length: usize) -> Vec<Match> {
        let mut found: Vec<Match> = Vec::new();
        for from in (0..pos).rev() {
            let length = common_length(data, from, pos, 0, data.len() - pos);
            if length >= min_length && found.last().is_none_or(|last| length as u32 > last.length) {
                found.push(Match { length: length as u32, offset: (pos - from) as u32 });
            }
        }
        found
    }

    #[test]
    fn finds_the_nearest_match_of_each_length() {
        // Few symbols: many matches of many lengths. Tables of the last position lose to collisions only.
        let data: Vec<u8> = (0..3000u64).map(|at| (at * at * 7 / 13 % 5 * (at / 50 % 3)) as u8).collect();
        let mut trees = BinaryTrees::<u16>::new(1 << 12, 3);
        let limits = SearchLimits { depth: 10_000, nice_length: 10_000 };
        let mut found = Vec::new();
        for pos in 0..data.len() - LOOKAHEAD {
            found.clear();
            trees.find(&data, pos, data.len() - pos, limits, &mut found);
            let expected = by_force(&data, pos, 3);
            let from_four =
                |list: &[Match]| list.iter().filter(|found| found.length > 3).copied().collect::<Vec<_>>();
            assert_eq!(from_four(&found), from_four(&expected), "at {pos}");
        }
    }

    #[test]
    fn every_match_repeats_what_it_says() {
        let data: Vec<u8> = (0..5000u32).map(|at| (at * 31 % 97 % 7 + at / 700) as u8).collect();
        let mut trees = BinaryTrees::<u16>::new(1 << 13, 2);
        let limits = SearchLimits { depth: 20, nice_length: 40 };
        let mut found = Vec::new();
        let mut pos = 0;
        while pos < data.len() - LOOKAHEAD {
            found.clear();
            trees.find(&data, pos, (data.len() - pos).min(257), limits, &mut found);
            let mut last = Match::default();
            for &Match { length, offset } in &found {
                assert!(length > last.length && offset >= last.offset, "at {pos}: {found:?}");
                let from = pos - offset as usize;
                assert_eq!(data[from..from + length as usize], data[pos..pos + length as usize]);
                last = Match { length, offset };
            }
            pos += 1;
            if last.length >= 30 {
                for _ in 0..5 {
                    trees.skip(&data, pos, limits);
                    pos += 1;
                }
            }
        }
    }
}
