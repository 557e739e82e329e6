//! An image in the shape of a generalised Windows whose boot manager is a stand-in: a GRUB with an NTFS driver of its own, which says
//! on the serial line what it finds. Beside it a signed driver package for the disk controller of the virtual machines.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use gravure_disk::fat::{FatBuilder, FatOptions, FatTime};
use gravure_hive::{Data, Editor, Hive, ValueType};
use gravure_io::MemoryDisk;
use gravure_model::inventory::{FirmwareMode, Inventory, PciDevice};
use gravure_nttypes::{FileTime, NtName, SecurityDescriptor};
use gravure_testkit::hive;
use gravure_testkit::signing::{Authority, program};

use crate::partition_start;

/// virtio-blk as QEMU's machines have it, in its transitional and its modern form.
const CONTROLLERS: [&str; 2] = ["PCI\\VEN_1AF4&DEV_1001", "PCI\\VEN_1AF4&DEV_1042"];
/// Files that the stand-in reads from the Windows volume, with strokes as GRUB names them.
pub const READ_BY_STAND_IN: [&str; 6] = [
    "/Windows/System32/config/SYSTEM",
    "/Windows/System32/config/SOFTWARE",
    "/Windows/System32/drivers/vblk.sys",
    "/Windows/System32/winload.efi",
    "/Windows/Panther/unattend.xml",
    "/Windows/Gravure/room.txt",
];
/// What each line of the stand-in starts with.
pub const STAND_IN: &str = "stand-in:";

/// Modules of the stand-in: FAT for the system partition, NTFS for Windows.
const MODULES: &str = "part_gpt fat ntfs ntfscomp search search_fs_file regexp hashsum gcry_sha256 echo cat serial terminfo \
                       terminal halt test normal configfile";

/// The stand-in's commands.
fn stand_in_text() -> String {
    let mut text = String::from(
        "serial --unit=0 --speed=115200\nterminal_output serial\nterminfo -g 250x60 serial dumb\n\
         regexp --set=1:system '^\\(([^)]*)\\)' \"$cmdpath\"\n\
         search --no-floppy --set=windows --file /Windows/System32/config/SYSTEM\n",
    );
    text.push_str(&format!("echo \"{STAND_IN} started from $cmdpath, Windows is $windows\"\n"));
    text.push_str(&format!(
        "echo \"{STAND_IN} boot store\"\nhashsum --hash sha256 \"($system)/EFI/Microsoft/Boot/BCD\"\n"
    ));
    for file in READ_BY_STAND_IN {
        text.push_str(&format!("echo \"{STAND_IN} {file}\"\nhashsum --hash sha256 \"($windows){file}\"\n"));
    }
    text.push_str(&format!("echo \"{STAND_IN} answers\"\ncat \"($windows)/Windows/Panther/unattend.xml\"\n"));
    text.push_str(&format!("echo \"{STAND_IN} end\"\nhalt\n"));
    text
}

/// Services of a used Windows, and more than one leaf of a list of keys holds.
const SERVICES: u32 = 1200;
/// Every so many of them have a descriptor of their own, as a fifth of the keys of a real SYSTEM has.
const GUARDED: usize = 5;
/// More than a cell holds: kept in pieces, as Windows keeps its list of programs that ran.
const BIG_BYTES: usize = 40_000;

