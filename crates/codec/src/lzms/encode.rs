//! LZMS encoder: filters, lets a parser choose the items, keeps the result if it is smaller.

use super::fast::FastParser;
use super::filter::{Direction, Filter};
use super::optimal::OptimalParser;
use super::write::{Model, Output};
use crate::Level;

/// Tables for encoding LZMS chunks. Memory per byte of the chunk size: 1 for the filtered copy, 4 (fast) or 8
/// (near-optimal) for the matches; beside it at most 5 or 20 MB. It is only touched as far as chunks reach.
pub(crate) struct Encoder {
    /// The chunk after the filter.
    data: Vec<u8>,
    filter: Filter,
    model: Model,
    parser: Parser,
}

/// Where an LZ match is this long, delta matches are not looked for. Looking less often takes a quarter of the time away and
/// adds 0.15 % to the size of programs.
const GOOD_LENGTH: usize = 16;
const BALANCED_GOOD_LENGTH: usize = 4;

enum Parser {
    Fast(FastParser),
    Optimal(Box<OptimalParser>),
}

impl Encoder {
    pub(crate) fn new(chunk_size: usize, level: Level) -> Self {
        let parser = match level {
            Level::Fast => Parser::Fast(FastParser::new(chunk_size)),
            Level::Balanced => {
                Parser::Optimal(Box::new(OptimalParser::new(chunk_size, BALANCED_GOOD_LENGTH)))
            }
            Level::NearOptimal => Parser::Optimal(Box::new(OptimalParser::new(chunk_size, GOOD_LENGTH))),
        };
        Self { data: Vec::with_capacity(chunk_size), filter: Filter::new(), model: Model::new(), parser }
    }

    /// Encodes one chunk; `None` if the result would not be smaller than `input` or not fit.
    pub(crate) fn encode(&mut self, input: &[u8], output: &mut [u8]) -> Option<usize> {
        let room = output.len().min(input.len().checked_sub(1)?);
        self.data.clear();
        self.data.extend_from_slice(input);
        self.filter.translate(&mut self.data, Direction::ToAbsolute);
        self.model.reset(input.len());
        let mut output = Output::new(&mut output[..room]);
        match &mut self.parser {
            Parser::Fast(parser) => parser.write_chunk(&self.data, &mut self.model, &mut output),
            Parser::Optimal(parser) => parser.write_chunk(&self.data, &mut self.model, &mut output),
        }
        output.finish()
    }
}
