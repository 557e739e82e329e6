//! Names of directory entries: the short form of 8 + 3 characters, its aliases, and long names in UTF-16.

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::U16;

use super::{ATTRIBUTE_LONG_NAME, LongNameDisk, MAX_NAME_UNITS};
use crate::Error;

/// Characters of a long name in one entry.
const UNITS_PER_ENTRY: usize = 13;
/// Aliases tried for one name before giving up: five digits fit besides one letter and the tilde.
const MAX_ALIAS: u32 = 99_999;

/// Checks a long name: what Windows refuses as a name is refused here.
pub(super) fn check(name: &str) -> Result<(), Error> {
    let bad = |why: &str| Err(Error::invalid(format!("FAT name {name:?}"), why));
    let units = name.encode_utf16().count();
    if units == 0 || units > MAX_NAME_UNITS {
        return bad("1 to 255 UTF-16 units are allowed");
    }
    if name.chars().any(|c| c.is_control() || "\"*/:<>?\\|".contains(c)) {
        return bad("control characters and \"*/:<>?\\| are not allowed");
    }
    if name.ends_with(['.', ' ']) || name.starts_with(' ') {
        return bad("blanks at the ends and a closing dot are not allowed");
    }
    Ok(())
}

/// A name as it is compared: FAT keeps case but ignores it.
pub(super) fn folded(name: &str) -> String {
    name.to_uppercase()
}

/// The short form when `name` is one already, in capitals: such names need no long form.
pub(super) fn plain_short(name: &str) -> Option<[u8; 11]> {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let fits = (1..=8).contains(&base.len()) && extension.len() <= 3 && !name.ends_with('.');
    (fits && base.bytes().chain(extension.bytes()).all(|b| is_short(b) && !b.is_ascii_lowercase()))
        .then(|| padded(base, extension))
}

/// An alias for a long name that none of `taken` is: the first six usable characters, a tilde and a number.
pub(super) fn alias(name: &str, taken: impl Fn(&[u8; 11]) -> bool) -> Result<[u8; 11], Error> {
    let name_part = name.trim_start_matches('.');
    let (base, extension) = name_part.rsplit_once('.').unwrap_or((name_part, ""));
    let usable = |text: &str, most: usize| -> String {
        let upper = text.to_uppercase();
        let mapped = upper.chars().filter(|c| *c != ' ' && *c != '.').map(|c| match u8::try_from(c) {
            Ok(byte) if is_short(byte) => c,
            _ => '_',
        });
        mapped.take(most).collect()
    };
    let extension = usable(extension, 3);
    (1..=MAX_ALIAS)
        .map(|number| {
            let tail = format!("~{number}");
            let base = usable(base, 8usize.saturating_sub(tail.len()).min(6));
            padded(&format!("{base}{tail}"), &extension)
        })
        .find(|short| !taken(short))
        .ok_or_else(|| Error::invalid(format!("FAT name {name:?}"), "no short alias is free"))
}

fn is_short(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'()-@^_`{}~".contains(&byte)
}

/// Both parts are ASCII and fit.
fn padded(base: &str, extension: &str) -> [u8; 11] {
    let mut short = [b' '; 11];
    for (to, from) in short.iter_mut().zip(base.bytes()) {
        *to = from;
    }
    for (to, from) in short.iter_mut().skip(8).zip(extension.bytes()) {
        *to = from;
    }
    short
}

