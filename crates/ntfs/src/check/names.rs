//! Which names files have and which the indexes list. A name takes 16 bytes: two hashes and the number of its record.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::disk::{FILE_NAME_BYTES, namespace};
use crate::read::bytes::{at, wide};
use crate::read::names::FileName;

/// A name of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    /// Of file, directory, namespace and units: what makes the name.
    identity: u64,
    /// Of the rest: times, sizes, attributes.
    copy: u32,
    record: u32,
}

/// All names, sorted before the first is looked up.
#[derive(Debug, Default)]
pub(super) struct Names {
    list: Vec<Known>,
    /// Bit by place in the list.
    indexed: Vec<u64>,
}

/// What an entry of an index is to the names of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// A file has it, with the same copy of what the file is.
    Same,
    /// A file has it, the copy differs.
    Differs,
    /// A file has it, and another entry was for it.
    Again,
    /// No file has it.
    Unknown,
}

impl Names {
    /// A name with what it says, of the file with this reference.
    pub(super) fn push(&mut self, reference: u64, value: &[u8], record: u32) {
        self.list.push(Known { identity: identity(reference, value), copy: copy(value), record });
    }

    pub(super) fn sort(&mut self) {
        self.list.sort_unstable();
        self.indexed = vec![0; self.list.len().div_ceil(64)];
    }

    pub(super) fn len(&self) -> u64 {
        wide(self.list.len())
    }

    /// Looks up an entry and marks its name.
    pub(super) fn find(&mut self, reference: u64, key: &[u8]) -> Match {
        let wanted = identity(reference, key);
        let start = self.list.partition_point(|known| known.identity < wanted);
        let same =
            self.list.get(start..).unwrap_or_default().iter().take_while(|known| known.identity == wanted);
        let mut answer = Match::Unknown;
        for (index, known) in (start..).zip(same) {
            let mask = 1u64.checked_shl(u32::try_from(index & 63).unwrap_or(0)).unwrap_or(0);
            let Some(word) = self.indexed.get_mut(index >> 6) else { continue };
            if *word & mask != 0 {
                answer = Match::Again;
                continue;
            }
            *word |= mask;
            return if known.copy == copy(key) { Match::Same } else { Match::Differs };
        }
        answer
    }

    /// Records of names that no index lists.
    pub(super) fn unlisted(&self) -> impl Iterator<Item = u32> {
        let is_listed = |index: usize| {
            let word = self.indexed.get(index >> 6).copied().unwrap_or(0);
            word & 1u64.checked_shl(u32::try_from(index & 63).unwrap_or(0)).unwrap_or(0) != 0
        };
        self.list
            .iter()
            .enumerate()
            .filter(move |(index, _)| !is_listed(*index))
            .map(|(_, known)| known.record)
    }

    /// Whether an index lists this name.
    pub(super) fn is_listed(&self, reference: u64, value: &[u8]) -> bool {
        let wanted = identity(reference, value);
        let start = self.list.partition_point(|known| known.identity < wanted);
        let word = self.indexed.get(start >> 6).copied().unwrap_or(0);
        self.list.get(start).is_some_and(|known| known.identity == wanted)
            && word & 1u64.checked_shl(u32::try_from(start & 63).unwrap_or(0)).unwrap_or(0) != 0
    }
}

fn identity(reference: u64, value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    // Directory; length, namespace and units.
    (reference, value.get(..8), value.get(FILE_NAME_BYTES.saturating_sub(2)..)).hash(&mut hasher);
    hasher.finish()
}

fn copy(value: &[u8]) -> u32 {
    let mut hasher = DefaultHasher::new();
    value.get(8..FILE_NAME_BYTES.saturating_sub(2)).hash(&mut hasher);
    u32::try_from(hasher.finish() >> 32).unwrap_or(0)
}

/// A rule that a name breaks by itself: what is expected.
pub(super) fn bad_name(name: &FileName<'_>) -> Option<&'static str> {
    let units = name.units();
    if units.is_empty() {
        return Some("1 to 255 units");
    }
    if units.iter().any(|unit| matches!(*unit, 0 | 0x2f)) {
        return Some("units other than zero and /");
    }
    match name.head.namespace {
        namespace::POSIX => None,
        namespace::WIN32 => (!is_win32(&units)).then_some("a name that Win32 programs can use"),
        namespace::DOS => (!is_short(&units)).then_some("a short name, 8 units and 3"),
        namespace::WIN32_AND_DOS => {
            // The root's own name is an exception as old as the format.
            let is_root = units == [0x2e];
            let fits = is_root || (is_win32(&units) && is_short(&units));
            (!fits).then_some("a long name that is a short one, too")
        }
        _ => Some("a namespace of 0 to 3"),
    }
}

/// Whether Win32 programs can use the name: no reserved units, no dot or space at the end.
fn is_win32(units: &[u16]) -> bool {
    const RESERVED: &str = "\"*/:<>?\\|";
    let is_reserved = |unit: u16| unit < 0x20 || RESERVED.encode_utf16().any(|reserved| reserved == unit);
    !units.iter().any(|unit| is_reserved(*unit)) && !matches!(units.last(), Some(0x20 | 0x2e))
}

/// Whether the name has at most 8 units, a dot and 3, without what short names cannot have. Letters may be small: libntfs
/// writes such names.
fn is_short(units: &[u16]) -> bool {
    const RESERVED: &str = "\"*+,/:;<=>?[\\]|";
    let is_reserved = |unit: u16| unit < 0x20 || RESERVED.encode_utf16().any(|reserved| reserved == unit);
    let dot = units.iter().position(|unit| *unit == 0x2e);
    let (base, extension) = units.split_at(dot.unwrap_or(units.len()));
    let extension = extension.get(1..).unwrap_or_default();
    (1..=8).contains(&base.len())
        && extension.len() <= 3
        && (dot.is_none() || !extension.is_empty())
        && !extension.contains(&0x2e)
        && !units.iter().any(|unit| is_reserved(*unit) || *unit == 0x20)
}

/// Bytes of a $FILE_NAME with its name and nothing else.
pub(super) fn exact_len(value: &[u8]) -> usize {
    let units = value.get(0x40).copied().unwrap_or(0);
    FILE_NAME_BYTES.saturating_add(at(units).saturating_mul(2))
}
