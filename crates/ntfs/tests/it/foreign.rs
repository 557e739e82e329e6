//! Volumes that others made: mkntfs formats them, ntfs-3g fills them. The checker finds no fault, the reader every file.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::mounted::mount;
use crate::support::compare::{read, scan};
use crate::support::noise;
use gravure_io::{FileAt, ReadAt};
use gravure_ntfs::{CheckObserver, Finding, Rule, Strictness, check};
use gravure_nttypes::FileAttributes;
use gravure_testkit::oracle;
use tempfile::TempDir;

#[derive(Default)]
struct All(Vec<(Rule, String)>);

impl CheckObserver for All {
    fn finding(&mut self, finding: &Finding) {
        self.0.push((finding.rule, finding.to_string()));
    }
}

/// What a check finds beside `known` habits of others.
fn findings(source: &dyn ReadAt, known: &[Rule]) -> Vec<String> {
    let mut all = All::default();
    let report = check(source, Strictness::Usual, &mut all).unwrap();
    assert!(report.is_clean(), "{:#?}", all.0);
    all.0.into_iter().filter(|(rule, _)| !known.contains(rule)).map(|(_, text)| text).collect()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A volume that mkntfs makes; `None` after a loud skip.
pub(crate) fn formatted(dir: &TempDir, size: u64, arguments: &[&str]) -> Option<PathBuf> {
    let path = dir.path().join("volume.ntfs");
    std::fs::File::create(&path).unwrap().set_len(size).unwrap();
    run(oracle("mkntfs")?.args(["-F", "-q", "-L", "Theirs"]).args(arguments).arg(&path));
    Some(path)
}

#[test]
fn empty_volumes_of_every_cluster_size_are_clean() {
    for (size, arguments) in [
        (3 << 20, &[][..]),
        (64 << 20, &["-c", "512"]),
        (256 << 20, &["-c", "65536"]),
        (64 << 20, &["-s", "4096", "-c", "4096"]),
        (64 << 20, &["-C"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let Some(path) = formatted(&dir, size, arguments) else { return };
        let file = FileAt::open(&path).unwrap();
        assert_eq!(findings(&file, &[]), Vec::<String>::new(), "{arguments:?}");
        let (volume, scan) = scan(&file);
        assert_eq!((volume.label().to_string(), scan.tree.node_count()), ("Theirs".to_owned(), 1));
    }
}

#[test]
fn files_that_ntfscp_put_onto_a_volume_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = formatted(&dir, 64 << 20, &[]) else { return };
    let mut expected = BTreeMap::new();
    for len in [0usize, 1, 500, 700, 4096, 100_001, 3_000_000] {
        let content = noise(len, len as u64);
        let source = dir.path().join("content");
        std::fs::write(&source, &content).unwrap();
        let name = format!("a file of {len} bytes.bin");
        let Some(mut ntfscp) = oracle("ntfscp") else { return };
        run(ntfscp.arg(&path).arg(&source).arg(&name));
        expected.insert(name, content);
    }
    let file = FileAt::open(&path).unwrap();
    assert_eq!(findings(&file, &[]), Vec::<String>::new());
    let (volume, scan) = scan(&file);
    for (name, content) in &expected {
        let node = scan.tree.node(scan.tree.lookup(name).unwrap());
        assert!(read(&file, &volume, &scan.contents, node.data.as_ref().unwrap()) == *content, "{name}");
    }
    assert_eq!(scan.tree.node_count(), expected.len() + 1);
}

/// Fills a mounted volume; the contents by path.
fn fill(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut expected = BTreeMap::new();
    let mut write = |name: &str, content: Vec<u8>| {
        std::fs::write(root.join(name), &content).unwrap();
        expected.insert(name.to_owned(), content);
    };
    for directory in ["many", "packed", "links"] {
        std::fs::create_dir(root.join(directory)).unwrap();
    }
    for n in 0..500usize {
        write(
            &format!("many/name {:x} of many.txt", n.wrapping_mul(2_654_435_761) % 0xff_ffff),
            noise(n % 900, n as u64),
        );
    }
    let prose: Vec<u8> =
        (0..20_000).flat_map(|n: u32| format!("line {n} of a text\n").into_bytes()).collect();
    write("packed/prose", prose.clone());
    write("packed/mixed", [&prose[..90_001], &noise(200_000, 1), &[0; 150_000], &prose[..5000]].concat());
    write("packed/noise", noise(100_001, 2));
    write("packed/short", b"short ".repeat(40));
    write("Umläute 日本.txt", b"x".to_vec());
    // In turns, so that their clusters are.
    let turns: Vec<std::fs::File> =
        (0..3).map(|n| std::fs::File::create(root.join(format!("turn {n}"))).unwrap()).collect();
    let mut contents = vec![Vec::new(); turns.len()];
    for step in 0..24u64 {
        for (file, content) in turns.iter().zip(&mut contents) {
            let bytes = noise(8192, step * 3 + content.len() as u64);
            file.write_all_at(&bytes, content.len() as u64).unwrap();
            content.extend_from_slice(&bytes);
        }
    }
    for (n, content) in contents.into_iter().enumerate() {
        expected.insert(format!("turn {n}"), content);
    }
    let holes = std::fs::File::create(root.join("holes")).unwrap();
    holes.write_all_at(b"far behind", 2_000_000).unwrap();
    let mut content = vec![0; 2_000_000];
    content.extend_from_slice(b"far behind");
    expected.insert("holes".to_owned(), content);
    for n in 0..60 {
        std::fs::hard_link(
            root.join("turn 0"),
            root.join(format!("links/a long name of the link with number {n}")),
        )
        .unwrap();
    }
    std::os::unix::fs::symlink("turn 0", root.join("symbolic")).unwrap();
    for n in (0..500usize).step_by(2) {
        let name = format!("many/name {:x} of many.txt", n.wrapping_mul(2_654_435_761) % 0xff_ffff);
        std::fs::remove_file(root.join(&name)).unwrap();
        expected.remove(&name);
    }
    expected
}

#[test]
fn volumes_that_ntfs_3g_filled_are_clean_and_read() {
    // With the mark, everything is compressed.
    for arguments in [&[][..], &["-C"]] {
        let dir = tempfile::tempdir().unwrap();
        let Some(path) = formatted(&dir, 48 << 20, arguments) else { return };
        let Some(mounted) = mount(&path, &dir.path().join("mounted"), "compression") else { return };
        let expected = fill(&mounted.0);
        drop(mounted);
        let file = FileAt::open(&path).unwrap();
        // Its sparse files do not end at a unit.
        assert_eq!(findings(&file, &[Rule::SparseUnit]), Vec::<String>::new());
        let (volume, scan) = scan(&file);
        let mut packed = 0;
        for (name, content) in &expected {
            let node = scan.tree.node(scan.tree.lookup(name).unwrap_or_else(|| panic!("{name}")));
            assert!(read(&file, &volume, &scan.contents, node.data.as_ref().unwrap()) == *content, "{name}");
            packed += u32::from(node.attributes.contains(FileAttributes::COMPRESSED));
        }
        assert_eq!(packed > 200, !arguments.is_empty(), "{packed} compressed");
        let linked = scan.tree.lookup("turn 0").unwrap();
        assert_eq!(scan.tree.link_count(linked), 61);
        assert_eq!(scan.tree.walk().count(), expected.len() + 3 + 60 + 1);
    }
}
