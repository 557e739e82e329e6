//! A captured directory, or several, ready to give the contents of its files, by handle.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use gravure_linux::Timestamp;
use gravure_nttypes::NtName;
use gravure_tree::{SourceId, Tree};

use super::places::{DirNumber, Handles, Places};
use super::scan::{Overlay, ScanOptions, Scanner};
use crate::Error;
use crate::meter::Meter;

/// Directories that were read, ready to give the contents.
#[derive(Debug)]
pub(crate) struct DirectorySource {
    places: Places,
    files: Vec<FilePlace>,
}

/// Where a file is, and what it was when its directory was read.
#[derive(Debug)]
pub(super) struct FilePlace {
    pub(super) dir: DirNumber,
    pub(super) name: OsString,
    pub(super) size: u64,
    pub(super) modified: Timestamp,
}

/// An open file of a source, with what it was when its directory was read.
#[derive(Debug)]
pub(crate) struct OpenFile {
    file: File,
    size: u64,
    modified: Timestamp,
}

/// How a file differs from what it was when its directory was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changed;

impl OpenFile {
    /// Fills `buf`; bytes that are no longer there are zeros, and that is [`Changed`].
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<Result<(), Changed>> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.file.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => {
                    buf[filled..].fill(0);
                    return Ok(Err(Changed));
                }
                Ok(len) => filled += len,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(()))
    }

    /// The next reads come from the medium.
    pub(crate) fn drop_cache(&self) -> Result<(), gravure_linux::Error> {
        gravure_linux::block::drop_file_cache(&self.file)
    }

    /// Whether size and time are still those of the scan; asked after the last read.
    pub(crate) fn check(&self) -> Result<Result<(), Changed>, gravure_linux::Error> {
        let now = gravure_linux::dir::stat_file(&self.file)?;
        let same = now.size == self.size && now.modified == self.modified;
        Ok(if same { Ok(()) } else { Err(Changed) })
    }
}

impl DirectorySource {
    pub(super) fn new(places: Places, files: Vec<FilePlace>) -> Self {
        Self { places, files }
    }

    /// Reads the directory `path` and all below it. Contents of the tree refer to `id`.
    pub(crate) fn scan(
        path: &Path,
        id: SourceId,
        options: &ScanOptions,
        meter: &Meter<'_>,
        ctl: &gravure_model::Ctl,
    ) -> Result<(Tree, Self), Error> {
        let mut scanner = Scanner::new(id, options, meter, ctl);
        let tree = scanner.root(path)?;
        Ok((tree, scanner.finish()))
    }

    /// Reads only the entry `name` of the directory `path`, with all below it.
    pub(crate) fn scan_entry(
        path: &Path,
        name: &OsStr,
        id: SourceId,
        options: &ScanOptions,
        meter: &Meter<'_>,
        ctl: &gravure_model::Ctl,
    ) -> Result<(Tree, Self), Error> {
        let full = path.join(name);
        let nt_name = NtName::from_unix(name.as_bytes()).map_err(|error| Error::Other {
            what: full.display().to_string(),
            source: Box::new(error),
            kind: crate::ErrorKind::Unsupported,
        })?;
        let mut scanner = Scanner::new(id, options, meter, ctl);
        let mut tree = scanner.empty();
        scanner.add(&mut tree, &full, &[nt_name], Overlay::Replace)?;
        Ok((tree, scanner.finish()))
    }

    /// A thread's own set of open directories.
    pub(crate) fn handles(&self) -> Handles {
        Handles::of_bases()
    }

    /// Opens the file `key`.
    pub(crate) fn open(&self, key: u64, handles: &mut Handles) -> Result<OpenFile, Error> {
        let place = self.file(key)?;
        let dir = handles.get(&self.places, place.dir)?;
        let file = dir.open_file(&place.name).map_err(|error| Error::linux(self.display_path(key))(error))?;
        Ok(OpenFile { file, size: place.size, modified: place.modified })
    }

    /// Full path of the file `key`, for messages.
    pub(crate) fn display_path(&self, key: u64) -> String {
        match self.file(key) {
            Ok(place) => self.places.entry_path(place.dir, &place.name),
            Err(_) => format!("file {key}"),
        }
    }

    fn file(&self, key: u64) -> Result<&FilePlace, Error> {
        let found = usize::try_from(key).ok().and_then(|index| self.files.get(index));
        found.ok_or_else(|| Error::NotFound { what: "file", which: key.to_string() })
    }
}
