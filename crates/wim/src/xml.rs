//! XML documents as trees that lose nothing but declarations and processing instructions (wim-container section 7).
//!
//! The tokens come from `quick-xml`, which is maintained, fuzzed and hands out plain events; the limits, the refusal
//! of document types and entities, and the tree that keeps unknown elements are ours. A tokenizer of our own would
//! have been 300 lines more to fuzz for no gain.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::error::{Error, Scope, Warning, Warnings, XmlIssue};
use crate::limits::MAX_XML_DEPTH;

/// Most elements, texts and comments of a document. A set of 1000 Windows images has about 100,000; without a limit
/// 64 MiB of `<a/>` would become 1 GiB of tree.
const MAX_NODES: u32 = 1_000_000;
/// Most attributes of an element; the format knows of one.
const MAX_ATTRIBUTES: usize = 64;

/// An element with everything in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// Tag name with prefix.
    pub name: String,
    /// Attributes in document order, values unescaped.
    pub attributes: Vec<(String, String)>,
    /// Content in document order.
    pub children: Vec<XmlNode>,
}

/// A piece of an element's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum XmlNode {
    /// An element.
    Element(Element),
    /// Text, unescaped; CDATA becomes text.
    Text(String),
    /// A comment.
    Comment(String),
}

impl Element {
    /// An empty element.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Reads any XML document, with the limits of WIM documents: no document type, no entities of its own.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        Builder::default().build(text.trim_start_matches('\u{feff}'))
    }

    /// The element as text, without declaration.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        write_element(self, &mut text);
        text
    }

    /// Child elements in document order.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|node| match node {
            XmlNode::Element(element) => Some(element),
            XmlNode::Text(_) | XmlNode::Comment(_) => None,
        })
    }

    /// The first child element of this name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.elements().find(|element| element.name == name)
    }

    /// The element at `path`, names separated by `/`: the first of each name, or of `NAME[n]` the n-th, from 1.
    pub fn at(&self, path: &str) -> Option<&Element> {
        path.split('/').try_fold(self, |element, step| {
            let (name, index) = split_step(step);
            element.elements().filter(|element| element.name == name).nth(index)
        })
    }

    /// The text of the element itself.
    pub fn text(&self) -> String {
        let texts = self.children.iter().filter_map(|node| match node {
            XmlNode::Text(text) => Some(text.as_str()),
            XmlNode::Element(_) | XmlNode::Comment(_) => None,
        });
        texts.collect()
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Sets an attribute, in its place if it is there.
    pub fn set_attribute(&mut self, name: &str, value: impl Into<String>) {
        match self.attributes.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value.into(),
            None => self.attributes.push((name.to_owned(), value.into())),
        }
    }

    /// The element at `path`, as [`Element::at`] finds it; what is missing of it is made, behind those of the same name.
    pub fn make(&mut self, path: &str) -> &mut Element {
        path.split('/').fold(self, Self::make_child)
    }

    fn make_child(&mut self, step: &str) -> &mut Element {
        let (name, index) = split_step(step);
        let at = self.position(name, index).unwrap_or_else(|| {
            self.children.push(XmlNode::Element(Element::new(name)));
            self.children.len().saturating_sub(1)
        });
        let made = self.children.get_mut(at).and_then(|node| match node {
            XmlNode::Element(element) => Some(element),
            XmlNode::Text(_) | XmlNode::Comment(_) => None,
        });
        made.expect("an element was found or pushed at this place")
    }

    /// Sets the text of the element at `path`, making it; its child elements stay.
    pub fn set_text(&mut self, path: &str, text: impl Into<String>) {
        let element = self.make(path);
        element.children.retain(|node| !matches!(node, XmlNode::Text(_)));
        element.children.push(XmlNode::Text(text.into()));
    }

    /// Takes out the element at `path`, as [`Element::at`] finds it.
    pub fn remove(&mut self, path: &str) {
        let (parent, step) = match path.rsplit_once('/') {
            Some((parent, step)) if self.at(parent).is_some() => (self.make(parent), step),
            Some(_) => return,
            None => (self, path),
        };
        let (name, index) = split_step(step);
        if let Some(at) = parent.position(name, index) {
            parent.children.remove(at);
        }
    }

    /// Where child `index`, from 0, of those called `name` stands.
    fn position(&self, name: &str, index: usize) -> Option<usize> {
        let is_wanted = |node: &XmlNode| matches!(node, XmlNode::Element(element) if element.name == name);
        let mut places = self.children.iter().enumerate().filter(|(_, node)| is_wanted(node));
        places.nth(index).map(|(at, _)| at)
    }
}

