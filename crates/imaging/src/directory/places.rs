//! Directories of a tree by number, opened by handle from the root down, never through a link.

use std::ffi::OsString;
use std::sync::Arc;

use gravure_linux::Dir;

use crate::Error;

/// Open directories kept per thread. Archives list files by directory, so a few suffice; a process may have 1024
/// open files by default.
const KEPT_HANDLES: usize = 32;

/// Number of a directory in [`Places`]; the root is 0.
pub(crate) type DirNumber = u32;

/// Where each directory is: parent and name.
#[derive(Debug, Default)]
pub(crate) struct Places {
    list: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    parent: DirNumber,
    name: OsString,
}

impl Places {
    /// The root alone.
    pub(crate) fn new() -> Self {
        Self { list: vec![Place { parent: 0, name: OsString::new() }] }
    }

    /// Adds the directory `name` in `parent`.
    pub(crate) fn add(&mut self, parent: DirNumber, name: OsString) -> DirNumber {
        let number = u32::try_from(self.list.len()).expect("a tree has at most 2^32 nodes");
        self.list.push(Place { parent, name });
        number
    }

    fn get(&self, number: DirNumber) -> &Place {
        &self.list[number as usize]
    }

    /// Path below the root, for messages: `/` before each name, empty for the root.
    pub(crate) fn path(&self, number: DirNumber) -> String {
        let mut names = Vec::new();
        let mut at = number;
        while at != 0 {
            let place = self.get(at);
            names.push(place.name.to_string_lossy());
            at = place.parent;
        }
        names.iter().rev().fold(String::new(), |path, name| path + "/" + name)
    }

    /// Path of the entry `name` of a directory, for messages.
    pub(crate) fn entry_path(&self, number: DirNumber, name: &std::ffi::OsStr) -> String {
        format!("{}/{}", self.path(number), name.to_string_lossy())
    }
}

/// One thread's open directories.
#[derive(Debug)]
pub(crate) struct Handles {
    root: Arc<Dir>,
    /// Last used first.
    open: Vec<(DirNumber, Arc<Dir>)>,
}

impl Handles {
    pub(crate) fn new(root: Arc<Dir>) -> Self {
        Self { root, open: Vec::with_capacity(KEPT_HANDLES) }
    }

    /// The directory `number`, opened through its parents where none of them is open yet.
    pub(crate) fn get(&mut self, places: &Places, number: DirNumber) -> Result<Arc<Dir>, Error> {
        if let Some(found) = self.find(number) {
            return Ok(found);
        }
        let mut missing = Vec::new();
        let mut at = number;
        let mut dir = loop {
            missing.push(at);
            at = places.get(at).parent;
            if let Some(found) = self.find(at) {
                break found;
            }
        };
        for number in missing.into_iter().rev() {
            let opened =
                dir.open_dir(&places.get(number).name).map_err(|e| Error::linux(places.path(number))(e))?;
            dir = Arc::new(opened);
            self.open.truncate(KEPT_HANDLES - 1);
            self.open.insert(0, (number, Arc::clone(&dir)));
        }
        Ok(dir)
    }

    fn find(&mut self, number: DirNumber) -> Option<Arc<Dir>> {
        if number == 0 {
            return Some(Arc::clone(&self.root));
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
}
