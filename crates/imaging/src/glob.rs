//! Wildcards in names, as file lists and configuration files of imaging tools have them: `*` any characters, `?` one.
//! A pattern is for one name; paths are matched name by name, so that no wildcard crosses a separator.

use gravure_nttypes::NtName;

/// Whether names that differ in case only are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameCase {
    /// They are not.
    #[default]
    Exact,
    /// They are, as on Windows.
    Ignore,
}

/// A pattern for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    units: Vec<u16>,
    case: NameCase,
    is_literal: bool,
}

const STAR: u16 = b'*' as u16;
const ANY: u16 = b'?' as u16;

impl Glob {
    /// Wildcards mean something.
    pub(crate) fn new(pattern: &str, case: NameCase) -> Self {
        Self { is_literal: false, ..Self::literal(pattern, case) }
    }

    /// Wildcards are characters like others.
    pub(crate) fn literal(name: &str, case: NameCase) -> Self {
        let units = name.encode_utf16().map(|unit| fold(unit, case)).collect();
        Self { units, case, is_literal: true }
    }

    /// Whether only one name, or one name in any case, can match.
    pub(crate) fn has_wildcard(&self) -> bool {
        !self.is_literal && self.units.iter().any(|unit| matches!(*unit, STAR | ANY))
    }

    /// The name that matches exactly, when there are no wildcards.
    pub(crate) fn is_same(&self, name: &NtName) -> bool {
        let folded = name.units().iter().map(|unit| fold(*unit, self.case));
        folded.eq(self.units.iter().copied())
    }

    /// Whether the whole of `name` matches. Steps are at most pattern times name, as only the last star is gone back to.
    pub(crate) fn matches(&self, name: &NtName) -> bool {
        if self.is_literal {
            return self.is_same(name);
        }
        let (pattern, text) = (&self.units, name.units());
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        loop {
            match (pattern.get(p).copied(), text.get(t).copied()) {
                (Some(STAR), _) => {
                    p += 1;
                    star = Some((p, t));
                    continue;
                }
                (Some(wanted), Some(unit)) if wanted == ANY || wanted == fold(unit, self.case) => {
                    p += 1;
                    t += 1;
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            match star {
                Some((after, from)) if from < text.len() => {
                    star = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
                _ => return false,
            }
        }
    }
}

/// A unit without its case, by the simple mapping of its character; surrogates as they are.
fn fold(unit: u16, case: NameCase) -> u16 {
    if case == NameCase::Exact || unit < 0x80 {
        let is_lower = case == NameCase::Ignore && (0x61..=0x7a).contains(&unit);
        return if is_lower { unit - 0x20 } else { unit };
    }
    let Some(character) = char::from_u32(u32::from(unit)) else { return unit };
    let mut upper = character.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(single), None) => u16::try_from(u32::from(single)).unwrap_or(unit),
        _ => unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names() {
        let cases = [
            ("*", "", true),
            ("*", "a", true),
            ("?", "", false),
            ("?", "ä", true),
            ("*.txt", "a.txt", true),
            ("*.txt", "a.txt~", false),
            ("foo*bar*baz", "fooXbarYbaz", true),
            ("foo*bar*baz", "foobaz", false),
            ("**", "abc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[ab]", "a", false),
            ("[ab]", "[ab]", true),
            ("te?t", "te?t", true),
            ("abc", "ABC", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(
                Glob::new(pattern, NameCase::Exact).matches(&name.into()),
                expected,
                "{pattern} {name}"
            );
        }
        for (pattern, name, expected) in [
            ("abc", "ABC", true),
            ("Ü*", "üx", true),
            ("ß", "ẞ", false),
            ("*a", "BA", true),
            ("a?", "Ä", false),
        ] {
            assert_eq!(
                Glob::new(pattern, NameCase::Ignore).matches(&name.into()),
                expected,
                "{pattern} {name}"
            );
        }
        assert!(!Glob::literal("a*", NameCase::Exact).matches(&"ab".into()));
        assert!(Glob::literal("a*", NameCase::Ignore).matches(&"A*".into()));
        assert!(!Glob::literal("a*", NameCase::Exact).has_wildcard());
        assert!(Glob::new("a?", NameCase::Exact).has_wildcard());
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let glob = Glob::new(&("*a".repeat(500) + "b"), NameCase::Exact);
        assert!(!glob.matches(&NtName::from("a".repeat(4000).as_str())));
    }
}
