//! What NTFS cannot hold is refused as a whole list, and what it can to the limit is not.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

use crate::support::{Builder, all_writes, directory, file, noise, options, streams, windows_tree};
use gravure_ntfs::{Error, NoGuide, Part, Place, Reason, VolumeOptions, VolumePlan};
use gravure_nttypes::{FileAttributes, NtName};
use gravure_tree::{ContentRef, Node, Origin, SecurityId, SourceId, Tree};

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
