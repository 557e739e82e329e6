//! A directory by handle: every operation names one entry of it and never follows a symbolic link.
//!
//! Capture and apply walk trees that other systems made. A path such as `etc/../../x`, or a link planted half way,
//! must not lead them out of the volume, so names here are single components and everything goes through the
//! `*at` calls. Extended attributes and modes have no such calls on the kernels we serve; they go through
//! `/proc/self/fd/<dir>/<name>` with the `l*` calls, which resolve the handle and then exactly one component.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, ResolveFlags, SeekFrom, StatxFlags, Timestamps,
};
use rustix::io::Errno;

use crate::{Error, NodeKind, NodeStat, SpecialNode, Timestamp, xattr};

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

/// One entry of a directory, as the directory itself states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Name, one component.
    pub name: OsString,
    /// Kind, where the file system keeps it in the directory; ask `Dir::stat_entry` otherwise.
    pub kind: Option<NodeKind>,
    /// Inode number in the directory's record; that of the covered directory at a mount point.
    pub inode: u64,
}

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
// A planted FIFO or terminal must neither block the open nor become our controlling terminal.
const READ_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOCTTY).union(OFlags::NONBLOCK);

impl Dir {
    /// Opens `path`, following links as usual: this is the caller's own word, not an image's.
    pub fn open_root(path: &Path) -> Result<Self, Error> {
        let fd = rustix::fs::openat(CWD, path, DIR_FLAGS, Mode::empty())
            .map_err(Error::on_path("open directory", path))?;
        Ok(Self { fd })
    }

