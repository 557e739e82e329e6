//! The near-optimal parse: the cheapest way through a block under the statistics of the pass before.
//!
//! A node stands for a position. It keeps the cheapest way found to it and the queue of recent offsets that this way
//! leaves behind; keeping only one way per position is the approximation that makes it fast. Steps of several items
//! ("match, literal, the same offset again") make up for much of what that loses.

use super::costs::{Costs, MAX_MATCH};
use super::split::Splitter;
use super::write::{BitWriter, BlockWriter, Items, Recent, offset_slot};
use super::{MIN_MATCH, RECENT_SLOTS, guess, slot_count};
use crate::matches::{Match, MatchSource, Position, common_length};

/// How hard to try.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Passes that choose items anew.
    pub(super) passes: usize,
    /// Which positions are passed over.
    pub(super) pruning: Option<Pruning>,
}

/// A position is passed over when the end of a longest match ahead of it is cheaper to reach: whatever starts at the
/// position could nearly as well start there, shortened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pruning {
    /// What each byte further ahead may cost, in units of 1/16 bit.
    pub(super) rate: i64,
}

/// Chunks up to this length, in bytes, get more passes: what is typical says little of them, and they take no time.
const SHORT_CHUNK: usize = 8192;
const SHORT_CHUNK_PASSES: usize = 1;

/// Longest block in bytes, which bounds the memory for large chunks.
const MAX_BLOCK: usize = 1 << 16;

/// Most positions in a block: its last match may reach over its nominal end.
pub(super) const MAX_POSITIONS: usize = MAX_BLOCK + MAX_MATCH;

/// How a node was reached: match length in the low 9 bits (1 for a literal), above it the slot of a recent offset
/// or an explicit offset plus 2. Zero is a step of several items, see [`Gap`].
#[derive(Debug, Clone, Copy, Default)]
struct Step(u32);

impl Step {
    const LITERAL: Self = Self(1);
    const GAP: Self = Self(0);

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
pub(super) const EXPLICIT: u32 = RECENT_SLOTS as u32 - 1;

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

/// A step of three items: a match, a literal where the two strings differ, the same offset again.
#[derive(Debug, Clone, Copy, Default)]
struct Gap {
    first: Step,
    /// Length of the second match.
    again: u32,
}

impl Gap {
    fn length(self) -> usize {
        self.first.length() + 1 + self.again as usize
    }
}

/// Tables of the near-optimal parse.
#[derive(Debug)]
pub(super) struct OptimalParser<M: MatchSource> {
    effort: Effort,
    matches: M,
    /// For each position of the block and for its end.
    ways: Vec<Way>,
    /// For each position whose last step is one of several items, these.
    gaps: Vec<Gap>,
    /// The queue that the way leaves behind; set when the position is left, as only then the way is final.
    queues: Vec<[M::Position; RECENT_SLOTS]>,
    costs: Costs,
    items: Items,
    steps: Vec<Step>,
    slots: usize,
    /// An offset of the whole chunk less 2 would need a slot more than there are.
    max_offset: u32,
}

impl<M: MatchSource> OptimalParser<M> {
    pub(super) fn new(chunk_size: usize, matches: M, effort: Effort) -> Self {
        let block = chunk_size.min(MAX_POSITIONS);
        Self {
            effort,
            matches,
            ways: vec![Way::NONE; block + 1],
            gaps: vec![Gap::default(); block + 1],
            queues: vec![[M::Position::default(); RECENT_SLOTS]; block + 1],
            costs: Costs::new(),
            items: Items::new(block),
            steps: Vec::with_capacity(block),
            slots: slot_count(chunk_size),
            max_offset: chunk_size as u32 - 3,
        }
    }

    /// Parses the translated chunk `data` and writes its blocks. Stops early when the output is full.
    pub(super) fn write_chunk(&mut self, data: &[u8], writer: &mut BlockWriter, bits: &mut BitWriter<'_>) {
        self.matches.begin_chunk(data);
        let mut recent: Recent = [1; RECENT_SLOTS];
        let mut pos = 0;
        while pos < data.len() && !bits.overflowed() {
            let end = self.guess_block(data, pos, recent);
            let mut after = recent;
            guess::blend(&mut self.items.freqs, self.slots);
            let more = if data.len() <= SHORT_CHUNK { SHORT_CHUNK_PASSES } else { 0 };
            for _ in 0..self.effort.passes + more {
                self.costs.fit(&self.items.freqs, self.slots);
                self.find_path(&data[..end], pos, recent);
                after = self.follow_path(&data[pos..end], recent);
            }
            writer.write_block(&self.items, &data[pos..end], bits);
            recent = after;
            pos = end;
        }
    }

