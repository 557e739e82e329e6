//! The near-optimal parse: the cheapest way through a block under the statistics of the pass before.
//!
//! A node stands for a position. It keeps the cheapest way found to it and the queue of recent offsets that this way
//! leaves behind; keeping only one way per position is the approximation that makes it fast.

use super::costs::{Costs, MAX_MATCH};
use super::split::Splitter;
use super::write::{BitWriter, BlockWriter, Items, Recent, offset_slot};
use super::{MIN_MATCH, RECENT_SLOTS, slot_count};
use crate::matches::{BinaryTrees, Match, MatchCache, Position, SearchLimits, common_length};

/// How the search goes.
const LIMITS: SearchLimits = SearchLimits { depth: 32, nice_length: 64 };

/// Passes that choose items anew.
const PASSES: usize = 2;

/// Longest block in bytes, which bounds the memory for large chunks.
const MAX_BLOCK: usize = 1 << 16;

/// How a node was reached: match length in the low 9 bits (1 for a literal), above it the slot of a recent offset
/// or an explicit offset plus 2.
#[derive(Debug, Clone, Copy, Default)]
struct Step(u32);

impl Step {
    const LITERAL: Self = Self(1);

    #[inline(always)]
    fn matched(length: usize, offset_code: u32) -> Self {
        Self(offset_code << 9 | length as u32)
    }

    #[inline(always)]
    fn one_longer(self) -> Self {
        Self(self.0 + 1)
    }

    #[inline(always)]
    fn length(self) -> usize {
        (self.0 & 0x1ff) as usize
    }

    #[inline(always)]
    fn offset_code(self) -> u32 {
        self.0 >> 9
    }
}

/// Offset code of an explicit offset less the offset.
const EXPLICIT: u32 = RECENT_SLOTS as u32 - 1;

/// The cheapest way found to a position: its cost in the high half, its last step in the low half. As one number,
/// the better of two ways is their minimum, found without a branch that nobody can foresee.
#[derive(Debug, Clone, Copy)]
struct Way(u64);

impl Way {
    const START: Self = Self(0);
    const NONE: Self = Self(u64::MAX);

    #[inline(always)]
    fn cost(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    fn step(self) -> Step {
        Step(self.0 as u32)
    }

    /// Takes another way if it is cheaper.
    #[inline(always)]
    fn offer(&mut self, cost: u32, step: Step) {
        self.0 = self.0.min(u64::from(cost) << 32 | u64::from(step.0));
    }
}

/// Tables of the near-optimal parse.
#[derive(Debug)]
pub(super) struct OptimalParser<P> {
    trees: BinaryTrees<P>,
    cache: MatchCache,
    /// For each position of the block and for its end.
    ways: Vec<Way>,
    /// The queue that the way leaves behind; set when the position is left, as only then the way is final.
    queues: Vec<[P; RECENT_SLOTS]>,
    costs: Costs,
    items: Items,
    steps: Vec<Step>,
    slots: usize,
    /// An offset of the whole chunk less 2 would need a slot more than there are.
    max_offset: u32,
}

impl<P: Position> OptimalParser<P> {
    pub(super) fn new(chunk_size: usize) -> Self {
        // The last match of a block may reach over its nominal end.
        let block = chunk_size.min(MAX_BLOCK) + MAX_MATCH;
        Self {
            trees: BinaryTrees::new(chunk_size, MIN_MATCH),
            cache: MatchCache::new(block),
            ways: vec![Way::NONE; block + 1],
            queues: vec![[P::default(); RECENT_SLOTS]; block + 1],
            costs: Costs::new(),
            items: Items::new(block),
            steps: Vec::with_capacity(block),
            slots: slot_count(chunk_size),
            max_offset: chunk_size as u32 - 3,
        }
    }

    /// Parses the translated chunk `data` and writes its blocks. Stops early when the output is full.
    pub(super) fn write_chunk(&mut self, data: &[u8], writer: &mut BlockWriter, bits: &mut BitWriter<'_>) {
        self.trees.reset(data.len());
        let mut recent: Recent = [1; RECENT_SLOTS];
        let mut pos = 0;
        while pos < data.len() && !bits.overflowed() {
            self.collect_block(data, pos, recent);
            let end = pos + self.cache.len();
            let mut after = recent;
            for _ in 0..PASSES {
                self.costs.fit(&self.items.freqs, self.slots);
                self.find_path(&data[..end], pos, recent);
                after = self.follow_path(&data[pos..end], recent);
            }
            writer.write_block(&self.items, &data[pos..end], bits);
            recent = after;
            pos = end;
        }
    }

    /// Finds the matches from `start` on until the block should end, and makes a first guess at its statistics from
    /// a greedy parse.
    fn collect_block(&mut self, data: &[u8], start: usize, mut recent: Recent) {
        self.cache.clear();
        self.items.clear();
        let mut splitter = Splitter::new();
        let mut guessed = start;
        loop {
            let pos = start + self.cache.len();
            if pos >= data.len()
                || pos - start >= MAX_BLOCK
                || pos == guessed && splitter.ends_block(pos - start, data.len() - pos)
            {
                return;
            }
            let best = self.cache.push(&mut self.trees, data, pos, MAX_MATCH, LIMITS);
            if pos < guessed {
                continue;
            }
            if best.length > 4 || best.length > 2 && best.offset < 1 << (6 * best.length - 6) {
                splitter.matched(best.length);
                match recent.iter().position(|&offset| offset == best.offset) {
                    Some(slot) => {
                        self.items.push_recent(best.length, slot);
                        recent.swap(0, slot);
                    }
                    None => {
                        self.items.push_explicit(best.length, best.offset);
                        recent = [best.offset, recent[0], recent[1]];
                    }
                }
                guessed += best.length as usize;
            } else {
                splitter.literal(data[pos]);
                self.items.push_literal(data[pos]);
                guessed += 1;
            }
        }
    }

