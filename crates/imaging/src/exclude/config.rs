//! Capture configuration files as imaging tools on Windows have them (`WimScript.ini`): sections in brackets, a path
//! pattern a line.
//!
//! - `[ExclusionList]`: what is left out; a directory with all that is in it.
//! - `[ExclusionException]`: what is captured all the same. A pattern that starts at the root also brings the directories
//!   on the way to what it names, and all that is in what it names; any other is for single names.
//! - `[PrepopulateList]`: kept for an apply that leaves most content in the image.
//!
//! A pattern that starts with a separator starts at the captured directory, any other is a single name, anywhere.
//! Separators are `/` and `\`; lines may be in quotes; `#` and `;` start comments.

use std::borrow::Borrow;

use gravure_nttypes::NtName;

use crate::glob::{Glob, NameCase};
use crate::{Error, text};

/// Sections that are for other tools.
const OTHER_SECTIONS: [&str; 2] = ["CompressionExclusionList", "CompressionFolderList"];
/// Most patterns in one file. Each entry of the captured directory is held against all of them.
const MAX_PATTERNS: usize = 100_000;

/// A capture configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptureConfig {
    excluded: Vec<Pattern>,
    excepted: Vec<Pattern>,
    prepopulated: Vec<String>,
    prepopulated_patterns: Vec<Pattern>,
    warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    /// A name, wherever it is.
    Anywhere(Glob),
    /// Names from the root down.
    FromRoot(Vec<Glob>),
}

enum Section {
    Outside,
    Excluded,
    Excepted,
    Prepopulated,
    Other,
}

impl CaptureConfig {
    /// What is left out of a capture of a Windows system when nothing else is said: files that Windows makes anew, and
    /// what belongs to the volume. Windows tells no names apart by case ([`NameCase::Ignore`]); other programs do.
    pub fn windows_default(case: NameCase) -> Self {
        const TEXT: &str = "[ExclusionList]\n\\$ntfs.log\n\\hiberfil.sys\n\\pagefile.sys\n\\swapfile.sys\n\
            \\System Volume Information\n\\RECYCLER\n\\$RECYCLE.BIN\n\\$Recycle.Bin\n\\Windows\\CSC\n";
        Self::parse(TEXT, "default configuration", case).unwrap_or_default()
    }

    /// Reads the file `path`.
    pub fn read(path: &std::path::Path, case: NameCase) -> Result<Self, Error> {
        Self::parse(&text::read_text_file(path)?, &path.display().to_string(), case)
    }

    /// Parses a configuration. `name` stands in messages.
    pub fn parse(text: &str, name: &str, case: NameCase) -> Result<Self, Error> {
        let mut this = Self::default();
        let mut section = Section::Outside;
        let mut count = 0;
        for (number, line) in (1..).zip(text.lines()) {
            let line = unquote(line.trim());
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = match title {
                    "ExclusionList" => Section::Excluded,
                    "ExclusionException" => Section::Excepted,
                    "PrepopulateList" => Section::Prepopulated,
                    title if OTHER_SECTIONS.contains(&title) => Section::Other,
                    _ => {
                        this.warnings.push(format!("{name}:{number}: unknown section {line}; left out"));
                        Section::Other
                    }
                };
                continue;
            }
            count += 1;
            if count > MAX_PATTERNS {
                let (expected, found) = (format!("at most {MAX_PATTERNS} patterns"), "more".to_owned());
                return Err(Error::Usage { what: name.to_owned(), expected, found });
            }
            let (stripped, had_drive) = without_drive(line);
            if had_drive {
                this.warnings.push(format!("{name}:{number}: the drive letter of {line} is left out"));
            }
            match section {
                Section::Outside => {
                    this.warnings.push(format!("{name}:{number}: {line} is in no section; left out"));
                }
                Section::Other => {}
                Section::Excluded => this.excluded.push(pattern(stripped, case, name, number)?),
                Section::Excepted => this.excepted.push(pattern(stripped, case, name, number)?),
                Section::Prepopulated => {
                    this.prepopulated_patterns.push(pattern(stripped, case, name, number)?);
                    this.prepopulated.push(stripped.to_owned());
                }
            }
        }
        Ok(this)
    }

    /// Whether `path`, names from the captured directory down, is left out.
    pub fn excludes(&self, path: &[NtName], is_directory: bool) -> bool {
        self.excluded.iter().any(|pattern| pattern.covers(path))
            && !self.excepted.iter().any(|pattern| pattern.excepts(path, is_directory))
    }

    /// Patterns of the section `[PrepopulateList]`.
    pub fn prepopulated(&self) -> &[String] {
        &self.prepopulated
    }

    /// Whether `path`, names from the root of the volume down, or a directory that it is in, is in the section
    /// `[PrepopulateList]`.
    pub(crate) fn prepopulates(&self, path: &[impl Borrow<NtName>]) -> bool {
        self.prepopulated_patterns.iter().any(|pattern| pattern.covers(path))
    }

    /// What was odd in the file.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// True when nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.excluded.is_empty()
    }
}

