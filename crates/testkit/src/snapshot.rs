//! What a directory tree holds, as data that can be compared: the judge of round trips.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::hash::Hasher;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{lgetxattr, llistxattr};

/// Differences that are listed before the rest is only counted.
const LISTED: usize = 20;
/// Longest list of attribute names and longest value the kernel hands out, bytes.
const MAX_XATTR_BYTES: usize = 1 << 16;

/// Everything below a directory, by path relative to it. The directory itself is the empty path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Entries by path.
    pub entries: BTreeMap<PathBuf, Entry>,
}

/// One file of whatever kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is, with its content.
    pub kind: Kind,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last change of content: seconds since 1970 and nanoseconds.
    pub mtime: (i64, i64),
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// First path, in order, of the same file; `None` when the file has one name.
    pub linked_to: Option<PathBuf>,
}

/// Kinds of file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file with its length and a hash of its content.
    File {
        /// Length, bytes.
        len: u64,
        /// SipHash of the content with a fixed key; tells differences in tests, protects against nobody.
        hash: u64,
    },
    /// A symbolic link with its target.
    Symlink(PathBuf),
    /// A character device with its number.
    CharDevice(u64),
    /// A block device with its number.
    BlockDevice(u64),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Snapshot {
    /// Reads the tree below `root`. Access times and device numbers of the file system are no part of it.
    pub fn of(root: &Path) -> Result<Self> {
        let mut snapshot = Self::default();
        let mut first_names = BTreeMap::new();
        snapshot.add(root, Path::new(""), &mut first_names)?;
        Ok(snapshot)
    }

    fn add(
        &mut self,
        root: &Path,
        path: &Path,
        first_names: &mut BTreeMap<(u64, u64), PathBuf>,
    ) -> Result<()> {
        let full = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) };
        let failed = || format!("cannot read {}", full.display());
        let meta = fs::symlink_metadata(&full).with_context(failed)?;
        let kind = kind(&full, &meta).with_context(failed)?;
        let is_directory = kind == Kind::Directory;
        let mut linked_to = None;
        if meta.nlink() > 1 && !is_directory {
            let first = first_names.entry((meta.dev(), meta.ino())).or_insert_with(|| path.to_owned());
            linked_to = Some(first.clone());
        }
        let entry = Entry {
            kind,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            xattrs: xattrs(&full).with_context(failed)?,
            linked_to,
        };
        self.entries.insert(path.to_owned(), entry);
        if is_directory {
            let mut names = fs::read_dir(&full)
                .with_context(failed)?
                .map(|e| Ok(e?.file_name()))
                .collect::<Result<Vec<_>>>()?;
            // Sorted, so that the first name of a hard link does not depend on the file system.
            names.sort();
            for name in names {
                self.add(root, &path.join(name), first_names)?;
            }
        }
        Ok(())
    }

    /// Lines that say what differs from `other`, at most a screenful; empty when both are equal.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (path, mine) in &self.entries {
            match other.entries.get(path) {
                None => found.push(format!("{}: only in the first", path.display())),
                Some(theirs) if mine != theirs => {
                    found.push(format!("{}: {}", path.display(), Difference(mine, theirs)))
                }
                Some(_) => {}
            }
        }
        let only_theirs = other.entries.keys().filter(|path| !self.entries.contains_key(*path));
        found.extend(only_theirs.map(|path| format!("{}: only in the second", path.display())));
        if found.len() > LISTED {
            let more = found.len() - LISTED;
            found.truncate(LISTED);
            found.push(format!("and {more} more"));
        }
        found
    }

    /// # Panics
    /// When the trees differ; the message lists how.
    pub fn assert_same(&self, other: &Self) {
        let found = self.differences(other);
        assert!(found.is_empty(), "the trees differ:\n  {}", found.join("\n  "));
    }
}

