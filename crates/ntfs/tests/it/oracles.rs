//! ntfs-3g's tools and wimlib read our volumes: accounting, every name, every content, the whole tree.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

use std::path::{Path, PathBuf};

use crate::support::checkers::{check, check_with_python, run};
use crate::support::{
    add_compact, add_holes, options, shapes, volume, volume_of_forms, windows_builder, windows_tree,
};
use gravure_ntfs::{SectorSize, VolumeOptions};
use gravure_testkit::{full_run, oracle, python_oracle_script};
use gravure_tree::{ContentRef, Origin, Tree};
use tempfile::TempDir;

fn write_volume(dir: &TempDir, tree: &Tree, options: &VolumeOptions) -> PathBuf {
    let path = dir.path().join("volume.ntfs");
    std::fs::write(&path, volume(tree, options).0).unwrap();
    path
}

#[test]
fn checkers_call_every_shape_of_volume_clean() {
    let tree = windows_tree(2000);
    for (sector_size, cluster) in shapes() {
        let dir = tempfile::tempdir().unwrap();
        let volume_bytes = if cluster > 65_536 { 600 << 20 } else { 128 << 20 };
        let options = VolumeOptions { sector_size, cluster_bytes: Some(cluster), ..options(volume_bytes) };
        let path = write_volume(&dir, &tree, &options);
        let what = format!("{sector_size:?}, clusters of {cluster}");
        check(&path, &what);
        // It takes the update sequence for one number a sector, which NTFS has for 512 bytes whatever the sector.
        if sector_size == SectorSize::Bytes512 {
            check_with_rust_fs_ntfs(&path, &what);
        }
        // These take seconds; one knows no clusters above 64 KiB, and sizes make little difference to what they look at.
        if cluster == 4096 || cluster == 65_536 && full_run() {
            check_with_python(&path, &what);
        }
    }
}

/// Compressed streams behind reparse points and holes: in every list of runs, in `$R`, in extension records.
#[test]
fn checkers_call_volumes_with_compressed_files_and_holes_clean() {
    let mut b = windows_builder(2000);
    add_holes(&mut b);
    let guide = add_compact(&mut b);
    let mut shapes = shapes();
    shapes.retain(|(_, cluster)| *cluster <= 65_536);
    for (sector_size, cluster) in shapes {
        let dir = tempfile::tempdir().unwrap();
        let what = format!("{sector_size:?}, clusters of {cluster}");
        let options = VolumeOptions { sector_size, cluster_bytes: Some(cluster), ..options(192 << 20) };
        let path = dir.path().join("volume.ntfs");
        std::fs::write(&path, volume_of_forms(&b.tree, &options, &guide)).unwrap();
        check(&path, &what);
        if sector_size == SectorSize::Bytes512 {
            check_with_rust_fs_ntfs(&path, &what);
        }
        if cluster == 4096 && (full_run() || sector_size == SectorSize::Bytes512) {
            check_with_python(&path, &what);
        }
        // The bytes themselves, by another reader of runs: compressed streams as they are, holes as zeros.
        let mut read = 0;
        for step in b.tree.walk().filter(|step| step.path.len() == 2) {
            let (id, file) = (step.entry.node, step.display_path());
            let (stream, expected) = match guide.stored.get(&id) {
                Some((_, stored)) => ("WofCompressedData", &stored[..]),
                None if file.starts_with("/holes/") => {
                    ("", b.tree.node(id).data.as_ref().map_or(&[][..], bytes_of))
                }
                None => continue,
            };
            let Some(mut ntfscat) = oracle("ntfscat") else { return };
            let output = ntfscat.args(["-n", stream]).arg(&path).arg(&file).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && output.stdout == expected, "{what}: {file}: {error}");
            read += 1;
        }
        assert_eq!(read, 20 + 4 + 10, "{what}");
    }
}

/// The check of `rust-fs-ntfs`: records, their attributes, the mirror, the log, and the bitmap against every run.
fn check_with_rust_fs_ntfs(path: &Path, what: &str) {
    let mut volume = fs_ntfs::fsck::PathIo::open(path).unwrap();
    let report = fs_ntfs::fsck::check_io(&mut volume).unwrap();
    assert_eq!(report.findings, Vec::new(), "{what}");
    assert!(!report.dirty && report.logfile_empty, "{what}: {report:?}");
    assert!(report.records_scanned > 2000 && report.clusters_scanned > 0, "{what}: {report:?}");
}

