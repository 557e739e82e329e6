//! Signatures of volumes made by their own tools, compared with what libblkid says.

use crate::oracle::oracle;
use gravure_disk::{FoundKind, recognise};
use gravure_io::{FileAt, WriteAt};

/// Value of `key` in `blkid -o export` style output.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

#[test]
fn agrees_with_blkid() {
    let cases: [(FoundKind, &str, u64, &str, &[&str]); 10] = [
        (FoundKind::Ext2, "ext2", 16, "mkfs.ext2", &["-q", "-F", "-L", "label 1"]),
        (FoundKind::Ext3, "ext3", 16, "mkfs.ext3", &["-q", "-F", "-L", "label 2"]),
        (FoundKind::Ext4, "ext4", 16, "mkfs.ext4", &["-q", "-F", "-L", "label 3"]),
        (FoundKind::Xfs, "xfs", 320, "mkfs.xfs", &["-q", "-f", "-L", "label4"]),
        (FoundKind::Btrfs, "btrfs", 128, "mkfs.btrfs", &["-q", "-f", "-L", "label 5"]),
        (FoundKind::Swap, "swap", 16, "mkswap", &["-L", "label 6"]),
        (FoundKind::Fat, "vfat", 16, "mkfs.fat", &["-F", "16", "-n", "LABEL7"]),
        (FoundKind::Fat, "vfat", 64, "mkfs.fat", &["-F", "32", "-n", "LABEL8"]),
        (FoundKind::Ntfs, "ntfs", 16, "mkntfs", &["-q", "-F", "-Q", "-L", "label 9"]),
        (FoundKind::ExFat, "exfat", 16, "mkfs.exfat", &[]),
    ];
    for (kind, name, mib, program, arguments) in cases {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(mib << 20).unwrap();
        let path = file.path().to_str().unwrap();
        let mut arguments = arguments.to_vec();
        arguments.push(path);
        // Not every tool is part of every machine: these two are no requirement.
        if matches!(program, "mkntfs" | "mkfs.exfat")
            && std::process::Command::new(program).arg("-V").output().is_err()
        {
            eprintln!("SKIPPED: {program} is not installed");
            continue;
        }
        if oracle(program, &arguments).is_none() {
            continue;
        }
        let disk = FileAt::open_rw(file.path()).unwrap();
        let found = recognise(&disk).unwrap();
        assert_eq!(found.len(), 1, "{program}: {found:?}");
        assert_eq!(found[0].kind, kind, "{program}");
        let Some(theirs) = oracle("blkid", &["-p", "-o", "export", path]) else { continue };
        assert_eq!(value(&theirs, "TYPE"), Some(name));
        assert_eq!(found[0].uuid.as_deref(), value(&theirs, "UUID"), "{program}");
        if kind != FoundKind::Ntfs {
            // blkid escapes blanks; NTFS keeps its label in a file we do not read.
            let label = value(&theirs, "LABEL").map(|label| label.replace("\\ ", " "));
            assert_eq!(found[0].label, label, "{program}");
        }

        // What is wiped is not recognised any more, by us and by libblkid.
        let size = mib << 20;
        disk.zero_range(0..1 << 20).unwrap();
        disk.zero_range(size - (1 << 20)..size).unwrap();
        if size > 64 << 20 {
            disk.zero_range(64 << 20..(64 << 20) + 4096).unwrap();
        }
        assert_eq!(recognise(&disk).unwrap(), []);
        let left = std::process::Command::new("blkid").args(["-p", path]).output().unwrap();
        assert_eq!(left.status.code(), Some(2), "{program}: {}", String::from_utf8_lossy(&left.stdout));
    }
}
