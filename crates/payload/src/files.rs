//! Where things are in the payload, and small files written whole.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// What init and agent leave for each other; lives in memory.
pub(crate) const RUN_DIR: &str = "/run/gravure";

/// Why the last agent ended, in words; written by init, read and removed by the next agent.
pub(crate) const ABORT_FILE: &str = "/run/gravure/abort";

/// Largest settings file read. A CA certificate is some 2 KiB.
pub(crate) const MAX_SETTINGS_BYTES: u64 = 1 << 20;

/// Writes `bytes` to `path`, readable by its owner only, in place of what is there, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut options = std::fs::File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

/// An error with all its causes, `: ` between them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
