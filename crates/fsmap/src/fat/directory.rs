//! Directories of FAT (Microsoft, "FAT: General Overview of On-Disk Format", "FAT Directory Structure" and "Long Directory Entries"):
//! entries of 32 bytes, long names in front of the short one they belong to.

use crate::clusters::{Content, Entry};
use crate::field::{le16, le32, slice, u8};

const ATTRIBUTE_LABEL: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
/// All of read-only, hidden, system and label: part of a long name.
const ATTRIBUTE_LONG: u8 = 0x0f;
/// Number of the part that ends a long name, which stands first.
const LAST_PART: u8 = 0x40;
/// Parts of a long name: 255 units in parts of 13.
const MAX_PARTS: u8 = 20;
const PART_UNITS: usize = 13;
/// Flags of Windows NT: parts of a short name that are shown in lower case.
const LOWER_BASE: u8 = 0x08;
const LOWER_EXTENSION: u8 = 0x10;

/// A long name whose parts come one by one, the last first.
#[derive(Debug, Default)]
struct LongName {
    units: Vec<u16>,
    /// Number of the part that came last.
    part: u8,
    sum: u8,
}

impl LongName {
    /// The name when all its parts were there and belong to this short name.
    fn of(self, short: &[u8]) -> Option<String> {
        let sum = short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        let is_whole = self.part == 1 && self.sum == sum;
        let end = self.units.iter().position(|unit| *unit == 0).unwrap_or(self.units.len());
        let units = self.units.get(..end).filter(|units| is_whole && !units.is_empty())?;
        Some(String::from_utf16_lossy(units))
    }

    /// Takes a part; what does not go with those before begins anew.
    fn part(&mut self, entry: &[u8]) {
        let (order, sum) = (u8(entry, 0), u8(entry, 13));
        let number = order & !LAST_PART;
        if order & LAST_PART != 0 && (1..=MAX_PARTS).contains(&number) {
            let units = vec![0; usize::from(number).saturating_mul(PART_UNITS)];
            *self = Self { units, part: number, sum };
        } else if number == 0 || self.part.checked_sub(1) != Some(number) || sum != self.sum {
            *self = Self::default();
            return;
        } else {
            self.part = number;
        }
        let bytes = [slice(entry, 1, 10), slice(entry, 14, 12), slice(entry, 28, 4)].concat();
        let start = usize::from(self.part.saturating_sub(1)).saturating_mul(PART_UNITS);
        let places = self.units.iter_mut().skip(start);
        for (place, unit) in places.zip(bytes.as_chunks::<2>().0) {
            *place = u16::from_le_bytes(*unit);
        }
    }
}

/// Passes the files and directories of a directory. `is_fat32` says whether cluster numbers have a high half, `cluster_bytes` what a file of
/// some size has of them.
pub(super) fn entries(directory: &[u8], is_fat32: bool, cluster_bytes: u64, found: &mut dyn FnMut(Entry)) {
    let mut long = LongName::default();
    for entry in directory.as_chunks::<32>().0 {
        let attributes = u8(entry, 11);
        match u8(entry, 0) {
            0 => return,
            0xe5 => {
                long = LongName::default();
                continue;
            }
            _ if attributes & 0x3f == ATTRIBUTE_LONG => {
                long.part(entry);
                continue;
            }
            _ => {}
        }
        let short = slice(entry, 0, 11);
        let name = std::mem::take(&mut long).of(short).unwrap_or_else(|| short_name(short, u8(entry, 12)));
        if attributes & ATTRIBUTE_LABEL != 0 || matches!(name.as_str(), "." | "..") {
            continue;
        }
        let is_directory = attributes & ATTRIBUTE_DIRECTORY != 0;
        let high = if is_fat32 { u32::from(le16(entry, 20)) } else { 0 };
        let len = u64::from(le32(entry, 28));
        found(Entry {
            // Nothing in a name may pass for more of a path.
            name: name.replace('/', "_"),
            is_directory,
            size: if is_directory { 0 } else { len },
            content: Content {
                first: high.checked_shl(16).unwrap_or(0) | u32::from(le16(entry, 26)),
                clusters: (!is_directory).then(|| len.div_ceil(cluster_bytes.max(1))),
                is_contiguous: false,
            },
        });
    }
}

