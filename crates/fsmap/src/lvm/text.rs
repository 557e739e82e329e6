//! LVM's text format: `name = value`, `name { ... }`, values that are numbers, texts in quotes or lists in brackets, comments
//! from `#` to the end of the line.

use crate::Error;

/// Sections within sections at most.
const MAX_DEPTH: usize = 16;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A number without a sign.
    Number(u64),
    /// A text without its quotes.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A section.
    Section(Section),
}

/// Named values, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Section {
    entries: Vec<(String, Value)>,
}

impl Section {
    fn get(&self, name: &str) -> Option<&Value> {
        self.entries.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.get(name) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn list(&self, name: &str) -> &[Value] {
        match self.get(name) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }

    /// All texts in it and in its lists, with the name that they stand under.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let values = self.entries.iter().flat_map(|(name, value)| {
            let values = match value {
                Value::List(list) => list.as_slice(),
                value => std::slice::from_ref(value),
            };
            values.iter().map(move |value| (name.as_str(), value))
        });
        values.filter_map(|(name, value)| match value {
            Value::Text(text) => Some((name, text.as_str())),
            _ => None,
        })
    }

    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.sections().find(|(own, _)| *own == name).map(|(_, section)| section)
    }

    pub(super) fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.entries.iter().filter_map(|(name, value)| match value {
            Value::Section(section) => Some((name.as_str(), section)),
            _ => None,
        })
    }
}

/// Parses a whole text.
pub(super) fn parse(text: &str) -> Result<Section, Error> {
    let mut parser = Parser { text, rest: text };
    let section = parser.section(0)?;
    match parser.peek() {
        None => Ok(section),
        Some(_) => Err(parser.wrong("a name")),
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn wrong(&self, expected: &str) -> Error {
        let line = self.text.lines().count().saturating_sub(self.rest.lines().count()).saturating_add(1);
        let found: String = self.rest.chars().take(20).collect();
        Error::corrupt(format!("LVM metadata, line {line}"), 0, expected, format!("{found:?}"))
    }

    /// The next character that counts.
    fn peek(&mut self) -> Option<char> {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                return self.rest.chars().next();
            }
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        let is_there = self.peek() == Some(wanted);
        if is_there {
            self.rest = self.rest.strip_prefix(wanted).unwrap_or_default();
        }
        is_there
    }

    fn word(&mut self) -> Option<&'a str> {
        self.peek()?;
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end).filter(|(word, _)| !word.is_empty())?;
        self.rest = rest;
        Some(word)
    }

    fn section(&mut self, depth: usize) -> Result<Section, Error> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("sections that end"));
        }
        let mut section = Section::default();
        while let Some(name) = self.word() {
            let value = if self.take('{') {
                let inner = self.section(depth.saturating_add(1))?;
                if !self.take('}') {
                    return Err(self.wrong("a name or }"));
                }
                Value::Section(inner)
            } else if self.take('=') {
                self.value(depth)?
            } else {
                return Err(self.wrong("= or {"));
            };
            section.entries.push((name.to_owned(), value));
        }
        Ok(section)
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("lists that end"));
        }
        if self.take('[') {
            let mut list = Vec::new();
            while !self.take(']') {
                list.push(self.value(depth.saturating_add(1))?);
                if !self.take(',') && self.peek() != Some(']') {
                    return Err(self.wrong(", or ]"));
                }
            }
            return Ok(Value::List(list));
        }
        if self.take('"') {
            let mut out = String::new();
            let mut chars = self.rest.chars();
            loop {
                match chars.next() {
                    Some('"') => break,
                    Some('\\') => out.extend(chars.next()),
                    Some(c) => out.push(c),
                    None => return Err(self.wrong("the end of a text")),
                }
            }
            self.rest = chars.as_str();
            return Ok(Value::Text(out));
        }
        let word = self.word().ok_or_else(|| self.wrong("a value"))?;
        Ok(word.parse().map_or_else(|_| Value::Text(word.to_owned()), Value::Number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = r#"vg0 {
id = "AbC-1"
extent_size = 8192	# 4 Megabytes
flags = []
status = ["RESIZEABLE", "READ"]
logical_volumes {
root { segment1 { stripes = [
"pv0", 5
] } }
}
}
# Generated by LVM2
contents = "Text \"Format\" Volume Group"
version = 1
"#;

    #[test]
    fn names_values_lists_and_comments() {
        let root = parse(TEXT).unwrap();
        let (name, group) = root.sections().next().unwrap();
        assert_eq!((name, group.number("extent_size"), group.text("id")), ("vg0", Some(8192), Some("AbC-1")));
        assert_eq!(group.list("status").len(), 2);
        assert_eq!(group.list("flags"), []);
        let segment =
            group.section("logical_volumes").unwrap().section("root").unwrap().section("segment1").unwrap();
        assert_eq!(segment.list("stripes"), [Value::Text("pv0".to_owned()), Value::Number(5)]);
        assert_eq!(root.text("contents"), Some("Text \"Format\" Volume Group"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let error = parse("a {\nb = 1\nc\n}").unwrap_err().to_string();
        assert_eq!(error, "LVM metadata, line 4 at 0x0: expected = or {, found \"}\"");
        assert!(parse(&"a {".repeat(1000)).is_err());
        assert!(parse(&format!("a = {}", "[".repeat(100_000))).is_err());
        assert!(parse("a = \"b").is_err());
    }

    proptest! {
        #[test]
        fn any_text_ends(cut in 0..TEXT.len(), at in 0..TEXT.len(), with in any::<char>()) {
            let _ = parse(&TEXT[..cut]);
            let mut text = TEXT.to_owned();
            text.insert(at, with);
            let _ = parse(&text);
        }
    }
}
