//! A volume read back is the tree that it was made of.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

mod support;

use gravure_ntfs::VolumeOptions;
use support::compare::{compare, scan};
use support::{options, shapes, volume, windows_tree};

#[test]
fn every_shape_of_volume_reads_back_as_its_tree() {
    let tree = windows_tree(3000);
    for (sector_size, cluster) in shapes() {
        let size = if cluster > 65_536 { 600 << 20 } else { 128 << 20 };
        let options = VolumeOptions { sector_size, cluster_bytes: Some(cluster), ..options(size) };
        let (bytes, _) = volume(&tree, &options);
        let (volume, scan) = scan(&bytes);
        assert_eq!((volume.label().to_string(), volume.version()), ("Gravure".to_owned(), (3, 1)));
        let count = compare(&tree, &bytes, &volume, &scan);
        assert!(count > 4000, "{count}");
    }
}
