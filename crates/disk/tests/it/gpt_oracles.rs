//! Partition tables against sgdisk, libblkid (partx) and the gptman crate, both sector sizes, both directions.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_types, reason = "oracles need paths; the crate itself has none")]

use std::path::Path;

use crate::oracle::oracle;
use gravure_disk::mbr::MbrOptions;
use gravure_disk::{
    DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role, Table, TableImage, guid,
};
use gravure_io::FileAt;

const MIB: u64 = 1 << 20;

fn layout(size_bytes: u64, sector_bytes: u32) -> Layout {
    let request = |role, size, name: &str| PartitionRequest { role, size, name: name.into() };
    let requests = [
        request(Role::BiosBoot, PartitionSize::Bytes(MIB), "BIOS boot"),
        request(Role::Esp, PartitionSize::Bytes(100 * MIB), "Systempartition \u{e4}\u{20ac}"),
        request(Role::LinuxRoot, PartitionSize::Rest { at_least: MIB }, "root"),
        request(Role::WindowsRecovery, PartitionSize::Bytes(50 * MIB), "recovery"),
    ];
    Layout::compute(DiskShape { size_bytes, sector_bytes }, &Identity::new([42; 32]), &requests).unwrap()
}

/// An image file with our table on it.
fn image(layout: &Layout) -> (tempfile::NamedTempFile, FileAt) {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(layout.shape.size_bytes).unwrap();
    let disk = FileAt::new(file.reopen().unwrap()).unwrap().with_block_size(layout.shape.sector_bytes);
    let table = TableImage::new(layout, None);
    table.write(&disk).unwrap();
    table.verify(&disk).unwrap();
    (file, disk)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn sgdisk_finds_no_fault_and_the_same_partitions() {
    // A size that ends in the middle of a MiB.
    let layout = layout(512 * MIB + 123 * 512, 512);
    let (file, _) = image(&layout);
    let Some(checked) = oracle("sgdisk", &["-v", text(file.path())]) else { return };
    assert!(checked.contains("No problems found"), "{checked}");
    for partition in &layout.partitions {
        let number = partition.number.to_string();
        let info = oracle("sgdisk", &["-i", &number, text(file.path())]).unwrap();
        let has = |label: &str, value: String| {
            let line = format!("{label}: {value}");
            assert!(info.to_lowercase().contains(&line.to_lowercase()), "{line} in\n{info}");
        };
        has("Partition GUID code", partition.role.type_guid().to_string());
        has("Partition unique GUID", partition.unique_guid.to_string());
        has("First sector", partition.first_lba.to_string());
        has("Last sector", partition.last_lba.to_string());
        has("Attribute flags", format!("{:016X}", partition.attributes));
        has("Partition name", format!("'{}'", partition.name));
    }
}

#[test]
fn libblkid_reads_both_sector_sizes() {
    for sector in [512, 4096] {
        let layout = layout(512 * MIB, sector);
        let (file, _) = image(&layout);
        let size = sector.to_string();
        let arguments = ["-S", &size, "-g", "-r", "-o", "NR,START,END,UUID,TYPE", text(file.path())];
        let Some(shown) = oracle("partx", &arguments) else { return };
        // partx counts in units of 512 bytes whatever the sector size.
        let unit = u64::from(sector / 512);
        let expected: Vec<String> = layout
            .partitions
            .iter()
            .map(|p| {
                let (start, end) = (p.first_lba * unit, (p.last_lba + 1) * unit - 1);
                format!("{} {start} {end} {} {}", p.number, p.unique_guid, p.role.type_guid())
            })
            .collect();
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected, "sectors of {sector}");
    }
}

#[test]
fn gptman_reads_both_copies_of_both_sector_sizes() {
    for sector in [512u32, 4096] {
        let layout = layout(300 * MIB, sector);
        let (mut file, _) = image(&layout);
        let theirs = gptman::GPT::read_from(file.as_file_mut(), u64::from(sector)).unwrap();
        assert!(theirs.is_primary());
        assert_eq!(theirs.header.disk_guid, layout.disk_guid.0);
        assert_eq!(
            (theirs.header.first_usable_lba, theirs.header.last_usable_lba),
            (layout.first_usable_lba, layout.last_usable_lba)
        );
        for partition in &layout.partitions {
            let entry = &theirs[partition.number];
            assert_eq!((entry.starting_lba, entry.ending_lba), (partition.first_lba, partition.last_lba));
            assert_eq!(entry.unique_partition_guid, partition.unique_guid.0);
            assert_eq!(entry.partition_name.as_str(), partition.name);
        }
        // Without the primary copy the backup says the same.
        use std::io::{Seek, SeekFrom, Write};
        file.seek(SeekFrom::Start(u64::from(sector))).unwrap();
        file.write_all(&[0; 512]).unwrap();
        let backup = gptman::GPT::read_from(file.as_file_mut(), u64::from(sector)).unwrap();
        assert!(backup.is_backup());
        assert_eq!(backup.header.disk_guid, layout.disk_guid.0);
    }
}

