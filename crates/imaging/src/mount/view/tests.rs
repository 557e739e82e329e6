//! The view on a tree that has of everything.

use std::ffi::OsStr;

use fuser::{FileType, INodeNo};
use gravure_nttypes::{FileAttributes, FileTime, LinkTarget, ReparseTag};
use gravure_tree::{ContentRef, ExtendedAttribute, NamedStream, Node, Reparse, Times, Tree, UnixData};
use gravure_wim::ImageIndex;

use super::*;

fn dir() -> Node {
    Node { children: Some(Vec::new()), ..Node::default() }
}

fn tree() -> Tree {
    let mut tree = Tree::new(dir());
    let root = tree.root();
    let d = tree.add(root, "d".into(), dir()).unwrap();
    let acl = tree.add_security_descriptor(b"descriptor").unwrap();
    let stream =
        |name: &str, bytes: &[u8]| NamedStream { name: name.into(), content: ContentRef::inline(bytes) };
    let file = Node {
        data: Some(ContentRef::inline(*b"content")),
        attributes: FileAttributes::READ_ONLY,
        times: Times { written: FileTime::from_unix(-5, 100), ..Times::default() },
        security: Some(acl),
        object_id: Some(vec![7; 16]),
        named_streams: vec![stream("s1", b"one"), stream("s2", b"second")],
        extended_attributes: vec![ExtendedAttribute {
            name: b"user.s2".to_vec(),
            flags: 0,
            value: b"stored".to_vec(),
        }],
        ..Node::default()
    };
    let file = tree.add(d, "file".into(), file).unwrap();
    tree.link(root, "link".into(), file).unwrap();
    let unix = |mode, rdev| Some(UnixData { uid: 3, gid: 4, mode, rdev });
    let device = Node { unix: unix(0o020_640, 0x801), data: Some(ContentRef::empty()), ..Node::default() };
    tree.add(root, "device".into(), device).unwrap();
    let target = |text: &str| LinkTarget::from_unix(&text.into()).to_bytes(ReparseTag::SYMLINK).unwrap();
    let link = |text: &str, link_flags| Node {
        attributes: FileAttributes::REPARSE_POINT,
        reparse: Some(Reparse {
            tag: ReparseTag::SYMLINK,
            reserved: 0,
            link_flags,
            content: ContentRef::inline(target(text)),
        }),
        ..Node::default()
    };
    tree.add(root, "rebased".into(), link("/d", 0)).unwrap();
    tree.add(root, "kept".into(), link("/d", 1)).unwrap();
    let opaque = Node {
        attributes: FileAttributes::REPARSE_POINT,
        reparse: Some(Reparse {
            tag: ReparseTag::WOF,
            reserved: 0,
            link_flags: 0,
            content: ContentRef::inline(*b"x"),
        }),
        ..Node::default()
    };
    tree.add(root, "opaque".into(), opaque).unwrap();
    tree.add(root, "x".repeat(2000).as_str().into(), dir()).unwrap();
    tree
}

fn view(options: &MountOptions, base: Option<&str>) -> View {
    let index = ImageIndex::from_number(1).unwrap();
    let image = Image::without_files(index, tree(), Vec::new());
    View::new(&image, options, base.map(PathBuf::from))
}

fn find(view: &View, path: &str) -> Option<Inode> {
    let mut at = Inode::Node(view.tree().root());
    for name in path.split('/') {
        let Inode::Node(dir) = at else { return None };
        at = view.lookup(dir, OsStr::new(name))?;
    }
    Some(at)
}

#[test]
fn inodes_and_names_lead_to_each_other() {
    let view = view(&MountOptions { streams: StreamNames::Windows, ..MountOptions::default() }, None);
    let root = view.tree().root();
    assert_eq!(view.number(Inode::Node(root)), INodeNo::ROOT);
    let file = find(&view, "d/file").unwrap();
    assert_eq!(find(&view, "link"), Some(file), "hard links are one inode");
    let stream = find(&view, "link:s2").unwrap();
    for inode in [Inode::Node(root), file, stream, find(&view, "d/file:s1").unwrap()] {
        assert_eq!(view.inode(view.number(inode)), Some(inode));
    }
    assert_eq!(view.attributes(stream, || 0).size, 6);
    assert_eq!(view.content(stream).unwrap().size, 6);
    for path in ["nothing", "link:s3", "nothing:s1", "d/file/x", "d:s1"] {
        assert_eq!(find(&view, path), None, "{path}");
    }
    for number in [0, 1000, u64::MAX] {
        assert_eq!(view.inode(INodeNo(number)), None);
    }
}

