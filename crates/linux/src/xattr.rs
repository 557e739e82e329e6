//! Extended attributes: bounded reading of lists and values that may change while they are read.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::Error;

/// The kernel's own bound for a list of names and for one value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MAX_BYTES: usize = 65536;

/// Names and values of the extended attributes of an open file or directory, sorted by name.
pub fn read_file_xattrs(file: impl AsFd) -> Result<Vec<(OsString, Vec<u8>)>, Error> {
    let path = fd_path(&file);
    // The magic link must be followed here, so the f* calls are used instead of `read_all`.
    let failed = |e: Errno| Error::io("read extended attributes of", path.display().to_string(), e);
    let names = match filled(|buf| rustix::fs::flistxattr(&file, buf)) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    collect(&names, |key| filled(|buf| rustix::fs::fgetxattr(&file, key, buf))).map_err(failed)
}

/// Sets one extended attribute of an open file or directory, replacing an old value.
pub fn set_file_xattr(file: impl AsFd, key: &OsStr, value: &[u8]) -> Result<(), Error> {
    rustix::fs::fsetxattr(&file, key, value, XattrFlags::empty()).map_err(|e| {
        Error::io("set extended attribute", format!("{key:?} of {}", fd_path(&file).display()), e)
    })
}

pub(crate) fn read_all(path: &Path, name: &OsStr) -> Result<Vec<(OsString, Vec<u8>)>, Error> {
    let what = "read extended attributes of";
    let names = match filled(|buf| rustix::fs::llistxattr(path, buf)) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other.map_err(Error::on_name(what, name))?,
    };
    collect(&names, |key| filled(|buf| rustix::fs::lgetxattr(path, key, buf)))
        .map_err(Error::on_name(what, name))
}

pub(crate) fn read(path: &Path, name: &OsStr, key: &OsStr) -> Result<Option<Vec<u8>>, Error> {
    match filled(|buf| rustix::fs::lgetxattr(path, key, buf)) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        other => other
            .map(Some)
            .map_err(|e| Error::io("read extended attribute", format!("{key:?} of {name:?}"), e)),
    }
}

pub(crate) fn set(path: &Path, name: &OsStr, key: &OsStr, value: &[u8]) -> Result<(), Error> {
    rustix::fs::lsetxattr(path, key, value, XattrFlags::empty())
        .map_err(|e| Error::io("set extended attribute", format!("{key:?} of {name:?}"), e))
}

pub(crate) fn remove(path: &Path, name: &OsStr, key: &OsStr) -> Result<(), Error> {
    rustix::fs::lremovexattr(path, key)
        .map_err(|e| Error::io("remove extended attribute", format!("{key:?} of {name:?}"), e))
}

fn fd_path(file: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
}

/// Reads into a small buffer first and into the largest the kernel allows when that is not enough: asking for the
/// size and then reading would race with a writer.
fn filled(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buf = vec![0; 512];
    let len = match read(&mut buf) {
        Err(Errno::RANGE) => {
            buf = vec![0; MAX_BYTES];
            read(&mut buf)?
        }
        other => other?,
    };
    buf.truncate(len);
    Ok(buf)
}

fn collect(
    names: &[u8],
    value: impl Fn(&OsStr) -> Result<Vec<u8>, Errno>,
) -> Result<Vec<(OsString, Vec<u8>)>, Errno> {
    let mut out = Vec::new();
    for key in names.split(|&b| b == 0).filter(|key| !key.is_empty()).map(OsStr::from_bytes) {
        match value(key) {
            // Removed since the list was read, or listed but unreadable by design (a stale LSM label).
            Err(Errno::NODATA) => {}
            other => out.push((key.to_owned(), other?)),
        }
    }
    out.sort_unstable();
    Ok(out)
}
