//! $UpCase: capitals as NTFS 3.1 volumes have them since Windows 7, and the order of names that follows.
//!
//! The table is a fact of the format, given here as ranges and checked against a volume that mkntfs formatted; drivers
//! refuse volumes whose table differs from theirs.

use std::cmp::Ordering;
use std::sync::LazyLock;

/// Bytes of the table.
pub(crate) const UPCASE_BYTES: u64 = 131_072;
/// CRC-64 of the table, which stands in the stream `$Info` beside it (Windows 8 and later).
const UPCASE_CRC: u64 = 0xdadc_7e77_6b1b_690c;

/// First, last, step, and what is added for the capital.
#[rustfmt::skip]
const RANGES: [(u16, u16, u16, i32); 134] = [
    (0x61, 0x7a, 1, -32), (0xe0, 0xf6, 1, -32), (0xf8, 0xfe, 1, -32), (0xff, 0xff, 1, 121),
    (0x101, 0x12f, 2, -1), (0x133, 0x137, 2, -1), (0x13a, 0x148, 2, -1), (0x14b, 0x177, 2, -1),
    (0x17a, 0x17e, 2, -1), (0x180, 0x180, 1, 195), (0x183, 0x185, 2, -1), (0x188, 0x188, 1, -1),
    (0x18c, 0x18c, 1, -1), (0x192, 0x192, 1, -1), (0x195, 0x195, 1, 97), (0x199, 0x199, 1, -1),
    (0x19a, 0x19a, 1, 163), (0x19e, 0x19e, 1, 130), (0x1a1, 0x1a5, 2, -1), (0x1a8, 0x1a8, 1, -1),
    (0x1ad, 0x1ad, 1, -1), (0x1b0, 0x1b0, 1, -1), (0x1b4, 0x1b6, 2, -1), (0x1b9, 0x1b9, 1, -1),
    (0x1bd, 0x1bd, 1, -1), (0x1bf, 0x1bf, 1, 56), (0x1c6, 0x1c6, 1, -2), (0x1c9, 0x1c9, 1, -2),
    (0x1cc, 0x1cc, 1, -2), (0x1ce, 0x1dc, 2, -1), (0x1dd, 0x1dd, 1, -79), (0x1df, 0x1ef, 2, -1),
    (0x1f3, 0x1f3, 1, -2), (0x1f5, 0x1f5, 1, -1), (0x1f9, 0x21f, 2, -1), (0x223, 0x233, 2, -1),
    (0x23c, 0x23c, 1, -1), (0x242, 0x242, 1, -1), (0x247, 0x24f, 2, -1), (0x250, 0x250, 1, 10783),
    (0x251, 0x251, 1, 10780), (0x253, 0x253, 1, -210), (0x254, 0x254, 1, -206), (0x256, 0x257, 1, -205),
    (0x259, 0x259, 1, -202), (0x25b, 0x25b, 1, -203), (0x260, 0x260, 1, -205), (0x263, 0x263, 1, -207),
    (0x268, 0x268, 1, -209), (0x269, 0x269, 1, -211), (0x26b, 0x26b, 1, 10743), (0x26f, 0x26f, 1, -211),
    (0x271, 0x271, 1, 10749), (0x272, 0x272, 1, -213), (0x275, 0x275, 1, -214), (0x27d, 0x27d, 1, 10727),
    (0x280, 0x280, 1, -218), (0x283, 0x283, 1, -218), (0x288, 0x288, 1, -218), (0x289, 0x289, 1, -69),
    (0x28a, 0x28b, 1, -217), (0x28c, 0x28c, 1, -71), (0x292, 0x292, 1, -219), (0x371, 0x373, 2, -1),
    (0x377, 0x377, 1, -1), (0x37b, 0x37d, 1, 130), (0x3ac, 0x3ac, 1, -38), (0x3ad, 0x3af, 1, -37),
    (0x3b1, 0x3c1, 1, -32), (0x3c3, 0x3cb, 1, -32), (0x3cc, 0x3cc, 1, -64), (0x3cd, 0x3ce, 1, -63),
    (0x3d7, 0x3d7, 1, -8), (0x3d9, 0x3ef, 2, -1), (0x3f2, 0x3f2, 1, 7), (0x3f8, 0x3f8, 1, -1),
    (0x3fb, 0x3fb, 1, -1), (0x430, 0x44f, 1, -32), (0x450, 0x45f, 1, -80), (0x461, 0x481, 2, -1),
    (0x48b, 0x4bf, 2, -1), (0x4c2, 0x4ce, 2, -1), (0x4cf, 0x4cf, 1, -15), (0x4d1, 0x523, 2, -1),
    (0x561, 0x586, 1, -48), (0x1d79, 0x1d79, 1, 35332), (0x1d7d, 0x1d7d, 1, 3814), (0x1e01, 0x1e95, 2, -1),
    (0x1ea1, 0x1eff, 2, -1), (0x1f00, 0x1f07, 1, 8), (0x1f10, 0x1f15, 1, 8), (0x1f20, 0x1f27, 1, 8),
    (0x1f30, 0x1f37, 1, 8), (0x1f40, 0x1f45, 1, 8), (0x1f51, 0x1f57, 2, 8), (0x1f60, 0x1f67, 1, 8),
    (0x1f70, 0x1f71, 1, 74), (0x1f72, 0x1f75, 1, 86), (0x1f76, 0x1f77, 1, 100), (0x1f78, 0x1f79, 1, 128),
    (0x1f7a, 0x1f7b, 1, 112), (0x1f7c, 0x1f7d, 1, 126), (0x1f80, 0x1f87, 1, 8), (0x1f90, 0x1f97, 1, 8),
    (0x1fa0, 0x1fa7, 1, 8), (0x1fb0, 0x1fb1, 1, 8), (0x1fb3, 0x1fb3, 1, 9), (0x1fc3, 0x1fc3, 1, 9),
    (0x1fd0, 0x1fd1, 1, 8), (0x1fe0, 0x1fe1, 1, 8), (0x1fe5, 0x1fe5, 1, 7), (0x1ff3, 0x1ff3, 1, 9),
    (0x214e, 0x214e, 1, -28), (0x2170, 0x217f, 1, -16), (0x2184, 0x2184, 1, -1), (0x24d0, 0x24e9, 1, -26),
    (0x2c30, 0x2c5e, 1, -48), (0x2c61, 0x2c61, 1, -1), (0x2c65, 0x2c65, 1, -10795),
    (0x2c66, 0x2c66, 1, -10792), (0x2c68, 0x2c6c, 2, -1), (0x2c73, 0x2c73, 1, -1), (0x2c76, 0x2c76, 1, -1),
    (0x2c81, 0x2ce3, 2, -1), (0x2d00, 0x2d25, 1, -7264), (0xa641, 0xa65f, 2, -1), (0xa663, 0xa66d, 2, -1),
    (0xa681, 0xa697, 2, -1), (0xa723, 0xa72f, 2, -1), (0xa733, 0xa76f, 2, -1), (0xa77a, 0xa77c, 2, -1),
    (0xa77f, 0xa787, 2, -1), (0xa78c, 0xa78c, 1, -1), (0xff41, 0xff5a, 1, -32),
];

