//! Contents that need not be stored because they are there already: in the file that is appended to, or in the base of a
//! delta file.

use std::collections::HashSet;

use gravure_tree::Sha1Hash;
use gravure_wim::Wim;

/// Hashes and sizes of stored contents.
#[derive(Debug, Default)]
pub(crate) struct Known {
    hashes: HashSet<Sha1Hash>,
    sizes: HashSet<u64>,
}

impl Known {
    /// Everything that `wim` holds is known from now on.
    pub(crate) fn add_wim(&mut self, wim: &Wim) {
        wim.blobs().for_each(|(_, blob)| self.add(blob.sha1, blob.size));
    }

    /// One content more.
    pub(crate) fn add(&mut self, sha1: Sha1Hash, size: u64) {
        self.hashes.insert(sha1);
        self.sizes.insert(size);
    }

    /// All hashes.
    pub(crate) fn hashes(&self) -> &HashSet<Sha1Hash> {
        &self.hashes
    }

    /// Whether a content of this size may be known; if not, hashing it tells nothing.
    pub(super) fn has_size(&self, size: u64) -> bool {
        self.sizes.contains(&size)
    }
}
