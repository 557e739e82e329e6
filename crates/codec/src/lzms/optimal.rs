//! The near-optimal parse: the cheapest way through a piece of the chunk under the adaptive state at its start.
//!
//! A node stands for a position. It keeps the cheapest way found to it and the state that this way leaves behind: both
//! repeat queues and the contexts of the decisions. Keeping only one way per position is the approximation that makes
//! it fast; steps of several items ("match, literal, the same offset again") make up for most of what that loses.

use super::deltas::{DeltaFinder, delta_length, starts_delta};
use super::slots::{LENGTHS, OFFSETS, length_slot, offset_slot};
use super::write::{DeltaSource, Item, Model, Output, Sources};
use super::{REPEATS, costs};
use crate::matches::{BinaryTrees, LOOKAHEAD, Match, MatchLists, SearchLimits, common_length};

/// How the search goes.
const LIMITS: SearchLimits = SearchLimits { depth: 32, nice_length: NICE_LENGTH };

/// A match of this length is taken at once.
const NICE_LENGTH: usize = 64;

/// Longest piece in bytes. The adaptive state is frozen for its length, so it should not be much longer than codes
/// live.
const MAX_PIECE: usize = 1024;

/// Furthest a step can lead: two matches that are not nice with a literal between.
const MAX_STEP: usize = 2 * NICE_LENGTH + 1;

/// Shortest matches offered.
const MIN_REPEAT: usize = 2;
const MIN_EXPLICIT_DELTA: usize = 3;

/// A source as one number: the literal, repeats, explicit LZ offsets (below 2^30), explicit delta sources (31 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packed(u32);

const LZ_REPEAT: u32 = 1;
const DELTA_REPEAT: u32 = LZ_REPEAT + REPEATS as u32;
const LZ: u32 = 1 << 30;
const DELTA: u32 = 1 << 31;

impl Packed {
    const LITERAL: Self = Self(0);

    #[inline(always)]
    fn of(item: Item) -> Self {
        Self(match item {
            Item::Literal => 0,
            Item::LzRepeat(index) => LZ_REPEAT + index as u32,
            Item::DeltaRepeat(index) => DELTA_REPEAT + index as u32,
            Item::Lz(offset) => LZ | offset,
            Item::Delta(source) => DELTA | source.packed(),
        })
    }

    #[inline(always)]
    fn item(self) -> Item {
        match self.0 {
            0 => Item::Literal,
            packed if packed & DELTA != 0 => Item::Delta(DeltaSource::from_packed(packed & !DELTA)),
            packed if packed & LZ != 0 => Item::Lz(packed & !LZ),
            packed if packed >= DELTA_REPEAT => Item::DeltaRepeat((packed - DELTA_REPEAT) as usize),
            packed => Item::LzRepeat((packed - LZ_REPEAT) as usize),
        }
    }
}

/// Lengths of a step: of its last item in the low bits, of a match before that above (0 for none), and a mark for a
/// literal between.
#[derive(Debug, Clone, Copy)]
struct Lengths(u32);

const LENGTH_BITS: u32 = 12;
const GAP: u32 = 1 << (2 * LENGTH_BITS);

impl Lengths {
    #[inline(always)]
    fn last(self) -> usize {
        (self.0 & ((1 << LENGTH_BITS) - 1)) as usize
    }

    #[inline(always)]
    fn first(self) -> usize {
        (self.0 >> LENGTH_BITS & ((1 << LENGTH_BITS) - 1)) as usize
    }

    #[inline(always)]
    fn gap(self) -> usize {
        usize::from(self.0 & GAP != 0)
    }

    #[inline(always)]
    fn sum(self) -> usize {
        self.first() + self.gap() + self.last()
    }
}

/// The cheapest way found to a position: its cost and its last step.
#[derive(Debug, Clone, Copy)]
struct Way {
    cost: u32,
    last: Packed,
    lengths: Lengths,
    /// The match before the literal before the last item, if there is one.
    first: Packed,
}

impl Way {
    const NONE: Self =
        Self { cost: u32::MAX, last: Packed::LITERAL, lengths: Lengths(0), first: Packed::LITERAL };
}

/// What the encoder's state is after a way.
#[derive(Debug, Clone, Copy)]
struct State {
    sources: Sources,
    contexts: Contexts,
}

