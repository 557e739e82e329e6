//! GUIDs as Windows stores them: first three fields little-endian.

use std::fmt;
use std::str::FromStr;

/// A GUID in on-disk byte order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Guid(pub [u8; 16]);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g, h, i, rest @ ..] = self.0;
        write!(f, "{d:02x}{c:02x}{b:02x}{a:02x}-{g:02x}{e:02x}-{i:02x}{h:02x}-")?;
        for (n, byte) in rest.iter().enumerate() {
            if n == 2 {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guid({self})")
    }
}

/// Text that is no GUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a GUID (8-4-4-4-12 hexadecimal digits), found {0:?}")]
pub struct GuidError(pub String);

impl FromStr for Guid {
    type Err = GuidError;

    /// With or without braces, in any case.
    fn from_str(text: &str) -> Result<Self, GuidError> {
        let bad = || GuidError(text.to_owned());
        let bare =
            text.strip_prefix('{').map_or(Some(text), |rest| rest.strip_suffix('}')).ok_or_else(bad)?;
        let groups: Vec<&str> = bare.split('-').collect();
        let lens: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        if lens != [8, 4, 4, 4, 12]
            || !groups.iter().all(|group| group.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(bad());
        }
        let number = u128::from_str_radix(&groups.concat(), 16).map_err(|_| bad())?;
        let [a, b, c, d, e, g, h, i, rest @ ..] = number.to_be_bytes();
        let mut out = [d, c, b, a, g, e, i, h, 0, 0, 0, 0, 0, 0, 0, 0];
        out.iter_mut().skip(8).zip(rest).for_each(|(to, from)| *to = from);
        Ok(Self(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_first_three_fields_swapped() {
        let bytes =
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(Guid(bytes).to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }

    #[test]
    fn text_and_bytes_are_two_ways() {
        let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        let guid: Guid = text.parse().unwrap();
        assert_eq!(guid.to_string(), text);
        assert_eq!(format!("{{{}}}", text.to_uppercase()).parse(), Ok(guid));
        for bad in [
            "",
            "{c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
            "c12a7328f81f11d2ba4b00a0c93ec93b",
            "+12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        ] {
            assert_eq!(bad.parse::<Guid>(), Err(GuidError(bad.to_owned())));
        }
    }
}
