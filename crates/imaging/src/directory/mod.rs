//! Unix directories as source and target of images.

mod losses;
mod places;
mod source;
mod target;
mod unix;

pub(crate) use places::Handles;
pub(crate) use source::{DirectorySource, OpenFile};
pub use source::{Mounts, ScanOptions};
pub(crate) use target::DirectoryTarget;
pub use target::{Existing, RootMetadata};
pub(crate) use unix::{UnixKind, kind_of, link_target, mode_of, os_name};