/// The contexts of the decisions, as in `Decisions`.
#[derive(Debug, Clone, Copy)]
struct Contexts {
    main: u8,
    kind: u8,
    lz: u8,
    lz_repeats: [u8; 2],
    delta: u8,
    delta_repeats: [u8; 2],
}

impl Contexts {
    fn of(model: &Model) -> Self {
        let decisions = &model.decisions;
        Self {
            main: decisions.main.context(),
            kind: decisions.kind.context(),
            lz: decisions.lz.context(),
            lz_repeats: [decisions.lz_repeats[0].context(), decisions.lz_repeats[1].context()],
            delta: decisions.delta.context(),
            delta_repeats: [decisions.delta_repeats[0].context(), decisions.delta_repeats[1].context()],
        }
    }

    /// The contexts after `item`. Bits that fell out are cut where a context is used.
    #[inline(always)]
    fn after(mut self, item: Item) -> Self {
        let push = |context: &mut u8, result: u8| *context = *context << 1 | result;
        let push_repeat = |contexts: &mut [u8; 2], index: usize| {
            push(&mut contexts[0], u8::from(index > 0));
            if index > 0 {
                push(&mut contexts[1], u8::from(index > 1));
            }
        };
        push(&mut self.main, u8::from(item != Item::Literal));
        match item {
            Item::Literal => {}
            Item::Lz(_) => {
                push(&mut self.kind, 0);
                push(&mut self.lz, 0);
            }
            Item::LzRepeat(index) => {
                push(&mut self.kind, 0);
                push(&mut self.lz, 1);
                push_repeat(&mut self.lz_repeats, index);
            }
            Item::Delta(_) => {
                push(&mut self.kind, 1);
                push(&mut self.delta, 0);
            }
            Item::DeltaRepeat(index) => {
                push(&mut self.kind, 1);
                push(&mut self.delta, 1);
                push_repeat(&mut self.delta_repeats, index);
            }
        }
        self
    }
}

impl State {
    #[inline(always)]
    fn after(self, item: Item) -> Self {
        Self { sources: self.sources.after(item), contexts: self.contexts.after(item) }
    }

    /// The state after the step of `way`.
    #[inline(always)]
    fn after_step(mut self, way: &Way) -> Self {
        if way.lengths.first() > 0 {
            self = self.after(way.first.item());
        }
        if way.lengths.gap() > 0 {
            self = self.after(Item::Literal);
        }
        self.after(way.last.item())
    }
}

/// A match long enough to be taken without looking further.
#[derive(Debug, Clone, Copy)]
struct Forced {
    item: Item,
}

/// Tables of the near-optimal parse.
#[derive(Debug)]
pub(super) struct OptimalParser {
    /// Where an LZ match is this long, delta matches are not looked for.
    good_length: usize,
    trees: BinaryTrees<u32>,
    deltas: DeltaFinder,
    found: Vec<Match>,
    ways: Box<[Way]>,
    states: Box<[State]>,
    /// Items of a piece from its end to its start, with their lengths.
    path: Vec<(Item, u32)>,
    /// Cost of each length.
    lengths: [u32; NICE_LENGTH + 1],
    /// The length code that `lengths` is for.
    length_code: Option<u32>,
}

impl OptimalParser {
    pub(super) fn new(chunk_size: usize, good_length: usize) -> Self {
        let nodes = MAX_PIECE + MAX_STEP + 1;
        let state = State {
            sources: Sources::START,
            contexts: Contexts {
                main: 0,
                kind: 0,
                lz: 0,
                lz_repeats: [0; 2],
                delta: 0,
                delta_repeats: [0; 2],
            },
        };
        Self {
            good_length,
            trees: BinaryTrees::scaled(chunk_size, MIN_REPEAT),
            deltas: DeltaFinder::new(chunk_size),
            found: Vec::with_capacity(NICE_LENGTH),
            ways: vec![Way::NONE; nodes].into_boxed_slice(),
            states: vec![state; nodes].into_boxed_slice(),
            path: Vec::with_capacity(nodes),
            lengths: [0; NICE_LENGTH + 1],
            length_code: None,
        }
    }