/// Gives a hive what those of used systems have and small ones have not: a list of lists of keys, data in pieces, descriptors of several
/// kinds, a class.
fn as_in_use(bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut editor = Editor::new(Hive::parse(bytes)?, FileTime(1))?;
    let descriptors = ["O:SYG:SYD:(A;CI;KA;;;SY)", "O:BAG:SYD:(A;CI;KA;;;SY)(A;CI;KR;;;BU)"];
    let descriptors: Vec<Vec<u8>> = descriptors
        .iter()
        .map(|text| Ok(SecurityDescriptor::from_sddl(text)?.to_bytes()?))
        .collect::<Result<_>>()?;
    for number in 0..SERVICES {
        let key = editor.create(&format!("ControlSet001\\Services\\service{number:04}"))?;
        editor.set_value(key, &NtName::from("Start"), &Data::dword(3))?;
        editor.set_value(key, &NtName::from("Type"), &Data::dword(1))?;
        let path = format!("\\SystemRoot\\System32\\drivers\\service{number:04}.sys");
        editor.set_value(key, &NtName::from("ImagePath"), &Data::expand_sz(&path))?;
        let kind = usize::try_from(number)? % GUARDED;
        if let Some(descriptor) = descriptors.get(kind) {
            editor.set_security(key, descriptor)?;
        }
    }
    let key = editor.create("ControlSet001\\Control\\Session Manager\\AppCompatCache")?;
    let bytes: Vec<u8> = (0..BIG_BYTES).map(|at| at.to_le_bytes()[0]).collect();
    editor.set_value(key, &NtName::from("AppCompatCache"), &Data::binary(bytes))?;
    let key = editor.create("ControlSet001\\Control\\Lsa\\JD")?;
    editor.set_class(key, &NtName::from("a1b2c3d4"))?;
    Ok(editor.finish()?)
}

/// SYSTEM in the shape that it has on a machine in use.
fn system_hive() -> Result<Vec<u8>> {
    let storage = "ControlSet001\\Control\\Class\\{4d36e97b-e325-11ce-bfc1-08002be10318}\\Properties\\\
                   {6a3433f4-5626-40e8-a9b9-dbd9ecd2884b}\\0003";
    as_in_use(hive(&[
        ("Select", "Current", Data::dword(1)),
        ("Select", "Default", Data::dword(1)),
        ("Setup", "SetupType", Data::dword(2)),
        ("Setup", "CmdLine", Data::sz("oobe\\windeploy.exe")),
        ("Setup", "SystemSetupInProgress", Data::dword(1)),
        ("ControlSet001\\Control\\Session Manager\\Environment", "PROCESSOR_ARCHITECTURE", Data::sz("AMD64")),
        ("ControlSet001\\Control\\ProductOptions", "ProductType", Data::sz("WinNT")),
        ("ControlSet001\\Control\\ComputerName\\ComputerName", "ComputerName", Data::sz("TEMPLATE")),
        (storage, "", Data { kind: ValueType(0xffff_0011), bytes: vec![0xff] }),
        ("ControlSet001\\Services\\storahci", "Start", Data::dword(0)),
        ("ControlSet001\\Services\\storahci\\StartOverride", "0", Data::dword(3)),
        ("DriverDatabase", "Version", Data::dword(0x0a00_0000)),
        ("DriverDatabase", "Architecture", Data::dword(9)),
        ("DriverDatabase", "OemInfMap", Data::binary(vec![0xc0])),
        ("DriverDatabase\\DeviceIds\\PCI\\CC_0106", "mshdc.inf", Data::binary(vec![1, 0xff, 0, 0])),
        ("DriverDatabase\\DriverInfFiles\\mshdc.inf", "Active", Data::sz("mshdc.inf_amd64_1")),
    ]))
}

fn software_hive() -> Vec<u8> {
    let current = "Microsoft\\Windows NT\\CurrentVersion";
    hive(&[
        (current, "CurrentMajorVersionNumber", Data::dword(10)),
        (current, "CurrentMinorVersionNumber", Data::dword(0)),
        (current, "CurrentBuildNumber", Data::sz("22631")),
        (current, "ProductName", Data::sz("Windows 11 Pro")),
        ("Microsoft\\Windows\\CurrentVersion", "DevicePath", Data::expand_sz("%SystemRoot%\\inf")),
        (
            "Microsoft\\Windows\\CurrentVersion\\Setup\\State",
            "ImageState",
            Data::sz("IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"),
        ),
    ])
}

