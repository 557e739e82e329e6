//! Match finder of the balanced level: all matches of a position from hash chains. Entering a position without a search
//! costs next to nothing, unlike in trees; what lies beyond the searched part of a chain is not found.

use super::{HashChains, LOOKAHEAD, Match, MatchLists, Position, SearchLimits, common_length, hash, load4};

/// Size of the table of last positions of two bytes, as a power of two. A larger one finds hardly more that pays.
const LOG2_HEADS2: u32 = 12;

/// Chunks up to this size use tables of fixed size.
const SMALL_CHUNK: usize = 1 << 16;

/// Hash chains of three and four bytes, and the last position with the same two.
#[derive(Debug)]
pub(crate) struct ChainLists<P> {
    heads2: Box<[P]>,
    chains: HashChains<P>,
}

impl<P: Position> ChainLists<P> {
    pub(crate) fn new(chunk_size: usize) -> Self {
        let chains = if chunk_size > SMALL_CHUNK {
            HashChains::scaled(chunk_size)
        } else {
            HashChains::fine(chunk_size)
        };
        Self { heads2: vec![P::default(); 1 << LOG2_HEADS2].into_boxed_slice(), chains }
    }
}

impl<P: Position> MatchLists for ChainLists<P> {
    type Position = P;

    fn reset(&mut self, len: usize) {
        self.heads2.fill(P::default());
        self.chains.reset(len);
    }

    #[inline(always)]
    fn find(&mut self, data: &[u8], pos: usize, most: usize, limits: SearchLimits, found: &mut Vec<Match>) {
        let bytes = load4(data, pos);
        let head2 = &mut self.heads2[hash(bytes << 16, LOG2_HEADS2)];
        let candidate2 = std::mem::replace(head2, P::from_usize(pos)).to_usize();
        let (candidate3, candidate4) = self.chains.enter(bytes, pos);
        let mut found_at = |candidate: usize, length: usize| {
            found.push(Match { length: length as u32, offset: (pos - candidate) as u32 });
        };
        // An empty head reads as position 0, which is a candidate like any other.
        let equals2 = candidate2 < pos && (load4(data, candidate2) ^ bytes) << 16 == 0;
        let mut best = 1;
        if candidate3 < pos && (load4(data, candidate3) ^ bytes) << 8 == 0 {
            if equals2 && candidate2 > candidate3 {
                found_at(candidate2, 2);
            }
            best = 3;
            // The same position will be found again if it has four bytes.
            if candidate3 != candidate4 || load4(data, candidate4) != bytes {
                found_at(candidate3, 3);
            }
        } else if equals2 {
            found_at(candidate2, 2);
            best = 2;
        }
        let nice_length = limits.nice_length.min(most);
        let (mut candidate, mut nearest) = (candidate4, pos);
        let mut tail = 0;
        let mut wanted = bytes;
        for _ in 0..limits.depth {
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
            candidate = self.chains.before(candidate);
        }
    }

    #[inline(always)]
    fn skip(&mut self, data: &[u8], pos: usize, _limits: SearchLimits) {
        self.chains.skip(data, pos, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_match_repeats_what_it_says_and_long_ones_are_found() {
        let data: Vec<u8> = (0..5000u32).map(|at| (at * 31 % 97 % 7 + at / 700) as u8).collect();
        let limits = SearchLimits { depth: 5000, nice_length: 257 };
        let mut lists = ChainLists::<u16>::new(1 << 13);
        lists.reset(data.len());
        let mut found = Vec::new();
        for pos in 0..data.len() - LOOKAHEAD {
            found.clear();
            let most = (data.len() - pos).min(257);
            lists.find(&data, pos, most, limits, &mut found);
            let mut last = Match::default();
            for &Match { length, offset } in &found {
                assert!(length > last.length && offset >= last.offset, "at {pos}: {found:?}");
                assert!(length as usize <= most, "at {pos}: {found:?}");
                let from = pos - offset as usize;
                assert_eq!(data[from..from + length as usize], data[pos..pos + length as usize]);
                last = Match { length, offset };
            }
            let longest = (0..pos).map(|from| common_length(&data, from, pos, 0, most)).max().unwrap_or(0);
            assert!(
                longest < LOOKAHEAD || last.length as usize == longest,
                "at {pos}: {found:?}, longest {longest}"
            );
        }
    }

    #[test]
    fn matches_stop_at_the_end_of_the_data() {
        let data = [5u8; 12];
        let mut lists = ChainLists::<u32>::new(1 << 17);
        lists.reset(data.len());
        let mut found = Vec::new();
        for pos in 0..=data.len() - LOOKAHEAD {
            found.clear();
            lists.find(&data, pos, data.len() - pos, SearchLimits { depth: 9, nice_length: 64 }, &mut found);
            let longest = found.last().map_or(0, |last| last.length as usize);
            assert_eq!(longest, if pos == 0 { 0 } else { data.len() - pos });
        }
    }
}
