//! What stands on an NTFS volume, byte for byte: structures with their offsets, numbers and constant tables. No decisions.

mod attribute;
mod attribute_definitions;
mod boot;
mod index;
mod record;
mod runs;
mod secure;
mod upcase;
mod values;

pub(crate) use attribute::*;
pub(crate) use attribute_definitions::attribute_definitions;
pub(crate) use boot::*;
pub(crate) use index::*;
pub(crate) use record::*;
pub(crate) use runs::*;
pub(crate) use secure::*;
pub(crate) use upcase::*;
pub(crate) use values::*;
