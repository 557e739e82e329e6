//! Rules about the text of files: `header`, `length`, `unfinished`, `doc-test`, `machine-path`.

use std::path::Path;

use super::Violation;

/// Lines that are not tests a Rust file may have; above 600 its header says why (STYLE, "Size").
const MAX_LINES: usize = 800;

/// First words of a header line that exempts a table from the length rule; a reason follows them.
const GENERATED: &str = "//! Generated:";

/// Checks one file; `path` is relative to the root.
pub(super) fn check(path: &Path, text: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    machine_paths(path, text, &mut found);
    if path.extension().is_some_and(|e| e == "rs") {
        header(path, text, &mut found);
        length(path, text, &mut found);
        unfinished(path, text, &mut found);
        doc_tests(path, text, &mut found);
    }
    found
}

fn header(path: &Path, text: &str, found: &mut Vec<Violation>) {
    let first = text.lines().next().unwrap_or_default();
    if !first.starts_with("//! ") {
        found.push(Violation::new(
            path,
            1,
            "header",
            format!("expected `//! what this is`, found `{first}`"),
        ));
    }
}

fn length(path: &Path, text: &str, found: &mut Vec<Violation>) {
    let in_tests = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    let header = text.lines().take_while(|line| line.starts_with("//!"));
    let generated = header.filter_map(|line| line.strip_prefix(GENERATED)).any(|why| !why.trim().is_empty());
    let count = lines_without_tests(text);
    if count > MAX_LINES && !in_tests && !generated {
        found.push(Violation::new(
            path,
            0,
            "length",
            format!("{count} lines that are not tests, at most {MAX_LINES}"),
        ));
    }
}

/// Counts the lines outside `#[cfg(test)] mod ... { }` blocks; such a block ends with a brace in the column it
/// started in, which rustfmt guarantees.
fn lines_without_tests(text: &str) -> usize {
    let mut count = 0;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let opens =
            lines.peek().is_some_and(|next| next.trim_start().starts_with("mod ") && next.ends_with('{'));
        if line.trim() == "#[cfg(test)]" && opens {
            let end = format!("{indent}}}");
            lines.by_ref().find(|inner| **inner == end);
        } else {
            count += 1;
        }
    }
    count
}

fn unfinished(path: &Path, text: &str, found: &mut Vec<Violation>) {
    // Written in two halves so that this file does not find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[ig", "nore"), concat!("X", "XX")];
    for (index, line) in text.lines().enumerate() {
        for mark in marks.iter().filter(|mark| has_word(line, mark)) {
            found.push(Violation::new(path, index + 1, "unfinished", format!("`{mark}` found")));
        }
    }
}

/// Examples in documentation that rustdoc would compile: the suite does not run them, so a test function has to hold them.
fn doc_tests(path: &Path, text: &str, found: &mut Vec<Violation>) {
    let mut is_open = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let Some(line) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            is_open = false;
            continue;
        };
        let Some(language) = line.trim_start().strip_prefix("```") else { continue };
        is_open = !is_open;
        let first = language.split([',', ' ']).next().unwrap_or_default();
        let is_rust = ["", "rust", "no_run", "should_panic", "compile_fail"].contains(&first)
            || first.starts_with("edition");
        if is_open && is_rust {
            let what = format!("`{language}` would be a documentation test; none is run, `text` is none");
            found.push(Violation::new(path, index + 1, "doc-test", what));
        }
    }
}

/// Whether `word` stands in `line` with no letter or digit right before or after it.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let free = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        (free(before) || word.starts_with('#')) && free(after)
    })
}

fn machine_paths(path: &Path, text: &str, found: &mut Vec<Violation>) {
    let everywhere =
        [concat!("/wo", "rk/"), concat!("/fa", "rm/"), concat!("/ro", "ot/.c"), concat!("/home/", "user")];
    let in_code = [concat!("/t", "mp/")];
    let code = path.extension().is_some_and(|e| e == "rs");
    for (index, line) in text.lines().enumerate() {
        let anywhere = everywhere.iter().filter(|pattern| starts_a_path(line, pattern, false));
        let temporary = in_code.iter().filter(|pattern| code && starts_a_path(line, pattern, true));
        for pattern in anywhere.chain(temporary) {
            found.push(Violation::new(path, index + 1, "machine-path", format!("`{pattern}` found")));
        }
    }
}

