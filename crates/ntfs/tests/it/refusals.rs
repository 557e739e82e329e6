//! What NTFS cannot hold is refused as a whole list, and what it can to the limit is not.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

use crate::support::compare::{read, scan};
use crate::support::{
    Builder, all_writes, directory, file, noise, options, shapes, streams, volume, windows_tree,
};
use gravure_ntfs::{
    Collisions, Error, MAX_REFUSALS, NoGuide, Part, Place, Reason, SectorSize, VolumeOptions, VolumePlan,
    reduce,
};
use gravure_nttypes::{FileAttributes, NtName, ReparseTag};
use gravure_tree::{ContentRef, ExtendedAttribute, Node, Origin, Reparse, SecurityId, SourceId, Tree};

fn refusals(tree: &Tree) -> Vec<(String, Reason)> {
    match VolumePlan::new(tree, &NoGuide, &options(64 << 20)) {
        Err(Error::Refused(refusals)) => {
            refusals.listed().iter().map(|one| (one.path.clone(), one.reason.clone())).collect()
        }
        Err(error) => panic!("{error}"),
        Ok(_) => Vec::new(),
    }
}

#[test]
fn everything_that_cannot_be_is_listed_at_once() {
    let mut b = Builder::new(2);
    let root = b.tree.root();
    let long = "n".repeat(256);
    b.file(root, &long, b"");
    b.file(root, "a/b", b"");
    let sub = b.directory(root, "sub");
    let mut node = file(b"");
    node.attributes |= FileAttributes::ENCRYPTED;
    b.add(sub, "encrypted", None, node);
    let mut node = file(b"");
    node.named_streams = streams(&[("one", b"1"), ("ONE", b"2"), ("a:b", b"3")]);
    b.add(sub, "streams", None, node);
    let huge =
        ContentRef { size: 1 << 44, sha1: None, origin: Origin::Source { source: SourceId(0), key: 0 } };
    b.add(sub, "huge", None, Node { data: Some(huge), ..file(b"") });
    b.add(sub, "descriptor", None, Node { security: Some(SecurityId(9)), ..file(b"") });
    b.add(sub, "id", None, Node { object_id: Some(vec![1; 15]), ..file(b"") });
    let found = refusals(&b.tree);
    let expected = [
        (format!("/{long}"), Reason::NameLength(256)),
        ("/a/b".to_owned(), Reason::NameUnit(0x2f)),
        ("/sub/encrypted".to_owned(), Reason::Encrypted),
        ("/sub/streams".to_owned(), Reason::StreamName("a:b".to_owned())),
        ("/sub/streams".to_owned(), Reason::StreamTaken("one".to_owned())),
        ("/sub/huge".to_owned(), Reason::StreamSize(1 << 44)),
        ("/sub/descriptor".to_owned(), Reason::NoDescriptor(9)),
        ("/sub/id".to_owned(), Reason::ObjectIdLength(15)),
    ];
    assert_eq!(found, expected);
}

#[test]
fn twins_reserved_names_and_too_many_links_are_refused() {
    let mut b = Builder::new(2);
    let root = b.tree.root();
    b.file(root, "$mft", b"");
    b.file(root, "Twin", b"");
    b.file(root, "TWIN", b"");
    b.add(root, "long name", Some("TWIN2"), file(b""));
    b.file(root, "twin2", b"");
    let sub = b.directory(root, "sub");
    b.file(sub, "$MFT", b"an ordinary name elsewhere");
    let popular = b.file(sub, "popular", b"");
    for n in 0..1024 {
        b.link(sub, &format!("link {n}"), popular);
    }
    let mut twin = file(b"");
    twin.object_id = Some(noise(16, 1));
    b.add(sub, "id 1", None, twin.clone());
    b.add(sub, "id 2", None, twin);
    let found = refusals(&b.tree);
    let expected = [
        ("/sub/link 1023".to_owned(), Reason::LinkCount(1025)),
        ("/sub/id 2".to_owned(), Reason::ObjectIdTaken),
        ("/$mft".to_owned(), Reason::NameReserved),
        ("/Twin".to_owned(), Reason::NameTaken("TWIN".to_owned())),
        ("/twin2".to_owned(), Reason::NameTaken("TWIN2".to_owned())),
    ];
    assert_eq!(found, expected);
}