    /// Makes a first guess at the statistics of the block from `start` on, from a greedy parse. Returns where it ends.
    fn guess_block(&mut self, data: &[u8], start: usize, mut recent: Recent) -> usize {
        self.matches.begin_block(start);
        self.items.clear();
        let mut splitter = Splitter::new();
        let mut pos = start;
        while pos < data.len()
            && pos - start < MAX_BLOCK
            && !splitter.ends_block(pos - start, data.len() - pos)
        {
            let (length, offset_code) =
                guess::choose(data, pos, &recent, self.matches.at(data, pos), MAX_MATCH);
            if length == 1 {
                splitter.literal(data[pos]);
                self.items.push_literal(data[pos]);
            } else {
                splitter.matched(length);
                push_match(&mut self.items, &mut recent, length, offset_code);
            }
            pos += length as usize;
        }
        self.matches.end_block(data, pos);
        pos
    }

    /// Finds the cheapest way from `start` to the end of `data`, the end of the block.
    fn find_path(&mut self, data: &[u8], start: usize, recent: Recent) {
        let len = data.len() - start;
        let nice_length = self.matches.nice_length();
        let pruning = self.effort.pruning;
        let Self { ways, queues, gaps, matches, costs, max_offset, .. } = self;
        let (ways, queues, gaps) = (&mut ways[..=len], &mut queues[..=len], &mut gaps[..=len]);
        ways.fill(Way::NONE);
        ways[0] = Way::START;
        queues[0] = recent.map(|offset| M::Position::from_usize(offset as usize));
        let mut reach = Reach::default();
        let mut index = 0;
        while index < len {
            let way = ways[index];
            if pruning.is_some_and(|pruning| reach.is_better(index, way.cost(), pruning)) {
                index += 1;
                continue;
            }
            if index > 0 {
                let step = way.step();
                queues[index] = if step.0 == Step::GAP.0 {
                    queue_after(queues[index - gaps[index].length()], gaps[index].first)
                } else {
                    queue_after(queues[index - step.length()], step)
                };
            }
            let pos = start + index;
            let cost = way.cost();
            let mut node = Node {
                // `ahead[length - 1]` is the way to where `length` bytes lead.
                ahead: &mut ways[index + 1..(index + 1 + MAX_MATCH).min(len + 1)],
                cost,
                costs,
                nice_length,
            };
            node.ahead[0].offer(cost + costs.literal(data[pos]), Step::LITERAL);
            if node.ahead.len() < MIN_MATCH {
                index += 1;
                continue;
            }
            let first = node.offer_recent(data, pos, queues[index]);
            let first =
                first.and_then(|recent| node.offer_explicit(matches.at(data, pos), *max_offset, recent));
            let first = match first {
                Ok(first) => first,
                Err(Forced(length)) => {
                    index += length;
                    continue;
                }
            };
            if let Some(pruning) = pruning {
                reach.note(index, index + first.step.length(), first.cost, pruning);
            }
            let behind = pos + first.step.length();
            if let Some(again) = length_behind_gap(data, behind, first.offset) {
                let cost = first.cost + costs.literal(data[behind]) + u32::from(costs.lengths(0)[again]);
                let gap = Gap { first: first.step, again: again as u32 };
                let to = index + gap.length();
                if cost < ways[to].cost() {
                    ways[to] = Way::NONE;
                    ways[to].offer(cost, Step::GAP);
                    gaps[to] = gap;
                }
            }
            index += 1;
        }
    }

