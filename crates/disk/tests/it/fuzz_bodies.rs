//! The fuzz bodies as plain tests: seeds that are valid, cut, flipped and random.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use gravure_disk::efi::LoadOption;
use gravure_disk::fat::{FatBuilder, FatOptions, FatTime};
use gravure_disk::{DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role, TableImage, fuzz};
use gravure_io::MemoryDisk;
use proptest::prelude::*;

fn layout() -> Layout {
    let shape = DiskShape { size_bytes: 8 << 20, sector_bytes: 512 };
    let request =
        PartitionRequest { role: Role::Esp, size: PartitionSize::Bytes(1 << 20), name: "esp".into() };
    Layout::compute(shape, &Identity::new([5; 32]), &[request]).unwrap()
}

fn table_seed() -> Vec<u8> {
    let disk = MemoryDisk::new(8 << 20, 512);
    TableImage::new(&layout(), None).write(&disk).unwrap();
    disk.to_vec()
}

fn fat_seed() -> Vec<u8> {
    let options = FatOptions {
        size_bytes: 4 << 20,
        sector_bytes: 512,
        hidden_sectors: 0,
        serial: 1,
        label: "SEED".into(),
        time: FatTime::from_unix(0),
    };
    let content = vec![7; 3000];
    let mut builder = FatBuilder::new(options).unwrap();
    builder.add_file("EFI/a long name.efi", &content).unwrap();
    builder.add_file("TOP.TXT", &content).unwrap();
    let disk = MemoryDisk::new(4 << 20, 512);
    builder.finish().unwrap().write(&disk).unwrap();
    disk.to_vec()
}

fn entry_seed() -> Vec<u8> {
    LoadOption::for_file("Gravure", &layout().partitions[0], "/EFI/BOOT/BOOTX64.EFI")
        .unwrap()
        .to_bytes()
        .unwrap()
}

#[test]
fn seeds_and_their_cuts() {
    let table = table_seed();
    for len in (0..2048).chain([4096, 16384, 17408, 20000, table.len() - 1, table.len()]) {
        fuzz::table(&table[..len]);
    }
    let fat = fat_seed();
    for len in (0..600).chain([4096, 20000, 60000, fat.len() - 1, fat.len()]) {
        fuzz::fat(&fat[..len]);
        fuzz::signatures(&fat[..len]);
    }
    let entry = entry_seed();
    for len in 0..=entry.len() {
        fuzz::boot_entry(&entry[..len]);
    }
    for len in [0, 1, 511, 512, 513, 1024, 3000] {
        fuzz::grub(&vec![0; len]);
    }
}

/// `seed` with some bytes of its first `reach` changed.
fn changed(seed: &[u8], reach: usize, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for (at, value) in changes {
        let at = at % reach.min(bytes.len());
        bytes[at] = *value;
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_bytes(data in prop::collection::vec(any::<u8>(), 0..5000)) {
        fuzz::table(&data);
        fuzz::signatures(&data);
        fuzz::fat(&data);
        fuzz::boot_entry(&data);
        fuzz::grub(&data);
    }

    #[test]
    fn changed_entries(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        fuzz::boot_entry(&changed(&entry_seed(), 1 << 20, &changes));
    }

    #[test]
    fn changed_volumes(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let seed = fat_seed();
        // Boot sector; then table and directories.
        fuzz::fat(&changed(&seed, 64, &changes));
        fuzz::fat(&changed(&seed, 40_000, &changes));
    }

    #[test]
    fn changed_tables(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let seed = table_seed();
        fuzz::table(&changed(&seed, 2000, &changes));
        // A header whose checksum is right again: what is behind it must be bounded too.
        let mut bytes = changed(&seed, 512, &[]);
        for (at, value) in &changes {
            bytes[512 + 0x14 + at % (92 - 0x14)] = *value;
        }
        let mut header = bytes[512..512 + 92].to_vec();
        header[0x10..0x14].fill(0);
        let crc = crc32(&header);
        bytes[512 + 0x10..512 + 0x14].copy_from_slice(&crc.to_le_bytes());
        fuzz::table(&bytes);
    }
}

/// Bit by bit, independent of the crate's table.
fn crc32(bytes: &[u8]) -> u32 {
    let mut state = u32::MAX;
    for byte in bytes {
        state ^= u32::from(*byte);
        for _ in 0..8 {
            state = if state & 1 == 1 { state >> 1 ^ 0xedb8_8320 } else { state >> 1 };
        }
    }
    !state
}
