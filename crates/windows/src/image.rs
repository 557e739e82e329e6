//! A Windows image in memory: its tree, its registry hives, and a record of everything that is changed.
//!
//! Works on any tree, whatever it came from: what it does not hold itself is read through [`ReadContent`]. Names are found
//! without regard to case, as Windows finds them. After an error the image is to be dropped: nothing was written anywhere.

mod files;
mod hives;
mod undo;

use std::collections::BTreeMap;
use std::path::PathBuf;

use gravure_hive::Editor;
use gravure_nttypes::FileTime;
use gravure_tree::{ContentRef, NodeId, Tree};

pub use hives::HiveFile;

use crate::Error;
use crate::journal::{Change, RECORD_VERSION, RECORDS, Record};

/// Bytes of a content, or why its source does not give them.
pub type ContentResult = Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>;

/// Gives the bytes of a content that the tree refers to.
pub type ReadContent<'a> = dyn Fn(&ContentRef) -> ContentResult + 'a;

/// Is told of every directory whose entries count.
pub type LooksInto<'a> = dyn Fn(NodeId) + 'a;

/// A file of this machine that belongs into the image: who writes the image adds it, so that large packages need not be held
/// in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutsideFile {
    /// On this machine.
    pub source: PathBuf,
    /// In the image, with backslashes. Directories above it are in the tree.
    pub to: String,
}

/// What a finished run leaves to do and to tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Finished {
    /// To be added to the image; nothing of these names is there any more.
    pub outside: Vec<OutsideFile>,
    /// What was done, in order.
    pub changes: Vec<Change>,
}

/// A Windows image that is being changed.
pub struct WindowsImage<'a> {
    tree: &'a mut Tree,
    read: &'a ReadContent<'a>,
    looks_into: Option<&'a LooksInto<'a>>,
    now: FileTime,
    hives: BTreeMap<HiveFile, OpenHive>,
    outside: Vec<OutsideFile>,
    changes: Vec<Change>,
    /// Number of this run's record.
    number: u32,
}

#[derive(Debug)]
struct OpenHive {
    editor: Editor,
    /// It was completed from its logs, which then must go.
    is_replayed: bool,
}

impl std::fmt::Debug for WindowsImage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowsImage").field("changes", &self.changes).finish_non_exhaustive()
    }
}

impl<'a> WindowsImage<'a> {
    /// Takes the tree of a Windows volume. `now` becomes the time of what changes.
    pub fn open(tree: &'a mut Tree, read: &'a ReadContent<'a>, now: FileTime) -> Result<Self, Error> {
        Self::start(tree, read, None, now)
    }

    /// As [`WindowsImage::open`] for a tree of which not all directories were read: `looks_into` is told of each that is looked into,
    /// whatever comes of it. Who gave the tree does it all once more when one of them was not read yet.
    pub fn open_partial(
        tree: &'a mut Tree,
        read: &'a ReadContent<'a>,
        looks_into: &'a LooksInto<'a>,
        now: FileTime,
    ) -> Result<Self, Error> {
        Self::start(tree, read, Some(looks_into), now)
    }

    fn start(
        tree: &'a mut Tree,
        read: &'a ReadContent<'a>,
        looks_into: Option<&'a LooksInto<'a>>,
        now: FileTime,
    ) -> Result<Self, Error> {
        let mut out = Self {
            tree,
            read,
            looks_into,
            now,
            hives: BTreeMap::new(),
            outside: Vec::new(),
            changes: Vec::new(),
            number: 1,
        };
        if out.find(HiveFile::System.path()).is_none() {
            return Err(Error::NotFound { what: "Windows", name: HiveFile::System.path().to_owned() });
        }
        out.number = out.record_numbers().last().map_or(1, |last| last.saturating_add(1));
        Ok(out)
    }

    /// When this run is.
    pub fn now(&self) -> FileTime {
        self.now
    }

    /// What was changed so far.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Puts changed hives back into the tree and the record beside them. `what` says in words what was done.
    pub fn finish(mut self, what: &str) -> Result<Finished, Error> {
        self.hide_secrets()?;
        let changes = self.changes.clone();
        if !changes.is_empty() {
            let record = Record { version: RECORD_VERSION, what: what.to_owned(), changes: changes.clone() };
            let mut text = serde_json::to_vec_pretty(&record).map_err(|error| Error::Io {
                what: "describe changes of",
                path: "the image".to_owned(),
                source: error.into(),
            })?;
            text.push(b'\n');
            self.make_directories_unrecorded(RECORDS)?;
            let path = self.record_path();
            self.add_unrecorded(&path, ContentRef::inline(text))?;
        }
        self.store_hives()?;
        Ok(Finished { outside: self.outside, changes })
    }

    fn record_path(&self) -> String {
        format!("{RECORDS}\\{:04}.json", self.number)
    }

    /// Where the next file that goes is kept.
    fn kept_path(&self) -> String {
        let is_kept =
            |change: &&Change| matches!(change, Change::FileReplaced { .. } | Change::FileRemoved { .. });
        let count = self.changes.iter().filter(is_kept).count();
        format!("{RECORDS}\\{:04}\\{count}", self.number)
    }

    /// Numbers of the records there, ascending.
    fn record_numbers(&self) -> Vec<u32> {
        let Some(dir) = self.find(RECORDS) else { return Vec::new() };
        let number = |name: String| name.strip_suffix(".json").and_then(|stem| stem.parse().ok());
        let names = self.entries(dir).iter().map(|entry| entry.name.to_string());
        let mut out: Vec<u32> = names.filter_map(number).collect();
        out.sort_unstable();
        out
    }
}
