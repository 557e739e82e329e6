//! Unix directories as source and target of images.

mod follow;
mod links;
mod losses;
mod places;
mod scan;
mod source;
mod target;
mod unix;

pub(crate) use links::below as link_below;
pub(crate) use places::Handles;
pub(crate) use scan::Scanner;
pub use scan::{Mounts, Overlay, ScanOptions, SecurityMetadata, Symlinks, UnixMetadata};
pub(crate) use source::{DirectorySource, OpenFile};
pub(crate) use target::DirectoryTarget;
pub use target::{Existing, LinkTargets, RootMetadata};
pub(crate) use unix::{
    UnixKind, is_rebased, kind_of, link_target, mode_of, os_name, plain_mode_of, unix_data,
};
