//! What a range of bytes belongs to: names for the report on bad sectors.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use gravure_io::ReadAt;

use crate::{Error, Kind, State, exfat, ext, fat, ntfs, probe};

/// Pieces of the ranges asked for that are told apart at most.
const MAX_CLAIMS: usize = 1 << 18;

/// What bytes belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Owner {
    /// A file or directory; every name it has, from the root, `/` between the parts.
    File(Vec<String>),
    /// The file system itself.
    Metadata(String),
    /// Nothing.
    Free,
    /// Used, but it could not be found by what; or this kind of content has no names.
    Unknown,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(names) => f.write_str(&names.join(", ")),
            Self::Metadata(what) => write!(f, "file system: {what}"),
            Self::Free => f.write_str("free"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
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
/// asked often. ext2/3/4, NTFS, FAT and exFAT have names, all else is [`Owner::Unknown`].
pub fn owners(
    dev: &dyn ReadAt,
    ranges: &[Range<u64>],
    goes_on: &dyn Fn() -> bool,
) -> Result<Vec<Owned>, Error> {
    let probe = probe(dev)?;
    if !goes_on() {
        return Err(Error::Stopped);
    }
    match (probe.kind, probe.state) {
        (Kind::Ext2 | Kind::Ext3 | Kind::Ext4, State::Clean | State::NeedsReplay) => {
            ext::owners(dev, &probe, ranges, goes_on)
        }
        (Kind::Ntfs, State::Clean) => ntfs::owners(dev, ranges, goes_on),
        (Kind::Fat12 | Kind::Fat16 | Kind::Fat32, _) => fat::owners(dev, &probe, ranges, goes_on),
        (Kind::ExFat, _) => exfat::owners(dev, &probe, ranges, goes_on),
        _ => Ok(Claims::new(ranges).finish(&Names::new(), "file")),
    }
}

/// Names of files by their numbers.
pub(crate) type Names = BTreeMap<u64, Vec<String>>;

#[derive(Debug)]
enum Claim {
    File(u64),
    Metadata(String),
    Free,
}

/// Collects who says to own what of the ranges asked for; who comes first has it.
#[derive(Debug)]
pub(crate) struct Claims<'a> {
    ranges: &'a [Range<u64>],
    all: Vec<(Range<u64>, Claim)>,
}

impl<'a> Claims<'a> {
    pub(crate) fn new(ranges: &'a [Range<u64>]) -> Self {
        Self { ranges, all: Vec::new() }
    }

    /// Whether any of `range` was asked for.
    pub(crate) fn wants(&self, range: &Range<u64>) -> bool {
        let first = self.ranges.partition_point(|asked| asked.end <= range.start);
        self.ranges.get(first).is_some_and(|asked| asked.start < range.end)
    }

    /// The file with this number owns `range`.
    pub(crate) fn file(&mut self, range: Range<u64>, number: u64) {
        self.claim(range, || Claim::File(number));
    }

    /// The file system owns `range`.
    pub(crate) fn metadata(&mut self, range: Range<u64>, what: impl Fn() -> String) {
        self.claim(range, || Claim::Metadata(what()));
    }

    /// Nobody owns `range`.
    pub(crate) fn free(&mut self, range: Range<u64>) {
        self.claim(range, || Claim::Free);
    }

    fn claim(&mut self, range: Range<u64>, make: impl Fn() -> Claim) {
        let first = self.ranges.partition_point(|asked| asked.end <= range.start);
        for asked in self.ranges.get(first..).unwrap_or_default() {
            if asked.start >= range.end || self.all.len() >= MAX_CLAIMS {
                break;
            }
            self.all.push((range.start.max(asked.start)..range.end.min(asked.end), make()));
        }
    }

    /// Numbers of the files that own something.
    pub(crate) fn files(&self) -> BTreeSet<u64> {
        let numbers = self.all.iter().filter_map(|(_, claim)| match claim {
            Claim::File(number) => Some(*number),
            _ => None,
        });
        numbers.collect()
    }

    /// The answer. A file without a name is called by its number and what such a number is called.
    pub(crate) fn finish(mut self, names: &Names, number_is: &str) -> Vec<Owned> {
        // Stable: of claims from one place the first stays first.
        self.all.sort_by_key(|(range, _)| range.start);
        let mut out = Vec::new();
        let mut claims = self.all.into_iter().peekable();
        for asked in self.ranges {
            let mut next = asked.start;
            while let Some((range, claim)) = claims.next_if(|(range, _)| range.start < asked.end) {
                let start = range.start.max(next);
                if start >= range.end {
                    continue;
                }
                if next < start {
                    out.push(Owned { range: next..start, owner: Owner::Unknown });
                }
                next = range.end;
                let owner = match claim {
                    Claim::Free => Owner::Free,
                    Claim::Metadata(what) => Owner::Metadata(what),
                    Claim::File(number) => match names.get(&number) {
                        Some(names) => Owner::File(names.clone()),
                        None => Owner::File(vec![format!("<{number_is} {number}>")]),
                    },
                };
                match out.last_mut() {
                    Some(last) if last.range.end == start && last.owner == owner => {
                        last.range.end = range.end
                    }
                    _ => out.push(Owned { range: start..range.end, owner }),
                }
            }
            if next < asked.end {
                out.push(Owned { range: next..asked.end, owner: Owner::Unknown });
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_asked_for_has_one_answer() {
        let ranges = [10..20, 20..30, 50..60];
        let mut claims = Claims::new(&ranges);
        claims.file(0..12, 5);
        claims.file(18..25, 6);
        claims.free(24..55);
        claims.metadata(57..58, || "log".to_owned());
        claims.file(58..99, 7);
        assert_eq!(claims.files(), BTreeSet::from([5, 6, 7]));
        let names = Names::from([(5, vec!["/a".to_owned(), "/b".to_owned()]), (6, vec!["/c".to_owned()])]);
        let got = claims.finish(&names, "inode");
        let lines: Vec<String> =
            got.iter().map(|owned| format!("{:?} {}", owned.range, owned.owner)).collect();
        assert_eq!(
            lines,
            [
                "10..12 /a, /b",
                "12..18 unknown",
                "18..25 /c",
                "25..30 free",
                "50..55 free",
                "55..57 unknown",
                "57..58 file system: log",
                "58..60 <inode 7>",
            ]
        );
    }
}