/// The capital of each unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpCase(Vec<u16>);

/// The table of every volume this crate writes.
pub(crate) static UPCASE: LazyLock<UpCase> = LazyLock::new(UpCase::new);

impl UpCase {
    fn new() -> Self {
        let mut table: Vec<u16> = (0..=u16::MAX).collect();
        for (first, last, step, distance) in RANGES {
            for unit in (first..=last).step_by(usize::from(step)) {
                let capital = i32::from(unit).saturating_add(distance);
                if let (Some(slot), Ok(capital)) = (table.get_mut(usize::from(unit)), u16::try_from(capital))
                {
                    *slot = capital;
                }
            }
        }
        Self(table)
    }

    /// The table of a volume; `None` when it has another size.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let units =
            bytes.chunks_exact(2).filter_map(|pair| pair.first_chunk().copied().map(u16::from_le_bytes));
        let table: Vec<u16> = units.collect();
        (u64::try_from(bytes.len()) == Ok(UPCASE_BYTES)).then_some(Self(table))
    }

    /// The capital of `unit`.
    pub(crate) fn of(&self, unit: u16) -> u16 {
        self.0.get(usize::from(unit)).copied().unwrap_or(unit)
    }

    /// Order of names but for case.
    pub(crate) fn compare(&self, a: &[u16], b: &[u16]) -> Ordering {
        for (x, y) in a.iter().zip(b) {
            let order = self.of(*x).cmp(&self.of(*y));
            if order != Ordering::Equal {
                return order;
            }
        }
        a.len().cmp(&b.len())
    }

    /// Order of names in an index: but for case, then by the units themselves.
    pub(crate) fn collate(&self, a: &[u16], b: &[u16]) -> Ordering {
        self.compare(a, b).then_with(|| a.cmp(b))
    }

    /// The table as it is on disk.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|unit| unit.to_le_bytes()).collect()
    }
}

