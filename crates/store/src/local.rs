//! Objects in a directory. Order of a write, and what a crash between leaves: content into `tmp/` (garbage), made durable (garbage),
//! given its name (there or not there), name made durable. Nothing is ever changed in place.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gravure_io::ReadAt;

use crate::Error;
use crate::files::{Files, Locked, SystemFiles};
use crate::objects::{Listed, Objects, Put, Session, unique_name};

const TMP: &str = "tmp";
const SESSIONS: &str = "sessions";

/// A store directory.
#[derive(Debug)]
pub struct LocalObjects<F: Files = SystemFiles> {
    root: PathBuf,
    name: String,
    files: F,
}

impl LocalObjects {
    /// The directory `root` of this machine.
    pub fn new(root: &Path) -> Self {
        Self::with_files(root, SystemFiles)
    }
}

impl<F: Files> LocalObjects<F> {
    /// A directory of another file system.
    pub fn with_files(root: &Path, files: F) -> Self {
        Self { root: root.to_owned(), name: root.display().to_string(), files }
    }

    /// The file system.
    pub fn files(&self) -> &F {
        &self.files
    }

    fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let is_plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._- ".contains(&byte))
        };
        if name.split('/').all(is_plain) {
            return Ok(self.root.join(name));
        }
        let why = "names are letters, digits, dots, dashes, spaces and underscores".to_owned();
        Err(Error::Refused { what: format!("the name {name:?}"), why })
    }

    /// Makes the directories above `path` and makes them durable.
    fn make_parents(&self, path: &Path) -> io::Result<()> {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let mut dir = self.root.clone();
        self.files.create_dir(&dir)?;
        for part in below.parent().into_iter().flat_map(Path::components) {
            let parent = dir.clone();
            dir.push(part);
            let is_new = self.files.list(&parent)?.1.iter().all(|name| Path::new(name) != Path::new(&part));
            if is_new {
                self.files.create_dir(&dir)?;
                self.files.sync_dir(&parent)?;
            }
        }
        Ok(())
    }

    /// Writes into `tmp/` and lets `publish` give the file its name.
    fn write(
        &self,
        name: &str,
        bytes: &[u8],
        publish: impl FnOnce(&Path, &Path) -> io::Result<Put>,
    ) -> Result<Put, Error> {
        let path = self.path(name)?;
        let temporary = self.root.join(TMP).join(unique_name()?);
        let write = || {
            self.make_parents(&path)?;
            self.make_parents(&temporary)?;
            self.files.write_new(&temporary, bytes)?;
            self.files.sync_file(&temporary)
        };
        let written = write().and_then(|()| publish(&temporary, &path));
        if !matches!(written, Ok(Put::Created)) {
            // What stays is removed by the next collection.
            let _ = self.files.remove(&temporary);
        }
        let put = written.map_err(Error::io("write", self.shown(name)))?;
        let parent = path.parent().unwrap_or(&self.root);
        self.files.sync_dir(parent).map_err(Error::io("make durable", self.shown(name)))?;
        Ok(put)
    }

    fn shown(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }

    fn list_dir(&self, folder: &str, out: &mut Vec<Listed>) -> Result<(), Error> {
        let listed = self.files.list(&self.root.join(folder));
        let (files, dirs) = listed.map_err(Error::io("list", self.shown(folder)))?;
        out.extend(files.into_iter().map(|(name, len)| Listed { name: format!("{folder}/{name}"), len }));
        dirs.iter().try_for_each(|dir| self.list_dir(&format!("{folder}/{dir}"), out))
    }
}

#[derive(Debug)]
struct LocalSession {
    name: String,
    _lock: Box<dyn Locked>,
}

impl Session for LocalSession {
    fn name(&self) -> &str {
        &self.name
    }
}

impl<F: Files> Objects for LocalObjects<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, name: &str) -> Result<Arc<dyn ReadAt>, Error> {
        match self.files.open(&self.path(name)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::no_object(name, &self.name)),
            opened => opened.map_err(Error::io("open", self.shown(name))),
        }
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, Error> {
        self.write(name, bytes, |temporary, path| match self.files.link(temporary, path) {
            Ok(()) => {
                self.files.remove(temporary)?;
                Ok(Put::Created)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Put::Exists),
            // No second names here (FAT, some network file systems): two writers of one name are not told apart then.
            Err(error) if error.kind() == io::ErrorKind::Unsupported || is_not_permitted(&error) => {
                match self.files.open(path) {
                    Ok(_) => Ok(Put::Exists),
                    Err(_) => self.files.rename(temporary, path).map(|()| Put::Created),
                }
            }
            Err(error) => Err(error),
        })
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let rename =
            |temporary: &Path, path: &Path| self.files.rename(temporary, path).map(|()| Put::Created);
        self.write(name, bytes, rename).map(drop)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, Error> {
        let mut out = Vec::new();
        self.list_dir(folder, &mut out)?;
        out.sort();
        Ok(out)
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path(name)?;
        match self.files.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed.map_err(Error::io("remove", self.shown(name)))?,
        }
        let parent = path.parent().unwrap_or(&self.root);
        self.files.sync_dir(parent).map_err(Error::io("make durable", self.shown(name)))
    }

    fn begin_session(&self) -> Result<Box<dyn Session>, Error> {
        loop {
            // Another name each time: a collection that has opened the file with this name removes what has it.
            let name = unique_name()?;
            let path = self.root.join(SESSIONS).join(&name);
            let made = self.make_parents(&path).and_then(|()| self.files.lock_new(&path));
            if let Some(lock) = made.map_err(Error::io("write", path.display()))? {
                return Ok(Box::new(LocalSession { name, _lock: lock }));
            }
        }
    }

    fn sessions(&self) -> Result<Vec<String>, Error> {
        let dir = self.root.join(SESSIONS);
        let (files, _) = self.files.list(&dir).map_err(Error::io("list", dir.display()))?;
        let mut out = Vec::new();
        for (name, _) in files {
            let path = dir.join(&name);
            if self.files.is_locked(&path).map_err(Error::io("look at", path.display()))? {
                out.push(name);
            }
        }
        Ok(out)
    }

    fn clean(&self) -> Result<(), Error> {
        // Listed before the sessions: what a later one makes has a name that is not in the list.
        let tmp = self.root.join(TMP);
        let (garbage, _) = self.files.list(&tmp).map_err(Error::io("list", tmp.display()))?;
        let sessions = self.root.join(SESSIONS);
        let (ended, _) = self.files.list(&sessions).map_err(Error::io("list", sessions.display()))?;
        for (name, _) in ended {
            let path = sessions.join(&name);
            self.files.remove_unlocked(&path).map_err(Error::io("remove", path.display()))?;
        }
        if !self.sessions()?.is_empty() {
            return Ok(());
        }
        for (name, _) in garbage {
            let path = tmp.join(&name);
            match self.files.remove(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(Error::io("remove", path.display()))?,
            }
        }
        Ok(())
    }
}

/// `EPERM` is how Linux says that a file system has no second names.
fn is_not_permitted(error: &io::Error) -> bool {
    error.raw_os_error() == Some(1)
}
