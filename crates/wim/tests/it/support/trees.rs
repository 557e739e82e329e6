//! Random trees with everything a WIM can hold, for property tests.
#![allow(unreachable_pub, reason = "a module of several programs")]

use gravure_nttypes::{FileAttributes, FileTime, NtName, ReparseTag};
use gravure_tree::{
    ContentRef, Entry, ExtendedAttribute, NamedStream, Node, NodeId, Reparse, SecurityId, TaggedItem, Times,
    Tree, UnixData,
};
use proptest::prelude::*;

/// What a step adds to the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    FileLink,
    DirectoryLink,
    EncryptedFile,
    EncryptedDirectory,
    /// One more name for an earlier file.
    HardLink,
}

#[derive(Debug, Clone)]
struct Step {
    kind: Kind,
    /// Chooses the directory, and for hard links the file.
    place: prop::sample::Index,
    target: prop::sample::Index,
    name: NtName,
    short_name: Option<NtName>,
    node: Node,
}

/// Any units but those no file name can have: unpaired surrogates, controls, backslashes and all.
fn name(max: usize) -> impl Strategy<Value = NtName> {
    let unit = prop_oneof![
        6 => prop::sample::select("abcXYZ.~ 01".encode_utf16().collect::<Vec<u16>>()),
        1 => any::<u16>(),
        1 => 0xd800u16..0xe000,
    ];
    let units = prop::collection::vec(unit, 1..=max);
    units.prop_map(|mut units| {
        units.iter_mut().filter(|unit| [0, 0x2f].contains(&**unit)).for_each(|unit| *unit = 0x5c);
        if units.len() <= 2 && units.iter().all(|unit| *unit == 0x2e) {
            units.push(0x61);
        }
        NtName::from_units(&units)
    })
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => Just(Vec::new()),
        4 => prop::collection::vec(any::<u8>(), 0..40),
        // Compressible, and long enough for several chunks.
        2 => (any::<u8>(), 0usize..90_000).prop_map(|(byte, len)| vec![byte; len]),
        1 => (any::<u64>(), 32_000usize..70_000).prop_map(|(seed, len)| noise(seed, len)),
    ]
}

/// Bytes no encoder shrinks.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    gravure_testkit::Random::new(seed).fill(&mut bytes);
    bytes
}

prop_compose! {
    fn unix()(uid: u32, gid: u32, mode: u32, rdev: u32) -> UnixData {
        UnixData { uid, gid, mode, rdev }
    }
}

prop_compose! {
    fn attribute()(
        name in prop::collection::vec(1u8.., 1..=20),
        flags in prop::sample::select(vec![0u8, 0x80]),
        value in prop::collection::vec(any::<u8>(), 0..50),
    ) -> ExtendedAttribute {
        ExtendedAttribute { name, flags, value }
    }
}

prop_compose! {
    fn unknown_item()(tag in 0x1000_0000u32..0x2000_0000, data in prop::collection::vec(any::<u8>(), 0..20)) -> TaggedItem {
        TaggedItem { tag, data }
    }
}

prop_compose! {
    fn bare_node()(
        attributes: u32,
        times: [u64; 3],
        security in prop::option::of(0..SECURITY_DESCRIPTORS),
        unix in prop::option::of(unix()),
        extended_attributes in prop::collection::vec(attribute(), 0..3),
        object_id in prop::option::of(prop::collection::vec(any::<u8>(), 16..=64)),
        unknown_items in prop::collection::vec(unknown_item(), 0..2),
        unknown_0x54: u32,
    ) -> Node {
        let kinds = FileAttributes::DIRECTORY | FileAttributes::REPARSE_POINT | FileAttributes::ENCRYPTED;
        Node {
            attributes: FileAttributes(attributes).without(kinds),
            times: Times { created: FileTime(times[0]), accessed: FileTime(times[1]), written: FileTime(times[2]) },
            security: security.map(SecurityId),
            unix,
            extended_attributes,
            object_id,
            unknown_items,
            unknown_0x54,
            ..Node::default()
        }
    }
}

