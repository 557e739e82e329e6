//! A file as a whole: sections by name, texts, and the check that it is the INF file of a driver.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::{Error, invalid, shown};
use crate::limits::MAX_FILE_BYTES;
use crate::lines::{self, Line, Section};
use crate::strings::Strings;
use crate::text::{self, Encoding};

/// Values of `Signature` that Windows takes (WDD "inf-version-section"); the first two are in use.
const SIGNATURES: [&str; 3] = ["$windows nt$", "$chicago$", "$windows 95$"];

/// An INF file.
#[derive(Debug, Clone)]
pub struct Inf {
    encoding: Encoding,
    sections: Vec<Section>,
    by_name: HashMap<String, usize>,
    strings: Strings,
    /// Lines before the first section.
    stray: Vec<u32>,
}

impl Inf {
    /// Reads a file. It must have a `[Version]` section with a signature; nothing else is demanded here.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_FILE_BYTES {
            let value = format!("{} bytes, at most {MAX_FILE_BYTES}", bytes.len());
            return Err(Error::Unsupported { what: "size of an INF file", value });
        }
        let (text, encoding) = text::decode(bytes);
        let mut sections: Vec<Section> = Vec::new();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        let parsed = lines::parse(&text)?;
        for section in parsed.sections {
            let index = *by_name.entry(section.name.to_lowercase()).or_insert(sections.len());
            match sections.get_mut(index) {
                Some(first) => first.lines.extend(section.lines),
                None => sections.push(section),
            }
        }
        let strings = Strings::new(&sections, encoding);
        let inf = Self { encoding, sections, by_name, strings, stray: parsed.stray };
        inf.check_signature()?;
        Ok(inf)
    }

    fn check_signature(&self) -> Result<(), Error> {
        let Some(version) = self.section("Version") else {
            let found = match self.sections.as_slice() {
                [] => "no section at all".to_owned(),
                sections => format!("{} other sections", sections.len()),
            };
            return Err(invalid("INF file", "a section [Version]", found));
        };
        let signature = self.value_of(version, "Signature");
        match &signature {
            Some(text) if SIGNATURES.contains(&text.to_lowercase().as_str()) => Ok(()),
            _ => {
                let found = signature.map_or("none".to_owned(), |text| format!("\"{}\"", shown(&text)));
                Err(invalid("signature in [Version]", "\"$Windows NT$\" or \"$Chicago$\"", found))
            }
        }
    }

    /// How the file is encoded.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// All sections in the order of the file, those of the same name as one.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The section with this name, in any case.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.get(*self.by_name.get(&name.trim().to_lowercase())?)
    }

    /// Languages (identifiers) that have a `[Strings.LLLL]` section.
    pub fn languages(&self) -> Vec<u16> {
        self.strings.languages().collect()
    }

    /// `raw` with its tokens replaced, without a wish for a language.
    pub fn text<'a>(&self, raw: &'a str) -> Cow<'a, str> {
        self.strings.expand(raw, None)
    }

    /// `raw` with its tokens replaced, in `language` if there are texts in it.
    pub fn text_in<'a>(&self, raw: &'a str, language: u16) -> Cow<'a, str> {
        self.strings.expand(raw, Some(language))
    }

    /// The value at `index` of a line, tokens replaced; empty when there is none.
    pub fn value<'a>(&self, line: &'a Line, index: usize) -> Cow<'a, str> {
        line.values.get(index).map_or(Cow::Borrowed(""), |raw| self.text(raw))
    }

    /// Lines of `section` whose key is `key`, in any case.
    pub fn entries<'a>(
        &self,
        section: &'a Section,
        key: &'a str,
    ) -> impl Iterator<Item = &'a Line> + use<'a> {
        section
            .lines
            .iter()
            .filter(move |line| line.key.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(key)))
    }

    /// The first value of the first line of `section` whose key is `key`.
    pub fn value_of(&self, section: &Section, key: &str) -> Option<String> {
        section
            .lines
            .iter()
            .find(|line| line.key.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(key)))
            .map(|line| self.value(line, 0).into_owned())
    }

    pub(crate) fn stray(&self) -> &[u32] {
        &self.stray
    }

    pub(crate) fn strings(&self) -> &Strings {
        &self.strings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_one_name_are_one() {
        let inf = Inf::parse(b"[version]\nSIGNATURE=%s%\n[A]\nx\n[a]\ny\n[Strings]\ns=$Chicago$\n").unwrap();
        let lines: Vec<&str> =
            inf.section(" A ").unwrap().lines.iter().map(|l| l.values[0].as_str()).collect();
        assert_eq!(lines, ["x", "y"]);
        assert_eq!(inf.sections().len(), 3);
        assert!(inf.section("b").is_none());
    }

    #[test]
    fn what_is_no_inf_file_is_refused_with_its_reason() {
        let error = |text: &str| Inf::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error(""), "INF file: expected a section [Version], found no section at all");
        assert_eq!(error("[A]\n[B]"), "INF file: expected a section [Version], found 2 other sections");
        let message = |found: &str| {
            format!("signature in [Version]: expected \"$Windows NT$\" or \"$Chicago$\", found {found}")
        };
        assert_eq!(error("[Version]\nClass=x"), message("none"));
        assert_eq!(error("[Version]\nSignature=foo"), message("\"foo\""));
        let large = vec![b' '; MAX_FILE_BYTES + 1];
        assert!(Inf::parse(&large).unwrap_err().to_string().contains("at most 16777216"));
    }
}
