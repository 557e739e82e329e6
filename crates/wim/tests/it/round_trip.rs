//! What is written comes back: random trees with everything a WIM holds, through every compression, and the rules of
//! the writer.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::support::{Content, add_image, dump_inline, make_wim, open, options, read_image};
use crate::trees::{noise, tree};
use gravure_codec::Level;
use gravure_io::{MemoryDisk, ReadAt};
use gravure_nttypes::{FileAttributes, FileTime, Guid, NtName, ReparseTag};
use gravure_testkit::{FaultyDisk, Operation};
use gravure_tree::{ContentRef, NamedStream, Node, Origin, Reparse, SecurityId, Sha1Hash, Tree};
use gravure_wim::{
    BlobOutcome, ChunkData, Compression, ImageCounts, ImageIndex, ImageInfo, Metadata, Method, ResourceFlags,
    WimWriter, WriteOptions, image_counts,
};
use proptest::prelude::*;

fn compressions() -> Vec<Option<Compression>> {
    let new = |method, size| Some(Compression::new(method, size).unwrap());
    vec![
        None,
        new(Method::Xpress, 1 << 12),
        new(Method::Xpress, 1 << 15),
        new(Method::Xpress, 1 << 16),
        new(Method::Lzx, 1 << 15),
    ]
}

fn directory() -> Node {
    Node { children: Some(Vec::new()), attributes: FileAttributes::DIRECTORY, ..Node::default() }
}

