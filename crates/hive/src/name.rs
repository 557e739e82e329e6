//! Names in hives: Latin-1 ("compressed") or UTF-16; their order, hashes and hints.

use std::cmp::Ordering;

use gravure_nttypes::NtName;

/// A stored name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RawName<'a> {
    /// One byte a unit.
    Latin1(&'a [u8]),
    /// UTF-16LE; a trailing odd byte was refused when the cell was read.
    Utf16(&'a [u8]),
}

impl<'a> RawName<'a> {
    pub(crate) fn units(self) -> impl Iterator<Item = u16> + Clone + 'a {
        let (narrow, wide): (&[u8], &[u8]) = match self {
            Self::Latin1(bytes) => (bytes, &[]),
            Self::Utf16(bytes) => (&[], bytes),
        };
        let wide = wide.chunks_exact(2).map(|pair| match pair {
            [low, high] => u16::from_le_bytes([*low, *high]),
            _ => 0,
        });
        narrow.iter().map(|byte| u16::from(*byte)).chain(wide)
    }

    pub(crate) fn to_name(self) -> NtName {
        NtName::from_units(&self.units().collect::<Vec<_>>())
    }

    /// Units of the name.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Latin1(bytes) => bytes.len(),
            Self::Utf16(bytes) => bytes.len().checked_div(2).unwrap_or(0),
        }
    }

    pub(crate) fn matches(self, name: &NtName) -> bool {
        self.len() == name.units().len() && compare(self.units(), name.units().iter().copied()).is_eq()
    }
}

/// The bytes a name is stored as, and whether they are Latin-1.
pub(crate) fn to_stored(name: &NtName) -> (Vec<u8>, bool) {
    let narrow: Option<Vec<u8>> = name.units().iter().map(|unit| u8::try_from(*unit).ok()).collect();
    match narrow {
        Some(bytes) => (bytes, true),
        None => (name.to_le_bytes(), false),
    }
}

/// Upper case as the kernel's table has it: one unit to one unit.
///
/// Taken from Unicode's simple mapping, without the letters that Windows leaves alone: those whose upper case is
/// in another script or Latin-1 (micro sign, dotless i, long s, symbols of Greek letters).
pub(crate) fn upcase(unit: u16) -> u16 {
    match unit {
        0x61..=0x7a => unit & !0x20,
        0..=0x7f | 0xb5 | 0x131 | 0x17f | 0x1c5 | 0x1c8 | 0x1cb | 0x1f2 | 0x345 => unit,
        0x3d0 | 0x3d1 | 0x3d5 | 0x3d6 | 0x3f0 | 0x3f1 | 0x3f5 | 0x1e9b | 0x1fbe => unit,
        _ => {
            let Some(letter) = char::from_u32(u32::from(unit)) else { return unit };
            let mut upper = letter.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(one), None) => u16::try_from(u32::from(one)).unwrap_or(unit),
                _ => unit,
            }
        }
    }
}

/// The order of subkeys: unit by unit, upper-cased.
pub(crate) fn compare(a: impl Iterator<Item = u16>, b: impl Iterator<Item = u16>) -> Ordering {
    a.map(upcase).cmp(b.map(upcase))
}

/// Hash of an `lh` entry.
pub(crate) fn leaf_hash(units: impl Iterator<Item = u16>) -> u32 {
    units.fold(0, |hash: u32, unit| hash.wrapping_mul(37).wrapping_add(u32::from(upcase(unit))))
}

/// Hint of an `lf` entry: the first four characters, or zeros when one of them is no single byte.
pub(crate) fn leaf_hint(units: impl Iterator<Item = u16>) -> u32 {
    let mut hint = [0u8; 4];
    for (slot, unit) in hint.iter_mut().zip(units) {
        match u8::try_from(unit) {
            Ok(byte) => *slot = byte,
            Err(_) => return 0,
        }
    }
    u32::from_le_bytes(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_case_is_one_unit_to_one() {
        let table = [(0x61, 0x41), (0xe9, 0xc9), (0xff, 0x178), (0xdf, 0xdf), (0xb5, 0xb5), (0x131, 0x131)];
        for (lower, upper) in table {
            assert_eq!(upcase(lower), upper, "{lower:#x}");
        }
        assert_eq!(upcase(0xd800), 0xd800);
    }

    #[test]
    fn hashes_and_hints() {
        let units = |text: &str| text.encode_utf16().collect::<Vec<_>>();
        assert_eq!(leaf_hash(units("ab").into_iter()), 0x41 * 37 + 0x42);
        assert_eq!(leaf_hash(units("AB").into_iter()), leaf_hash(units("ab").into_iter()));
        assert_eq!(leaf_hint(units("Elements").into_iter()), u32::from_le_bytes(*b"Elem"));
        assert_eq!(leaf_hint(units("ab").into_iter()), u32::from_le_bytes(*b"ab\0\0"));
        assert_eq!(leaf_hint(units("aĀ").into_iter()), 0);
    }

    #[test]
    fn order_ignores_case_and_puts_the_shorter_first() {
        let order = |a: &str, b: &str| compare(a.encode_utf16(), b.encode_utf16());
        assert_eq!(order("abc", "ABC"), Ordering::Equal);
        assert_eq!(order("ab", "ABC"), Ordering::Less);
        assert_eq!(order("a_", "AB"), Ordering::Greater);
    }

    #[test]
    fn names_are_stored_narrow_when_they_can_be() {
        assert_eq!(to_stored(&NtName::from("é")), (vec![0xe9], true));
        assert_eq!(to_stored(&NtName::from("Ā")), (vec![0, 1], false));
        let raw = RawName::Utf16(&[0, 1]);
        assert_eq!((raw.len(), raw.to_name()), (1, NtName::from("Ā")));
        assert!(RawName::Latin1(b"Abc").matches(&NtName::from("aBC")));
    }
}
