//! Which paths a capture leaves out.

mod config;

pub use config::CaptureConfig;
use gravure_nttypes::NtName;

use crate::Error;

/// Longest pattern, bytes. Longer ones are mistakes.
const MAX_PATTERN_BYTES: usize = 4096;

/// A list of patterns. `*` stands for any bytes but `/`, `**` for any bytes, `?` for one byte but `/`. A pattern with a
/// leading `/` is held against the whole path from the captured root, any other against the last names of a path:
/// `*.tmp` leaves out such files everywhere, `/var/cache/apt/**` what is in one directory but not the directory.
/// What is below a directory that is left out is left out too.
///
/// Beside the patterns there may be a [`CaptureConfig`], which has rules of its own.
#[derive(Debug, Clone, Default)]
pub struct Exclusions {
    patterns: Vec<String>,
    config: CaptureConfig,
}

impl Exclusions {
    /// From patterns.
    pub fn new(patterns: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, Error> {
        let patterns: Vec<String> = patterns.into_iter().map(Into::into).collect();
        for pattern in &patterns {
            if pattern.is_empty() || pattern.len() > MAX_PATTERN_BYTES || pattern.ends_with('/') {
                return Err(Error::Usage {
                    what: "exclusion".to_owned(),
                    expected: format!("1 to {MAX_PATTERN_BYTES} bytes without a slash at the end"),
                    found: format!("{pattern:?}"),
                });
            }
        }
        Ok(Self { patterns, config: CaptureConfig::default() })
    }

    /// With the rules of `config` beside the patterns.
    pub fn with_config(self, config: CaptureConfig) -> Self {
        Self { config, ..self }
    }

    /// With the rules of `config`, unless there are such rules already.
    pub(crate) fn or_config(self, config: CaptureConfig) -> Self {
        if self.config.is_empty() { self.with_config(config) } else { self }
    }

    /// From the lines of a file: blank lines and lines that start with `#` mean nothing.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::new(text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')))
    }

    /// Adds the patterns of `more`.
    pub fn extend(&mut self, more: Self) {
        self.patterns.extend(more.patterns);
    }

    /// True when nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.config.is_empty()
    }

    /// Whether `path` (with a leading `/`) is to be left out.
    pub(crate) fn excludes(&self, path: &[u8], is_directory: bool) -> bool {
        if self.is_empty() {
            return false;
        }
        let by_config = || {
            let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
            // What is no name in an image is left out with a warning of its own.
            let names: Vec<NtName> = names.filter_map(|name| NtName::from_unix(name).ok()).collect();
            self.config.excludes(&names, is_directory)
        };
        self.matches(path) || (!self.config.is_empty() && by_config())
    }

    /// Whether a pattern matches `path` (with a leading `/`).
    pub fn matches(&self, path: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| match pattern.as_bytes() {
            anchored @ [b'/', ..] => glob(anchored, path),
            floating => {
                let mut starts = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
                starts.any(|(at, _)| glob(floating, &path[at + 1..]))
            }
        })
    }
}

/// Backtracks to the last star only, so it takes at most pattern times path steps for `*`; a `**` before it is kept
/// as a second place to fall back to.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    let mut double: Option<(usize, usize)> = None;
    loop {
        if pattern[p..].starts_with(b"**") {
            p += 2;
            double = Some((p, t));
            star = None;
            continue;
        }
        match (pattern.get(p), text.get(t)) {
            (Some(b'*'), _) => {
                p += 1;
                star = Some((p, t));
                continue;
            }
            (Some(b'?'), Some(byte)) if *byte != b'/' => {
                p += 1;
                t += 1;
                continue;
            }
            (Some(wanted), Some(byte)) if wanted == byte && *wanted != b'?' => {
                p += 1;
                t += 1;
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        if let Some((after, from)) = star
            && text.get(from).is_some_and(|byte| *byte != b'/')
        {
            star = Some((after, from + 1));
            (p, t) = (after, from + 1);
        } else if let Some((after, from)) = double
            && from < text.len()
        {
            double = Some((after, from + 1));
            star = None;
            (p, t) = (after, from + 1);
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_documented() {
        let cases = [
            ("*.tmp", "/a/b.tmp", true),
            ("*.tmp", "/a.tmp/b", false),
            ("/var/cache/*", "/var/cache/x", true),
            ("/var/cache/*", "/var/cache/x/y", false),
            ("/var/cache/*", "/usr/var/cache/x", false),
            ("/var/**/x", "/var/a/b/x", true),
            ("/var/**/x", "/var/a/b/y", false),
            ("/var/**", "/var", false),
            ("/var/**", "/var/a", true),
            ("cache/?", "/var/cache/x", true),
            ("cache/?", "/var/cache/xy", false),
            ("a*b*c", "/a1b2b3c", true),
            ("a*b*c", "/a1b2b3", false),
            ("**/x*y", "/q/x/y", false),
            ("**/x*y", "/q/r/xzzy", true),
            ("?", "/a", true),
        ];
        for (pattern, path, expected) in cases {
            let exclusions = Exclusions::new([pattern]).unwrap();
            assert_eq!(exclusions.matches(path.as_bytes()), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let exclusions = Exclusions::new(["*a".repeat(500) + "b"]).unwrap();
        assert!(!exclusions.matches(("/".to_owned() + &"a".repeat(4000)).as_bytes()));
    }

    #[test]
    fn lists_have_comments() {
        let list = Exclusions::parse("# nothing\n\n  /x \n").unwrap();
        assert!(list.matches(b"/x"));
        assert_eq!(list.patterns.len(), 1);
        assert_eq!(Exclusions::new(["a/"]).unwrap_err().kind(), crate::ErrorKind::Usage);
    }
}
