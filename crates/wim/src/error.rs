//! What can go wrong with a WIM, how far the damage reaches, and what is odd but readable.

use std::borrow::Cow;
use std::{fmt, io};

use gravure_tree::Sha1Hash;

/// How much of a WIM an error spoils (wim-container 14.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scope {
    /// One blob; everything else stays readable.
    Blob,
    /// One image; other images stay readable.
    Image,
    /// The whole file.
    File,
}

/// Why a WIM, an image of it or a blob cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing the file failed.
    #[error("{what} at {offset:#x}")]
    Io {
        /// What was being read or written.
        what: &'static str,
        /// Absolute byte offset.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// The bytes break the format.
    #[error("{what} at {offset:#x}: expected {expected}, found {found}")]
    Corrupt {
        /// Which structure or field.
        what: Cow<'static, str>,
        /// Where: absolute byte offset in the file, or offset in the metadata resource or XML document when `what`
        /// names one of these.
        offset: u64,
        /// What the format demands.
        expected: Cow<'static, str>,
        /// What stands there.
        found: String,
        /// How far the damage reaches.
        scope: Scope,
    },
    /// Content does not have the SHA-1 it is listed under.
    #[error("{what} at {offset:#x}: expected SHA-1 {expected}, found {found}")]
    HashMismatch {
        /// `blob` or `metadata resource`.
        what: &'static str,
        /// Absolute offset of the resource.
        offset: u64,
        /// The listed hash.
        expected: Sha1Hash,
        /// The hash of what was decoded.
        found: Sha1Hash,
        /// How far the damage reaches.
        scope: Scope,
    },
    /// Well formed, but this version cannot handle it, or the format cannot express it.
    #[error("{what} not supported: {value}")]
    Unsupported {
        /// Which feature.
        what: &'static str,
        /// Its value.
        value: String,
        /// How much cannot be used.
        scope: Scope,
    },
    /// A file asks for more than the caller's [`crate::Limits`] grant.
    #[error("{what} at {offset:#x}: {found} is above the limit of {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// Where it was found.
        offset: u64,
        /// The size asked for.
        found: u64,
        /// The size granted.
        limit: u64,
        /// How much cannot be used.
        scope: Scope,
    },
    /// No image of this number, or no blob of this hash.
    #[error("no {what} {which}")]
    NotFound {
        /// `image` or `blob`.
        what: &'static str,
        /// Its number or hash.
        which: String,
    },
    /// The caller's tree, options or order of calls cannot be written as a WIM.
    #[error("cannot write {what}: {reason}")]
    Unwritable {
        /// The file by path, or the option.
        what: String,
        /// Why not.
        reason: Cow<'static, str>,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str, offset: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, offset, source }
    }

    pub(crate) fn corrupt(
        scope: Scope,
        what: impl Into<Cow<'static, str>>,
        offset: u64,
        expected: impl Into<Cow<'static, str>>,
        found: impl fmt::Display,
    ) -> Self {
        Self::Corrupt {
            what: what.into(),
            offset,
            expected: expected.into(),
            found: found.to_string(),
            scope,
        }
    }

    pub(crate) fn unsupported(scope: Scope, what: &'static str, value: impl fmt::Display) -> Self {
        Self::Unsupported { what, value: value.to_string(), scope }
    }

    pub(crate) fn unwritable(what: impl Into<String>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Unwritable { what: what.into(), reason: reason.into() }
    }

    /// How far the damage reaches. I/O errors, wrong calls and absent images count as the whole file.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Corrupt { scope, .. }
            | Self::HashMismatch { scope, .. }
            | Self::Unsupported { scope, .. }
            | Self::Limit { scope, .. } => *scope,
            Self::Io { .. } | Self::NotFound { .. } | Self::Unwritable { .. } => Scope::File,
        }
    }

    /// The same error with another reach: a resource that decodes badly spoils one blob, or the image whose
    /// metadata it holds.
    pub(crate) fn with_scope(mut self, wider: Scope) -> Self {
        match &mut self {
            Self::Corrupt { scope, .. }
            | Self::HashMismatch { scope, .. }
            | Self::Unsupported { scope, .. }
            | Self::Limit { scope, .. } => *scope = wider,
            Self::Io { .. } | Self::NotFound { .. } | Self::Unwritable { .. } => {}
        }
        self
    }
}

/// Something that was read, with what was odd about it.
#[derive(Debug, Clone)]
pub struct Opened<T> {
    /// What was read.
    pub value: T,
    /// What was odd, in the order found; at most [`MAX_WARNINGS`] and one that counts the rest.
    pub warnings: Vec<Warning>,
}

/// Odd but readable (wim-container 4.1, 6, 14.4).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Header flag 0x40: another writer is at work, or one crashed. The file must not be modified.
    WriteInProgress,
    /// Header, blob table and XML document do not agree on the number of images; `used` are offered.
    ImageCount {
        /// As the header says.
        header: u32,
        /// Metadata resources found.
        metadata: u32,
        /// `IMAGE` elements found.
        xml: u32,
        /// Images offered.
        used: u32,
    },
    /// An entry of the blob table was left out.
    BlobEntry {
        /// Zero-based entry.
        entry: u64,
        /// Why.
        reason: BlobEntryIssue,
    },
    /// The copy of the boot image's resource header in the WIM header is not what the blob table says.
    BootImage {
        /// One-based boot index.
        number: u32,
    },
    /// The XML document is odd.
    Xml(XmlIssue),
    /// A file of the image is odd.
    File {
        /// Path, with `/` before each name; cut at the front when very long.
        path: String,
        /// What was found.
        issue: FileIssue,
    },
    /// The security data of the image is odd: its stored length does not match its content.
    SecurityLength {
        /// As stored.
        stored: u64,
        /// As its content makes it.
        computed: u64,
    },
    /// So many further warnings were left out.
    More(u64),
}

