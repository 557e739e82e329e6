//! XPRESS: LZ77 items in one Huffman code, bit words and literal bytes interleaved ([MS-XCA] "LZ77+Huffman").

mod decode;
mod encode;

mod fast;
mod optimal;
mod reader;
mod write;

pub(crate) use decode::Decoder;
pub(crate) use encode::Encoder;

/// Literals 0 to 255, matches above.
const SYMBOLS: usize = 512;

/// Bytes of the code-length table in front of the bits.
const TABLE_BYTES: usize = SYMBOLS / 2;

/// Shortest match.
const MIN_MATCH: usize = 3;

/// Longest codeword.
const MAX_CODE_LEN: usize = 15;

/// Symbol that ends the data; as a match it would be the nearest and shortest.
const END: usize = 256;
