//! What a chunk may be compressed with, how hard to try, and the chunk sizes the container allows.

use std::fmt;

use crate::Error;

/// A compression method of WIM chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// LZ77 with one Huffman code, chunks of 4 KiB to 64 KiB ([MS-XCA] "LZ77+Huffman").
    Xpress,
    /// LZX in its WIM flavour, chunks of 32 KiB to 2 MiB.
    Lzx,
    /// LZMS, chunks of 32 KiB to 1 GiB.
    Lzms,
}

impl Method {
    /// Smallest and largest legal chunk in bytes; every power of two between them is legal too.
    pub const fn chunk_range(self) -> (u32, u32) {
        match self {
            Self::Xpress => (1 << 12, 1 << 16),
            Self::Lzx => (1 << 15, 1 << 21),
            Self::Lzms => (1 << 15, 1 << 30),
        }
    }

    /// The chunk size writers use unless told otherwise: for XPRESS and LZX the only one every Microsoft reader
    /// accepts.
    pub const fn default_chunk_size(self) -> u32 {
        match self {
            Self::Xpress | Self::Lzx => 1 << 15,
            Self::Lzms => 1 << 17,
        }
    }

    /// Checks that a file may declare `chunk_size` bytes per chunk for this method.
    pub fn check_chunk_size(self, chunk_size: u32) -> Result<(), Error> {
        let (least, most) = self.chunk_range();
        if chunk_size.is_power_of_two() && (least..=most).contains(&chunk_size) {
            Ok(())
        } else {
            Err(Error::ChunkSize { method: self, least, most, found: chunk_size })
        }
    }
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

/// How much time an encoder spends on a smaller result. The output depends on the input and the level only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Level {
    /// Lazy matching over hash chains.
    Fast,
    /// What is worth its time. LZX: shortest path over the matches of hash chains, in one pass
    /// over the positions that promise something. XPRESS: as `Fast`.
    /// LZMS: as `NearOptimal`, with less search for delta matches.
    #[default]
    Balanced,
    /// Shortest path over the matches of binary trees; seven to ten times slower than `Fast`.
    NearOptimal,
}