/// Why an entry of the blob table was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlobEntryIssue {
    /// All-zero SHA-1.
    ZeroHash,
    /// Size 0.
    ZeroSize,
    /// The entry belongs to another part.
    OtherPart(u16),
    /// A metadata resource outside part 1.
    MetadataOutsidePart1,
    /// The same SHA-1 was listed before.
    Duplicate(Sha1Hash),
    /// More metadata resources than the header announces images.
    ExcessImage,
    /// Bytes behind the last whole entry.
    PartialEntry,
}

/// What is odd in the XML document.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum XmlIssue {
    /// There is none; names were made up.
    Missing,
    /// No byte order mark.
    NoByteOrderMark,
    /// Unpaired surrogates were replaced.
    UnpairedSurrogates,
    /// The `INDEX` values are not 1 to n, each once; images were renumbered in document order.
    ImageIndexes,
    /// Two images have this name.
    DuplicateName(String),
}

/// What is odd about a file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileIssue {
    /// The name cannot be a file name (`.`, `..`, empty, with zero or `/`); left out with everything below.
    BadName,
    /// The directory has this name already; left out with everything below.
    DuplicateName,
    /// The root has a name; dropped.
    NamedRoot,
    /// A file that is no directory has a children list; ignored.
    ChildrenOfFile,
    /// The security descriptor index is out of range; none was given.
    SecurityIndex(u32),
    /// A stream beyond those the file can have; ignored.
    ExtraStream(Sha1Hash),
    /// Two streams of one name, or a name with a zero unit; ignored.
    BadStreamName(String),
    /// Extended attributes that cannot be parsed; kept as they are, not offered.
    BadExtendedAttributes,
    /// Bytes behind the last tagged item; dropped.
    TrailingItems(u64),
    /// The content is in none of the opened files.
    MissingBlob(Sha1Hash),
}

/// Warnings kept per call; a hostile file could ask for millions.
pub const MAX_WARNINGS: usize = 1000;

/// Collects warnings up to [`MAX_WARNINGS`].
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    list: Vec<Warning>,
    more: u64,
}

impl Warnings {
    pub(crate) fn push(&mut self, warning: Warning) {
        self.push_with(|| warning);
    }

    /// As `push` for warnings that cost something to make.
    pub(crate) fn push_with(&mut self, make: impl FnOnce() -> Warning) {
        if self.list.len() < MAX_WARNINGS {
            self.list.push(make());
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    pub(crate) fn finish<T>(mut self, value: T) -> Opened<T> {
        if self.more > 0 {
            self.list.push(Warning::More(self.more));
        }
        Opened { value, warnings: self.list }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteInProgress => {
                f.write_str("write in progress: another writer is at work or one crashed")
            }
            Self::ImageCount { header, metadata, xml, used } => write!(
                f,
                "header says {header} images, {metadata} metadata resources and {xml} XML elements found; using {used}"
            ),
            Self::BlobEntry { entry, reason } => write!(f, "blob table entry {entry}: {reason}"),
            Self::BootImage { number } => {
                write!(
                    f,
                    "boot image {number}: resource header in the WIM header differs from the blob table"
                )
            }
            Self::Xml(issue) => write!(f, "XML document: {issue}"),
            Self::File { path, issue } => write!(f, "{path}: {issue}"),
            Self::SecurityLength { stored, computed } => {
                write!(f, "security data: stored length {stored}, content makes {computed}")
            }
            Self::More(count) => write!(f, "{count} further warnings"),
        }
    }
}

impl fmt::Display for BlobEntryIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroHash => f.write_str("zero SHA-1, skipped"),
            Self::ZeroSize => f.write_str("size 0, skipped"),
            Self::OtherPart(part) => write!(f, "belongs to part {part}, skipped"),
            Self::MetadataOutsidePart1 => f.write_str("metadata resource outside part 1, skipped"),
            Self::Duplicate(sha1) => write!(f, "SHA-1 {sha1} listed before, skipped"),
            Self::ExcessImage => f.write_str("more metadata resources than images, skipped"),
            Self::PartialEntry => f.write_str("incomplete, skipped"),
        }
    }
}

impl fmt::Display for XmlIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::NoByteOrderMark => f.write_str("no byte order mark"),
            Self::UnpairedSurrogates => f.write_str("unpaired surrogates replaced"),
            Self::ImageIndexes => f.write_str("image indexes are not 1 to n, renumbered in document order"),
            Self::DuplicateName(name) => write!(f, "two images are named {name:?}"),
        }
    }
}

impl fmt::Display for FileIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => f.write_str("not a possible file name, skipped"),
            Self::DuplicateName => f.write_str("name is there already, skipped"),
            Self::NamedRoot => f.write_str("the root has a name, dropped"),
            Self::ChildrenOfFile => f.write_str("children of a file that is no directory, ignored"),
            Self::SecurityIndex(index) => write!(f, "security descriptor {index} does not exist, dropped"),
            Self::ExtraStream(sha1) => write!(f, "unexpected stream {sha1}, ignored"),
            Self::BadStreamName(name) => write!(f, "stream name {name:?} impossible or taken, ignored"),
            Self::BadExtendedAttributes => {
                f.write_str("extended attributes cannot be parsed, kept as they are")
            }
            Self::TrailingItems(len) => write!(f, "{len} bytes behind the last tagged item, dropped"),
            Self::MissingBlob(sha1) => write!(f, "content {sha1} is in none of the opened files"),
        }
    }
}