#[test]
fn reads_what_gptman_writes() {
    for sector in [512u32, 4096] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 * MIB).unwrap();
        let mut theirs = gptman::GPT::new_from(file.as_file_mut(), u64::from(sector), [7; 16]).unwrap();
        theirs[5] = gptman::GPTPartitionEntry {
            partition_type_guid: guid::LINUX_DATA.0,
            unique_partition_guid: [9; 16],
            starting_lba: 2048,
            ending_lba: 4095,
            attribute_bits: 4,
            partition_name: "foreign".into(),
        };
        theirs.write_into(file.as_file_mut()).unwrap();
        gptman::GPT::write_protective_mbr_into(file.as_file_mut(), u64::from(sector)).unwrap();
        let disk = FileAt::open(file.path()).unwrap();
        match Table::read(&disk, sector).unwrap() {
            Table::Gpt { gpt, sector_bytes, faults } => {
                assert_eq!((faults, sector_bytes), (Vec::<String>::new(), sector));
                let entry = &gpt.entries[0];
                assert_eq!((entry.number, entry.name.as_str(), entry.attributes), (5, "foreign", 4));
                assert_eq!((entry.first_lba, entry.last_lba), (2048, 4095));
            }
            other => panic!("{other}"),
        }
        // The same disk looked at with the other sector size is reported as what it is.
        let other = if sector == 512 { 4096 } else { 512 };
        let text = Table::read(&disk, other).unwrap().to_string();
        assert!(
            text.contains(&format!("written for sectors of {sector} bytes, the disk has {other}")),
            "{text}"
        );
    }
}

#[test]
fn reads_what_sgdisk_and_sfdisk_write() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 * MIB).unwrap();
    let path = text(file.path());
    let arguments = ["-n", "1:2048:+5M", "-t", "1:ef00", "-c", "1:boot", "-n", "3:0:0", "-t", "3:8300", path];
    if oracle("sgdisk", &arguments).is_some() {
        let disk = FileAt::open(file.path()).unwrap();
        let Table::Gpt { gpt, faults, .. } = Table::read(&disk, 512).unwrap() else { panic!("a GPT") };
        assert_eq!(faults, Vec::<String>::new());
        let entries: Vec<_> =
            gpt.entries.iter().map(|e| (e.number, guid::type_name(e.type_guid), e.first_lba)).collect();
        assert_eq!(entries, [(1, Some("EFI system"), 2048), (3, Some("Linux data"), 12288)]);
    }

    // sfdisk reads its script from standard input, which the shell gives it.
    let script = r"label: dos\nlabel-id: 0x1234abcd\n,8M,7,*\n,16M,E\n,,83\n,4M,82\n,,83\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 * MIB).unwrap();
    let command = format!("printf '{script}' | sfdisk -q '{}'", text(file.path()));
    if oracle("sfdisk", &["--version"]).is_none() {
        return;
    }
    oracle("sh", &["-c", &command]).unwrap();
    let disk = FileAt::open(file.path()).unwrap();
    let Table::Mbr(mbr) = Table::read(&disk, 512).unwrap() else { panic!("an MBR") };
    assert_eq!((mbr.disk_signature, mbr.bootable), (0x1234_abcd, false));
    let entries: Vec<_> = mbr.entries.iter().map(|e| (e.number, e.kind, e.active, e.first_lba)).collect();
    // Logical partitions follow the primary ones; sfdisk aligns them by 1 MiB behind their records.
    assert_eq!(entries.len(), 5, "{entries:x?}");
    assert_eq!(&entries[..3], [(1, 7, true, 2048), (2, 5, false, 18432), (3, 0x83, false, 51200)]);
    assert_eq!((entries[3].0, entries[3].1, entries[4].0, entries[4].1), (5, 0x82, 6, 0x83));
    assert_eq!(entries[3].3, 20480);
}

