//! Text of `.reg` files as UTF-16 units, from and to bytes.

use gravure_nttypes::NtName;

/// Windows-1252 from 0x80 to 0x9f; everything else is Latin-1. Bytes without a letter keep their number.
const CP1252: [u16; 32] = [
    0x20ac, 0x81, 0x201a, 0x192, 0x201e, 0x2026, 0x2020, 0x2021, 0x2c6, 0x2030, 0x160, 0x2039, 0x152, 0x8d,
    0x17d, 0x8f, 0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x2dc, 0x2122, 0x161, 0x203a,
    0x153, 0x9d, 0x17e, 0x178,
];

/// Text in whatever encoding a `.reg` file may have: by its mark, else UTF-16 when the second byte is zero, else
/// UTF-8 when it is that, else Windows-1252.
pub(super) fn decode(bytes: &[u8]) -> Vec<u16> {
    if let Some(rest) = bytes.strip_prefix(&[0xff, 0xfe]) {
        return utf16(rest);
    }
    if let Some(rest) = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]) {
        return utf8(rest).unwrap_or_else(|| ansi(rest));
    }
    if let [_, 0, ..] = bytes {
        return utf16(bytes);
    }
    utf8(bytes).unwrap_or_else(|| ansi(bytes))
}

/// UTF-16LE; an odd byte at the end is dropped.
fn utf16(bytes: &[u8]) -> Vec<u16> {
    bytes
        .chunks_exact(2)
        .map(|pair| match pair {
            [low, high] => u16::from_le_bytes([*low, *high]),
            _ => 0,
        })
        .collect()
}

fn utf8(bytes: &[u8]) -> Option<Vec<u16>> {
    NtName::from_unix(bytes).ok().map(|text| text.units().to_vec())
}

/// Windows-1252.
pub(super) fn ansi(bytes: &[u8]) -> Vec<u16> {
    let unit = |byte: &u8| match byte.checked_sub(0x80).and_then(|at| CP1252.get(usize::from(at))) {
        Some(unit) => *unit,
        None => u16::from(*byte),
    };
    bytes.iter().map(unit).collect()
}

/// Windows-1252; the first unit without a byte is the error.
pub(super) fn to_ansi(units: &[u16]) -> Result<Vec<u8>, u16> {
    let byte = |unit: &u16| {
        if let Some(at) = CP1252.iter().position(|known| known == unit) {
            return u8::try_from(at).ok().and_then(|at| at.checked_add(0x80)).ok_or(*unit);
        }
        u8::try_from(*unit).ok().filter(|byte| !(0x80..0xa0).contains(byte)).ok_or(*unit)
    };
    units.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_told_apart() {
        let units: Vec<u16> = "A\u{e9}\u{20ac}".encode_utf16().collect();
        let utf16: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        assert_eq!(decode(&[&[0xff, 0xfe][..], &utf16].concat()), units);
        assert_eq!(decode(&utf16), units);
        assert_eq!(decode("A\u{e9}\u{20ac}".as_bytes()), units);
        assert_eq!(decode("\u{feff}A\u{e9}\u{20ac}".as_bytes()), units);
        assert_eq!(decode(b"A\xe9\x80"), units);
    }

    #[test]
    fn every_byte_survives_windows_1252() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(to_ansi(&ansi(&all)), Ok(all));
        assert_eq!(to_ansi(&[0x41, 0x416]), Err(0x416));
    }
}
