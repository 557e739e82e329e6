//! Which names go with which rules: Win32, DOS, or neither.

use crate::disk::namespace;

/// Longest name, units.
pub(super) const MAX_NAME_UNITS: usize = 255;

/// How an entry of a directory stands on the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One name that follows no rules, or has no short name. A lone Win32 name would count as damage.
    Posix,
    /// One name that is long and short at once.
    Both,
    /// A long name and a short one.
    Pair,
}

impl Form {
    /// Namespace of the long name.
    pub(super) fn long_namespace(self) -> u8 {
        match self {
            Self::Posix => namespace::POSIX,
            Self::Both => namespace::WIN32_AND_DOS,
            Self::Pair => namespace::WIN32,
        }
    }
}

fn has_any(units: &[u16], bad: &str) -> bool {
    units.iter().any(|unit| *unit < 0x20 || bad.encode_utf16().any(|bad| bad == *unit))
}

/// Whether Win32 programs can use the name.
pub(super) fn is_win32(units: &[u16]) -> bool {
    let ends_badly = matches!(units.last(), None | Some(0x20 | 0x2e));
    !ends_badly && !has_any(units, "\"*/:<>?\\|")
}

/// Whether the name has the shape of a short one: up to 8 units, or 8, a dot and 3.
pub(super) fn is_short(units: &[u16]) -> bool {
    let mut parts = units.split(|unit| *unit == 0x2e);
    let base = parts.next().unwrap_or_default();
    let extension = parts.next();
    let fits = (1..=8).contains(&base.len())
        && extension.is_none_or(|extension| (1..=3).contains(&extension.len()))
        && parts.next().is_none();
    fits && !has_any(units, " \"*+,/:;<=>?[\\]|")
}

/// Whether a long name serves as its own short one. Beyond ASCII that depends on a code page, so it does not.
pub(super) fn is_own_short(units: &[u16]) -> bool {
    units.iter().all(|unit| *unit < 0x7f) && is_short(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_their_rules() {
        // Name, Win32, short, its own short one.
        let cases = [
            ("README", true, true, true),
            ("readme.txt", true, true, true),
            ("a.b.c", true, false, false),
            (".profile", true, false, false),
            ("name.", false, false, false),
            ("name ", false, false, false),
            ("long name.txt", true, false, false),
            ("ninechars", true, false, false),
            ("PROGRA~1", true, true, true),
            ("a+b", true, false, false),
            ("a:b", false, false, false),
            ("a\\b", false, false, false),
            ("a\u{1}b", false, false, false),
            ("\u{dc}BER~1.TXT", true, true, false),
            ("x.html", true, false, false),
            ("", false, false, false),
        ];
        for (name, win32, short, own) in cases {
            let units: Vec<u16> = name.encode_utf16().collect();
            let found = (is_win32(&units), is_short(&units), is_own_short(&units));
            assert_eq!(found, (win32, short, own), "{name:?}");
        }
    }
}
