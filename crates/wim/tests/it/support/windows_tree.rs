//! One tree with everything a Windows volume can hold and every oracle can list.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use gravure_nttypes::{FileAttributes, FileTime, LinkTarget, NtName, ReparseTag};
use gravure_tree::{
    ContentRef, Entry, ExtendedAttribute, NamedStream, Node, NodeId, Reparse, SecurityId, Times, Tree,
};

/// 2023 and a bit per file, so that no two times are equal.
fn times(number: u64) -> Times {
    let time = |add: u64| FileTime(133_000_000_000_000_000 + add * 10_000_000);
    Times {
        created: time(number * 3600),
        accessed: time(number * 3600 + 60),
        written: time(number * 3600 + 7),
    }
}

struct Builder {
    tree: Tree,
    number: u64,
}

impl Builder {
    fn add(&mut self, parent: NodeId, name: &str, short_name: Option<&str>, mut node: Node) -> NodeId {
        self.number += 1;
        node.times = times(self.number);
        let short_name = short_name.map(NtName::from);
        self.tree.add_checked(parent, NtName::from(name), short_name, node).unwrap()
    }

    fn file(&mut self, parent: NodeId, name: &str, content: &[u8]) -> NodeId {
        let node = Node {
            attributes: FileAttributes::ARCHIVE,
            security: Some(SecurityId(1)),
            data: Some(ContentRef::inline(content)),
            ..Node::default()
        };
        self.add(parent, name, None, node)
    }

    fn directory(&mut self, parent: NodeId, name: &str) -> NodeId {
        let node = directory();
        self.add(parent, name, None, node)
    }
}

fn directory() -> Node {
    Node {
        attributes: FileAttributes::DIRECTORY,
        security: Some(SecurityId(0)),
        children: Some(Vec::new()),
        times: times(0),
        ..Node::default()
    }
}

fn reparse(tag: ReparseTag, substitute: &str, print: &str, is_relative: bool) -> Reparse {
    let target = LinkTarget { substitute: substitute.into(), print: print.into(), is_relative };
    Reparse { tag, reserved: 0, link_flags: 1, content: ContentRef::inline(target.to_bytes(tag).unwrap()) }
}

fn text(len: usize) -> Vec<u8> {
    let line = b"Gravure images and deploys operating systems. 0123456789 abcdefghijklmnopqrstuvwxyz\r\n";
    (0..len).map(|at| line[(at * 7 / 5) % line.len()]).collect()
}

/// Self-relative descriptors: owner and group SYSTEM, with no DACL and with an empty one.
fn descriptors() -> Vec<std::sync::Arc<[u8]>> {
    let system = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
    let with = |control: u16, dacl: &[u8]| {
        let mut out = vec![1, 0];
        out.extend_from_slice(&control.to_le_bytes());
        let dacl_at = if dacl.is_empty() { 0u32 } else { 44 };
        for offset in [20u32, 32, 0, dacl_at] {
            out.extend_from_slice(&offset.to_le_bytes());
        }
        out.extend_from_slice(&system);
        out.extend_from_slice(&system);
        out.extend_from_slice(dacl);
        out.into()
    };
    vec![with(0x8000, &[]), with(0x8004, &[2, 0, 8, 0, 0, 0, 0, 0])]
}

/// Streams, links, short names, reparse points, object ids, attributes, sizes at chunk borders, odd names.
pub(crate) fn windows_tree() -> Tree {
    let mut b = Builder { tree: Tree::new(directory()), number: 0 };
    b.tree.set_security_descriptors(descriptors());
    let root = b.tree.root();
    let windows = b.directory(root, "Windows");
    let system = b.directory(windows, "System32");
    b.directory(root, "empty directory");
    for (name, len) in [("empty", 0), ("one", 1), ("chunk", 32_768), ("chunk+1", 32_769), ("many", 200_000)] {
        b.file(system, name, &text(len));
    }
    let noise: Vec<u8> = (0..70_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    b.file(system, "noise.bin", &noise);
    b.file(windows, "Uml\u{e4}ute \u{65e5}\u{672c} \u{1f600}.txt", &text(100));
    b.file(windows, "UPPER.txt", &text(50));

    let node = Node {
        attributes: FileAttributes::HIDDEN | FileAttributes::SYSTEM | FileAttributes::READ_ONLY,
        security: Some(SecurityId(1)),
        data: Some(ContentRef::inline(text(300))),
        object_id: Some((0..64).collect()),
        extended_attributes: vec![ExtendedAttribute {
            name: b"NAME".into(),
            flags: 0x80,
            value: b"v".into(),
        }],
        ..Node::default()
    };
    b.add(windows, "a long name with attributes.config", Some("ALONGN~1.CON"), node);

    let named = |list: &[(&str, &[u8])]| {
        let stream = |(name, content): &(&str, &[u8])| NamedStream {
            name: NtName::from(*name),
            content: ContentRef::inline(*content),
        };
        list.iter().map(stream).collect::<Vec<_>>()
    };
    let mut node = Node { data: Some(ContentRef::inline(text(90))), ..Node::default() };
    node.attributes = FileAttributes::ARCHIVE;
    node.named_streams = named(&[("alpha", &text(50_000)), ("void", b"")]);
    b.add(root, "streams.txt", None, node);
    let mut node = Node { named_streams: named(&[("info", b"of a directory")]), ..directory() };
    node.attributes |= FileAttributes::NOT_INDEXED;
    let streamed = b.add(root, "directory with a stream", Some("DIRECT~1"), node);
    b.file(streamed, "inside", b"inside");

    let link = |attributes, reparse| Node {
        attributes: FileAttributes::REPARSE_POINT | attributes,
        data: Some(ContentRef::empty()),
        reparse: Some(reparse),
        ..Node::default()
    };
    let symlink = reparse(ReparseTag::SYMLINK, "..\\one", "..\\one", true);
    b.add(windows, "file link", None, link(FileAttributes::ARCHIVE, symlink.clone()));
    let mut with_stream = link(FileAttributes::ARCHIVE, symlink);
    with_stream.named_streams = named(&[("k", b"on a link")]);
    b.add(windows, "file link with a stream", None, with_stream);
    let junction = reparse(ReparseTag::MOUNT_POINT, "\\??\\C:\\Windows", "C:\\Windows", false);
    let mut node = link(FileAttributes::DIRECTORY, junction);
    node.data = None;
    node.children = Some(Vec::new());
    b.add(root, "junction", None, node);

    let linked = b.file(windows, "linked 1", &text(400));
    for (parent, name) in [(root, "linked 2"), (system, "linked 3")] {
        let entry = Entry { name: name.into(), short_name: None, node: linked };
        b.tree.link_checked(parent, entry).unwrap();
    }
    let mut node = Node { efs: Some(ContentRef::inline(text(77))), ..Node::default() };
    node.attributes = FileAttributes::ENCRYPTED;
    b.add(root, "encrypted", None, node);
    b.tree
}