/// The checksum that ties the parts of a long name to their short one.
pub(super) fn checksum(short: &[u8; 11]) -> u8 {
    short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// The entries of a long name in the order in which they stand on the disk.
pub(super) fn long_entries(name: &str, short: &[u8; 11]) -> Vec<[u8; 32]> {
    let mut units: Vec<u16> = name.encode_utf16().collect();
    // NUL after the name unless it fills its last entry, then 0xffff.
    if units.len().checked_rem(UNITS_PER_ENTRY) != Some(0) {
        units.push(0);
    }
    let parts: Vec<&[u16]> = units.chunks(UNITS_PER_ENTRY).collect();
    let mut out = Vec::with_capacity(parts.len());
    for (part, order) in parts.iter().zip(1u8..) {
        let unit = |at: usize| U16::new(part.get(at).copied().unwrap_or(0xffff));
        let last = usize::from(order) == parts.len();
        let entry = LongNameDisk {
            order: order | if last { 0x40 } else { 0 },
            first: [unit(0), unit(1), unit(2), unit(3), unit(4)],
            attributes: ATTRIBUTE_LONG_NAME,
            kind: 0,
            checksum: checksum(short),
            second: [unit(5), unit(6), unit(7), unit(8), unit(9), unit(10)],
            cluster: U16::ZERO,
            third: [unit(11), unit(12)],
        };
        let mut bytes = [0; 32];
        bytes.copy_from_slice(entry.as_bytes());
        out.push(bytes);
    }
    out.reverse();
    out
}

/// The units of one part of a long name, up to its end.
pub(super) fn units_of(entry: &LongNameDisk) -> Vec<u16> {
    let all = entry.first.iter().chain(&entry.second).chain(&entry.third);
    all.map(|unit| unit.get()).take_while(|unit| *unit != 0 && *unit != 0xffff).collect()
}

/// A short name as text, with the case bits that Windows keeps in the entry (0x08 base, 0x10 extension in small
/// letters). Bytes above ASCII depend on a code page nobody records; they become question marks.
pub(super) fn short_text(short: &[u8; 11], case: u8) -> String {
    let part = |bytes: &[u8], lower: bool| -> String {
        let text: String = bytes.iter().map(|b| if b.is_ascii() { char::from(*b) } else { '?' }).collect();
        let text = text.trim_end_matches(' ');
        if lower { text.to_ascii_lowercase() } else { text.to_owned() }
    };
    let (base, extension) = short.split_at(8);
    let (base, extension) = (part(base, case & 0x08 != 0), part(extension, case & 0x10 != 0));
    if extension.is_empty() { base } else { format!("{base}.{extension}") }
}

/// A volume label as it is stored: capitals, blanks behind.
pub(super) fn label(text: &str) -> Result<[u8; 11], Error> {
    let upper = text.to_ascii_uppercase();
    let sound = upper.len() <= 11 && upper.bytes().all(|b| is_short(b) || b == b' ');
    if !sound {
        let why = "at most 11 ASCII letters, digits, blanks and !#$%&'()-@^_`{}~ are allowed";
        return Err(Error::invalid(format!("FAT label {text:?}"), why));
    }
    let (base, extension) = upper.split_at_checked(8).unwrap_or((&upper, ""));
    Ok(padded(base, extension))
}

/// A label as text.
pub(super) fn short_label(label: &[u8; 11]) -> String {
    let text: String =
        label.iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { ' ' }).collect();
    let text = text.trim_end();
    if text == "NO NAME" { String::new() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_of_eight_and_three_need_no_long_name() {
        assert_eq!(plain_short("BOOTX64.EFI"), Some(*b"BOOTX64 EFI"));
        assert_eq!(plain_short("EFI"), Some(*b"EFI        "));
        for name in ["grubx64.efi", "BOOTX64.EFIX", "A.B.C", "TOOLONGNAME", "A B", "Ä", ".EFI", "A."] {
            assert_eq!(plain_short(name), None, "{name}");
        }
    }

    #[test]
    fn aliases_are_unique_and_count_up() {
        assert_eq!(alias("grubx64.efi", |_| false).unwrap(), *b"GRUBX6~1EFI");
        let taken = [*b"GRUBX6~1EFI", *b"GRUBX6~2EFI"];
        assert_eq!(alias("grubx64.efi", |s| taken.contains(s)).unwrap(), *b"GRUBX6~3EFI");
        assert_eq!(alias("a.tar.gz", |_| false).unwrap(), *b"ATAR~1  GZ ");
        assert_eq!(alias(".profile", |_| false).unwrap(), *b"PROFIL~1   ");
        assert_eq!(alias("日本.txt", |_| false).unwrap(), *b"__~1    TXT");
        assert_eq!(&alias("long file name.x", |_| false).unwrap(), b"LONGFI~1X  ");
        let tenth = alias("grubx64.efi", |s| s[5] != b'~').unwrap();
        assert_eq!(&tenth, b"GRUBX~10EFI");
    }

    #[test]
    fn long_names_end_with_nul_and_padding() {
        let entries = long_entries("exactly13char", b"EXACTL~1   ");
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0][0], entries[0][0x1e]), (0x41, b'r'));
        let entries = long_entries("fourteen chars", b"FOURTE~1   ");
        assert_eq!((entries.len(), entries[0][0], entries[1][0]), (2, 0x42, 0x01));
        assert_eq!(&entries[0][1..7], &[b's', 0, 0, 0, 0xff, 0xff]);
        assert_eq!(entries[0][0x0d], checksum(b"FOURTE~1   "));
    }

    #[test]
    fn refuses_names_windows_could_not_open() {
        for name in ["", "a/b", "a\\b", "a:b", "a?", "tail.", "tail ", " head", "nul\0", &"x".repeat(256)] {
            assert!(check(name).is_err(), "{name:?}");
        }
        check(&"x".repeat(255)).unwrap();
    }
}
