//! Whether a tree read from a volume is the one that was written to it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "imaging's tests use a part of it")]

use std::collections::HashMap;

use gravure_io::ReadAt;
use gravure_ntfs::{Contents, Decoders, Scan, ScanGuide, Volume};
use gravure_nttypes::NtName;
use gravure_tree::{ContentRef, Node, NodeId, Origin, SourceId, Tree};

/// Takes everything; keeps what it is warned of.
#[derive(Debug, Default)]
pub struct TakeAll {
    pub warnings: Vec<String>,
}

impl ScanGuide for TakeAll {
    fn warn(&mut self, message: String) {
        self.warnings.push(message);
    }
}

/// Scans a volume that must be whole.
pub fn scan(source: &dyn ReadAt) -> (Volume, Scan) {
    let volume = Volume::open(source).unwrap();
    assert_eq!(volume.state().unclean(), None);
    let mut guide = TakeAll::default();
    let scan = volume.scan(source, SourceId(9), &mut guide).unwrap();
    assert_eq!(guide.warnings, Vec::<String>::new());
    (volume, scan)
}

/// The bytes of a content of a scanned volume.
pub fn read(source: &dyn ReadAt, volume: &Volume, contents: &Contents, content: &ContentRef) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(content.size).unwrap()];
    match &content.origin {
        Origin::Source { key, .. } => {
            let mut decoders = Decoders::default();
            // In two pieces of odd length, as pieces may come.
            let middle = bytes.len() / 3;
            let (first, second) = bytes.split_at_mut(middle);
            contents.read(volume, source, *key, middle as u64, second, &mut decoders).unwrap();
            contents.read(volume, source, *key, 0, first, &mut decoders).unwrap();
        }
        Origin::Inline(inline) => bytes.copy_from_slice(inline),
        _ => {}
    }
    bytes
}

fn inline(content: &ContentRef) -> &[u8] {
    match &content.origin {
        Origin::Inline(bytes) => bytes,
        Origin::Empty => &[],
        other => panic!("{other:?}"),
    }
}

/// Compares everything but contents of the two trees' nodes.
fn compare_nodes(expected: &Node, found: &Node, path: &str) {
    assert_eq!(found.attributes, expected.attributes, "{path}");
    assert_eq!(found.times, expected.times, "{path}");
    // With birth ids of zeros where it had none.
    let whole = |node: &Node| {
        node.object_id.clone().map(|mut id| {
            id.resize(64, 0);
            id
        })
    };
    assert_eq!(whole(found), whole(expected), "{path}");
    assert_eq!(found.extended_attributes, expected.extended_attributes, "{path}");
    assert_eq!(found.is_directory(), expected.is_directory(), "{path}");
    let reparse =
        |node: &Node| node.reparse.as_ref().map(|one| (one.tag, one.reserved, inline(&one.content).to_vec()));
    assert_eq!(reparse(found), reparse(expected), "{path}");
}

/// Compares two trees, the first with inline contents. Returns the number of names.
pub fn compare(expected: &Tree, source: &dyn ReadAt, volume: &Volume, scan: &Scan) -> usize {
    let tree = &scan.tree;
    let mut partners: HashMap<NodeId, NodeId> = HashMap::new();
    let mut todo = vec![(expected.root(), tree.root(), String::new())];
    let mut count = 0;
    while let Some((want, have, path)) = todo.pop() {
        compare_nodes(expected.node(want), tree.node(have), &path);
        let descriptor = |tree: &Tree, id: NodeId| {
            let security = tree.node(id).security?;
            tree.security_descriptors().get(security.0 as usize).cloned()
        };
        if let Some(expected) = descriptor(expected, want) {
            // Descriptors are padded to four bytes.
            let found = descriptor(tree, have).unwrap_or_else(|| panic!("{path}: no descriptor"));
            assert!(found.starts_with(&expected) && found.len() < expected.len() + 4, "{path}: descriptor");
        }
        let (a, b) = (expected.node(want), tree.node(have));
        let contents = |node: &Node| {
            let mut all: Vec<(NtName, ContentRef)> = node
                .named_streams
                .iter()
                .map(|stream| (stream.name.clone(), stream.content.clone()))
                .collect();
            all.extend(node.data.iter().map(|data| (NtName::default(), data.clone())));
            all.sort_by(|a, b| a.0.units().cmp(b.0.units()));
            all
        };
        let (wanted, there) = (contents(a), contents(b));
        let names =
            |list: &[(NtName, ContentRef)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&there), names(&wanted), "{path}: streams");
        for ((name, wanted), (_, there)) in wanted.iter().zip(&there) {
            assert_eq!(there.size, wanted.size, "{path}:{name}");
            assert!(read(source, volume, &scan.contents, there) == inline(wanted), "{path}:{name}");
        }
        let mut entries: Vec<_> = tree.children(have).iter().collect();
        for entry in expected.children(want) {
            let path = format!("{path}/{}", entry.name);
            let position = entries.iter().position(|other| other.name == entry.name);
            let other = entries.swap_remove(position.unwrap_or_else(|| panic!("{path} is missing")));
            // A name that is its own short name has none beside it.
            let upper = |name: &NtName| name.to_string().to_uppercase();
            let short_name = entry.short_name.clone().filter(|short| upper(short) != upper(&entry.name));
            assert_eq!(other.short_name, short_name, "{path}");
            count += 1;
            match partners.insert(entry.node, other.node) {
                None => todo.push((entry.node, other.node, path)),
                Some(known) => assert_eq!(known, other.node, "{path}: link"),
            }
        }
        assert!(entries.is_empty(), "{path}: {entries:?}");
    }
    count
}
