//! Writing tables and system partitions on a disk that stops at operation N, for every N: before the last write the
//! disk must look empty to firmware and kernel, after it complete.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use gravure_disk::fat::{FatBuilder, FatOptions, FatTime};
use gravure_disk::{
    DiskShape, Error, Identity, Layout, PartitionRequest, PartitionSize, Role, Table, TableImage,
};
use gravure_io::{MemoryDisk, ReadAt, WriteAt};

/// Lets `left` operations through, then fails every one. The last one let through may be torn.
struct Stopping<'a> {
    disk: &'a MemoryDisk,
    left: AtomicU32,
    tear: bool,
}

impl Stopping<'_> {
    fn check_sectors(&self, range: &Range<u64>) {
        let sector = u64::from(self.disk.block_size());
        assert!(range.start.is_multiple_of(sector) && range.end.is_multiple_of(sector), "{range:x?}");
    }

    fn step(&self) -> io::Result<bool> {
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(1) => Ok(self.tear),
            Ok(_) => Ok(false),
            Err(_) => Err(io::Error::other("the power is gone")),
        }
    }
}

impl WriteAt for Stopping<'_> {
    fn block_size(&self) -> u32 {
        self.disk.block_size()
    }

    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.check_sectors(&(offset..offset + buf.size()));
        // Disks write single sectors whole; longer writes may be cut between sectors.
        if self.step()? && buf.len() > 512 {
            self.disk.write_all_at(offset, &buf[..buf.len() / 1024 * 512])?;
            return Err(io::Error::other("the power is gone"));
        }
        self.disk.write_all_at(offset, buf)
    }

    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        self.check_sectors(&range);
        self.step()?;
        self.disk.zero_range(range)
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        self.disk.discard(range)
    }

    fn sync(&self) -> io::Result<()> {
        self.step().map(drop)
    }
}

fn layout() -> Layout {
    let shape = DiskShape { size_bytes: 16 << 20, sector_bytes: 512 };
    let request =
        PartitionRequest { role: Role::Esp, size: PartitionSize::Bytes(8 << 20), name: "esp".into() };
    Layout::compute(shape, &Identity::new([5; 32]), &[request]).unwrap()
}

/// What firmware asks first: is there a boot record?
fn is_announced(disk: &MemoryDisk) -> bool {
    disk.read_vec_at(510, 2).unwrap() == [0x55, 0xaa]
}

#[test]
fn a_table_is_there_whole_or_not_at_all() {
    let layout = layout();
    let boot_code = [0x90; 440];
    let table = TableImage::new(&layout, Some(&boot_code));
    let mut outcomes = Vec::new();
    for tear in [false, true] {
        for operations in 0..=10 {
            let disk = MemoryDisk::new(16 << 20, 512);
            let result = table.write(&Stopping { disk: &disk, left: AtomicU32::new(operations), tear });
            let complete = is_announced(&disk);
            if complete {
                table.verify(&disk).unwrap();
                assert!(
                    matches!(Table::read(&disk, 512).unwrap(), Table::Gpt { faults, .. } if faults.is_empty())
                );
            } else {
                assert!(matches!(result, Err(Error::Io { .. })), "{operations}");
                assert!(
                    disk.read_vec_at(0, 512).unwrap().iter().all(|byte| *byte == 0),
                    "boot code before the end"
                );
            }
            outcomes.push((operations, complete, result.is_ok()));
        }
    }
    // Five writes with a flush after each: the ninth operation is the decisive one.
    assert!(
        outcomes
            .iter()
            .all(|(operations, complete, ok)| *complete == (*operations >= 9) && *ok == (*operations == 10))
    );
}

#[test]
fn erasing_takes_the_announcement_first() {
    let layout = layout();
    let table = TableImage::new(&layout, None);
    for operations in 1..10 {
        let disk = MemoryDisk::new(16 << 20, 512);
        table.write(&disk).unwrap();
        table.erase(&Stopping { disk: &disk, left: AtomicU32::new(operations), tear: false }).unwrap_err();
        assert!(!is_announced(&disk), "{operations}");
    }
    let disk = MemoryDisk::new(16 << 20, 512);
    table.write(&disk).unwrap();
    table.erase(&disk).unwrap();
    assert!(matches!(Table::read(&disk, 512).unwrap(), Table::Empty));
    assert!(disk.to_vec().iter().all(|byte| *byte == 0));
}

#[test]
fn writing_again_gives_the_same_bytes() {
    let (first, second) = (MemoryDisk::new(16 << 20, 512), MemoryDisk::new(16 << 20, 512));
    TableImage::new(&layout(), None).write(&first).unwrap();
    TableImage::new(&layout(), None).write(&second).unwrap();
    TableImage::new(&layout(), None).write(&second).unwrap();
    assert!(first.to_vec() == second.to_vec());
}

#[test]
fn any_flipped_bit_of_the_table_is_noticed() {
    let layout = layout();
    let table = TableImage::new(&layout, None);
    let disk = MemoryDisk::new(16 << 20, 512);
    table.write(&disk).unwrap();
    // Header and first entry of the primary copy; the rest of the header's sector is not covered by any checksum.
    let places = (512..512 + 92).chain(1024..1024 + 128);
    for offset in places {
        let byte = disk.read_vec_at(offset, 1).unwrap()[0];
        for bit in 0..8 {
            disk.write_all_at(offset, &[byte ^ 1 << bit]).unwrap();
            match Table::read(&disk, 512).unwrap() {
                Table::Gpt { faults, gpt, .. } => {
                    assert!(
                        faults.iter().any(|fault| fault.starts_with("primary: ")),
                        "{offset} {bit} {faults:?}"
                    );
                    assert_eq!(gpt.disk_guid, layout.disk_guid);
                }
                other => panic!("{offset} {bit}: {other}"),
            }
            assert!(matches!(table.verify(&disk), Err(Error::Differs { offset: at, .. }) if at == offset));
            disk.write_all_at(offset, &[byte]).unwrap();
        }
    }
}

#[test]
fn a_system_partition_has_no_boot_sector_until_it_is_complete() {
    for (size_bytes, sector_bytes) in [(40 << 20, 512), (8 << 20, 512), (20 << 20, 4096)] {
        let options = FatOptions {
            size_bytes,
            sector_bytes,
            hidden_sectors: 2048,
            serial: 7,
            label: "ESP".into(),
            time: FatTime::from_unix(1_700_000_000),
        };
        let content = vec![0xab; 3_000_000];
        let mut builder = FatBuilder::new(options).unwrap();
        builder.add_file("EFI/BOOT/BOOTX64.EFI", &content).unwrap();
        let image = builder.finish().unwrap();
        let complete = (1..50).find(|operations| {
            let disk = MemoryDisk::new(usize::try_from(size_bytes).unwrap(), sector_bytes);
            disk.write_all_at(0, &vec![0xff; 1 << 20]).unwrap();
            let result =
                image.write(&Stopping { disk: &disk, left: AtomicU32::new(*operations), tear: false });
            assert_eq!(result.is_ok(), is_announced(&disk) && image.verify(&disk).is_ok() && result.is_ok());
            if result.is_err() && is_announced(&disk) {
                // All but the last flush.
                image.verify(&disk).unwrap();
            }
            result.is_ok()
        });
        assert!(complete.is_some_and(|operations| operations > 8), "{complete:?}");
    }
}
