//! Single files and subtrees out of an image.

use std::io::Write;
use std::path::Path;

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_nttypes::NtName;
use gravure_tree::{ContentRef, Node, NodeId, Origin, Sha1Hash, Tree, TreeError};
use sha1::{Digest, Sha1};

use crate::apply::{ApplyOptions, ApplyReport, apply_to_directory};
use crate::reading::Decoders;
use crate::{Error, ErrorKind, Image};

/// Whether the directories above an extracted path are made too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parents {
    /// The last name of each path goes right into the target.
    #[default]
    Drop,
    /// Paths are kept, with their directories' owners, modes and times.
    Keep,
}

/// Puts the files and directories at `paths` into the directory `target`, which is made when it is not there.
pub fn extract(
    image: &Image,
    paths: &[String],
    parents: Parents,
    target: &Path,
    options: &ApplyOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<ApplyReport, Error> {
    let part = subtree(image.tree(), paths, parents)?;
    apply_to_directory(&image.with_tree(part), target, options, ctl, observer)
}

/// Writes the content of the file at `path` to `out`. What was written before an error was found is not to be trusted.
pub fn extract_to(image: &Image, path: &str, out: &mut dyn Write, ctl: &Ctl) -> Result<u64, Error> {
    let data = file_content(image.tree(), path)?;
    stream(image, data, path, ctl, |bytes| {
        out.write_all(bytes).map_err(Error::io("write", "standard output"))
    })?;
    Ok(data.size)
}

/// Hands out a content chunk by chunk on this thread and checks its hash at the end.
fn stream(
    image: &Image,
    content: &ContentRef,
    path: &str,
    ctl: &Ctl,
    mut give: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let (archive, id) = match &content.origin {
        Origin::Empty => return Ok(()),
        Origin::Inline(bytes) => return give(bytes),
        Origin::Source { source, key } => image.archives().find(*source, *key),
        _ => None,
    }
    .ok_or_else(|| Error::Other {
        what: path.to_owned(),
        source: "its content is in none of the opened files".into(),
        kind: ErrorKind::NotFound,
    })?;
    let archive = image.archives().get(archive);
    let (blob, resource) = archive.blob(id)?;
    let mismatch = |found: String| Error::BlobMismatch {
        file: archive.name().to_owned(),
        expected: blob.sha1,
        found,
        offset: resource.header.offset,
        size: blob.size,
        paths: vec![path.to_owned()],
    };
    let layout = archive.layout(archive.source(), id).map_err(Error::wim(archive.name()))?;
    let mut decoders = Decoders::default();
    let mut hasher = Sha1::new();
    let (mut stored, mut plain) = (Vec::new(), Vec::new());
    let wanted = blob.offset..blob.offset.saturating_add(blob.size);
    // A blob that goes beyond its resource was refused with the blob table.
    for chunk in layout.chunks(wanted.clone()) {
        ctl.check()?;
        stored.resize(usize::try_from(chunk.stored.end - chunk.stored.start).unwrap_or(usize::MAX), 0);
        let read = archive.source().read_exact_at(chunk.stored.start, &mut stored);
        read.map_err(|error| archive.read_error(chunk.stored.start, error))?;
        plain.resize(chunk.plain_len as usize, 0);
        decoders.decode(chunk.encoding, &stored, &mut plain).map_err(mismatch)?;
        let inside = |at: u64| usize::try_from(at.saturating_sub(chunk.plain_offset)).unwrap_or(usize::MAX);
        let part = &plain[inside(wanted.start)..inside(wanted.end).min(plain.len())];
        hasher.update(part);
        give(part)?;
    }
    let found = Sha1Hash(hasher.finalize().into());
    if found == blob.sha1 { Ok(()) } else { Err(mismatch(format!("SHA-1 {found}"))) }
}

/// The content of the file at `path`.
pub(crate) fn file_content<'a>(tree: &'a Tree, path: &str) -> Result<&'a ContentRef, Error> {
    let node = tree.node(find(tree, path)?);
    let data = node.data.as_ref().filter(|_| node.reparse.is_none());
    data.ok_or_else(|| Error::Unsupported {
        what: "extracting to standard output what is no file",
        value: path.to_owned(),
    })
}

fn find(tree: &Tree, path: &str) -> Result<NodeId, Error> {
    tree.lookup(path).ok_or_else(|| Error::NotFound { what: "path", which: path.to_owned() })
}

