//! Files of one directory tree, found by names that may differ in case and never outside the tree.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use gravure_netboot::names::{Match, RelativeName, match_entry};

use crate::{Found, Refusal};

/// Entries of a directory looked through for a name in another case; more is no boot directory.
const MAX_ENTRIES: usize = 4096;

/// A directory whose files are served.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Serves what lies below `root`, which must exist.
    pub fn new(root: &Path) -> io::Result<Self> {
        Ok(Self { root: root.canonicalize()? })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the regular file `name`. Links are followed as long as they stay inside. Blocks: call it off the event loop.
    pub fn open(&self, name: &RelativeName) -> Found {
        match self.try_open(name) {
            Ok(Some(found)) => found,
            Ok(None) => Found::Nothing,
            // Absence is everyday (firmware probes), below what is no directory too.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Found::Nothing
            }
            Err(error) => Found::Refused(Refusal::Unreadable(error.to_string())),
        }
    }

    fn try_open(&self, name: &RelativeName) -> io::Result<Option<Found>> {
        let Some(path) = self.locate(name)? else { return Ok(None) };
        let path = path.canonicalize()?;
        if !path.starts_with(&self.root) {
            return Ok(Some(Found::Refused(Refusal::LeadsOutside)));
        }
        let file = File::open(&path)?;
        let facts = file.metadata()?;
        if !facts.is_file() {
            return Ok(None);
        }
        let modified = facts.modified()?;
        Ok(Some(Found::File { file, len: facts.len(), modified }))
    }

    /// The path of `name`, each part exactly or, if there is none, in another case.
    fn locate(&self, name: &RelativeName) -> io::Result<Option<PathBuf>> {
        let mut path = self.root.clone();
        for part in name.components() {
            let exact = path.join(OsStr::from_bytes(part));
            if exact.symlink_metadata().is_ok() {
                path = exact;
                continue;
            }
            let entries = fs::read_dir(&path)?.take(MAX_ENTRIES).filter_map(Result::ok);
            let entries: Vec<OsString> = entries.map(|entry| entry.file_name()).collect();
            match match_entry(part, entries.iter().map(|entry| entry.as_bytes())) {
                Match::Entry(other) => path.push(OsString::from_vec(other.to_vec())),
                Match::Ambiguous | Match::Missing => return Ok(None),
            }
        }
        Ok(Some(path))
    }
}

#[cfg(test)]
mod tests {
    use gravure_netboot::names::normalise_name;

    use super::*;

    fn len(found: &Found) -> Option<u64> {
        match found {
            Found::File { len, .. } => Some(*len),
            _ => None,
        }
    }

    #[test]
    fn finds_in_any_case_and_never_outside() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("boot");
        fs::create_dir_all(root.join("EFI/Boot")).unwrap();
        fs::write(outer.path().join("secret"), "0123").unwrap();
        fs::write(root.join("EFI/Boot/bootx64.efi"), "12").unwrap();
        fs::write(root.join("README"), "1").unwrap();
        fs::write(root.join("readme"), "123").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
        std::os::unix::fs::symlink("README", root.join("in")).unwrap();
        let directory = Directory::new(&root).unwrap();
        let cases = [
            ("EFI/Boot/bootx64.efi", Some(2)),
            ("efi/boot/BOOTX64.EFI", Some(2)),
            ("README", Some(1)),
            ("readme", Some(3)),
            ("in", Some(1)),
            ("EFI", None),
            ("EFI/none", None),
            ("README/none", None),
        ];
        for (name, expected) in cases {
            let name = normalise_name(name.as_bytes()).unwrap();
            let found = directory.open(&name);
            assert_eq!(len(&found), expected, "{name}");
            assert!(expected.is_some() || matches!(found, Found::Nothing), "{name}: {found:?}");
        }
        std::os::unix::fs::symlink("circle", root.join("circle")).unwrap();
        for (name, outside) in [("out", true), ("circle", false)] {
            let found = directory.open(&normalise_name(name.as_bytes()).unwrap());
            let Found::Refused(refusal) = found else { panic!("{name}: {found:?}") };
            assert_eq!(refusal == Refusal::LeadsOutside, outside, "{name}: {refusal}");
        }
    }
}
