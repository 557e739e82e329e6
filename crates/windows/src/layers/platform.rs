//! What is different between the systems that layers are for: paths, ends of lines, macros for places.

use std::collections::BTreeMap;

use super::invalid;
use crate::Error;

/// Which system a layer is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// Windows: all rules.
    Windows,
    /// Linux, or any tree of files: files, directories, text, INI, and commands where systemd is.
    Linux,
}

/// Macros for places of Windows.
const WINDOWS_PLACES: &[(&str, &str)] = &[
    ("DEFAULT_USER", "C:\\Users\\Default"),
    ("DESKTOP", "C:\\Users\\Public\\Desktop"),
    ("FONTS", "C:\\Windows\\Fonts"),
    ("PROGRAM_DATA", "C:\\ProgramData"),
    ("PROGRAM_FILES", "C:\\Program Files"),
    ("PROGRAM_FILES_X86", "C:\\Program Files (x86)"),
    ("PUBLIC", "C:\\Users\\Public"),
    ("START_MENU", "C:\\ProgramData\\Microsoft\\Windows\\Start Menu\\Programs"),
    ("STARTUP", "C:\\ProgramData\\Microsoft\\Windows\\Start Menu\\Programs\\StartUp"),
    ("SYSTEM32", "C:\\Windows\\System32"),
    ("WINDIR", "C:\\Windows"),
];
/// Macros for places of Linux.
const LINUX_PLACES: &[(&str, &str)] = &[
    ("APPLICATIONS", "/usr/share/applications"),
    ("BIN", "/usr/local/bin"),
    ("ETC", "/etc"),
    ("LIB", "/usr/local/lib"),
    ("OPT", "/opt"),
    ("ROOT_HOME", "/root"),
    ("SHARE", "/usr/local/share"),
    ("SKELETON", "/etc/skel"),
    ("STATE", "/var/lib"),
    ("UNITS", "/etc/systemd/system"),
];

impl Platform {
    /// The word used in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Windows => "Windows",
            Self::Linux => "Linux",
        }
    }

    /// What macros for places stand for; what a caller gives by the same name goes before them.
    pub fn places(self) -> BTreeMap<String, String> {
        let places = match self {
            Self::Windows => WINDOWS_PLACES,
            Self::Linux => LINUX_PLACES,
        };
        places.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect()
    }

    /// What new text files end their lines with.
    pub(super) fn line_end(self) -> &'static str {
        match self {
            Self::Windows => "\r\n",
            Self::Linux => "\n",
        }
    }

    /// Whether two names of sections or keys in INI files are the same.
    pub(super) fn is_same_name(self, a: &str, b: &str) -> bool {
        match self {
            Self::Windows => a.eq_ignore_ascii_case(b),
            Self::Linux => a == b,
        }
    }

    /// A path as the image takes it.
    pub(super) fn path(self, path: &str) -> Result<String, Error> {
        match self {
            Self::Windows => path_in_windows(path),
            Self::Linux => path_in_linux(path),
        }
    }
}

/// A path of the Windows volume: `C:\` goes, and nothing leads out of it.
pub(super) fn path_in_windows(path: &str) -> Result<String, Error> {
    let bare = path
        .get(..2)
        .filter(|start| start.eq_ignore_ascii_case("c:"))
        .map_or(path, |_| path.get(2..).unwrap_or(""));
    let parts: Vec<&str> = bare.split(['\\', '/']).filter(|part| !part.is_empty()).collect();
    let is_bad =
        |part: &&str| matches!(*part, "." | "..") || part.contains([':', '*', '?', '"', '<', '>', '|', '\0']);
    if parts.is_empty() || parts.iter().any(is_bad) {
        return Err(invalid("path", "one of the Windows volume, e.g. C:\\Windows\\x.txt", path));
    }
    Ok(parts.join("\\"))
}

/// A path from the root; nothing leads out of it.
fn path_in_linux(path: &str) -> Result<String, Error> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let is_bad = |part: &&str| matches!(*part, "." | "..") || part.contains('\0');
    if !path.starts_with('/') || parts.is_empty() || parts.iter().any(is_bad) {
        return Err(invalid("path", "one from the root, e.g. /etc/x.conf", path));
    }
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_system() {
        for (platform, path, expected) in [
            (Platform::Windows, "c:\\a/b", Some("a\\b")),
            (Platform::Windows, "Windows\\x", Some("Windows\\x")),
            (Platform::Windows, "C:\\..\\x", None),
            (Platform::Windows, "D:\\x", None),
            (Platform::Windows, "", None),
            (Platform::Linux, "/etc//x", Some("/etc/x")),
            (Platform::Linux, "/etc/a\\b:c", Some("/etc/a\\b:c")),
            (Platform::Linux, "etc/x", None),
            (Platform::Linux, "/etc/../x", None),
            (Platform::Linux, "C:\\x", None),
            (Platform::Linux, "/", None),
        ] {
            assert_eq!(platform.path(path).ok().as_deref(), expected, "{platform:?} {path}");
        }
    }

    #[test]
    fn every_place_is_a_path_of_its_system() {
        for platform in [Platform::Windows, Platform::Linux] {
            for (name, path) in platform.places() {
                assert!(platform.path(&path).is_ok(), "{name}");
                assert!(
                    name.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_'),
                    "{name}"
                );
            }
        }
    }
}
