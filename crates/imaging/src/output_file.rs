//! A file that appears under its name only when it is complete.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gravure_io::FileAt;

use crate::Error;

/// A new file under a temporary name beside its final one. Dropped without [`OutputFile::commit`], it is removed.
#[derive(Debug)]
pub(crate) struct OutputFile {
    path: PathBuf,
    temporary: PathBuf,
    file: FileAt,
    is_done: bool,
}

impl OutputFile {
    /// Creates the temporary file. What is at `path` stays until `commit` replaces it.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let name = path.file_name().ok_or_else(|| Error::Usage {
            what: "output file".to_owned(),
            expected: "a file name".to_owned(),
            found: path.display().to_string(),
        })?;
        if path.is_dir() {
            let why = "it is a directory".to_owned();
            return Err(Error::Refused { what: format!("writing {}", path.display()), why });
        }
        let mut number = 0u32;
        loop {
            let mut temporary = std::ffi::OsString::from(".");
            temporary.push(name);
            temporary.push(format!(".{}-{number}.part", std::process::id()));
            let temporary = path.with_file_name(temporary);
            match File::options().read(true).write(true).create_new(true).open(&temporary) {
                Ok(file) => {
                    let file = FileAt::new(file).map_err(Error::io("open", temporary.display()))?;
                    return Ok(Self { path: path.to_owned(), temporary, file, is_done: false });
                }
                // Left behind by a process of the same number that was killed.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < 100 => {
                    number += 1
                }
                Err(error) => return Err(Error::io("create", temporary.display())(error)),
            }
        }
    }

    /// Where to write.
    pub(crate) fn file(&self) -> &FileAt {
        &self.file
    }

    /// The final name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Cuts the file off at `size`.
    pub(crate) fn truncate(&self, size: u64) -> Result<(), Error> {
        self.file.file().set_len(size).map_err(Error::io("truncate", self.path.display()))
    }

    /// Where the file is until it has its name.
    pub(crate) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Gives the new file the mode and, as far as this user may, the owner of the one it replaces.
    pub(crate) fn take_after_old(&self) -> Result<(), Error> {
        let Ok(old) = std::fs::metadata(&self.path) else { return Ok(()) };
        // The owner first: a change of owner clears bits of the mode.
        let _ = std::os::unix::fs::fchown(self.file.file(), Some(old.uid()), Some(old.gid()));
        self.file
            .file()
            .set_permissions(old.permissions())
            .map_err(Error::io("set the mode of", self.path.display()))
    }

    /// Makes the content durable, then gives the file its name.
    pub(crate) fn commit(mut self) -> Result<(), Error> {
        let path = self.path.clone();
        self.file.file().sync_all().map_err(Error::io("write to stable storage", path.display()))?;
        std::fs::rename(&self.temporary, &path).map_err(Error::io("rename to", path.display()))?;
        self.is_done = true;
        // The name itself must survive a power failure too.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = File::open(parent).and_then(|dir| dir.sync_all());
        synced.map_err(Error::io("write to stable storage", parent.display()))
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.is_done {
            // Nothing can be done about a temporary file that cannot be removed.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use gravure_io::WriteAt;

    use super::*;

    #[test]
    fn the_old_file_stays_until_the_new_one_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.wim");
        std::fs::write(&path, b"old").unwrap();
        let output = OutputFile::create(&path).unwrap();
        output.file().write_all_at(0, b"half").unwrap();
        drop(output);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        let output = OutputFile::create(&path).unwrap();
        output.file().write_all_at(0, b"new content").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        output.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new content");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(OutputFile::create(dir.path()).unwrap_err().to_string().contains("is a directory"));
    }
}
