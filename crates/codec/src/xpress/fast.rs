//! The fast parse: hash chains, one position of look-ahead.

use super::MIN_MATCH;
use super::write::Items;
use crate::matches::{HashChains, Match, SearchLimits};

/// How the search goes.
const LIMITS: SearchLimits = SearchLimits { depth: 16, nice_length: 64 };

/// A match of three bytes from farther back costs more than three literals.
const FAR_FOR_THREE: u32 = 4096;

/// Tables of the fast parse.
#[derive(Debug)]
pub(super) struct FastParser {
    chains: HashChains<u16>,
}

impl FastParser {
    pub(super) fn new(chunk_size: usize) -> Self {
        Self { chains: HashChains::new(chunk_size) }
    }

    /// Takes the longest match at each position unless the next position has a better one.
    pub(super) fn parse(&mut self, input: &[u8], items: &mut Items) {
        items.clear();
        self.chains.reset(input.len());
        let end = input.len();
        // Hashes need four bytes.
        let last_search = end - 4;
        let mut pos = 0;
        while pos <= last_search {
            let Some(mut found) = self
                .chains
                .longest(input, pos, MIN_MATCH - 1, end - pos, LIMITS)
                .filter(|&found| pays(found))
            else {
                items.push_literal(input[pos]);
                pos += 1;
                continue;
            };
            // `found` stands at `pos`, and `pos` is entered.
            while (found.length as usize) < LIMITS.nice_length && pos < last_search {
                let later = self.chains.longest(
                    input,
                    pos + 1,
                    found.length as usize - 1,
                    end - pos - 1,
                    SearchLimits { depth: LIMITS.depth / 2, ..LIMITS },
                );
                match later {
                    Some(later) if score(later) > score(found) + 2 => {
                        items.push_literal(input[pos]);
                        pos += 1;
                        found = later;
                    }
                    _ => {
                        pos += 1;
                        // Both `pos - 1` and `pos` are entered now.
                        self.take(input, items, pos, found, 1);
                        pos += found.length as usize - 1;
                        found.length = 0;
                        break;
                    }
                }
            }
            if found.length != 0 {
                self.take(input, items, pos + 1, found, 0);
                pos += found.length as usize;
            }
        }
        for &byte in &input[pos.min(end)..] {
            items.push_literal(byte);
        }
        items.finish();
    }

    /// Adds a match that starts at `after - 1` and enters its positions; `entered` of those from `after` on are.
    fn take(&mut self, input: &[u8], items: &mut Items, after: usize, found: Match, entered: usize) {
        items.push_match(found);
        let from = after + entered;
        let to = (after + found.length as usize - 1).min(input.len() - 3);
        self.chains.skip(input, from, to.saturating_sub(from));
    }
}

/// Whether a match costs less than the literals it replaces.
#[inline(always)]
fn pays(found: Match) -> bool {
    found.length > MIN_MATCH as u32 || found.offset < FAR_FOR_THREE
}

/// Worth of a match, in quarters of a byte: what it covers less what its offset costs.
#[inline(always)]
fn score(found: Match) -> i32 {
    found.length as i32 * 4 - found.offset.ilog2() as i32
}
