//! XPRESS encoder: lets a parser choose the items, keeps the result if it is smaller.

use super::TABLE_BYTES;
use super::fast::FastParser;
use super::optimal::OptimalParser;
use super::write::{Code, Items};
use crate::Level;

/// Tables for encoding XPRESS chunks.
pub(crate) struct Encoder {
    items: Items,
    code: Code,
    parser: Parser,
}

enum Parser {
    Fast(FastParser),
    Optimal(OptimalParser),
}

impl Encoder {
    pub(crate) fn new(chunk_size: usize, level: Level) -> Self {
        let parser = match level {
            Level::Fast | Level::Balanced => Parser::Fast(FastParser::new(chunk_size)),
            Level::NearOptimal => Parser::Optimal(OptimalParser::new(chunk_size)),
        };
        Self { items: Items::new(chunk_size), code: Code::new(), parser }
    }

    /// Encodes one chunk of at most 64 KiB; `None` if the result would not be smaller than `input` or not fit.
    pub(crate) fn encode(&mut self, input: &[u8], output: &mut [u8]) -> Option<usize> {
        if input.len() <= TABLE_BYTES + 4 {
            return None;
        }
        match &mut self.parser {
            Parser::Fast(parser) => {
                parser.parse(input, &mut self.items);
                self.code.fit(self.items.freqs());
            }
            Parser::Optimal(parser) => parser.parse(input, &mut self.items, &mut self.code),
        }
        let len = usize::try_from(self.items.stream_bytes(&self.code)).ok()?;
        if len >= input.len() || len > output.len() {
            return None;
        }
        self.code.assign();
        let written = self.items.write(input, &self.code, &mut output[..len]);
        debug_assert_eq!(written, len);
        Some(len)
    }
}
