//! XPRESS Huffman, LZX (WIM flavour) and LZMS between byte slices.
//!
//! One call decodes or encodes one WIM chunk. No I/O, no threads, no unsafe code; decoders never panic and never
//! read outside their input, whatever it holds. The formats are described in `FORMAT.md`.
//!
//! The arithmetic and indexing lints of the other base crates are off here: nearly every line works on bits and
//! table indices, where checked forms cost speed and hide the algorithm. All slices are still bounds-checked, all
//! values from outside are range-checked by name, and the decoders are fuzzed instead (module `fuzz`).
#![forbid(unsafe_code)]

mod decoder;
mod encoder;
mod error;
mod method;

mod lzms;
mod lzx;
mod xpress;

mod code_builder;
mod copying;
mod decode_table;
mod matches;
mod padded;

#[doc(hidden)]
pub mod fuzz;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use error::Error;
pub use method::{Level, Method};
