//! ntfs-3g mounts our volumes (specs/ntfs.md, 3.3): each name is looked up, each content read; then it writes to them, after which
//! they are as sound as before.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

use std::collections::HashMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use gravure_ntfs::{CheckObserver, Collisions, Finding, Rule, Strictness, VolumeOptions, check};
use gravure_nttypes::NtName;
use gravure_testkit::full_run;
use gravure_tree::{ContentRef, NodeId, Origin, Tree};
use sha1::{Digest, Sha1};
use tempfile::TempDir;

use crate::mounted::mount;
use crate::support::{Builder, ZeroGuide, add_holes, compare, options, volume_with, windows_builder};

fn bytes_of(content: &ContentRef) -> &[u8] {
    match &content.origin {
        Origin::Inline(bytes) => bytes,
        _ => &[],
    }
}

fn write(dir: &TempDir, tree: &Tree, options: &VolumeOptions) -> PathBuf {
    let path = dir.path().join("volume.ntfs");
    std::fs::write(&path, volume_with(tree, options, &ZeroGuide).0).unwrap();
    path
}

/// Looks every name up by itself, lists every directory, reads every content. Returns names looked up and contents read.
fn look_up_all(tree: &Tree, root: &Path) -> (usize, usize) {
    let (mut names, mut contents) = (0, 0);
    let mut numbers: HashMap<NodeId, u64> = HashMap::new();
    let mut listed: HashMap<NodeId, usize> = HashMap::new();
    for step in tree.walk() {
        let node = tree.node(step.entry.node);
        let path = step.display_path();
        let place = root.join(path.trim_start_matches('/'));
        let metadata = place.symlink_metadata().unwrap_or_else(|error| panic!("{path}: {error}"));
        names += 1;
        *listed.entry(step.parent).or_default() += 1;
        // All names of a file lead to one record.
        let number = *numbers.entry(step.entry.node).or_insert(metadata.ino());
        assert_eq!(metadata.ino(), number, "{path}");
        // A name that is its own short one stands there once.
        let is_own = |short: &NtName| short.to_string().eq_ignore_ascii_case(&step.entry.name.to_string());
        if let Some(short) = step.entry.short_name.as_ref().filter(|short| !is_own(short)) {
            let other = place.with_file_name(short.to_string());
            let metadata =
                other.symlink_metadata().unwrap_or_else(|error| panic!("{path}: {short}: {error}"));
            assert_eq!(metadata.ino(), number, "{path}: {short}");
        }
        let Some(data) = node.data.as_ref().filter(|_| node.reparse.is_none()) else {
            assert!(!metadata.is_file(), "{path}");
            assert_eq!(metadata.is_dir(), node.reparse.is_none(), "{path}");
            continue;
        };
        assert!(metadata.is_file() && metadata.len() == data.size, "{path}: {metadata:?}");
        let found = std::fs::read(&place).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(Sha1::digest(found), Sha1::digest(bytes_of(data)), "{path}");
        contents += 1;
    }
    // What is found by a search is listed, once, and nothing else is.
    for (directory, count) in listed {
        let step = tree.walk().find(|step| step.entry.node == directory);
        let place = step.map_or_else(String::new, |step| step.display_path());
        let found = std::fs::read_dir(root.join(place.trim_start_matches('/'))).unwrap();
        let found = found.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            !(place.is_empty() && name.to_string_lossy().starts_with('$'))
        });
        assert_eq!(found.count(), count, "{place}");
    }
    (names, contents)
}

/// What is left behind that no driver minds: descriptors of files that were deleted, sparse streams that end inside a unit.
const HABITS: [Rule; 2] = [Rule::SecurityUnused, Rule::SparseUnit];

#[derive(Default)]
struct Keep(Vec<(Rule, String)>);

impl CheckObserver for Keep {
    fn finding(&mut self, finding: &Finding) {
        self.0.push((finding.rule, finding.to_string()));
    }
}

