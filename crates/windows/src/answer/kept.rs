//! What is kept of an answer file that was replaced: all of it but what may be a secret. Most secrets still stand in the file that came in
//! its place, so the record says where, and undoing takes them from there. A secret that stands there no more is gone with it.

use gravure_wim::{Element, XmlNode};

use super::AnswerFile;

/// Stands where a secret stood. Not empty: an empty text would be no node when it is read again.
const HIDDEN: &str = "*";
/// Elements that may hold a secret in themselves: commands name passwords, a blob holds the machine's, comments hold what was tried.
const SECRET: [&str; 3] = ["path", "commandline", "accountdata"];
/// Parts of names of elements that hold one, in themselves or in what stands below.
const SECRET_PARTS: [&str; 2] = ["password", "productkey"];

/// An answer file without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The file.
    pub(crate) answers: AnswerFile,
    /// For each secret, in document order: which text of the file that took the place has it, counted from zero; `None` when none has.
    pub(crate) taken: Vec<Option<usize>>,
}

/// `old` without its secrets, `now` being what stands in its place; `None` when there is no secret in it.
pub(crate) fn hide(old: &AnswerFile, now: Option<&AnswerFile>) -> Option<Kept> {
    let mut now = now.cloned();
    let there: Vec<String> = now
        .as_mut()
        .map(|now| texts(&mut now.root).into_iter().map(|text| text.text.clone()).collect())
        .unwrap_or_default();
    let mut answers = old.clone();
    let mut taken = Vec::new();
    for Text { text, .. } in texts(&mut answers.root).into_iter().filter(|text| text.is_secret) {
        taken.push(there.iter().position(|known| known == text));
        HIDDEN.clone_into(text);
    }
    (!taken.is_empty()).then_some(Kept { answers, taken })
}

/// The file with its secrets, out of `now`; `None` when one is gone.
pub(crate) fn restore(kept: Kept, now: &AnswerFile) -> Option<AnswerFile> {
    let Kept { mut answers, taken } = kept;
    let mut now = now.clone();
    let there: Vec<String> = texts(&mut now.root).into_iter().map(|text| text.text.clone()).collect();
    let hidden: Vec<Text<'_>> = texts(&mut answers.root).into_iter().filter(|text| text.is_secret).collect();
    if hidden.len() != taken.len() {
        return None;
    }
    for (Text { text, .. }, at) in hidden.into_iter().zip(taken) {
        there.get(at?)?.clone_into(text);
    }
    Some(answers)
}

/// A text of an answer file: of an element that holds no other, or a comment.
struct Text<'e> {
    is_secret: bool,
    text: &'e mut String,
}

/// All of them in document order.
fn texts(root: &mut Element) -> Vec<Text<'_>> {
    let mut out = Vec::new();
    collect(root, false, &mut out);
    out
}

/// Depth is bounded by the reader.
fn collect<'e>(element: &'e mut Element, is_below_secret: bool, out: &mut Vec<Text<'e>>) {
    let is_leaf = element.elements().next().is_none();
    let name = element.name.to_lowercase();
    let below = is_below_secret || SECRET_PARTS.iter().any(|part| name.contains(part));
    let is_secret = below || SECRET.contains(&name.as_str());
    for node in &mut element.children {
        match node {
            XmlNode::Element(element) => collect(element, below, out),
            XmlNode::Text(text) if is_leaf => out.push(Text { is_secret, text }),
            XmlNode::Text(_) => {}
            XmlNode::Comment(text) => out.push(Text { is_secret: true, text }),
        }
    }
}
