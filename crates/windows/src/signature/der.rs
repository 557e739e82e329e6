//! DER as signatures have it (X.690): elements one after the other, each with its bytes. Definite lengths only. Order in sets is
//! not asked for: files that Windows signed do not keep it, which is why the strict decoders of `cms` and `x509-cert` are not
//! used here.

use super::SignatureError;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_ID: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const PRINTABLE_STRING: u8 = 0x13;
pub(super) const T61_STRING: u8 = 0x14;
pub(super) const IA5_STRING: u8 = 0x16;
pub(super) const BMP_STRING: u8 = 0x1e;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// `[number]`, constructed.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// An element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    /// What is in it.
    pub(super) value: &'a [u8],
    /// Tag, length and value.
    pub(super) whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// The only element of `bytes`; what is behind it is ignored, as signatures are filled up.
    pub(super) fn parse(bytes: &'a [u8], what: &'static str) -> Result<Self, SignatureError> {
        Reader::new(bytes, what).next()
    }

    /// What is in it, if it has this tag.
    pub(super) fn expect(self, tag: u8, what: &'static str) -> Result<&'a [u8], SignatureError> {
        if self.tag == tag {
            return Ok(self.value);
        }
        Err(SignatureError::new(what, format!("an element of type {tag:#04x}"), format!("{:#04x}", self.tag)))
    }

    /// The elements in it.
    pub(super) fn reader(self, what: &'static str) -> Reader<'a> {
        Reader::new(self.value, what)
    }
}

/// Elements one after the other.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Tag of the next element.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(super) fn next(&mut self) -> Result<Element<'a>, SignatureError> {
        let bad = |expected: &str, found: String| SignatureError::new(self.what, expected.to_owned(), found);
        let (Some(&tag), Some(&first)) = (self.rest.first(), self.rest.get(1)) else {
            return Err(bad("another element", format!("{} bytes", self.rest.len())));
        };
        if tag & 0x1f == 0x1f {
            return Err(bad("a tag of one byte", format!("{tag:#04x}")));
        }
        let (header, len) = match first {
            0..=0x7f => (2usize, usize::from(first)),
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let digits =
                    self.rest.get(2..2 + count).ok_or_else(|| bad("a length", "its start".to_owned()))?;
                (2 + count, digits.iter().fold(0usize, |len, digit| (len << 8) | usize::from(*digit)))
            }
            _ => return Err(bad("a length of at most four bytes", format!("{first:#04x}"))),
        };
        let end = header.saturating_add(len);
        let (Some(whole), Some(value)) = (self.rest.get(..end), self.rest.get(header..end)) else {
            return Err(bad(&format!("at most {} bytes", self.rest.len()), format!("{end}")));
        };
        self.rest = self.rest.get(end..).unwrap_or_default();
        Ok(Element { tag, value, whole })
    }

    /// The next element, which has this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Element<'a>, SignatureError> {
        let element = self.next()?;
        element.expect(tag, self.what)?;
        Ok(element)
    }

    /// The next element if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, SignatureError> {
        if self.peek() == Some(tag) { self.next().map(Some) } else { Ok(None) }
    }
}

/// Text of a string type.
pub(super) fn text(element: Element<'_>) -> Option<String> {
    match element.tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING => String::from_utf8(element.value.to_vec()).ok(),
        T61_STRING => Some(element.value.iter().map(|byte| char::from(*byte)).collect()),
        BMP_STRING => {
            let (units, odd) = element.value.as_chunks::<2>();
            let units: Vec<u16> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            odd.is_empty().then(|| String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned())
        }
        _ => None,
    }
}
