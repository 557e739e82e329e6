//! LZMS: decisions in an adaptive binary range code read forwards, values in adaptive Huffman codes read backwards,
//! LZ matches, delta matches, and an x86 filter over the whole chunk.
//!
//! Microsoft has not published the format; `FORMAT.md`, section "LZMS", is what this follows.

mod decode;
mod encode;

mod costs;
mod decisions;
mod deltas;
mod fast;
mod filter;
mod frequencies;
mod optimal;
mod queues;
mod reader;
mod slots;
mod write;

pub(crate) use decode::Decoder;
pub(crate) use encode::Encoder;

/// Symbols of the literal code.
const LITERALS: usize = 256;

/// Symbols of the length code.
const LENGTH_SLOTS: usize = 54;

/// Symbols of the offset codes, if a chunk is large enough to need them all.
const MAX_OFFSET_SLOTS: usize = 799;

/// Symbols of the code for the power of two that is the span of a delta match.
const POWERS: usize = 8;

/// Symbols coded before a code is built anew.
const LITERAL_INTERVAL: u32 = 1024;
const LENGTH_INTERVAL: u32 = 512;
const OFFSET_INTERVAL: u32 = 1024;
const POWER_INTERVAL: u32 = 512;

/// Places of a repeat queue that an item can refer to.
const REPEATS: usize = 3;
