//! File names as clients send them, turned into names an engine can look up: shared by TFTP and HTTP.
//!
//! Names are bytes, not UTF-8. What comes out is relative, without `.` and `..`, so that joined to a root it stays below
//! it; symbolic links are the engine's to refuse.

mod lookup;
mod relative;
mod tag;

pub use lookup::{Match, is_expected_probe, match_entry};
pub use relative::{MAX_NAME_BYTES, RelativeName, normalise_name};
pub use tag::{ClientTag, client_tag};
