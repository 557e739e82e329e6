//! From a damaged blob or range to an error that says which files of the image it concerns.

use std::collections::HashMap;

use gravure_tree::{NodeId, Tree};
use gravure_wim::{Scope, Wim};

use crate::Error;
use crate::archive::Archives;
use crate::reading::{BlobRead, ReadPlan};
use crate::uses;

/// Paths named per blob.
const PATHS: usize = 20;

/// A damaged blob as an error. Without a tree no paths are named.
pub(crate) fn blob_error(archives: &Archives, tree: Option<&Tree>, blob: &BlobRead, found: String) -> Error {
    let name = archives.get(blob.archive).name();
    blob_error_at(name, tree, blob, (blob.offset, blob.size), found)
}

/// As [`blob_error`] for a blob that lies at `offset` of the file `name` and has `size` bytes.
pub(crate) fn blob_error_at(
    name: &str,
    tree: Option<&Tree>,
    blob: &BlobRead,
    (offset, size): (u64, u64),
    found: String,
) -> Error {
    let nodes: Vec<NodeId> = blob.uses.iter().map(|wanted| wanted.node).collect();
    Error::BlobMismatch {
        file: name.to_owned(),
        expected: blob.sha1,
        found,
        offset,
        size,
        paths: tree.map(|tree| uses::paths(tree, &nodes, PATHS)).unwrap_or_default(),
    }
}

/// Adds to an error about a range of a file which blobs and tables lie in it.
pub(crate) fn explain(error: Error, archives: &Archives, tree: Option<&Tree>, plan: &ReadPlan) -> Error {
    let Error::RangeMismatch { file, index, offset, expected, found, .. } = error else { return error };
    let end = offset.saturating_add(u64::from(gravure_model::descriptor::RANGE_BYTES));
    let mut hits = table_hits(archives.get(0).wim(), offset, end);
    let in_range = plan.blobs.iter().filter(|blob| {
        let stored =
            archives.get(blob.archive).blob(blob.id).map_or(0, |(_, place)| place.header.stored_size);
        blob.archive == 0 && blob.offset < end && blob.offset.saturating_add(stored) > offset
    });
    for blob in in_range.take(PATHS) {
        let nodes: Vec<NodeId> = blob.uses.iter().map(|wanted| wanted.node).collect();
        let path = tree.and_then(|tree| uses::paths(tree, &nodes, 1).pop()).unwrap_or_default();
        hits.push(format!("blob {} {path}", blob.sha1).trim_end().to_owned());
    }
    Error::RangeMismatch { file, index, offset, expected, found, hits }
}

fn table_hits(wim: &Wim, start: u64, end: u64) -> Vec<String> {
    let header = wim.header();
    let mut places =
        vec![("blob table".to_owned(), header.blob_table), ("XML document".to_owned(), header.xml)];
    for image in wim.images() {
        if let Some(metadata) = wim.metadata_resource(image) {
            places.push((format!("metadata of image {}", image.number()), metadata.header));
        }
    }
    let hit = places
        .into_iter()
        .filter(|(_, place)| place.offset < end && place.offset.saturating_add(place.stored_size) > start);
    hit.map(|(name, _)| name).collect()
}

/// The nodes of several trees that use each blob, for a check of a whole file: by SHA-1.
pub(crate) fn users(trees: impl Iterator<Item = Tree>) -> HashMap<gravure_tree::Sha1Hash, Vec<String>> {
    let mut users: HashMap<gravure_tree::Sha1Hash, Vec<String>> = HashMap::new();
    for tree in trees {
        for step in tree.walk() {
            for (_, content) in uses::parts(tree.node(step.entry.node)) {
                if let Some(sha1) = content.sha1.filter(|_| !content.is_empty()) {
                    let paths = users.entry(sha1).or_default();
                    if paths.len() < PATHS {
                        paths.push(step.display_path());
                    }
                }
            }
        }
    }
    users
}

/// Whether a WIM error concerns one image or blob only, so that others can still be looked at.
pub(crate) fn is_local(error: &gravure_wim::Error) -> bool {
    matches!(error.scope(), Scope::Blob | Scope::Image)
}
