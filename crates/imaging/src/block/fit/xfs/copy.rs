//! Files of an XFS volume into a mounted one: as its own structures have them, with holes, owners, modes, times, extended attributes and further names.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use gravure_fsmap::{XfsFile, XfsPiece, XfsVolume};
use gravure_io::ReadAt;
use gravure_linux::dir::{self, Dir};
use gravure_linux::{DeviceNumber, SpecialNode, Timestamp, xattr};
use gravure_model::Ctl;

use super::{Needs, XfsSource, failed};
use crate::Error;
use crate::meter::Meter;

/// Bytes copied at a time.
pub(super) const STEP_BYTES: u64 = 1 << 20;
/// Directories in each other at most: each is open while those in it are copied.
const MAX_DEPTH: usize = 400;
/// Permissions and set-id bits of a mode.
const MODE_BITS: u32 = 0o7777;
/// Types in a mode.
const MODE_TYPE: u32 = 0o170_000;
const MODE_CHAR: u32 = 0o020_000;
const MODE_BLOCK: u32 = 0o060_000;
const MODE_FIFO: u32 = 0o010_000;
const MODE_SOCKET: u32 = 0o140_000;

fn timestamp((seconds, nanos): (i64, u32)) -> Timestamp {
    Timestamp { seconds, nanos }
}

/// A directory that two names lead to, or one too deep, is an error of the volume.
fn wrong(what: &str, number: u64) -> gravure_fsmap::Error {
    gravure_fsmap::Error::Unsupported { what: "directory", value: format!("inode {number}, {what}") }
}

/// Looks at every file.
pub(super) fn survey(xfs: &XfsVolume<'_>) -> Result<Needs, gravure_fsmap::Error> {
    let mut needs = Needs::default();
    let inode_bytes = u64::from(xfs.facts().inode_bytes);
    let mut directories = BTreeSet::new();
    let mut linked = BTreeSet::new();
    let mut count = |file: &XfsFile| -> Result<(), gravure_fsmap::Error> {
        needs.bytes = needs.bytes.saturating_add(xfs.allocated_bytes(file)?).saturating_add(inode_bytes);
        needs.with_flags += u64::from(file.has_flags);
        if file.is_file() {
            let pieces = xfs.pieces(file)?;
            let sum = |sum: u64, piece: &XfsPiece| sum.saturating_add(piece.len);
            needs.content_bytes = pieces.iter().fold(needs.content_bytes, sum);
        }
        Ok(())
    };
    let root = xfs.root()?;
    count(&root)?;
    // Only directories wait, and by their numbers.
    let mut todo = vec![(root.number, 0)];
    while let Some((number, depth)) = todo.pop() {
        if !directories.insert(number) {
            return Err(wrong("with two names", number));
        }
        if depth > MAX_DEPTH {
            return Err(wrong("too deep in others", number));
        }
        for (_, number) in xfs.entries(&xfs.file(number)?)? {
            let child = xfs.file(number)?;
            if child.is_directory() {
                todo.push((number, depth + 1));
            } else if child.links > 1 && !linked.insert(number) {
                continue;
            }
            count(&child)?;
        }
    }
    Ok(needs)
}

/// Copies all files to the volume mounted at `place`; bytes of content.
pub(super) fn copy(
    xfs: &XfsVolume<'_>,
    source: &XfsSource,
    place: &Path,
    meter: &Meter<'_>,
    ctl: &Ctl,
) -> Result<u64, Error> {
    let linux = |path: &Path| Error::linux(path.display().to_string());
    let root = Dir::open_root(place).map_err(linux(place))?;
    let file = xfs.root().map_err(failed(&source.name, ctl))?;
    let mut copier = Copier {
        xfs,
        source,
        meter,
        ctl,
        root: root.try_clone().map_err(linux(place))?,
        names: BTreeMap::new(),
        buf: Vec::new(),
        bytes: 0,
    };
    copier.directory(&file, &root, Path::new(""), 0)?;
    copier.root_metadata(&file, place)?;
    root.sync_volume().map_err(linux(place))?;
    Ok(copier.bytes)
}

struct Copier<'a> {
    xfs: &'a XfsVolume<'a>,
    source: &'a XfsSource,
    meter: &'a Meter<'a>,
    ctl: &'a Ctl,
    root: Dir,
    /// Files with several names: the directory and the name of the first one.
    names: BTreeMap<u64, (PathBuf, Vec<u8>)>,
    buf: Vec<u8>,
    bytes: u64,
}

