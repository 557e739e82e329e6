//! Order of contents: that of the archives they come from, so that reading and writing both go forward.

use gravure_ntfs::ContentGuide;
use gravure_tree::{ContentRef, Origin};

use crate::Image;

/// Bits for an offset in an archive; the rest is the archive's number.
const OFFSET_BITS: u32 = 52;

pub(super) struct Guide<'a>(pub(super) &'a Image);

impl ContentGuide for Guide<'_> {
    /// Content of the tree itself comes first, as it is read first.
    fn position(&self, content: &ContentRef) -> u64 {
        let Origin::Source { source, key } = content.origin else { return 0 };
        let Some((archive, id)) = self.0.archives().find(source, key) else { return u64::MAX };
        let offset = self.0.archives().get(archive).blob(id).map_or(0, |(blob, resource)| {
            // Blobs of one resource follow each other; their sizes do not matter for the order.
            resource.header.offset.saturating_add(blob.offset.min(resource.header.stored_size))
        });
        ((archive as u64 + 1) << OFFSET_BITS) | offset.min((1 << OFFSET_BITS) - 1)
    }
}