/// Whether `pattern` stands where an absolute path would start, not inside a longer path; with `named` only when a
/// name follows (a directory as such is a fact about Linux, a file in it one about somebody's machine).
fn starts_a_path(line: &str, pattern: &str, named: bool) -> bool {
    line.match_indices(pattern).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + pattern.len()..].chars().next();
        let starts =
            before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '}' | '>' | '*'));
        starts && (!named || after.is_some_and(char::is_alphanumeric))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_that_rustdoc_would_compile_are_found() {
        let text = [
            "//! A file.",
            "//! ```text",
            "//! drawing",
            "//! ```",
            "/// ```",
            "/// f();",
            "/// ```",
            "fn f() {}",
            "/// ```rust,no_run",
            "/// g();",
            "fn g() {}",
            "/// ```toml",
            "/// a = 1",
            "/// ```",
        ]
        .join("\n");
        let mut found = Vec::new();
        doc_tests(Path::new("a.rs"), &text, &mut found);
        let lines: Vec<usize> = found.iter().map(|violation| violation.line).collect();
        assert_eq!(lines, [5, 9]);
    }

    fn rules(path: &str, text: &str) -> Vec<(&'static str, usize)> {
        check(Path::new(path), text).iter().map(|v| (v.rule, v.line)).collect()
    }

    #[test]
    fn a_header_is_the_first_line() {
        assert_eq!(rules("a.rs", "//! What it is.\nfn a() {}\n"), []);
        assert_eq!(rules("a.rs", "fn a() {}\n//! Late.\n"), [("header", 1)]);
        assert_eq!(rules("a.rs", ""), [("header", 1)]);
        assert_eq!(rules("a.toml", "[package]\n"), []);
    }

    #[test]
    fn tests_and_generated_tables_do_not_count_as_length() {
        let body = "// line\n".repeat(799);
        assert_eq!(rules("a.rs", &format!("//! A.\n{body}")), []);
        assert_eq!(rules("a.rs", &format!("//! A.\n{body}// one more\n")), [("length", 0)]);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    // line\n".repeat(500));
        assert_eq!(rules("a.rs", &format!("//! A.\n{body}{tests}")), []);
        assert_eq!(rules("a.rs", &format!("//! A.\n{body}{tests}// after\n")), [("length", 0)]);
        assert_eq!(
            rules("a.rs", &format!("//! A.\n//! Generated: from the table of the standard.\n{body}")),
            []
        );
        assert_eq!(rules("a.rs", &format!("//! A.\n//! Generated:\n{body}")), [("length", 0)]);
        assert_eq!(rules("wim/tests/a.rs", &format!("//! A.\n{body}{body}")), []);
    }

    #[test]
    fn task_marks_and_ignored_tests_are_found() {
        let todo = concat!("TO", "DO");
        assert_eq!(rules("a.rs", &format!("//! A.\n// {todo}: later\n")), [("unfinished", 2)]);
        assert_eq!(rules("a.rs", &format!("//! A.\nlet {todo}S = 1;\n")), []);
        assert_eq!(rules("a.rs", concat!("//! A.\n#[ig", "nore]\n")), [("unfinished", 2)]);
        assert_eq!(rules("a.rs", concat!("//! A.\n#[ig", "nore = \"slow\"]\n")), [("unfinished", 2)]);
    }

    #[test]
    fn paths_of_a_machine_are_found_but_not_parts_of_longer_paths() {
        let work = concat!("/wo", "rk/x");
        assert_eq!(rules("a.toml", &format!("dir = \"{work}\"\n")), [("machine-path", 1)]);
        assert_eq!(rules("a.toml", &format!("dir = \"/run/overlay{work}\"\n")), []);
        let temp = concat!("/t", "mp/x");
        assert_eq!(rules("a.rs", &format!("//! A.\nopen(\"{temp}\")\n")), [("machine-path", 2)]);
        assert_eq!(rules("a.toml", &format!("path = \"{temp}\"\n")), []);
        assert_eq!(rules("a.rs", concat!("//! A.\nclean(\"/t", "mp/*\")\n")), []);
    }
}
