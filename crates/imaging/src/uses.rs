//! Which files use a content, and as what.

use gravure_tree::{ContentRef, Node, NodeId, Tree};

/// What a content is to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Unnamed data.
    Data,
    /// Reparse data.
    Reparse,
    /// EFS raw data.
    Efs,
    /// A named stream, by index.
    Named(usize),
}

/// One use of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Use {
    pub(crate) node: NodeId,
    pub(crate) part: Part,
}

/// The contents of `node` with what they are to it.
pub(crate) fn parts(node: &Node) -> impl Iterator<Item = (Part, &ContentRef)> {
    let reparse = node.reparse.iter().map(|reparse| (Part::Reparse, &reparse.content));
    let data = node.data.iter().map(|data| (Part::Data, data));
    let efs = node.efs.iter().map(|efs| (Part::Efs, efs));
    let named = node.named_streams.iter().enumerate().map(|(n, stream)| (Part::Named(n), &stream.content));
    reparse.chain(data).chain(efs).chain(named)
}

/// The content `part` of `node`, to change it.
pub(crate) fn part_mut(node: &mut Node, part: Part) -> Option<&mut ContentRef> {
    match part {
        Part::Data => node.data.as_mut(),
        Part::Reparse => node.reparse.as_mut().map(|reparse| &mut reparse.content),
        Part::Efs => node.efs.as_mut(),
        Part::Named(n) => node.named_streams.get_mut(n).map(|stream| &mut stream.content),
    }
}

/// Nodes of `tree` in the order of a walk, each once, the root first.
pub(crate) fn nodes(tree: &Tree) -> impl Iterator<Item = NodeId> + '_ {
    let mut seen = vec![false; tree.node_count()];
    let below = tree.walk().map(|step| step.entry.node);
    std::iter::once(tree.root())
        .chain(below)
        .filter(move |id| !std::mem::replace(&mut seen[id.index()], true))
}

/// Paths of the nodes in `wanted`, all names of each, at most `limit` in all: for messages.
pub(crate) fn paths(tree: &Tree, wanted: &[NodeId], limit: usize) -> Vec<String> {
    let steps = tree.walk().filter(|step| wanted.contains(&step.entry.node));
    steps.take(limit).map(|step| step.display_path()).collect()
}
