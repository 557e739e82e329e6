//! Match finder of the balanced level: where two, three and four bytes stood before is noted for all positions of a
//! chunk at once, and matches are looked for where the parse asks for them, in any order. A parse that passes over a
//! position pays next to nothing for it.

use super::{LOOKAHEAD, Match, MatchSource, Position, SearchLimits, common_length, hash, load4};

/// Sizes of the tables of last positions of two, three and four bytes, as powers of two.
#[derive(Debug, Clone, Copy)]
struct TableSizes {
    heads2: u32,
    heads3: u32,
    heads4: u32,
}

/// For small chunks, which mostly have the same size. Larger tables find hardly more that pays.
const FIXED_SIZES: TableSizes = TableSizes { heads2: 12, heads3: 14, heads4: 15 };

/// Chunks up to this size use tables of fixed size.
const SMALL_CHUNK: usize = 1 << 16;

impl TableSizes {
    /// About an entry per position of a chunk of `len` bytes, within limits.
    fn scaled(len: usize) -> Self {
        let log2 = usize::BITS - len.leading_zeros();
        Self { heads2: 12, heads3: log2.clamp(8, 16), heads4: log2.clamp(8, 20) }
    }
}

/// The last positions before one that have the same hash of two, three and four bytes. Where there was none it is
/// position 0, which is a candidate like any other: it is compared before use. Chains end where positions stop
/// descending.
#[derive(Debug, Clone, Copy, Default)]
struct Before<P> {
    two: P,
    three: P,
    four: P,
}

/// The matches of a position, numbered over all blocks.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    start: u32,
    end: u32,
}

/// Numbers of matches start again when they come up to this one.
const MAX_NUMBER: u32 = 1 << 30;

/// Matches on demand of one chunk after another.
#[derive(Debug)]
pub(crate) struct OnDemand<P> {
    limits: SearchLimits,
    /// Longest match of the format.
    longest: usize,
    heads2: Box<[P]>,
    heads3: Box<[P]>,
    heads4: Box<[P]>,
    /// By position of the chunk.
    before: Box<[Before<P>]>,
    /// By position of the block.
    held: Box<[Held]>,
    /// Where the block starts.
    start: usize,
    /// Those of the block.
    matches: Vec<Match>,
    /// Number of the first of them. What is held below it belongs to an earlier block.
    first: u32,
    is_scaled: bool,
}

impl<P: Position> OnDemand<P> {
    /// For chunks of `chunk_size` bytes in blocks of at most `positions`, with matches of at most `longest` bytes.
    pub(crate) fn new(chunk_size: usize, positions: usize, longest: usize, limits: SearchLimits) -> Self {
        let is_scaled = chunk_size > SMALL_CHUNK;
        let sizes = if is_scaled { TableSizes::scaled(chunk_size) } else { FIXED_SIZES };
        let heads = |log2: u32| vec![P::default(); 1 << log2].into_boxed_slice();
        Self {
            limits,
            longest,
            heads2: heads(sizes.heads2),
            heads3: heads(sizes.heads3),
            heads4: heads(sizes.heads4),
            before: vec![Before::default(); chunk_size].into_boxed_slice(),
            held: vec![Held::default(); positions].into_boxed_slice(),
            start: 0,
            // Real data has 2 to 5 matches per position; the list grows once where there are more.
            matches: Vec::with_capacity(4 * positions),
            first: 1,
            is_scaled,
        }
    }

    /// Appends the matches of `pos`: the nearest for each length.
    fn find(&mut self, data: &[u8], pos: usize) {
        if pos + LOOKAHEAD > data.len() {
            return;
        }
        let most = self.longest.min(data.len() - pos);
        let bytes = load4(data, pos);
        let Before { two, three, four } = self.before[pos];
        let (candidate2, candidate3, mut candidate) = (two.to_usize(), three.to_usize(), four.to_usize());
        let found = &mut self.matches;
        let mut found_at = |candidate: usize, length: usize| {
            found.push(Match { length: length as u32, offset: (pos - candidate) as u32 });
        };
        let equals2 = candidate2 < pos && (load4(data, candidate2) ^ bytes) << 16 == 0;
        let mut best = 1;
        if candidate3 < pos && (load4(data, candidate3) ^ bytes) << 8 == 0 {
            if equals2 && candidate2 > candidate3 {
                found_at(candidate2, 2);
            }
            best = 3;
            // The same position will be found again if it has four bytes.
            if candidate3 != candidate || load4(data, candidate) != bytes {
                found_at(candidate3, 3);
            }
        } else if equals2 {
            found_at(candidate2, 2);
            best = 2;
        }
        let nice_length = self.limits.nice_length.min(most);
        let mut nearest = pos;
        let mut tail = 0;
        let mut wanted = bytes;
        for _ in 0..self.limits.depth {
            if candidate >= nearest {
                break;
            }
            // A longer match must have the byte behind the best one, too.
            if load4(data, candidate + tail) == wanted && load4(data, candidate) == bytes {
                let length = common_length(data, candidate, pos, LOOKAHEAD, most);
                if length > best {
                    best = length;
                    found_at(candidate, length);
                    if length >= nice_length {
                        break;
                    }
                    tail = best - 3;
                    wanted = load4(data, pos + tail);
                }
            }
            nearest = candidate;
            candidate = self.before[candidate].four.to_usize();
        }
    }
}

impl<P: Position> MatchSource for OnDemand<P> {
    type Position = P;

