//! Limits of the format, and ours, each with its reason.

/// Largest file read. The largest seen (a graphics driver's) has 2.7 MB; this is six times that.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// Characters of a field, before and after its tokens were replaced (Windows: 4,096 with the NUL).
pub const MAX_FIELD_CHARS: usize = 4095;

/// Characters of a section name (Windows limit).
pub const MAX_SECTION_NAME_CHARS: usize = 255;

/// Sections that one install section may lead to by `Needs`, `CopyFiles`, `AddReg` and the like. The most seen is some
/// forty; a file of the largest size could otherwise name the same large section a million times.
pub(crate) const MAX_SECTIONS_OF_INSTALL: usize = 1000;

/// Entries (files, registry values) that one install section may have in all. Graphics drivers have some 3,000.
pub(crate) const MAX_ENTRIES_OF_INSTALL: usize = 100_000;

/// Notes that a check collects.
pub(crate) const MAX_NOTES: usize = 1000;
