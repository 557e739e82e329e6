//! What is to be read from which archive, in archive order, and for whom.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use gravure_tree::{ContentRef, NodeId, Origin, Sha1Hash, Tree};
use gravure_wim::{BlobId, Compression, ResourceId};

use crate::archive::Archives;
use crate::uses::{self, Use};
use crate::{Error, ErrorKind};

/// What becomes of a blob's stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Copying {
    /// They are decoded, and only what they decode to is wanted.
    #[default]
    Not,
    /// They are wanted as they are, beside the plain content or without it; the content is decoded and its hash checked.
    Checked,
    /// They are wanted as they are and nothing else is; that they are right is somebody else's business.
    Trusted,
}

/// One blob and everything it is for.
#[derive(Debug)]
pub(crate) struct BlobRead {
    pub(crate) archive: usize,
    pub(crate) id: BlobId,
    pub(crate) sha1: Sha1Hash,
    pub(crate) size: u64,
    /// Absolute offset of its resource.
    pub(crate) offset: u64,
    pub(crate) resource: ResourceId,
    /// Where it starts in the plain content of a solid resource; `None` when it has a resource of its own.
    pub(crate) in_solid: Option<u64>,
    pub(crate) copying: Copying,
    pub(crate) uses: Vec<Use>,
}

impl BlobRead {
    /// A blob that comes through a pipe: size and place are known when it comes.
    fn in_pipe(sha1: Sha1Hash, wanted: Use) -> Self {
        let (id, resource) = (BlobId::default(), ResourceId::default());
        let (in_solid, copying, uses) = (None, Copying::Not, vec![wanted]);
        Self { archive: 0, id, sha1, size: 0, offset: 0, resource, in_solid, copying, uses }
    }

    /// Archive order: solid chunks are decoded once when the blobs of a resource stand side by side.
    fn order(&self) -> impl Ord + use<> {
        (self.archive, self.offset, self.resource, self.in_solid, self.id)
    }
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
        plan.blobs.sort_by_key(BlobRead::order);
        Ok(plan)
    }

    /// As [`ReadPlan::new`] for an image whose contents come through a pipe, in whatever order, and are known by their
    /// hashes alone.
    pub(crate) fn in_pipe(
        tree: &Tree,
        wants: impl Fn(Use) -> bool,
        makes: impl Fn(NodeId) -> bool,
    ) -> Result<Self, Error> {
        let mut plan = Self::default();
        let mut index = HashMap::new();
        plan.add_tree_in_pipe(tree, &mut index, wants, makes)?;
        Ok(plan)
    }

    /// Every content of these trees, for a check of all that comes through a pipe.
    pub(crate) fn whole_pipe<'a>(trees: impl Iterator<Item = &'a Tree>) -> Result<Self, Error> {
        let mut plan = Self::default();
        let mut index = HashMap::new();
        for tree in trees {
            plan.add_tree_in_pipe(tree, &mut index, |_| true, |_| false)?;
        }
        plan.blobs.iter_mut().for_each(|blob| blob.uses.clear());
        plan.inline.clear();
        Ok(plan)
    }

    fn add_tree_in_pipe(
        &mut self,
        tree: &Tree,
        index: &mut HashMap<Sha1Hash, usize>,
        wants: impl Fn(Use) -> bool,
        makes: impl Fn(NodeId) -> bool,
    ) -> Result<(), Error> {
        for node in uses::nodes(tree) {
            let mut waits = false;
            for (part, content) in uses::parts(tree.node(node)) {
                let wanted = Use { node, part };
                if content.is_empty() || !wants(wanted) {
                    continue;
                }
                waits = true;
                match (&content.origin, content.sha1) {
                    (Origin::Inline(bytes), _) => {
                        self.inline.push(Inline { bytes: Arc::clone(bytes), wanted });
                    }
                    (_, Some(sha1)) => match index.get(&sha1) {
                        Some(known) => self.blobs[*known].uses.push(wanted),
                        None => {
                            index.insert(sha1, self.blobs.len());
                            self.blobs.push(BlobRead::in_pipe(sha1, wanted));
                        }
                    },
                    (_, None) => return Err(missing(tree, wanted, content)),
                }
            }
            if !waits && makes(node) {
                self.nodes.push(node);
            }
        }
        Ok(())
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
        plan.blobs.sort_by_key(BlobRead::order);
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
        let (blob, place) = opened.blob(id)?;
        let (offset, resource) = (place.header.offset, blob.resource);
        let in_solid = place.solid.map(|_| blob.offset);
        let (sha1, size) = (blob.sha1, blob.size);
        let copying = Copying::Not;
        self.blobs.push(BlobRead { archive, id, sha1, size, offset, resource, in_solid, copying, uses });
        Ok(())
    }

    /// The stored ranges of `archive` that blobs from `first` on will be read from, in their order. Of solid resources only
    /// the head with the chunk table: which chunks are needed, the table tells.
    pub(crate) fn ranges(&self, archives: &Archives, archive: usize, first: usize) -> Vec<Range<u64>> {
        let wim = archives.get(archive).wim();
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let blobs = self.blobs.get(first..).unwrap_or_default();
        for blob in blobs.iter().filter(|blob| blob.archive == archive) {
            let Some(resource) = wim.resource(blob.resource) else { continue };
            let start = resource.header.offset;
            let len = match &resource.solid {
                Some(solid) => {
                    let entries = solid.size.div_ceil(u64::from(solid.chunk_size.max(1)));
                    entries.saturating_mul(4).saturating_add(16).min(resource.header.stored_size)
                }
                None => resource.header.stored_size,
            };
            let end = start.saturating_add(len);
            match ranges.last_mut() {
                Some(last) if last.end >= start && last.start <= start => last.end = last.end.max(end),
                _ => ranges.push(start..end),
            }
        }
        ranges
    }

    /// Plain bytes of the largest chunk among the blobs' resources.
    pub(crate) fn largest_chunk(&self, archives: &Archives) -> u32 {
        let mut resources: Vec<(usize, ResourceId)> =
            self.blobs.iter().map(|blob| (blob.archive, blob.resource)).collect();
        resources.dedup();
        let sizes = resources.into_iter().filter_map(|(archive, id)| {
            let archive = archives.get(archive);
            let resource = archive.wim().resource(id)?;
            Some(match &resource.solid {
                // Larger ones are refused when the layout is read.
                Some(solid) => solid.chunk_size.min(archive.limits().max_chunk_bytes),
                None => {
                    let chunk = archive.wim().header().compression.map_or(0, Compression::chunk_size);
                    chunk.min(u32::try_from(resource.header.size).unwrap_or(u32::MAX))
                }
            })
        });
        sizes.max().unwrap_or(0)
    }
}

pub(crate) fn missing(tree: &Tree, wanted: Use, content: &ContentRef) -> Error {
    let path = uses::paths(tree, &[wanted.node], 1).pop().unwrap_or_else(|| "/".to_owned());
    let hash = content.sha1.map_or_else(|| "unknown content".to_owned(), |sha1| format!("blob {sha1}"));
    Error::Other {
        what: path,
        source: format!("{hash} is in none of the opened files").into(),
        kind: ErrorKind::NotFound,
    }
}
