//! What a Unix directory cannot hold of an image: counted once from the tree, not file by file as it happens.

use gravure_nttypes::FileAttributes;
use gravure_tree::{Loss, Tree};

use super::unix::{UnixKind, kind_of};
use crate::uses;

/// Attributes that say nothing a Unix directory would lose.
const CARRIED: FileAttributes = FileAttributes(
    FileAttributes::READ_ONLY.0
        | FileAttributes::DIRECTORY.0
        | FileAttributes::ARCHIVE.0
        | FileAttributes::NORMAL.0
        | FileAttributes::SPARSE.0
        | FileAttributes::REPARSE_POINT.0,
);

/// Counts what is lost when `tree` is applied to a Unix directory.
pub(crate) fn losses(tree: &Tree) -> Vec<Loss> {
    let mut counts = [
        ("Windows attributes", 0u64),
        ("security descriptors", 0),
        ("named streams", 0),
        ("encrypted files", 0),
        ("reparse points other than links", 0),
        ("object ids", 0),
        ("creation times", 0),
        ("short names", 0),
    ];
    let mut add = |index: usize, count: usize| counts[index].1 += count as u64;
    for id in uses::nodes(tree) {
        let node = tree.node(id);
        add(0, usize::from(node.attributes.without(CARRIED) != FileAttributes::default()));
        add(1, usize::from(node.security.is_some()));
        add(2, node.named_streams.len());
        add(3, usize::from(node.efs.is_some()));
        add(4, usize::from(node.reparse.is_some() && kind_of(node) != UnixKind::Link));
        add(5, usize::from(node.object_id.is_some()));
        add(6, usize::from(node.times.created != node.times.written));
        add(7, tree.children(id).iter().filter(|entry| entry.short_name.is_some()).count());
    }
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| Loss { what, count }).collect()
}
