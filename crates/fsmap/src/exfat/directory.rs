//! Directories of exFAT (Microsoft, "exFAT file system specification", 6 and 7): sets of entries of 32 bytes, one that says what it is, one that
//! says where, and those of the name.

use crate::clusters::{Content, Entry};
use crate::field::{le16, le32, le64, slice, u8};

const ENTRY_END: u8 = 0x00;
const ENTRY_FILE: u8 = 0x85;
const ENTRY_STREAM: u8 = 0xc0;
const ENTRY_NAME: u8 = 0xc1;
/// Entries behind the first one of a set: one stream, and a name of 255 units in parts of 15; what else there may be is small.
const MAX_SECONDARY: usize = 18;
const ATTRIBUTE_DIRECTORY: u16 = 0x10;
/// General flags of a stream: there are clusters; they lie side by side.
const ALLOCATED: u8 = 1;
const NO_CHAIN: u8 = 2;

/// Passes the files and directories of a directory. Sets whose checksum is wrong hold nothing, as for Windows.
pub(super) fn entries(directory: &[u8], cluster_bytes: u64, found: &mut dyn FnMut(Entry)) {
    let all = directory.as_chunks::<32>().0;
    let mut at = 0usize;
    while let Some(first) = all.get(at) {
        at = at.saturating_add(1);
        match u8(first, 0) {
            ENTRY_END => return,
            ENTRY_FILE => {}
            _ => continue,
        }
        let count = usize::from(u8(first, 1));
        let Some(others) = all.get(at..at.saturating_add(count)).filter(|_| count <= MAX_SECONDARY) else {
            continue;
        };
        if checksum(first, others) != le16(first, 2) {
            continue;
        }
        at = at.saturating_add(count);
        let Some((stream, names)) = others.split_first().filter(|(stream, _)| u8(*stream, 0) == ENTRY_STREAM)
        else {
            continue;
        };
        let units: Vec<u16> = names
            .iter()
            .take_while(|entry| u8(*entry, 0) == ENTRY_NAME)
            .flat_map(|entry| slice(entry, 2, 30).as_chunks::<2>().0)
            .map(|unit| u16::from_le_bytes(*unit))
            .take(usize::from(u8(stream, 3)))
            .collect();
        if units.is_empty() {
            continue;
        }
        let (flags, len) = (u8(stream, 1), le64(stream, 24));
        let is_directory = le16(first, 4) & ATTRIBUTE_DIRECTORY != 0;
        found(Entry {
            // Nothing in a name may pass for more of a path.
            name: String::from_utf16_lossy(&units).replace('/', "_"),
            is_directory,
            size: if is_directory { 0 } else { len },
            content: Content {
                first: if flags & ALLOCATED != 0 { le32(stream, 20) } else { 0 },
                clusters: Some(len.div_ceil(cluster_bytes.max(1))),
                is_contiguous: flags & NO_CHAIN != 0,
            },
        });
    }
}

/// Checksum of a set (6.3.3): over all its bytes but those of the checksum.
fn checksum(first: &[u8; 32], others: &[[u8; 32]]) -> u16 {
    let head = first.iter().enumerate().filter(|(at, _)| !matches!(at, 2 | 3)).map(|(_, byte)| byte);
    head.chain(others.as_flattened())
        .fold(0u16, |sum, byte| sum.rotate_right(1).wrapping_add(u16::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set as Windows writes it.
    fn set(name: &str, attributes: u16, flags: u8, first: u32, len: u64) -> Vec<[u8; 32]> {
        let units: Vec<u16> = name.encode_utf16().collect();
        let parts = units.len().div_ceil(15);
        let mut all = vec![[0u8; 32]; 2 + parts];
        all[0][0] = ENTRY_FILE;
        all[0][1] = 1 + parts as u8;
        all[0][4..6].copy_from_slice(&attributes.to_le_bytes());
        all[1][0] = ENTRY_STREAM;
        all[1][1] = flags;
        all[1][3] = units.len() as u8;
        all[1][20..24].copy_from_slice(&first.to_le_bytes());
        all[1][24..].copy_from_slice(&len.to_le_bytes());
        for (part, entry) in units.chunks(15).zip(&mut all[2..]) {
            entry[0] = ENTRY_NAME;
            for (at, unit) in (2..).step_by(2).zip(part) {
                entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
            }
        }
        let sum = checksum(&all[0], &all[1..]);
        all[0][2..4].copy_from_slice(&sum.to_le_bytes());
        all
    }

    fn found(directory: &[[u8; 32]]) -> Vec<Entry> {
        let mut out = Vec::new();
        entries(&directory.concat(), 4096, &mut |entry| out.push(entry));
        out
    }

    #[test]
    fn sets_say_what_a_file_is_where_and_how_long() {
        let name = "A name of more than fifteen units.bin";
        let directory = [
            vec![[0x81; 32]],
            set(name, 0x20, ALLOCATED | NO_CHAIN, 9, 5000),
            set("Ordner", 0x10, ALLOCATED, 11, 8192),
            set("empty", 0x20, ALLOCATED, 0, 0),
        ]
        .concat();
        let all = found(&directory);
        let names: Vec<&str> = all.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, [name, "Ordner", "empty"]);
        assert_eq!(all[0].content, Content { first: 9, clusters: Some(2), is_contiguous: true });
        assert_eq!((all[0].size, all[0].is_directory), (5000, false));
        assert_eq!(all[1].content, Content { first: 11, clusters: Some(2), is_contiguous: false });
        assert!(all[1].is_directory && all[1].size == 0);
        assert_eq!(all[2].content.clusters, Some(0));
    }

    #[test]
    fn what_is_removed_torn_or_cut_off_is_passed() {
        let (one, two) = (set("one", 0x20, ALLOCATED, 5, 1), set("two", 0x20, ALLOCATED, 6, 1));
        let mut removed = one.clone();
        removed.iter_mut().for_each(|entry| entry[0] &= 0x7f);
        let mut torn = one.clone();
        torn[2][4] ^= 1;
        let names = |directory: &[Vec<[u8; 32]>]| -> Vec<String> {
            found(&directory.concat()).into_iter().map(|entry| entry.name).collect()
        };
        assert_eq!(names(&[removed, two.clone()]), ["two"]);
        assert_eq!(names(&[torn, two.clone()]), ["two"]);
        assert_eq!(names(&[two.clone(), one[..2].to_vec()]), ["two"]);
        assert_eq!(names(&[one, vec![[0; 32]], two]), ["one"]);
    }
}
