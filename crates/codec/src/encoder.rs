//! The encoder callers see.

use std::fmt;

use crate::{Error, Level, Method, lzms, lzx, xpress};

/// Encodes chunks of one method, chunk size and level. Make one per thread and reuse it: encoding allocates nothing,
/// and what a chunk becomes does not depend on the chunks before it. Its memory goes with the chunk size, see `FORMAT.md`.
pub struct Encoder {
    method: Method,
    chunk_size: usize,
    level: Level,
    state: State,
}

enum State {
    Xpress(Box<xpress::Encoder>),
    Lzx(Box<lzx::Encoder>),
    Lzms(Box<lzms::Encoder>),
}

impl Encoder {
    /// Checks `chunk_size` (bytes; of the file or solid resource, not of a short last chunk) and makes the tables.
    pub fn new(method: Method, chunk_size: u32, level: Level) -> Result<Self, Error> {
        method.check_chunk_size(chunk_size)?;
        let chunk_size = chunk_size as usize;
        let state = match method {
            Method::Xpress => State::Xpress(Box::new(xpress::Encoder::new(chunk_size, level))),
            Method::Lzx => State::Lzx(Box::new(lzx::Encoder::new(chunk_size, level))),
            Method::Lzms => State::Lzms(Box::new(lzms::Encoder::new(chunk_size, level))),
        };
        Ok(Self { method, chunk_size, level, state })
    }

    /// Encodes `input`, 1 byte to the chunk size, into `output` and returns the length of the result; `None` if it
    /// would not be smaller than `input` (the chunk is then stored raw) or does not fit in `output`.
    pub fn encode(&mut self, input: &[u8], output: &mut [u8]) -> Option<usize> {
        if input.len() > self.chunk_size {
            return None;
        }
        match &mut self.state {
            State::Xpress(encoder) => encoder.encode(input, output),
            State::Lzx(encoder) => encoder.encode(input, output),
            State::Lzms(encoder) => encoder.encode(input, output),
        }
    }

    /// The method this encoder was made for.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The chunk size in bytes this encoder was made for.
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size as u32
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("method", &self.method)
            .field("chunk_size", &self.chunk_size)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}
