//! The fast parse: hash chains, recent offsets first, one or two positions of look-ahead.

use super::split::Splitter;
use super::write::{BitWriter, BlockWriter, Items, Recent, offset_slot};
use super::{EXTRA_BITS, MIN_MATCH, RECENT_SLOTS};
use crate::matches::{HashChains, Match, Position, SearchLimits, common_length};

/// How the search goes.
const LIMITS: SearchLimits = SearchLimits { depth: 16, nice_length: 64 };

/// Longest match of the format.
const MAX_MATCH: usize = 257;

/// Estimated cost of a literal in bits.
const LITERAL_BITS: i32 = 6;

/// Estimated cost of a match's symbols in bits, with a recent or an explicit offset (without its extra bits).
const RECENT_BITS: i32 = 5;
const EXPLICIT_BITS: i32 = 8;

/// A match with what it is worth: estimated bits saved against literals.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    length: u32,
    /// Offset, or the slot of a recent one.
    offset: Result<u32, usize>,
    score: i32,
}

/// Tables of the fast parse.
#[derive(Debug)]
pub(super) struct FastParser<P> {
    chains: HashChains<P>,
    items: Items,
}

impl<P: Position> FastParser<P> {
    pub(super) fn new(chunk_size: usize) -> Self {
        Self { chains: HashChains::new(chunk_size), items: Items::new(chunk_size) }
    }

    /// Parses the translated chunk `data` and writes its blocks. Stops early when the output is full.
    pub(super) fn write_chunk(&mut self, data: &[u8], writer: &mut BlockWriter, bits: &mut BitWriter<'_>) {
        self.chains.reset(data.len());
        let mut recent: Recent = [1; RECENT_SLOTS];
        let mut pos = 0;
        while pos < data.len() && !bits.overflowed() {
            let end = self.parse_block(data, pos, &mut recent);
            writer.write_block(&self.items, &data[pos..end], bits);
            pos = end;
        }
    }

    /// Chooses items from `start` on until the block should end; returns where.
    fn parse_block(&mut self, data: &[u8], start: usize, recent: &mut Recent) -> usize {
        self.items.clear();
        let mut splitter = Splitter::new();
        // Hashes need four bytes.
        let searchable = data.len().saturating_sub(3);
        let mut pos = start;
        while pos < searchable {
            if splitter.ends_block(pos - start, data.len() - pos) {
                return pos;
            }
            let Some(mut best) = self.best_at(data, pos, recent, LIMITS.depth) else {
                splitter.literal(data[pos]);
                self.items.push_literal(data[pos]);
                pos += 1;
                continue;
            };
            let mut entered = pos + 1;
            while (best.length as usize) < LIMITS.nice_length && pos + 1 < searchable {
                let later = self.best_at(data, pos + 1, recent, LIMITS.depth / 2);
                entered = pos + 2;
                match later {
                    Some(later) if later.score > best.score => {
                        splitter.literal(data[pos]);
                        self.items.push_literal(data[pos]);
                        pos += 1;
                        best = later;
                    }
                    _ => break,
                }
            }
            splitter.matched(best.length);
            match best.offset {
                Ok(offset) => {
                    self.items.push_explicit(best.length, offset);
                    *recent = [offset, recent[0], recent[1]];
                }
                Err(slot) => {
                    self.items.push_recent(best.length, slot);
                    recent.swap(0, slot);
                }
            }
            pos += best.length as usize;
            self.chains.skip(data, entered, pos.min(searchable).saturating_sub(entered));
        }
        for &byte in &data[pos.min(data.len())..] {
            self.items.push_literal(byte);
        }
        data.len()
    }

    /// Enters `pos` and returns the most worthwhile match there, if any pays.
    #[inline(always)]
    fn best_at(&mut self, data: &[u8], pos: usize, recent: &Recent, depth: u32) -> Option<Candidate> {
        let most = (data.len() - pos).min(MAX_MATCH);
        let mut best: Option<Candidate> = None;
        let next = &data[pos..pos + MIN_MATCH];
        for (slot, &offset) in recent.iter().enumerate() {
            let Some(from) = pos.checked_sub(offset as usize) else { continue };
            if data[from..from + MIN_MATCH] == *next {
                let length = common_length(data, from, pos, MIN_MATCH, most);
                let score = length as i32 * LITERAL_BITS - RECENT_BITS - slot as i32;
                if best.is_none_or(|best| score > best.score) {
                    best = Some(Candidate { length: length as u32, offset: Err(slot), score });
                }
            }
        }
        let at_least = best.map_or(MIN_MATCH, |best| best.length as usize);
        let limits = SearchLimits { depth, ..LIMITS };
        if let Some(Match { length, offset }) = self.chains.longest(data, pos, at_least, most, limits) {
            let cost = EXPLICIT_BITS + i32::from(EXTRA_BITS[offset_slot(offset)]);
            let score = length as i32 * LITERAL_BITS - cost;
            if score > best.map_or(0, |best| best.score) {
                best = Some(Candidate { length, offset: Ok(offset), score });
            }
        }
        best
    }
}
