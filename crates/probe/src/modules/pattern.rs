//! Alias patterns: `*`, `?` and `[...]` with ranges, as in `pci:v00008086d0000100E*` or `of:N*T*Cfoo[0-9]`. A hyphen
//! and an underscore are the same outside brackets.

use std::ops::Range;

/// Patterns sorted by the literal text before their first wildcard, so that a lookup touches few of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PatternIndex {
    entries: Vec<Entry>,
    longest_literal: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    literal: Vec<u8>,
    /// What follows the literal text; empty for an exact alias.
    rest: Vec<u8>,
    target: String,
}

impl PatternIndex {
    /// Sorts `aliases`: pattern and what it stands for.
    pub(super) fn new(aliases: impl Iterator<Item = (String, String)>) -> Self {
        let mut entries: Vec<Entry> = aliases
            .map(|(pattern, target)| {
                let at = pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len());
                let (literal, rest) = pattern.split_at(at);
                Entry { literal: folded(literal), rest: rest.as_bytes().to_vec(), target }
            })
            .collect();
        entries.sort_unstable();
        entries.dedup();
        let longest_literal = entries.iter().map(|entry| entry.literal.len()).max().unwrap_or(0);
        Self { entries, longest_literal }
    }

    /// Targets of all patterns that `text` matches, with repetitions.
    pub(super) fn matches<'a>(&'a self, text: &str) -> impl Iterator<Item = &'a str> {
        let text = folded(text);
        let lengths = 0..=text.len().min(self.longest_literal);
        lengths.flat_map(move |len| {
            let (literal, rest) = text.split_at_checked(len).unwrap_or_default();
            let entries = self.entries.get(self.with_literal(literal)).unwrap_or_default();
            let hits: Vec<&str> =
                entries.iter().filter(|e| matches(&e.rest, rest)).map(|e| e.target.as_str()).collect();
            hits
        })
    }

    fn with_literal(&self, literal: &[u8]) -> Range<usize> {
        let start = self.entries.partition_point(|entry| entry.literal.as_slice() < literal);
        let end = self.entries.partition_point(|entry| entry.literal.as_slice() <= literal);
        start..end
    }
}

fn folded(text: &str) -> Vec<u8> {
    text.bytes().map(fold).collect()
}

fn fold(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

/// Whether `text` (folded) matches `pattern`. Linear in both but for one step back to the last `*`.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0usize, 0usize);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                p = p.saturating_add(1);
                star = Some((p, t));
                continue;
            }
            (Some(_), Some(byte)) => one(pattern.get(p..).unwrap_or_default(), *byte),
            _ => None,
        };
        match (step, star) {
            (Some(len), _) => (p, t) = (p.saturating_add(len), t.saturating_add(1)),
            // The last star takes one byte more.
            (None, Some((after, taken))) if taken < text.len() => {
                let taken = taken.saturating_add(1);
                (p, t) = (after, taken);
                star = Some((after, taken));
            }
            (None, _) => return false,
        }
    }
}

/// Length of the pattern element at the start of `pattern`, if it takes `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', set @ ..] => {
            // `]` right after the bracket is a member, as in fnmatch(3).
            let end = set.iter().skip(1).position(|c| *c == b']')?.saturating_add(1);
            let set = set.get(..end)?;
            in_set(set, byte).then(|| end.saturating_add(2))
        }
        [b'\\', escaped, ..] => (fold(*escaped) == byte).then_some(2),
        [literal, ..] => (fold(*literal) == byte).then_some(1),
        [] => None,
    }
}

fn in_set(set: &[u8], byte: u8) -> bool {
    let (negated, mut rest) = match set {
        [b'!' | b'^', rest @ ..] => (true, rest),
        other => (false, other),
    };
    let mut hit = false;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match tail {
            [b'-', last, after @ ..] => {
                hit |= (*first..=*last).contains(&byte);
                rest = after;
            }
            _ => hit |= *first == byte || fold(*first) == byte,
        }
    }
    hit != negated
}
