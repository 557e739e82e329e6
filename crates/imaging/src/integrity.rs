//! Integrity tables of files that are written (wim-container section 8): hashed on all cores, and after an append only
//! where the file is new.

use std::ops::Range;

use gravure_io::ReadAt;
use gravure_wim::{INTEGRITY_CHUNK_BYTES, IntegrityTable, TablesWritten, Written};

use crate::meter::Context;
use crate::{Error, range_hash};

/// Whether a file that is changed or written anew has an integrity table afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IntegrityChange {
    /// If it, or the file it is made of, had one.
    #[default]
    Keep,
    /// It gets one.
    Make,
    /// It loses it.
    Drop,
}

impl IntegrityChange {
    /// Whether there is to be a table when there was one, or not, before.
    pub(crate) fn is_wanted(self, had: bool) -> bool {
        match self {
            Self::Keep => had,
            Self::Make => true,
            Self::Drop => false,
        }
    }
}

/// Completes a file of which integrity table and header are missing. Whole chunks of `old`, the table of the same file
/// before it was appended to, are taken over: their bytes did not change, and damage in them stays found.
pub(crate) fn complete(
    context: &Context<'_>,
    tables: TablesWritten<'_>,
    name: &str,
    is_wanted: bool,
    old: Option<&IntegrityTable>,
) -> Result<Written, Error> {
    let table = match is_wanted {
        true => Some(build(context, tables.target(), tables.covered(), name, old)?),
        false => None,
    };
    tables.complete(table.as_ref()).map_err(Error::wim(name))
}

fn build(
    context: &Context<'_>,
    source: &dyn ReadAt,
    covered: Range<u64>,
    name: &str,
    old: Option<&IntegrityTable>,
) -> Result<IntegrityTable, Error> {
    let mut hashes = Vec::new();
    let mut ranges = IntegrityTable::ranges(covered.clone(), INTEGRITY_CHUNK_BYTES).peekable();
    for (range, hash) in old.into_iter().flat_map(IntegrityTable::chunks) {
        if ranges.peek() != Some(&range) {
            break;
        }
        ranges.next();
        hashes.push(hash);
    }
    range_hash::hash_ranges(context, source, name, &mut ranges, |hash| hashes.push(hash))?;
    IntegrityTable::new(covered, INTEGRITY_CHUNK_BYTES, hashes).map_err(Error::wim(name))
}
