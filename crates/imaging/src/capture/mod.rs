//! Capturing a directory into a WIM.

mod contents;
mod encode;
mod hash;

pub(crate) use contents::{Content, Reader};
pub(crate) use hash::hash_all;
