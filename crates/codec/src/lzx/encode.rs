//! LZX encoder: translates calls, lets a parser choose the items, keeps the result if it is smaller.

use super::MIN_MATCH;
use super::calls;
use super::costs::MAX_MATCH;
use super::fast::FastParser;
use super::optimal::{Effort, MAX_POSITIONS, OptimalParser, Pruning};
use super::write::{BitWriter, BlockWriter};
use crate::Level;
use crate::matches::{BinaryTrees, Cached, OnDemand, SearchLimits};

/// Tables for encoding LZX chunks.
pub(crate) struct Encoder {
    /// The chunk after call translation.
    data: Vec<u8>,
    writer: BlockWriter,
    parser: Parser,
}

enum Parser {
    FastNarrow(FastParser<u16>),
    FastWide(FastParser<u32>),
    BalancedNarrow(OptimalParser<OnDemand<u16>>),
    BalancedWide(OptimalParser<OnDemand<u32>>),
    OptimalNarrow(OptimalParser<Cached<BinaryTrees<u16>>>),
    OptimalWide(OptimalParser<Cached<BinaryTrees<u32>>>),
}

/// One pass on good statistics costs about 0.3 % of the size, the shallow search as much, what is passed over half as
/// much; each takes about half of the time that is left.
const BALANCED: Effort = Effort { passes: 1, pruning: Some(Pruning { rate: 14 }) };
const BALANCED_LIMITS: SearchLimits = SearchLimits { depth: 24, nice_length: 64 };
const NEAR_OPTIMAL: Effort = Effort { passes: 2, pruning: None };
const NEAR_OPTIMAL_LIMITS: SearchLimits = SearchLimits { depth: 32, nice_length: 64 };

impl Encoder {
    pub(crate) fn new(chunk_size: usize, level: Level) -> Self {
        let size = chunk_size;
        let parser = match (level, size <= 1 << 16) {
            (Level::Fast, true) => Parser::FastNarrow(FastParser::new(size)),
            (Level::Fast, false) => Parser::FastWide(FastParser::new(size)),
            (Level::Balanced, true) => {
                let matches = OnDemand::new(size, size, MAX_MATCH, BALANCED_LIMITS);
                Parser::BalancedNarrow(OptimalParser::new(size, matches, BALANCED))
            }
            (Level::Balanced, false) => {
                let matches = OnDemand::new(size, MAX_POSITIONS, MAX_MATCH, BALANCED_LIMITS);
                Parser::BalancedWide(OptimalParser::new(size, matches, BALANCED))
            }
            (Level::NearOptimal, true) => {
                let lists = BinaryTrees::new(size, MIN_MATCH);
                let matches = Cached::new(size, MAX_MATCH, NEAR_OPTIMAL_LIMITS, lists);
                Parser::OptimalNarrow(OptimalParser::new(size, matches, NEAR_OPTIMAL))
            }
            (Level::NearOptimal, false) => {
                let lists = BinaryTrees::scaled(size, MIN_MATCH);
                let matches = Cached::new(MAX_POSITIONS, MAX_MATCH, NEAR_OPTIMAL_LIMITS, lists);
                Parser::OptimalWide(OptimalParser::new(size, matches, NEAR_OPTIMAL))
            }
        };
        Self { data: Vec::with_capacity(chunk_size), writer: BlockWriter::new(chunk_size), parser }
    }

    /// Encodes one chunk; `None` if the result would not be smaller than `input` or not fit.
    pub(crate) fn encode(&mut self, input: &[u8], output: &mut [u8]) -> Option<usize> {
        self.data.clear();
        self.data.extend_from_slice(input);
        calls::to_absolute(&mut self.data);
        let room = output.len().min(input.len().checked_sub(1)?);
        let mut bits = BitWriter::new(&mut output[..room]);
        self.writer.reset();
        match &mut self.parser {
            Parser::FastNarrow(parser) => parser.write_chunk(&self.data, &mut self.writer, &mut bits),
            Parser::FastWide(parser) => parser.write_chunk(&self.data, &mut self.writer, &mut bits),
            Parser::BalancedNarrow(parser) => parser.write_chunk(&self.data, &mut self.writer, &mut bits),
            Parser::BalancedWide(parser) => parser.write_chunk(&self.data, &mut self.writer, &mut bits),
            Parser::OptimalNarrow(parser) => parser.write_chunk(&self.data, &mut self.writer, &mut bits),
            Parser::OptimalWide(parser) => parser.write_chunk(&self.data, &mut self.writer, &mut bits),
        }
        bits.finish()
    }
}
