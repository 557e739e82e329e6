//! The checker is silent on volumes of ours, and the reader reads what was written.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

use std::collections::HashMap;

use crate::support::compare::{TakeAll, compare, scan};
use crate::support::patch::{Patcher, u32_at};
use crate::support::{
    Builder, all_writes_with, compressed, noise, options, shapes, volume, volume_with, windows_tree,
};
use gravure_codec::Method;
use gravure_ntfs::{
    BOOT_FILE_LEN, CheckObserver, CheckReport, Collisions, ContentGuide, Encoding, Finding, NoGuide, Rule,
    SectorSize, Strictness, Volume, VolumeOptions, VolumePlan, WofAlgorithm, check,
};
use gravure_tree::{ContentRef, NodeId, SourceId};

#[derive(Default)]
struct All(Vec<String>);

impl CheckObserver for All {
    fn finding(&mut self, finding: &Finding) {
        self.0.push(format!("{}: {finding}", finding.rule.name()));
    }
}

fn silent(bytes: &[u8], what: &str) -> CheckReport {
    let mut all = All::default();
    let report = check(&bytes, Strictness::Fresh, &mut all).unwrap();
    assert!(all.0.is_empty() && report.is_clean(), "{what}: {:#?}", all.0);
    report
}

#[test]
fn own_volumes_of_every_shape_are_clean_to_the_last_copy_and_read_back_as_their_tree() {
    let tree = windows_tree(1500);
    for (sector_size, cluster) in shapes() {
        let size = if cluster > 65_536 { 400 << 20 } else { 64 << 20 };
        let options = VolumeOptions { sector_size, cluster_bytes: Some(cluster), ..options(size) };
        let (bytes, _) = volume(&tree, &options);
        let report = silent(&bytes, &format!("{sector_size:?}, clusters of {cluster}"));
        assert!(report.files > 1500 && report.names > 2500 && report.directories > 60, "{report:?}");
        let (volume, scan) = scan(&bytes);
        assert_eq!((volume.label().to_string(), volume.version()), ("Gravure".to_owned(), (3, 1)));
        assert_eq!(volume.used_clusters(&bytes).unwrap(), report.used_clusters);
        let count = compare(&tree, &bytes, &volume, &scan);
        assert!(count > 2500, "{count}");
    }
}

/// Nobody reads ten thousand lines, but a program may want them.
#[test]
fn as_many_findings_of_a_rule_are_told_as_the_observer_wants() {
    struct Wants(u64, u64);
    impl CheckObserver for Wants {
        fn finding(&mut self, finding: &Finding) {
            self.1 += u64::from(finding.rule == Rule::RecordNumber);
        }
        fn most_of_a_rule(&self) -> u64 {
            self.0
        }
    }
    #[derive(Default)]
    struct Usual(u64);
    impl CheckObserver for Usual {
        fn finding(&mut self, finding: &Finding) {
            self.0 += u64::from(finding.rule == Rule::RecordNumber);
        }
    }
    let mut patcher = Patcher::new(volume(&windows_tree(1500), &options(64 << 20)).0);
    for number in 100..1300 {
        let start = patcher.record(number);
        patcher.set_guarded(start, 0x2f, &[1]);
    }
    let mut usual = Usual::default();
    assert_eq!(check(&patcher.bytes, Strictness::Fresh, &mut usual).unwrap().errors, 1200);
    assert_eq!(usual.0, 1000);
    for (most, told) in [(u64::MAX, 1200), (7, 7)] {
        let mut wants = Wants(most, 0);
        assert_eq!(check(&patcher.bytes, Strictness::Fresh, &mut wants).unwrap().errors, 1200);
        assert_eq!(wants.1, told);
    }
}

/// Compressed by each algorithm of the overlay filter, of sizes around its chunks.
#[test]
fn files_behind_the_overlay_filter_come_out_plain() {
    use WofAlgorithm::{Lzx, Xpress4K, Xpress8K, Xpress16K};
    for (algorithm, chunk) in [(Xpress4K, 4096), (Lzx, 32_768), (Xpress8K, 8192), (Xpress16K, 16_384)] {
        let method = if algorithm == Lzx { Method::Lzx } else { Method::Xpress };
        let mut b = Builder::new(2);
        let root = b.tree.root();
        let text: Vec<u8> =
            (0..).flat_map(|n: u32| format!("{n} bottles\n").into_bytes()).take(200_000).collect();
        // Some chunks do not get smaller.
        let content = |len: usize| [&text[..len / 2], &noise(len - len / 2, len as u64)].concat();
        let mut guide = Compact { algorithm, stored: HashMap::new() };
        for len in [chunk - 1, chunk, chunk + 1, 3 * chunk + 5, 150_001] {
            let node = b.file(root, &format!("file of {len}"), &content(len));
            guide.stored.insert(node, compressed(&content(len), method, chunk));
        }
        let options = options(16 << 20);
        let plan = VolumePlan::new(&b.tree, &guide, &options).unwrap();
        let mut bytes = vec![0; 16 << 20];
        for write in all_writes_with(&plan, &b.tree, &|node| guide.stored[&node].clone()) {
            let start = usize::try_from(write.offset).unwrap();
            bytes[start..start + write.bytes.len()].copy_from_slice(&write.bytes);
        }
        silent(&bytes, &format!("{algorithm:?}"));
        let (volume, scan) = scan(&bytes);
        assert_eq!(compare(&b.tree, &bytes, &volume, &scan), 5, "{algorithm:?}");
    }
}

