//! What HTTP needs beyond an ordinary server when firmware asks: request targets, byte ranges, media types.
//!
//! No parsing of HTTP messages; that is hyper's.

/// Body of every 404. It must not be empty: shim 16.1 on edk2's HTTP boot waits for ever after an error status with
/// `Content-Length: 0` (seen with OVMF 2022.11), and shim asks for three absent files on each boot.
pub const NOT_FOUND_BODY: &str = "not found\n";

mod media;
mod range;
mod target;

pub use media::media_type;
pub use range::{RangeDecision, RangeQuery, decide_range};
pub use target::{MAX_QUERY_PAIRS, Target, parse_target};
