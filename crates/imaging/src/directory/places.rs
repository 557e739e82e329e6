//! Directories of a tree by number, opened by handle from the root down, never through a link.
//!
//! A tree that is captured may come from several directories: each is a *base*, a place without a parent.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gravure_linux::Dir;

use crate::{Error, ErrorKind};

/// Open directories kept per thread. Archives list files by directory, so a few suffice; a process may have 1024
/// open files by default.
const KEPT_HANDLES: usize = 32;

/// Number of a directory in [`Places`]; the root is 0.
pub(crate) type DirNumber = u32;

/// Where each directory is: parent and name, or the base that it is.
#[derive(Debug, Default)]
pub(crate) struct Places {
    list: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    parent: DirNumber,
    name: OsString,
    base: Option<Base>,
}

/// A directory that is reached by its path.
#[derive(Debug)]
struct Base {
    path: PathBuf,
    /// Kept open; without it the directory is opened by its path when it is wanted.
    dir: Option<Arc<Dir>>,
}

impl Places {
    /// The root alone.
    pub(crate) fn new() -> Self {
        Self { list: vec![Place { parent: 0, name: OsString::new(), base: None }] }
    }

    /// Adds a base that stays open, so that it is the same directory whatever happens to its path.
    pub(crate) fn add_base(&mut self, path: &Path, dir: Arc<Dir>) -> DirNumber {
        self.push(Place {
            parent: 0,
            name: OsString::new(),
            base: Some(Base { path: path.to_owned(), dir: Some(dir) }),
        })
    }

    /// Adds a base that is opened when it is wanted: there may be many, such as the places that links lead to.
    pub(crate) fn add_distant_base(&mut self, path: PathBuf) -> DirNumber {
        self.push(Place { parent: 0, name: OsString::new(), base: Some(Base { path, dir: None }) })
    }

    /// Adds the directory `name` in `parent`.
    pub(crate) fn add(&mut self, parent: DirNumber, name: OsString) -> DirNumber {
        self.push(Place { parent, name, base: None })
    }

    fn push(&mut self, place: Place) -> DirNumber {
        let number = u32::try_from(self.list.len()).expect("a tree has at most 2^32 nodes");
        self.list.push(place);
        number
    }

    fn get(&self, number: DirNumber) -> &Place {
        &self.list[number as usize]
    }

    /// Path for messages: of the base, then `/` before each name. Empty for the root.
    pub(crate) fn path(&self, number: DirNumber) -> String {
        let mut names = Vec::new();
        let mut at = number;
        let base = loop {
            let place = self.get(at);
            if let Some(base) = &place.base {
                break base.path.display().to_string();
            }
            if at == 0 {
                break String::new();
            }
            names.push(place.name.to_string_lossy());
            at = place.parent;
        };
        names.iter().rev().fold(base, |path, name| format!("{}/{name}", path.trim_end_matches('/')))
    }

    /// Path of the entry `name` of a directory, for messages.
    pub(crate) fn entry_path(&self, number: DirNumber, name: &std::ffi::OsStr) -> String {
        format!("{}/{}", self.path(number).trim_end_matches('/'), name.to_string_lossy())
    }
}

/// One thread's open directories.
#[derive(Debug)]
pub(crate) struct Handles {
    /// Place 0; without it only what is below a base can be opened.
    root: Option<Arc<Dir>>,
    /// Last used first.
    open: Vec<(DirNumber, Arc<Dir>)>,
}

impl Handles {
    pub(crate) fn new(root: Arc<Dir>) -> Self {
        Self { root: Some(root), ..Self::of_bases() }
    }

    /// For places that are all below bases.
    pub(crate) fn of_bases() -> Self {
        Self { root: None, open: Vec::with_capacity(KEPT_HANDLES) }
    }

