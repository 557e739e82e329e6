//! XPRESS encoder: chooses the items; `write` puts them down.

use super::write::{Code, Items};
use super::{MIN_MATCH, TABLE_BYTES};
use crate::Level;
use crate::matches::{HashChains, Match, SearchLimits};

/// How the fast level searches.
const FAST: SearchLimits = SearchLimits { depth: 16, nice_length: 64 };

/// A match of three bytes from farther back costs more than three literals.
const FAR_FOR_THREE: u32 = 4096;

/// Tables for encoding XPRESS chunks.
pub(crate) struct Encoder {
    chains: HashChains<u16>,
    items: Items,
    code: Code,
}

impl Encoder {
    pub(crate) fn new(chunk_size: usize, _level: Level) -> Self {
        Self { chains: HashChains::new(chunk_size), items: Items::new(chunk_size), code: Code::new() }
    }

    /// Encodes one chunk of at most 64 KiB; `None` if the result would not be smaller than `input` or not fit.
    pub(crate) fn encode(&mut self, input: &[u8], output: &mut [u8]) -> Option<usize> {
        if input.len() <= TABLE_BYTES + 4 {
            return None;
        }
        self.items.clear();
        self.parse_lazily(input);
        self.items.finish();
        self.code.fit(self.items.freqs());
        let len = usize::try_from(self.items.stream_bytes(&self.code)).ok()?;
        if len >= input.len() || len > output.len() {
            return None;
        }
        self.code.assign();
        let written = self.items.write(input, &self.code, &mut output[..len]);
        debug_assert_eq!(written, len);
        Some(len)
    }

    /// Takes the longest match at each position unless the next position has a better one.
    fn parse_lazily(&mut self, input: &[u8]) {
        self.chains.reset();
        let end = input.len();
        // Hashes need four bytes.
        let last_search = end - 4;
        let mut pos = 0;
        while pos <= last_search {
            let Some(mut found) =
                self.chains.longest(input, pos, MIN_MATCH - 1, end - pos, FAST).filter(|&found| pays(found))
            else {
                self.items.push_literal(input[pos]);
                pos += 1;
                continue;
            };
            // `found` stands at `pos`, and `pos` is entered.
            while (found.length as usize) < FAST.nice_length && pos < last_search {
                let later = self.chains.longest(
                    input,
                    pos + 1,
                    found.length as usize - 1,
                    end - pos - 1,
                    SearchLimits { depth: FAST.depth / 2, ..FAST },
                );
                match later {
                    Some(later) if score(later) > score(found) + 2 => {
                        self.items.push_literal(input[pos]);
                        pos += 1;
                        found = later;
                    }
                    _ => {
                        pos += 1;
                        // Both `pos - 1` and `pos` are entered now.
                        self.take(input, pos, found, 1);
                        pos += found.length as usize - 1;
                        found.length = 0;
                        break;
                    }
                }
            }
            if found.length != 0 {
                self.take(input, pos + 1, found, 0);
                pos += found.length as usize;
            }
        }
        for &byte in &input[pos.min(end)..] {
            self.items.push_literal(byte);
        }
    }

    /// Adds a match that starts at `after - 1` and enters its positions; `entered` of those from `after` on are.
    fn take(&mut self, input: &[u8], after: usize, found: Match, entered: usize) {
        self.items.push_match(found);
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