impl Pattern {
    /// Whether `path`, or a directory that it is in, is meant.
    fn covers(&self, path: &[impl Borrow<NtName>]) -> bool {
        match self {
            Self::Anywhere(glob) => path.iter().any(|name| glob.matches(name.borrow())),
            Self::FromRoot(globs) => globs.len() <= path.len() && all_match(globs, path),
        }
    }

    /// Whether `path` is meant, is in a directory that is meant, or is a directory on the way to what is meant.
    fn excepts(&self, path: &[NtName], is_directory: bool) -> bool {
        match self {
            Self::Anywhere(glob) => path.last().is_some_and(|name| glob.matches(name)),
            Self::FromRoot(globs) => (globs.len() <= path.len() || is_directory) && all_match(globs, path),
        }
    }
}

/// Over the names that both have.
fn all_match(globs: &[Glob], path: &[impl Borrow<NtName>]) -> bool {
    globs.iter().zip(path).all(|(glob, name)| glob.matches(name.borrow()))
}

fn pattern(text: &str, case: NameCase, name: &str, number: usize) -> Result<Pattern, Error> {
    let is_separator = |c| matches!(c, '/' | '\\');
    if text.starts_with(is_separator) {
        let names = text.split(is_separator).filter(|name| !name.is_empty());
        return Ok(Pattern::FromRoot(names.map(|name| Glob::new(name, case)).collect()));
    }
    let text = text.trim_end_matches(is_separator);
    if text.is_empty() || text.contains(is_separator) {
        return Err(Error::Usage {
            what: format!("{name}:{number}"),
            expected: "a single name, or a path with a separator in front".to_owned(),
            found: text.to_owned(),
        });
    }
    Ok(Pattern::Anywhere(Glob::new(text, case)))
}

/// A line without the quotes around it.
fn unquote(line: &str) -> &str {
    let inside = |quote: char| line.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(line)
}