    /// Turns the way to the last node into items for `data`, the bytes of the block. Returns the queue at its end.
    fn follow_path(&mut self, data: &[u8], mut recent: Recent) -> Recent {
        self.steps.clear();
        let mut index = data.len();
        while index > 0 {
            let step = self.ways[index].step();
            if step.0 == Step::GAP.0 {
                let gap = self.gaps[index];
                self.steps.extend([Step::matched(gap.again as usize, 0), Step::LITERAL, gap.first]);
                index -= gap.length();
            } else {
                self.steps.push(step);
                index -= step.length();
            }
        }
        self.items.clear();
        for &step in self.steps.iter().rev() {
            let length = step.length();
            if length == 1 {
                self.items.push_literal(data[index]);
            } else {
                push_match(&mut self.items, &mut recent, length as u32, step.offset_code());
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

/// Adds a match to `items` and updates the queue.
#[inline(always)]
fn push_match(items: &mut Items, recent: &mut Recent, length: u32, offset_code: u32) {
    if let Some(offset) = offset_code.checked_sub(EXPLICIT).filter(|&offset| offset > 0) {
        items.push_explicit(length, offset);
        *recent = [offset, recent[0], recent[1]];
    } else {
        items.push_recent(length, offset_code as usize);
        recent.swap(0, offset_code as usize);
    }
}

/// The longest match offered at a node. Its step has length 0 if there is none.
#[derive(Debug, Clone, Copy, Default)]
struct Longest {
    step: Step,
    offset: usize,
    /// What the way behind it costs.
    cost: u32,
}

/// The best end of a longest match ahead of the position where the parse is.
#[derive(Debug, Clone, Copy, Default)]
struct Reach {
    to: usize,
    /// Its cost less what the rate allows for the bytes up to there.
    cost: i64,
}

impl Reach {
    /// Whether it is better to be there than at `index` for `cost`.
    #[inline(always)]
    fn is_better(&self, index: usize, cost: u32, pruning: Pruning) -> bool {
        self.to > index && i64::from(cost) - pruning.rate * index as i64 > self.cost
    }

    /// Takes note of the longest match at `index`, if there is one: `to` can be reached for `cost`.
    #[inline(always)]
    fn note(&mut self, index: usize, to: usize, cost: u32, pruning: Pruning) {
        let cost = i64::from(cost) - pruning.rate * to as i64;
        if to > index && (self.to <= index || cost < self.cost) {
            *self = Self { to, cost };
        }
    }
}

/// A match long enough to be taken without looking further, of this length.
#[derive(Debug, Clone, Copy)]
struct Forced(usize);

/// A node from which ways go on.
struct Node<'a> {
    ahead: &'a mut [Way],
    cost: u32,
    costs: &'a Costs,
    nice_length: usize,
}

impl Node<'_> {
    /// Offers matches with the recent offsets of `queue` at `pos`. Returns the longest.
    #[inline(always)]
    fn offer_recent<P: Position>(
        &mut self,
        data: &[u8],
        pos: usize,
        queue: [P; RECENT_SLOTS],
    ) -> Result<Longest, Forced> {
        let next = load2(data, pos);
        let mut longest = Longest::default();
        for (slot, offset) in queue.into_iter().enumerate() {
            let offset = offset.to_usize();
            // An offset before the start of the chunk wraps around and finds nothing.
            if load2(data, pos.wrapping_sub(offset)) != next {
                continue;
            }
            let length = common_length(data, pos - offset, pos, MIN_MATCH, self.ahead.len());
            // An earlier slot costs less for the same length.
            let shortest = MIN_MATCH.max(longest.step.length() + 1);
            let costs = self.costs.lengths(slot);
            self.offer_lengths(self.cost, shortest, length, costs, slot as u32)?;
            if length >= shortest {
                let cost = self.cost + u32::from(costs[length]);
                longest = Longest { step: Step::matched(length, slot as u32), offset, cost };
            }
        }
        Ok(longest)
    }

    /// Offers those of `matches` that are longer than `longest`. Returns the longest of all.
    #[inline(always)]
    fn offer_explicit(
        &mut self,
        matches: &[Match],
        max_offset: u32,
        mut longest: Longest,
    ) -> Result<Longest, Forced> {
        let mut shortest = MIN_MATCH.max(longest.step.length() + 1);
        for &Match { length, offset } in matches {
            let length = (length as usize).min(self.ahead.len());
            // A recent offset costs less for the same length.
            if length < shortest {
                continue;
            }
            if offset > max_offset {
                break;
            }
            let slot = offset_slot(offset);
            let cost = self.cost + self.costs.offset(offset, slot);
            let costs = self.costs.lengths(slot);
            self.offer_lengths(cost, shortest, length, costs, offset + EXPLICIT)?;
            let cost = cost + u32::from(costs[length]);
            longest =
                Longest { step: Step::matched(length, offset + EXPLICIT), offset: offset as usize, cost };
            shortest = length + 1;
        }
        Ok(longest)
    }

    /// Offers a match at all lengths from `shortest` to `longest`, or only at `longest` if that is long enough to be
    /// taken without looking further.
    #[inline(always)]
    fn offer_lengths(
        &mut self,
        cost: u32,
        shortest: usize,
        longest: usize,
        costs: &[u16; MAX_MATCH + 1],
        offset_code: u32,
    ) -> Result<(), Forced> {
        let is_forced = longest >= self.nice_length;
        let shortest = if is_forced { longest } else { shortest };
        if shortest <= longest {
            let ways = &mut self.ahead[shortest - 1..longest];
            let mut step = Step::matched(shortest, offset_code);
            for (way, &length_cost) in ways.iter_mut().zip(&costs[shortest..longest + 1]) {
                way.offer(cost + u32::from(length_cost), step);
                step = step.one_longer();
            }
        }
        if is_forced { Err(Forced(longest)) } else { Ok(()) }
    }
}

/// Length of the match with `offset` behind a literal at `gap`, if a match stands before it and there is one.
#[inline(always)]
fn length_behind_gap(data: &[u8], gap: usize, offset: usize) -> Option<usize> {
    let pos = gap + 1;
    let next = load2(data, pos)?;
    if offset == 0 || load2(data, pos - offset) != Some(next) {
        return None;
    }
    Some(common_length(data, pos - offset, pos, MIN_MATCH, (data.len() - pos).min(MAX_MATCH)))
}

/// The two bytes at `pos`, if they are in `data`.
#[inline(always)]
fn load2(data: &[u8], pos: usize) -> Option<u16> {
    let bytes = data.get(pos..pos.wrapping_add(MIN_MATCH))?;
    Some(u16::from_le_bytes([bytes[0], bytes[1]]))
}