    /// A second handle for the same directory.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let fd = self.fd.try_clone().map_err(|e| Error::io("duplicate handle of", "directory", e))?;
        Ok(Self { fd })
    }

    /// Opens the directory `name` in this one. A symbolic link is refused (`ENOTDIR` or `ELOOP`).
    pub fn open_dir(&self, name: &OsStr) -> Result<Self, Error> {
        let fd = rustix::fs::openat(&self.fd, component(name)?, DIR_FLAGS | OFlags::NOFOLLOW, Mode::empty())
            .map_err(Error::on_name("open directory", name))?;
        Ok(Self { fd })
    }

    /// Opens the regular file `name` for reading, without touching its access time where the kernel lets us.
    /// Anything that is not a regular file is refused.
    pub fn open_file(&self, name: &OsStr) -> Result<File, Error> {
        let flags = READ_FLAGS | OFlags::NOFOLLOW;
        let open = |flags| {
            rustix::fs::openat(&self.fd, component(name)?, flags, Mode::empty())
                .map_err(Error::on_name("open file", name))
        };
        // O_NOATIME is for the owner and root only.
        let fd = match open(flags | OFlags::NOATIME) {
            Err(e) if e.errno() == Some(libc::EPERM) => open(flags)?,
            other => other?,
        };
        regular(fd, name)
    }

    /// Opens the regular file `name` for reading and writing; it must exist.
    pub fn open_file_rw(&self, name: &OsStr) -> Result<File, Error> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.fd, component(name)?, flags, Mode::empty())
            .map_err(Error::on_name("open file for writing", name))?;
        regular(fd, name)
    }

    /// Creates the file `name` for reading and writing with `mode` (12 bits, less the umask). An entry of that
    /// name, of whatever kind, is `EEXIST`.
    pub fn create_file(&self, name: &OsStr, mode: u32) -> Result<File, Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, component(name)?, flags, Mode::from_raw_mode(mode))
            .map_err(Error::on_name("create file", name))?;
        Ok(File::from(fd))
    }

    /// Makes the directory `name` with `mode` (less the umask).
    pub fn make_dir(&self, name: &OsStr, mode: u32) -> Result<(), Error> {
        rustix::fs::mkdirat(&self.fd, component(name)?, Mode::from_raw_mode(mode))
            .map_err(Error::on_name("make directory", name))
    }

    /// Makes the directory `name` and opens it; an existing directory (not a link to one) is opened as it is.
    pub fn ensure_dir(&self, name: &OsStr, mode: u32) -> Result<Self, Error> {
        match self.make_dir(name, mode) {
            Err(e) if e.errno() != Some(libc::EEXIST) => Err(e),
            _ => self.open_dir(name),
        }
    }

    /// Makes the symbolic link `name` with the text `target`, whatever it says.
    pub fn make_symlink(&self, target: &OsStr, name: &OsStr) -> Result<(), Error> {
        rustix::fs::symlinkat(target, &self.fd, component(name)?)
            .map_err(Error::on_name("make symbolic link", name))
    }

    /// Gives the node `name` of this directory the further name `new_name` in `into`. A symbolic link itself gets
    /// the new name, not its target.
    pub fn link(&self, name: &OsStr, into: &Self, new_name: &OsStr) -> Result<(), Error> {
        rustix::fs::linkat(&self.fd, component(name)?, &into.fd, component(new_name)?, AtFlags::empty())
            .map_err(Error::on_name("make hard link", new_name))
    }

    /// Makes a FIFO, socket or device node with `mode` (less the umask).
    pub fn make_node(&self, name: &OsStr, node: SpecialNode, mode: u32) -> Result<(), Error> {
        let (file_type, number) = match node {
            SpecialNode::Fifo => (FileType::Fifo, None),
            SpecialNode::Socket => (FileType::Socket, None),
            SpecialNode::CharDevice(number) => (FileType::CharacterDevice, Some(number)),
            SpecialNode::BlockDevice(number) => (FileType::BlockDevice, Some(number)),
        };
        let number = number.unwrap_or_default();
        let dev = rustix::fs::makedev(number.major, number.minor);
        rustix::fs::mknodat(&self.fd, component(name)?, file_type, Mode::from_raw_mode(mode), dev)
            .map_err(Error::on_name("make node", name))
    }

    /// Facts of this directory.
    pub fn stat(&self) -> Result<NodeStat, Error> {
        stat_file(&self.fd)
    }

    /// Facts of the entry `name`; of the link itself when it is one.
    pub fn stat_entry(&self, name: &OsStr) -> Result<NodeStat, Error> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let statx = rustix::fs::statx(&self.fd, component(name)?, flags, STATX_MASK)
            .map_err(Error::on_name("stat", name))?;
        NodeStat::from_statx(&statx, &name.to_string_lossy())
    }

    /// Whether an entry of that name is there.
    pub fn has_entry(&self, name: &OsStr) -> Result<bool, Error> {
        match self.stat_entry(name) {
            Err(e) if e.errno() == Some(libc::ENOENT) => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// The text of the symbolic link `name`.
    pub fn read_link(&self, name: &OsStr) -> Result<OsString, Error> {
        let text = rustix::fs::readlinkat(&self.fd, component(name)?, Vec::new())
            .map_err(Error::on_name("read symbolic link", name))?;
        Ok(OsStr::from_bytes(text.as_bytes()).to_owned())
    }

    /// All entries except `.` and `..`, sorted by the bytes of their names so that two walks agree.
    pub fn entries(&self) -> Result<Vec<DirEntry>, Error> {
        let failed = |e: Errno| Error::io("read directory", "entries", e);
        let mut out = Vec::new();
        // `read_from` opens "." anew, so the position of our own handle does not matter.
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                out.push(DirEntry {
                    name: name.to_owned(),
                    kind: NodeKind::from_file_type(entry.file_type()),
                    inode: entry.ino(),
                });
            }
        }
        out.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    /// Sets owner and group of the entry `name` itself. Set-id bits of files are cleared by the kernel, so set the
    /// mode afterwards; file capabilities are cleared too.
    pub fn set_owner(&self, name: &OsStr, uid: u32, gid: u32) -> Result<(), Error> {
        let ids = (Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)));
        rustix::fs::chownat(&self.fd, component(name)?, ids.0, ids.1, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::on_name("set owner of", name))
    }

    /// Sets the 12 permission bits of the entry `name`. Symbolic links have none of their own: `EOPNOTSUPP`.
    pub fn set_mode(&self, name: &OsStr, mode: u32) -> Result<(), Error> {
        let what = "set mode of";
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = rustix::fs::openat(&self.fd, component(name)?, flags, Mode::empty())
            .map_err(Error::on_name(what, name))?;
        // chmod through the magic link of an O_PATH handle follows what the handle is, even a symbolic link.
        if stat_file(&node)?.kind == NodeKind::Symlink {
            return Err(Error::io(what, name.to_string_lossy(), Errno::OPNOTSUPP));
        }
        let path = format!("/proc/self/fd/{}", node.as_raw_fd());
        rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(Error::on_name(what, name))
    }

    /// Sets access and modification time of the entry `name` itself.
    pub fn set_times(&self, name: &OsStr, accessed: Timestamp, modified: Timestamp) -> Result<(), Error> {
        let times = timestamps(accessed, modified);
        rustix::fs::utimensat(&self.fd, component(name)?, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::on_name("set times of", name))
    }

    /// Names and values of the extended attributes of the entry `name` itself, sorted by name. Empty where the
    /// file system has none.
    pub fn xattrs(&self, name: &OsStr) -> Result<Vec<(OsString, Vec<u8>)>, Error> {
        xattr::read_all(&self.magic_path(name)?, name)
    }

    /// One extended attribute of the entry `name` itself, also one that the list leaves out; `None` when it has none of that name.
    pub fn xattr(&self, name: &OsStr, key: &OsStr) -> Result<Option<Vec<u8>>, Error> {
        xattr::read(&self.magic_path(name)?, name, key)
    }

    /// Sets one extended attribute of the entry `name` itself, replacing an old value.
    pub fn set_xattr(&self, name: &OsStr, key: &OsStr, value: &[u8]) -> Result<(), Error> {
        xattr::set(&self.magic_path(name)?, name, key, value)
    }

    /// Removes one extended attribute of the entry `name` itself; an absent one is `ENODATA`.
    pub fn remove_xattr(&self, name: &OsStr, key: &OsStr) -> Result<(), Error> {
        xattr::remove(&self.magic_path(name)?, name, key)
    }

    /// Removes the entry `name`, which is not a directory.
    pub fn remove_file(&self, name: &OsStr) -> Result<(), Error> {
        rustix::fs::unlinkat(&self.fd, component(name)?, AtFlags::empty())
            .map_err(Error::on_name("remove", name))
    }

    /// Removes the empty directory `name`.
    pub fn remove_dir(&self, name: &OsStr) -> Result<(), Error> {
        rustix::fs::unlinkat(&self.fd, component(name)?, AtFlags::REMOVEDIR)
            .map_err(Error::on_name("remove directory", name))
    }

    /// Moves the entry `name` to `new_name` in `into`, replacing what is there as `rename` does.
    pub fn rename(&self, name: &OsStr, into: &Self, new_name: &OsStr) -> Result<(), Error> {
        rustix::fs::renameat(&self.fd, component(name)?, &into.fd, component(new_name)?)
            .map_err(Error::on_name("rename", name))
    }

    /// Opens the directory `path` (relative, `..` allowed) as a process with this directory as its root would see
    /// it: links are followed, absolute ones from here. For offline edits of an installed system.
    pub fn open_dir_in_root(&self, path: &Path) -> Result<Self, Error> {
        let fd = self.resolve_in_root(path, DIR_FLAGS, "open directory")?;
        Ok(Self { fd })
    }

    /// Opens the regular file `path` for reading as `open_dir_in_root` resolves it.
    pub fn open_file_in_root(&self, path: &Path) -> Result<File, Error> {
        let fd = self.resolve_in_root(path, READ_FLAGS, "open file")?;
        regular(fd, path.as_os_str())
    }

    /// The kernel resolves (`RESOLVE_IN_ROOT`, Linux 5.6); there is no fallback, as a walk of our own would race.
    fn resolve_in_root(&self, path: &Path, flags: OFlags, what: &'static str) -> Result<OwnedFd, Error> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve).map_err(Error::on_path(what, path))
    }

    /// Returns once everything written to the volume this directory lies on is on stable storage.
    pub fn sync_volume(&self) -> Result<(), Error> {
        rustix::fs::syncfs(&self.fd).map_err(|e| Error::io("sync volume of", "directory", e))
    }

    /// Path to the entry through our handle: safe for calls that do not follow the last component.
    fn magic_path(&self, name: &OsStr) -> Result<PathBuf, Error> {
        let mut path = PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        path.push(component(name)?);
        Ok(path)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const STATX_MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// Facts of an open file or directory.
pub fn stat_file(file: impl AsFd) -> Result<NodeStat, Error> {
    let statx = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, STATX_MASK)
        .map_err(|e| Error::io("stat", "open file", e))?;
    NodeStat::from_statx(&statx, "open file")
}

