//! Single files and subtrees out of an image.

mod select;

use std::io::Write;
use std::path::Path;

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_nttypes::NtName;
use gravure_tree::{ContentRef, Entry, Node, NodeId, Origin, Sha1Hash, Tree, TreeError};
pub(crate) use select::split_path;
pub use select::{NoMatch, SelectOptions, Selected, Wanted, Wildcards, parse_path_list, select};
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
    let selected: Vec<Selected> = paths.iter().map(|path| at(path, parents)).collect();
    extract_selected(image, &selected, target, options, ctl, observer)
}

/// Puts what was selected into the directory `target`. Where two come to have one name, directories are put together and
/// of files the later one stays.
pub fn extract_selected(
    image: &Image,
    selected: &[Selected],
    target: &Path,
    options: &ApplyOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<ApplyReport, Error> {
    let part = subtree(image.tree(), selected)?;
    apply_to_directory(&image.with_tree(part), target, options, ctl, observer)
}

/// Writes the content of the file at `path` to `out`. What was written before an error was found is not to be trusted.
pub fn extract_to(image: &Image, path: &str, out: &mut dyn Write, ctl: &Ctl) -> Result<u64, Error> {
    extract_selected_to(image, &at(path, Parents::Drop), out, ctl)
}

/// As [`extract_to`] for what was selected.
pub fn extract_selected_to(
    image: &Image,
    selected: &Selected,
    out: &mut dyn Write,
    ctl: &Ctl,
) -> Result<u64, Error> {
    let path = selected.display_path();
    let data = file_content(image.tree(), selected)?;
    stream(image, data, &path, ctl, |bytes| {
        out.write_all(bytes).map_err(Error::io("write", "standard output"))
    })?;
    Ok(data.size)
}

/// The path as it is written, without wildcards.
pub(crate) fn at(path: &str, parents: Parents) -> Selected {
    let names = path.split('/').filter(|name| !name.is_empty()).map(NtName::from).collect();
    Selected { names, parents }
}

/// A small content as a whole; reparse data, which is never larger than a few kilobytes.
pub(crate) fn read_content(image: &Image, content: &ContentRef, path: &str) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    stream(image, content, path, &Ctl::default(), |bytes| {
        out.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(out)
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

/// The content of the file that was selected.
pub(crate) fn file_content<'a>(tree: &'a Tree, selected: &Selected) -> Result<&'a ContentRef, Error> {
    let node = tree.node(find(tree, selected)?);
    let data = node.data.as_ref().filter(|_| node.reparse.is_none());
    data.ok_or_else(|| Error::Unsupported {
        what: "extracting to standard output what is no file",
        value: selected.display_path(),
    })
}

fn find(tree: &Tree, selected: &Selected) -> Result<NodeId, Error> {
    selected.node(tree).ok_or_else(|| Error::NotFound { what: "path", which: selected.display_path() })
}

/// A tree of what was selected alone.
pub(crate) fn subtree(tree: &Tree, selected: &[Selected]) -> Result<Tree, Error> {
    let keeps_parents = selected.iter().any(|one| one.parents == Parents::Keep);
    let root = match keeps_parents {
        true => tree.node(tree.root()).clone(),
        false => Node { unix: None, children: Some(Vec::new()), ..tree.node(tree.root()).clone() },
    };
    let mut part = Tree::new(Node { children: Some(Vec::new()), ..root });
    part.set_security_descriptors(tree.security_descriptors().to_vec());
    // Several names of one file stay one file, also over several paths.
    let mut copies = vec![None; tree.node_count()];
    for one in selected {
        let failed = |error| cannot(&one.display_path(), error);
        let node = find(tree, one)?;
        let Some((last, above)) = one.names.split_last() else {
            let into = part.root();
            graft(tree, node, &mut part, into, &mut copies).map_err(failed)?;
            continue;
        };
        let mut at = part.root();
        let mut from = tree.root();
        for name in above {
            from = tree.child(from, name).map_or(from, |entry| entry.node);
            if one.parents == Parents::Drop {
                continue;
            }
            at = match part.child(at, name) {
                Some(entry) => entry.node,
                None => {
                    let copy = Node { children: Some(Vec::new()), ..tree.node(from).clone() };
                    part.add(at, name.clone(), copy).map_err(failed)?
                }
            };
        }
        let entry = tree.child(from, last).cloned();
        let entry = entry.ok_or_else(|| cannot(&one.display_path(), TreeError::NotFound(last.clone())))?;
        graft_entry(tree, &entry, &mut part, at, &mut copies).map_err(failed)?;
    }
    Ok(part)
}

fn cannot(path: &str, error: TreeError) -> Error {
    Error::Other { what: path.to_owned(), source: Box::new(error), kind: ErrorKind::Failed }
}

/// Puts everything in directory `from` into directory `into` of `part`.
fn graft(
    tree: &Tree,
    from: NodeId,
    part: &mut Tree,
    into: NodeId,
    copies: &mut [Option<NodeId>],
) -> Result<(), TreeError> {
    tree.children(from).iter().try_for_each(|entry| graft_entry(tree, entry, part, into, copies))
}

/// Puts an entry with all below it into directory `into` of `part`, without recursion: an image may be deeper than a
/// stack.
fn graft_entry(
    tree: &Tree,
    entry: &Entry,
    part: &mut Tree,
    into: NodeId,
    copies: &mut [Option<NodeId>],
) -> Result<(), TreeError> {
    // With each entry, whether the directory it goes to may have one of its name.
    let mut todo = vec![(entry, into, true)];
    while let Some((entry, into, is_shared)) = todo.pop() {
        let original = tree.node(entry.node);
        let existing = if is_shared { part.child(into, &entry.name).map(|there| there.node) } else { None };
        let below = match existing {
            Some(there) if part.node(there).is_directory() && original.is_directory() => Some((there, true)),
            Some(there) if part.node(there).is_directory() || original.is_directory() => {
                return Err(TreeError::Exists(entry.name.clone()));
            }
            Some(_) => {
                part.remove(into, &entry.name)?;
                None
            }
            None => None,
        };
        let (id, is_shared) = match (below, copies[entry.node.index()]) {
            (Some(below), _) => below,
            (None, Some(known)) if !original.is_directory() => {
                part.link_checked(into, Entry { node: known, ..entry.clone() })?;
                continue;
            }
            (None, _) => {
                let children = original.children.as_ref().map(|_| Vec::new());
                let copy = Node { children, ..original.clone() };
                let id = part.add_checked(into, entry.name.clone(), entry.short_name.clone(), copy)?;
                copies[entry.node.index()] = Some(id);
                (id, false)
            }
        };
        todo.extend(tree.children(entry.node).iter().rev().map(|entry| (entry, id, is_shared)));
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
            let wanted: Vec<Selected> = wanted.iter().map(|path| at(path, parents)).collect();
            subtree(&tree, &wanted)
        };
        assert_eq!(paths(&part(&["/a/b"], Parents::Drop).unwrap()), ["/b", "/b/f"]);
        assert_eq!(paths(&part(&["a/b/f", "/h"], Parents::Keep).unwrap()), ["/a", "/a/b", "/a/b/f", "/h"]);
        assert_eq!(paths(&part(&["/"], Parents::Drop).unwrap()), ["/a", "/a/b", "/a/b/f", "/a/g", "/h"]);
        let linked = part(&["/a/b/f", "/a/g"], Parents::Drop).unwrap();
        assert_eq!(linked.lookup("f"), linked.lookup("g"));
        assert_eq!(part(&["/nope"], Parents::Drop).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(paths(&part(&["/h", "/h"], Parents::Drop).unwrap()), ["/h"]);
    }
    #[test]
    fn equal_names_are_put_together() {
        let dir = || Node { children: Some(Vec::new()), ..Node::default() };
        let file = |bytes: &[u8]| Node { data: Some(ContentRef::inline(bytes)), ..Node::default() };
        let mut tree = Tree::new(dir());
        for (top, names) in [("d1", ["a", "b"]), ("d2", ["b", "c"])] {
            let above = tree.add(tree.root(), top.into(), dir()).unwrap();
            let s = tree.add(above, "s".into(), dir()).unwrap();
            for name in names {
                tree.add(s, name.into(), file(top.as_bytes())).unwrap();
            }
        }
        tree.add(tree.root(), "s".into(), file(b"file")).unwrap();
        let both = [at("/d1/s", Parents::Drop), at("/d2/s", Parents::Drop)];
        let part = subtree(&tree, &both).unwrap();
        assert_eq!(paths(&part), ["/s", "/s/a", "/s/b", "/s/c"]);
        let b = part.lookup("/s/b").unwrap();
        assert_eq!(part.node(b).data, Some(ContentRef::inline(*b"d2")));
        let clash = [at("/d1/s", Parents::Drop), at("/s", Parents::Drop)];
        assert!(subtree(&tree, &clash).unwrap_err().to_string().contains("/s"));
    }
}