/// Names, links, ids, case and lists of attributes are looked at in passes of their own: what one finds keeps no other from looking.
#[test]
fn what_one_pass_refuses_does_not_hide_what_another_would() {
    let mut b = Builder::new(2);
    let root = b.tree.root();
    let endless = "n".repeat(30_000);
    b.file(root, &endless, b"");
    b.file(root, "$Bitmap", b"");
    b.file(root, ".", b"");
    b.file(root, "Twin", b"");
    b.file(root, "TWIN", b"");
    let popular = b.file(root, "popular", b"");
    for n in 0..1024 {
        b.link(root, &format!("link {n}"), popular);
    }
    let mut node = file(b"");
    node.object_id = Some(noise(15, 1));
    b.add(root, "short id 1", None, node.clone());
    b.add(root, "short id 2", None, node.clone());
    node.object_id = Some(noise(16, 1));
    b.add(root, "id 1", None, node.clone());
    b.add(root, "id 2", None, node);
    let mut node = file(b"");
    let names: Vec<String> = (0..9000).map(|n| format!("{n}")).collect();
    node.named_streams = streams(&names.iter().map(|name| (name.as_str(), &b"x"[..])).collect::<Vec<_>>());
    b.add(root, "streams", None, node);
    let mut found = refusals(&b.tree);
    found.iter_mut().for_each(|(path, _)| path.truncate(20));
    let expected = [
        (format!("/{}", &endless[..19]), Reason::NameLength(30_000)),
        ("/.".to_owned(), Reason::NameReserved),
        ("/short id 1".to_owned(), Reason::ObjectIdLength(15)),
        ("/short id 2".to_owned(), Reason::ObjectIdLength(15)),
        ("/link 1023".to_owned(), Reason::LinkCount(1025)),
        ("/id 2".to_owned(), Reason::ObjectIdTaken),
        ("/$Bitmap".to_owned(), Reason::NameReserved),
        ("/Twin".to_owned(), Reason::NameTaken("TWIN".to_owned())),
    ];
    assert_eq!(found[..expected.len()], expected);
    let [(path, Reason::AttributeList(bytes))] = &found[expected.len()..] else { panic!("{found:?}") };
    assert!(path == "/streams" && *bytes > 256 << 10, "{path}: {bytes}");
}

#[test]
fn a_list_that_is_cut_says_how_many_more_there_are() {
    let mut b = Builder::new(2);
    let root = b.tree.root();
    for n in 0..MAX_REFUSALS + 7 {
        b.file(root, &format!("a/{n}"), b"");
    }
    let error = VolumePlan::new(&b.tree, &NoGuide, &options(64 << 20)).map(drop).unwrap_err();
    let Error::Refused(refusals) = &error else { panic!("{error}") };
    assert_eq!((refusals.listed().len(), refusals.count()), (MAX_REFUSALS, MAX_REFUSALS as u64 + 7));
    let text = error.to_string();
    assert!(text.starts_with("10007 things that NTFS cannot hold\n/a/0: ") && text.ends_with("\nand 7 more"));
}

/// Made exactly as large as it was told to be, the volume holds the tree; one cluster less and it is told the same size again.
#[test]
fn the_size_that_is_told_suffices_and_is_the_least_however_the_log_grows() {
    const MIB: u64 = 1 << 20;
    let sizes =
        [8, 150, 196, 201, 380, 396, 402, 450, 700, 1024, 3000, 4096, 8000, 12_200, 12_288, 12_400, 16_384];
    let shapes = shapes().into_iter().map(|(sector, cluster)| (sector, Some(cluster)));
    let usual = (SectorSize::Bytes512, None);
    for (sector_size, cluster_bytes) in shapes.chain([usual]) {
        let more = [40 << 10, 16 << 20, (16 << 20) + 3].map(|mib| (mib, cluster_bytes.is_none()));
        for (mib, _) in
            sizes.map(|mib| (mib, true)).into_iter().chain(more).filter(|(_, is_wanted)| *is_wanted)
        {
            let mut b = Builder::new(2);
            let root = b.tree.root();
            // Some in records, some in clusters, and most of it in streams that are not there.
            for n in 0..60usize {
                b.file(root, &format!("file {n}"), &noise(n * 30, n as u64));
            }
            let mut left = mib * MIB + 12_345;
            while left > 0 {
                let size = left.min(3 << 40);
                left -= size;
                let content = ContentRef {
                    size,
                    sha1: None,
                    origin: Origin::Source { source: SourceId(0), key: left },
                };
                b.add(root, &format!("large {left}"), None, Node { data: Some(content), ..file(b"") });
            }
            let plan = |volume_bytes| {
                let options = VolumeOptions { sector_size, cluster_bytes, ..options(volume_bytes) };
                VolumePlan::new(&b.tree, &NoGuide, &options).map(|plan| plan.used_bytes())
            };
            let what = format!("{mib} MiB, {sector_size:?}, clusters of {cluster_bytes:?}");
            let needed_from = |volume_bytes| match plan(volume_bytes) {
                Err(Error::TooSmall { needed, available }) => {
                    assert_eq!(available, volume_bytes, "{what}");
                    needed
                }
                other => panic!("{what}: {other:?}"),
            };
            let needed = needed_from(1 << 20);
            let used = plan(needed).unwrap_or_else(|error| panic!("{what}, {needed} bytes: {error}"));
            // Where clusters become larger there are two sizes that suffice, and the smaller one has the smaller clusters.
            let is_crossing = mib >= 16 << 20;
            let spare = if is_crossing { 512 << 20 } else { 1 << 20 };
            assert!(used > mib * MIB && needed - used <= spare, "{what}: {used} of {needed}");
            if is_crossing {
                continue;
            }
            for other in [mib * MIB, needed - 4096, needed - 1] {
                assert_eq!(needed_from(other), needed, "{what}: from {other}");
            }
        }
    }
}

