//! The matches of a stretch of a chunk, found once and used by every pass over it.

use super::{LOOKAHEAD, Match, MatchLists, MatchSource, SearchLimits};

/// Matches of consecutive positions.
#[derive(Debug)]
pub(crate) struct MatchCache {
    matches: Vec<Match>,
    /// For each position, where its matches end in `matches`.
    ends: Vec<u32>,
}

impl MatchCache {
    /// A cache for `positions` positions.
    pub(crate) fn new(positions: usize) -> Self {
        // Real data has 2 to 5 matches per position; the list grows once where there are more.
        Self { matches: Vec::with_capacity(6 * positions), ends: Vec::with_capacity(positions) }
    }

    pub(crate) fn clear(&mut self) {
        self.matches.clear();
        self.ends.clear();
    }

    /// Positions held.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The matches of position `index`, with ascending lengths and offsets.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> &[Match] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.matches[start as usize..self.ends[index] as usize]
    }

    /// Enters position `pos` into `lists` and holds its matches of at most `longest` bytes. After a match of the
    /// nice length the positions it covers are entered too and hold none: that match will be taken anyway. Returns
    /// the longest match.
    pub(crate) fn push(
        &mut self,
        lists: &mut impl MatchLists,
        data: &[u8],
        pos: usize,
        longest: usize,
        limits: SearchLimits,
    ) -> Match {
        let searchable = data.len().saturating_sub(LOOKAHEAD - 1);
        let before = self.matches.len();
        if pos < searchable {
            lists.find(data, pos, longest.min(data.len() - pos), limits, &mut self.matches);
        }
        self.ends.push(self.matches.len() as u32);
        let best = self.matches[before..].last().copied().unwrap_or_default();
        if best.length as usize >= limits.nice_length {
            for covered in pos + 1..pos + best.length as usize {
                if covered < searchable {
                    lists.skip(data, covered, limits);
                }
                self.ends.push(self.matches.len() as u32);
            }
        }
        best
    }
}

/// The matches of all positions of a block, found in their order.
#[derive(Debug)]
pub(crate) struct Cached<L> {
    limits: SearchLimits,
    /// Longest match of the format.
    longest: usize,
    lists: L,
    cache: MatchCache,
    /// Where the block starts.
    start: usize,
}

impl<L: MatchLists> Cached<L> {
    /// For blocks of at most `positions` positions.
    pub(crate) fn new(positions: usize, longest: usize, limits: SearchLimits, lists: L) -> Self {
        Self { limits, longest, lists, cache: MatchCache::new(positions), start: 0 }
    }
}

impl<L: MatchLists> Cached<L> {
    /// Enters all positions up to `end`.
    #[inline(always)]
    fn enter(&mut self, data: &[u8], end: usize) {
        while self.start + self.cache.len() < end {
            let next = self.start + self.cache.len();
            self.cache.push(&mut self.lists, data, next, self.longest, self.limits);
        }
    }
}

impl<L: MatchLists> MatchSource for Cached<L> {
    type Position = L::Position;

    fn begin_chunk(&mut self, data: &[u8]) {
        self.lists.reset(data.len());
        self.cache.clear();
        self.start = 0;
    }

    fn begin_block(&mut self, start: usize) {
        // A match of the nice length may have reached over the end of the block.
        let entered = (self.start + self.cache.len()).saturating_sub(start);
        self.cache.clear();
        self.cache.ends.resize(entered, 0);
        self.start = start;
    }

    fn end_block(&mut self, data: &[u8], end: usize) {
        // The lists order positions by what follows in the whole chunk.
        self.enter(data, end);
    }

    #[inline(always)]
    fn at(&mut self, data: &[u8], pos: usize) -> &[Match] {
        self.enter(data, pos + 1);
        self.cache.at(pos - self.start)
    }

    fn nice_length(&self) -> usize {
        self.limits.nice_length
    }
}
