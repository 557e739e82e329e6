//! Where the bytes of a stream are. The tree never holds large content itself.

use std::fmt;
use std::sync::Arc;

/// SHA-1 of plain content: how WIM names content. All zeros means empty (wim-container section 1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Sha1Hash(pub [u8; 20]);

impl Sha1Hash {
    /// The hash that stands for empty content.
    pub const ZERO: Self = Self([0; 20]);
}

impl fmt::Display for Sha1Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha1Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha1Hash({self})")
    }
}

/// Names one opened source (a WIM, a directory) among those a tree draws from. Given out by the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// Where content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nothing to read.
    Empty,
    /// Small content that a layer put in: an edited hive, a host name file, reparse data.
    Inline(Arc<[u8]>),
    /// Content `key` of source `source`. What a key means, and in which encodings (plain, WIM resource of some method
    /// and chunk size) the content is to be had, only the source knows; sinks ask the engine for it.
    Source {
        /// The opened source.
        source: SourceId,
        /// The source's own number for this content, e.g. the index in a blob table.
        key: u64,
    },
    /// The hash is known, the bytes are in none of the opened files: a delta image without its base, a split set with
    /// a part missing. The size is not known and stands as 0.
    Missing,
}

/// A stream's content: its size, its hash when known, and where to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRef {
    /// Length in bytes.
    pub size: u64,
    /// SHA-1 when it is known without reading; `None` for files that have not been read yet.
    pub sha1: Option<Sha1Hash>,
    /// Where the bytes are.
    pub origin: Origin,
}

impl ContentRef {
    /// No bytes.
    pub fn empty() -> Self {
        Self { size: 0, sha1: Some(Sha1Hash::ZERO), origin: Origin::Empty }
    }

    /// Bytes held by the tree itself.
    pub fn inline(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Self::empty();
        }
        Self {
            size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            sha1: None,
            origin: Origin::Inline(bytes),
        }
    }

    /// True when there is nothing to read; missing content is not empty.
    pub fn is_empty(&self) -> bool {
        self.size == 0 && self.origin != Origin::Missing
    }
}