/// For each kind of refusal what is done instead; what is left of the tree is laid out without one.
#[test]
fn a_tree_is_reduced_to_what_can_be_and_every_change_is_told() {
    let mut b = Builder::new(2);
    let root = b.tree.root();
    let bad = b.directory(root, "a/b");
    b.file(bad, "below", b"goes with its directory");
    b.file(root, "$BITMAP", b"");
    b.file(root, "Twin", b"the first");
    b.file(root, "TWIN", b"the second");
    b.file(root, "Tilda~1", b"");
    b.add(root, "a long name", Some("TILDA~1"), file(b""));
    b.add(root, "another long name", Some("OWN~1"), file(b""));
    let sub = b.directory(root, "sub");
    b.file(sub, "$BITMAP", b"an ordinary name here");
    let mut node = file(b"");
    node.attributes |= FileAttributes::ENCRYPTED;
    b.add(sub, "encrypted", None, node);
    let mut node = file(b"content");
    node.named_streams = streams(&[("one", b"1"), ("ONE", b"2"), ("a:b", b"3")]);
    b.add(sub, "streams", None, node);
    let huge =
        ContentRef { size: 1 << 44, sha1: None, origin: Origin::Source { source: SourceId(0), key: 0 } };
    b.add(sub, "huge", None, Node { data: Some(huge), ..file(b"") });
    b.add(sub, "no descriptor", None, Node { security: Some(SecurityId(9)), ..file(b"") });
    b.add(sub, "short id", None, Node { object_id: Some(vec![1; 15]), ..file(b"") });
    let mut node = file(b"popular");
    node.object_id = Some(noise(16, 1));
    let popular = b.add(sub, "popular", None, node.clone());
    b.add(sub, "id", None, node);
    let mut node = file(b"");
    node.attributes |= FileAttributes::REPARSE_POINT;
    node.reparse = Some(Reparse {
        tag: ReparseTag(0x8000_1234),
        reserved: 0,
        link_flags: 0,
        content: ContentRef::inline(vec![1; 16_377]),
    });
    b.add(sub, "reparse", None, node);
    let mut node = file(b"");
    let ea = |n: u8| ExtendedAttribute { name: vec![b'A' + n], flags: 0, value: vec![n; 40_000] };
    node.extended_attributes = vec![ea(0), ea(1)];
    b.add(sub, "attributes", None, node);
    for n in 0..2050 {
        b.link(sub, &format!("link {n}"), popular);
    }

    let (reduced, found) = reduce(&b.tree, Collisions::Refuse).unwrap();
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    let expected = [
        "/a/b: name with the unit 0x002f; left out",
        "/$BITMAP: name is reserved by the file system; left out",
        "/TWIN: name equals \"Twin\" but for case; left out",
        "/a long name: name equals \"Tilda~1\" but for case; kept without this short name",
        "/sub/encrypted: encrypted file; its keys cannot be put into a new volume; left out",
        "/sub/huge: stream of 17592186044416 bytes; 17592185978880 are possible; left out",
        "/sub/streams: two streams named \"ONE\"; kept without this stream",
        "/sub/streams: stream cannot be named \"a:b\"; kept without this stream",
        "/sub/no descriptor: security descriptor 9 is not in the table; kept without this security descriptor",
        "/sub/short id: object id of 15 bytes; 16 to 64 are possible; kept without this object id",
        "/sub/id: object id is that of another file; kept without this object id",
        "/sub/reparse: reparse data of 16377 bytes; 16376 are possible; kept without this reparse data",
        "/sub/attributes: extended attributes of 80024 bytes; 65535 are possible; kept without this list of extended attributes",
        "/sub/link 1023: 2051 names; 1024 are possible; from this name on a file of its own",
        "/sub/link 2047: 2051 names; 1024 are possible; from this name on a file of its own",
    ];
    assert_eq!(found, expected);
    assert_eq!(refusals(&reduced), []);

    // What is left reads back from a volume as it was, and nothing is left to be reduced.
    let (bytes, notes) = volume(&reduced, &options(64 << 20));
    assert_eq!(notes.default_descriptors, 1);
    let (volume, scan) = scan(&bytes);
    let left = scan.tree.walk().count();
    // Root: Twin, Tilda~1, two long names, sub. Below: the ordinary name, streams, two files of descriptor and id, popular, id, reparse, attributes, links.
    assert_eq!(left, 5 + 8 + 2050);
    let at = |path: &str| scan.tree.lookup(path).unwrap_or_else(|| panic!("no {path}"));
    let copies =
        ["/sub/popular", "/sub/link 1022", "/sub/link 1023", "/sub/link 2046", "/sub/link 2047"].map(at);
    assert!(
        copies[0] == copies[1] && copies[2] == copies[3] && copies[1] != copies[2] && copies[3] != copies[4]
    );
    let counts = [0, 2, 4].map(|n| scan.tree.link_count(copies[n]));
    assert_eq!(counts, [1024, 1024, 3]);
    for copy in copies {
        let data = scan.tree.node(copy).data.as_ref().unwrap();
        assert_eq!(read(&bytes, &volume, &scan.contents, data), b"popular");
    }
    assert_eq!(reduce(&reduced, Collisions::Refuse).unwrap().1, []);

    // Twins that are to be kept are no names for Win32, so that they have no short ones.
    let mut b = Builder::new(2);
    let root = b.tree.root();
    b.add(root, "long twin", Some("LONGTW~1"), file(b"1"));
    b.add(root, "LONG twin", Some("LONGTW~2"), file(b"2"));
    b.add(root, "long twin", None, file(b"3"));
    let (reduced, found) = reduce(&b.tree, Collisions::Keep).unwrap();
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[2].ends_with("left out") && found[..2].iter().all(|one| one.ends_with("this short name")));
    let options = VolumeOptions { collisions: Collisions::Keep, ..options(16 << 20) };
    assert!(VolumePlan::new(&reduced, &NoGuide, &options).is_ok());
}

