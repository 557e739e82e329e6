//! The file-image seam: every file image, whatever it came from, is a [`Tree`] of nodes whose content is a
//! [`ContentRef`], and every target is filled from one.
//!
//! A tree holds all that a WIM, an NTFS volume or a Unix directory can say about a file, so that reading an image,
//! changing it and writing it again loses nothing (DESIGN section 4). It holds names and numbers, never content:
//! content stays where it is and is streamed by the `imaging` engine.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod content;
mod loss;
mod node;
mod tree;

pub use content::{ContentRef, Origin, Sha1Hash, SourceId};
pub use loss::Loss;
pub use node::{ExtendedAttribute, NamedStream, Node, Reparse, TaggedItem, Times, UnixData, UnixType};
pub use tree::{Entry, NodeId, SecurityId, Tree, TreeError, Walk, WalkEntry};