#[test]
fn damage_is_seen_and_named() {
    use gravure_io::WriteAt;
    let layout = layout(300 * MIB, 512);
    let (file, disk) = image(&layout);
    let read = || Table::read(&disk, 512).unwrap().to_string();
    assert_eq!(read(), format!("GPT {}, 4 partitions", layout.disk_guid));
    let backup = (layout.sectors - 1) * 512;
    disk.write_all_at(backup + 0x38, &[1]).unwrap();
    assert!(read().contains("backup: GPT header checksum at"), "{}", read());
    disk.write_all_at(1024 + 0x38, b"x").unwrap();
    let text = read();
    assert!(text.starts_with("broken GPT: primary: GPT entries checksum at 0x400: expected"), "{text}");
    TableImage::new(&layout, None).write(&disk).unwrap();
    disk.zero_range(0..512).unwrap();
    assert!(read().ends_with("; no protective MBR"), "{}", read());

    // The disk grew: the backup is not at its end any more.
    TableImage::new(&layout, None).write(&disk).unwrap();
    file.as_file().set_len(310 * MIB).unwrap();
    let grown = FileAt::open(file.path()).unwrap();
    let text = Table::read(&grown, 512).unwrap().to_string();
    assert!(text.contains("backup at sector 0x95fff, the disk ends at 0x9b000"), "{text}");

    TableImage::new(&layout, None).erase(&disk).unwrap();
    assert_eq!(read(), "no partition table");
}

#[test]
fn sfdisk_reads_the_classic_table_we_write() {
    let request = |role, size| PartitionRequest { role, size, name: String::new() };
    let requests = [
        request(Role::MicrosoftData, PartitionSize::Bytes(256 * MIB)),
        request(Role::MicrosoftData, PartitionSize::Rest { at_least: MIB }),
        request(Role::WindowsRecovery, PartitionSize::Bytes(100 * MIB)),
    ];
    let shape = DiskShape { size_bytes: 1024 * MIB + 77 * 512, sector_bytes: 512 };
    let layout = Layout::compute(shape, &Identity::new([3; 32]), &requests).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(shape.size_bytes).unwrap();
    let disk = FileAt::new(file.reopen().unwrap()).unwrap().with_block_size(512);
    let options = |signature, active| MbrOptions { signature, boot_code: &[0xf4; 440], active };
    let table = TableImage::classic(&layout, options(0x1234_abcd, 1)).unwrap();
    table.write(&disk).unwrap();
    table.verify(&disk).unwrap();
    if let Some(shown) = oracle("sfdisk", &["--json", text(file.path())]) {
        let shown: String = shown.chars().filter(|c| !c.is_whitespace()).collect();
        assert!(shown.contains("\"label\":\"dos\",\"id\":\"0x1234abcd\""), "{shown}");
        for (partition, (kind, active)) in
            layout.partitions.iter().zip([("7", true), ("7", false), ("27", false)])
        {
            let (start, size) = (partition.first_lba, partition.last_lba + 1 - partition.first_lba);
            let bootable = if active { ",\"bootable\":true" } else { "" };
            let wanted = format!("\"start\":{start},\"size\":{size},\"type\":\"{kind}\"{bootable}}}");
            assert!(shown.contains(&wanted), "{wanted} in {shown}");
        }
    }
    let Table::Mbr(mbr) = Table::read(&disk, 512).unwrap() else { panic!("no MBR") };
    assert_eq!((mbr.disk_signature, mbr.bootable, mbr.entries.len()), (0x1234_abcd, true, 3));
    table.erase(&disk).unwrap();
    assert!(matches!(Table::read(&disk, 512).unwrap(), Table::Empty));
    for (signature, active) in [(0, 1), (1, 0), (1, 4)] {
        assert!(TableImage::classic(&layout, options(signature, active)).is_err(), "{signature} {active}");
    }
    let large = DiskShape { size_bytes: 3 << 40, sector_bytes: 512 };
    let large = Layout::compute(large, &Identity::new([3; 32]), &requests).unwrap();
    let error = TableImage::classic(&large, options(1, 1)).unwrap_err().to_string();
    assert!(error.contains("sectors of partition 2 in an MBR"), "{error}");
}
