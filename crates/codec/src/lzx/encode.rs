//! LZX encoder: translates calls, lets a parser choose the items, keeps the result if it is smaller.

use super::calls;
use super::fast::FastParser;
use super::optimal::OptimalParser;
use super::write::{BitWriter, BlockWriter};
use crate::Level;

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
    OptimalNarrow(OptimalParser<u16>),
    OptimalWide(OptimalParser<u32>),
}

impl Encoder {
    pub(crate) fn new(chunk_size: usize, level: Level) -> Self {
        let narrow = chunk_size <= 1 << 16;
        let parser = match (level, narrow) {
            (Level::Fast, true) => Parser::FastNarrow(FastParser::new(chunk_size)),
            (Level::Fast, false) => Parser::FastWide(FastParser::new(chunk_size)),
            (Level::NearOptimal, true) => Parser::OptimalNarrow(OptimalParser::new(chunk_size)),
            (Level::NearOptimal, false) => Parser::OptimalWide(OptimalParser::new(chunk_size)),
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
            Parser::OptimalNarrow(parser) => parser.write_chunk(&self.data, &mut self.writer, &mut bits),
            Parser::OptimalWide(parser) => parser.write_chunk(&self.data, &mut self.writer, &mut bits),
        }
        bits.finish()
    }
}