/// A name of eight and three bytes. Which code page they are in nobody says: what is not ASCII is shown as unknown.
fn short_name(bytes: &[u8], flags: u8) -> String {
    let text = |from: usize, len: usize, is_lower: bool| {
        let part = slice(bytes, from, len).iter().map(|byte| match byte {
            0x20..0x7f if is_lower => char::from(byte.to_ascii_lowercase()),
            0x20..0x7f => char::from(*byte),
            _ => char::REPLACEMENT_CHARACTER,
        });
        part.collect::<String>().trim_end().to_owned()
    };
    let base = text(0, 8, flags & LOWER_BASE != 0);
    let extension = text(8, 3, flags & LOWER_EXTENSION != 0);
    if extension.is_empty() { base } else { format!("{base}.{extension}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(name: &[u8; 11], attributes: u8, first: u32, len: u32) -> [u8; 32] {
        let mut entry = [0; 32];
        entry[..11].copy_from_slice(name);
        entry[11] = attributes;
        entry[20..22].copy_from_slice(&(first >> 16).to_le_bytes()[..2]);
        entry[26..28].copy_from_slice(&first.to_le_bytes()[..2]);
        entry[28..].copy_from_slice(&len.to_le_bytes());
        entry
    }

    fn parts(name: &str, short: &[u8; 11]) -> Vec<[u8; 32]> {
        let sum = short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        let mut units: Vec<u16> = name.encode_utf16().collect();
        if !units.len().is_multiple_of(PART_UNITS) {
            units.push(0);
        }
        let count = units.len().div_ceil(PART_UNITS);
        units.resize(count * PART_UNITS, 0xffff);
        let part = |number: usize| {
            let mut entry = [0; 32];
            entry[0] = number as u8 | if number == count { LAST_PART } else { 0 };
            entry[11] = ATTRIBUTE_LONG;
            entry[13] = sum;
            let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
            for (at, unit) in places.zip(&units[(number - 1) * PART_UNITS..]) {
                entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
            }
            entry
        };
        (1..=count).rev().map(part).collect()
    }

    fn names(directory: &[[u8; 32]]) -> Vec<String> {
        let mut out = Vec::new();
        entries(&directory.concat(), true, 4096, &mut |entry| out.push(entry.name));
        out
    }

    #[test]
    fn long_names_count_when_they_are_whole_and_go_with_the_short_one() {
        let (name, long) = (b"BRIEFE~1TXT", "Briefe an Frau Müller 😀.txt");
        let file = short(name, 0x20, 0x0002_0005, 5000);
        let whole = [parts(long, name), vec![file]].concat();
        assert_eq!(names(&whole), [long]);
        let mut found = Vec::new();
        entries(&whole.concat(), true, 4096, &mut |entry| found.push(entry));
        assert_eq!(found[0].content, Content { first: 0x0002_0005, clusters: Some(2), is_contiguous: false });
        assert_eq!((found[0].size, found[0].is_directory), (5000, false));
        entries(&whole.concat(), false, 4096, &mut |entry| assert_eq!(entry.content.first, 5));
        // A part is missing, of another name, or behind a file that was removed: the short name counts.
        let mut cases = vec![whole[1..].to_vec(), [vec![whole[0]], whole[2..].to_vec()].concat()];
        let mut removed = whole.clone();
        removed.insert(2, short(b"\xe5LD     TXT", 0, 0, 0));
        cases.push(removed);
        cases.push([parts(long, b"OTHER   TXT"), vec![file]].concat());
        for (number, case) in cases.iter().enumerate() {
            assert_eq!(names(case), ["BRIEFE~1.TXT"], "{number}");
        }
        // Exactly as many units as parts have: no zero at the end.
        assert_eq!(names(&[parts("thirteen.text", name), vec![file]].concat()), ["thirteen.text"]);
    }

    #[test]
    fn labels_dots_and_what_was_removed_are_no_files() {
        let all = [
            short(b"STICK      ", ATTRIBUTE_LABEL, 0, 0),
            short(b".          ", ATTRIBUTE_DIRECTORY, 9, 0),
            short(b"..         ", ATTRIBUTE_DIRECTORY, 0, 0),
            short(b"\xe5ONE    TXT", 0, 4, 1),
            short(b"A          ", ATTRIBUTE_DIRECTORY, 7, 0),
            short(b"B\x82      C/D", 0, 8, 1),
            [0; 32],
            short(b"BEHIND     ", 0, 4, 1),
        ];
        assert_eq!(names(&all), ["A", "B\u{fffd}.C_D"]);
        let mut lower = short(b"READ    ME ", 0, 4, 1);
        lower[12] = LOWER_BASE;
        assert_eq!(names(&[lower]), ["read.ME"]);
        let mut found = Vec::new();
        entries(&all.concat(), true, 4096, &mut |entry| {
            found.push((entry.is_directory, entry.content.clusters))
        });
        assert_eq!(found, [(true, None), (false, Some(1))]);
    }
}
