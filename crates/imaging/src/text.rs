//! Text files that people write for imaging tools: lists, configuration files and command files, in UTF-8 or UTF-16LE,
//! with or without a byte order mark, as editors on Windows leave them.

use std::io::Read;
use std::path::Path;

use crate::Error;

/// Longest text file read, bytes. A list of a million paths is far below it.
const MAX_BYTES: u64 = 256 << 20;

/// Reads the text file `path`.
pub fn read_text_file(path: &Path) -> Result<String, Error> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(Error::io("open", &name))?;
    read_text(file, &name)
}

/// Reads text to its end. `name` stands in messages.
pub fn read_text(source: impl Read, name: &str) -> Result<String, Error> {
    let mut bytes = Vec::new();
    source.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io("read", name))?;
    if bytes.len() as u64 > MAX_BYTES {
        let (what, expected) = (name.to_owned(), format!("at most {MAX_BYTES} bytes of text"));
        return Err(Error::Usage { what, expected, found: "more".to_owned() });
    }
    decode(&bytes).map_err(|(expected, found)| Error::Usage { what: name.to_owned(), expected, found })
}

/// Text of bytes; on failure what was expected and found.
fn decode(bytes: &[u8]) -> Result<String, (String, String)> {
    if let Some(rest) = bytes.strip_prefix(b"\xff\xfe") {
        return utf16(rest);
    }
    // No text in UTF-8 has a zero byte; in UTF-16LE the second byte of a first ASCII character is one.
    if bytes.first().is_some_and(|byte| *byte != 0) && bytes.get(1) == Some(&0) {
        return utf16(bytes);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        ("UTF-8 or UTF-16LE text".to_owned(), format!("a byte that is neither at {:#x}", error.valid_up_to()))
    })?;
    Ok(text.to_owned())
}

fn utf16(bytes: &[u8]) -> Result<String, (String, String)> {
    let expected = || "UTF-16LE text".to_owned();
    let (pairs, []) = bytes.as_chunks::<2>() else {
        return Err((expected(), format!("an odd number of bytes: {}", bytes.len())));
    };
    let units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    String::from_utf16(&units).map_err(|_| (expected(), "half of a surrogate pair".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_told_apart() {
        let of_units = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let cases: [(Vec<u8>, &str); 6] = [
            (Vec::new(), ""),
            ("a\u{e9}".as_bytes().to_vec(), "aé"),
            (b"\xef\xbb\xbfadd".to_vec(), "add"),
            (of_units("add é"), "add é"),
            ([b"\xff\xfe".to_vec(), of_units("é")].concat(), "é"),
            (b"\xff\xfe".to_vec(), ""),
        ];
        for (bytes, expected) in cases {
            assert_eq!(read_text(&bytes[..], "list").unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for (bytes, expected) in [
            (&b"a\xff"[..], "a byte that is neither at 0x1"),
            (b"a\0b", "an odd number of bytes: 3"),
            (b"\xff\xfe\0\xd8", "half of a surrogate pair"),
        ] {
            let error = read_text(bytes, "list").unwrap_err().to_string();
            assert!(error.starts_with("list: ") && error.ends_with(expected), "{error}");
        }
    }
}
