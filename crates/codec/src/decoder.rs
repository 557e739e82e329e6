//! The decoder callers see.

use std::fmt;

use crate::{Error, Method, lzms, lzx, xpress};

/// Decodes chunks of one method and chunk size. Make one per thread and reuse it: decoding allocates nothing.
pub struct Decoder {
    method: Method,
    chunk_size: usize,
    state: State,
}

enum State {
    Xpress(Box<xpress::Decoder>),
    Lzx(Box<lzx::Decoder>),
    Lzms(Box<lzms::Decoder>),
}

impl Decoder {
    /// Checks `chunk_size` (bytes; of the file or solid resource, not of a short last chunk) and makes the tables.
    pub fn new(method: Method, chunk_size: u32) -> Result<Self, Error> {
        method.check_chunk_size(chunk_size)?;
        let chunk_size = chunk_size as usize;
        let state = match method {
            Method::Xpress => State::Xpress(Box::new(xpress::Decoder::new(chunk_size))),
            Method::Lzx => State::Lzx(Box::new(lzx::Decoder::new(chunk_size))),
            Method::Lzms => State::Lzms(Box::new(lzms::Decoder::new())),
        };
        Ok(Self { method, chunk_size, state })
    }

    /// Decodes the compressed chunk `input` to exactly `output.len()` bytes, 1 to the chunk size.
    ///
    /// A chunk whose compressed length equals its plain length is stored raw in a WIM and must not come here. Bytes
    /// behind the end of the compressed data are ignored. After an error the content of `output` is unspecified;
    /// the decoder stays usable.
    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), Error> {
        if output.is_empty() || output.len() > self.chunk_size {
            let (method, chunk_size, found) = (self.method, self.chunk_size, output.len());
            return Err(Error::OutputLength { method, chunk_size, found });
        }
        let result = match &mut self.state {
            State::Xpress(decoder) => decoder.decode(input, output),
            State::Lzx(decoder) => decoder.decode(input, output),
            State::Lzms(decoder) => decoder.decode(input, output),
        };
        result.map_err(|fault| fault.into_error(self.method, input.len()))
    }

    /// The method this decoder was made for.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The chunk size in bytes this decoder was made for.
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size as u32
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("method", &self.method)
            .field("chunk_size", &self.chunk_size)
            .finish_non_exhaustive()
    }
}