#[test]
fn a_small_volume_is_told_by_how_much_and_that_much_suffices() {
    let tree = windows_tree(3000);
    let plan = |bytes| VolumePlan::new(&tree, &NoGuide, &options(bytes)).map(|plan| plan.used_bytes());
    let Err(Error::TooSmall { needed, available }) = plan(4 << 20) else { panic!("it fits") };
    assert_eq!(available, 4 << 20);
    assert!(plan(needed).is_ok());
    assert!(matches!(plan(needed - (1 << 20)), Err(Error::TooSmall { .. })));
}

#[test]
fn the_same_plan_writes_the_same_bytes_and_never_twice_to_one_place() {
    let tree = windows_tree(300);
    let options = VolumeOptions { cluster_bytes: Some(8192), ..options(64 << 20) };
    let plan = VolumePlan::new(&tree, &NoGuide, &options).unwrap();
    let writes = all_writes(&plan, &tree);
    assert!(writes == all_writes(&VolumePlan::new(&tree, &NoGuide, &options).unwrap(), &tree));
    // Without the wipes, which the boot sectors come over at the end.
    let mut ranges: Vec<(u64, u64)> =
        writes[2..].iter().map(|write| (write.offset, write.offset + write.bytes.len() as u64)).collect();
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    assert!(ranges.iter().all(|(start, end)| start % 512 == 0 && end % 512 == 0 && *end <= 64 << 20));
    assert!(writes.iter().all(|write| write.bytes.len() <= 1 << 20));
    let [copy, boot] = plan.boot_sectors();
    assert_eq!(writes[writes.len() - 2..], [copy, boot]);
}

#[test]
fn large_content_is_laid_out_without_being_there() {
    let mut b = Builder::new(2);
    let root = b.tree.root();
    let content =
        |key| ContentRef { size: 3 << 40, sha1: None, origin: Origin::Source { source: SourceId(0), key } };
    let ids: Vec<_> = (0..3)
        .map(|key| b.add(root, &format!("huge {key}"), None, Node { data: Some(content(key)), ..file(b"") }))
        .collect();
    b.add(root, "directory", None, directory());
    let plan = VolumePlan::new(&b.tree, &NoGuide, &options(20 << 40)).unwrap();
    let mut end = 0;
    for id in ids {
        let Some(Place::Clusters { offset, allocated }) = plan.place_of(id, Part::Data) else {
            panic!("no place")
        };
        assert!(offset >= end && allocated == 3 << 40);
        end = offset + allocated;
    }
    let name = NtName::from("x".repeat(33).as_str());
    let labelled = VolumeOptions { label: name, ..options(64 << 20) };
    assert!(matches!(
        VolumePlan::new(&b.tree, &NoGuide, &labelled),
        Err(Error::Invalid { what: "label", .. })
    ));
}