/// dissect lists every name with its size and the SHA-1 of its content; reparse points come without.
#[test]
fn dissect_reads_every_name_and_content() {
    const SCRIPT: &str = r#"
import hashlib, sys
from dissect.ntfs import NTFS

def walk(record, path):
    for name, entry in record.listdir(ignore_dos=True).items():
        if not path and (name == "." or name[0] == "$"):
            continue
        child = entry.dereference()
        here = path + "/" + name
        if child.is_reparse_point():
            print(here, "reparse", sep="\t")
        elif child.is_dir():
            print(here, "directory", sep="\t")
            walk(child, here)
        else:
            data = child.open().read()
            print(here, len(data), hashlib.sha1(data).hexdigest(), sep="\t")

sys.stdout.reconfigure(encoding="utf-8", errors="surrogatepass")
with open(sys.argv[1], "rb") as file:
    volume = NTFS(file)
    walk(volume.mft.get(5), "")
"#;
    let Some(mut command) = python_oracle_script("dissect.ntfs", SCRIPT) else { return };
    let tree = windows_tree(400);
    let dir = tempfile::tempdir().unwrap();
    let path = write_volume(&dir, &tree, &options(64 << 20));
    let (succeeded, text) = run(command.arg(&path));
    assert!(succeeded, "{text}");
    let mut expected: Vec<String> = tree
        .walk()
        .map(|step| {
            let node = tree.node(step.entry.node);
            let path = step.display_path();
            match &node.data {
                _ if node.reparse.is_some() => format!("{path}\treparse"),
                Some(data) => {
                    let sha1 = <sha1::Sha1 as sha1::Digest>::digest(bytes_of(data));
                    let sha1: String = sha1.iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("{path}\t{}\t{sha1}", data.size)
                }
                None => format!("{path}\tdirectory"),
            }
        })
        .collect();
    let mut found: Vec<&str> = text.lines().collect();
    expected.sort();
    found.sort_unstable();
    assert!(found.len() > 1500);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

fn bytes_of(content: &ContentRef) -> &[u8] {
    match &content.origin {
        Origin::Inline(bytes) => bytes,
        _ => &[],
    }
}

/// Applies what wimlib captured from our volume to a directory, and compares with the tree.
#[test]
fn wimlib_captures_the_same_tree() {
    if oracle("wimlib-imagex").is_none() {
        return;
    }
    let tree = windows_tree(2000);
    let dir = tempfile::tempdir().unwrap();
    let path = write_volume(&dir, &tree, &options(128 << 20));
    let (image, target) = (dir.path().join("x.wim"), dir.path().join("target"));
    let wimlib = |arguments: &[&std::ffi::OsStr]| run(oracle("wimlib-imagex").unwrap().args(arguments));
    let (succeeded, text) = wimlib(&[
        "capture".as_ref(),
        path.as_ref(),
        image.as_ref(),
        "x".as_ref(),
        "--compress=none".as_ref(),
    ]);
    assert!(succeeded && !text.contains("WARNING"), "{text}");
    let (succeeded, text) = wimlib(&["apply".as_ref(), image.as_ref(), "1".as_ref(), target.as_ref()]);
    assert!(succeeded, "{text}");
    let mut files = 0;
    for step in tree.walk() {
        let node = tree.node(step.entry.node);
        if let (Some(data), None) = (&node.data, &node.reparse) {
            let place = target.join(step.display_path().trim_start_matches('/'));
            let found = std::fs::read(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
            assert!(found == bytes_of(data), "{}", step.display_path());
            files += 1;
        }
    }
    assert!(files > 3000);
    let (_, listing) = wimlib(&["dir".as_ref(), image.as_ref(), "1".as_ref(), "--detailed".as_ref()]);
    for expected in ["ALONGN~1.CON", "PROGRA~1", "DIRECT~1", "stream number 59"] {
        assert!(listing.contains(expected), "{expected}");
    }
    let link = std::fs::read_link(target.join("Windows/file link")).unwrap();
    assert_eq!(link, Path::new("../one"));
    let links = listing
        .lines()
        .filter(|line| line.starts_with("Link Count") && line.trim_end().ends_with("= 1024"))
        .count();
    assert_eq!(links, 1024, "links of the popular file");
}
