//! Reading volumes: structures parsed and checked, streams by position, all files as a tree.
//!
//! Written from the tables of the format, independently of how [`crate::layout`] writes: the checker stands on it. Nothing is
//! trusted: lengths are bounded by what holds them and by named limits before anything is allocated.

pub(crate) mod boot;
pub(crate) mod bytes;
pub(crate) mod contents;
pub(crate) mod fault;
pub(crate) mod gather;
pub(crate) mod index;
pub(crate) mod lznt1;
pub(crate) mod mft;
pub(crate) mod names;
pub(crate) mod node;
pub(crate) mod record;
pub(crate) mod runs;
pub(crate) mod scan;
pub(crate) mod secure;
pub(crate) mod state;
pub(crate) mod stream;
pub(crate) mod volume;
pub(crate) mod wof;

pub use boot::BootSector;
pub use contents::Contents;
pub use scan::{Scan, ScanGuide};
pub use state::{Hibernation, LogState, Unclean, VolumeState};
pub use volume::{ListedName, Volume};
pub use wof::Decoders;