    /// Parses the filtered chunk `data` and writes it. Stops early when the output is full.
    pub(super) fn write_chunk(&mut self, data: &[u8], model: &mut Model, output: &mut Output<'_>) {
        self.trees.reset(data.len());
        self.deltas.reset(data.len());
        self.length_code = None;
        let mut pos = 0;
        while pos < data.len() && !output.overflowed() {
            if self.length_code != Some(model.length_code) {
                self.length_code = Some(model.length_code);
                for (length, cost) in self.lengths.iter_mut().enumerate().skip(1) {
                    *cost = length_cost(model, length);
                }
            }
            let (len, forced) = self.find_path(data, pos, model);
            self.write_path(&data[pos..pos + len], model, output);
            pos += len;
            if let Some(Forced { item }) = forced {
                let length = full_length(data, pos, item, model);
                model.write_match(item, length as u32, output);
                self.skip(data, pos + 1, length - 1);
                pos += length;
            }
        }
    }

    /// Enters `count` positions that a match covers.
    fn skip(&mut self, data: &[u8], pos: usize, count: usize) {
        for at in pos..(pos + count).min(data.len().saturating_sub(LOOKAHEAD - 1)) {
            self.trees.skip(data, at, LIMITS);
        }
    }

    /// Finds the cheapest way from `start` to where the piece ends. Returns its length in bytes and the match that is
    /// to follow it, if that is settled.
    fn find_path(&mut self, data: &[u8], start: usize, model: &Model) -> (usize, Option<Forced>) {
        let mut end = 0;
        let mut at = 0;
        self.ways[0] = Way { cost: 0, ..Way::NONE };
        self.states[0] = State { sources: model.sources, contexts: Contexts::of(model) };
        loop {
            if at > 0 {
                let way = self.ways[at];
                self.states[at] = self.states[at - way.lengths.sum()].after_step(&way);
                // Only one way goes on from here, or it is time to let the state adapt.
                if at == end || at >= MAX_PIECE {
                    return (at, None);
                }
            }
            let node =
                Node { data, pos: start + at, at, cost: self.ways[at].cost, state: self.states[at], model };
            let mut ways = Ways { ways: &mut self.ways, end: &mut end, lengths: &self.lengths };
            let forced =
                node.expand(&mut ways, &mut self.trees, &mut self.deltas, self.good_length, &mut self.found);
            if forced.is_some() {
                return (at, forced);
            }
            at += 1;
        }
    }

    /// Writes the items of the way to the end of `piece`.
    fn write_path(&mut self, piece: &[u8], model: &mut Model, output: &mut Output<'_>) {
        self.path.clear();
        let mut at = piece.len();
        while at > 0 {
            let way = self.ways[at];
            self.path.push((way.last.item(), way.lengths.last() as u32));
            if way.lengths.gap() > 0 {
                self.path.push((Item::Literal, 1));
            }
            if way.lengths.first() > 0 {
                self.path.push((way.first.item(), way.lengths.first() as u32));
            }
            at -= way.lengths.sum();
        }
        for &(item, length) in self.path.iter().rev() {
            match item {
                Item::Literal => model.write_literal(piece[at], output),
                _ => model.write_match(item, length, output),
            }
            at += length as usize;
        }
    }
}

fn length_cost(model: &Model, length: usize) -> u32 {
    let slot = length_slot(length as u32);
    (model.lengths.len(slot) + u32::from(LENGTHS.extra_bits[slot])) * costs::BIT
}

fn offset_cost(lens: impl Fn(usize) -> u32, offset: u32) -> u32 {
    let slot = offset_slot(offset);
    (lens(slot) + u32::from(OFFSETS.extra_bits[slot])) * costs::BIT
}

/// How long a match is that starts at `pos`, up to the end of `data`.
fn full_length(data: &[u8], pos: usize, item: Item, model: &Model) -> usize {
    let most = data.len() - pos;
    let lz = |offset: u32| common_length(data, pos - offset as usize, pos, 0, most);
    match item {
        Item::Literal => 1,
        Item::Lz(offset) => lz(offset),
        Item::LzRepeat(index) => lz(model.sources.lz.repeat(index)),
        Item::Delta(source) => delta_length(data, pos, source, most),
        Item::DeltaRepeat(index) => delta_length(data, pos, model.sources.delta.repeat(index), most),
    }
}

/// The ways of a piece while they are found.
struct Ways<'a> {
    ways: &'a mut [Way],
    /// The furthest node that a way leads to.
    end: &'a mut usize,
    lengths: &'a [u32; NICE_LENGTH + 1],
}

