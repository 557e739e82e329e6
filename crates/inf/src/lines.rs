//! Text to sections, lines and fields (WDD "general-syntax-rules-for-inf-files"). Tokens (`%name%`) are left as they are;
//! what they mean is `strings`' business.
//!
//! Where the documentation leaves something open, this does what Wine's setupapi was seen to do: a section's name may
//! have blanks; the rest of a header line is ignored; a key ends at the first `=` before any comma; quotes may open and
//! close within a field; a backslash before the end of a line joins the next line without a blank, except within quotes.

use crate::Error;
use crate::error::{shown, syntax};
use crate::limits::{MAX_FIELD_CHARS, MAX_SECTION_NAME_CHARS};

/// Ends a file (general syntax rules: text behind it is not read).
const CONTROL_Z: char = '\u{1a}';

/// A line as it was written, quotes and continuation resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    /// One-based line of the file it starts on.
    pub number: u32,
    /// What stands before `=`, tokens not replaced; `None` for a line without one.
    pub key: Option<String>,
    /// What stands between the commas, tokens not replaced. Never empty.
    pub values: Vec<String>,
}

/// A section: all lines under headers of one name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Section {
    /// Name as first written.
    pub name: String,
    /// One-based line of its first header.
    pub number: u32,
    /// Lines in order.
    pub lines: Vec<Line>,
}

/// What a text consists of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Parsed {
    /// A section that appears again is a second entry.
    pub(crate) sections: Vec<Section>,
    /// Numbers of lines before the first section. Real drivers have such lines, and Windows installs them.
    pub(crate) stray: Vec<u32>,
}

/// Reads `text`.
pub(crate) fn parse(text: &str) -> Result<Parsed, Error> {
    // Padding of the writer; a NUL anywhere else would hide text from other readers.
    let text = text.trim_end_matches('\0');
    let mut lexer = Lexer { rest: text, number: 1 };
    let mut sections: Vec<Section> = Vec::new();
    let mut stray = Vec::new();
    loop {
        lexer.skip_blanks();
        match lexer.peek() {
            None | Some(CONTROL_Z) => return Ok(Parsed { sections, stray }),
            Some('\n' | ';') => lexer.skip_line(),
            Some('[') => sections.push(lexer.header()?),
            Some(_) => {
                let line = lexer.line()?;
                match sections.last_mut() {
                    Some(section) => section.lines.push(line),
                    None => stray.push(line.number),
                }
            }
        }
    }
}

/// What a blank is between and around fields. A carriage return is one: only a line feed ends a line.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\u{b}' | '\u{c}')
}

