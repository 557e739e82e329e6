//! Patches on made-up files; the real ones are booted in `tests/grub_boot.rs`.

use super::*;
use crate::{DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role};

fn partition() -> Partition {
    let request =
        PartitionRequest { role: Role::BiosBoot, size: PartitionSize::Bytes(1 << 20), name: "bios".into() };
    let shape = DiskShape { size_bytes: 64 << 20, sector_bytes: 512 };
    Layout::compute(shape, &Identity::new([0; 32]), &[request]).unwrap().partitions.remove(0)
}

fn boot_img() -> Vec<u8> {
    let mut boot: Vec<u8> = (0..512).map(|at| (at % 250) as u8).collect();
    boot[BOOT_DRIVE] = 0xff;
    boot[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0xeb, 0x05]);
    boot[510..].copy_from_slice(&[0x55, 0xaa]);
    boot
}

fn core_img(len: usize) -> Vec<u8> {
    let mut core = vec![0x11; len];
    core[BLOCK_LIST + 10..BLOCK_LIST + 12].copy_from_slice(&[0x20, 0x08]);
    core
}

#[test]
fn each_stage_is_told_where_the_next_one_is() {
    let grub = place_grub(&boot_img(), &core_img(512 * 60 + 1), &partition(), 512).unwrap();
    assert_eq!(&grub.boot_code[KERNEL_SECTOR..KERNEL_SECTOR + 8], &2048u64.to_le_bytes());
    assert_eq!(&grub.boot_code[DRIVE_CHECK..DRIVE_CHECK + 2], &[0x90, 0x90]);
    let untouched = |at: usize| !(0x5c..0x64).contains(&at) && !(0x66..0x68).contains(&at);
    let expected = boot_img();
    assert!((0..440).filter(|at| untouched(*at)).all(|at| grub.boot_code[at] == expected[at]));

    assert_eq!(grub.core.len(), 512 * 61);
    assert_eq!(&grub.core[0x1f4..0x1fc], &2049u64.to_le_bytes());
    assert_eq!(&grub.core[0x1fc..0x200], &[60, 0, 0x20, 0x08]);
    assert_eq!((grub.core[512 * 60], grub.core[512 * 60 + 1]), (0x11, 0));
}

#[test]
fn patching_what_was_patched_before_gives_the_same() {
    let first = place_grub(&boot_img(), &core_img(5000), &partition(), 512).unwrap();
    let mut again = boot_img();
    again[..440].copy_from_slice(&first.boot_code);
    assert_eq!(place_grub(&again, &first.core, &partition(), 512).unwrap(), first);
}

#[test]
fn refuses_files_of_another_kind() {
    let partition = partition();
    let broken = |at: usize, value: u8| {
        let mut boot = boot_img();
        boot[at] = value;
        boot
    };
    for boot in [broken(510, 0), broken(DRIVE_CHECK, 0x75), broken(BOOT_DRIVE, 0x80), vec![0; 511]] {
        assert!(matches!(place_grub(&boot, &core_img(5000), &partition, 512), Err(Error::Corrupt { .. })));
    }
    for core in [core_img(512), vec![0; 5000], core_img(MAX_CORE_BYTES + 1)] {
        assert!(matches!(place_grub(&boot_img(), &core, &partition, 512), Err(Error::Corrupt { .. })));
    }
    assert!(matches!(
        place_grub(&boot_img(), &core_img(5000), &partition, 4096),
        Err(Error::Unsupported { .. })
    ));
    let mut small = partition.clone();
    small.range.end = small.range.start + 4096;
    match place_grub(&boot_img(), &core_img(5000), &small, 512).unwrap_err() {
        Error::DoesNotFit { wanted, available, .. } => assert_eq!((wanted, available), (5120, 4096)),
        other => panic!("{other:?}"),
    }
}
