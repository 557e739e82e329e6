//! XML documents: what is kept, what is refused.

use proptest::prelude::*;

use super::*;

fn encode(text: &str) -> Vec<u8> {
    format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn parse_text(text: &str) -> Result<Element, String> {
    parse(&encode(text), &mut Warnings::default()).map_err(|error| error.to_string())
}

fn text_of(root: &Element) -> String {
    let bytes = to_bytes(root);
    let units: Vec<u16> = bytes.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    String::from_utf16(&units).unwrap()
}

#[test]
fn unknown_elements_attributes_text_and_comments_are_kept() {
    let text = "<WIM a=\"1\" x:b=\"&lt;&amp;&quot;\"><!-- kept --><ODD><DEEP k=\"v\"/>tail</ODD>\n <IMAGE INDEX=\"1\"/></WIM>";
    let root = parse_text(text).unwrap();
    assert_eq!(text_of(&root), format!("\u{feff}{text}"));
    assert_eq!(root.at("ODD/DEEP").unwrap().attribute("k"), Some("v"));
    assert_eq!(root.child("ODD").unwrap().text(), "tail");
}

#[test]
fn entities_references_and_cdata_become_text() {
    let root = parse_text("<a>&lt;x&gt; &#x41;&#66;<![CDATA[<&]]>&apos;</a>").unwrap();
    assert_eq!(root.text(), "<x> AB<&'");
    assert_eq!(text_of(&root), "\u{feff}<a>&lt;x&gt; AB&lt;&amp;'</a>");
}

#[test]
fn declarations_are_read_and_not_written() {
    let root = parse_text("<?xml version=\"1.0\" encoding=\"UTF-16\"?>\n<a/>\n").unwrap();
    assert_eq!(text_of(&root), "\u{feff}<a/>");
}

#[test]
fn refuses_what_is_no_plain_document() {
    let deep = "<a>".repeat(65) + &"</a>".repeat(65);
    let many = format!("<a {}/>", (0..65).map(|n| format!("n{n}='' ")).collect::<String>());
    let cases = [
        ("<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "no document type"),
        ("<a>&x;</a>", "a predefined one or a character reference"),
        ("<a>&#xD800;</a>", "a predefined one or a character reference"),
        ("<a b=\"&x;\"/>", "predefined entities only"),
        ("<a></b>", "well-formed XML"),
        ("<a><b>", "every element closed"),
        ("<a/><b/>", "one root element"),
        ("text<a/>", "one root element"),
        ("", "a root element"),
        ("<a x='1' x='2'/>", "each name once"),
        (deep.as_str(), "at most 64 levels"),
        (many.as_str(), "at most 64 in an element"),
    ];
    for (text, message) in cases {
        let error = parse_text(text).unwrap_err();
        assert!(error.contains(message), "{text:.60}: {error}");
    }
    assert!(parse_text(&("<a>".repeat(64) + &"</a>".repeat(64))).is_ok());
}

#[test]
fn odd_encodings_are_told() {
    let mut warnings = Warnings::default();
    let without_mark = &encode("<a/>")[2..];
    assert_eq!(parse(without_mark, &mut warnings).unwrap(), Element::new("a"));
    let mut unpaired = encode("<a>x</a>");
    unpaired.splice(8..10, [0x00, 0xd8]);
    assert_eq!(parse(&unpaired, &mut warnings).unwrap().text(), "\u{fffd}");
    let found = warnings.finish(()).warnings;
    let expected = [XmlIssue::NoByteOrderMark, XmlIssue::UnpairedSurrogates].map(Warning::Xml);
    assert_eq!(found, expected);
    let odd = parse(&[0xff, 0xfe, 0x3c], &mut Warnings::default()).unwrap_err();
    assert_eq!(odd.to_string(), "XML document at 0x0: expected whole UTF-16 units, found 3 bytes");
}

#[test]
fn set_and_remove_touch_nothing_else() {
    let mut root = parse_text("<W><A>1<B/></A><C/></W>").unwrap();
    root.set_text("A", "2");
    root.set_text("D/E", "3");
    root.remove("C");
    root.remove("NO/PATH");
    assert_eq!(text_of(&root), "\u{feff}<W><A><B/>2</A><D><E>3</E></D></W>");
}

#[test]
fn steps_are_counted() {
    for (step, expected) in [
        ("A", ("A", 0)),
        ("A[1]", ("A", 0)),
        ("A[12]", ("A", 11)),
        ("A[0]", ("A[0]", 0)),
        ("A[x]", ("A[x]", 0)),
    ] {
        assert_eq!(split_step(step), expected, "{step}");
    }
    let mut root = Element::new("W");
    for (path, text) in [("A/B", "1"), ("A/B[2]", "2"), ("A[2]/B", "3"), ("A/B[1]", "one")] {
        root.set_text(path, text);
    }
    assert_eq!(text_of(&root), "\u{feff}<W><A><B>one</B><B>2</B></A><A><B>3</B></A></W>");
    assert_eq!(root.at("A[2]/B").map(Element::text).as_deref(), Some("3"));
    assert_eq!(root.at("A/B[3]"), None);
    root.remove("A/B");
    root.remove("A[2]/B[2]");
    assert_eq!(text_of(&root), "\u{feff}<W><A><B>2</B></A><A><B>3</B></A></W>");
}

fn element() -> impl Strategy<Value = Element> {
    let name = "[A-Za-z_][A-Za-z0-9._-]{0,8}";
    let text = "[^\\x00-\\x08\\x0b-\\x1f\\u{fffe}\\u{ffff}]{1,12}";
    let attributes = prop::collection::btree_map(name, text, 0..3);
    let leaf = (name, attributes.clone()).prop_map(|(name, attributes)| Element {
        name,
        attributes: attributes.into_iter().collect(),
        children: Vec::new(),
    });
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let child = prop_oneof![
            3 => inner.prop_map(XmlNode::Element),
            1 => text.prop_map(XmlNode::Text),
        ];
        (name, attributes.clone(), prop::collection::vec(child, 0..4)).prop_map(
            |(name, attributes, children)| {
                let mut children = children;
                // Neighbouring texts are one text once written.
                children.dedup_by(|a, b| matches!((a, b), (XmlNode::Text(_), XmlNode::Text(_))));
                Element { name, attributes: attributes.into_iter().collect(), children }
            },
        )
    })
}

proptest! {
    #[test]
    fn every_document_survives(root in element()) {
        let parsed = parse(&to_bytes(&root), &mut Warnings::default()).unwrap();
        // XML folds line ends and tabs in attribute values; texts keep theirs.
        let fold = |element: &Element| format!("{element:?}").replace("\\t", " ").replace("\\n", " ");
        prop_assert_eq!(fold(&parsed), fold(&root));
    }

    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes, &mut Warnings::default());
    }
}