/// Makes the stand-in with `grub-mkstandalone`.
fn stand_in(dir: &Path) -> Result<Vec<u8>> {
    let (config, output) = (dir.join("stand-in.cfg"), dir.join("stand-in.efi"));
    std::fs::write(&config, stand_in_text())?;
    let made = Command::new("grub-mkstandalone")
        .args(["--format=x86_64-efi", "--locales=", "--themes=", "--fonts=", "--compress=no"])
        .arg(format!("--install-modules={MODULES}"))
        .arg(format!("--modules={MODULES}"))
        .arg(format!("--output={}", output.display()))
        .arg(format!("boot/grub/grub.cfg={}", config.display()))
        .output()
        .context("cannot start grub-mkstandalone")?;
    ensure!(made.status.success(), "grub-mkstandalone: {}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(&output).context("cannot read the stand-in")
}

/// Writes the image's files below `dir` and gives that directory.
fn windows_files(dir: &Path) -> Result<PathBuf> {
    let root = dir.join("windows");
    // Compresses well, and is larger than a cluster: it goes onto the volume as the image has it.
    let library: Vec<u8> = (0..400_000u32).flat_map(|n| (n / 300).to_le_bytes()).collect();
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("Windows/System32/config/SYSTEM", system_hive()?),
        ("Windows/System32/config/SOFTWARE", software_hive()),
        ("Windows/System32/config/DRIVERS", hive(&[("DriverDatabase", "Version", Data::dword(0x0a00_0000))])),
        ("Windows/System32/drivers/storahci.sys", program(b"storahci")),
        ("Windows/System32/winload.efi", program(b"winload")),
        ("Windows/System32/library.dll", library),
        ("Windows/System32/Recovery/Winre.wim", b"stands for a recovery environment".to_vec()),
        ("Windows/Boot/DVD/EFI/boot.sdi", vec![7; 70_000]),
        ("Windows/Boot/EFI/bootmgfw.efi", stand_in(dir)?),
        ("Windows/Boot/EFI/de-DE/bootmgfw.efi.mui", b"texts".to_vec()),
        ("Windows/Boot/PCAT/bootmgr", b"stands for the boot manager of BIOS machines".to_vec()),
        ("Windows/Boot/PCAT/de-DE/bootmgr.exe.mui", b"texts".to_vec()),
        ("Windows/Boot/Fonts/wgl4_boot.ttf", b"font".to_vec()),
        ("Windows/INF/oem2.inf", b"taken".to_vec()),
        ("Users/Public/desktop.ini", b"[.ShellClassInfo]\r\n".to_vec()),
    ];
    for (path, content) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().context("a path in the image")?)?;
        std::fs::write(&path, content)?;
    }
    Ok(root)
}

/// The files of a Windows, and a WIM of them.
pub fn windows_image(program: &Path, dir: &Path) -> Result<(PathBuf, PathBuf)> {
    let (files, image) = (windows_files(dir)?, dir.join("windows.wim"));
    let made = Command::new(program).args(capture_arguments(&files, &image)).output();
    let made = made.context("cannot start gravure")?;
    ensure!(made.status.success(), "capture: {}", String::from_utf8_lossy(&made.stderr));
    Ok((files, image))
}

/// Arguments of `gravure` that make a WIM of the files, which says of itself what Windows' own say.
fn capture_arguments(files: &Path, image: &Path) -> Vec<String> {
    let mut out = vec!["wim".to_owned(), "capture".to_owned()];
    out.extend([files.display().to_string(), image.display().to_string(), "Windows 11 Pro".to_owned()]);
    out.push("--compress=LZX".to_owned());
    for property in
        ["ARCH=9", "PRODUCTTYPE=WinNT", "VERSION/MAJOR=10", "VERSION/MINOR=0", "VERSION/BUILD=22631"]
    {
        out.extend(["--image-property".to_owned(), format!("WINDOWS/{property}")]);
    }
    out
}

/// Sizes of the disk below and of what is on it, bytes.
const DISK_BYTES: u64 = 512 << 20;
const SYSTEM_BYTES: u64 = 64 << 20;
const RESERVED_BYTES: u64 = 16 << 20;

