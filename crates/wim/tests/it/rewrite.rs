//! Export, delete, replace and join out of the writer's pieces: what stays is copied as it is stored.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashMap;

use crate::support::{add_image, dump_inline, make_wim, open, options, read_image, read_image_of};
use crate::trees::tree;
use crate::windows_tree::windows_tree;
use gravure_codec::Level;
use gravure_io::MemoryDisk;
use gravure_nttypes::{FileAttributes, NtName};
use gravure_testkit::{oracle, shared_dir};
use gravure_tree::{ContentRef, Node, Sha1Hash, SourceId, Tree};
use gravure_wim::{
    BlobSet, Compression, CopyOutcome, ImageIndex, ImageInfo, Limits, Metadata, Method, Wim, WimWriter,
    WriteOptions, check_split_set, references,
};
use proptest::prelude::*;

fn index(number: u32) -> ImageIndex {
    ImageIndex::from_number(number).unwrap()
}

/// Copies all blobs and images of `files`, which are one set, to a new file; how many blobs were copied as stored.
fn export(files: &[(&Vec<u8>, &Wim)], options: &WriteOptions) -> (Vec<u8>, usize) {
    let limits = Limits::default();
    let disk = MemoryDisk::new(0, 1);
    let mut writer = WimWriter::create(&disk, options).unwrap();
    let mut copied = 0;
    for (bytes, wim) in files {
        for (id, blob) in wim.blobs() {
            match writer.copy_blob(bytes, wim, id).unwrap() {
                CopyOutcome::Copied(_) => copied += 1,
                CopyOutcome::Duplicate => {}
                CopyOutcome::MustRecode => {
                    let plain = wim.read_blob(bytes, id, u64::MAX, &limits).unwrap();
                    assert_eq!(writer.add_blob(&plain, Level::Fast).unwrap(), blob.sha1);
                }
            }
        }
    }
    let mut blobs = BlobSet::default();
    (0u32..).zip(files).for_each(|(number, (_, wim))| blobs.push(SourceId(number), wim));
    let (bytes, wim) = files[0];
    for image in wim.images() {
        let tree = wim.read_image_with(bytes, image, &blobs, &limits).unwrap().value;
        let info = wim.info().image(image.index()).unwrap();
        writer.copy_image(bytes, wim, image, &references(&tree), info, &limits).unwrap();
    }
    writer.set_boot_image(wim.boot_image()).unwrap();
    let written = writer.finish_with_integrity().unwrap();
    let mut bytes = disk.to_vec();
    bytes.truncate(usize::try_from(written.size).unwrap());
    (bytes, copied)
}

#[test]
fn an_export_copies_what_has_the_same_compression_and_recodes_the_rest() {
    let tree = windows_tree();
    let source = make_wim(&tree, &options());
    let (wim, _) = open(&source).unwrap();
    let xpress = WriteOptions { compression: Compression::new(Method::Xpress, 1 << 13).ok(), ..options() };
    let raw = |wim: &Wim| wim.resources().iter().filter(|resource| resource.header.flags.0 == 0).count();
    for (options, expected) in [(options(), wim.blobs().len()), (xpress, raw(&wim))] {
        let (target, copied) = export(&[(&source, &wim)], &options);
        assert_eq!(copied, expected);
        let (exported, warnings) = open(&target).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(read_image(&target, 1).unwrap().0, dump_inline(&tree));
        let counts = |wim: &Wim| -> HashMap<Sha1Hash, u32> {
            wim.blobs().map(|(_, blob)| (blob.sha1, blob.references)).collect()
        };
        assert_eq!(counts(&exported), counts(&wim));
        assert_eq!(exported.info().image(0), wim.info().image(0));
    }
}