    fn begin_chunk(&mut self, data: &[u8]) {
        let sizes = if self.is_scaled { TableSizes::scaled(data.len()) } else { FIXED_SIZES };
        let heads2 = &mut self.heads2[..1 << sizes.heads2];
        let heads3 = &mut self.heads3[..1 << sizes.heads3];
        let heads4 = &mut self.heads4[..1 << sizes.heads4];
        heads2.fill(P::default());
        heads3.fill(P::default());
        heads4.fill(P::default());
        let searchable = data.len().saturating_sub(LOOKAHEAD - 1);
        for (pos, before) in self.before[..searchable].iter_mut().enumerate() {
            let bytes = load4(data, pos);
            let at = P::from_usize(pos);
            *before = Before {
                two: std::mem::replace(&mut heads2[hash(bytes << 16, sizes.heads2)], at),
                three: std::mem::replace(&mut heads3[hash(bytes << 8, sizes.heads3)], at),
                four: std::mem::replace(&mut heads4[hash(bytes, sizes.heads4)], at),
            };
        }
    }

    fn begin_block(&mut self, start: usize) {
        self.start = start;
        // Above the end of what the last search found, which may be nothing.
        self.first += self.matches.len() as u32 + 1;
        self.matches.clear();
        if self.first >= MAX_NUMBER {
            self.held.fill(Held::default());
            self.first = 1;
        }
    }

    fn end_block(&mut self, _data: &[u8], _end: usize) {}

    #[inline(always)]
    fn at(&mut self, data: &[u8], pos: usize) -> &[Match] {
        let mut held = self.held[pos - self.start];
        if held.start < self.first {
            let start = self.first + self.matches.len() as u32;
            self.find(data, pos);
            held = Held { start, end: self.first + self.matches.len() as u32 };
            self.held[pos - self.start] = held;
        }
        &self.matches[(held.start - self.first) as usize..(held.end - self.first) as usize]
    }

    fn nice_length(&self) -> usize {
        self.limits.nice_length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SearchLimits = SearchLimits { depth: 5000, nice_length: 257 };

    fn sample(len: u32) -> Vec<u8> {
        (0..len).map(|at| (at * 31 % 97 % 7 + at / 700) as u8).collect()
    }

    /// Holds the matches of `pos` against the data and against all that there are.
    fn check(data: &[u8], pos: usize, found: &[Match]) {
        let most = (data.len() - pos).min(257);
        let mut last = Match::default();
        for &Match { length, offset } in found {
            assert!(length > last.length && offset >= last.offset, "at {pos}: {found:?}");
            assert!(length as usize <= most, "at {pos}: {found:?}");
            let from = pos - offset as usize;
            assert_eq!(data[from..from + length as usize], data[pos..pos + length as usize]);
            last = Match { length, offset };
        }
        let longest = (0..pos).map(|from| common_length(data, from, pos, 0, most)).max().unwrap_or(0);
        // What starts within the last three bytes is not looked for.
        assert!(
            longest < LOOKAHEAD || pos + LOOKAHEAD > data.len() || last.length as usize == longest,
            "at {pos}: {found:?}, longest {longest}"
        );
    }

    #[test]
    fn every_match_repeats_what_it_says_and_long_ones_are_found() {
        let data = sample(5000);
        let mut source = OnDemand::<u16>::new(1 << 13, 1 << 13, 257, LIMITS);
        source.begin_chunk(&data);
        source.begin_block(0);
        for pos in 0..data.len() {
            check(&data, pos, source.at(&data, pos));
        }
    }

    #[test]
    fn the_order_of_questions_does_not_matter() {
        let data = sample(5000);
        let mut source = OnDemand::<u32>::new(1 << 17, 3000, 257, LIMITS);
        source.begin_chunk(&data);
        for block in [0..2100, 2100..5000] {
            source.begin_block(block.start);
            let asked = |step: usize| block.clone().step_by(step);
            let first: Vec<Vec<Match>> = asked(3).rev().map(|pos| source.at(&data, pos).to_vec()).collect();
            for pos in block.clone() {
                check(&data, pos, source.at(&data, pos));
            }
            let again: Vec<Vec<Match>> = asked(3).rev().map(|pos| source.at(&data, pos).to_vec()).collect();
            assert_eq!(first, again);
        }
    }

    #[test]
    fn nothing_of_another_chunk_or_block_is_found() {
        let mut source = OnDemand::<u16>::new(64, 64, 257, LIMITS);
        let different: Vec<u8> = (0..64).collect();
        for data in [[5u8; 12].as_slice(), &different, &[5u8; 12]] {
            source.begin_chunk(data);
            for start in [0, data.len() / 2] {
                source.begin_block(start);
                for pos in start..data.len() - LOOKAHEAD + 1 {
                    let longest = source.at(data, pos).last().map_or(0, |last| last.length as usize);
                    assert_eq!(longest, if pos == 0 || data[0] != 5 { 0 } else { data.len() - pos });
                }
            }
        }
    }

    #[test]
    fn numbers_start_again() {
        let data = sample(3000);
        let mut source = OnDemand::<u16>::new(1 << 12, 1 << 12, 257, LIMITS);
        source.first = MAX_NUMBER - 7;
        for _ in 0..3 {
            source.begin_chunk(&data);
            source.begin_block(0);
            assert!(source.first < MAX_NUMBER);
            for pos in 0..data.len() {
                check(&data, pos, source.at(&data, pos));
            }
        }
    }
}
