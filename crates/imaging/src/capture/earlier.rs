//! Files that did not change since an earlier image of the same directory are not read again: their contents are taken
//! from it.

use gravure_tree::{Node, NodeId, Origin, Tree};

use super::Known;
use crate::blob_reader::BlobReader;
use crate::directory::{UnixKind, kind_of};
use crate::{Error, ImageFile, Which};

/// Decoded chunks kept while contents are taken out of the earlier image.
const CACHE_BYTES: usize = 32 << 20;

/// An earlier image of the directory.
#[derive(Debug, Clone)]
pub struct Earlier {
    /// Its file, wherever that is.
    pub file: ImageFile,
    /// Which image of it.
    pub which: Which,
}

impl Earlier {
    /// Gives files of `tree` that have the same path, size and time of last write in the earlier image its content.
    /// Returns how many, and what to read those contents from.
    pub(super) fn take_over(&self, tree: &mut Tree, known: &Known) -> Result<(u64, BlobReader), Error> {
        let file = &self.file;
        let image = file.image(file.find(&self.which)?)?;
        let old = image.tree();
        let mut same: Vec<(NodeId, NodeId)> = Vec::new();
        let mut todo = vec![(tree.root(), old.root())];
        while let Some((here, there)) = todo.pop() {
            let mut names: std::collections::HashMap<_, _> =
                old.children(there).iter().map(|entry| (&entry.name, entry.node)).collect();
            for entry in tree.children(here) {
                let Some(partner) = names.remove(&entry.name) else { continue };
                let (node, other) = (tree.node(entry.node), old.node(partner));
                if node.is_directory() && other.is_directory() {
                    todo.push((entry.node, partner));
                } else if is_unchanged(node, other, known) {
                    same.push((entry.node, partner));
                }
            }
        }
        // A file with several names is met under each of them.
        same.sort_unstable();
        same.dedup_by_key(|(here, _)| *here);
        for (here, there) in &same {
            // The size is the one seen here: missing content has none.
            if let (Some(data), Some(taken)) = (&mut tree.node_mut(*here).data, &old.node(*there).data) {
                (data.sha1, data.origin) = (taken.sha1, taken.origin.clone());
            }
        }
        Ok((same.len() as u64, BlobReader::new(file.archives().clone(), CACHE_BYTES)))
    }
}

/// Whether two files are the same as far as can be told without reading.
fn is_unchanged(node: &Node, other: &Node, known: &Known) -> bool {
    let both_files = kind_of(node) == UnixKind::File && kind_of(other) == UnixKind::File;
    let (Some(here), Some(there)) = (&node.data, &other.data) else { return false };
    let has_hash =
        there.sha1.is_some_and(|sha1| there.origin != Origin::Missing || known.hashes().contains(&sha1));
    // Missing content has no size; its time has to do.
    let same_size = here.size == there.size || there.origin == Origin::Missing;
    both_files && !here.is_empty() && has_hash && same_size && node.times.written == other.times.written
}
