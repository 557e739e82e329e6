//! Text files as rules change them: encoding, mark and line ends stay as they are.

use super::Platform;
use crate::Error;

/// How a file is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// UTF-8, with or without its mark.
    Utf8 { mark: bool },
    /// UTF-16LE with its mark.
    Utf16,
    /// A code page: every byte stands for itself, and nothing beyond ASCII can be put in.
    Bytes,
}

/// A text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TextFile {
    encoding: Encoding,
    /// Lines without their ends.
    pub(super) lines: Vec<String>,
    /// `\r\n` or `\n`.
    end: &'static str,
    /// The last line has an end.
    is_closed: bool,
}

impl TextFile {
    /// An empty file as the system writes new ones.
    pub(super) fn empty(platform: Platform) -> Self {
        let end = platform.line_end();
        Self { encoding: Encoding::Utf8 { mark: false }, lines: Vec::new(), end, is_closed: true }
    }

    /// A file that is there; without an end of a line it gets those of the system.
    pub(super) fn parse(bytes: &[u8], platform: Platform) -> Self {
        let (encoding, text) = match bytes {
            [0xff, 0xfe, rest @ ..] if rest.len().is_multiple_of(2) => {
                let units: Vec<u16> =
                    rest.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
                match String::from_utf16(&units) {
                    Ok(text) => (Encoding::Utf16, text),
                    Err(_) => (Encoding::Bytes, latin(bytes)),
                }
            }
            [0xef, 0xbb, 0xbf, rest @ ..] => match std::str::from_utf8(rest) {
                Ok(text) => (Encoding::Utf8 { mark: true }, text.to_owned()),
                Err(_) => (Encoding::Bytes, latin(bytes)),
            },
            _ => match std::str::from_utf8(bytes) {
                Ok(text) => (Encoding::Utf8 { mark: false }, text.to_owned()),
                Err(_) => (Encoding::Bytes, latin(bytes)),
            },
        };
        let end = match (text.contains("\r\n"), text.contains('\n')) {
            (true, _) => "\r\n",
            (false, true) => "\n",
            (false, false) => platform.line_end(),
        };
        let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        // Only of files with such ends; a lone one elsewhere is content.
        if end == "\r\n" {
            for line in &mut lines {
                if line.ends_with('\r') {
                    line.pop();
                }
            }
        }
        let is_closed = lines.last().is_some_and(String::is_empty);
        if is_closed {
            lines.pop();
        }
        Self { encoding, lines, end, is_closed: is_closed || text.is_empty() }
    }

    pub(super) fn to_bytes(&self, path: &str) -> Result<Vec<u8>, Error> {
        let mut text = self.lines.join(self.end);
        if self.is_closed && !self.lines.is_empty() {
            text.push_str(self.end);
        }
        match self.encoding {
            Encoding::Utf8 { mark: false } => Ok(text.into_bytes()),
            Encoding::Utf8 { mark: true } => Ok([&[0xef, 0xbb, 0xbf], text.as_bytes()].concat()),
            Encoding::Utf16 => {
                let units = text.encode_utf16().flat_map(u16::to_le_bytes);
                Ok([0xff, 0xfe].into_iter().chain(units).collect())
            }
            Encoding::Bytes => text
                .chars()
                .map(|c| {
                    u8::try_from(u32::from(c)).map_err(|_| Error::Invalid {
                        what: format!("layer, {path}"),
                        expected: "text that its code page has".to_owned(),
                        found: format!("{c:?}"),
                    })
                })
                .collect(),
        }
    }

    /// The whole text, with `\n` for every end of a line.
    pub(super) fn text(&self) -> String {
        self.lines.join("\n")
    }

    pub(super) fn set_text(&mut self, text: &str) {
        self.lines = text.split('\n').map(|line| line.trim_end_matches('\r').to_owned()).collect();
    }
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_byte_for_byte() {
        let wide: Vec<u8> =
            [0xff, 0xfe].into_iter().chain("[ä]\r\nb=c".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let cases: [&[u8]; 10] = [
            b"",
            b"a",
            b"a\n",
            b"a\r\nb\r\n",
            b"a\nb",
            b"\n\n",
            b"\xef\xbb\xbfa\r\n",
            b"\xe4=\xf6\r\n",
            &wide,
            b"\xff\xfea",
        ];
        for bytes in cases {
            for platform in [Platform::Windows, Platform::Linux] {
                let file = TextFile::parse(bytes, platform);
                assert_eq!(file.to_bytes("x").unwrap(), bytes, "{platform:?} {bytes:?}");
            }
        }
        let mut page = TextFile::parse(b"\xe4\r\n", Platform::Windows);
        page.lines.push("\u{20ac}".into());
        assert!(page.to_bytes("x.ini").unwrap_err().to_string().contains("x.ini"));
    }
}
