//! Mode netascii (RFC 1350 section 1, RFC 764): line ends as CR LF, a lone CR as CR NUL.

/// Content converted for mode netascii.
///
/// Meant for configuration texts a person fetches; the whole text is in memory, so the caller bounds its size. Line ends
/// that are CR LF already stay as they are.
#[must_use]
pub fn to_netascii(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len());
    let mut bytes = content.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\n' => out.extend(b"\r\n"),
            b'\r' => out.extend(match bytes.next_if_eq(&b'\n') {
                Some(_) => b"\r\n",
                None => b"\r\0",
            }),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_become_cr_lf_and_lone_returns_cr_nul() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"", b""),
            (b"a\nb\n", b"a\r\nb\r\n"),
            (b"a\r\nb", b"a\r\nb"),
            (b"a\rb", b"a\r\0b"),
            (b"\r\r\n\r", b"\r\0\r\n\r\0"),
            (b"\n\r", b"\r\n\r\0"),
        ];
        for (text, wire) in cases {
            assert_eq!(to_netascii(text), wire, "{text:?}");
        }
    }
}
