//! Methods and the chunk sizes each allows (wim-container section 12).

use std::fmt;

use gravure_codec::{Decoder, Encoder, Level};

use crate::error::{Error, Scope};

/// What the header or a solid resource says its chunks are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// XPRESS Huffman.
    Xpress,
    /// LZX in its WIM flavour.
    Lzx,
    /// LZMS; with version 0xE00 only.
    Lzms,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xpress => "XPRESS",
            Self::Lzx => "LZX",
            Self::Lzms => "LZMS",
        })
    }
}

/// A compression method with a chunk size that is legal for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Compression {
    method: Method,
    chunk_size: u32,
}

impl Compression {
    /// LZX in 32 KiB chunks: what every Windows reads.
    pub const LZX_32K: Self = Self { method: Method::Lzx, chunk_size: 1 << 15 };
    /// XPRESS in 32 KiB chunks.
    pub const XPRESS_32K: Self = Self { method: Method::Xpress, chunk_size: 1 << 15 };

    /// `method` with chunks of `chunk_size` bytes; refuses sizes that are no power of two in the method's range.
    pub fn new(method: Method, chunk_size: u32) -> Result<Self, Error> {
        match Self::legal(method, chunk_size) {
            Some(this) => Ok(this),
            None => {
                Err(Error::unwritable(format!("{method} chunks of {chunk_size} bytes"), Self::rule(method)))
            }
        }
    }

    /// As `new` for a chunk size that stands at `offset` of a file.
    pub(crate) fn check(method: Method, chunk_size: u32, scope: Scope, offset: u64) -> Result<Self, Error> {
        Self::legal(method, chunk_size)
            .ok_or_else(|| Error::corrupt(scope, "chunk size", offset, Self::rule(method), chunk_size))
    }

    fn legal(method: Method, chunk_size: u32) -> Option<Self> {
        let (least, most) = Self::chunk_range(method);
        let legal = chunk_size.is_power_of_two() && (least..=most).contains(&chunk_size);
        legal.then_some(Self { method, chunk_size })
    }

    fn rule(method: Method) -> String {
        let (least, most) = Self::chunk_range(method);
        format!("power of two from {least} to {most} for {method}")
    }

    /// Smallest and largest chunk size of `method` in bytes.
    pub const fn chunk_range(method: Method) -> (u32, u32) {
        match method {
            Method::Xpress => (1 << 12, 1 << 16),
            Method::Lzx => (1 << 15, 1 << 21),
            Method::Lzms => (1 << 15, 1 << 30),
        }
    }

    /// The method.
    pub fn method(self) -> Method {
        self.method
    }

    /// Plain bytes per chunk, the last one of a resource excepted.
    pub fn chunk_size(self) -> u32 {
        self.chunk_size
    }

    fn codec(self) -> gravure_codec::Method {
        match self.method {
            Method::Xpress => gravure_codec::Method::Xpress,
            Method::Lzx => gravure_codec::Method::Lzx,
            Method::Lzms => gravure_codec::Method::Lzms,
        }
    }

    /// A decoder for its chunks.
    pub fn decoder(self) -> Result<Decoder, Error> {
        let made = Decoder::new(self.codec(), self.chunk_size);
        made.map_err(|error| Error::unsupported(Scope::Blob, "compression", error))
    }

    /// An encoder for its chunks.
    pub fn encoder(self, level: Level) -> Result<Encoder, Error> {
        let made = Encoder::new(self.codec(), self.chunk_size, level);
        made.map_err(|error| Error::unsupported(Scope::File, "compression", error))
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}-byte chunks", self.method, self.chunk_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_outside_the_methods_range_are_refused() {
        let new = |method, size| Compression::new(method, size).map_err(|error| error.to_string());
        for (method, sizes) in [
            (Method::Xpress, [1 << 12, 1 << 16]),
            (Method::Lzx, [1 << 15, 1 << 21]),
            (Method::Lzms, [1 << 15, 1 << 30]),
        ] {
            for size in sizes {
                assert_eq!(new(method, size).unwrap().chunk_size(), size);
            }
            assert!(new(method, sizes[0] / 2).is_err());
            assert!(new(method, sizes[1] * 2).is_err());
        }
        assert_eq!(
            new(Method::Lzx, 33000).unwrap_err(),
            "cannot write LZX chunks of 33000 bytes: power of two from 32768 to 2097152 for LZX"
        );
    }
}
