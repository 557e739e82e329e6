//! File names as Windows has them: any sequence of 16-bit units, unpaired surrogates included.
//!
//! On Unix such a name is written as WTF-8 (UTF-8 in which an unpaired surrogate is three bytes), so that every
//! Windows name and every UTF-8 name survives the way there and back.

use std::fmt;

/// Why bytes cannot become a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Neither UTF-8 nor WTF-8.
    #[error("name is not UTF-8 at byte {pos}")]
    NotUtf8 {
        /// Index of the first bad byte.
        pos: usize,
    },
    /// UTF-16LE text of odd length.
    #[error("name of {len} bytes is not whole UTF-16 units")]
    OddLength {
        /// Length in bytes.
        len: usize,
    },
}

/// A name in UTF-16 units, without terminator.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NtName(Box<[u16]>);

impl NtName {
    /// From units.
    pub fn from_units(units: &[u16]) -> Self {
        Self(units.into())
    }

    /// From UTF-16LE bytes.
    pub fn from_le_bytes(bytes: &[u8]) -> Result<Self, NameError> {
        if !bytes.len().is_multiple_of(2) {
            return Err(NameError::OddLength { len: bytes.len() });
        }
        let units = bytes.chunks_exact(2).map(|pair| match pair {
            [low, high] => u16::from_le_bytes([*low, *high]),
            _ => 0,
        });
        Ok(Self(units.collect()))
    }

    /// From the bytes of a Unix name (WTF-8).
    pub fn from_unix(bytes: &[u8]) -> Result<Self, NameError> {
        let mut units = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        let mut buf = [0u16; 2];
        while !rest.is_empty() {
            let (good, after) = match std::str::from_utf8(rest) {
                Ok(text) => (text, &[][..]),
                Err(error) => {
                    let (good, after) = rest.split_at(error.valid_up_to());
                    (std::str::from_utf8(good).unwrap_or_default(), after)
                }
            };
            for c in good.chars() {
                units.extend_from_slice(c.encode_utf16(&mut buf));
            }
            rest = match after {
                [] => &[],
                // ED A0..BF 80..BF: a surrogate in WTF-8.
                [0xed, b @ 0xa0..=0xbf, c @ 0x80..=0xbf, more @ ..] => {
                    units.push(0xd000 | (u16::from(*b & 0x3f) << 6) | u16::from(*c & 0x3f));
                    more
                }
                _ => return Err(NameError::NotUtf8 { pos: bytes.len().saturating_sub(after.len()) }),
            };
        }
        Ok(Self(units.into()))
    }

    /// The units.
    pub fn units(&self) -> &[u16] {
        &self.0
    }

    /// UTF-16LE bytes, without terminator.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|unit| unit.to_le_bytes()).collect()
    }

    /// The bytes of a Unix name (WTF-8).
    pub fn to_unix(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len());
        let mut buf = [0u8; 4];
        for unit in char::decode_utf16(self.0.iter().copied()) {
            match unit {
                Ok(c) => out.extend_from_slice(c.encode_utf8(&mut buf).as_bytes()),
                Err(error) => {
                    let [high, low] = error.unpaired_surrogate().to_be_bytes();
                    out.push(0xed);
                    out.push(0x80 | ((high & 0x0f) << 2) | (low >> 6));
                    out.push(0x80 | (low & 0x3f));
                }
            }
        }
        out
    }

    /// True for a name without units.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Units after simple case folding, for the order Windows lists files in. ASCII only: enough for ordering
    /// lists that readers must not depend on (wim-container 6.3).
    pub fn folded(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().map(|unit| match unit {
            0x61..=0x7a => unit ^ 0x20,
            _ => *unit,
        })
    }
}

impl From<&str> for NtName {
    fn from(text: &str) -> Self {
        Self(text.encode_utf16().collect())
    }
}

impl fmt::Display for NtName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for unit in char::decode_utf16(self.0.iter().copied()) {
            match unit {
                Ok(c) => write!(f, "{c}")?,
                Err(error) => write!(f, "\\u{{{:x}}}", error.unpaired_surrogate())?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for NtName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_survives_the_way_over_unix() {
        let names: [&[u16]; 5] = [&[], &[0x41], &[0xd83d, 0xde00], &[0x41, 0xd800, 0x42], &[0xdfff, 0xd800]];
        for units in names {
            let name = NtName::from_units(units);
            assert_eq!(NtName::from_unix(&name.to_unix()), Ok(name.clone()), "{units:x?}");
            assert_eq!(NtName::from_le_bytes(&name.to_le_bytes()), Ok(name));
        }
    }

    #[test]
    fn names_the_first_bad_byte() {
        assert_eq!(NtName::from_unix(b"ab\xffc"), Err(NameError::NotUtf8 { pos: 2 }));
        assert_eq!(NtName::from_unix(b"ab\xed\xa0"), Err(NameError::NotUtf8 { pos: 2 }));
        assert_eq!(NtName::from_le_bytes(b"abc"), Err(NameError::OddLength { len: 3 }));
    }
}
