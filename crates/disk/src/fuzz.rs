//! Bodies for fuzzing: any bytes must give a value or an error. Replayed as plain tests in `tests/it/fuzz_bodies.rs`.

use crate::efi::{LoadOption, parse_order};
use crate::fat::FatVolume;
use crate::{DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role};
use crate::{Table, bios, recognise};

/// Partition tables of both sector sizes.
pub fn table(data: &[u8]) {
    let disk = data.to_vec();
    for sector_bytes in [512, 4096] {
        if let Ok(table) = Table::read(&disk, sector_bytes) {
            let _ = table.to_string();
        }
    }
}

/// Signatures.
pub fn signatures(data: &[u8]) {
    for found in recognise(&data.to_vec()).unwrap_or_default() {
        let _ = found.to_string();
    }
}

/// FAT volumes: opens one and reads all files that its root and one level below name.
pub fn fat(data: &[u8]) {
    let source = data.to_vec();
    let Ok(volume) = FatVolume::open(&source) else { return };
    let limit = u64::try_from(data.len()).unwrap_or(u64::MAX);
    for entry in volume.list("").unwrap_or_default() {
        let _ = volume.read_file(&entry.name, limit);
        for below in volume.list(&entry.name).unwrap_or_default() {
            let _ = volume.read_file(&format!("{}/{}", entry.name, below.name), limit);
        }
    }
}

/// Firmware boot entries: what is read must be written with the same meaning.
pub fn boot_entry(data: &[u8]) {
    let _ = parse_order(data);
    let Ok(option) = LoadOption::parse(data) else { return };
    let _ = option.to_string();
    if let Ok(bytes) = option.to_bytes() {
        // A description that was no valid UTF-16 is the one thing that changes, and only once.
        let again = LoadOption::parse(&bytes);
        assert_eq!(again.ok().as_ref(), Some(&option), "an entry changed by reading and writing");
    }
}

/// GRUB's files.
pub fn grub(data: &[u8]) {
    let request =
        PartitionRequest { role: Role::BiosBoot, size: PartitionSize::Bytes(1 << 20), name: "b".into() };
    let shape = DiskShape { size_bytes: 16 << 20, sector_bytes: 512 };
    let Ok(layout) = Layout::compute(shape, &Identity::new([0; 32]), &[request]) else { return };
    let Some(partition) = layout.partitions.first() else { return };
    let (boot, core) = data.split_at_checked(512).unwrap_or((data, &[]));
    let _ = bios::place_grub(boot, core, partition, 512);
}