    /// Finds the cheapest way from `start` to the end of `data`, the end of the block.
    fn find_path(&mut self, data: &[u8], start: usize, recent: Recent) {
        let len = data.len() - start;
        let ways = &mut self.ways[..=len];
        let queues = &mut self.queues[..=len];
        ways.fill(Way::NONE);
        ways[0] = Way::START;
        queues[0] = recent.map(|offset| P::from_usize(offset as usize));
        let mut index = 0;
        while index < len {
            let way = ways[index];
            if index > 0 {
                queues[index] = queue_after(queues[index - way.step().length()], way.step());
            }
            let pos = start + index;
            let cost = way.cost();
            // `ahead[length - 1]` is the way to where `length` bytes lead.
            let ahead = &mut ways[index + 1..(index + 1 + MAX_MATCH).min(len + 1)];
            ahead[0].offer(cost + self.costs.literal(data[pos]), Step::LITERAL);
            let mut forced = 0;
            if ahead.len() >= MIN_MATCH {
                forced = offer_recent(ahead, cost, data, pos, queues[index], &self.costs);
                if forced == 0 {
                    forced = offer_explicit(ahead, cost, self.cache.at(index), &self.costs, self.max_offset);
                }
            }
            index += forced.max(1);
        }
    }

    /// Turns the way to the last node into items for `data`, the bytes of the block. Returns the queue at its end.
    fn follow_path(&mut self, data: &[u8], mut recent: Recent) -> Recent {
        self.steps.clear();
        let mut index = data.len();
        while index > 0 {
            let step = self.ways[index].step();
            self.steps.push(step);
            index -= step.length();
        }
        self.items.clear();
        for &step in self.steps.iter().rev() {
            let length = step.length();
            if length == 1 {
                self.items.push_literal(data[index]);
            } else if let Some(offset) = step.offset_code().checked_sub(RECENT_SLOTS as u32) {
                let offset = offset + 1;
                self.items.push_explicit(length as u32, offset);
                recent = [offset, recent[0], recent[1]];
            } else {
                let slot = step.offset_code() as usize;
                self.items.push_recent(length as u32, slot);
                recent.swap(0, slot);
            }
            index += length;
        }
        recent
    }
}

/// The queue after `step`.
#[inline(always)]
fn queue_after<P: Position>(mut queue: [P; RECENT_SLOTS], step: Step) -> [P; RECENT_SLOTS] {
    if step.length() == 1 {
        return queue;
    }
    match step.offset_code() {
        slot @ 0..=EXPLICIT => {
            queue.swap(0, slot as usize);
            queue
        }
        code => [P::from_usize((code - EXPLICIT) as usize), queue[0], queue[1]],
    }
}

/// Offers matches with the recent offsets of `queue` at `pos`. Returns the length of one that is long enough to be
/// taken without looking further, or 0.
#[inline(always)]
fn offer_recent<P: Position>(
    ahead: &mut [Way],
    cost: u32,
    data: &[u8],
    pos: usize,
    queue: [P; RECENT_SLOTS],
    costs: &Costs,
) -> usize {
    for (slot, offset) in queue.into_iter().enumerate() {
        let Some(from) = pos.checked_sub(offset.to_usize()) else { continue };
        if data[from..from + MIN_MATCH] != data[pos..pos + MIN_MATCH] {
            continue;
        }
        let longest = common_length(data, from, pos, MIN_MATCH, ahead.len());
        if offer_lengths(ahead, cost, MIN_MATCH, longest, costs.lengths(slot), slot as u32) {
            return longest;
        }
    }
    0
}

/// Offers `matches`. Returns the length of one that is long enough to be taken without looking further, or 0.
#[inline(always)]
fn offer_explicit(ahead: &mut [Way], cost: u32, matches: &[Match], costs: &Costs, max_offset: u32) -> usize {
    let mut shortest = MIN_MATCH;
    for &Match { length, offset } in matches {
        if offset > max_offset {
            break;
        }
        let longest = (length as usize).min(ahead.len());
        let slot = offset_slot(offset);
        let cost = cost + costs.offset(offset, slot);
        if offer_lengths(ahead, cost, shortest, longest, costs.lengths(slot), offset + EXPLICIT) {
            return longest;
        }
        shortest = longest + 1;
    }
    0
}

/// Offers a match at all lengths from `shortest` to `longest`, or only at `longest` if that is long enough to be taken
/// without looking further; says whether it is.
#[inline(always)]
fn offer_lengths(
    ahead: &mut [Way],
    cost: u32,
    shortest: usize,
    longest: usize,
    costs: &[u16; MAX_MATCH + 1],
    offset_code: u32,
) -> bool {
    let forced = longest >= LIMITS.nice_length;
    let shortest = if forced { longest } else { shortest };
    if shortest <= longest {
        let ways = &mut ahead[shortest - 1..longest];
        let costs = &costs[shortest..longest + 1];
        let mut step = Step::matched(shortest, offset_code);
        let mut index = 0;
        while index < ways.len() {
            let new = cost + u32::from(costs[index]);
            if new < ways[index].cost() {
                ways[index] = Way(u64::from(new) << 32 | u64::from(step.0));
            }
            step = step.one_longer();
            index += 1;
        }
    }
    forced
}
