//! What is to be read from which archive, in archive order, and for whom.

use std::collections::HashMap;
use std::sync::Arc;

use gravure_tree::{ContentRef, NodeId, Origin, Sha1Hash, Tree};
use gravure_wim::BlobId;

use crate::archive::Archives;
use crate::uses::{self, Use};
use crate::{Error, ErrorKind};

/// One blob and everything it is for.
#[derive(Debug)]
pub(crate) struct BlobRead {
    pub(crate) archive: usize,
    pub(crate) id: BlobId,
    pub(crate) sha1: Sha1Hash,
    pub(crate) size: u64,
    /// Absolute offset of its resource.
    pub(crate) offset: u64,
    pub(crate) uses: Vec<Use>,
}

/// Content that a layer put into the tree.
#[derive(Debug)]
pub(crate) struct Inline {
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) wanted: Use,
}

/// Everything a target wants of a tree.
#[derive(Debug, Default)]
pub(crate) struct ReadPlan {
    /// In the order of archives and offsets.
    pub(crate) blobs: Vec<BlobRead>,
    pub(crate) inline: Vec<Inline>,
    /// Nodes that wait for no content.
    pub(crate) nodes: Vec<NodeId>,
    /// Plain bytes of all blobs, each counted once, and of inline content.
    pub(crate) total_bytes: u64,
}

impl ReadPlan {
    /// Collects what `wants` agrees to. Nodes of which it wants nothing, and those whose wanted content is empty, are
    /// listed as nodes when `makes` agrees.
    pub(crate) fn new(
        tree: &Tree,
        archives: &Archives,
        wants: impl Fn(Use) -> bool,
        makes: impl Fn(NodeId) -> bool,
    ) -> Result<Self, Error> {
        let mut plan = Self::default();
        let mut index = HashMap::new();
        for node in uses::nodes(tree) {
            let mut waits = false;
            for (part, content) in uses::parts(tree.node(node)) {
                let wanted = Use { node, part };
                let is_missing = content.origin == Origin::Missing;
                if (!content.is_empty() || is_missing) && wants(wanted) {
                    plan.add(tree, archives, &mut index, wanted, content)?;
                    waits = true;
                }
            }
            if !waits && makes(node) {
                plan.nodes.push(node);
            }
        }
        plan.blobs.sort_by_key(|blob| (blob.archive, blob.offset, blob.id));
        Ok(plan)
    }

    /// Every blob of every archive, for a check of whole files.
    pub(crate) fn whole_archives(archives: &Archives) -> Result<Self, Error> {
        let mut plan = Self::default();
        for (archive, opened) in archives.iter() {
            for (id, blob) in opened.wim().blobs() {
                plan.push(archives, archive, id, Vec::new())?;
                plan.total_bytes = plan.total_bytes.saturating_add(blob.size);
            }
        }
        plan.blobs.sort_by_key(|blob| (blob.archive, blob.offset, blob.id));
        Ok(plan)
    }

    fn add(
        &mut self,
        tree: &Tree,
        archives: &Archives,
        index: &mut HashMap<(usize, BlobId), usize>,
        wanted: Use,
        content: &ContentRef,
    ) -> Result<(), Error> {
        match &content.origin {
            Origin::Inline(bytes) => {
                self.inline.push(Inline { bytes: Arc::clone(bytes), wanted });
                self.total_bytes = self.total_bytes.saturating_add(content.size);
            }
            Origin::Source { source, key } => {
                let (archive, id) =
                    archives.find(*source, *key).ok_or_else(|| missing(tree, wanted, content))?;
                if let Some(known) = index.get(&(archive, id)) {
                    self.blobs[*known].uses.push(wanted);
                    return Ok(());
                }
                index.insert((archive, id), self.blobs.len());
                self.push(archives, archive, id, vec![wanted])?;
                self.total_bytes = self.total_bytes.saturating_add(content.size);
            }
            _ => return Err(missing(tree, wanted, content)),
        }
        Ok(())
    }

    fn push(&mut self, archives: &Archives, archive: usize, id: BlobId, uses: Vec<Use>) -> Result<(), Error> {
        let opened = archives.get(archive);
        let (blob, resource) = opened.blob(id)?;
        let offset = resource.header.offset;
        self.blobs.push(BlobRead { archive, id, sha1: blob.sha1, size: blob.size, offset, uses });
        Ok(())
    }
}

fn missing(tree: &Tree, wanted: Use, content: &ContentRef) -> Error {
    let path = uses::paths(tree, &[wanted.node], 1).pop().unwrap_or_else(|| "/".to_owned());
    let hash = content.sha1.map_or_else(|| "unknown content".to_owned(), |sha1| format!("blob {sha1}"));
    Error::Other {
        what: path,
        source: format!("{hash} is in none of the opened files").into(),
        kind: ErrorKind::NotFound,
    }
}
