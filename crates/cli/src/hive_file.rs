//! Hives as files: read with the logs beside them, written through a temporary file that takes their place.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gravure_hive::{Error, Hive, Recovered, Replay, recover};
use gravure_imaging::ErrorKind;
use gravure_nttypes::FileTime;

use crate::commands::image::epoch;
use crate::exit::{Failure, chain};

/// A hive that was read, and what its logs did.
#[derive(Debug)]
pub(crate) struct HiveFile {
    pub(crate) hive: Hive,
    pub(crate) replay: Replay,
    path: PathBuf,
    logs: Vec<PathBuf>,
}

impl HiveFile {
    /// Reads a hive; a dirty one is completed from its logs in memory, and is an error when they do not complete it.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let Loaded { logs, recovered, .. } = load(path)?;
        let recovered = recovered.map_err(|error| failure(path, &error))?;
        Ok(Self { hive: recovered.hive, replay: recovered.replay, path: path.to_owned(), logs })
    }

    /// Like [`HiveFile::open`], but a dirty hive that cannot be completed is read as it stands, with a warning. For
    /// commands that only look.
    pub(crate) fn open_as_is(path: &Path) -> Result<Self, Failure> {
        let Loaded { bytes, logs, recovered } = load(path)?;
        let (hive, replay) = match recovered {
            Ok(recovered) => (recovered.hive, recovered.replay),
            Err(error @ Error::NotRecoverable { .. }) => {
                eprintln!("warning: {}: {error}; read as it stands", path.display());
                (Hive::parse(bytes).map_err(|error| failure(path, &error))?, Replay::default())
            }
            Err(error) => return Err(failure(path, &error)),
        };
        if replay.entries > 0 {
            let (entries, pages) = (replay.entries, replay.pages);
            eprintln!("note: {}: {entries} log entries with {pages} pages applied in memory", path.display());
        }
        Ok(Self { hive, replay, path: path.to_owned(), logs })
    }

    /// Puts `bytes` in the place of the file. Logs that were applied are emptied afterwards: they belong to the
    /// state before, and between the two steps the hive is clean, so that nobody reads them.
    pub(crate) fn save(&self, bytes: &[u8]) -> Result<(), Failure> {
        write(&self.path, bytes)?;
        if self.replay.entries > 0 {
            for log in &self.logs {
                let emptied = fs::OpenOptions::new().write(true).truncate(true).open(log);
                emptied.map_err(|error| Failure::io("empty the applied log", log, &error))?;
            }
        }
        Ok(())
    }

    /// Errors of the hive, with its name.
    pub(crate) fn failure(&self, error: &Error) -> Failure {
        failure(&self.path, error)
    }
}

/// Writes a file beside `path` and gives it that name: readers see the old bytes or all of the new ones.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    // The file that a link names is replaced, not the link.
    let resolved = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let path = resolved.as_path();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let failed = |error: &std::io::Error| Failure::io("write", path, error);
    let mut file = tempfile::Builder::new()
        .prefix(".gravure-hive-")
        .tempfile_in(dir)
        .map_err(|error| Failure::io("create a file in", dir, &error))?;
    file.write_all(bytes).map_err(|error| failed(&error))?;
    if let Ok(old) = fs::metadata(path) {
        let new = file.as_file().metadata().map_err(|error| failed(&error))?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            std::os::unix::fs::fchown(file.as_file(), Some(old.uid()), Some(old.gid()))
                .map_err(|error| Failure::io("keep the owner of", path, &error))?;
        }
        file.as_file().set_permissions(old.permissions()).map_err(|error| failed(&error))?;
    }
    file.as_file().sync_all().map_err(|error| failed(&error))?;
    file.persist(path).map_err(|error| failed(&error.error))?;
    // The name is on the disk once the directory is.
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed(&error))
}

/// The time that changed keys get: `SOURCE_DATE_EPOCH`, or now.
pub(crate) fn now() -> Result<FileTime, Failure> {
    if let Some(seconds) = epoch()? {
        return Ok(FileTime::from_unix(seconds, 0));
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(FileTime::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()))
}

/// A hive's error as the end of a command.
pub(crate) fn failure(path: &Path, error: &Error) -> Failure {
    let kind = match error {
        Error::NotFound { .. } => ErrorKind::NotFound,
        Error::Invalid { .. } | Error::Text { .. } => ErrorKind::Usage,
        Error::Dirty { .. } | Error::NotRecoverable { .. } | Error::Exists { .. } => ErrorKind::Refused,
        Error::Corrupt { .. } | Error::Inconsistent { .. } => ErrorKind::Integrity,
        Error::Unsupported { .. } => ErrorKind::Unsupported,
        _ => ErrorKind::Failed,
    };
    let failure = Failure::new(kind, format!("{}: {}", path.display(), chain(error)));
    match error {
        Error::Dirty { .. } | Error::NotRecoverable { .. } => failure.with_cure(
            "copy the logs that belong to it (.LOG1 and .LOG2 of the same directory) beside the hive, or let Windows load it once",
        ),
        Error::Inconsistent { .. } => failure.with_cure("`gravure hive check` lists everything that is wrong"),
        _ => failure,
    }
}

/// A file as it was read.
struct Loaded {
    bytes: Vec<u8>,
    /// The logs beside it.
    logs: Vec<PathBuf>,
    /// What became of both.
    recovered: Result<Recovered, Error>,
}

fn load(path: &Path) -> Result<Loaded, Failure> {
    let bytes = read_file(path)?;
    let logs = logs_beside(path)?;
    let contents = logs.iter().map(|log| read_file(log)).collect::<Result<Vec<_>, _>>()?;
    let recovered = recover(&bytes, &contents.iter().map(Vec::as_slice).collect::<Vec<_>>());
    Ok(Loaded { bytes, logs, recovered })
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::io("read", path, &error))
}

/// `X.LOG`, `X.LOG1`, `X.LOG2` in whatever case, in this order.
fn logs_beside(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let wanted = [".LOG", ".LOG1", ".LOG2"].map(|end| format!("{name}{end}"));
    let entries = fs::read_dir(dir).map_err(|error| Failure::io("list", dir, &error))?;
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Failure::io("list", dir, &error))?;
        let is_log = entry
            .file_name()
            .to_str()
            .is_some_and(|name| wanted.iter().any(|log| log.eq_ignore_ascii_case(name)));
        if is_log {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_found_in_any_case_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["SYSTEM", "SYSTEM.LOG1", "system.log2", "SYSTEM.LOG3", "SOFTWARE.LOG1", "SYSTEM.LOG1.bak"]
        {
            fs::write(dir.path().join(name), b"x").unwrap();
        }
        let found = logs_beside(&dir.path().join("SYSTEM")).unwrap();
        assert_eq!(found, [dir.path().join("SYSTEM.LOG1"), dir.path().join("system.log2")]);
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hive");
        fs::write(&path, b"old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