/// A tree of the nodes at `paths` alone.
pub(crate) fn subtree(tree: &Tree, paths: &[String], parents: Parents) -> Result<Tree, Error> {
    let root = match parents {
        Parents::Keep => tree.node(tree.root()).clone(),
        Parents::Drop => Node { unix: None, children: Some(Vec::new()), ..tree.node(tree.root()).clone() },
    };
    let mut part = Tree::new(Node { children: Some(Vec::new()), ..root });
    part.set_security_descriptors(tree.security_descriptors().to_vec());
    // Several names of one file stay one file, also over several paths.
    let mut copies = vec![None; tree.node_count()];
    for path in paths {
        let node = find(tree, path)?;
        let names: Vec<NtName> = path.split('/').filter(|name| !name.is_empty()).map(NtName::from).collect();
        let Some((last, above)) = names.split_last() else {
            for entry in tree.children(tree.root()) {
                let (into, name) = (part.root(), entry.name.clone());
                copy(tree, entry.node, &mut part, into, name, &mut copies)
                    .map_err(|error| cannot(path, error))?;
            }
            continue;
        };
        let mut at = part.root();
        if parents == Parents::Keep {
            let mut from = tree.root();
            for name in above {
                from = tree.child(from, name).map_or(from, |entry| entry.node);
                at = match part.child(at, name) {
                    Some(entry) => entry.node,
                    None => {
                        let copy = Node { children: Some(Vec::new()), ..tree.node(from).clone() };
                        part.add(at, name.clone(), copy).map_err(|error| cannot(path, error))?
                    }
                };
            }
        }
        copy(tree, node, &mut part, at, last.clone(), &mut copies).map_err(|error| cannot(path, error))?;
    }
    Ok(part)
}

fn cannot(path: &str, error: TreeError) -> Error {
    Error::Other { what: path.to_owned(), source: Box::new(error), kind: ErrorKind::Failed }
}

/// Copies a node with all below it, without recursion: an image may be deeper than a stack.
fn copy(
    tree: &Tree,
    node: NodeId,
    part: &mut Tree,
    into: NodeId,
    name: NtName,
    copies: &mut [Option<NodeId>],
) -> Result<(), TreeError> {
    let mut todo = vec![(node, into, name)];
    while let Some((node, into, name)) = todo.pop() {
        let original = tree.node(node);
        if let (Some(known), false) = (copies[node.index()], original.is_directory()) {
            part.link(into, name, known)?;
            continue;
        }
        let children = original.children.as_ref().map(|_| Vec::new());
        let id = part.add(into, name, Node { children, ..original.clone() })?;
        copies[node.index()] = Some(id);
        todo.extend(tree.children(node).iter().map(|entry| (entry.node, id, entry.name.clone())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tree {
        let dir = || Node { children: Some(Vec::new()), ..Node::default() };
        let file = || Node { data: Some(ContentRef::inline(*b"x")), ..Node::default() };
        let mut tree = Tree::new(dir());
        let a = tree.add(tree.root(), "a".into(), dir()).unwrap();
        let b = tree.add(a, "b".into(), dir()).unwrap();
        let f = tree.add(b, "f".into(), file()).unwrap();
        tree.link(a, "g".into(), f).unwrap();
        tree.add(tree.root(), "h".into(), file()).unwrap();
        tree
    }

    fn paths(tree: &Tree) -> Vec<String> {
        let mut paths: Vec<String> = tree.walk().map(|step| step.display_path()).collect();
        paths.sort();
        paths
    }

    #[test]
    fn a_part_has_what_was_asked_for() {
        let tree = sample();
        let part = |wanted: &[&str], parents| {
            let wanted: Vec<String> = wanted.iter().map(|path| (*path).to_owned()).collect();
            subtree(&tree, &wanted, parents)
        };
        assert_eq!(paths(&part(&["/a/b"], Parents::Drop).unwrap()), ["/b", "/b/f"]);
        assert_eq!(paths(&part(&["a/b/f", "/h"], Parents::Keep).unwrap()), ["/a", "/a/b", "/a/b/f", "/h"]);
        assert_eq!(paths(&part(&["/"], Parents::Drop).unwrap()), ["/a", "/a/b", "/a/b/f", "/a/g", "/h"]);
        let linked = part(&["/a/b/f", "/a/g"], Parents::Drop).unwrap();
        assert_eq!(linked.lookup("f"), linked.lookup("g"));
        assert_eq!(part(&["/nope"], Parents::Drop).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(part(&["/h", "/h"], Parents::Drop).unwrap_err().to_string().contains("/h"));
    }
}