/// Every name and content read-only, then made, changed, renamed, linked and deleted files, in old directories and new ones.
#[test]
fn ntfs_3g_finds_every_name_and_content_and_writes_without_harm() {
    // The usual shape, and those in which blocks, records or clusters are counted otherwise.
    let (count, size) = if full_run() { (60_000, 256 << 20) } else { (2000, 96 << 20) };
    let mut shapes = crate::support::shapes();
    shapes.retain(|(_, cluster)| *cluster <= 65_536);
    if !full_run() {
        shapes.retain(|(sector, cluster)| *cluster == 4096 || *cluster == 65_536 && sector.bytes() == 512);
    }
    for (sector_size, cluster) in shapes {
        let what = format!("{sector_size:?}, clusters of {cluster}");
        // A directory that large in one shape is enough.
        let large = cluster == 4096 && sector_size.bytes() == 512;
        let mut b = windows_builder(if large { count } else { 2000 });
        add_holes(&mut b);
        let tree = b.tree;
        let size = if large { size } else { 192 << 20 };
        let dir = tempfile::tempdir().unwrap();
        let shape = VolumeOptions { sector_size, cluster_bytes: Some(cluster), ..options(size) };
        let path = write(&dir, &tree, &shape);
        let at = dir.path().join("mounted");
        let Some(mounted) = mount(&path, &at, "ro") else { return };
        let (names, contents) = look_up_all(&tree, &mounted.0);
        assert!(names > 3200 && contents > 3000, "{what}: {names} names, {contents} contents");
        assert_eq!(names, tree.walk().count(), "{what}");
        drop(mounted);

        let Some(mounted) = mount(&path, &at, "rw,big_writes") else { return };
        let root = &mounted.0;
        std::fs::create_dir(root.join("made")).unwrap();
        for n in 0..700 {
            std::fs::write(root.join(format!("made/file number {n}")), format!("content {n}")).unwrap();
            std::fs::write(root.join(format!("large directory/made {n}")), vec![7; n]).unwrap();
        }
        for n in (0..700).step_by(3) {
            std::fs::remove_file(root.join(format!("made/file number {n}"))).unwrap();
        }
        let mut removed = Vec::new();
        for step in tree.walk().filter(|step| step.display_path().starts_with("/large directory/")).step_by(2)
        {
            let path = step.display_path();
            std::fs::remove_file(root.join(&path[1..])).unwrap();
            removed.push(path);
        }
        std::fs::rename(root.join("made/file number 1"), root.join("moved")).unwrap();
        std::fs::rename(root.join("Windows/System32"), root.join("made/System33")).unwrap();
        std::fs::rename(root.join("Windows/a long name.config"), root.join("Windows/another name.config"))
            .unwrap();
        std::fs::hard_link(root.join("linked 2"), root.join("made/linked 4")).unwrap();
        std::fs::remove_file(root.join("Windows/WinSxS/component_0500_of_a_long_name.manifest")).unwrap();
        let file = std::fs::File::options().write(true).open(root.join("streams.txt")).unwrap();
        file.write_all_at(&[9; 70_000], 50).unwrap();
        std::fs::write(root.join("sparse"), b"no longer").unwrap();
        drop((file, mounted));

        let bytes = std::fs::read(&path).unwrap();
        let mut keep = Keep::default();
        let report = check(&bytes, Strictness::Usual, &mut keep).unwrap();
        assert_eq!(report.errors, 0, "{what}: {:#?}", keep.0);
        let odd: Vec<_> = keep.0.iter().filter(|(rule, _)| !HABITS.contains(rule)).collect();
        assert!(odd.is_empty(), "{what}: {odd:#?}");
        let (volume, scan) = compare::scan(&bytes);
        let node = |path: &str| {
            scan.tree.node(scan.tree.lookup(path).unwrap_or_else(|| panic!("{what}: no {path}")))
        };
        let read =
            |path: &str| compare::read(&bytes, &volume, &scan.contents, node(path).data.as_ref().unwrap());
        assert_eq!(read("/moved"), b"content 1", "{what}");
        assert_eq!(read("/made/file number 2"), b"content 2", "{what}");
        assert_eq!(read("/large directory/made 699"), vec![7; 699], "{what}");
        assert_eq!(read("/made/System33/size 4097").len(), 4097, "{what}");
        assert_eq!(read("/streams.txt")[50..], [9; 70_000], "{what}");
        assert_eq!(read("/sparse"), b"no longer", "{what}");
        assert_eq!(scan.tree.link_count(scan.tree.lookup("/made/linked 4").unwrap()), 4, "{what}");
        assert_eq!(scan.tree.link_count(scan.tree.lookup("/made/System33/popular").unwrap()), 1023, "{what}");
        assert!(
            removed.len() >= 1000 && removed.iter().all(|path| scan.tree.lookup(path).is_none()),
            "{what}"
        );
        let all = tree.walk().count() + 1 + 2 * 700 + 1;
        assert_eq!(scan.tree.walk().count(), all - 234 - removed.len() - 1, "{what}");
    }
}

/// Names that are equal but for case are found one by one: the order of ties, which no checker looks at.
#[test]
fn ntfs_3g_finds_names_that_differ_in_case_only() {
    let mut b = Builder::new(2);
    let root = b.tree.root();
    for n in 0..300 {
        for name in [format!("Name {n}.html"), format!("name {n}.html"), format!("NAME {n}.HTML")] {
            b.file(root, &name, name.as_bytes());
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, &b.tree, &VolumeOptions { collisions: Collisions::Keep, ..options(16 << 20) });
    let Some(mounted) = mount(&path, &dir.path().join("mounted"), "ro") else { return };
    assert_eq!(look_up_all(&b.tree, &mounted.0), (900, 900));
}