/// Makes the image of a whole disk that Windows stands on: a system partition with the stand-in, a reserved one, an NTFS volume with the files
/// of the WIM. It says that its machine had an NVMe controller, which none of the virtual machines has (QEMU's Q35 has an
/// AHCI one, used or not).
pub fn disk_image(program: &Path, dir: &Path, files: &Path, wim: &Path) -> Result<PathBuf> {
    let gravure = |args: &[&str]| -> Result<()> {
        let made = Command::new(program).args(args).output().context("cannot start gravure")?;
        ensure!(made.status.success(), "gravure {args:?}: {}", String::from_utf8_lossy(&made.stderr));
        Ok(())
    };
    let paths = ["source.img", "volume.ntfs", "source.json", "windows.gim"].map(|name| dir.join(name));
    let [disk, volume, inventory, image] = &paths;
    let [disk_name, volume_name, inventory_name, image_name] =
        [disk, volume, inventory, image].map(|path| path.display().to_string());
    let file = File::create_new(disk).context("cannot create the disk")?;
    file.set_len(DISK_BYTES).context("cannot size the disk")?;
    let made = Command::new("sgdisk")
        .args(["--new=1:2048:+64M", "--typecode=1:EF00", "--new=2:0:+16M", "--typecode=2:0C01"])
        .args(["--new=3:0:0", "--typecode=3:0700"])
        .arg(disk)
        .output()
        .context("cannot start sgdisk")?;
    ensure!(made.status.success(), "sgdisk: {}", String::from_utf8_lossy(&made.stdout));
    let (system_start, volume_start) = (partition_start(disk, 1)?, partition_start(disk, 3)?);

    let loader =
        std::fs::read(files.join("Windows/Boot/EFI/bootmgfw.efi")).context("cannot read the stand-in")?;
    let store = hive(&[("Description", "KeyName", Data::sz("BCD00000000"))]);
    let mut system = FatBuilder::new(FatOptions {
        size_bytes: SYSTEM_BYTES,
        sector_bytes: 512,
        hidden_sectors: system_start / 512,
        serial: 7,
        label: "ESP".into(),
        time: FatTime::from_unix(1_700_000_000),
    })?;
    for path in ["EFI/Microsoft/Boot/bootmgfw.efi", "EFI/Boot/bootx64.efi"] {
        system.add_file(path, &loader)?;
    }
    system.add_file("EFI/Microsoft/Boot/BCD", &store)?;
    let memory = MemoryDisk::from_bytes(vec![0; usize::try_from(SYSTEM_BYTES)?]);
    system.finish()?.write(&memory)?;
    file.write_all_at(&memory.to_vec(), system_start).context("cannot write the system partition")?;

    // The backup of the table has the last 33 sectors, and sgdisk aligns to 1 MiB.
    let size = DISK_BYTES - volume_start - (1 << 20);
    ensure!(volume_start >= system_start + SYSTEM_BYTES + RESERVED_BYTES, "partitions overlap");
    let wim = format!("{}:1", wim.display());
    gravure(&["apply", &wim, &volume_name, "--size", &size.to_string()])?;
    let content = std::fs::read(volume).context("cannot read the volume")?;
    file.write_all_at(&content, volume_start).context("cannot write the volume")?;
    file.sync_all().context("cannot flush the disk")?;

    let mut source = Inventory::default();
    "x86_64".clone_into(&mut source.cpu.architecture);
    source.firmware.mode = FirmwareMode::Uefi;
    source.pci = vec![PciDevice { vendor: 0x144d, device: 0xa808, class: 0x01_0802, ..PciDevice::default() }];
    std::fs::write(inventory, serde_json::to_vec(&source)?).context("cannot write the inventory")?;
    gravure(&["capture", &disk_name, &image_name, "--machine", &inventory_name])?;
    Ok(image.clone())
}

