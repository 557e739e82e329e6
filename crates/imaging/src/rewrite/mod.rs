//! Changing WIM files: append, export, delete, edit, optimize, split and join.
//!
//! Two ways of writing serve all of them. **In place** ([`in_place`]): new content goes behind the end of the file, and the
//! header, written last, makes it valid; until then the old file stands, and after a failure it is put back as it was.
//! **Anew** ([`new_file`]): a file is put together beside the old one and takes its name when it is complete and was read
//! back. What does not change keeps its stored bytes, its metadata and its part of the XML document.

mod delete;
mod directory;
mod edit;
mod export;
mod in_place;
mod join;
mod new_file;
mod optimize;
mod partial;
mod pipable;
mod read_back;
mod service;
mod split;
mod tree_edit;

pub use delete::{Deletion, delete};
pub use directory::{Elsewhere, Rewriting, ServicedDirectory, WrittenDirectory, WrittenFile};
pub(crate) use edit::set_property;
pub use edit::{EditOptions, InfoChange, edit};
pub use export::{Boot, ExportOptions, Selection, Target, export, export_to_pipe};
pub use join::join;
pub use optimize::optimize;
pub use partial::{PartialTree, Round};
pub use service::{ContentReader, ServicedImage};
pub use split::{SplitReport, split};
pub use tree_edit::{DeleteRule, ImageRules, TreeChange};

pub(crate) use in_place::{Changed, InPlace};
pub(crate) use read_back::cache_bytes;

use gravure_codec::Level;
use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_wim::{Compression, Limits};

use crate::IntegrityChange;
use crate::capture::CaptureForm;
use crate::meter::{Context, Meter, default_threads};

/// What the operations that change WIM files have in common. Each uses the part that has a meaning for it.
#[derive(Debug, Clone)]
pub struct RewriteOptions {
    /// Name of the stage in events.
    pub stage: String,
    /// Threads; one for each processor when `None`.
    pub threads: Option<usize>,
    /// Method and chunk size of a file that is written anew. A file that is changed in place keeps its own.
    pub compression: CompressionChange,
    /// How the contents of a file that is written anew are laid out.
    pub form: FormChange,
    /// How hard to compress what is compressed.
    pub level: Level,
    /// Whether everything is compressed anew, also what could be copied as it is stored.
    pub recompress: Recompress,
    /// Whether the file has an integrity table afterwards.
    pub integrity: IntegrityChange,
    /// Whether what was written is read back and checked.
    pub read_back: ReadBack,
    /// What is done with a file that another writer left unfinished.
    pub unfinished: Unfinished,
    /// Within what a file that is changed is read.
    pub limits: Limits,
}

/// Method and chunk size of a file that is made of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompressionChange {
    /// Those of the file it is made of.
    #[default]
    Keep,
    /// Others; `None` stores everything as it is.
    To(Option<Compression>),
}

/// How the contents of a file are laid out that is made of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FormChange {
    /// A file that takes the place of another stays pipable, and what is made of a solid file is solid, unless another
    /// compression is asked for.
    #[default]
    Keep,
    /// Another.
    To(CaptureForm),
}

/// Whether stored bytes are copied where the format allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recompress {
    /// Only what has another compression than the new file is encoded.
    #[default]
    WhereNeeded,
    /// Everything is decoded and encoded.
    Everything,
}

/// Whether what was written is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadBack {
    /// Every new blob is read from the medium, decoded and compared with its SHA-1 before the operation counts as done.
    #[default]
    Full,
    /// Nothing is.
    Nothing,
}

/// What is done with a file whose header says that a writer is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unfinished {
    /// It is refused: the writer may be alive.
    #[default]
    Refuse,
    /// The file is put back as it was before that writer came: its header was not touched but for the flag.
    Recover,
}

impl Default for RewriteOptions {
    fn default() -> Self {
        Self {
            stage: "write".to_owned(),
            threads: None,
            compression: CompressionChange::default(),
            form: FormChange::default(),
            level: Level::default(),
            recompress: Recompress::default(),
            integrity: IntegrityChange::default(),
            read_back: ReadBack::default(),
            unfinished: Unfinished::default(),
            limits: Limits::default(),
        }
    }
}

impl RewriteOptions {
    /// What an operation runs in.
    fn context<'c>(&self, ctl: &'c Ctl, observer: &'c dyn Observer) -> Context<'c> {
        Context { ctl, observer, threads: self.threads.unwrap_or_else(default_threads) }
    }
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RewriteReport {
    /// Images the file has now.
    pub images: u32,
    /// Blobs that were copied as they were stored.
    pub copied_blobs: u64,
    /// Blobs that were encoded.
    pub encoded_blobs: u64,
    /// Size of the file before, if there was one.
    pub old_file_bytes: Option<u64>,
    /// Size of the file now.
    pub file_bytes: u64,
    /// What was odd, in words. The observer was told of each.
    pub warnings: Vec<String>,
    /// How many warnings are about things asked for and not done.
    pub skipped: u64,
    /// Wall time, milliseconds.
    pub milliseconds: u64,
}

impl RewriteReport {
    /// Takes over what a change in place did.
    fn apply(&mut self, changed: Changed) {
        self.images = changed.images;
        self.old_file_bytes = Some(changed.old_file_bytes);
        self.file_bytes = changed.file_bytes;
    }

    /// Takes over what was counted.
    fn take(&mut self, meter: Meter<'_>) {
        let totals = meter.finish();
        self.warnings = totals.warnings;
        self.skipped = totals.skipped;
        self.milliseconds = totals.milliseconds;
    }
}

#[cfg(test)]
mod tests;
