//! The host's apt sources, reduced to the Debian archive and pointed at another suite.
//!
//! Both forms are read: deb822 `.sources` and one-line `.list` (sources.list(5)). An entry belongs to the Debian
//! archive when it is signed by the Debian archive key ring, or when its suite is one of the release that
//! `/etc/os-release` names. Everything else (vendors' own archives) is left out.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::Error;

/// Key ring of the Debian archive; the one of Debian 12 also verifies Debian 13.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How the key ring is recognised in `Signed-By`.
const KEYRING_NAME: &str = "debian-archive-keyring";
/// Suites beside the release itself that carry its fixes. Backports and proposed updates are not taken.
const SUFFIXES: [&str; 3] = ["", "-updates", "-security"];
/// Names that may stand for the release in the host's sources.
const ALIASES: [&str; 3] = ["stable", "oldstable", "testing"];

/// One archive: where it is, which suite and components, and which key signs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Base address.
    pub uri: String,
    /// Suite, for instance `trixie-security`.
    pub suite: String,
    /// Components, for instance `main`.
    pub components: Vec<String>,
    /// Key ring file, or what else `Signed-By` says; `None` for apt's own trusted keys.
    pub signed_by: Option<String>,
}

impl Source {
    /// The entry in one-line form, as `sources.list` and mmdebstrap take it.
    pub fn one_line(&self) -> String {
        let options = self.signed_by.as_ref().map(|key| format!("[signed-by={key}] ")).unwrap_or_default();
        format!("deb {options}{} {} {}", self.uri, self.suite, self.components.join(" "))
    }

    /// The entry as a deb822 stanza.
    pub(crate) fn stanza(&self) -> String {
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\n",
            self.uri,
            self.suite,
            self.components.join(" ")
        );
        if let Some(key) = &self.signed_by {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "Signed-By: {key}");
        }
        text
    }
}

/// The Debian archives in the apt configuration below `etc_apt` (usually `/etc/apt`), each with its release
/// replaced by `suite`; `codename` is the host's own release.
pub fn host_sources(etc_apt: &Path, codename: &str, suite: &str) -> Result<Vec<Source>, Error> {
    let mut found = Vec::new();
    for path in source_files(etc_apt)? {
        let text = std::fs::read_to_string(&path).map_err(Error::io("cannot read", &path))?;
        let deb822 = path.extension().is_some_and(|e| e == "sources");
        found.extend(if deb822 { parse_deb822(&text) } else { parse_one_line(&text) });
    }
    let keyring = Path::new(KEYRING).exists().then_some(KEYRING);
    let chosen = retarget(found, codename, suite, keyring);
    if chosen.is_empty() {
        let searched = format!("{0}/sources.list and {0}/sources.list.d", etc_apt.display());
        return Err(Error::NoDebianSource { searched });
    }
    Ok(chosen)
}

/// `sources.list` and the files apt would read from `sources.list.d`, in its order.
fn source_files(etc_apt: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let parts = etc_apt.join("sources.list.d");
    if parts.is_dir() {
        for entry in std::fs::read_dir(&parts).map_err(Error::io("cannot list", &parts))? {
            let path = entry.map_err(Error::io("cannot list", &parts))?.path();
            if path.extension().is_some_and(|e| e == "list" || e == "sources") {
                files.push(path);
            }
        }
    }
    files.sort();
    let main = etc_apt.join("sources.list");
    if main.is_file() {
        files.insert(0, main);
    }
    Ok(files)
}

/// Stanzas of `Field: value` lines; a value goes on in lines that start with white space.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let without_comments: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in without_comments.split(|line| line.trim().is_empty()) {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in stanza {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push('\n');
                    value.push_str(line.trim_end());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let field =
            |name: &str| fields.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str());
        if field("enabled").eq_ignore_ascii_case("no")
            || !field("types").split_whitespace().any(|t| t == "deb")
        {
            continue;
        }
        let signed_by = Some(field("signed-by")).filter(|key| !key.is_empty()).map(str::to_owned);
        for uri in field("uris").split_whitespace() {
            for suite in field("suites").split_whitespace() {
                let components = field("components").split_whitespace().map(str::to_owned).collect();
                let (uri, suite) = (uri.to_owned(), suite.to_owned());
                found.push(Source { uri, suite, components, signed_by: signed_by.clone() });
            }
        }
    }
    found
}

