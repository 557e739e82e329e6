//! Shell patterns in the names of files: for programs that are given them unexpanded, as `--ref=\"part*.swm\"`.

use std::path::{Path, PathBuf};

/// Files by a shell pattern, sorted; a path without wildcards is itself.
pub(crate) fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str();
        let Some(text) = name.to_str().filter(|text| text.contains(['*', '?', '['])) else {
            found.iter_mut().for_each(|path| path.push(name));
            continue;
        };
        let mut next = Vec::new();
        for path in &found {
            let dir = if path.as_os_str().is_empty() { Path::new(".") } else { path.as_path() };
            let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
            let names = entries.map(|entry| entry.file_name());
            let matching = names.filter(|name| name.to_str().is_some_and(|name| shell_matches(text, name)));
            next.extend(matching.map(|name| path.join(name)));
        }
        next.sort();
        found = next;
    }
    found.retain(|path| path.exists());
    found
}

/// A name against a shell pattern with `*`, `?` and `[a-z]`; a dot in front is matched by a dot only.
fn shell_matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), name.get(n)) {
            (Some('*'), _) => {
                p += 1;
                star = Some((p, n));
                continue;
            }
            (Some('?'), Some(_)) => {
                (p, n) = (p + 1, n + 1);
                continue;
            }
            (Some('['), Some(c)) => {
                if let Some((len, true)) = set(&pattern[p..], *c) {
                    (p, n) = (p + len, n + 1);
                    continue;
                }
                if set(&pattern[p..], *c).is_none() && *c == '[' {
                    (p, n) = (p + 1, n + 1);
                    continue;
                }
            }
            (Some(wanted), Some(c)) if wanted == c => {
                (p, n) = (p + 1, n + 1);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        match star {
            Some((after, from)) if from < name.len() => {
                star = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Length of the set that `pattern` starts with and whether `c` is in it; `None` when the bracket is never closed.
fn set(pattern: &[char], c: char) -> Option<(usize, bool)> {
    let is_negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if is_negated { 2 } else { 1 };
    // A closing bracket in front is a member.
    let end = first + 1 + pattern.get(first + 1..)?.iter().position(|c| *c == ']')?;
    let mut members = &pattern[first..end];
    let mut is_in = false;
    while let Some((low, rest)) = members.split_first() {
        match rest {
            ['-', high, rest @ ..] => {
                is_in |= (low..=high).contains(&&c);
                members = rest;
            }
            rest => {
                is_in |= *low == c;
                members = rest;
            }
        }
    }
    Some((end + 1, is_in != is_negated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_patterns() {
        let cases = [
            ("*.swm", "a2.swm", true),
            ("*.swm", ".a.swm", false),
            ("a[0-9].swm", "a2.swm", true),
            ("a[!0-9].swm", "a2.swm", false),
            ("a[]x].swm", "a].swm", true),
            ("a[", "a[", true),
            ("a[x", "a[x", true),
            ("a?.swm", "a12.swm", false),
            ("*2*", "a12.swm", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(shell_matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_become_files() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["d1/x1.swm", "d1/x2.swm", "d2/x1.swm"] {
            std::fs::create_dir_all(temp.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(temp.path().join(name), b"").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let found = expand(&temp.path().join(pattern));
            found.iter().map(|path| path.strip_prefix(temp.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(names("d1/x*.swm"), ["d1/x1.swm", "d1/x2.swm"]);
        assert_eq!(names("d*/x1.swm"), ["d1/x1.swm", "d2/x1.swm"]);
        assert_eq!(names("d1/x1.swm"), ["d1/x1.swm"]);
        assert_eq!(names("d1/y*"), [""; 0]);
    }
}
