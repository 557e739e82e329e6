//! LZX encoder: translates calls, lets a parser choose the items, keeps the result if it is smaller.

use super::MIN_MATCH;
use super::calls;
use super::fast::FastParser;
use super::optimal::{Effort, OptimalParser};
use super::write::{BitWriter, BlockWriter};
use crate::Level;
use crate::matches::{BinaryTrees, ChainLists, SearchLimits};

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
    BalancedNarrow(OptimalParser<ChainLists<u16>>),
    BalancedWide(OptimalParser<ChainLists<u32>>),
    OptimalNarrow(OptimalParser<BinaryTrees<u16>>),
    OptimalWide(OptimalParser<BinaryTrees<u32>>),
}

/// One pass on good statistics costs about 0.3 % of the size, the shallow search as much, and both take half of the time.
const BALANCED: Effort = Effort { limits: SearchLimits { depth: 24, nice_length: 40 }, passes: 1 };
const NEAR_OPTIMAL: Effort = Effort { limits: SearchLimits { depth: 32, nice_length: 64 }, passes: 2 };

impl Encoder {
    pub(crate) fn new(chunk_size: usize, level: Level) -> Self {
        let size = chunk_size;
        let parser = match (level, size <= 1 << 16) {
            (Level::Fast, true) => Parser::FastNarrow(FastParser::new(size)),
            (Level::Fast, false) => Parser::FastWide(FastParser::new(size)),
            (Level::Balanced, true) => {
                Parser::BalancedNarrow(OptimalParser::new(size, ChainLists::new(size), BALANCED))
            }
            (Level::Balanced, false) => {
                Parser::BalancedWide(OptimalParser::new(size, ChainLists::new(size), BALANCED))
            }
            (Level::NearOptimal, true) => {
                let trees = BinaryTrees::new(size, MIN_MATCH);
                Parser::OptimalNarrow(OptimalParser::new(size, trees, NEAR_OPTIMAL))
            }
            (Level::NearOptimal, false) => {
                let trees = BinaryTrees::scaled(size, MIN_MATCH);
                Parser::OptimalWide(OptimalParser::new(size, trees, NEAR_OPTIMAL))
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