/// Sets owner and group of an open file or directory. Clears set-id bits and capabilities of files.
pub fn set_file_owner(file: impl AsFd, uid: u32, gid: u32) -> Result<(), Error> {
    let ids = (Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)));
    rustix::fs::fchown(file, ids.0, ids.1).map_err(|e| Error::io("set owner of", "open file", e))
}

/// Sets the 12 permission bits of an open file or directory.
pub fn set_file_mode(file: impl AsFd, mode: u32) -> Result<(), Error> {
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode)).map_err(|e| Error::io("set mode of", "open file", e))
}

/// Sets access and modification time of an open file or directory.
pub fn set_file_times(file: impl AsFd, accessed: Timestamp, modified: Timestamp) -> Result<(), Error> {
    rustix::fs::futimens(file, &timestamps(accessed, modified))
        .map_err(|e| Error::io("set times of", "open file", e))
}

/// The next range of `file` at or after `offset` that may hold data; `None` when only a hole follows. File systems that know
/// no holes say that everything is data. Moves the file's cursor.
pub fn next_data(file: &File, offset: u64) -> Result<Option<Range<u64>>, Error> {
    let failed = |e: Errno| Error::io("seek data in", "open file", e);
    let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Err(Errno::NXIO) => return Ok(None), // nothing but a hole up to the end
        other => other.map_err(failed)?,
    };
    let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
        Err(Errno::NXIO) => return Ok(None), // cut short since
        other => other.map_err(failed)?,
    };
    Ok(Some(start..end))
}