#[test]
fn a_directory_is_read_on_from_any_position() {
    let view = view(&MountOptions::default(), None);
    let root = view.tree().root();
    let all: Vec<_> = view.entries(root, 0).map(|(next, _, name)| (next, name)).collect();
    let names: Vec<&str> = all.iter().map(|(_, name)| name.to_str().unwrap()).collect();
    assert_eq!(names, [".", "..", "d", "link", "device", "rebased", "kept", "opaque"]);
    for (position, (next, _)) in all.iter().enumerate() {
        let rest: Vec<_> = view.entries(root, *next).map(|(next, _, name)| (next, name)).collect();
        assert_eq!(rest, all[position + 1..], "behind {position}");
    }
    let Some(Inode::Node(d)) = find(&view, "d") else { panic!() };
    let above: Vec<NodeId> = view.entries(d, 0).map(|(_, id, _)| id).take(2).collect();
    assert_eq!(above, [d, root]);
    assert!(view.left_out()[0].contains("more than 1024 bytes"), "{:?}", view.left_out());
}

#[test]
fn attributes_are_those_of_the_image_or_of_whoever_mounts() {
    let shown = view(&MountOptions::default(), None);
    let plain =
        MountOptions { unix: UnixMetadata::Leave, plain_mode: Some(0o777), ..MountOptions::default() };
    let plain = view(&plain, None);
    let of = |view: &View, path: &str| {
        let found = view.attributes(find(view, path).unwrap(), || 9);
        (found.kind, found.perm, found.size, found.nlink, found.rdev)
    };
    assert_eq!(of(&shown, "link"), (FileType::RegularFile, 0o444, 7, 2, 0));
    assert_eq!(of(&plain, "link"), (FileType::RegularFile, 0o777, 7, 2, 0));
    assert_eq!(of(&shown, "device"), (FileType::CharDevice, 0o640, 0, 1, 0x801));
    assert_eq!(of(&plain, "device"), (FileType::RegularFile, 0o777, 0, 1, 0));
    assert_eq!(of(&shown, "kept"), (FileType::Symlink, 0o777, 9, 1, 0));
    assert_eq!(of(&shown, "d"), (FileType::Directory, 0o755, 0, 1, 0));
    let device = shown.attributes(find(&shown, "device").unwrap(), || 0);
    assert_eq!((device.uid, device.gid), (3, 4));
    let file = shown.attributes(find(&shown, "link").unwrap(), || 0);
    assert_eq!((file.uid, file.gid), gravure_linux::process::owner());
    assert_eq!(file.mtime, UNIX_EPOCH - Duration::from_secs(5) + Duration::from_nanos(100));
    // A stub of something that is elsewhere is there, but has no content that could be given out as the file's.
    assert_eq!(of(&shown, "opaque").0, FileType::RegularFile);
    assert_eq!(shown.content(find(&shown, "opaque").unwrap()), None);
}

#[test]
fn links_follow_the_mount_when_they_were_captured_so() {
    let target = |base, path: &str| {
        let view = view(&MountOptions::default(), base);
        let Some(Inode::Node(id)) = find(&view, path) else { panic!() };
        let data = LinkTarget::from_unix(&"/d".into()).to_bytes(ReparseTag::SYMLINK).unwrap();
        view.link_target(id, &data).unwrap()
    };
    assert_eq!(target(Some("/mnt"), "rebased"), "/mnt/d");
    assert_eq!(target(Some("/mnt"), "kept"), "/d");
    assert_eq!(target(None, "rebased"), "/d");
}

#[test]
fn streams_and_what_windows_knows_are_attributes() {
    let shown = view(&MountOptions::default(), None);
    let Some(Inode::Node(file)) = find(&shown, "link") else { panic!() };
    assert_eq!(shown.attribute_names(file), [b"user.s2".to_vec(), b"user.s1".to_vec()]);
    let value = |name: &str| match shown.attribute(file, OsStr::new(name)) {
        Some(Attribute::Value(value)) => value,
        Some(Attribute::Content(content)) => format!("{} bytes", content.size).into_bytes(),
        None => b"none".to_vec(),
    };
    for (name, expected) in [
        ("user.s1", &b"3 bytes"[..]),
        ("user.s2", b"stored"),
        ("user.s3", b"none"),
        ("system.ntfs_acl", b"descriptor"),
        ("system.ntfs_attrib", &[1, 0, 0, 0]),
        ("system.ntfs_object_id", &[7; 16]),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
    let none = view(&MountOptions { streams: StreamNames::None, ..MountOptions::default() }, None);
    assert_eq!(none.attribute_names(file), [b"user.s2".to_vec()]);
    let leave = view(&MountOptions { unix: UnixMetadata::Leave, ..MountOptions::default() }, None);
    assert_eq!(leave.attribute_names(file), [b"user.s1".to_vec(), b"user.s2".to_vec()]);
}
