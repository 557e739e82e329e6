//! Real firmware starts what this crate lays out: SeaBIOS through GRUB's boot code, OVMF from a system partition, with sectors of 512
//! and of 4096 bytes. GRUB is taken from the machine, or from unpacked Debian packages below `GRAVURE_GRUB_ROOT`.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_types, reason = "machines need paths")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::vm::{skip, vm_until};
use gravure_disk::fat::{FatBuilder, FatOptions, FatTime};
use gravure_disk::{DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role, TableImage, bios};
use gravure_io::{FileAt, Window, WriteAt};

const MIB: u64 = 1 << 20;
/// Software emulation on a loaded machine.
const LIMIT: Duration = Duration::from_secs(240);
const MARK: &str = "GRAVURE-FIRMWARE-TEST";

/// Where GRUB's own files lie.
fn grub_root() -> PathBuf {
    std::env::var_os("GRAVURE_GRUB_ROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

/// An image of GRUB for `platform` that runs `prologue`, then shows a mark, the partitions it sees, and the mark again.
fn grub_image(platform: &str, modules: &[&str], prologue: &str, dir: &Path) -> Option<Vec<u8>> {
    let (program, library) =
        (grub_root().join("usr/bin/grub-mkimage"), grub_root().join("usr/lib/grub").join(platform));
    if !program.exists() || !library.exists() {
        skip(&format!("no grub-mkimage with {platform} below {}", grub_root().display()));
        return None;
    }
    let (config, out) = (dir.join("config"), dir.join(platform));
    std::fs::write(&config, format!("{prologue}\necho {MARK} start\nls\necho {MARK} end\n")).unwrap();
    let mut command = Command::new(program);
    command
        .args(["-O", platform, "-p", "/none", "-d"])
        .arg(library)
        .arg("-c")
        .arg(&config)
        .arg("-o")
        .arg(&out);
    assert!(command.args(modules).status().unwrap().success());
    Some(std::fs::read(out).unwrap())
}

fn layout(sector_bytes: u32) -> Layout {
    let request = |role, size, name: &str| PartitionRequest { role, size, name: name.into() };
    let requests = [
        request(Role::BiosBoot, PartitionSize::Bytes(MIB), "bios"),
        request(Role::Esp, PartitionSize::Bytes(64 * MIB), "esp"),
        request(Role::LinuxRoot, PartitionSize::Rest { at_least: MIB }, "root"),
    ];
    let shape = DiskShape { size_bytes: 128 * MIB, sector_bytes };
    Layout::compute(shape, &Identity::new([8; 32]), &requests).unwrap()
}

fn disk(layout: &Layout, dir: &Path) -> (PathBuf, FileAt) {
    let path = dir.join("disk.img");
    std::fs::File::create(&path).unwrap().set_len(layout.shape.size_bytes).unwrap();
    let disk = FileAt::open_rw(&path).unwrap().with_block_size(layout.shape.sector_bytes);
    (path, disk)
}

fn check_shown(shown: &str) {
    let between = shown.split_once(&format!("{MARK} start")).map(|(_, rest)| rest).unwrap_or_default();
    for partition in ["(hd0,gpt1)", "(hd0,gpt2)", "(hd0,gpt3)"] {
        assert!(between.contains(partition), "{partition} in {shown}");
    }
}

#[test]
fn a_bios_starts_grub_from_the_boot_partition() {
    let temp = tempfile::tempdir().unwrap();
    let modules = ["biosdisk", "part_gpt", "serial", "terminal", "echo", "ls", "minicmd"];
    // The console of a BIOS machine is not on the serial line by itself.
    let prologue = "serial --unit=0\nterminal_output serial";
    let Some(core) = grub_image("i386-pc", &modules, prologue, temp.path()) else { return };
    let boot_img = std::fs::read(grub_root().join("usr/lib/grub/i386-pc/boot.img")).unwrap();
    let layout = layout(512);
    let (path, disk) = disk(&layout, temp.path());
    let partition = layout.first(Role::BiosBoot).unwrap();
    let grub = bios::place_grub(&boot_img, &core, partition, 512).unwrap();
    disk.write_all_at(partition.range.start, &grub.core).unwrap();
    TableImage::new(&layout, Some(&grub.boot_code)).write(&disk).unwrap();
    let drive = format!("file={},format=raw,if=virtio", path.display());
    if let Some(shown) = vm_until(&["-drive", &drive], &format!("{MARK} end"), LIMIT) {
        check_shown(&shown);
    }
}

#[test]
fn uefi_firmware_starts_the_fallback_loader_with_both_sector_sizes() {
    let temp = tempfile::tempdir().unwrap();
    let modules = ["part_gpt", "echo", "ls", "minicmd"];
    let Some(loader) = grub_image("x86_64-efi", &modules, "", temp.path()) else { return };
    let Some(code) = ["/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_CODE_4M.fd"]
        .iter()
        .find(|path| Path::new(path).exists())
    else {
        skip("OVMF is not installed");
        return;
    };
    for sector_bytes in [512, 4096] {
        let layout = layout(sector_bytes);
        let (path, disk) = disk(&layout, temp.path());
        let esp = layout.first(Role::Esp).unwrap();
        let options = FatOptions {
            size_bytes: esp.size_bytes(),
            sector_bytes,
            hidden_sectors: esp.first_lba,
            serial: 1,
            label: "ESP".into(),
            time: FatTime::from_unix(0),
        };
        let mut builder = FatBuilder::new(options).unwrap();
        builder.add_file(gravure_disk::efi::FALLBACK_X86_64, &loader).unwrap();
        let image = builder.finish().unwrap();
        let window = Window::new(&disk, esp.range.start, esp.size_bytes());
        image.write(&window).unwrap();
        image.verify(&window).unwrap();
        TableImage::new(&layout, None).write(&disk).unwrap();
        let firmware = format!("if=pflash,format=raw,unit=0,readonly=on,file={code}");
        let drive = format!("id=disk,if=none,format=raw,file={}", path.display());
        let size = format!("logical_block_size={sector_bytes},physical_block_size={sector_bytes}");
        let device = format!("virtio-blk-pci,drive=disk,{size}");
        let arguments = ["-drive", &firmware, "-drive", &drive, "-device", &device];
        if let Some(shown) = vm_until(&arguments, &format!("{MARK} end"), LIMIT) {
            check_shown(&shown);
        }
    }
}
