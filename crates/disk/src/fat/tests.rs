//! Building and reading back in memory. Foreign readers are in `tests/it/fat_oracles.rs`.

use gravure_io::{MemoryDisk, WriteAt};
use proptest::prelude::*;

use super::*;
use crate::Error;

const MIB: u64 = 1 << 20;

fn options(size_bytes: u64, sector_bytes: u32) -> FatOptions {
    FatOptions {
        size_bytes,
        sector_bytes,
        hidden_sectors: 2048,
        serial: 0x1234_abcd,
        label: "Gravure".into(),
        time: FatTime::from_unix(1_700_000_000),
    }
}

fn disk(size_bytes: u64, sector_bytes: u32) -> MemoryDisk {
    let disk = MemoryDisk::new(usize::try_from(size_bytes).unwrap(), sector_bytes);
    // What was there before must not matter.
    disk.write_all_at(0, &vec![0xa5; 1 << 20]).unwrap();
    disk
}

#[test]
fn comes_back_from_both_kinds_and_sector_sizes() {
    for (size, sector, kind) in [
        (40 * MIB, 512, FatKind::Fat32),
        (8 * MIB, 512, FatKind::Fat16),
        (300 * MIB, 4096, FatKind::Fat32),
        (20 * MIB, 4096, FatKind::Fat16),
    ] {
        let (loader, long) = (vec![0x5a; 100_001], b"deep".to_vec());
        let empty: Vec<u8> = Vec::new();
        let mut builder = FatBuilder::new(options(size, sector)).unwrap();
        builder.add_file("/EFI/BOOT/BOOTX64.EFI", &loader).unwrap();
        builder.add_file("EFI/debian/Ein langer Name mit \u{fc}.cfg", &long).unwrap();
        builder.add_file("empty", &empty).unwrap();
        builder.add_dir("EFI/debian/sub/subsub").unwrap();
        let image = builder.finish().unwrap();
        assert_eq!(image.geometry().kind, kind);
        let disk = disk(size, sector);
        image.write(&disk).unwrap();
        image.verify(&disk).unwrap();

        let volume = FatVolume::open(&disk).unwrap();
        assert_eq!((volume.serial(), volume.label()), (0x1234_abcd, "GRAVURE"));
        assert_eq!(volume.geometry(), image.geometry());
        assert_eq!(volume.read_file("efi/boot/bootx64.efi", 1 << 20).unwrap(), loader);
        assert_eq!(volume.read_file("EFI/debian/ein langer name mit \u{dc}.CFG", 100).unwrap(), long);
        assert_eq!(volume.read_file("empty", 0).unwrap(), empty);
        let names: Vec<_> = volume.list("EFI").unwrap().into_iter().map(|e| (e.name, e.directory)).collect();
        assert_eq!(names, [("BOOT".to_owned(), true), ("debian".to_owned(), true)]);
        assert!(volume.contains("EFI/debian/sub/subsub").unwrap() && !volume.contains("EFI/none").unwrap());
        assert!(matches!(volume.read_file("empty/x", 1), Err(Error::Invalid { .. })));
        assert!(matches!(volume.read_file("EFI/BOOT/BOOTX64.EFI", 100_000), Err(Error::DoesNotFit { .. })));
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let content = vec![1; 5000];
    let write = |fill: u8| {
        let mut builder = FatBuilder::new(options(8 * MIB, 512)).unwrap();
        builder.add_file("a long name here.efi", &content).unwrap();
        let disk = MemoryDisk::new(8 << 20, 512);
        disk.write_all_at(0, &vec![fill; 8 << 20]).unwrap();
        let image = builder.finish().unwrap();
        image.write(&disk).unwrap();
        let data_end = image.geometry().data_offset() + image.used_bytes();
        disk.to_vec()[..usize::try_from(data_end).unwrap()].to_vec()
    };
    assert_eq!(write(0), write(0xff));
}

#[test]
fn verify_names_the_file_that_differs() {
    let content = vec![7; 3000];
    let mut builder = FatBuilder::new(options(40 * MIB, 512)).unwrap();
    builder.add_file("EFI/a.efi", &content).unwrap();
    let image = builder.finish().unwrap();
    let disk = disk(40 * MIB, 512);
    image.write(&disk).unwrap();
    let offset = image.geometry().cluster_offset(4) + 1234;
    disk.write_all_at(offset, &[8]).unwrap();
    match image.verify(&disk).unwrap_err() {
        Error::Differs { what, offset } => assert_eq!((what.as_str(), offset), ("/EFI/a.efi", 1234)),
        other => panic!("{other:?}"),
    }
    // A file more than asked for is a difference too.
    let mut builder = FatBuilder::new(options(40 * MIB, 512)).unwrap();
    builder.add_file("EFI/a.efi", &content).unwrap();
    builder.add_file("EFI/b.efi", &content).unwrap();
    builder.finish().unwrap().write(&disk).unwrap();
    assert!(matches!(image.verify(&disk), Err(Error::Differs { .. })));
}

#[test]
fn refuses_names_twice_and_what_does_not_fit() {
    let (small, large) = (vec![0; 10], vec![0; 9 << 20]);
    let mut builder = FatBuilder::new(options(8 * MIB, 512)).unwrap();
    builder.add_file("EFI/Boot/x.efi", &small).unwrap();
    assert!(matches!(builder.add_file("efi/BOOT/X.EFI", &small), Err(Error::Invalid { .. })));
    assert!(matches!(builder.add_dir("EFI/boot/X.efi/y"), Err(Error::Invalid { .. })));
    assert!(matches!(builder.add_file("EFI/boot", &small), Err(Error::Invalid { .. })));
    builder.add_file("large", &large).unwrap();
    assert!(matches!(builder.finish(), Err(Error::DoesNotFit { .. })));

    let mut builder = FatBuilder::new(options(8 * MIB, 512)).unwrap();
    for index in 0..511 {
        builder.add_file(&format!("F{index}"), &small).unwrap();
    }
    builder.add_file("ONEMORE", &small).unwrap();
    match builder.finish() {
        Err(Error::DoesNotFit { wanted, available, .. }) => {
            assert_eq!((wanted, available), (513 * 32, 512 * 32))
        }
        other => panic!("{other:?}"),
    }
    assert!(FatBuilder::new(FatOptions { label: "twelve chars".into(), ..options(8 * MIB, 512) }).is_err());
}

#[test]
fn a_directory_of_many_long_names_spans_clusters() {
    let content = b"x".to_vec();
    let mut builder = FatBuilder::new(options(40 * MIB, 512)).unwrap();
    for index in 0..300 {
        builder.add_file(&format!("many/a rather long file name {index}.dat"), &content).unwrap();
    }
    let image = builder.finish().unwrap();
    let disk = disk(40 * MIB, 512);
    image.write(&disk).unwrap();
    image.verify(&disk).unwrap();
}

#[test]
fn loops_and_cuts_in_chains_end() {
    let content = vec![7; 3000];
    let mut builder = FatBuilder::new(options(40 * MIB, 512)).unwrap();
    builder.add_file("D/F", &content).unwrap();
    let image = builder.finish().unwrap();
    let fat = image.geometry().fat_offset(0);
    let disk = disk(40 * MIB, 512);
    for (cluster, value, path) in
        [(3u64, 3u32, "D"), (2, 2, ""), (4, 4, "D/F"), (4, 0, "D/F"), (4, 0x0fff_ffff, "D/F")]
    {
        image.write(&disk).unwrap();
        disk.write_all_at(fat + cluster * 4, &value.to_le_bytes()).unwrap();
        let volume = FatVolume::open(&disk).unwrap();
        let result = if path.contains('/') {
            volume.read_file(path, 1 << 20).map(drop)
        } else {
            volume.list(path).map(drop)
        };
        if (cluster, value) == (4, 4) {
            // A loop in a file shorter than the loop's end: the size bounds it.
            result.unwrap();
        } else {
            assert!(matches!(result, Err(Error::Corrupt { .. })), "{cluster} {value} {result:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_tree_comes_back(
        names in prop::collection::btree_set("[A-Za-z0-9 _.~+\u{e9}\u{3b1}\u{1f600}]{1,40}", 1..20),
        sizes in prop::collection::vec(0usize..9000, 20),
        depth in 0usize..4,
    ) {
        let contents: Vec<Vec<u8>> = sizes.iter().map(|size| vec![u8::try_from(size % 251).unwrap(); *size]).collect();
        let mut builder = FatBuilder::new(options(40 * MIB, 512)).unwrap();
        let mut added = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let path = format!("{}{name}", "Directory/".repeat(index.min(depth)));
            if builder.add_file(&path, &contents[index]).is_ok() {
                added.push((path, &contents[index]));
            }
        }
        let image = builder.finish().unwrap();
        let disk = MemoryDisk::new(40 << 20, 512);
        image.write(&disk).unwrap();
        image.verify(&disk).unwrap();
        let volume = FatVolume::open(&disk).unwrap();
        for (path, content) in added {
            prop_assert_eq!(&volume.read_file(&path, 1 << 20).unwrap(), content);
        }
    }
}
