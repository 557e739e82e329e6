//! Power cuts while writing: a new file never looks complete, an appended one is always either the old or the new.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::support::{Dump, add_image, dump_inline, make_wim, open, options, read_image};
use gravure_io::MemoryDisk;
use gravure_nttypes::{FileAttributes, NtName};
use gravure_testkit::{Fault, FaultyDisk, Operation, Random};
use gravure_tree::{ContentRef, Node, Tree};
use gravure_wim::{Error, ImageInfo, Warning, Wim, WimWriter, WriteOptions};

/// Files of random content, so that several megabytes are really written.
fn tree(seed: u64) -> Tree {
    let attributes = FileAttributes::DIRECTORY;
    let mut tree = Tree::new(Node { children: Some(Vec::new()), attributes, ..Node::default() });
    for number in 0..3 {
        let mut content = vec![0; 900_000];
        Random::new(seed * 10 + number).fill(&mut content);
        let node = Node { data: Some(ContentRef::inline(content)), ..Node::default() };
        tree.add(tree.root(), NtName::from(number.to_string().as_str()), node).unwrap();
    }
    tree
}

/// So that the time goes into writes and not into encoding.
fn uncompressed() -> WriteOptions {
    WriteOptions { compression: None, ..options() }
}

fn append(disk: &FaultyDisk<MemoryDisk>, wim: &Wim, tree: &Tree) -> Result<(), Error> {
    let mut writer = WimWriter::append(disk, wim)?;
    add_image(&mut writer, tree, ImageInfo::new("second"))?;
    writer.finish_with_integrity()?;
    Ok(())
}

/// What is left when power is cut at write `at`, of which `bytes` arrive. `None` when there are no more writes.
fn cut_append(old: &[u8], second: &Tree, at: u64, bytes: usize) -> Option<Vec<u8>> {
    let (wim, _) = open(old).unwrap();
    let disk = FaultyDisk::new(
        MemoryDisk::from_bytes(old.to_vec()),
        Operation::Write,
        at,
        Fault::PowerCut { bytes },
    );
    let result = append(&disk, &wim, second);
    assert_eq!(result.is_err(), disk.struck());
    result.is_err().then(|| disk.into_inner().to_vec())
}

#[test]
fn a_cut_append_leaves_the_old_file_or_the_new_one() {
    let (first, second) = (tree(1), tree(2));
    let old = make_wim(&first, &uncompressed());
    let (first, expected): (Dump, Dump) = (dump_inline(&first), dump_inline(&second));
    let (mut kept, mut replaced) = (0, 0);
    // A header of 208 bytes lies in one sector, so it arrives as a whole or not at all.
    for bytes in [0, 512] {
        for at in 0.. {
            let Some(left) = cut_append(&old, &second, at, bytes) else { break };
            let (wim, warnings) = open(&left).unwrap();
            assert_eq!(read_image(&left, 1).unwrap().0, first, "write {at}");
            match wim.image_count() {
                1 => {
                    kept += 1;
                    assert_eq!(wim.header().blob_table, open(&old).unwrap().0.header().blob_table);
                    assert!(warnings.contains(&Warning::WriteInProgress) || left[..208] == old[..208]);
                }
                2 => {
                    replaced += 1;
                    assert_eq!(warnings, []);
                    assert_eq!(read_image(&left, 2).unwrap().0, expected, "write {at}");
                }
                other => panic!("{other} images"),
            }
        }
    }
    assert!(kept > 10 && replaced >= 1, "{kept} kept, {replaced} replaced");
}

#[test]
fn a_cut_new_file_says_that_it_is_not_complete() {
    let tree = tree(3);
    let (mut cuts, mut complete) = (0, 0);
    for at in 1.. {
        let disk =
            FaultyDisk::new(MemoryDisk::new(0, 1), Operation::Write, at, Fault::PowerCut { bytes: 512 });
        let written = WimWriter::create(&disk, &uncompressed())
            .and_then(|mut writer| add_image(&mut writer, &tree, ImageInfo::new("n")).map(|_| writer))
            .and_then(WimWriter::finish);
        if written.is_ok() {
            break;
        }
        cuts += 1;
        let left = disk.into_inner().to_vec();
        match open(&left) {
            Ok((wim, warnings)) if wim.image_count() == 0 => {
                assert!(warnings.contains(&Warning::WriteInProgress), "{warnings:?}");
            }
            // Cut in the last write or behind it: all is there.
            Ok((_, warnings)) => {
                assert_eq!(warnings, []);
                assert_eq!(read_image(&left, 1).unwrap().0, dump_inline(&tree));
                complete += 1;
            }
            Err(error) => assert_eq!(error.scope(), gravure_wim::Scope::File),
        }
    }
    // Two writes of content and tables, sync, header, sync; the last two leave a complete file.
    assert_eq!((cuts, complete), (5, 2));
}

#[test]
fn every_failing_read_and_write_is_an_error_with_its_place() {
    let small = {
        let attributes = FileAttributes::DIRECTORY;
        let mut tree = Tree::new(Node { children: Some(Vec::new()), attributes, ..Node::default() });
        let node = Node { data: Some(ContentRef::inline(vec![7; 100_000])), ..Node::default() };
        tree.add(tree.root(), "a".into(), node).unwrap();
        tree
    };
    let old = make_wim(&small, &uncompressed());
    let mut failures = 0;
    for operation in [Operation::Read, Operation::Write] {
        for at in 0.. {
            let disk = FaultyDisk::new(MemoryDisk::from_bytes(old.clone()), operation, at, Fault::Fail);
            let opened = Wim::read(&disk, &Default::default()).map(|opened| opened.value);
            let result = opened.and_then(|wim| append(&disk, &wim, &tree(4)));
            let Err(error) = result else {
                assert!(!disk.struck());
                break;
            };
            assert!(matches!(error, Error::Io { .. }), "{error}");
            failures += 1;
        }
    }
    assert!(failures > 12, "{failures}");
}
