//! What stands at the start of a disk or partition, told by signatures. Informative only: nothing is decided by it.

/// Bytes from the start that [`recognise`] wants; the signature of Btrfs stands last.
pub const WANTED_BYTES: usize = 0x1_0048;

/// Signatures at fixed places.
const SIGNATURES: [(usize, &[u8], &str); 12] = [
    (0x200, b"EFI PART", "partition table gpt"),
    (0x1000, b"EFI PART", "partition table gpt"), // sectors of 4 KiB
    (0x003, b"NTFS    ", "ntfs"),
    (0x003, b"EXFAT   ", "exfat"),
    (0x003, b"-FVE-FS-", "bitlocker"),
    (0x052, b"FAT32   ", "fat32"),
    (0x036, b"FAT16   ", "fat16"),
    (0x000, b"XFSB", "xfs"),
    (0x000, b"LUKS\xba\xbe", "luks"),
    (0x1_0040, b"_BHRfS_M", "btrfs"),
    (0xff6, b"SWAPSPACE2", "swap"),
    (0x218, b"LVM2 001", "lvm"),
];

/// Names of what was found in the first bytes, e.g. `partition table gpt`, `ext4`; empty when nothing is known.
pub fn recognise(start: &[u8]) -> Vec<&'static str> {
    let holds = |at: usize, signature: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(signature));
    let mut found: Vec<&str> = Vec::new();
    for (at, signature, name) in SIGNATURES {
        if holds(at, signature) && !found.contains(&name) {
            found.push(name);
        }
    }
    found.extend(ext(start));
    // Boot sectors of volumes end with the same two bytes as an MBR; only without a volume it is a table.
    if found.is_empty() && holds(0x1fe, &[0x55, 0xaa]) {
        found.push("partition table mbr");
    }
    found
}

/// ext2, 3 or 4 by the features of the superblock at 1024.
fn ext(start: &[u8]) -> Option<&'static str> {
    use crate::field::{u16_at, u32_at};
    const SUPERBLOCK: usize = 0x400;
    const COMPAT_JOURNAL: u32 = 0x4;
    const INCOMPAT_EXTENTS: u32 = 0x40;
    let superblock = start.get(SUPERBLOCK..)?;
    if u16_at(superblock, 0x38)? != 0xef53 {
        return None;
    }
    let (compat, incompat) = (u32_at(superblock, 0x5c)?, u32_at(superblock, 0x60)?);
    Some(match (incompat & INCOMPAT_EXTENTS != 0, compat & COMPAT_JOURNAL != 0) {
        (true, _) => "ext4",
        (false, true) => "ext3",
        (false, false) => "ext2",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signature_is_found_at_its_place_and_nowhere_else() {
        for (at, signature, name) in SIGNATURES {
            let mut bytes = vec![0; WANTED_BYTES];
            bytes[at..at + signature.len()].copy_from_slice(signature);
            bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
            assert_eq!(recognise(&bytes), [name]);
            assert!(recognise(&bytes[..at]).iter().all(|found| *found != name), "{name}");
            bytes.insert(0, 0);
            assert!(recognise(&bytes).is_empty(), "{name}");
        }
    }

    #[test]
    fn tells_ext_versions_and_a_bare_mbr() {
        let mut bytes = vec![0; 0x600];
        assert!(recognise(&bytes).is_empty());
        bytes[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
        assert_eq!(recognise(&bytes), ["ext2"]);
        bytes[0x45c] = 4;
        assert_eq!(recognise(&bytes), ["ext3"]);
        bytes[0x460] = 0x40;
        assert_eq!(recognise(&bytes), ["ext4"]);
        let mut table = vec![0; 512];
        table[0x1fe..].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(recognise(&table), ["partition table mbr"]);
    }
}