fn file(content: &[u8]) -> Node {
    Node { data: Some(ContentRef::inline(content)), ..Node::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_tree_survives(tree in tree(24), compression in prop::sample::select(compressions())) {
        let bytes = make_wim(&tree, &WriteOptions { compression, ..options() });
        let (wim, warnings) = open(&bytes).unwrap();
        prop_assert_eq!(warnings, []);
        let (found, warnings) = read_image(&bytes, 1).unwrap();
        prop_assert_eq!(warnings, []);
        prop_assert_eq!(found, dump_inline(&tree));
        let table = wim.read_integrity(&bytes).unwrap().unwrap();
        prop_assert_eq!(table.verify(&bytes).unwrap(), []);
        // Once more from what was read: the same bytes, so nothing depends on the order of the tree.
        let image = ImageIndex::from_number(1).unwrap();
        let metadata = wim.read_metadata(&bytes, image, &Default::default()).unwrap();
        let read = wim.read_image(&bytes, image, gravure_tree::SourceId(0), &Default::default()).unwrap().value;
        prop_assert_eq!(Metadata::from_tree(&read).unwrap().bytes, metadata);
    }

    #[test]
    fn the_same_tree_gives_the_same_file(tree in tree(12)) {
        prop_assert_eq!(make_wim(&tree, &options()), make_wim(&tree, &options()));
    }

    #[test]
    fn images_can_be_appended_in_any_number(trees in prop::collection::vec(tree(8), 1..4)) {
        let disk = MemoryDisk::new(0, 1);
        let mut writer = WimWriter::create(&disk, &options()).unwrap();
        add_image(&mut writer, &trees[0], ImageInfo::new("0")).unwrap();
        writer.finish().unwrap();
        for (number, tree) in trees.iter().enumerate().skip(1) {
            let (wim, _) = open(&disk.to_vec()).unwrap();
            let mut writer = WimWriter::append(&disk, &wim).unwrap();
            add_image(&mut writer, tree, ImageInfo::new(&number.to_string())).unwrap();
            writer.finish_with_integrity().unwrap();
        }
        let bytes = disk.to_vec();
        let (wim, warnings) = open(&bytes).unwrap();
        prop_assert_eq!(warnings, []);
        prop_assert_eq!(wim.image_count() as usize, trees.len());
        for (number, tree) in (1..).zip(&trees) {
            prop_assert_eq!(read_image(&bytes, number).unwrap().0, dump_inline(tree));
        }
        let mut hashes: Vec<Sha1Hash> = wim.blobs().map(|(_, blob)| blob.sha1).collect();
        hashes.sort();
        hashes.dedup();
        prop_assert_eq!(hashes.len(), wim.blobs().len());
    }
}

/// A tree of plain files under the root.
fn files(list: &[(&str, &[u8])]) -> Tree {
    let mut tree = Tree::new(directory());
    let root = tree.root();
    for (name, content) in list {
        tree.add(root, NtName::from(*name), file(content)).unwrap();
    }
    tree
}

#[test]
fn content_is_stored_once_and_references_are_counted() {
    let mut tree = files(&[("a", b"same"), ("b", b"same"), ("c", b"other"), ("empty", b"")]);
    let c = tree.lookup("c").unwrap();
    tree.link(tree.root(), "d".into(), c).unwrap();
    let disk = MemoryDisk::new(0, 1);
    let mut writer = WimWriter::create(&disk, &options()).unwrap();
    add_image(&mut writer, &tree, ImageInfo::new("one")).unwrap();
    add_image(&mut writer, &files(&[("x", b"same")]), ImageInfo::new("two")).unwrap();
    writer.set_boot_image(ImageIndex::from_number(2)).unwrap();
    writer.finish().unwrap();
    let (wim, warnings) = open(&disk.to_vec()).unwrap();
    assert_eq!(warnings, []);
    let mut references: Vec<(u64, u32)> = wim.blobs().map(|(_, blob)| (blob.size, blob.references)).collect();
    references.sort_unstable();
    assert_eq!(references, [(4, 3), (5, 2)]);
    assert_eq!(wim.boot_image().map(ImageIndex::number), Some(2));
    let names: Vec<_> = wim.info().images().filter_map(|image| image.name()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(wim.info().total_bytes(), Some(wim.header().xml.offset));
}

#[test]
fn a_resource_that_does_not_shrink_is_stored_raw() {
    // One chunk shrinks by a little, by less than the chunk table takes: the whole must become raw again.
    let compression = Compression::new(Method::Xpress, 1 << 12).unwrap();
    let mut content = noise(1, 400 * 4096);
    content[7 * 4096..8 * 4096 - 2700].fill(0);
    let disk = MemoryDisk::new(0, 1);
    let options = WriteOptions { compression: Some(compression), ..options() };
    let mut writer = WimWriter::create(&disk, &options).unwrap();
    let before = writer.len();
    add_image(&mut writer, &files(&[("noise", &content)]), ImageInfo::new("n")).unwrap();
    assert!(writer.len() > before);
    writer.finish_with_integrity().unwrap();
    let bytes = disk.to_vec();
    let (wim, _) = open(&bytes).unwrap();
    let resource = &wim.resources()[0].header;
    assert!(!resource.flags.contains(ResourceFlags::COMPRESSED));
    assert_eq!(resource.stored_size, content.len() as u64);
    assert_eq!(bytes[208..208 + content.len()], content);
    let (found, _) = read_image(&bytes, 1).unwrap();
    assert_eq!(found[&vec![NtName::from("noise")]].data, Some(Content::Bytes(content)));
}

#[test]
fn incompressible_content_is_not_written_twice() {
    let disk = FaultyDisk::counting(MemoryDisk::new(0, 1));
    let mut writer = WimWriter::create(&disk, &options()).unwrap();
    let content = noise(4, 5_000_000);
    writer.add_blob(&content, Level::Fast).unwrap();
    add_image(&mut writer, &files(&[("noise", &content)]), ImageInfo::new("n")).unwrap();
    writer.finish().unwrap();
    assert_eq!(disk.count(Operation::Read), 0);
    let bytes = disk.into_inner().to_vec();
    let (wim, _) = open(&bytes).unwrap();
    let resource = &wim.resources()[0].header;
    let table_len = 4 * (content.len().div_ceil(1 << 15) as u64 - 1);
    assert_eq!((resource.offset, resource.flags), (208 + table_len, ResourceFlags(0)));
    let (found, _) = read_image(&bytes, 1).unwrap();
    assert_eq!(found[&vec![NtName::from("noise")]].data, Some(Content::Bytes(content)));
}

#[test]
fn chunks_that_break_the_rules_are_refused() {
    let disk = MemoryDisk::new(0, 1);
    let mut writer = WimWriter::create(&disk, &options()).unwrap();
    let message = |result: Result<(), gravure_wim::Error>| result.unwrap_err().to_string();
    assert_eq!(
        message(writer.append_chunk(ChunkData::Raw(b"x"))),
        "cannot write a chunk: no resource was begun"
    );
    assert_eq!(message(writer.begin(0)), "cannot write a resource: empty content has none");
    writer.begin(40_000).unwrap();
    assert!(message(writer.begin(1)).contains("the one before is not finished"));
    assert!(
        message(writer.append_chunk(ChunkData::Raw(&[0; 5]))).contains("expected 32768 plain bytes, found 5")
    );
    let too_long = message(writer.append_chunk(ChunkData::Compressed(&[0; 32_768])));
    assert!(too_long.contains("expected 1 to 32767 compressed bytes, found 32768"), "{too_long}");
    assert!(message(writer.append_chunk(ChunkData::Compressed(&[]))).contains("found 0"));
    writer.append_chunk(ChunkData::Raw(&[1; 32_768])).unwrap();
    let short = writer.finish_blob(Sha1Hash([1; 20])).unwrap_err().to_string();
    assert_eq!(short, "cannot write a resource: 32768 of 40000 bytes were given");

    let uncompressed = MemoryDisk::new(0, 1);
    let options = WriteOptions { compression: None, ..options() };
    let mut writer = WimWriter::create(&uncompressed, &options).unwrap();
    writer.begin(5).unwrap();
    writer.append_chunk(ChunkData::Raw(b"abc")).unwrap();
    assert!(
        message(writer.append_chunk(ChunkData::Raw(b"def"))).contains("expected at most 2 bytes, found 3")
    );
    assert!(message(writer.append_chunk(ChunkData::Compressed(b"d"))).contains("the file is not compressed"));
}

#[test]
fn a_duplicate_leaves_no_trace() {
    let disk = MemoryDisk::new(0, 1);
    let mut writer = WimWriter::create(&disk, &options()).unwrap();
    let content = noise(2, 3_000_000);
    let sha1 = writer.add_blob(&content, Level::Fast).unwrap();
    let end = writer.len();
    writer.begin(3_000_000).unwrap();
    content.chunks(1 << 15).for_each(|chunk| writer.append_chunk(ChunkData::Raw(chunk)).unwrap());
    assert_eq!(writer.finish_blob(sha1).unwrap(), BlobOutcome::Duplicate);
    assert_eq!(writer.len(), end);
    assert!(writer.contains(&sha1) && writer.contains(&Sha1Hash::ZERO));
    let written =
        add_image(&mut writer, &files(&[("a", &content)]), ImageInfo::new("n")).and_then(|_| writer.finish());
    let mut bytes = disk.to_vec();
    bytes.truncate(usize::try_from(written.unwrap().size).unwrap());
    assert!(bytes.len() < 3_100_000);
    assert_eq!(read_image(&bytes, 1).unwrap().1, []);
}

#[test]
fn images_of_content_that_is_not_there_need_permission() {
    let mut tree = files(&[("a", b"x")]);
    let a = tree.lookup("a").unwrap();
    let missing = ContentRef { size: 0, sha1: Some(Sha1Hash([9; 20])), origin: Origin::Missing };
    tree.node_mut(a).data = Some(missing);
    for (allow_missing_blobs, expected) in [
        (
            false,
            Err("cannot write image 1: content 0909090909090909090909090909090909090909 is not in the file"),
        ),
        (true, Ok(1)),
    ] {
        let disk = MemoryDisk::new(0, 1);
        let options = WriteOptions { allow_missing_blobs, ..options() };
        let mut writer = WimWriter::create(&disk, &options).unwrap();
        let added = writer.add_image(&Metadata::from_tree(&tree).unwrap(), ImageInfo::new("n"), Level::Fast);
        let added = added.map(ImageIndex::number).map_err(|error| error.to_string());
        assert_eq!(added, expected.map_err(str::to_owned));
    }
}

#[test]
fn trees_that_would_come_back_different_are_refused_by_path() {
    let reparse =
        || Reparse { tag: ReparseTag::SYMLINK, reserved: 0, link_flags: 0, content: ContentRef::empty() };
    let unknown = ContentRef { size: 1, sha1: None, origin: Origin::Inline([1].as_slice().into()) };
    let stream = |name: &str| NamedStream { name: name.into(), content: ContentRef::empty() };
    let plain = Node::default;
    let cases = [
        (
            Node { reparse: Some(reparse()), ..plain() },
            "the reparse point attribute and reparse data must go together",
        ),
        (Node { attributes: FileAttributes::REPARSE_POINT, ..plain() }, "must go together"),
        (
            Node { attributes: FileAttributes::ENCRYPTED, data: Some(unknown.clone()), ..plain() },
            "raw EFS data only",
        ),
        (Node { efs: Some(ContentRef::empty()), ..plain() }, "without the encrypted attribute"),
        (Node { data: Some(unknown), ..plain() }, "the hash of its content is not known"),
        (Node { security: Some(SecurityId(0)), ..plain() }, "its security descriptor does not exist"),
        (Node { object_id: Some(vec![0; 15]), ..plain() }, "an object id that has not 16 to 64 bytes"),
        (Node { named_streams: vec![stream("")], ..plain() }, "a stream name that is empty"),
        (Node { named_streams: vec![stream("a"); 65_536], ..plain() }, "more than 65535 streams"),
    ];
    for (node, reason) in cases {
        let mut tree = Tree::new(directory());
        let sub = tree.add(tree.root(), "sub".into(), directory()).unwrap();
        tree.add(sub, "bad".into(), node).unwrap();
        let error = Metadata::from_tree(&tree).unwrap_err().to_string();
        assert!(error.starts_with("cannot write /sub/bad: ") && error.contains(reason), "{error}");
    }
    let mut tree = Tree::new(directory());
    let long = NtName::from_units(&[0x61; 32_768]);
    tree.add(tree.root(), long, Node::default()).unwrap();
    let error = Metadata::from_tree(&tree).unwrap_err().to_string();
    assert!(error.ends_with("a name of more than 32767 units"), "{:.40}", error);
}

#[test]
fn lists_have_the_order_of_windows() {
    let mut tree = Tree::new(directory());
    let root = tree.root();
    for name in ["b", "A", "_"] {
        tree.add(root, name.into(), file(b"")).unwrap();
    }
    for name in ["Z", "a2"] {
        let dir = tree.add(root, name.into(), directory()).unwrap();
        tree.add(dir, "inner".into(), file(b"")).unwrap();
    }
    let bytes = make_wim(&tree, &WriteOptions { compression: None, ..options() });
    let (wim, _) = open(&bytes).unwrap();
    let image = ImageIndex::from_number(1).unwrap();
    let tree = wim.read_image(&bytes, image, gravure_tree::SourceId(0), &Default::default()).unwrap().value;
    let paths: Vec<String> = tree.walk().map(|step| step.display_path()).collect();
    assert_eq!(paths, ["/A", "/b", "/_", "/a2", "/a2/inner", "/Z", "/Z/inner"]);
}

#[test]
fn images_are_counted_as_windows_counts_them() {
    let mut tree = files(&[("a", b"12345"), ("b", b"67")]);
    let root = tree.root();
    let sub = tree.add(root, "sub".into(), directory()).unwrap();
    let a = tree.lookup("a").unwrap();
    tree.link(sub, "a again".into(), a).unwrap();
    let junction = Node {
        attributes: FileAttributes::DIRECTORY | FileAttributes::REPARSE_POINT,
        reparse: Some(Reparse {
            tag: ReparseTag::MOUNT_POINT,
            reserved: 0,
            link_flags: 0,
            content: ContentRef::inline([1, 2, 3]),
        }),
        ..directory()
    };
    tree.add(root, "junction".into(), junction).unwrap();
    let expected = ImageCounts { directories: 1, files: 4, total_bytes: 12, hard_link_bytes: 5 };
    assert_eq!(image_counts(&tree), expected);
}

#[test]
fn appending_keeps_what_it_does_not_change() {
    let disk = MemoryDisk::new(0, 1);
    let mut writer = WimWriter::create(&disk, &options()).unwrap();
    let mut info = ImageInfo::new("first");
    info.set_text("WINDOWS/SERVICINGDATA/UNKNOWNTHING", "kept");
    info.set_times(FileTime(5), FileTime(6));
    add_image(&mut writer, &files(&[("a", b"first content")]), info.clone()).unwrap();
    writer.set_boot_image(ImageIndex::from_number(1)).unwrap();
    writer.finish_with_integrity().unwrap();
    let old = disk.to_vec();
    let (before, _) = open(&old).unwrap();

    let mut writer = WimWriter::append(&disk, &before).unwrap();
    add_image(&mut writer, &files(&[("b", b"second")]), ImageInfo::new("second")).unwrap();
    writer.finish_with_integrity().unwrap();
    let new = disk.to_vec();
    assert_eq!(new[208..old.len()], old[208..], "nothing old is touched");
    let (after, warnings) = open(&new).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(after.header().guid, Guid([0x5a; 16]));
    assert_eq!(after.boot_image(), ImageIndex::from_number(1));
    assert_eq!(after.info().image(0), before.info().image(0));
    assert_eq!(after.info().image(0).unwrap().text("WINDOWS/SERVICINGDATA/UNKNOWNTHING").unwrap(), "kept");
    assert_eq!(new.size(), after.header().integrity.offset + after.header().integrity.stored_size);
}

#[test]
fn files_with_overlapping_resources_are_read_and_not_appended_to() {
    let mut bytes = make_wim(&files(&[("a", b"some content"), ("b", b"other content")]), &options());
    let (wim, _) = open(&bytes).unwrap();
    let entry = usize::try_from(wim.header().blob_table.offset).unwrap() + 2 * 50;
    // The second blob now starts inside the first.
    bytes[entry + 8] -= 1;
    let (wim, _) = open(&bytes).unwrap();
    let disk = MemoryDisk::from_bytes(bytes.clone());
    let error = WimWriter::append(&disk, &wim).unwrap_err().to_string();
    assert_eq!(error, "cannot write into this file: its resources overlap");
    assert_eq!(disk.to_vec(), bytes);
}

#[test]
fn files_that_must_not_change_are_refused() {
    let bytes = make_wim(&files(&[]), &options());
    for (at, flag, reason) in
        [(0x10, 0x04, "read-only"), (0x10, 0x40, "another writer is at work"), (0x2a, 3, "split set")]
    {
        let mut changed = bytes.clone();
        changed[at] |= flag;
        let (wim, _) = open(&changed).unwrap();
        let disk = MemoryDisk::from_bytes(changed.clone());
        let error = WimWriter::append(&disk, &wim).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert_eq!(disk.to_vec(), changed);
    }
}
