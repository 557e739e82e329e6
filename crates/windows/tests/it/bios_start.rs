//! Windows on BIOS machines: the files of the active partition, and a machine that gets as far as code on an NTFS volume of ours can
//! bring it: captured code (here one that stands for Windows') on another disk, at another place.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use gravure_disk::boot_code::BootCode;
use gravure_disk::mbr::MbrOptions;
use gravure_disk::{DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role, Table, TableImage};
use gravure_hive::Hive;
use gravure_hive::bcd::{Device, ElementType, ElementValue, Store, StoreIds, object_id};
use gravure_inf::Arch;
use gravure_io::{FileAt, WriteAt as _};
use gravure_ntfs::{NoGuide, Part, Place, Volume, VolumeOptions, VolumePlan};
use gravure_nttypes::Guid;
use gravure_testkit::{Running, oracle, windows_boot_code};
use gravure_tree::{ContentRef, Origin};
use gravure_windows::WindowsImage;
use gravure_windows::boot::{BootOptions, SecureBoot, is_hidden};

use crate::support::{NOW, hive, nothing_outside, system_values, tree};

const MIB: u64 = 1 << 20;
const MARK: &str = "GRAVURE-BIOS-START";
/// Software emulation on a loaded machine.
const LIMIT: Duration = Duration::from_secs(240);

fn options(signature: u32, system: u64, windows: u64) -> BootOptions {
    let device = |offset| Device::Mbr { signature, offset };
    BootOptions {
        system: device(system),
        windows: device(windows),
        recovery: Some(device(windows + MIB)),
        description: "Windows 10".into(),
        locale: "de-DE".into(),
        ids: StoreIds {
            loader: Guid([11; 16]),
            resume: Guid([12; 16]),
            recovery: Guid([13; 16]),
            ramdisk: Guid([14; 16]),
        },
        secure_boot: SecureBoot::default(),
        arch: Arch::Amd64,
        now: NOW,
    }
}

fn bytes(content: &ContentRef) -> Vec<u8> {
    match &content.origin {
        Origin::Inline(bytes) => bytes.to_vec(),
        _ => Vec::new(),
    }
}

fn image_files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("Windows\\System32\\config\\SYSTEM", hive(&system_values())),
        ("Windows\\Boot\\PCAT\\bootmgr", b"boot manager".to_vec()),
        ("Windows\\Boot\\PCAT\\bootnxt", b"next".to_vec()),
        ("Windows\\Boot\\PCAT\\memtest.exe", b"memtest".to_vec()),
        ("Windows\\Boot\\PCAT\\de-DE\\bootmgr.exe.mui", b"mui".to_vec()),
        ("Windows\\Boot\\Fonts\\segoe_slboot.ttf", b"font".to_vec()),
        ("Windows\\Boot\\Resources\\bootres.dll", b"resource".to_vec()),
        ("Windows\\Boot\\DVD\\PCAT\\boot.sdi", b"ramdisk".to_vec()),
        ("Windows\\System32\\Recovery\\Winre.wim", b"recovery".to_vec()),
    ]
}

#[test]
fn the_active_partition_has_what_boot_code_and_boot_manager_look_for() {
    let mut tree_of_image = tree(&image_files());
    let mut image = WindowsImage::open(&mut tree_of_image, &nothing_outside, NOW).unwrap();
    let wanted = options(0x1234_5678, MIB, 300 * MIB);
    let found = image.bios_boot_files(&wanted).unwrap();
    let paths: Vec<&str> = found.system.iter().map(|file| file.path.as_str()).collect();
    let expected = [
        "BOOTNXT",
        "Boot/BCD",
        "Boot/Fonts/segoe_slboot.ttf",
        "Boot/Resources/bootres.dll",
        "Boot/de-DE/bootmgr.exe.mui",
        "Boot/memtest.exe",
        "bootmgr",
    ];
    assert_eq!(paths, expected);
    assert!(is_hidden("bootmgr") && is_hidden("Boot") && !is_hidden("Boot/BCD"));
    assert_eq!((found.recovery.len(), found.notes.len()), (2, 0));
    let store = found.system.iter().find(|file| file.path == "Boot/BCD").unwrap();
    let hive = Hive::parse(bytes(&store.content)).unwrap();
    let store = Store::new(&hive).unwrap();
    let loader = store.object(&Guid([11; 16])).unwrap().unwrap();
    let text = |element| loader.element(ElementType(element)).map(ToString::to_string);
    assert_eq!(text(0x1200_0002).as_deref(), Some("\\Windows\\system32\\winload.exe"));
    assert_eq!(text(0x2100_0001).as_deref(), Some("mbr:0x12345678:314572800"));
    let manager = store.object(&object_id("{bootmgr}").unwrap()).unwrap().unwrap();
    assert_eq!(manager.element(ElementType(0x1100_0001)), Some(&ElementValue::Device(wanted.system)));
    // An image without them cannot be started so, which is said by the file's name.
    let mut without = tree(&image_files()[..1]);
    let mut image = WindowsImage::open(&mut without, &nothing_outside, NOW).unwrap();
    let error = image.bios_boot_files(&options(1, MIB, 2 * MIB)).unwrap_err().to_string();
    assert!(error.contains("Windows\\Boot\\PCAT\\bootmgr not found"), "{error}");
}

