//! What laying a volume out, reading or checking one can fail with.

use std::fmt;
use std::io;

/// Refusals that are listed; the rest is counted.
pub const MAX_REFUSALS: usize = 10_000;

/// What a function of this crate returns when it cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tree holds what NTFS cannot.
    #[error("{0}")]
    Refused(Refusals),
    /// The target is smaller than the tree.
    #[error(
        "volume too small: {needed} bytes needed, {available} there, {} more needed",
        needed.saturating_sub(*available)
    )]
    TooSmall {
        /// Bytes the volume must have.
        needed: u64,
        /// Bytes it has.
        available: u64,
    },
    /// Options that contradict each other or the format.
    #[error("{what}: {why}")]
    Invalid {
        /// The option.
        what: &'static str,
        /// The rule it breaks.
        why: String,
    },
    /// The volume could not be read.
    #[error("read at {offset:#x}")]
    Io {
        /// Absolute byte.
        offset: u64,
        /// The answer of the operating system.
        source: io::Error,
    },
    /// What stands on the volume breaks the format.
    #[error("{what} at {offset:#x}: expected {expected}, found {found}")]
    Corrupt {
        /// Structure and rule.
        what: String,
        /// Absolute byte.
        offset: u64,
        /// As it must be.
        expected: String,
        /// As it is.
        found: String,
    },
    /// Well formed, but this version cannot read it.
    #[error("{what} not supported: {value}")]
    Unsupported {
        /// Which feature.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// The volume was not left in a state in which it may be read.
    #[error("volume is {0}")]
    Unclean(crate::Unclean),
    /// A change needs more free clusters side by side than there are.
    #[error("no room for a longer {what}: {clusters} free clusters in a row needed, {found} found")]
    NoRoom {
        /// The file that becomes longer.
        what: &'static str,
        /// How many at least.
        clusters: u64,
        /// The longest row.
        found: u64,
    },
    /// The volume could not be written.
    #[error("write at {offset:#x}")]
    Write {
        /// Absolute byte.
        offset: u64,
        /// The answer of the operating system.
        source: io::Error,
    },
    /// Whoever asked for it wanted no more.
    #[error("stopped on request")]
    Stopped,
}

impl Error {
    pub(crate) fn read(offset: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { offset, source }
    }

    pub(crate) fn invalid(what: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { what, why: why.into() }
    }
}

/// Everything in a tree that NTFS cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusals {
    listed: Vec<Refusal>,
    more: u64,
}

impl Refusals {
    /// The first [`MAX_REFUSALS`], kind by kind, each in the order of the tree.
    pub fn listed(&self) -> &[Refusal] {
        &self.listed
    }

    /// How many there are in all.
    pub fn count(&self) -> u64 {
        u64::try_from(self.listed.len()).unwrap_or(u64::MAX).saturating_add(self.more)
    }

    pub(crate) fn push(&mut self, path: impl FnOnce() -> String, reason: Reason) {
        if self.listed.len() < MAX_REFUSALS {
            self.listed.push(Refusal { path: path(), reason });
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} things that NTFS cannot hold", self.count())?;
        self.listed.iter().try_for_each(|refusal| write!(f, "\n{refusal}"))?;
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

/// One thing that NTFS cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Path in the tree.
    pub path: String,
    /// Why not.
    pub reason: Reason,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

/// Why something cannot be on an NTFS volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Longer than 255 units, or empty.
    #[error("name of {0} units; 1 to 255 are possible")]
    NameLength(usize),
    /// A unit that no name can have.
    #[error("name with the unit {0:#06x}")]
    NameUnit(u16),
    /// `.`, `..`, or the name of a system file in the root.
    #[error("name is reserved by the file system")]
    NameReserved,
    /// Names are equal but for case.
    #[error("name equals {0:?} but for case")]
    NameTaken(String),
    /// More names than Windows allows.
    #[error("{0} names; 1024 are possible")]
    LinkCount(u32),
    /// Two streams of one file with names that are equal but for case.
    #[error("two streams named {0:?}")]
    StreamTaken(String),
    /// The name of a stream is empty, too long or has a `:`, a slash or a zero.
    #[error("stream cannot be named {0:?}")]
    StreamName(String),
    /// A stream larger than any volume.
    #[error("stream of {0} bytes; {max} are possible", max = crate::layout::MAX_STREAM_BYTES)]
    StreamSize(u64),
    /// More names and streams than the list of attributes can hold.
    #[error("attribute list of {0} bytes; {max} are possible", max = crate::disk::MAX_LIST_BYTES)]
    AttributeList(usize),
    /// More reparse data than 16 KiB.
    #[error("reparse data of {0} bytes; {max} are possible", max = gravure_nttypes::MAX_REPARSE_BYTES)]
    ReparseSize(u64),
    /// More extended attributes than 64 KiB.
    #[error("extended attributes of {0} bytes; 65535 are possible")]
    ExtendedAttributes(usize),
    /// An object id that is no 16 to 64 bytes.
    #[error("object id of {0} bytes; 16 to 64 are possible")]
    ObjectIdLength(usize),
    /// Two files with one object id.
    #[error("object id is that of another file")]
    ObjectIdTaken,
    /// A reference to a descriptor that the tree does not have.
    #[error("security descriptor {0} is not in the table")]
    NoDescriptor(u32),
    /// A descriptor that Windows would replace.
    #[error("security descriptor {index}: {why}")]
    Descriptor {
        /// Index in the tree's table.
        index: u32,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The content is in the form of another machine's EFS.
    #[error("encrypted file; its keys cannot be put into a new volume")]
    Encrypted,
    /// More files than an MFT can number.
    #[error("more than {0} files")]
    FileCount(u32),
}