/// A path without `X:` in front, and whether there was one.
fn without_drive(line: &str) -> (&str, bool) {
    match line.as_bytes() {
        [letter, b':', b'/' | b'\\', ..] if letter.is_ascii_alphabetic() => (&line[2..], true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<NtName> {
        path.split('/').filter(|name| !name.is_empty()).map(NtName::from).collect()
    }

    #[test]
    fn rules_are_those_of_the_imaging_tools() {
        // Configuration, path (with a slash at the end for directories), whether it is left out.
        let cases: [(&str, &[(&str, bool)]); 15] = [
            ("[ExclusionList]\n*.txt", &[("/a.txt", true), ("/d/a.txt", true), ("/a.TXT", false)]),
            (
                "[ExclusionList]\n/d/s",
                &[("/d/", false), ("/d/s/", true), ("/d/s/x", true), ("/e/d/s", false)],
            ),
            ("[ExclusionList]\n\\d\\s\\", &[("/d/s/", true), ("/d/t", false)]),
            ("[ExclusionList]\nC:\\d", &[("/d/", true), ("/c", false)]),
            ("[ExclusionList]\n/*/*", &[("/d/", false), ("/d/x", true), ("/d/x/y", true)]),
            ("[ExclusionList]\n/", &[("/d/", true), ("/x", true)]),
            ("[ExclusionList]\n\"/a b\"\n'/c d'", &[("/a b", true), ("/c d/", true)]),
            ("[ExclusionList]\nd", &[("/d/", true), ("/e/d/x", true), ("/e/dd", false)]),
            (
                "[ExclusionList]\n/*\n[ExclusionException]\n/d/a",
                &[("/d/", false), ("/d/a", false), ("/d/b", true), ("/d", true), ("/x", true)],
            ),
            (
                "[ExclusionList]\n/d\n[ExclusionException]\n/d/*/x",
                &[("/d/s/", false), ("/d/a", true), ("/d/s/x", false), ("/d/s/x/y", false), ("/d/s/y", true)],
            ),
            ("[ExclusionList]\n/d\n[ExclusionException]\nx", &[("/d/", true)]),
            (
                "[ExclusionList]\n*.jpg\n[ExclusionException]\n?oo.jpg",
                &[("/foo.jpg", false), ("/a.jpg", true)],
            ),
            ("[ExclusionList]\n*.txt\n[ExclusionException]\nd", &[("/d/a.txt", true)]),
            ("[ExclusionList]\n*.txt\n[ExclusionException]\n/d", &[("/d/a.txt", false), ("/a.txt", true)]),
            ("[exclusionlist]\n/d\n[CompressionFolderList]\n/e", &[("/d/", false), ("/e", false)]),
        ];
        for (text, paths) in cases {
            let config = CaptureConfig::parse(text, "test", NameCase::Exact).unwrap();
            for (path, expected) in paths {
                assert_eq!(config.excludes(&names(path), path.ends_with('/')), *expected, "{text} {path}");
            }
        }
        let folding = CaptureConfig::parse("[ExclusionList]\nfoo", "test", NameCase::Ignore).unwrap();
        assert!(folding.excludes(&names("/FOO"), false));
        for (case, folds) in [(NameCase::Exact, false), (NameCase::Ignore, true)] {
            let windows = CaptureConfig::windows_default(case);
            assert!(windows.excludes(&names("/System Volume Information"), true));
            assert!(!windows.excludes(&names("/d/pagefile.sys"), false));
            assert_eq!(windows.excludes(&names("/PAGEFILE.sys"), false), folds);
            assert_eq!(windows.excludes(&names("/system volume information"), true), folds);
        }
    }

    #[test]
    fn odd_lines_are_told() {
        let text = "/x\n[Nothing]\n; a\n # b\n[ExclusionList]\nD:/y\n[PrepopulateList]\n/z";
        let config = CaptureConfig::parse(text, "c.ini", NameCase::Exact).unwrap();
        let expected = [
            "c.ini:1: /x is in no section; left out",
            "c.ini:2: unknown section [Nothing]; left out",
            "c.ini:6: the drive letter of D:/y is left out",
        ];
        assert_eq!(config.warnings(), expected);
        assert_eq!(config.prepopulated(), ["/z"]);
        let error = CaptureConfig::parse("[ExclusionList]\n\na/b", "c.ini", NameCase::Exact).unwrap_err();
        let expected = "c.ini:3: expected a single name, or a path with a separator in front, found a/b";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn any_text_is_taken_or_refused() {
        let pieces =
            ["[ExclusionList]", "[", "]", "\"", "'", "/", "\\", "*", "?", "x:", "\r", "\n", " ", "é", "#"];
        let mut state = 7u64;
        for _ in 0..2000 {
            let mut text = String::new();
            for _ in 0..20 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            }
            if let Ok(config) = CaptureConfig::parse(&text, "test", NameCase::Ignore) {
                config.excludes(&names("/a/é/x"), false);
            }
        }
    }
}
