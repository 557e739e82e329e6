//! Reading and changing files of the system that was just applied, without ever leaving it through a link.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::path::Path;

use gravure_linux::{Dir, NodeKind};

use super::{Change, Expected};
use crate::failure::{StepError, code};

/// Largest file read whole: kernels and boot loaders stay far below.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The mounted root of the new system, and a record of what was changed in it.
pub(super) struct RootEditor {
    root: Dir,
    changes: Vec<Change>,
}

impl RootEditor {
    pub(super) fn new(root: Dir) -> Self {
        Self { root, changes: Vec::new() }
    }

    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    #[cfg(test)]
    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether `path` is a regular file itself, not a link to one.
    pub(super) fn is_file(&self, path: &str) -> Result<bool, StepError> {
        Ok(self.open_parent(path)?.is_some_and(|(dir, name)| dir.open_file(name).is_ok()))
    }

    /// Whether `path` leads to a directory.
    pub(super) fn is_dir(&self, path: &str) -> bool {
        self.root.open_dir_in_root(Path::new(path)).is_ok()
    }

    /// Takes the file or link `path` away, if it is there.
    pub(super) fn remove(&mut self, path: &str) -> Result<(), StepError> {
        let Some((dir, name)) = self.open_parent(path)? else { return Ok(()) };
        if dir.has_entry(name)? {
            dir.remove_file(name)?;
            self.record(path, Expected::Gone);
        }
        Ok(())
    }

    /// Whether anything is at `path`.
    pub(super) fn has(&self, path: &str) -> Result<bool, StepError> {
        match self.open_parent(path)? {
            Some((dir, name)) => Ok(dir.has_entry(name)?),
            None => Ok(false),
        }
    }

    /// Directory and name, when the directory is there.
    fn open_parent<'p>(&self, path: &'p str) -> Result<Option<(Dir, &'p OsStr)>, StepError> {
        let (dir, name) = path.rsplit_once('/').unwrap_or((".", path));
        Ok(self.root.open_dir_in_root(Path::new(dir)).ok().map(|dir| (dir, OsStr::new(name))))
    }

    /// Names in the directory `path`; none when there is no such directory.
    pub(super) fn names(&self, path: &str) -> Result<Vec<String>, StepError> {
        let Ok(dir) = self.root.open_dir_in_root(Path::new(path)) else { return Ok(Vec::new()) };
        let names = dir.entries()?.into_iter().filter_map(|entry| entry.name.into_string().ok());
        Ok(names.collect())
    }

    /// The content of `path`, links resolved inside the system; `None` when it is not there.
    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, StepError> {
        let Ok(file) = self.root.open_file_in_root(Path::new(path)) else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.take(MAX_FILE_BYTES.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| StepError::new(code::IO, format!("read {path}: {error}")))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
            let message = format!("{path}: expected at most {MAX_FILE_BYTES} bytes, found more");
            return Err(StepError::new(code::REFUSED, message));
        }
        Ok(Some(bytes))
    }

    /// Length and BLAKE3 of `path`, of whatever size; `None` when it is not there.
    pub(super) fn hash(&self, path: &str) -> Result<Option<(u64, [u8; 32])>, StepError> {
        let Ok(mut file) = self.root.open_file_in_root(Path::new(path)) else { return Ok(None) };
        let mut hasher = blake3::Hasher::new();
        let bytes = std::io::copy(&mut file, &mut hasher)
            .map_err(|error| StepError::new(code::IO, format!("read {path}: {error}")))?;
        Ok(Some((bytes, *hasher.finalize().as_bytes())))
    }

    /// The 12 mode bits of what is at `path` itself; `None` when nothing is.
    pub(super) fn mode(&self, path: &str) -> Result<Option<u32>, StepError> {
        match self.open_parent(path)? {
            Some((dir, name)) if dir.has_entry(name)? => Ok(Some(dir.stat_entry(name)?.mode)),
            _ => Ok(None),
        }
    }

    /// The text of the symbolic link at `path`; `None` when no link is there.
    pub(super) fn link_text(&self, path: &str) -> Result<Option<String>, StepError> {
        let Some((dir, name)) = self.open_parent(path)? else { return Ok(None) };
        if !dir.has_entry(name)? || dir.stat_entry(name)?.kind != NodeKind::Symlink {
            return Ok(None);
        }
        Ok(dir.read_link(name)?.into_string().ok())
    }

    /// A handle of the root.
    pub(super) fn dir(&self) -> Result<Dir, StepError> {
        Ok(self.root.try_clone()?)
    }

    /// Replaces `path` (without leading slash) by a new file, owned by root. Missing directories are made.
    pub(super) fn write(&mut self, path: &str, content: &[u8], mode: u32) -> Result<(), StepError> {
        let (dir, name) = self.parent(path)?;
        if dir.has_entry(name)? {
            dir.remove_file(name)?;
        }
        let mut file = dir.create_file(name, 0o600)?;
        let wrote = file.write_all(content).and_then(|()| file.sync_all());
        wrote.map_err(|error| StepError::new(code::IO, format!("write {path}: {error}")))?;
        gravure_linux::dir::set_file_owner(&file, 0, 0)?;
        gravure_linux::dir::set_file_mode(&file, mode)?;
        self.record(path, Expected::Bytes(content.to_vec()));
        Ok(())
    }

    /// Makes the symbolic link `path` to `to`, replacing what was there.
    pub(super) fn link(&mut self, path: &str, to: &str) -> Result<(), StepError> {
        let (dir, name) = self.parent(path)?;
        if dir.has_entry(name)? {
            dir.remove_file(name)?;
        }
        dir.make_symlink(OsStr::new(to), name)?;
        self.record(path, Expected::Any);
        Ok(())
    }

    /// Makes the directory `path` unless it is there.
    pub(super) fn ensure_dir(&mut self, path: &str) -> Result<(), StepError> {
        self.open_or_make(path)?;
        Ok(())
    }

    fn parent<'p>(&mut self, path: &'p str) -> Result<(Dir, &'p OsStr), StepError> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.open_or_make(dir)?, OsStr::new(name)))
    }

    /// Opens directory after directory; a link among them is resolved inside the system.
    fn open_or_make(&mut self, path: &str) -> Result<Dir, StepError> {
        let mut at = self.root.try_clone()?;
        let mut walked = String::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if !walked.is_empty() {
                walked.push('/');
            }
            walked.push_str(name);
            at = match self.root.open_dir_in_root(Path::new(&walked)) {
                Ok(dir) => dir,
                Err(_) => {
                    at.make_dir(OsStr::new(name), 0o755)?;
                    self.record(&walked, Expected::Any);
                    at.open_dir(OsStr::new(name))?
                }
            };
        }
        Ok(at)
    }

    /// A change also touches the times of the directory it is in.
    fn record(&mut self, path: &str, content: Expected) {
        self.changes.retain(|change| change.path != path);
        self.changes.push(Change { path: path.to_owned(), content });
    }
}
