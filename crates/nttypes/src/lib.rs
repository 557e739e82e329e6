//! Windows primitives that several formats share: UTF-16 names, FILETIME, GUID, file attributes, reparse tags.
//!
//! Plain values with checked conversions; nothing here reads files. Sources: specs/wim-container.md sections 1, 6
//! and [MS-FSCC], [MS-DTYP].
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod attributes;
mod guid;
mod name;
mod reparse;
mod time;

pub use attributes::FileAttributes;
pub use guid::Guid;
pub use name::{NameError, NtName};
pub use reparse::{LinkTarget, MAX_REPARSE_BYTES, ReparseTag, ReparseTextError};
pub use time::FileTime;
