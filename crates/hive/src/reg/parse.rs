//! Reading `.reg` text.

use std::borrow::Cow;

use gravure_nttypes::NtName;

use super::{RegFile, RegKey, RegValue, RegVersion, encoding};
use crate::error::Error;
use crate::value::{Data, ValueType, text_bytes};

impl RegFile {
    /// Reads a text in any of the encodings such files have.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let units = encoding::decode(bytes);
        let mut scanner = Scanner { units: &units, pos: 0, line: 1 };
        scanner.skip_blank();
        let header = String::from_utf16_lossy(scanner.rest_of_line());
        let version =
            [RegVersion::V4, RegVersion::V5].into_iter().find(|version| version.header() == header.trim());
        let version = version.ok_or_else(|| {
            scanner.error("\"Windows Registry Editor Version 5.00\" or \"REGEDIT4\"", &header)
        })?;
        let mut keys: Vec<RegKey> = Vec::new();
        loop {
            scanner.skip_blank();
            match scanner.peek() {
                None => return Ok(Self { version, keys }),
                Some(b'[') => keys.push(scanner.key()?),
                Some(b'@' | b'"') => {
                    let line = scanner.line;
                    let value = scanner.value(version)?;
                    match keys.last_mut() {
                        Some(key) if !key.is_deletion => key.values.push(value),
                        _ => {
                            let found = format!("value {}", value.name);
                            return Err(Error::Text { line, expected: "a key before it".into(), found });
                        }
                    }
                }
                Some(_) => {
                    let found = String::from_utf16_lossy(scanner.rest_of_line());
                    return Err(scanner.error("[key], \"name\"=, @= or ; comment", &found));
                }
            }
        }
    }
}

struct Scanner<'a> {
    units: &'a [u16],
    pos: usize,
    line: usize,
}

impl<'a> Scanner<'a> {
    fn error(&self, expected: impl Into<Cow<'static, str>>, found: &str) -> Error {
        let found = match found.chars().take(60).collect::<String>() {
            text if text.is_empty() => "the end".to_owned(),
            text => format!("{text:?}"),
        };
        Error::Text { line: self.line, expected: expected.into(), found }
    }

    fn peek_unit(&self) -> Option<u16> {
        self.units.get(self.pos).copied()
    }

    /// The next unit when it is ASCII; anything else is 0xff, which no rule accepts.
    fn peek(&self) -> Option<u8> {
        self.peek_unit().map(|unit| u8::try_from(unit).ok().filter(u8::is_ascii).unwrap_or(0xff))
    }

