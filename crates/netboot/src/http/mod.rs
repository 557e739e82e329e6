//! What HTTP needs beyond an ordinary server when firmware asks: request targets, byte ranges, media types.
//!
//! No parsing of HTTP messages; that is hyper's.

mod media;
mod range;
mod target;

pub use media::media_type;
pub use range::{RangeDecision, RangeQuery, decide_range};
pub use target::{MAX_QUERY_PAIRS, Target, parse_target};
