//! What a symbolic link leads to, when a capture is to follow links, and how one that leads round in a circle is found.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use gravure_linux::{DeviceNumber, Dir, NodeStat};

use crate::Error;

/// An entry as it is found, links followed when they are to be.
pub(super) struct Found {
    pub(super) stat: NodeStat,
    pub(super) place: Place,
}

/// Where what an entry stands for is.
pub(super) enum Place {
    /// In its directory, under its name.
    Here,
    /// Where a link leads, with the extended attributes there.
    There(PathBuf, Vec<(OsString, Vec<u8>)>),
}

/// The directories above one, to find links that lead round in a circle.
pub(super) struct Ancestor {
    key: (DeviceNumber, u64),
    above: Option<Rc<Ancestor>>,
}

impl Ancestor {
    pub(super) fn has(&self, stat: &NodeStat) -> bool {
        let mut at = Some(self);
        while let Some(ancestor) = at {
            if ancestor.key == (stat.device, stat.inode) {
                return true;
            }
            at = ancestor.above.as_deref();
        }
        false
    }
}

/// A long chain must not be dropped by recursion: a tree may be deeper than a stack.
impl Drop for Ancestor {
    fn drop(&mut self) {
        let mut above = self.above.take();
        while let Some(mut ancestor) = above.take().and_then(Rc::into_inner) {
            above = ancestor.above.take();
        }
    }
}

/// `stat` below `above`.
pub(super) fn ancestor(stat: &NodeStat, above: Option<Rc<Ancestor>>) -> Option<Rc<Ancestor>> {
    Some(Rc::new(Ancestor { key: (stat.device, stat.inode), above }))
}

/// What the link at `path` leads to.
pub(super) fn follow(path: &str) -> Result<Found, Error> {
    let leads = std::fs::canonicalize(path).map_err(Error::io("follow link", path))?;
    let failed = || Error::linux(leads.display());
    if leads.is_dir() {
        let (dir, stat) = open_root(&leads)?;
        let xattrs = gravure_linux::xattr::read_file_xattrs(&dir).map_err(failed())?;
        return Ok(Found { stat, place: Place::There(leads, xattrs) });
    }
    let (above, name) = (leads.parent().unwrap_or(&leads), leads.file_name().unwrap_or_default());
    let (dir, _) = open_root(above)?;
    let stat = dir.stat_entry(name).map_err(failed())?;
    let xattrs = dir.xattrs(name).map_err(failed())?;
    Ok(Found { stat, place: Place::There(leads.clone(), xattrs) })
}

/// Opens a directory that was named, following links.
pub(super) fn open_root(path: &Path) -> Result<(Dir, NodeStat), Error> {
    let root = Dir::open_root(path).map_err(Error::linux(path.display()))?;
    let stat = root.stat().map_err(Error::linux(path.display()))?;
    Ok((root, stat))
}