/// Name and index, from 0, of a step of a path: `NAME` is the first, `NAME[2]` the second.
pub fn split_step(step: &str) -> (&str, usize) {
    let counted = step.strip_suffix(']').and_then(|text| text.rsplit_once('['));
    let number =
        counted.and_then(|(name, number)| Some((name, number.parse::<usize>().ok()?.checked_sub(1)?)));
    number.unwrap_or((step, 0))
}

/// Parses a document in UTF-16LE. Offsets in errors are byte offsets in the document.
pub(crate) fn parse(bytes: &[u8], warnings: &mut Warnings) -> Result<Element, Error> {
    let (units, odd) = bytes.as_chunks::<2>();
    if !odd.is_empty() {
        let found = format!("{} bytes", bytes.len());
        return Err(corrupt("XML document", 0, "whole UTF-16 units", found));
    }
    let (first, rest) = match units.split_first() {
        Some(([0xff, 0xfe], rest)) => (None, rest),
        _ => (Some(Warning::Xml(XmlIssue::NoByteOrderMark)), units),
    };
    first.into_iter().for_each(|warning| warnings.push(warning));
    let mut unpaired = false;
    let units = rest.iter().map(|unit| u16::from_le_bytes(*unit));
    let text: String = char::decode_utf16(units)
        .map(|unit| {
            unit.unwrap_or_else(|_| {
                unpaired = true;
                char::REPLACEMENT_CHARACTER
            })
        })
        .collect();
    if unpaired {
        warnings.push(Warning::Xml(XmlIssue::UnpairedSurrogates));
    }
    Builder::default().build(text.trim_end_matches('\0'))
}

/// The document in UTF-16LE with byte order mark and without declaration, as Windows writes it.
pub(crate) fn to_bytes(root: &Element) -> Vec<u8> {
    let mut text = String::from('\u{feff}');
    write_element(root, &mut text);
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Depth is bounded: parsed documents have at most [`MAX_XML_DEPTH`] levels, and code adds a handful.
fn write_element(element: &Element, out: &mut String) {
    out.push('<');
    out.push_str(&element.name);
    for (name, value) in &element.attributes {
        out.push(' ');
        out.push_str(name);
        out.push_str("=\"");
        write_escaped(value, out);
        out.push('"');
    }
    if element.children.is_empty() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    for child in &element.children {
        match child {
            XmlNode::Element(element) => write_element(element, out),
            XmlNode::Text(text) => write_escaped(text, out),
            XmlNode::Comment(text) => {
                out.push_str("<!--");
                out.push_str(text);
                out.push_str("-->");
            }
        }
    }
    out.push_str("</");
    out.push_str(&element.name);
    out.push('>');
}

/// Escapes markup. Characters that XML 1.0 cannot hold become U+FFFD.
fn write_escaped(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(c),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push(char::REPLACEMENT_CHARACTER),
            _ => out.push(c),
        }
    }
}

fn corrupt(what: &'static str, at: u64, expected: &'static str, found: impl std::fmt::Display) -> Error {
    Error::corrupt(Scope::File, what, at, expected, found)
}

/// Puts events together to a tree.
#[derive(Debug, Default)]
struct Builder {
    /// Open elements from the root down.
    open: Vec<Element>,
    root: Option<Element>,
    nodes: u32,
    /// UTF-8 bytes of the document read so far, as an approximate place for messages.
    pos: u64,
}