/// The disk of a machine: an MBR with the code, and a volume with the boot files at an odd place.
fn disk(path: &std::path::Path, code: &BootCode) -> Layout {
    let request = |role, size, name: &str| PartitionRequest { role, size, name: name.into() };
    // The active partition is not the first one: what is found is found by the table.
    let requests = [
        request(Role::WindowsRecovery, PartitionSize::Bytes(7 * MIB), "first"),
        request(Role::MicrosoftData, PartitionSize::Bytes(32 * MIB), "system"),
        request(Role::MicrosoftData, PartitionSize::Rest { at_least: MIB }, "windows"),
    ];
    let shape = DiskShape { size_bytes: 64 * MIB, sector_bytes: 512 };
    let identity = Identity::new([8; 32]);
    let layout = Layout::compute(shape, &identity, &requests).unwrap();
    std::fs::File::create(path).unwrap().set_len(shape.size_bytes).unwrap();
    let disk = FileAt::open_rw(path).unwrap().with_block_size(512);
    let part = &layout.partitions[1];

    let mut tree_of_image = tree(&image_files());
    let mut image = WindowsImage::open(&mut tree_of_image, &nothing_outside, NOW).unwrap();
    let offset = part.range.start;
    let files = image.bios_boot_files(&options(identity.mbr_signature(), offset, offset + 32 * MIB)).unwrap();
    let files: Vec<(String, Vec<u8>)> =
        files.system.iter().map(|file| (file.path.replace('/', "\\"), bytes(&file.content))).collect();
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(path, bytes)| (path.as_str(), bytes.clone())).collect();
    let tree = tree(&files);
    let volume = VolumeOptions {
        hidden_sectors: part.first_lba,
        boot_code: Some(Box::new(*code.of_volume().first_chunk().unwrap())),
        ..VolumeOptions::new(part.size_bytes())
    };
    let plan = VolumePlan::new(&tree, &NoGuide, &volume).unwrap();
    let write = |at: u64, bytes: &[u8]| disk.write_all_at(part.range.start + at, bytes).unwrap();
    let mut resident = vec![0; usize::try_from(plan.resident_bytes()).unwrap()];
    for step in tree.walk() {
        let Some(data) = &tree.node(step.entry.node).data else { continue };
        let content = bytes(data);
        match plan.place_of(step.entry.node, Part::Data).unwrap() {
            Place::Resident { slot } => {
                let start = usize::try_from(slot).unwrap();
                resident[start..start + content.len()].copy_from_slice(&content);
            }
            Place::Clusters { offset, allocated } => {
                let mut padded = content.clone();
                padded.resize(usize::try_from(allocated).unwrap(), 0);
                write(offset, &padded);
            }
            other => panic!("{other:?}"),
        }
    }
    for written in plan.metadata(&resident).chain(plan.boot_sectors()) {
        write(written.offset, &written.bytes);
    }
    let table =
        MbrOptions { signature: identity.mbr_signature(), boot_code: &code.of_disk(), active: part.number };
    let table = TableImage::classic(&layout, table).unwrap();
    table.write(&disk).unwrap();
    table.verify(&disk).unwrap();
    layout
}

#[test]
fn a_bios_starts_captured_code_on_another_disk() {
    let temp = tempfile::tempdir().unwrap();
    let code = BootCode::parse(&windows_boot_code(&format!("{MARK}: the volume's code runs\r\n\0"))).unwrap();
    let path = temp.path().join("disk.img");
    let layout = disk(&path, &code);
    let device = FileAt::open(&path).unwrap();
    // What was put there is what would be captured from there, but for the parameters of this volume.
    let again = BootCode::read(&device).unwrap();
    assert_eq!(again.of_disk(), code.of_disk());
    assert_eq!(again.of_volume()[0x54..], code.of_volume()[0x54..]);
    assert_eq!(again.of_volume()[..11], code.of_volume()[..11]);
    let Table::Mbr(mbr) = Table::read(&device, 512).unwrap() else { panic!("no MBR") };
    let kinds: Vec<_> = mbr.entries.iter().map(|entry| (entry.kind, entry.active)).collect();
    assert_eq!(kinds, [(0x27, false), (0x07, true), (0x07, false)]);
    let part = &layout.partitions[1];
    let window = gravure_io::Window::new(&device, part.range.start, part.size_bytes());
    let volume = Volume::open(&window).unwrap();
    assert_eq!(volume.read_file(&window, "bootmgr", 100).unwrap().as_deref(), Some(&b"boot manager"[..]));

    let Some(mut machine) = oracle("qemu-system-x86_64") else { return };
    machine.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-m", "64"]);
    machine.args(["-machine", "q35", "-drive"]).arg(format!("file={},format=raw,if=virtio", path.display()));
    let running = Running::start(&mut machine, None).unwrap();
    running.console().wait_for(&format!("{MARK}: the volume's code runs"), LIMIT).unwrap();
}