impl Ways<'_> {
    /// Makes nodes up to `at` known.
    #[inline(always)]
    fn reach(&mut self, at: usize) {
        while *self.end < at {
            *self.end += 1;
            self.ways[*self.end] = Way::NONE;
        }
    }

    #[inline(always)]
    fn offer(&mut self, at: usize, way: Way) {
        self.reach(at);
        if way.cost < self.ways[at].cost {
            self.ways[at] = way;
        }
    }

    /// Offers a match from node `at` at all lengths from `shortest` to `longest`; `cost` is without the length.
    #[inline(always)]
    fn offer_lengths(&mut self, at: usize, cost: u32, item: Item, shortest: usize, longest: usize) {
        if shortest > longest {
            return;
        }
        self.reach(at + longest);
        let last = Packed::of(item);
        let ways = &mut self.ways[at + shortest..at + longest + 1];
        let lengths = &self.lengths[shortest..longest + 1];
        for ((way, &length_cost), length) in ways.iter_mut().zip(lengths).zip(shortest as u32..) {
            let cost = cost + length_cost;
            if cost < way.cost {
                *way = Way { cost, last, lengths: Lengths(length), first: Packed::LITERAL };
            }
        }
    }
}

/// A node from which ways go on.
#[derive(Clone, Copy)]
struct Node<'a> {
    data: &'a [u8],
    /// Where it stands in the chunk and in the piece.
    pos: usize,
    at: usize,
    cost: u32,
    state: State,
    model: &'a Model,
}