    fn next_unit(&mut self) -> Option<u16> {
        let unit = self.peek_unit()?;
        self.pos = self.pos.saturating_add(1);
        if unit == u16::from(b'\n') {
            self.line = self.line.saturating_add(1);
        }
        Some(unit)
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.next_unit();
        }
    }

    fn skip_spaces(&mut self) {
        self.skip(|c| matches!(c, b' ' | b'\t'));
    }

    /// Blanks, ends of lines, comments.
    fn skip_blank(&mut self) {
        loop {
            self.skip(|c| matches!(c, b' ' | b'\t' | b'\r' | b'\n' | 0));
            if self.peek() != Some(b';') {
                return;
            }
            self.rest_of_line();
        }
    }

    /// Up to the end of the line, which stays.
    fn rest_of_line(&mut self) -> &'a [u16] {
        let rest = self.units.get(self.pos..).unwrap_or_default();
        let len = rest.iter().position(|unit| matches!(*unit, 0x0a | 0x0d)).unwrap_or(rest.len());
        self.pos = self.pos.saturating_add(len);
        rest.get(..len).unwrap_or_default()
    }

    fn take(&mut self, word: &str) -> bool {
        let rest = self.units.get(self.pos..).unwrap_or_default();
        let is_there = word.len() <= rest.len()
            && word
                .bytes()
                .zip(rest)
                .all(|(a, b)| u8::try_from(*b).is_ok_and(|b| a.eq_ignore_ascii_case(&b)));
        if is_there {
            self.pos = self.pos.saturating_add(word.len());
        }
        is_there
    }

    fn expect(&mut self, word: &'static str) -> Result<(), Error> {
        if self.take(word) {
            return Ok(());
        }
        let found = String::from_utf16_lossy(self.rest_of_line());
        Err(self.error(format!("\"{word}\""), &found))
    }

    fn key(&mut self) -> Result<RegKey, Error> {
        let line = self.line;
        let text = self.rest_of_line();
        // Names of keys may hold brackets: the last one closes.
        let end = text.iter().rposition(|unit| *unit == u16::from(b']'));
        let inner = end.and_then(|end| text.get(1..end));
        let Some(inner) = inner else {
            return Err(self.error("\"]\"", &String::from_utf16_lossy(text)));
        };
        let (is_deletion, path) = match inner.strip_prefix(&[u16::from(b'-')]) {
            Some(path) => (true, path),
            None => (false, inner),
        };
        Ok(RegKey { line, path: NtName::from_units(path), is_deletion, values: Vec::new() })
    }

    fn value(&mut self, version: RegVersion) -> Result<RegValue, Error> {
        let name = if self.take("@") { NtName::default() } else { self.quoted()? };
        self.skip_spaces();
        self.expect("=")?;
        self.skip_spaces();
        let data = self.data(version)?;
        self.skip_spaces();
        if self.peek() == Some(b';') {
            self.rest_of_line();
        }
        match self.peek() {
            None | Some(b'\r' | b'\n') => Ok(RegValue { name, data }),
            Some(_) => {
                let found = String::from_utf16_lossy(self.rest_of_line());
                Err(self.error("the end of the line", &found))
            }
        }
    }

    fn quoted(&mut self) -> Result<NtName, Error> {
        self.expect("\"")?;
        let start = self.line;
        let mut out = Vec::new();
        while let Some(unit) = self.next_unit() {
            match u8::try_from(unit) {
                Ok(b'"') => return Ok(NtName::from_units(&out)),
                Ok(b'\\') => match self.peek() {
                    Some(b'\\' | b'"') => out.extend(self.next_unit()),
                    _ => out.push(unit),
                },
                _ => out.push(unit),
            }
        }
        Err(Error::Text { line: start, expected: "a closing quote".into(), found: "the end".to_owned() })
    }

    fn data(&mut self, version: RegVersion) -> Result<Option<Data>, Error> {
        if self.take("-") {
            return Ok(None);
        }
        if self.peek() == Some(b'"') {
            let text = self.quoted()?;
            return Ok(Some(Data { kind: ValueType::SZ, bytes: text_bytes(&text) }));
        }
        if self.take("dword:") {
            let number = self.number(8)?;
            let bytes = number.to_le_bytes().get(..4).unwrap_or_default().to_vec();
            return Ok(Some(Data { kind: ValueType::DWORD, bytes }));
        }
        if self.take("qword:") {
            return Ok(Some(Data::qword(self.number(16)?)));
        }
        if self.take("hex:") {
            return Ok(Some(Data { kind: ValueType::BINARY, bytes: self.bytes()? }));
        }
        if self.take("hex(") {
            let kind = self.number(8)?;
            self.expect("):")?;
            let kind = ValueType(u32::try_from(kind).unwrap_or(u32::MAX));
            let bytes = self.bytes()?;
            let bytes = match version {
                RegVersion::V4 if kind.is_text() => {
                    encoding::ansi(&bytes).iter().flat_map(|unit| unit.to_le_bytes()).collect()
                }
                _ => bytes,
            };
            return Ok(Some(Data { kind, bytes }));
        }
        let found = String::from_utf16_lossy(self.rest_of_line());
        Err(self.error("\"text\", dword:, qword:, hex:, hex(type): or -", &found))
    }

    /// A hexadecimal number of at most `digits`.
    fn number(&mut self, digits: usize) -> Result<u64, Error> {
        let mut number = 0u64;
        let mut count = 0usize;
        self.skip_spaces();
        while let Some(digit) = self.peek().and_then(|c| char::from(c).to_digit(16)) {
            number = (number << 4) | u64::from(digit);
            count = count.saturating_add(1);
            if count > digits {
                break;
            }
            self.next_unit();
        }
        if (1..=digits).contains(&count) {
            return Ok(number);
        }
        let found = String::from_utf16_lossy(self.rest_of_line());
        Err(self.error(format!("1 to {digits} hexadecimal digits"), &found))
    }

    /// Bytes with commas between them, over as many lines as end with a backslash.
    fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        loop {
            self.skip_spaces();
            match self.peek() {
                None | Some(b'\r' | b'\n' | b';') => return Ok(out),
                Some(b'\\') => {
                    self.next_unit();
                    self.skip_spaces();
                    if self.peek() == Some(b';') {
                        self.rest_of_line();
                    }
                    self.take("\r");
                    if self.peek() == Some(b'\n') {
                        self.next_unit();
                        continue;
                    }
                    let found = String::from_utf16_lossy(self.rest_of_line());
                    return Err(self.error("the end of the line after \\", &found));
                }
                Some(_) => {
                    let byte = self.number(2)?;
                    out.push(u8::try_from(byte).unwrap_or(u8::MAX));
                    self.skip_spaces();
                    if !self.take(",") && !matches!(self.peek(), None | Some(b'\r' | b'\n' | b';')) {
                        let found = String::from_utf16_lossy(self.rest_of_line());
                        return Err(self.error("a comma between bytes", &found));
                    }
                }
            }
        }
    }
}
