//! NBD, the server's side, read-only: fixed newstyle negotiation, simple and structured replies, `base:allocation` for holes (the
//! protocol's own document is named in `FORMAT.md`).
//!
//! Bytes only: a client is anything that reads and writes. Whoever listens, and on what, is not known here. What a client sends is
//! bounded before it is believed, and nothing it sends changes anything.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod error;

mod export;
mod wire;

mod negotiate;
mod transmit;

#[doc(hidden)]
pub mod fuzz;

pub use error::Error;
pub use export::Export;

use std::io::{Read, Write};

/// Talks to one client until it leaves. `exports` are what it may choose from; the first one is that without a name, too.
pub fn serve(input: &mut dyn Read, output: &mut dyn Write, exports: &[Export<'_>]) -> Result<(), Error> {
    match negotiate::negotiate(input, output, exports)? {
        Some(chosen) => transmit::transmit(input, output, &chosen),
        None => Ok(()),
    }
}