/// A signed driver package for the disk controller, and the certificate that its signer leads to.
#[derive(Debug)]
pub struct DriverPackage {
    /// Its directory.
    pub dir: PathBuf,
    /// The certificate.
    pub certificate: PathBuf,
}

/// Writes the package below `dir`.
pub fn driver_package(dir: &Path) -> Result<DriverPackage> {
    let place = dir.join("vblk");
    std::fs::create_dir_all(&place)?;
    let models: String = CONTROLLERS.iter().map(|id| format!("%dev%=Inst,{id}\r\n")).collect();
    let inf = format!(
        "[Version]\r\nSignature=\"$Windows NT$\"\r\nClass=SCSIAdapter\r\nClassGuid={{4d36e97b-e325-11ce-bfc1-08002be10318}}\r\n\
         Provider=%mfg%\r\nCatalogFile=vblk.cat\r\nDriverVer=03/04/2024,1.2.3.4\r\nPnpLockdown=1\r\n\
         [Manufacturer]\r\n%mfg%=M,NTamd64\r\n[M.NTamd64]\r\n{models}\
         [Inst]\r\nCopyFiles=files\r\n[Inst.Services]\r\nAddService=vblk,2,svc\r\n\
         [svc]\r\nServiceType=1\r\nStartType=0\r\nErrorControl=1\r\nServiceBinary=%12%\\vblk.sys\r\nLoadOrderGroup=SCSI Miniport\r\n\
         [files]\r\nvblk.sys\r\n[SourceDisksNames]\r\n1=disk\r\n[SourceDisksFiles]\r\nvblk.sys=1\r\n\
         [DestinationDirs]\r\nfiles=12\r\n[Strings]\r\nmfg=\"Maker\"\r\ndev=\"Block device of the tests\"\r\n"
    );
    let driver = program(b"a driver that no Windows will run");
    let authority = Authority::new("Gravure Test Root");
    let signer = authority.signer("Gravure Test Publisher");
    std::fs::write(place.join("vblk.inf"), &inf)?;
    std::fs::write(place.join("vblk.sys"), &driver)?;
    std::fs::write(place.join("vblk.cat"), signer.catalog(&[inf.as_bytes(), &driver]))?;
    let certificate = dir.join("root.cer");
    std::fs::write(&certificate, authority.certificate())?;
    Ok(DriverPackage { dir: place, certificate })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Signatures of the cells that are in use, with their number.
    fn signatures(hive: &[u8]) -> BTreeMap<[u8; 2], usize> {
        let mut found = BTreeMap::new();
        let number = |at: usize| i32::from_le_bytes(hive[at..at + 4].try_into().unwrap());
        let mut bin = 4096;
        while hive.get(bin..bin + 4) == Some(b"hbin") {
            let end = bin + usize::try_from(number(bin + 8)).unwrap();
            let mut cell = bin + 32;
            while cell < end {
                let size = number(cell);
                if size < 0 {
                    *found.entry([hive[cell + 4], hive[cell + 5]]).or_default() += 1;
                }
                cell += usize::try_from(size.unsigned_abs()).unwrap();
            }
            bin = end;
        }
        found
    }

    #[test]
    fn the_hive_has_the_structures_of_one_in_use() {
        let bytes = system_hive().unwrap();
        let found = signatures(&bytes);
        let count = |signature: &[u8; 2]| found.get(signature).copied().unwrap_or_default();
        // A list of lists for the services; leaves of hashes; a value in pieces; the descriptor of all keys and two more.
        assert_eq!((count(b"ri"), count(b"db"), count(b"sk"), count(b"lf")), (1, 1, 3, 0), "{found:?}");
        assert!(count(b"lh") > 10 && count(b"nk") > usize::try_from(SERVICES).unwrap(), "{found:?}");
        let hive = Hive::parse(bytes).unwrap();
        let cache = hive.find("ControlSet001\\Control\\Session Manager\\AppCompatCache").unwrap().unwrap();
        assert_eq!(cache.data("AppCompatCache").unwrap().unwrap().bytes.len(), BIG_BYTES);
    }
}