/// Two entries of one path, shown by the fields that differ.
struct Difference<'a>(&'a Entry, &'a Entry);

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(a, b) = self;
        let mut parts = Vec::new();
        if a.kind != b.kind {
            parts.push(format!("{:?} is {:?}", a.kind, b.kind));
        }
        if a.mode != b.mode {
            parts.push(format!("mode {:04o} is {:04o}", a.mode, b.mode));
        }
        if (a.uid, a.gid) != (b.uid, b.gid) {
            parts.push(format!("owner {}:{} is {}:{}", a.uid, a.gid, b.uid, b.gid));
        }
        if a.mtime != b.mtime {
            parts.push(format!("mtime {:?} is {:?}", a.mtime, b.mtime));
        }
        if a.xattrs != b.xattrs {
            parts.push(format!("xattrs {} is {}", shown(&a.xattrs), shown(&b.xattrs)));
        }
        if a.linked_to != b.linked_to {
            parts.push(format!("linked to {:?} is {:?}", a.linked_to, b.linked_to));
        }
        f.write_str(&parts.join(", "))
    }
}

fn shown(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> String {
    let each = xattrs.iter().map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()));
    format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
}

fn kind(path: &Path, meta: &Metadata) -> Result<Kind> {
    let kind = meta.file_type();
    Ok(match kind {
        _ if kind.is_dir() => Kind::Directory,
        _ if kind.is_file() => Kind::File { len: meta.len(), hash: content_hash(path)? },
        _ if kind.is_symlink() => Kind::Symlink(fs::read_link(path)?),
        _ if kind.is_char_device() => Kind::CharDevice(meta.rdev()),
        _ if kind.is_block_device() => Kind::BlockDevice(meta.rdev()),
        _ if kind.is_fifo() => Kind::Fifo,
        _ if kind.is_socket() => Kind::Socket,
        _ => bail!("unknown kind of file {kind:?}"),
    })
}

fn content_hash(path: &Path) -> Result<u64> {
    let mut hasher = std::hash::DefaultHasher::new();
    let (mut file, mut buf) = (File::open(path)?, vec![0; 1 << 16]);
    loop {
        match file.read(&mut buf)? {
            0 => return Ok(hasher.finish()),
            count => hasher.write(&buf[..count]),
        }
    }
}

fn xattrs(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; MAX_XATTR_BYTES];
    let count = match llistxattr(path, &mut names[..]) {
        Ok(count) => count,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => return Err(error).context("cannot list extended attributes"),
    };
    let mut found = BTreeMap::new();
    let mut value = vec![0; MAX_XATTR_BYTES];
    for name in names[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let len = lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..])?;
        found.insert(name.to_vec(), value[..len].to_vec());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn every_kind_of_change_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), b"one").unwrap();
        fs::write(root.join("b"), b"two").unwrap();
        fs::hard_link(root.join("b"), root.join("c")).unwrap();
        symlink("nowhere", root.join("d")).unwrap();
        let before = Snapshot::of(&root).unwrap();
        assert_eq!(before.differences(&Snapshot::of(&root).unwrap()), [""; 0]);
        assert_eq!(before.entries[Path::new("c")].linked_to.as_deref(), Some(Path::new("b")));

        let meta = fs::metadata(root.join("a")).unwrap();
        fs::write(root.join("a"), b"eno").unwrap();
        File::options()
            .write(true)
            .open(root.join("a"))
            .unwrap()
            .set_modified(meta.modified().unwrap())
            .unwrap();
        fs::set_permissions(root.join("b"), fs::Permissions::from_mode(0o4711)).unwrap();
        fs::remove_file(root.join("d")).unwrap();
        symlink("elsewhere", root.join("e")).unwrap();
        let found = before.differences(&Snapshot::of(&root).unwrap()).join("\n");
        for expected in
            ["a: File", "b: mode 0644 is 4711", "c: mode", "d: only in the first", "e: only in the second"]
        {
            assert!(found.contains(expected), "{expected} missing in:\n{found}");
        }
    }
}