impl Builder {
    fn build(mut self, text: &str) -> Result<Element, Error> {
        let mut reader = Reader::from_str(text);
        loop {
            self.pos = reader.buffer_position();
            let event = reader.read_event().map_err(|error| {
                corrupt("XML document", reader.error_position(), "well-formed XML", error)
            })?;
            match event {
                Event::Start(start) => {
                    let element = self.element(&start)?;
                    if self.open.len() >= MAX_XML_DEPTH {
                        return Err(corrupt("XML nesting", self.pos, "at most 64 levels", "more"));
                    }
                    self.open.push(element);
                }
                Event::Empty(start) => {
                    let element = self.element(&start)?;
                    self.close(element)?;
                }
                Event::End(_) => {
                    // quick-xml has checked that the name matches.
                    let element = self.open.pop().ok_or_else(|| self.unexpected("end tag"))?;
                    self.close(element)?;
                }
                Event::Text(text) => self.text(&text.decode().map_err(|error| self.not_text(error))?)?,
                Event::CData(text) => self.text(&text.decode().map_err(|error| self.not_text(error))?)?,
                Event::GeneralRef(reference) => {
                    let resolved = self.resolve(&reference)?;
                    self.text(resolved.encode_utf8(&mut [0; 4]))?;
                }
                Event::Comment(comment) => {
                    let text = comment.decode().map_err(|error| self.not_text(error))?.into_owned();
                    self.count()?;
                    if let Some(parent) = self.open.last_mut() {
                        parent.children.push(XmlNode::Comment(text));
                    }
                }
                Event::Decl(_) | Event::PI(_) => {}
                Event::DocType(_) => {
                    return Err(corrupt("XML document", self.pos, "no document type", "one"));
                }
                Event::Eof => break,
            }
        }
        if let Some(element) = self.open.last() {
            let found = format!("end of document inside <{}>", element.name);
            return Err(corrupt("XML document", self.pos, "every element closed", found));
        }
        self.root.ok_or_else(|| corrupt("XML document", self.pos, "a root element", "none"))
    }

    fn element(&mut self, start: &BytesStart<'_>) -> Result<Element, Error> {
        self.count()?;
        let utf8 = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut element = Element::new(&utf8(start.name().as_ref()));
        // The duplicate check of quick-xml takes quadratic time; ours follows a limit.
        for attribute in start.attributes().with_checks(false) {
            let attribute =
                attribute.map_err(|error| corrupt("XML attribute", self.pos, "name=\"value\"", error))?;
            let name = utf8(attribute.key.as_ref());
            let value = attribute.unescape_value().map_err(|error| {
                corrupt("XML attribute", self.pos, "a value with predefined entities only", error)
            })?;
            if element.attributes.len() >= MAX_ATTRIBUTES {
                return Err(corrupt("XML attributes", self.pos, "at most 64 in an element", "more"));
            }
            if element.attribute(&name).is_some() {
                return Err(corrupt("XML attributes", self.pos, "each name once", name));
            }
            element.attributes.push((name, value.into_owned()));
        }
        Ok(element)
    }

    fn close(&mut self, element: Element) -> Result<(), Error> {
        if let Some(parent) = self.open.last_mut() {
            parent.children.push(XmlNode::Element(element));
            return Ok(());
        }
        if self.root.is_some() {
            return Err(self.unexpected("second root element"));
        }
        self.root = Some(element);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        let Some(parent) = self.open.last_mut() else {
            return match text.trim().is_empty() {
                true => Ok(()),
                false => Err(self.unexpected("text outside the root element")),
            };
        };
        match parent.children.last_mut() {
            Some(XmlNode::Text(known)) => known.push_str(text),
            _ => {
                parent.children.push(XmlNode::Text(text.to_owned()));
                self.count()?;
            }
        }
        Ok(())
    }

    /// The five predefined entities and character references; nothing else can be defined without a document type.
    fn resolve(&self, reference: &BytesRef<'_>) -> Result<char, Error> {
        let unknown = || {
            let found = String::from_utf8_lossy(reference).into_owned();
            corrupt("XML entity", self.pos, "a predefined one or a character reference", found)
        };
        if reference.is_char_ref() {
            return reference.resolve_char_ref().ok().flatten().ok_or_else(unknown);
        }
        match &**reference {
            b"lt" => Ok('<'),
            b"gt" => Ok('>'),
            b"amp" => Ok('&'),
            b"quot" => Ok('"'),
            b"apos" => Ok('\''),
            _ => Err(unknown()),
        }
    }

    fn count(&mut self) -> Result<(), Error> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > MAX_NODES {
            return Err(corrupt("XML document", self.pos, "at most 1000000 elements and texts", "more"));
        }
        Ok(())
    }

    fn unexpected(&self, found: &'static str) -> Error {
        corrupt("XML document", self.pos, "one root element", found)
    }

    fn not_text(&self, error: impl std::fmt::Display) -> Error {
        corrupt("XML text", self.pos, "text", error)
    }
}

#[cfg(test)]
mod tests;