    /// The directory `number`, opened through its parents where none of them is open yet.
    pub(crate) fn get(&mut self, places: &Places, number: DirNumber) -> Result<Arc<Dir>, Error> {
        let mut missing = Vec::new();
        let mut at = number;
        let mut dir = loop {
            if let Some(found) = self.find(places, at) {
                break found;
            }
            let place = places.get(at);
            if let Some(base) = &place.base {
                let opened = Dir::open_root(&base.path).map_err(Error::linux(base.path.display()))?;
                break self.keep(at, opened);
            }
            if at == 0 {
                let source = "there is no root directory".into();
                return Err(Error::Other { what: places.path(number), source, kind: ErrorKind::Failed });
            }
            missing.push(at);
            at = place.parent;
        };
        for number in missing.into_iter().rev() {
            let opened =
                dir.open_dir(&places.get(number).name).map_err(|e| Error::linux(places.path(number))(e))?;
            dir = self.keep(number, opened);
        }
        Ok(dir)
    }

    fn keep(&mut self, number: DirNumber, opened: Dir) -> Arc<Dir> {
        let dir = Arc::new(opened);
        self.open.truncate(KEPT_HANDLES - 1);
        self.open.insert(0, (number, Arc::clone(&dir)));
        dir
    }

    fn find(&mut self, places: &Places, number: DirNumber) -> Option<Arc<Dir>> {
        if number == 0 {
            return self.root.clone();
        }
        if let Some(Base { dir: Some(dir), .. }) = &places.get(number).base {
            return Some(Arc::clone(dir));
        }
        let at = self.open.iter().position(|(known, _)| *known == number)?;
        self.open[..=at].rotate_right(1);
        self.open.first().map(|(_, dir)| Arc::clone(dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_deep_directories_and_never_through_a_link() {
        let temp = tempfile::tempdir().unwrap();
        let root = Arc::new(Dir::open_root(temp.path()).unwrap());
        let mut places = Places::new();
        let mut path = temp.path().to_owned();
        let mut deepest = 0;
        for depth in 0..KEPT_HANDLES * 2 {
            path.push(format!("d{depth}"));
            std::fs::create_dir(&path).unwrap();
            deepest = places.add(deepest, format!("d{depth}").into());
        }
        let mut handles = Handles::new(root);
        for _ in 0..2 {
            let inode = handles.get(&places, deepest).unwrap().stat().unwrap().inode;
            let expected = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap());
            assert_eq!(inode, expected);
            handles.get(&places, 1).unwrap();
        }
        assert!(places.path(3).ends_with("/d0/d1/d2"));
        std::os::unix::fs::symlink("d0", temp.path().join("link")).unwrap();
        let link = places.add(0, "link".into());
        let error = handles.get(&places, link).unwrap_err();
        assert!(error.to_string().contains("/link"), "{error}");
    }

    #[test]
    fn bases_are_opened_by_their_path_or_kept_open() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["a/x", "b/y"] {
            std::fs::create_dir_all(temp.path().join(name)).unwrap();
        }
        let inode = |path: &str| {
            std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(temp.path().join(path)).unwrap())
        };
        let (x, y) = (inode("a/x"), inode("b/y"));
        let mut places = Places::new();
        let kept = Arc::new(Dir::open_root(&temp.path().join("a")).unwrap());
        let a = places.add_base(&temp.path().join("a"), kept);
        let b = places.add_distant_base(temp.path().join("b"));
        let (in_a, in_b) = (places.add(a, "x".into()), places.add(b, "y".into()));
        std::fs::rename(temp.path().join("a"), temp.path().join("moved")).unwrap();
        let mut handles = Handles::of_bases();
        assert_eq!(handles.get(&places, in_a).unwrap().stat().unwrap().inode, x);
        assert_eq!(handles.get(&places, in_b).unwrap().stat().unwrap().inode, y);
        assert_eq!(places.entry_path(in_b, "f".as_ref()), format!("{}/b/y/f", temp.path().display()));
        assert!(handles.get(&places, 0).is_err());
    }
}
