//! XPRESS: LZ77 items in one Huffman code, bit words and literal bytes interleaved ([MS-XCA] "LZ77+Huffman").

mod decode;

pub(crate) use decode::Decoder;

/// Literals 0 to 255, matches above.
const SYMBOLS: usize = 512;

/// Bytes of the code-length table in front of the bits.
const TABLE_BYTES: usize = SYMBOLS / 2;

/// Shortest match.
const MIN_MATCH: usize = 3;
