//! Where files go: directory numbers (WDD "using-dirids") as paths of the Windows volume.

use serde::Serialize;

use crate::inf::Inf;

/// A place that a file or a service names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case", tag = "in", content = "path")]
pub enum Place {
    /// In the package's own folder of the driver store (directory 13).
    Store(String),
    /// From the root of the Windows volume, without a backslash in front.
    Volume(String),
    /// A directory this crate has no path for: number and rest, or a text that is no path.
    Elsewhere(String),
}

impl Place {
    /// The path without saying from where.
    pub fn path(&self) -> &str {
        match self {
            Self::Store(path) | Self::Volume(path) | Self::Elsewhere(path) => path,
        }
    }

    /// The place of `file` in the directory here.
    pub(crate) fn join(&self, file: &str) -> Self {
        let joined = |dir: &String| join(dir, file);
        match self {
            Self::Store(dir) => Self::Store(joined(dir)),
            Self::Volume(dir) => Self::Volume(joined(dir)),
            Self::Elsewhere(dir) => Self::Elsewhere(joined(dir)),
        }
    }
}

/// Number of the driver store.
const STORE: i64 = 13;
/// Numbers for "an absolute path follows".
const ABSOLUTE: [i64; 2] = [-1, 0xffff];

/// Path of a directory number, from the root of the Windows volume.
fn path_of(number: i64) -> Option<&'static str> {
    Some(match number {
        10 | 25 | 16420 => "Windows",
        11 | 16421 => "Windows\\System32",
        12 => "Windows\\System32\\drivers",
        17 => "Windows\\INF",
        18 => "Windows\\Help",
        20 | 16404 => "Windows\\Fonts",
        21 => "Windows\\System32\\viewers",
        23 => "Windows\\System32\\spool\\drivers\\color",
        24 | 30 | 54 => "",
        50 => "Windows\\System",
        51 => "Windows\\System32\\spool",
        52 => "Windows\\System32\\spool\\drivers",
        16406 => "ProgramData\\Microsoft\\Windows\\Start Menu",
        16407 => "ProgramData\\Microsoft\\Windows\\Start Menu\\Programs",
        16408 => "ProgramData\\Microsoft\\Windows\\Start Menu\\Programs\\Startup",
        16409 => "Users\\Public\\Desktop",
        16419 => "ProgramData",
        16422 => "Program Files",
        16425 => "Windows\\SysWOW64",
        16426 => "Program Files (x86)",
        16427 => "Program Files\\Common Files",
        16428 => "Program Files (x86)\\Common Files",
        16430 => "Users\\Public\\Documents",
        _ => return None,
    })
}

/// The directory `number` with `below` in it.
pub(crate) fn directory(number: i64, below: &str) -> Place {
    let below = below.trim_matches('\\');
    match path_of(number) {
        _ if number == STORE => Place::Store(below.to_owned()),
        Some(path) => Place::Volume(join(path, below)),
        None if ABSOLUTE.contains(&number) => absolute(below),
        None => Place::Elsewhere(join(&format!("%{number}%"), below)),
    }
}

/// `C:\dir` as it lies on the Windows volume; other letters are elsewhere.
fn absolute(path: &str) -> Place {
    match path.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("c:") => Place::Volume(path.get(2..).unwrap_or_default().trim_matches('\\').to_owned()),
        _ => Place::Elsewhere(path.to_owned()),
    }
}

fn join(dir: &str, rest: &str) -> String {
    match (dir, rest) {
        ("", rest) => rest.to_owned(),
        (dir, "") => dir.to_owned(),
        (dir, rest) => format!("{}\\{}", dir.trim_end_matches('\\'), rest.trim_start_matches('\\')),
    }
}

impl Inf {
    /// A path that starts with a directory number, as of `ServiceBinary`: `%12%\x.sys`. Also what old files write:
    /// `\SystemRoot\...`, `System32\...`.
    pub(crate) fn place(&self, raw: &str) -> Place {
        let text = self.text(raw);
        let text = text.trim();
        if let Some((number, rest)) = text.strip_prefix('%').and_then(|rest| rest.split_once('%')) {
            if let Ok(number) = number.parse() {
                return directory(number, rest);
            }
            if ["systemroot", "windir"].contains(&number.to_lowercase().as_str()) {
                return Place::Volume(join("Windows", rest));
            }
        }
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("\\systemroot\\") {
            return Place::Volume(join("Windows", text.get("\\systemroot\\".len()..).unwrap_or_default()));
        }
        if lower.starts_with("system32\\") {
            return Place::Volume(join("Windows", text));
        }
        absolute(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_files_and_services() {
        let inf = Inf::parse(b"[Version]\nSignature=$Chicago$\n[Strings]\nsub=Sub\n").unwrap();
        let volume = |path: &str| Place::Volume(path.into());
        let cases = [
            ("%12%\\x.sys", volume("Windows\\System32\\drivers\\x.sys")),
            ("%13%\\%sub%\\x.sys", Place::Store("Sub\\x.sys".into())),
            ("%10%\\system32\\x.sys", volume("Windows\\system32\\x.sys")),
            ("\\SystemRoot\\System32\\x.sys", volume("Windows\\System32\\x.sys")),
            ("System32\\DRIVERS\\x.sys", volume("Windows\\System32\\DRIVERS\\x.sys")),
            ("%%SystemRoot%%\\x.exe", volume("Windows\\x.exe")),
            ("C:\\Tools\\x.exe", volume("Tools\\x.exe")),
            ("D:\\x.exe", Place::Elsewhere("D:\\x.exe".into())),
            ("%66000%\\x.dll", Place::Elsewhere("%66000%\\x.dll".into())),
            ("%24%\\x", volume("x")),
            ("\u{e9}", Place::Elsewhere("\u{e9}".into())),
        ];
        for (raw, expected) in cases {
            assert_eq!(inf.place(raw), expected, "{raw}");
        }
        assert_eq!(directory(-1, "C:\\Intel\\").join("a"), volume("Intel\\a"));
        assert_eq!(directory(16426, "Vendor").path(), "Program Files (x86)\\Vendor");
        assert_eq!(directory(13, "").join("x.sys"), Place::Store("x.sys".into()));
    }
}