/// Lines `deb [options] uri suite component...`.
fn parse_one_line(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t'])) else {
            continue;
        };
        let (options, rest) = match rest.trim_start().strip_prefix('[') {
            Some(inner) => inner.split_once(']').unwrap_or_default(),
            None => ("", rest),
        };
        let signed_by =
            options.split_whitespace().find_map(|o| o.strip_prefix("signed-by=")).map(str::to_owned);
        let mut words = rest.split_whitespace().map(str::to_owned);
        if let (Some(uri), Some(suite)) = (words.next(), words.next()) {
            found.push(Source { uri, suite, components: words.collect(), signed_by });
        }
    }
    found
}

/// Keeps the entries of the Debian archive and replaces the release in their suites.
fn retarget(found: Vec<Source>, codename: &str, suite: &str, keyring: Option<&str>) -> Vec<Source> {
    let mut seen = BTreeSet::new();
    let mut chosen = Vec::new();
    for mut source in found {
        let Some((release, suffix)) = split_suite(&source.suite) else { continue };
        let signed_by_debian = source.signed_by.as_ref().is_some_and(|key| key.contains(KEYRING_NAME));
        let own_release = !codename.is_empty() && release == codename && source.signed_by.is_none();
        if !(signed_by_debian || own_release) || source.uri.starts_with("cdrom:") {
            continue;
        }
        source.suite = format!("{suite}{suffix}");
        source.components.retain(|c| c == "main");
        if source.components.is_empty() {
            continue;
        }
        if source.signed_by.is_none() {
            source.signed_by = keyring.map(str::to_owned);
        }
        if seen.insert(source.clone()) {
            chosen.push(source);
        }
    }
    chosen
}

/// Splits `bookworm-security` into release and suffix; `None` for suites we do not take.
fn split_suite(suite: &str) -> Option<(&str, &'static str)> {
    let suite = suite.trim_end_matches('/');
    SUFFIXES.into_iter().rev().find_map(|suffix| {
        let release = suite.strip_suffix(suffix)?;
        let plain = !release.contains(['-', '/']) && !release.is_empty();
        let known = !["sid", "unstable", "experimental"].contains(&release);
        (plain && known || ALIASES.contains(&release)).then_some((release, suffix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
Types: deb deb-src
# a comment inside
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
 bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://vendor.example/apt
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/vendor.gpg
";

    fn lines(sources: &[Source]) -> Vec<String> {
        sources.iter().map(Source::one_line).collect()
    }

    #[test]
    fn deb822_entries_of_debian_are_retargeted_and_others_left_out() {
        let chosen = retarget(parse_deb822(DEB822), "bookworm", "trixie", Some("unused"));
        let key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
        assert_eq!(
            lines(&chosen),
            [
                format!("deb {key} http://mirror.example/debian trixie main"),
                format!("deb {key} http://mirror.example/debian trixie-updates main"),
            ]
        );
    }

    #[test]
    fn one_line_entries_without_a_key_count_by_their_release() {
        let text = "deb http://mirror.example/debian bookworm main # plain\n\
            deb [arch=amd64 signed-by=/k/debian-archive-keyring.gpg] http://m2.example/d stable-security main\n\
            deb-src http://mirror.example/debian bookworm main\n\
            deb [signed-by=/k/vendor.gpg] http://vendor.example/apt bookworm main\n\
            deb http://mirror.example/debian bookworm-backports main\n\
            deb http://mirror.example/ubuntu noble main\n\
            deb cdrom:[Debian] bookworm main\n";
        let chosen = retarget(parse_one_line(text), "bookworm", "trixie", Some("/k/debian.gpg"));
        assert_eq!(
            lines(&chosen),
            [
                "deb [signed-by=/k/debian.gpg] http://mirror.example/debian trixie main",
                "deb [signed-by=/k/debian-archive-keyring.gpg] http://m2.example/d trixie-security main",
            ]
        );
    }

    #[test]
    fn files_are_found_like_apt_finds_them_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sources.list.d")).unwrap();
        std::fs::write(dir.path().join("sources.list.d/debian.sources"), DEB822).unwrap();
        std::fs::write(dir.path().join("sources.list.d/old.sources.disabled"), DEB822).unwrap();
        std::fs::write(dir.path().join("sources.list"), "deb http://first.example/debian bookworm main\n")
            .unwrap();
        let chosen = host_sources(dir.path(), "bookworm", "trixie").unwrap();
        let uris: Vec<&str> = chosen.iter().map(|s| s.uri.as_str()).collect();
        assert_eq!(
            uris,
            ["http://first.example/debian", "http://mirror.example/debian", "http://mirror.example/debian"]
        );
    }

    #[test]
    fn a_host_without_debian_is_told_where_it_was_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let error = host_sources(dir.path(), "noble", "trixie").unwrap_err().to_string();
        assert!(
            error.starts_with("no source of the Debian archive in ") && error.contains("sources.list.d"),
            "{error}"
        );
    }
}