/// CRC-64 of ECMA-182's reflected sibling with polynomial 0x9a6c9329ac4bc9b5, all ones before and after.
pub(crate) fn crc64(bytes: &[u8]) -> u64 {
    let step = |crc: u64| if crc & 1 == 1 { (crc >> 1) ^ 0x9a6c_9329_ac4b_c9b5 } else { crc >> 1 };
    !bytes.iter().fold(u64::MAX, |crc, byte| (0..8).fold(crc ^ u64::from(*byte), |crc, _| step(crc)))
}

/// The stream `$Info`: its length, the CRC of the table, and the version of a system that ours has none of.
pub(crate) fn upcase_info() -> Vec<u8> {
    let mut out = vec![0; 32];
    let fields = 32u64.to_le_bytes().into_iter().chain(UPCASE_CRC.to_le_bytes());
    out.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn table_has_the_checksum_it_is_written_with() {
        let bytes = UPCASE.to_bytes();
        assert_eq!(bytes.len() as u64, UPCASE_BYTES);
        assert_eq!(crc64(&bytes), UPCASE_CRC);
        assert_eq!((UPCASE.of(0x61), UPCASE.of(0xff), UPCASE.of(0x131)), (0x41, 0x178, 0x131));
    }

    #[test]
    fn names_that_differ_in_case_only_are_ordered_by_their_units() {
        let units = |text: &str| text.encode_utf16().collect::<Vec<_>>();
        let mut names = ["faq.html", "FAQ.html", "fap", "Faq.htmlx", "Faq.html", "_", "a"].map(units);
        names.sort_by(|a, b| UPCASE.collate(a, b));
        let sorted = names.map(|name| String::from_utf16(&name).unwrap());
        assert_eq!(sorted, ["a", "fap", "FAQ.html", "Faq.html", "faq.html", "Faq.htmlx", "_"]);
    }

    proptest! {
        #[test]
        fn order_is_total(names in prop::collection::vec(prop::collection::vec(0x40u16..0x70, 0..4), 3)) {
            let order = |a: usize, b: usize| UPCASE.collate(&names[a], &names[b]);
            prop_assert_eq!(order(0, 1), order(1, 0).reverse());
            prop_assert_eq!(order(0, 1) == Ordering::Equal, names[0] == names[1]);
            if order(0, 1) != Ordering::Greater && order(1, 2) != Ordering::Greater {
                prop_assert_ne!(order(0, 2), Ordering::Greater);
            }
        }
    }
}