struct Lexer<'a> {
    rest: &'a str,
    /// One-based line of `rest`.
    number: u32,
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
        if c == '\n' {
            self.number = self.number.saturating_add(1);
        }
        Some(c)
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches(is_blank);
    }

    /// Behind the next line feed, or before a Ctrl-Z.
    fn skip_line(&mut self) {
        let end = self.rest.find(['\n', CONTROL_Z]).unwrap_or(self.rest.len());
        self.rest = self.rest.get(end..).unwrap_or_default();
        if self.peek() == Some('\n') {
            self.next();
        }
    }

    /// What is left of the line.
    fn line_rest(&self) -> &'a str {
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        self.rest.get(..end).unwrap_or_default()
    }

    /// `[name]`, and whatever follows on the line.
    fn header(&mut self) -> Result<Section, Error> {
        let number = self.number;
        let line = self.line_rest();
        let Some((name, _)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) else {
            return Err(syntax(
                number,
                "\"]\" at the end of a section's name",
                format!("\"{}\"", shown(line.trim_end())),
            ));
        };
        let name = name.trim_matches(is_blank);
        check_length(number, "section name", name, MAX_SECTION_NAME_CHARS)?;
        let section = Section { name: name.to_owned(), number, lines: Vec::new() };
        self.skip_line();
        Ok(section)
    }

    /// A line with all that continue it.
    fn line(&mut self) -> Result<Line, Error> {
        let mut out = Line { number: self.number, ..Line::default() };
        let mut field = Field::default();
        while let Some(c) = self.peek() {
            match c {
                '\n' => {
                    self.next();
                    break;
                }
                CONTROL_Z => break,
                ';' => {
                    self.skip_line();
                    break;
                }
                '\0' => return Err(syntax(self.number, "text", "a NUL character")),
                '\\' if self.at_continuation() => {
                    field.trim_end();
                    self.skip_line();
                    self.skip_blanks();
                }
                ',' => {
                    self.next();
                    out.values.push(field.take(self.number)?);
                }
                '=' if out.key.is_none() && out.values.is_empty() => {
                    self.next();
                    out.key = Some(field.take(self.number)?);
                }
                '"' => self.quoted(&mut field),
                '%' => {
                    let token = self.token();
                    field.push_str(token);
                    self.rest = self.rest.get(token.len()..).unwrap_or_default();
                }
                c => {
                    self.next();
                    field.push(c);
                }
            }
        }
        out.values.push(field.take(self.number)?);
        Ok(out)
    }

    /// Whether the backslash here is the last of its line, blanks and a comment aside.
    fn at_continuation(&self) -> bool {
        let behind = self.line_rest().get(1..).unwrap_or_default().trim_start_matches(is_blank);
        behind.is_empty() || behind.starts_with(';')
    }

    /// From a quote to the one that closes it, or to the end of the line; two quotes are one that is meant.
    fn quoted(&mut self, field: &mut Field) {
        self.next();
        let line = self.line_rest();
        // A carriage return belongs to the end of the line.
        let end = line.strip_suffix('\r').unwrap_or(line).len();
        let line = line.get(..end).unwrap_or_default();
        let mut rest = line;
        loop {
            let Some((before, behind)) = rest.split_once('"') else {
                field.push_str(rest);
                rest = "";
                break;
            };
            field.push_str(before);
            rest = behind;
            match rest.strip_prefix('"') {
                Some(behind) => {
                    field.push_str("\"");
                    rest = behind;
                }
                None => break,
            }
        }
        let used = line.len().saturating_sub(rest.len());
        self.rest = self.rest.get(used..).unwrap_or_default();
    }

    /// `%name%` with both signs, or a single `%`. What is in a token is no comment.
    fn token(&self) -> &'a str {
        let line = self.line_rest();
        let end =
            line.char_indices().skip(1).find(|(_, c)| matches!(c, '%' | '"' | ',' | '=') || is_blank(*c));
        let len = match end {
            Some((at, '%')) => at.saturating_add(1),
            _ => 1,
        };
        line.get(..len).unwrap_or_default()
    }
}

/// A field as it grows: blanks at its ends do not count unless they were quoted.
#[derive(Debug, Default)]
struct Field {
    text: String,
    /// Up to here blanks are kept.
    kept: usize,
}

impl Field {
    fn push(&mut self, c: char) {
        if is_blank(c) && self.kept == 0 {
            return;
        }
        self.text.push(c);
        if !is_blank(c) {
            self.kept = self.text.len();
        }
    }

    fn push_str(&mut self, text: &str) {
        self.text.push_str(text);
        self.kept = self.text.len();
    }

    fn trim_end(&mut self) {
        self.text.truncate(self.kept);
    }

    fn take(&mut self, number: u32) -> Result<String, Error> {
        let mut text = std::mem::take(&mut self.text);
        text.truncate(std::mem::take(&mut self.kept));
        check_length(number, "field", &text, MAX_FIELD_CHARS)?;
        Ok(text)
    }
}

fn check_length(number: u32, what: &str, text: &str, max: usize) -> Result<(), Error> {
    if text.len() <= max {
        return Ok(());
    }
    match text.chars().count() {
        count if count > max => Err(syntax(
            number,
            format!("a {what} of at most {max} characters"),
            format!("{count} characters"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
