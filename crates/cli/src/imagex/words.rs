//! Lines of source lists and update commands as words: separated by blanks, with quotes around those that contain
//! blanks. A quote cannot be part of a word that starts with it, and the end of a quoted word ends the word.

/// The words of a line; an error is what to tell the user.
pub(super) fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, behind) = if matches!(first, '"' | '\'') {
            let inside = &rest[1..];
            let end = inside.find(first).ok_or_else(|| format!("closing quote is missing: {rest}"))?;
            (&inside[..end], &inside[end + 1..])
        } else {
            rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()))
        };
        words.push(word.to_owned());
        rest = behind.trim_start();
    }
    Ok(words)
}

/// Whether a line means nothing: it is blank or a comment.
pub(super) fn is_blank(line: &str) -> bool {
    let line = line.trim_start_matches(|c: char| c.is_whitespace() || c == '\0');
    line.is_empty() || line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_blanks_together() {
        for (line, expected) in [
            ("", &[][..]),
            ("  a\tb ", &["a", "b"]),
            ("\"Some File\" \t'Some Destination'  ", &["Some File", "Some Destination"]),
            ("s'1' x", &["s'1'", "x"]),
            ("'s1' ''", &["s1", ""]),
            ("\"a\"b", &["a", "b"]),
            ("'it\"s'", &["it\"s"]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        assert_eq!(words("a \"b").unwrap_err(), "closing quote is missing: \"b");
    }

    #[test]
    fn comments_and_blank_lines() {
        for line in ["", "  \t", "# x", "\t# x"] {
            assert!(is_blank(line), "{line:?}");
        }
        assert!(!is_blank("a # x"));
    }
}
