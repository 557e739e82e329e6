//! Small files of `/sys` and `/proc`: bounded reads, trimmed text, numbers.
//!
//! sysfs states sizes of 4096 for every attribute and may hand out less; these readers bound by what really comes.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::Error;

/// Largest attribute read: one page is what sysfs shows for text, firmware tables are a few pages.
pub const MAX_ATTRIBUTE_BYTES: u64 = 1 << 20;

/// Reads a whole file of at most `max` bytes; more is an error, not a cut.
pub fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, Error> {
    let failed = |e| Error::io("read", path.display().to_string(), e);
    let mut out = Vec::new();
    let limit = max.saturating_add(1);
    let len = File::open(path).map_err(failed)?.take(limit).read_to_end(&mut out).map_err(failed)?;
    if u64::try_from(len).unwrap_or(u64::MAX) > max {
        return Err(Error::Unsupported {
            what: "file size",
            value: format!("{} over {max} bytes", path.display()),
        });
    }
    Ok(out)
}

/// Reads an attribute as it is; `None` when it does not exist or the driver has no value (`EIO`, `ENODEV` and the
/// like are what drivers answer then).
pub fn bytes(path: &Path) -> Option<Vec<u8>> {
    read_bounded(path, MAX_ATTRIBUTE_BYTES).ok()
}

/// Reads an attribute as text without the surrounding blanks and NULs; `None` when absent or empty.
pub fn text(path: &Path) -> Option<String> {
    let bytes = bytes(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// Reads an attribute as a decimal number.
pub fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

/// Reads an attribute as a flag, `0` or `1`.
pub fn flag(path: &Path) -> Option<bool> {
    number(path).map(|value| value != 0)
}

/// Writes an attribute in one call, as sysfs wants it.
pub fn write(path: &Path, value: &[u8]) -> Result<(), Error> {
    File::options()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(value))
        .map_err(Error::on_path("write", path))
}

/// Names in a directory of `/sys`, sorted; empty when the directory does not exist.
pub fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = |e| Error::io("read directory", dir.display().to_string(), e);
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut out = Vec::new();
    for entry in entries {
        out.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    out.sort_unstable();
    Ok(out)
}

/// Where the symbolic link `path` ends up, with all links resolved; `None` when there is no such link.
pub fn resolved(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok()
}
