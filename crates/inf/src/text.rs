//! Bytes to text: which encoding a file has, and the code pages of texts in other languages.

use std::borrow::Cow;

use encoding_rs::{
    BIG5, EUC_KR, Encoding as CodePage, GB18030, SHIFT_JIS, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_874,
    WINDOWS_1250, WINDOWS_1251, WINDOWS_1252, WINDOWS_1253, WINDOWS_1254, WINDOWS_1255, WINDOWS_1256,
    WINDOWS_1257, WINDOWS_1258,
};
use serde::Serialize;

/// How a file is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Nothing above 0x7f.
    Ascii,
    /// Bytes of some code page: which one, no file says. Windows takes its own; we take 1252, and for `[Strings.LLLL]`
    /// the one of that language.
    CodePage,
    /// UTF-8, with a mark or without.
    Utf8,
    /// UTF-16, little-endian.
    Utf16Le,
    /// UTF-16, big-endian.
    Utf16Be,
}

impl Encoding {
    /// The word for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ascii => "ASCII",
            Self::CodePage => "code page",
            Self::Utf8 => "UTF-8",
            Self::Utf16Le => "UTF-16LE",
            Self::Utf16Be => "UTF-16BE",
        }
    }
}

/// The text of a file. By its mark; else UTF-16 when the second byte is zero; else UTF-8 when it is that; else
/// Windows-1252, in which every byte is one character, so that nothing is lost until the language is known.
pub(crate) fn decode(bytes: &[u8]) -> (Cow<'_, str>, Encoding) {
    let (page, rest, encoding) = match bytes {
        [0xff, 0xfe, rest @ ..] => (UTF_16LE, rest, Encoding::Utf16Le),
        [0xfe, 0xff, rest @ ..] => (UTF_16BE, rest, Encoding::Utf16Be),
        [0xef, 0xbb, 0xbf, rest @ ..] => (UTF_8, rest, Encoding::Utf8),
        [_, 0, ..] => (UTF_16LE, bytes, Encoding::Utf16Le),
        _ if bytes.is_ascii() => (UTF_8, bytes, Encoding::Ascii),
        _ if std::str::from_utf8(bytes).is_ok() => (UTF_8, bytes, Encoding::Utf8),
        _ => (WINDOWS_1252, bytes, Encoding::CodePage),
    };
    (page.decode_without_bom_handling(rest).0, encoding)
}

/// A text of language `language` that was read as Windows-1252, in the code page of that language; as it is when it
/// does not fit there.
pub(crate) fn in_language(text: &str, language: u16) -> Cow<'_, str> {
    let page = code_page(language);
    if text.is_ascii() || page == WINDOWS_1252 {
        return Cow::Borrowed(text);
    }
    let (bytes, _, _) = WINDOWS_1252.encode(text);
    match page.decode_without_bom_handling_and_without_replacement(&bytes) {
        Some(decoded) => Cow::Owned(decoded.into_owned()),
        None => Cow::Borrowed(text),
    }
}

/// The ANSI code page of a language (NLS API reference, "Language Identifier Constants"): by the primary language, the
/// low ten bits, except where one language has several scripts.
fn code_page(language: u16) -> &'static CodePage {
    match language {
        0x0404 | 0x0c04 | 0x1404 => return BIG5, // Taiwan, Hong Kong, Macau
        0x0c1a | 0x1c1a | 0x201a | 0x281a | 0x301a => return WINDOWS_1251, // Serbian, Bosnian in Cyrillic
        0x082c | 0x0843 => return WINDOWS_1251,  // Azeri and Uzbek in Cyrillic
        _ => {}
    }
    match language & 0x3ff {
        0x04 => GB18030,
        0x11 => SHIFT_JIS,
        0x12 => EUC_KR,
        0x1e => WINDOWS_874,
        0x05 | 0x0e | 0x15 | 0x18 | 0x1a | 0x1b | 0x1c | 0x24 => WINDOWS_1250,
        0x02 | 0x19 | 0x22 | 0x23 | 0x2f | 0x3f | 0x40 | 0x44 | 0x50 => WINDOWS_1251,
        0x08 => WINDOWS_1253,
        0x1f | 0x2c | 0x43 => WINDOWS_1254,
        0x0d => WINDOWS_1255,
        0x01 | 0x20 | 0x29 => WINDOWS_1256,
        0x25..=0x27 => WINDOWS_1257,
        0x2a => WINDOWS_1258,
        _ => WINDOWS_1252,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_told_apart() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let cases: [(Vec<u8>, &str, Encoding); 7] = [
            (b"[A]".to_vec(), "[A]", Encoding::Ascii),
            (b"\xef\xbb\xbf[A]".to_vec(), "[A]", Encoding::Utf8),
            ("[\u{e9}]".into(), "[\u{e9}]", Encoding::Utf8),
            (b"[\xe9\x80\x81]".to_vec(), "[\u{9001}]", Encoding::Utf8),
            (b"[\xe9]".to_vec(), "[\u{e9}]", Encoding::CodePage),
            ([&[0xff, 0xfe][..], &utf16("[\u{416}]")].concat(), "[\u{416}]", Encoding::Utf16Le),
            (utf16("[A]"), "[A]", Encoding::Utf16Le),
        ];
        for (bytes, text, encoding) in cases {
            assert_eq!(decode(&bytes), (Cow::from(text), encoding));
        }
        assert_eq!(decode(&[0xfe, 0xff, 0, b'x']), (Cow::from("x"), Encoding::Utf16Be));
        // An odd byte at the end and half a surrogate are told, not dropped.
        assert_eq!(decode(&[0xff, 0xfe, b'x', 0, 0x00, 0xd8, b'y', 0, 7]).0, "x\u{fffd}y\u{fffd}");
    }

    #[test]
    fn languages_have_their_code_page_and_every_byte_survives_until_then() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&all).1, Encoding::CodePage);
        assert_eq!(&*WINDOWS_1252.encode(&decode(&all).0).0, all);
        let text = decode(b"\xcf\xf0\xe8\xe2\xe5\xf2").0;
        assert_eq!(in_language(&text, 0x419), "\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}");
        assert_eq!(in_language(&text, 0x40c), text);
        assert_eq!(in_language(&decode(b"\xba\xf4\xb8\xf4").0, 0x404), "\u{7db2}\u{8def}");
        assert_eq!(in_language(&decode(b"\xcd\xf8\xc2\xe7").0, 0x804), "\u{7f51}\u{7edc}");
        // Bytes that the code page does not have: left as they were.
        assert_eq!(in_language("\u{ff}\u{fd}", 0x411), "\u{ff}\u{fd}");
    }
}