/// Reserves room for `len` bytes from the start of `file`, so that it lies in one piece and a full volume shows before anything
/// is written. Its size stays. Where the file system cannot, nothing happens.
pub fn reserve(file: &File, len: u64) -> Result<(), Error> {
    if len == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, len) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        other => other.map_err(|e| Error::io("reserve room for", format!("open file of {len} bytes"), e)),
    }
}

fn timestamps(accessed: Timestamp, modified: Timestamp) -> Timestamps {
    Timestamps { last_access: accessed.to_timespec(), last_modification: modified.to_timespec() }
}

/// Checks that `name` is one component that means an entry of the directory.
fn component(name: &OsStr) -> Result<&OsStr, Error> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(Error::Unsupported { what: "entry name", value: format!("{name:?}") });
    }
    Ok(name)
}

/// Checks that what was opened is a regular file. `O_NONBLOCK` stays set; it means nothing for regular files.
fn regular(fd: OwnedFd, name: &OsStr) -> Result<File, Error> {
    match stat_file(&fd)?.kind {
        NodeKind::File => Ok(File::from(fd)),
        other => Err(Error::Refused {
            what: "opening",
            on: name.to_string_lossy().into_owned(),
            why: format!("a regular file was expected, found {other:?}"),
        }),
    }
}

#[cfg(test)]
mod tests;