impl Copier<'_> {
    fn directory(&mut self, file: &XfsFile, dir: &Dir, path: &Path, depth: usize) -> Result<(), Error> {
        let failed = || failed(&self.source.name, self.ctl);
        if depth > MAX_DEPTH {
            return Err(failed()(wrong("too deep in others", file.number)));
        }
        for (bytes, number) in self.xfs.entries(file).map_err(failed())? {
            self.ctl.check()?;
            let name = OsStr::from_bytes(&bytes);
            let below = path.join(name);
            let child = self.xfs.file(number).map_err(failed())?;
            let linux = || Error::linux(below.display().to_string());
            if child.is_directory() {
                dir.make_dir(name, 0o700).map_err(linux())?;
                let inner = dir.open_dir(name).map_err(linux())?;
                self.directory(&child, &inner, &below, depth + 1)?;
            } else if let Some((first, first_name)) = self.names.get(&number) {
                let first = self.root.open_dir_in_root(first).map_err(linux())?;
                first.link(OsStr::from_bytes(first_name), dir, name).map_err(linux())?;
                continue;
            } else {
                self.node(&child, dir, name, &below)?;
                if child.links > 1 {
                    self.names.insert(number, (path.to_owned(), bytes.clone()));
                }
            }
            self.metadata(&child, dir, name, &below)?;
        }
        Ok(())
    }

    /// Makes what is no directory.
    fn node(&mut self, file: &XfsFile, dir: &Dir, name: &OsStr, path: &Path) -> Result<(), Error> {
        let failed = || failed(&self.source.name, self.ctl);
        let linux = || Error::linux(path.display().to_string());
        if file.is_link() {
            let target = self.xfs.target(file).map_err(failed())?;
            return dir.make_symlink(OsStr::from_bytes(&target), name).map_err(linux());
        }
        if file.is_file() {
            return self.content(file, dir, name, path);
        }
        let (major, minor) = file.device;
        let device = DeviceNumber { major, minor };
        let node = match file.mode & MODE_TYPE {
            MODE_CHAR => SpecialNode::CharDevice(device),
            MODE_BLOCK => SpecialNode::BlockDevice(device),
            MODE_FIFO => SpecialNode::Fifo,
            MODE_SOCKET => SpecialNode::Socket,
            other => {
                let value = format!("{other:#o} of {}", path.display());
                return Err(Error::Unsupported { what: "type of a file", value });
            }
        };
        dir.make_node(name, node, 0o600).map_err(linux())
    }

    fn content(&mut self, file: &XfsFile, dir: &Dir, name: &OsStr, path: &Path) -> Result<(), Error> {
        let shown = || path.display().to_string();
        let pieces = self.xfs.pieces(file).map_err(failed(&self.source.name, self.ctl))?;
        let out = dir.create_file(name, 0o600).map_err(Error::linux(shown()))?;
        out.set_len(file.size).map_err(Error::io("set the size of", shown()))?;
        for piece in pieces {
            let mut done = 0;
            while done < piece.len {
                self.ctl.check()?;
                let len = (piece.len - done).min(STEP_BYTES);
                self.buf.resize(usize::try_from(len).unwrap_or(0), 0);
                let read = self.source.volume.read_exact_at(piece.offset + done, &mut self.buf);
                read.map_err(Error::io("read", shown()))?;
                out.write_all_at(&self.buf, piece.pos + done).map_err(Error::io("write", shown()))?;
                done += len;
                self.bytes += len;
                self.meter.add(len);
            }
        }
        Ok(())
    }

    /// Owner first, since that clears set-id bits and capabilities; times last.
    /// The root has no name in a directory.
    fn root_metadata(&self, file: &XfsFile, place: &Path) -> Result<(), Error> {
        let linux = || Error::linux("/");
        let root = File::open(place).map_err(Error::io("open", place.display()))?;
        dir::set_file_owner(&root, file.uid, file.gid).map_err(linux())?;
        for attribute in self.xfs.attributes(file).map_err(failed(&self.source.name, self.ctl))? {
            xattr::set_file_xattr(&root, OsStr::from_bytes(&attribute.name), &attribute.value)
                .map_err(linux())?;
        }
        dir::set_file_mode(&root, file.mode & MODE_BITS).map_err(linux())?;
        let [accessed, written] = [file.accessed, file.written].map(timestamp);
        dir::set_file_times(&root, accessed, written).map_err(linux())
    }

    fn metadata(&self, file: &XfsFile, dir: &Dir, name: &OsStr, path: &Path) -> Result<(), Error> {
        let linux = || Error::linux(path.display().to_string());
        dir.set_owner(name, file.uid, file.gid).map_err(linux())?;
        for attribute in self.xfs.attributes(file).map_err(failed(&self.source.name, self.ctl))? {
            dir.set_xattr(name, OsStr::from_bytes(&attribute.name), &attribute.value).map_err(linux())?;
        }
        if !file.is_link() {
            dir.set_mode(name, file.mode & MODE_BITS).map_err(linux())?;
        }
        dir.set_times(name, timestamp(file.accessed), timestamp(file.written)).map_err(linux())
    }
}
