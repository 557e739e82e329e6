//! The fast parse: hash chains, repeats first, one or two positions of look-ahead, no delta matches.

use super::REPEATS;
use super::queues::Queue;
use super::slots::{OFFSETS, offset_slot};
use super::write::{Item, Model, Output};
use crate::matches::{HashChains, Match, SearchLimits, common_length};

/// How the search goes.
const LIMITS: SearchLimits = SearchLimits { depth: 16, nice_length: 64 };

/// Estimated cost of a literal in bits.
const LITERAL_BITS: i32 = 6;

/// Estimated cost of a match in bits, with a repeated or an explicit offset (without its extra bits).
const REPEAT_BITS: i32 = 6;
const EXPLICIT_BITS: i32 = 10;

/// Shortest match looked for. Shorter ones pay only as repeats in places that a fast parse does not see.
const MIN_MATCH: usize = 2;

/// A match with what it is worth: estimated bits saved against literals.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    item: Item,
    length: u32,
    score: i32,
}

/// Tables of the fast parse.
#[derive(Debug)]
pub(super) struct FastParser {
    chains: HashChains<u32>,
}

impl FastParser {
    pub(super) fn new(chunk_size: usize) -> Self {
        Self { chains: HashChains::scaled(chunk_size) }
    }

    /// Parses the filtered chunk `data` and writes it. Stops early when the output is full.
    pub(super) fn write_chunk(&mut self, data: &[u8], model: &mut Model, output: &mut Output<'_>) {
        self.chains.reset(data.len());
        // Hashes need four bytes.
        let searchable = data.len().saturating_sub(3);
        let mut pos = 0;
        while pos < searchable && !output.overflowed() {
            let Some(mut best) = self.best_at(data, pos, model.sources.lz, LIMITS.depth) else {
                model.write_literal(data[pos], output);
                pos += 1;
                continue;
            };
            let mut entered = pos + 1;
            while (best.length as usize) < LIMITS.nice_length && pos + 1 < searchable {
                let sources = model.sources.after(Item::Literal);
                let later = self.best_at(data, pos + 1, sources.lz, LIMITS.depth / 2);
                entered = pos + 2;
                match later {
                    Some(later) if later.score > best.score => {
                        model.write_literal(data[pos], output);
                        pos += 1;
                        best = later;
                    }
                    _ => break,
                }
            }
            model.write_match(best.item, best.length, output);
            pos += best.length as usize;
            self.chains.skip(data, entered, pos.min(searchable).saturating_sub(entered));
        }
        for &byte in &data[pos.min(data.len())..] {
            if output.overflowed() {
                return;
            }
            model.write_literal(byte, output);
        }
    }

    /// Enters `pos` and returns the most worthwhile match there, if any pays.
    #[inline(always)]
    fn best_at(&mut self, data: &[u8], pos: usize, sources: Queue<u32>, depth: u32) -> Option<Candidate> {
        let most = data.len() - pos;
        let mut best: Option<Candidate> = None;
        let next = &data[pos..pos + MIN_MATCH];
        for index in 0..REPEATS {
            let Some(from) = pos.checked_sub(sources.repeat(index) as usize) else { continue };
            if data[from..from + MIN_MATCH] == *next {
                let length = common_length(data, from, pos, MIN_MATCH, most);
                let score = worth(length) - REPEAT_BITS - index as i32;
                if best.is_none_or(|best| score > best.score) {
                    best = Some(Candidate { item: Item::LzRepeat(index), length: length as u32, score });
                }
            }
        }
        let at_least = best.map_or(MIN_MATCH, |best| best.length as usize);
        let limits = SearchLimits { depth, ..LIMITS };
        if let Some(Match { length, offset }) = self.chains.longest(data, pos, at_least, most, limits) {
            let cost = EXPLICIT_BITS + i32::from(OFFSETS.extra_bits[offset_slot(offset)]);
            let score = worth(length as usize) - cost;
            if score > best.map_or(0, |best| best.score) {
                best = Some(Candidate { item: Item::Lz(offset), length, score });
            }
        }
        best
    }
}

/// Estimated bits that `length` literals cost; the same for all lengths that no other match comes near.
#[inline(always)]
fn worth(length: usize) -> i32 {
    length.min(1 << 20) as i32 * LITERAL_BITS
}