/// Descriptors of every random tree; one is empty, two are equal.
const SECURITY_DESCRIPTORS: u32 = 4;

prop_compose! {
    fn reparse()(tag: u32, reserved: u16, link_flags: u16, data in prop::collection::vec(any::<u8>(), 0..30)) -> Reparse {
        Reparse { tag: ReparseTag(tag), reserved, link_flags, content: ContentRef::inline(data) }
    }
}

prop_compose! {
    fn step()(
        kind in prop::sample::select(vec![
            Kind::File, Kind::File, Kind::File, Kind::Directory, Kind::Directory, Kind::FileLink, Kind::DirectoryLink,
            Kind::EncryptedFile, Kind::EncryptedDirectory, Kind::HardLink, Kind::HardLink,
        ]),
        place: prop::sample::Index,
        target: prop::sample::Index,
        name in name(12),
        short_name in prop::option::weighted(0.2, name(12)),
        node in bare_node(),
        data in content(),
        streams in prop::collection::btree_map(name(6), content(), 0..3),
        reparse in reparse(),
    ) -> Step {
        let mut node = node;
        let named = || streams.iter().map(|(name, bytes)| NamedStream {
            name: name.clone(),
            content: ContentRef::inline(bytes.clone()),
        });
        let encrypted = matches!(kind, Kind::EncryptedFile | Kind::EncryptedDirectory);
        if encrypted {
            node.attributes |= FileAttributes::ENCRYPTED;
        } else {
            node.named_streams = named().collect();
        }
        if matches!(kind, Kind::FileLink | Kind::DirectoryLink) {
            node.attributes |= FileAttributes::REPARSE_POINT;
            node.reparse = Some(reparse);
        }
        let directory = matches!(kind, Kind::Directory | Kind::DirectoryLink | Kind::EncryptedDirectory);
        if directory {
            node.attributes |= FileAttributes::DIRECTORY;
            node.children = Some(Vec::new());
        }
        match kind {
            Kind::File | Kind::FileLink | Kind::HardLink => node.data = Some(ContentRef::inline(data.clone())),
            Kind::EncryptedFile => node.efs = Some(ContentRef::inline(data.clone())),
            Kind::EncryptedDirectory if !data.is_empty() => node.efs = Some(ContentRef::inline(data.clone())),
            Kind::Directory | Kind::DirectoryLink | Kind::EncryptedDirectory => {}
        }
        Step { kind, place, target, name, short_name, node }
    }
}

/// A tree whose contents are all inline.
pub fn tree(max_entries: usize) -> impl Strategy<Value = Tree> {
    (bare_node(), prop::collection::vec(step(), 0..=max_entries)).prop_map(|(root, steps)| build(root, steps))
}

fn build(root: Node, steps: Vec<Step>) -> Tree {
    let mut tree = Tree::new(root);
    tree.set_security_descriptors(vec![
        [1u8; 20].as_slice().into(),
        [].as_slice().into(),
        [1u8; 20].as_slice().into(),
        [7u8; 33].as_slice().into(),
    ]);
    let mut directories: Vec<NodeId> = vec![tree.root()];
    let mut files: Vec<NodeId> = Vec::new();
    for step in steps {
        let parent = *step.place.get(&directories);
        if tree.child(parent, &step.name).is_some() {
            continue;
        }
        if step.kind == Kind::HardLink && !files.is_empty() {
            let node = *step.target.get(&files);
            let entry = Entry { name: step.name, short_name: step.short_name, node };
            tree.link_checked(parent, entry).expect("a file can have a further name");
            continue;
        }
        let id =
            tree.add_checked(parent, step.name, step.short_name, step.node).expect("parent is a directory");
        match step.kind {
            Kind::Directory | Kind::DirectoryLink | Kind::EncryptedDirectory => directories.push(id),
            // Reparse points cannot have a second name in a WIM.
            Kind::File | Kind::EncryptedFile | Kind::HardLink => files.push(id),
            Kind::FileLink => {}
        }
    }
    tree
}
