//! The checker is silent on volumes that are whole, whoever made them.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

mod support;

use gravure_ntfs::{CheckObserver, CheckReport, Collisions, Finding, Strictness, VolumeOptions, check};
use support::{Builder, options, shapes, volume, windows_tree};

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
fn own_volumes_of_every_shape_are_clean_to_the_last_copy() {
    let tree = windows_tree(3000);
    for (sector_size, cluster) in shapes() {
        let size = if cluster > 65_536 { 600 << 20 } else { 128 << 20 };
        let options = VolumeOptions { sector_size, cluster_bytes: Some(cluster), ..options(size) };
        let (bytes, _) = volume(&tree, &options);
        let report = silent(&bytes, &format!("{sector_size:?}, clusters of {cluster}"));
        assert!(report.files > 3000 && report.names > 4000 && report.directories > 60, "{report:?}");
    }
}

#[test]
fn names_that_differ_in_case_only_are_no_clash_where_that_was_asked_for() {
    let mut b = Builder::new(2);
    let root = b.tree.root();
    for name in ["FAQ.html", "faq.html", "Faq.html", "a.txt", "A.TXT", "A.txt", "other"] {
        b.file(root, name, name.as_bytes());
    }
    let options = VolumeOptions { collisions: Collisions::Keep, ..options(16 << 20) };
    silent(&volume(&b.tree, &options).0, "names that differ in case");
}
