//! Tokens (`%name%`) and the texts they stand for, in several languages (WDD "inf-strings-section").

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use crate::limits::MAX_FIELD_CHARS;
use crate::lines::Section;
use crate::text::{self, Encoding};

/// Name of the section, alone or before `.LLLL`.
const STRINGS: &str = "strings";

/// The texts of a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Strings {
    base: HashMap<String, String>,
    /// By language identifier.
    languages: BTreeMap<u16, HashMap<String, String>>,
}

impl Strings {
    /// Takes the texts out of all sections named `Strings` or `Strings.LLLL`.
    pub(crate) fn new(sections: &[Section], encoding: Encoding) -> Self {
        let mut out = Self::default();
        for section in sections {
            let name = section.name.to_lowercase();
            let Some(rest) = name.strip_prefix(STRINGS) else { continue };
            let language = match rest.strip_prefix('.') {
                None if rest.is_empty() => None,
                Some(digits) if digits.len() <= 4 => match u16::from_str_radix(digits, 16) {
                    Ok(language) => Some(language),
                    Err(_) => continue,
                },
                _ => continue,
            };
            let table = match language {
                None => &mut out.base,
                Some(language) => out.languages.entry(language).or_default(),
            };
            for line in &section.lines {
                let (Some(key), Some(value)) = (&line.key, line.values.first()) else { continue };
                let value = match (language, encoding) {
                    (Some(language), Encoding::CodePage) => text::in_language(value, language).into_owned(),
                    _ => value.clone(),
                };
                // The first of two counts.
                table.entry(key.to_lowercase()).or_insert(value);
            }
        }
        out
    }

    /// Languages that have texts of their own.
    pub(crate) fn languages(&self) -> impl Iterator<Item = u16> {
        self.languages.keys().copied()
    }

    /// The text of `name`: in `language`, in its primary language, in none, in English, in any.
    pub(crate) fn get(&self, name: &str, language: Option<u16>) -> Option<&str> {
        const PRIMARY: u16 = 0x3ff;
        const ENGLISH: u16 = 0x409;
        let name = name.to_lowercase();
        let of = |language: u16| self.languages.get(&language)?.get(&name);
        let wanted = language.and_then(|language| of(language).or_else(|| of(language & PRIMARY)));
        let found = wanted
            .or_else(|| self.base.get(&name))
            .or_else(|| of(ENGLISH))
            .or_else(|| self.languages.values().find_map(|table| table.get(&name)));
        found.map(String::as_str)
    }

    /// `raw` with its tokens replaced once, `%%` by `%`; tokens that are not defined stay (numbers are directories). At
    /// most [`MAX_FIELD_CHARS`] characters: Windows refuses more, and a file could otherwise ask for any amount.
    pub(crate) fn expand<'a>(&self, raw: &'a str, language: Option<u16>) -> Cow<'a, str> {
        if !raw.contains('%') {
            return Cow::Borrowed(raw);
        }
        let mut out = String::new();
        let mut rest = raw;
        while let Some((before, behind)) = rest.split_once('%') {
            out.push_str(before);
            // Bytes are at most four times the characters: enough to stop soon, the exact cut is below.
            if out.len() > MAX_FIELD_CHARS.saturating_mul(4) {
                rest = "";
                break;
            }
            let Some((name, after)) = behind.split_once('%') else {
                out.push('%');
                rest = behind;
                break;
            };
            rest = after;
            if name.is_empty() {
                out.push('%');
            } else if let Some(text) = self.get(name, language) {
                out.push_str(text);
            } else {
                out.extend(["%", name]);
                // The sign that closes this may open the next.
                rest = behind.get(name.len()..).unwrap_or_default();
                if !rest.get(1..).unwrap_or_default().contains('%') {
                    break;
                }
                out.push('%');
                rest = after;
            }
        }
        out.push_str(rest);
        if let Some((end, _)) = out.char_indices().nth(MAX_FIELD_CHARS) {
            out.truncate(end);
        }
        Cow::Owned(out)
    }

    /// Names of the tokens in `raw` that are defined nowhere and are no numbers.
    pub(crate) fn undefined<'a>(&self, raw: &'a str) -> Vec<&'a str> {
        let parts: Vec<&str> = raw.split('%').collect();
        // An even number of signs: every second part is a name.
        if parts.len().is_multiple_of(2) {
            return Vec::new();
        }
        let names = parts.into_iter().skip(1).step_by(2);
        names.filter(|name| is_name(name) && self.get(name, None).is_none()).collect()
    }
}

/// Not empty, and no directory number.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines;

    fn strings() -> Strings {
        let text = "[Strings]\ns=%t%\nt=v\nt=w\n\"u\"=\"x\" , y\nPCI\\VEN_1&DEV_2.Desc=card\nUn Known=k\n\
            [strings.0409]\nt=english\nonly=e\n[Strings.040C]\nT=fran\u{e7}ais\n[Strings.0009]\nx=neutral\n\
            [Strings.zz]\nq=1\n[StringsX]\nq=1\n";
        Strings::new(&lines::parse(text).unwrap().sections, Encoding::Utf8)
    }

    #[test]
    fn tokens_are_replaced_once_and_unknown_ones_stay() {
        // As Wine's setupapi does, in all but the number.
        let cases = [
            ("%s%", "%t%"),
            ("%T%", "v"),
            ("%u%", "x"),
            ("%%s%%", "%s%"),
            ("%%%s%%%", "%%t%%"),
            ("%unknown%", "%unknown%"),
            ("50%", "50%"),
            ("a%t%b%t%c", "avbvc"),
            ("%pci\\ven_1&dev_2.DESC%", "card"),
            ("%un known%", "k"),
            ("%13%\\f.sys", "%13%\\f.sys"),
            ("%q%", "%q%"),
            ("%", "%"),
            ("%%", "%"),
            ("100%, %t%", "100%, %t%"),
        ];
        let strings = strings();
        for (raw, expected) in cases {
            assert_eq!(strings.expand(raw, None), expected, "{raw:?}");
        }
    }

    #[test]
    fn languages_fall_back() {
        let strings = strings();
        assert_eq!(strings.languages().collect::<Vec<_>>(), [9, 0x409, 0x40c]);
        let cases = [
            ("t", Some(0x40c), Some("fran\u{e7}ais")),
            ("t", Some(0x407), Some("v")),
            ("t", None, Some("v")),
            ("only", None, Some("e")),
            ("x", Some(0x809), Some("neutral")),
            ("absent", Some(0x409), None),
        ];
        for (name, language, expected) in cases {
            assert_eq!(strings.get(name, language), expected, "{name} {language:?}");
        }
    }

    #[test]
    fn what_grows_by_replacing_is_cut() {
        let text = format!("[Strings]\na=\"{}\"\n", "x".repeat(4000));
        let strings = Strings::new(&lines::parse(&text).unwrap().sections, Encoding::Ascii);
        assert_eq!(strings.expand(&"%a%".repeat(1365), None).len(), MAX_FIELD_CHARS);
    }

    #[test]
    fn undefined_tokens_are_named() {
        let strings = strings();
        assert_eq!(strings.undefined("%t%%nope%x%%y%10%"), ["nope"]);
        assert_eq!(strings.undefined("100%, %t%"), [""; 0]);
    }
}
