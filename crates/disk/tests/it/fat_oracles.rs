//! FAT volumes against dosfstools, mtools and the fatfs crate, both kinds, both sector sizes, both directions.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Read as _;

use crate::oracle::oracle;
use gravure_disk::fat::{FatBuilder, FatKind, FatOptions, FatTime, FatVolume};
use gravure_io::FileAt;

const MIB: u64 = 1 << 20;
const LONG: &str = "EFI/debian/ein ziemlich langer Name \u{fc}ber dreizehn Zeichen.cfg";

fn contents() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let loader = (0..700_001u32).map(|at| (at % 253) as u8).collect();
    (loader, b"set timeout=0\n".to_vec(), Vec::new())
}

/// A volume of ours in a file.
fn volume(size_bytes: u64, sector_bytes: u32, kind: FatKind) -> tempfile::NamedTempFile {
    let options = FatOptions {
        size_bytes,
        sector_bytes,
        hidden_sectors: 2048,
        serial: 0x1234_abcd,
        label: "GRAVURE ESP".into(),
        time: FatTime::from_unix(1_700_000_000),
    };
    let (loader, config, empty) = contents();
    let mut builder = FatBuilder::new(options).unwrap();
    builder.add_file("EFI/BOOT/BOOTX64.EFI", &loader).unwrap();
    builder.add_file("EFI/debian/grub.cfg", &config).unwrap();
    builder.add_file(LONG, &config).unwrap();
    builder.add_file("EFI/debian/empty file", &empty).unwrap();
    for index in 0..40 {
        builder.add_file(&format!("many/another file of the same beginning {index}"), &config).unwrap();
    }
    let image = builder.finish().unwrap();
    assert_eq!(image.geometry().kind, kind);
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(size_bytes).unwrap();
    let disk = FileAt::new(file.reopen().unwrap()).unwrap();
    image.write(&disk).unwrap();
    image.verify(&disk).unwrap();
    file
}

const CASES: [(u64, u32, FatKind); 5] = [
    (64 * MIB, 512, FatKind::Fat32),
    (512 * MIB, 512, FatKind::Fat32),
    (10 * MIB, 512, FatKind::Fat16),
    (300 * MIB, 4096, FatKind::Fat32),
    (64 * MIB, 4096, FatKind::Fat16),
];

#[test]
fn fsck_finds_no_fault() {
    for (size, sector, kind) in CASES {
        let file = volume(size, sector, kind);
        let Some(text) = oracle("fsck.fat", &["-n", "-v", file.path().to_str().unwrap()]) else { return };
        let named = if kind == FatKind::Fat32 { "32 bit" } else { "16 bit" };
        assert!(text.contains(named), "{size} {sector}: {text}");
        // 44 files, 4 directories, the root or the label.
        assert!(text.contains(": 49 files, "), "{size} {sector}: {text}");
        for complaint in
            ["differ", "rong", "Free cluster summary wrong", "rphan", "Reclaim", "irty", "ruption"]
        {
            assert!(!text.contains(complaint), "{size} {sector} {complaint}: {text}");
        }
    }
}

#[test]
fn mtools_read_the_same_files() {
    for (size, sector, kind) in CASES {
        let file = volume(size, sector, kind);
        let path = file.path().to_str().unwrap();
        let Some(listing) = oracle("mdir", &["-/", "-b", "-i", path, "::"]) else { return };
        for name in ["::/EFI/BOOT/BOOTX64.EFI", "::/EFI/debian/grub.cfg", "::/EFI/debian/empty file"] {
            assert!(listing.lines().any(|line| line == name), "{name} in {listing}");
        }
        assert_eq!(listing.lines().filter(|line| line.starts_with("::/many/another file")).count(), 40);
        let details = oracle("mdir", &["-i", path, "::/EFI/BOOT"]).unwrap();
        assert!(details.contains("700001 2023-11-14  22:13"), "{details}");
        assert!(details.contains("1234-ABCD") && details.contains("GRAVURE ESP"), "{details}");
        let out = tempfile::tempdir().unwrap();
        let copy = out.path().join("loader");
        oracle("mcopy", &["-i", path, "::/EFI/BOOT/BOOTX64.EFI", copy.to_str().unwrap()]).unwrap();
        assert!(std::fs::read(copy).unwrap() == contents().0);
    }
}

#[test]
fn the_fatfs_crate_reads_the_same_files() {
    for (size, sector, kind) in CASES {
        let file = volume(size, sector, kind);
        let theirs = fatfs::FileSystem::new(file.as_file(), fatfs::FsOptions::new()).unwrap();
        assert_eq!((theirs.volume_id(), theirs.volume_label()), (0x1234_abcd, "GRAVURE ESP".into()));
        let stats = theirs.stats().unwrap();
        assert!(stats.free_clusters() < stats.total_clusters());
        let root = theirs.root_dir();
        for (path, expected) in [("EFI/BOOT/BOOTX64.EFI", contents().0), (LONG, contents().1)] {
            let mut content = Vec::new();
            root.open_file(path).unwrap().read_to_end(&mut content).unwrap();
            assert!(content == expected, "{path} {size} {sector}");
        }
        assert_eq!(root.open_dir("many").unwrap().iter().count(), 42); // with . and ..
        // It can go on with what we wrote.
        root.create_file("EFI/debian/added later.txt").unwrap();
        drop(root);
        theirs.unmount().unwrap();
        let source = FileAt::open(file.path()).unwrap();
        assert!(FatVolume::open(&source).unwrap().contains("EFI/debian/added later.txt").unwrap());
    }
}

#[test]
fn reads_what_dosfstools_and_mtools_write() {
    for (width, sector, size) in [("32", "512", 64 * MIB), ("16", "512", 16 * MIB), ("32", "4096", 300 * MIB)]
    {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        let path = file.path().to_str().unwrap();
        let cluster = if width == "32" { "1" } else { "4" };
        let format = ["-F", width, "-S", sector, "-s", cluster, "-i", "cafe0001", "-n", "FOREIGN", path];
        if oracle("mkfs.fat", &format).is_none() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let local = temp.path().join("content");
        std::fs::write(&local, contents().0).unwrap();
        let local = local.to_str().unwrap();
        if oracle("mmd", &["-i", path, "::/dir"]).is_none() {
            return;
        }
        oracle("mcopy", &["-i", path, local, "::/dir/lower.txt"]).unwrap();
        oracle("mcopy", &["-i", path, local, "::/dir/gone with a long name"]).unwrap();
        oracle("mcopy", &["-i", path, local, "::/dir/Kept With A Long Name \u{e9}"]).unwrap();
        oracle("mdel", &["-i", path, "::/dir/gone with a long name"]).unwrap();
        oracle("mcopy", &["-i", path, local, "::/dir/UPPER.BIN"]).unwrap();

        let source = FileAt::open(file.path()).unwrap();
        let volume = FatVolume::open(&source).unwrap();
        assert_eq!((volume.serial(), volume.label()), (0xcafe_0001, "FOREIGN"));
        let mut names: Vec<_> = volume.list("dir").unwrap().into_iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        assert_eq!(names, ["Kept With A Long Name \u{e9}", "UPPER.BIN", "lower.txt"]);
        for name in names {
            assert!(volume.read_file(&format!("dir/{name}"), MIB).unwrap() == contents().0, "{name}");
        }
    }
}
