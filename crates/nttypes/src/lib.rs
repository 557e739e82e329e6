//! Windows primitives that several formats share: UTF-16 names, FILETIME, GUID, file attributes, reparse tags, security
//! descriptors.
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
mod security;
mod time;

pub use attributes::FileAttributes;
pub use guid::{Guid, GuidError};
pub use name::{NameError, NtName};
pub use reparse::{LinkTarget, MAX_REPARSE_BYTES, ReparseTag, ReparseTextError};
pub use security::{Ace, AceBody, Acl, ObjectTypes, SddlError, SecurityDescriptor, SecurityError, Sid};
pub use time::FileTime;
