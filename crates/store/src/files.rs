//! The system calls a local store is made of, each a step that can fail or be the last one: tests put a file system in their
//! place that forgets what was not made durable.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gravure_io::{FileAt, ReadAt};

/// Names and lengths of the files in a directory, and names of the directories.
pub(crate) type Listing = (Vec<(String, u64)>, Vec<String>);

/// Steps of a local store.
pub trait Files: Send + Sync + std::fmt::Debug {
    /// Makes a directory; one that is there is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a new file with this content; one that is there is an error.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content of a file durable.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a name, in place of what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name that must be free.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadAt>>;
    /// Names and lengths of the files, and names of the directories, in a directory; nothing when there is none.
    fn list(&self, path: &Path) -> io::Result<Listing>;
    /// Makes a file that is locked as long as the result lives. It need not be durable. Nothing when
    /// [`remove_unlocked`](Self::remove_unlocked) came between the two.
    fn lock_new(&self, path: &Path) -> io::Result<Option<Box<dyn Locked>>>;
    /// Whether somebody holds the lock of the file.
    fn is_locked(&self, path: &Path) -> io::Result<bool>;
    /// Removes a file whose lock nobody holds, so that nobody can take it meanwhile.
    fn remove_unlocked(&self, path: &Path) -> io::Result<()>;
}

/// A lock that is held.
pub trait Locked: Send + Sync + std::fmt::Debug {}

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemFiles;

#[derive(Debug)]
struct SystemLock {
    _file: File,
    path: PathBuf,
}

impl Locked for SystemLock {}

impl Drop for SystemLock {
    fn drop(&mut self) {
        // One that stays is recognised by its lock being free.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Files for SystemFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        use io::Write as _;
        File::options().write(true).create_new(true).open(path)?.write_all(bytes)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(FileAt::open(path)?))
    }

    fn list(&self, path: &Path) -> io::Result<Listing> {
        let (mut files, mut dirs) = (Vec::new(), Vec::new());
        let entries = match std::fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((files, dirs)),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            // Not a name of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => dirs.push(name),
                Ok(metadata) => files.push((name, metadata.len())),
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        files.sort();
        dirs.sort();
        Ok((files, dirs))
    }

    fn lock_new(&self, path: &Path) -> io::Result<Option<Box<dyn Locked>>> {
        use std::os::unix::fs::MetadataExt as _;
        let file = File::options().write(true).create_new(true).open(path)?;
        // Others hold it for a moment only, to look.
        file.lock()?;
        if file.metadata()?.nlink() == 0 {
            return Ok(None);
        }
        Ok(Some(Box::new(SystemLock { _file: file, path: path.to_owned() })))
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(std::fs::TryLockError::WouldBlock) => Ok(true),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn remove_unlocked(&self, path: &Path) -> io::Result<()> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        match file.try_lock() {
            Ok(()) => match std::fs::remove_file(path) {
                // Its holder ended since it was opened, and removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
            Err(std::fs::TryLockError::WouldBlock) => Ok(()),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}