impl Node<'_> {
    /// Offers all that can follow. A match that is long enough is returned instead; the ways to this node are then
    /// all that count.
    #[inline(always)]
    fn expand(
        self,
        ways: &mut Ways<'_>,
        trees: &mut BinaryTrees<u32>,
        deltas: &mut DeltaFinder,
        good_length: usize,
        found: &mut Vec<Match>,
    ) -> Option<Forced> {
        let Self { data, pos, model, state, .. } = self;
        let most = (data.len() - pos).min(NICE_LENGTH);
        let decisions = &model.decisions;
        let contexts = state.contexts;
        // The trees must see every position.
        found.clear();
        if data.len() - pos >= LOOKAHEAD {
            trees.find(data, pos, most, LIMITS, found);
        }
        self.offer_literal(ways, most);
        let cost = self.cost + costs::decision(&decisions.main, contexts.main, 1);
        let lz_cost = cost + costs::decision(&decisions.kind, contexts.kind, 0);
        let delta_cost = cost + costs::decision(&decisions.kind, contexts.kind, 1);

        let repeat_cost = lz_cost + costs::decision(&decisions.lz, contexts.lz, 1);
        let mut shortest = MIN_REPEAT;
        for index in 0..REPEATS {
            let offset = state.sources.lz.repeat(index) as usize;
            if offset > pos || most < MIN_REPEAT || data[pos - offset] != data[pos] {
                continue;
            }
            let length = common_length(data, pos - offset, pos, 1, most);
            let item = Item::LzRepeat(index);
            if length >= NICE_LENGTH {
                return Some(Forced { item });
            }
            let cost = repeat_cost + costs::repeat(&decisions.lz_repeats, contexts.lz_repeats, index);
            // An earlier repeat costs less for the same length.
            if length >= shortest {
                ways.offer_lengths(self.at, cost, item, shortest, length);
                self.offer_again(ways, cost, item, length, offset);
                shortest = length + 1;
            }
        }

        let explicit_cost = lz_cost + costs::decision(&decisions.lz, contexts.lz, 0);
        for &Match { length, offset } in found.iter() {
            let (length, item) = (length as usize, Item::Lz(offset));
            // A repeat costs less for the same length.
            if length < shortest {
                continue;
            }
            if length >= NICE_LENGTH {
                return Some(Forced { item });
            }
            let cost = explicit_cost + offset_cost(|slot| model.lz_offsets.len(slot), offset);
            ways.offer_lengths(self.at, cost, item, shortest, length);
            self.offer_again(ways, cost, item, length, offset as usize);
            shortest = length + 1;
        }

        if shortest > good_length {
            return None;
        }
        let repeat_cost = delta_cost + costs::decision(&decisions.delta, contexts.delta, 1);
        for index in 0..REPEATS {
            let source = state.sources.delta.repeat(index);
            if !starts_delta(data, pos, source) {
                continue;
            }
            let length = delta_length(data, pos, source, most);
            let item = Item::DeltaRepeat(index);
            if length >= NICE_LENGTH {
                return Some(Forced { item });
            }
            let cost = repeat_cost + costs::repeat(&decisions.delta_repeats, contexts.delta_repeats, index);
            ways.offer_lengths(self.at, cost, item, MIN_REPEAT, length);
        }
        let explicit_cost = delta_cost + costs::decision(&decisions.delta, contexts.delta, 0);
        for source in deltas.find(data, pos).into_iter().flatten() {
            if !starts_delta(data, pos, source) {
                continue;
            }
            let length = delta_length(data, pos, source, most);
            // An LZ match of the same length is there already and costs less.
            if length < shortest.max(MIN_EXPLICIT_DELTA) {
                continue;
            }
            let item = Item::Delta(source);
            if length >= NICE_LENGTH {
                return Some(Forced { item });
            }
            let cost = explicit_cost
                + model.delta_powers.len(source.power() as usize) * costs::BIT
                + offset_cost(|slot| model.delta_offsets.len(slot), source.offset());
            ways.offer_lengths(self.at, cost, item, MIN_EXPLICIT_DELTA, length);
        }
        None
    }

    /// Offers a literal, alone and with a repeat behind it.
    #[inline(always)]
    fn offer_literal(&self, ways: &mut Ways<'_>, most: usize) {
        let Self { data, pos, at, model, .. } = *self;
        let literal = costs::decision(&model.decisions.main, self.state.contexts.main, 0)
            + model.literals.len(usize::from(data[pos])) * costs::BIT;
        let cost = self.cost + literal;
        ways.offer(at + 1, Way { cost, last: Packed::LITERAL, lengths: Lengths(1), first: Packed::LITERAL });
        let offset = self.state.sources.lz.newest() as usize;
        if let Some(length) = length_behind(data, pos + 1, offset, most) {
            let contexts = self.state.contexts.after(Item::Literal);
            let cost = cost + repeat0_cost(model, contexts) + ways.lengths[length];
            let lengths = Lengths(GAP | length as u32);
            let last = Packed::of(Item::LzRepeat(0));
            ways.offer(at + 1 + length, Way { cost, last, lengths, first: Packed::LITERAL });
        }
    }

    /// Offers what often follows a match: a literal where the two strings differ, then the same offset again. `cost` is
    /// that of the match without its length.
    #[inline(always)]
    fn offer_again(&self, ways: &mut Ways<'_>, cost: u32, item: Item, length: usize, offset: usize) {
        let Self { data, pos, at, model, .. } = *self;
        let gap = pos + length;
        let Some(again) = length_behind(data, gap + 1, offset, NICE_LENGTH - 1) else { return };
        let contexts = self.state.contexts.after(item);
        let literal = costs::decision(&model.decisions.main, contexts.main, 0)
            + model.literals.len(usize::from(data[gap])) * costs::BIT;
        let cost = cost
            + ways.lengths[length]
            + literal
            + repeat0_cost(model, contexts.after(Item::Literal))
            + ways.lengths[again];
        let lengths = Lengths((length as u32) << LENGTH_BITS | GAP | again as u32);
        let last = Packed::of(Item::LzRepeat(0));
        ways.offer(at + length + 1 + again, Way { cost, last, lengths, first: Packed::of(item) });
    }
}

/// Length of the match with `offset` at `pos`, at most `most`, if it is worth a repeat.
#[inline(always)]
fn length_behind(data: &[u8], pos: usize, offset: usize, most: usize) -> Option<usize> {
    let most = most.min(data.len().saturating_sub(pos));
    if offset > pos || most < MIN_REPEAT {
        return None;
    }
    let from = pos - offset;
    if data[from..from + MIN_REPEAT] != data[pos..pos + MIN_REPEAT] {
        return None;
    }
    Some(common_length(data, from, pos, MIN_REPEAT, most))
}

/// Cost of repeat 0 of an LZ offset, without the length.
#[inline(always)]
fn repeat0_cost(model: &Model, contexts: Contexts) -> u32 {
    let decisions = &model.decisions;
    costs::decision(&decisions.main, contexts.main, 1)
        + costs::decision(&decisions.kind, contexts.kind, 0)
        + costs::decision(&decisions.lz, contexts.lz, 1)
        + costs::repeat(&decisions.lz_repeats, contexts.lz_repeats, 0)
}
