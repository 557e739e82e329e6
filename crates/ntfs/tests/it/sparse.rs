//! Sparse files: zeros get no clusters, everybody reads them all the same.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

use std::process::Command;

use crate::support::{Builder, ZeroGuide, compare, file, noise, options, shapes, volume_with};
use gravure_ntfs::{CheckObserver, Finding, Part, Place, Strictness, VolumeOptions, VolumePlan, check};
use gravure_nttypes::FileAttributes;
use gravure_testkit::oracle;
use gravure_tree::{NodeId, Tree};

const UNIT: usize = 64 << 10;

/// Units of noise and of zeros, by letters.
fn content(pattern: &str, tail: usize, seed: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, letter) in pattern.chars().enumerate() {
        match letter {
            'x' => out.extend(noise(UNIT, seed + index as u64)),
            // Zeros but for a byte at the end.
            'o' => out.extend([vec![0; UNIT - 1], vec![7]].concat()),
            _ => out.resize(out.len() + UNIT, 0),
        }
    }
    out.truncate(out.len() - tail);
    out
}

struct Case {
    name: &'static str,
    content: Vec<u8>,
    /// Units that are in clusters.
    stored: u64,
}

/// Patterns with clusters and holes at every place; in the last two the runs do not fit one record.
fn cases() -> Vec<Case> {
    let case = |name, pattern: &str, tail| Case {
        name,
        content: content(pattern, tail, name.len() as u64),
        stored: pattern.chars().filter(|letter| *letter != '.').count() as u64,
    };
    vec![
        case("zeros", "....", 0),
        case("a byte of zeros", ".", UNIT - 1),
        case("zeros with a tail", "...", 100),
        case("starts with a hole", "..xx", 0),
        case("ends with a hole", "xx..", 0),
        case("ends inside a hole", "xx..", 5000),
        case("hole in the middle", "x..x", 0),
        case("two holes", "x.xx...x", 1),
        case("nothing to save", "xox", 3000),
        case("holes of every length", "x.x..x...x....x.....x", 0),
        case("many holes", &"x.".repeat(150), 10),
        case("many holes, the first at the start", &".x".repeat(110), 0),
    ]
}

fn tree() -> (Tree, Vec<(NodeId, Case)>) {
    let mut b = Builder::new(3);
    let root = b.tree.root();
    let mut files = Vec::new();
    for case in cases() {
        let mut node = file(&case.content);
        node.attributes |= FileAttributes::SPARSE;
        let id = b.add(root, case.name, None, node);
        b.link(root, &format!("{} again", case.name), id);
        files.push((id, case));
    }
    b.file(root, "not marked", &[0; 5 * UNIT]);
    (b.tree, files)
}

#[derive(Default)]
struct Keep(Vec<String>);

impl CheckObserver for Keep {
    fn finding(&mut self, finding: &Finding) {
        self.0.push(finding.to_string());
    }
}

#[test]
fn zeros_of_sparse_files_get_no_clusters_and_are_read_as_zeros() {
    let (tree, files) = tree();
    for (sector_size, cluster) in shapes() {
        let what = format!("{sector_size:?}, clusters of {cluster}");
        let options = VolumeOptions { sector_size, cluster_bytes: Some(cluster), ..options(80 << 20) };
        let plan = VolumePlan::new(&tree, &ZeroGuide, &options).unwrap();
        if usize::try_from(cluster).unwrap() <= UNIT {
            for (id, case) in &files {
                let stored: u64 = match plan.place_of(*id, Part::Data).unwrap() {
                    Place::Pieces => plan.pieces(*id).iter().map(|piece| piece.allocated).sum(),
                    Place::Clusters { allocated, .. } => allocated,
                    other => panic!("{}: {other:?}", case.name),
                };
                assert_eq!(stored, case.stored * UNIT as u64, "{what}, {}", case.name);
            }
            assert!(plan.notes().hole_bytes > 250 * UNIT as u64);
        }
        let (bytes, _) = volume_with(&tree, &options, &ZeroGuide);
        let mut keep = Keep::default();
        check(&bytes, Strictness::Fresh, &mut keep).unwrap();
        assert_eq!(keep.0, Vec::<String>::new(), "{what}");
        let (volume, scan) = compare::scan(&bytes);
        assert_eq!(compare::compare(&tree, &bytes, &volume, &scan), 2 * files.len() + 1);
    }
}

#[test]
fn others_read_the_same_bytes() {
    let (tree, files) = tree();
    let dir = tempfile::tempdir().unwrap();
    for cluster in [4096, 65_536] {
        let path = dir.path().join("volume.ntfs");
        let options = VolumeOptions { cluster_bytes: Some(cluster), ..options(80 << 20) };
        std::fs::write(&path, volume_with(&tree, &options, &ZeroGuide).0).unwrap();
        for (program, arguments) in [("ntfsfix", &["-n"][..]), ("ntfsresize", &["--info", "--force"])] {
            let Some(mut command) = oracle(program) else { continue };
            let output = command.args(arguments).arg(&path).output().unwrap();
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        }
        for (_, case) in &files {
            let read = |mut command: Command| {
                let output = command.output().unwrap();
                assert!(
                    output.status.success(),
                    "{}: {}",
                    case.name,
                    String::from_utf8_lossy(&output.stderr)
                );
                assert!(output.stdout == case.content, "{command:?}: {} bytes", output.stdout.len());
            };
            if let Some(mut ntfscat) = oracle("ntfscat") {
                ntfscat.arg(&path).arg(case.name);
                read(ntfscat);
            }
            if let Some(mut archiver) = oracle("7z").filter(|_| cluster == 4096) {
                archiver.args(["x", "-so", "-tntfs"]).arg(&path).arg(case.name);
                read(archiver);
            }
        }
    }
}