#[test]
fn split_sets_are_joined_and_solid_and_pipable_files_become_normal() {
    let Some(shared) = shared_dir() else { return };
    let load = |name: &str| std::fs::read(shared.join("vectors/wim").join(name)).unwrap();
    let cases: [(&[&str], bool); 4] = [
        (&["split.swm", "split2.swm", "split3.swm", "split4.swm"], false),
        (&["solid-xpress.wim"], false),
        (&["pipable-lzx.wim"], false),
        (&["multi.wim"], true),
    ];
    for (names, has_boot_image) in cases {
        let parts: Vec<Vec<u8>> = names.iter().map(|name| load(name)).collect();
        let wims: Vec<Wim> = parts.iter().map(|bytes| open(bytes).unwrap().0).collect();
        check_split_set(&wims.iter().collect::<Vec<_>>()).unwrap();
        let files: Vec<(&Vec<u8>, &Wim)> = parts.iter().zip(&wims).collect();
        let (joined, _) = export(&files, &options());
        let (wim, warnings) = open(&joined).unwrap();
        assert_eq!(warnings, [], "{names:?}");
        assert_eq!(wim.boot_image().is_some(), has_boot_image);
        for image in wim.images() {
            let (found, warnings) = read_image(&joined, image.number()).unwrap();
            assert_eq!(warnings, [], "{names:?}");
            assert_eq!(found, read_image_of(&files, image.number()).unwrap().0, "{names:?}");
        }
        if let Some(mut wimlib) = oracle("wimlib-imagex") {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("joined.wim");
            std::fs::write(&path, &joined).unwrap();
            let output = wimlib.arg("verify").arg(&path).output().unwrap();
            assert!(output.status.success(), "{names:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

fn one_file(name: &str, content: &[u8]) -> Tree {
    let attributes = FileAttributes::DIRECTORY;
    let mut tree = Tree::new(Node { children: Some(Vec::new()), attributes, ..Node::default() });
    let node = Node { data: Some(ContentRef::inline(content)), ..Node::default() };
    tree.add(tree.root(), NtName::from(name), node).unwrap();
    tree
}

/// Three images; the second is bootable, the last shares its content with the first.
fn three_images() -> (MemoryDisk, [Tree; 3]) {
    let trees = [one_file("a", b"shared"), one_file("b", b"of b alone"), one_file("c", b"shared")];
    let disk = MemoryDisk::new(0, 1);
    let mut writer = WimWriter::create(&disk, &options()).unwrap();
    for (name, tree) in ["one", "two", "three"].iter().zip(&trees) {
        add_image(&mut writer, tree, ImageInfo::new(name)).unwrap();
    }
    writer.set_boot_image(Some(index(2))).unwrap();
    writer.finish().unwrap();
    (disk, trees)
}

/// References over the images of `bytes` with these numbers.
fn count(bytes: &[u8], images: &[u32]) -> Vec<(Sha1Hash, u32)> {
    let (wim, _) = open(bytes).unwrap();
    let trees = images
        .iter()
        .map(|number| wim.read_image(&bytes, index(*number), SourceId(0), &Limits::default()).unwrap().value);
    trees.flat_map(|tree| references(&tree)).collect()
}

#[test]
fn deleting_an_image_renumbers_and_drops_what_nobody_uses() {
    let (disk, trees) = three_images();
    let old = disk.to_vec();
    let (wim, _) = open(&old).unwrap();
    let mut writer = WimWriter::append(&disk, &wim).unwrap();
    writer.remove_image(index(1)).unwrap();
    assert!(writer.remove_image(index(3)).is_err());
    writer.set_references(&count(&old, &[2, 3]));
    writer.finish().unwrap();
    let bytes = disk.to_vec();
    let (wim, warnings) = open(&bytes).unwrap();
    assert_eq!(warnings, []);
    assert_eq!((wim.image_count(), wim.boot_image()), (2, Some(index(1))));
    assert_eq!(read_image(&bytes, 1).unwrap().0, dump_inline(&trees[1]));
    assert_eq!(read_image(&bytes, 2).unwrap().0, dump_inline(&trees[2]));
    let names: Vec<_> = wim.info().images().filter_map(|image| image.name()).collect();
    assert_eq!(names, ["two", "three"]);
    assert_eq!(wim.blobs().map(|(_, blob)| blob.references).collect::<Vec<_>>(), [1, 1]);

    let mut writer = WimWriter::append(&disk, &wim).unwrap();
    writer.remove_image(index(1)).unwrap();
    writer.set_references(&count(&bytes, &[2]));
    writer.finish().unwrap();
    let bytes = disk.to_vec();
    let (wim, _) = open(&bytes).unwrap();
    assert_eq!((wim.image_count(), wim.boot_image(), wim.blobs().len()), (1, None, 1));
    assert_eq!(read_image(&bytes, 1).unwrap().0, dump_inline(&trees[2]));
}

#[test]
fn replacing_an_image_keeps_its_number_and_its_boot_mark() {
    let (disk, trees) = three_images();
    let old = disk.to_vec();
    let (wim, _) = open(&old).unwrap();
    let mut writer = WimWriter::append(&disk, &wim).unwrap();
    let new = one_file("new", b"new content");
    add_image(&mut writer, &new, ImageInfo::new("two, edited")).unwrap();
    writer.replace_image_with_last(index(2)).unwrap();
    let mut references = count(&old, &[1, 3]);
    references.push((writer.add_blob(b"new content", Level::Fast).unwrap(), 1));
    writer.set_references(&references);
    writer.finish().unwrap();
    let bytes = disk.to_vec();
    let (wim, warnings) = open(&bytes).unwrap();
    assert_eq!(warnings, []);
    assert_eq!((wim.image_count(), wim.boot_image()), (3, Some(index(2))));
    for (number, tree) in (1..).zip([&trees[0], &new, &trees[2]]) {
        assert_eq!(read_image(&bytes, number).unwrap().0, dump_inline(tree));
    }
    let names: Vec<_> = wim.info().images().filter_map(|image| image.name()).collect();
    assert_eq!(names, ["one", "two, edited", "three"]);
    assert_eq!(wim.blobs().len(), 2);
}

#[test]
fn appending_to_a_solid_file_keeps_its_resources() {
    let Some(shared) = shared_dir() else { return };
    let path = shared.join("vectors/wim/solid-xpress.wim");
    let old = std::fs::read(&path).unwrap();
    let (wim, _) = open(&old).unwrap();
    let disk = MemoryDisk::from_bytes(old.clone());
    let mut writer = WimWriter::append(&disk, &wim).unwrap();
    let tree = one_file("added", b"added content");
    add_image(&mut writer, &tree, ImageInfo::new("second")).unwrap();
    writer.finish_with_integrity().unwrap();
    let new = disk.to_vec();
    let (after, warnings) = open(&new).unwrap();
    assert_eq!(warnings, []);
    assert!(after.header().allows_solid);
    assert_eq!(read_image(&new, 1).unwrap().0, read_image(&old, 1).unwrap().0);
    assert_eq!(read_image(&new, 2).unwrap().0, dump_inline(&tree));
    let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("solid.wim");
    std::fs::write(&path, &new).unwrap();
    let output = wimlib.arg("verify").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn parts_of_a_set_are_written_and_found_to_be_one() {
    let (disk, trees) = three_images();
    let whole = disk.to_vec();
    let (wim, _) = open(&whole).unwrap();
    let all = count(&whole, &[1, 2, 3]);
    let ids: Vec<_> = wim.blobs().map(|(id, _)| id).collect();
    let part = |number: u16| {
        let disk = MemoryDisk::new(0, 1);
        let mut writer = WimWriter::create(&disk, &options()).unwrap();
        writer.adopt(&wim).unwrap();
        writer.set_part(number, 2, wim.info()).unwrap();
        if number == 1 {
            for image in wim.images() {
                let references = count(&whole, &[image.number()]);
                let info = wim.info().image(image.index()).unwrap();
                writer.copy_image(&whole, &wim, image, &references, info, &Limits::default()).unwrap();
            }
            assert!(writer.adopt(&wim).is_err());
        }
        let copied = writer.copy_blob(&whole, &wim, ids[usize::from(number) - 1]).unwrap();
        assert!(matches!(copied, CopyOutcome::Copied(_)));
        writer.set_references(&all);
        writer.finish_with_integrity().unwrap();
        disk.to_vec()
    };
    let parts = [part(1), part(2)];
    let wims: Vec<Wim> = parts
        .iter()
        .map(|bytes| {
            let (wim, warnings) = open(bytes).unwrap();
            assert_eq!(warnings, []);
            wim
        })
        .collect();
    check_split_set(&wims.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!((wims[0].image_count(), wims[1].image_count()), (3, 0));
    assert_eq!(wims[1].header().image_count, 3);
    assert_eq!(wims[0].boot_image(), None);
    assert_eq!(wims[0].info(), wim.info());
    let files: Vec<(&Vec<u8>, &Wim)> = parts.iter().zip(&wims).collect();
    for (number, tree) in (1..).zip(&trees) {
        assert_eq!(read_image_of(&files, number).unwrap().0, dump_inline(tree));
    }
    let counts = |wim: &Wim| -> Vec<u32> { wim.blobs().map(|(_, blob)| blob.references).collect() };
    assert_eq!([counts(&wims[0]), counts(&wims[1])].concat(), counts(&wim));
    let disk = MemoryDisk::new(0, 1);
    let mut writer = WimWriter::create(&disk, &options()).unwrap();
    for (number, of) in [(0, 1), (2, 1)] {
        assert!(writer.set_part(number, of, wim.info()).is_err());
    }
}

#[test]
fn solid_resources_go_over_whole_with_the_blobs_that_are_wanted() {
    let Some(shared) = shared_dir() else { return };
    let source = std::fs::read(shared.join("vectors/wim/solid-xpress.wim")).unwrap();
    let (wim, _) = open(&source).unwrap();
    let (first, blob) =
        wim.blobs().find(|(_, blob)| wim.resource(blob.resource).unwrap().solid.is_some()).unwrap();
    let all: Vec<_> =
        wim.blobs().filter(|(_, other)| other.resource == blob.resource).map(|(id, _)| id).collect();
    for wanted in [vec![first], all] {
        let disk = MemoryDisk::new(0, 1);
        let mut writer = WimWriter::create(&disk, &options()).unwrap();
        let copied = writer.copy_solid(&source, &wim, blob.resource, &wanted).unwrap();
        assert!(matches!(copied, CopyOutcome::Copied(_)));
        let again = writer.copy_solid(&source, &wim, blob.resource, &wanted).unwrap();
        assert_eq!(again, CopyOutcome::Duplicate);
        let references: Vec<_> =
            wanted.iter().filter_map(|id| wim.blob(*id)).map(|blob| (blob.sha1, 1)).collect();
        writer.set_references(&references);
        writer.finish().unwrap();
        let bytes = disk.to_vec();
        let (copy, _) = open(&bytes).unwrap();
        assert!(copy.header().allows_solid);
        assert_eq!(copy.blobs().len(), wanted.len());
        for (id, _) in copy.blobs() {
            copy.read_blob(&bytes, id, u64::MAX, &Limits::default()).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn references_are_those_the_metadata_has(tree in tree(20)) {
        let bytes = make_wim(&tree, &WriteOptions { compression: None, ..options() });
        let (wim, _) = open(&bytes).unwrap();
        let tree = wim.read_image(&bytes, index(1), SourceId(0), &Limits::default()).unwrap().value;
        let sorted = |mut list: Vec<(Sha1Hash, u32)>| {
            list.sort();
            list
        };
        let written = Metadata::from_tree(&tree).unwrap().references;
        prop_assert_eq!(sorted(references(&tree)), sorted(written));
    }
}
