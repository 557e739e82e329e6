//! Numbers of an image for the XML document (wim-container section 7), counted as Windows counts them.

use gravure_tree::{ContentRef, Tree};

use crate::info::ImageCounts;

/// Directories, files and bytes of `tree`.
pub fn image_counts(tree: &Tree) -> ImageCounts {
    let mut counts = ImageCounts::default();
    let mut seen = vec![false; tree.node_count()];
    let mut directories = vec![tree.root()];
    while let Some(directory) = directories.pop() {
        for entry in tree.children(directory) {
            let node = tree.node(entry.node);
            if node.is_directory() {
                directories.push(entry.node);
            }
            if node.is_directory() && node.reparse.is_none() {
                counts.directories = counts.directories.saturating_add(1);
                continue;
            }
            counts.files = counts.files.saturating_add(1);
            let size = node.data.as_ref().map_or(0, |data: &ContentRef| data.size);
            counts.total_bytes = counts.total_bytes.saturating_add(size);
            if let Some(seen) = seen.get_mut(entry.node.index())
                && std::mem::replace(seen, true)
            {
                counts.hard_link_bytes = counts.hard_link_bytes.saturating_add(size);
            }
        }
    }
    counts
}
