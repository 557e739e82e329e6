//! What a target of a file image must do: structure first, then content in archive order, then metadata.

use crate::{NodeId, Tree};

/// A piece of one stream's content on its way to a sink. Pieces of one content arrive in ascending offset, each
/// exactly once; contents arrive in archive order.
#[derive(Debug, Clone, Copy)]
pub struct ContentPiece<'a> {
    /// Every place that holds this content: node, and index of the named stream (`None` for unnamed data).
    pub targets: &'a [(NodeId, Option<usize>)],
    /// Offset of `bytes` in the content.
    pub offset: u64,
    /// Size of the whole content.
    pub size: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// What a sink can represent. What it cannot is summarised once as [`Loss`]es (DESIGN section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Abilities {
    /// Windows attributes beyond read-only and directory.
    pub windows_attributes: bool,
    /// Security descriptors.
    pub security_descriptors: bool,
    /// Named data streams.
    pub named_streams: bool,
    /// Short (8.3) names.
    pub short_names: bool,
    /// Reparse points other than symbolic links.
    pub reparse_points: bool,
    /// Owner, mode and device nodes of Unix files.
    pub unix_data: bool,
    /// Extended attributes.
    pub extended_attributes: bool,
    /// NTFS object ids.
    pub object_ids: bool,
    /// Creation times.
    pub creation_times: bool,
}

/// Something of the image that lies beyond the sink's nature, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// What kind of thing, e.g. `security descriptors`.
    pub what: &'static str,
    /// How many files it concerns.
    pub count: u64,
}

/// A target of a file image. The engine calls `structure`, then `content` for every piece, then `metadata`.
pub trait TreeSink {
    /// What goes wrong.
    type Error;

    /// What the target can represent.
    fn abilities(&self) -> Abilities;

    /// Makes directories, empty files, links and special files.
    fn structure(&mut self, tree: &Tree) -> Result<(), Self::Error>;

    /// Writes one piece of content.
    fn content(&mut self, piece: &ContentPiece<'_>) -> Result<(), Self::Error>;

    /// Sets attributes, owners and times, deepest first, and makes everything durable. Returns what was lost.
    fn metadata(&mut self, tree: &Tree) -> Result<Vec<Loss>, Self::Error>;
}
