//! Order of contents: that of the archives they come from, so that reading and writing both go forward. And their form.

use std::ops::Range;

use gravure_ntfs::{ContentGuide, Encoding};
use gravure_tree::{ContentRef, NodeId, Origin};

use super::compact::Compaction;
use super::holes::Holes;
use crate::Image;

/// Bits for an offset in an archive; the rest is the archive's number.
const OFFSET_BITS: u32 = 52;

pub(super) struct Guide<'a> {
    pub(super) image: &'a Image,
    pub(super) compaction: &'a Compaction,
    pub(super) holes: &'a Holes,
}

impl ContentGuide for Guide<'_> {
    /// Content of the tree itself comes first, as it is read first.
    fn position(&self, content: &ContentRef) -> u64 {
        let Origin::Source { source, key } = content.origin else { return 0 };
        let Some((archive, id)) = self.image.archives().find(source, key) else { return u64::MAX };
        let offset = self.image.archives().get(archive).blob(id).map_or(0, |(blob, resource)| {
            // Blobs of one resource follow each other; their sizes do not matter for the order.
            resource.header.offset.saturating_add(blob.offset.min(resource.header.stored_size))
        });
        ((archive as u64 + 1) << OFFSET_BITS) | offset.min((1 << OFFSET_BITS) - 1)
    }

    fn encoding(&self, node: NodeId, _content: &ContentRef) -> Encoding {
        self.compaction.encoding(node)
    }

    fn zeros(&self, node: NodeId, content: &ContentRef) -> Vec<Range<u64>> {
        self.holes.zeros(node, content)
    }
}
