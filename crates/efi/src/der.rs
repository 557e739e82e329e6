//! The little of ASN.1's distinguished encoding (X.690) that signatures need: elements written, and the start of a
//! certificate read.

use crate::Error;

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
const INTEGER: u8 = 2;
/// `[0]`, constructed.
pub(crate) const CONTEXT_0: u8 = 0xa0;

pub(crate) fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(value.len()) {
        Ok(len) if len < 0x80 => out.push(len),
        _ => {
            let digits: Vec<u8> =
                value.len().to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            // At most eight of them.
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            out.extend(digits);
        }
    }
    out.extend_from_slice(value);
    out
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, &parts.concat())
}

pub(crate) fn oid(bytes: &[u8]) -> Vec<u8> {
    element(6, bytes)
}

pub(crate) fn octets(bytes: &[u8]) -> Vec<u8> {
    element(4, bytes)
}

pub(crate) fn null() -> Vec<u8> {
    element(5, &[])
}

pub(crate) fn integer(value: u8) -> Vec<u8> {
    element(INTEGER, &[value])
}

/// An element at the beginning of bytes.
struct Element<'a> {
    tag: u8,
    value: &'a [u8],
    whole: &'a [u8],
    rest: &'a [u8],
}

fn read<'a>(bytes: &'a [u8], what: &'static str) -> Result<Element<'a>, Error> {
    let corrupt = |expected, found: String| Error::corrupt(what, 0, expected, found);
    let [tag, first, ..] = bytes else { return Err(corrupt("an element", "the end".into())) };
    let (header, len) = match usize::from(*first) {
        len @ 0..=0x7f => (2usize, len),
        // Four digits are 4 GiB; more no certificate has.
        digits @ 0x81..=0x84 => {
            let count = digits & 0x7f;
            let raw =
                bytes.get(2..count.saturating_add(2)).ok_or_else(|| corrupt("a length", "the end".into()))?;
            let len = raw.iter().fold(0usize, |len, byte| len.wrapping_shl(8) | usize::from(*byte));
            (count.saturating_add(2), len)
        }
        other => return Err(corrupt("a length of up to four bytes", format!("{other:#04x}"))),
    };
    let end = header.saturating_add(len);
    match (bytes.get(header..end), bytes.get(..end), bytes.get(end..)) {
        (Some(value), Some(whole), Some(rest)) => Ok(Element { tag: *tag, value, whole, rest }),
        _ => Err(corrupt("an element inside its surroundings", format!("{len} bytes"))),
    }
}

/// Issuer and serial number of a certificate, encoded: by these a signature names it (RFC 5652, `IssuerAndSerialNumber`).
pub(crate) fn issuer_and_serial(certificate: &[u8]) -> Result<Vec<u8>, Error> {
    const WHAT: &str = "certificate";
    let outer = read(certificate, WHAT)?;
    if outer.tag != SEQUENCE || !outer.rest.is_empty() {
        return Err(Error::corrupt(WHAT, 0, "one sequence", format!("tag {:#04x}", outer.tag)));
    }
    let mut next = read(read(outer.value, WHAT)?.value, WHAT)?;
    if next.tag == CONTEXT_0 {
        next = read(next.rest, WHAT)?;
    }
    let serial = next;
    if serial.tag != INTEGER {
        return Err(Error::corrupt(WHAT, 0, "a serial number", format!("tag {:#04x}", serial.tag)));
    }
    let algorithm = read(serial.rest, WHAT)?;
    let issuer = read(algorithm.rest, WHAT)?;
    if issuer.tag != SEQUENCE {
        return Err(Error::corrupt(WHAT, 0, "the name of its issuer", format!("tag {:#04x}", issuer.tag)));
    }
    Ok(sequence(&[issuer.whole, serial.whole]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_short_as_they_can_be() {
        for (len, head) in
            [(0usize, &[4, 0][..]), (127, &[4, 127]), (128, &[4, 0x81, 128]), (256, &[4, 0x82, 1, 0])]
        {
            let made = octets(&vec![7; len]);
            assert_eq!(&made[..head.len()], head);
            let read = read(&made, "x").unwrap();
            assert_eq!((read.tag, read.value.len(), read.rest.len()), (4, len, 0));
            for cut in 0..made.len() {
                assert!(super::read(&made[..cut], "x").is_err(), "{len} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_certificate_is_named_by_issuer_and_serial() {
        let name = sequence(&[&element(SET, &[])]);
        let algorithm = sequence(&[]);
        let fields = [integer(9), algorithm, name.clone()].concat();
        let version = element(CONTEXT_0, &integer(2));
        for signed in [fields.clone(), [version, fields].concat()] {
            let certificate = sequence(&[&element(SEQUENCE, &signed), &null()]);
            assert_eq!(issuer_and_serial(&certificate).unwrap(), sequence(&[&name, &integer(9)]));
            for cut in 0..certificate.len() {
                assert!(issuer_and_serial(&certificate[..cut]).is_err());
            }
        }
    }
}
