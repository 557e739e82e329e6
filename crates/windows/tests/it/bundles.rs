//! Driver packages and layers out of bundles: what a payload has, which sees no repository and no directory.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use gravure_nttypes::{FileTime, NtName};
use gravure_tree::{ContentRef, Node, Tree};
use gravure_windows::drivers::{
    AddOptions, BundledPackages, InjectOptions, Publish, Repository, Unsigned, inject,
};
use gravure_windows::layers::{Layer, Platform};
use gravure_windows::{Error, WindowsImage};

use crate::support::{NOW, device, dump, listing, nothing_outside, package, storage_inf, windows};

const RAID: &str = "PCI\\VEN_1AF4&DEV_1042";
const UNSIGNED: InjectOptions = InjectOptions { publish: Publish::Never, unsigned: Unsigned::Allow };

/// A directory as a tree, every file in it as it is.
fn tree_of(dir: &Path) -> Tree {
    fn fill(tree: &mut Tree, at: gravure_tree::NodeId, dir: &Path) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = NtName::from(entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                let node = Node { children: Some(Vec::new()), ..Node::default() };
                let id = tree.add(at, name, node).unwrap();
                fill(tree, id, &entry.path());
            } else {
                let mut node = Node {
                    data: Some(ContentRef::inline(std::fs::read(entry.path()).unwrap())),
                    ..Node::default()
                };
                node.times.written = FileTime(0x01da_1111_0000_0000);
                tree.add(at, name, node).unwrap();
            }
        }
    }
    let mut tree = Tree::new(Node { children: Some(Vec::new()), ..Node::default() });
    let root = tree.root();
    fill(&mut tree, root, dir);
    tree
}

#[test]
fn a_bundle_serves_a_device_as_its_repository_does() {
    let temp = tempfile::tempdir().unwrap();
    let mut repository = Repository::create(&temp.path().join("repository")).unwrap();
    let allow = AddOptions { allow_unsigned: true, allow_incomplete: false };
    let added = repository.add(&package(temp.path(), "raid", &storage_inf(RAID, 0)), allow).unwrap();
    repository.commit().unwrap();
    let devices = [device("0000:00:01.0", &[&format!("{RAID}&CC_0100")], &[RAID])];

    let mut by_repository = windows();
    let mut image = WindowsImage::open(&mut by_repository, &nothing_outside, NOW).unwrap();
    let direct = inject(&mut image, &repository, &devices, UNSIGNED).unwrap();
    let outside = image.finish("drivers").unwrap().outside;

    let dir = temp.path().join("bundle");
    std::fs::create_dir(&dir).unwrap();
    repository.write_bundle(&added.manifest, &dir).unwrap();
    let bundle = tree_of(&dir);
    let mut packages = BundledPackages::new(&nothing_outside);
    packages.add("raid", &bundle).unwrap();
    let mut by_bundle = windows();
    let mut image = WindowsImage::open(&mut by_bundle, &nothing_outside, NOW).unwrap();
    let report = inject(&mut image, &packages, &devices, UNSIGNED).unwrap();
    assert_eq!(report, direct);
    assert_eq!(image.finish("drivers").unwrap().outside, [], "everything is in the tree");
    let hive = "/Windows/System32/config/SYSTEM";
    assert_eq!(dump(&by_bundle, hive), dump(&by_repository, hive));
    let files = listing(&by_bundle);
    assert_eq!(files.len(), listing(&by_repository).len() + outside.len());
    for file in outside {
        let size = std::fs::metadata(&file.source).unwrap().len();
        let line = format!("/{} {size}", file.to.replace('\\', "/"));
        assert!(files.contains(&line), "{line}");
    }

    // What is not the package that it says it is.
    std::fs::write(dir.join("files/bin/raid.sys"), b"another driver").unwrap();
    let refused = BundledPackages::new(&nothing_outside).add("raid", &tree_of(&dir)).unwrap_err();
    assert!(matches!(refused, Error::Corrupt { .. }), "{refused}");
    std::fs::remove_file(dir.join("package.json")).unwrap();
    assert!(BundledPackages::new(&nothing_outside).add("raid", &tree_of(&dir)).is_err());
}

#[test]
fn a_layer_in_a_bundle_does_what_it_does_in_a_directory() {
    let temp = tempfile::tempdir().unwrap();
    let text = "[layer]\nid='x'\nversion=1\n[[file]]\nto='C:\\x\\logo.bmp'\nfrom='sub/logo.bmp'\n\
                [[file]]\nto='C:\\x\\newer'\nfrom='sub/logo.bmp'\nwhen='if-newer'\n\
                [[file]]\nto='C:\\x\\room.txt'\ntext='${ROOM}'\n";
    std::fs::create_dir(temp.path().join("sub")).unwrap();
    std::fs::write(temp.path().join("layer.toml"), text).unwrap();
    std::fs::write(temp.path().join("sub/logo.bmp"), b"BM").unwrap();
    let facts = BTreeMap::from([("ROOM".to_owned(), "B7".to_owned())]);
    let layer = Layer::of_bundle(Platform::Windows, &tree_of(temp.path()), &nothing_outside, &facts).unwrap();
    let mut tree = windows();
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let system = image.system().unwrap();
    assert!(layer.apply(&mut image, &system).unwrap().applied);
    assert_eq!(image.read_file("x\\logo.bmp", 9).unwrap().as_deref(), Some(&b"BM"[..]));
    assert_eq!(image.read_file("x\\newer", 9).unwrap().as_deref(), Some(&b"BM"[..]));
    assert_eq!(image.read_file("x\\room.txt", 9).unwrap().as_deref(), Some(&b"B7"[..]));
    assert_eq!(image.finish("").unwrap().outside, []);
    std::fs::remove_file(temp.path().join("sub/logo.bmp")).unwrap();
    let error =
        Layer::of_bundle(Platform::Windows, &tree_of(temp.path()), &nothing_outside, &facts).unwrap_err();
    assert!(error.to_string().contains("sub/logo.bmp"), "{error}");
}