struct Compact {
    algorithm: WofAlgorithm,
    stored: HashMap<NodeId, Vec<u8>>,
}

impl ContentGuide for Compact {
    fn position(&self, _: &ContentRef) -> u64 {
        0
    }

    fn encoding(&self, node: NodeId, _: &ContentRef) -> Encoding {
        let stored_bytes = self.stored[&node].len() as u64;
        Encoding::Wof { algorithm: self.algorithm, stored_bytes }
    }
}

#[test]
fn names_that_differ_in_case_only_are_no_clash_where_that_was_asked_for() {
    let mut b = Builder::new(2);
    let root = b.tree.root();
    for name in ["FAQ.html", "faq.html", "Faq.html", "a.txt", "A.TXT", "A.txt", "other"] {
        b.file(root, name, name.as_bytes());
    }
    let directory = b.directory(root, "directory");
    b.file(directory, "Name", b"of a directory whose names are told apart in any case");
    let options = VolumeOptions { collisions: Collisions::Keep, ..options(16 << 20) };
    let (bytes, notes) = volume(&b.tree, &options);
    silent(&bytes, "names that differ in case");
    // Only where it matters, the directory is marked: version 1 of at most 0 versions.
    assert_eq!(notes.case_sensitive_directories, 1);
    let patcher = Patcher::new(bytes.clone());
    for (record, expected) in [(5, 1), (patcher.find("directory"), 0), (patcher.find("Name"), 0)] {
        let value = patcher.record(record) + patcher.attribute(record, 0x10, "").value;
        assert_eq!(
            (u32_at(&bytes, value + 0x24), u32_at(&bytes, value + 0x28)),
            (0, expected),
            "record {record}"
        );
    }
}

/// A directory may be marked and have no such names yet; whoever lays the volume out anew can say so.
#[test]
fn the_mark_of_case_sensitive_directories_is_read_and_written() {
    struct Marked(Vec<NodeId>);
    impl ContentGuide for Marked {
        fn position(&self, _: &ContentRef) -> u64 {
            0
        }
        fn is_case_sensitive(&self, node: NodeId) -> bool {
            self.0.contains(&node)
        }
    }
    let mut b = Builder::new(2);
    let root = b.tree.root();
    let marked = b.directory(root, "marked");
    b.file(marked, "only", b"1");
    let empty = b.directory(marked, "empty");
    let twins = b.directory(root, "twins");
    b.file(twins, "name", b"1");
    b.file(twins, "NAME", b"2");
    b.directory(root, "other");
    let options = VolumeOptions { collisions: Collisions::Keep, ..options(16 << 20) };
    let (bytes, notes) = volume_with(&b.tree, &options, &Marked(vec![marked, empty]));
    silent(&bytes, "marked directories");
    assert_eq!(notes.case_sensitive_directories, 3);
    let (_, scan) = scan(&bytes);
    let mut expected = ["/marked", "/marked/empty", "/twins"].map(|path| scan.tree.lookup(path).unwrap());
    expected.sort_unstable();
    assert_eq!(scan.case_sensitive, expected);
    // A file's version number says nothing of the kind, nor does that of a directory with a highest version.
    let mut patcher = Patcher::new(bytes);
    for (name, pos) in [("only", 0x28), ("empty", 0x24)] {
        let number = patcher.find(name);
        let (start, value) = (patcher.record(number), patcher.attribute(number, 0x10, "").value);
        patcher.set_guarded(start, value + pos, &[1]);
    }
    let volume = Volume::open(&patcher.bytes).unwrap();
    let scan = volume.scan(&patcher.bytes, SourceId(0), &mut TakeAll::default()).unwrap();
    assert_eq!(scan.case_sensitive.len(), 2);
}

#[test]
fn captured_boot_code_is_kept_and_the_parameters_are_the_volumes_own() {
    let tree = windows_tree(100);
    let mut code = [0u8; BOOT_FILE_LEN];
    code.copy_from_slice(&noise(BOOT_FILE_LEN, 5));
    code[..3].copy_from_slice(&[0xeb, 0x52, 0x90]);
    let with_code =
        VolumeOptions { hidden_sectors: 16_384, boot_code: Some(Box::new(code)), ..options(64 << 20) };
    let (bytes, _) = volume(&tree, &with_code);
    let (plain, _) = volume(&tree, &VolumeOptions { boot_code: None, ..with_code.clone() });
    silent(&bytes, "a volume with boot code");
    assert_eq!(bytes[..3], code[..3]);
    assert_eq!(bytes[3..0x54], plain[3..0x54], "name and parameters");
    assert_eq!(u32_at(&bytes, 0x1c), 16_384);
    // Behind the code is the place of the shadow copies' catalogue, which this volume has none of.
    assert_eq!((&bytes[0x54..510], &bytes[512..0x1e00]), (&code[0x54..510], &code[512..0x1e00]));
    assert!(bytes[0x1e00..BOOT_FILE_LEN].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[510..512], [0x55, 0xaa]);
    // The copy in the last sector is one of the whole sector; all else is as without.
    assert_eq!(bytes[bytes.len() - 512..], bytes[..512]);
    assert!(bytes[BOOT_FILE_LEN..bytes.len() - 512] == plain[BOOT_FILE_LEN..plain.len() - 512]);
    let large_sectors = VolumeOptions { sector_size: SectorSize::Bytes4096, ..with_code };
    let error = VolumePlan::new(&tree, &NoGuide, &large_sectors).map(drop).unwrap_err().to_string();
    assert!(error.contains("boot code: code for BIOS machines is for sectors of 512 bytes"), "{error}");
}
