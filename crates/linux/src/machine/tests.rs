//! Made-up machines below a temporary directory.

//! The inventory collected from made-up `/sys` and `/proc` trees.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use gravure_model::inventory::{Device, Inventory};

use super::*;

/// A made-up machine below a temporary directory.
struct Made {
    temp: tempfile::TempDir,
    roots: Roots,
}

impl Made {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let roots = Roots { sys: at("sys"), proc: at("proc"), dev: at("dev") };
        let made = Self { temp, roots };
        made.file("proc/self/mountinfo", b"");
        made.file("proc/swaps", b"Filename Type Size Used Priority\n");
        made
    }

    fn file(&self, path: &str, content: &[u8]) {
        let path = self.temp.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.temp.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(self.temp.path().join(target), path).unwrap();
    }

    fn texts(&self, dir: &str, texts: &[(&str, &str)]) {
        for (leaf, text) in texts {
            self.file(&format!("{dir}/{leaf}"), text.as_bytes());
        }
    }
}

const CARD: &str = "sys/devices/pci0000:00/0000:00:03.0";

/// One NVMe disk in use, a CD drive, a loop device, a virtio card and a bridge.
fn machine() -> Made {
    let made = Made::new();
    made.texts(
        CARD,
        &[
            ("vendor", "0x1af4\n"),
            ("device", "0x1000\n"),
            ("class", "0x020000\n"),
            ("subsystem_vendor", "0x1af4\n"),
            ("subsystem_device", "0x0001\n"),
            ("revision", "0x00\n"),
            ("modalias", "pci:v00001AF4d00001000\n"),
            ("virtio0/modalias", "virtio:d00000001v00001AF4\n"),
            ("virtio0/net/eth0/type", "1\n"),
            ("virtio0/net/eth0/address", "52:54:00:12:34:56\n"),
            ("virtio0/net/eth0/carrier", "1\n"),
            ("virtio0/net/eth0/speed", "-1\n"),
        ],
    );
    made.link("sys/bus/pci/devices/0000:00:03.0", CARD);
    made.link(&format!("{CARD}/virtio0/driver"), "sys/bus/virtio/drivers/virtio_net");
    made.link("sys/class/net/eth0", &format!("{CARD}/virtio0/net/eth0"));
    made.link(&format!("{CARD}/virtio0/net/eth0/device"), &format!("{CARD}/virtio0"));
    made.texts("sys/class/net/br0", &[("type", "1\n"), ("address", "52:54:00:99:99:99\n")]);
    for (name, dir, extra) in [
        ("nvme0n1", "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1", ("serial", "S123 \n")),
        (
            "sr0",
            "sys/devices/pci0000:00/0000:00:05.0/ata1/host0/target0/0:0:0:0/block/sr0",
            ("device/type", "5\n"),
        ),
        ("loop0", "sys/devices/virtual/block/loop0", ("ro", "0\n")),
        ("mmcblk0boot0", "sys/devices/platform/mmc_host/mmc0/block/mmcblk0boot0", ("ro", "1\n")),
    ] {
        made.texts(dir, &[("dev", "259:0\n"), ("size", "2048\n"), ("queue/rotational", "0\n"), extra]);
        made.link(&format!("sys/block/{name}"), dir);
        made.link(&format!("sys/class/block/{name}"), dir);
    }
    let mut start = vec![0; 4096];
    start[0x200..0x208].copy_from_slice(b"EFI PART");
    made.file("dev/nvme0n1", &start);
    made.file("proc/self/mountinfo", b"30 1 259:0 / /mnt rw - ext4 /dev/nvme0n1 rw\n");
    made.file("proc/cpuinfo", b"processor\t: 0\nmodel name\t: CPU\n\n");
    made.file("proc/meminfo", b"MemTotal: 1024 kB\n");
    let usb = "sys/bus/usb/devices/1-1";
    made.file(
        &format!("{usb}/descriptors"),
        &[18, 1, 0, 2, 3, 0, 0, 8, 0x34, 0x12, 0x78, 0x56, 1, 0, 1, 2, 0, 1],
    );
    made.texts(usb, &[("product", "Keyboard\n")]);
    made.file("sys/bus/usb/devices/1-1:1.0/descriptors", b"");
    made
}

/// A line for each device: bus, place, what it hangs on, best ids.
fn shown(inventory: &Inventory) -> Vec<String> {
    let line = |d: &Device| {
        let ids = [d.hardware_ids.first(), d.compatible_ids.first()].map(|id| id.map_or("-", String::as_str));
        format!("{} {} {} {}", d.bus, d.place, d.parent.as_deref().unwrap_or("-"), ids.join(" "))
    };
    inventory.devices.iter().map(line).collect()
}

#[test]
fn a_made_up_machine_is_told_as_it_is() {
    let made = machine();
    let Collected { inventory, warnings } = collect(&made.roots);
    assert_eq!(inventory.version, INVENTORY_VERSION);

    let [nic] = inventory.nics.as_slice() else { panic!("{:?}", inventory.nics) };
    assert_eq!((nic.name.as_str(), nic.mac.to_string().as_str()), ("eth0", "52:54:00:12:34:56"));
    assert_eq!(
        (nic.driver.as_deref(), nic.pci_address.as_deref()),
        (Some("virtio_net"), Some("0000:00:03.0"))
    );
    assert_eq!((nic.carrier, nic.speed_mbits), (Some(true), None));

    let [disk] = inventory.disks.as_slice() else { panic!("{:?}", inventory.disks) };
    assert_eq!(
        (disk.name.as_str(), disk.serial.as_deref(), disk.size_bytes),
        ("nvme0n1", Some("S123"), 1 << 20)
    );
    assert_eq!((disk.transport.as_deref(), disk.rotational, disk.removable), (Some("nvme"), false, false));
    assert_eq!(disk.in_use, ["nvme0n1 is mounted on /mnt"]);
    assert_eq!(disk.content, ["partition table gpt"]);

    let [card] = inventory.pci.as_slice() else { panic!("{:?}", inventory.pci) };
    assert_eq!((card.vendor, card.device, card.class, card.subsystem_device), (0x1af4, 0x1000, 0x02_0000, 1));
    let [keyboard] = inventory.usb.as_slice() else { panic!("{:?}", inventory.usb) };
    assert_eq!((keyboard.vendor, keyboard.class, keyboard.name.as_deref()), (0x1234, 3, Some("Keyboard")));
    assert_eq!((inventory.cpu.threads, inventory.memory.usable_bytes), (1, 1 << 20));
    assert_eq!(inventory.firmware.mode, FirmwareMode::Bios);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("no SMBIOS tables"), "{warnings:?}");
}

#[test]
fn devices_have_the_ids_of_windows() {
    let made = machine();
    let usb = "sys/devices/pci0000:00/0000:00:03.0/usb1/1-2";
    made.texts(
        usb,
        &[
            ("idVendor", "0c45\n"),
            ("idProduct", "643f\n"),
            ("bcdDevice", "2806\n"),
            ("bDeviceClass", "ef\n"),
            ("bDeviceSubClass", "02\n"),
            ("bDeviceProtocol", "01\n"),
            ("bNumConfigurations", "1\n"),
            ("speed", "480\n"),
            ("product", "Camera\n"),
            ("1-2:1.0/bInterfaceNumber", "00\n"),
            ("1-2:1.0/bInterfaceClass", "0e\n"),
            ("1-2:1.0/bInterfaceSubClass", "01\n"),
            ("1-2:1.0/bInterfaceProtocol", "00\n"),
            ("1-2:1.1/bInterfaceNumber", "01\n"),
            ("1-2:1.1/bInterfaceClass", "0e\n"),
        ],
    );
    made.link("sys/bus/usb/devices/1-2", usb);
    made.link("sys/bus/usb/devices/1-2:1.0", &format!("{usb}/1-2:1.0"));
    made.link("sys/bus/usb/devices/1-2:1.1", &format!("{usb}/1-2:1.1"));
    let root = "sys/devices/pci0000:00/0000:00:03.0/usb1";
    made.texts(root, &[("idVendor", "1d6b\n"), ("idProduct", "0003\n"), ("speed", "10000\n")]);
    made.link("sys/bus/usb/devices/usb1", root);
    made.texts(
        "sys/bus/acpi/devices/PNP0303:00",
        &[("modalias", "acpi:DLLK0534:PNP0303:\n"), ("status", "15\n")],
    );
    made.texts("sys/bus/acpi/devices/PNP0501:00", &[("hid", "PNP0501\n"), ("status", "0\n")]);
    made.texts(
        "sys/bus/acpi/devices/LNXPWRBN:00",
        &[("modalias", "acpi:LNXPWRBN:\n"), ("hid", "LNXPWRBN\n")],
    );
    let codec = "sys/devices/pci0000:00/0000:00:03.0/hdaudioC0D0";
    made.texts(
        codec,
        &[
            ("vendor_id", "0x10ec0256\n"),
            ("subsystem_id", "0x10280a1b\n"),
            ("revision_id", "0x100002\n"),
            ("afg", "0x1\n"),
            ("mfg", "0x0\n"),
            ("chip_name", "ALC256\n"),
        ],
    );
    made.link("sys/bus/hdaudio/devices/hdaudioC0D0", codec);
    made.file("proc/cpuinfo", b"vendor_id: GenuineIntel\ncpu family: 6\nmodel: 141\n");
    let nvme = "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1";
    made.texts(nvme, &[("device/model", "Fast Disk\n"), ("device/firmware_rev", "1.0\n")]);

    let Collected { inventory, .. } = collect(&made.roots);
    let shown = shown(&inventory);
    let expected = [
        "pci 0000:00:03.0 - PCI\\VEN_1AF4&DEV_1000&SUBSYS_00011AF4&REV_00 PCI\\VEN_1AF4&DEV_1000&REV_00",
        "usb 1-2 0000:00:03.0 USB\\VID_0C45&PID_643F&REV_2806 USB\\DevClass_EF&SubClass_02&Prot_01",
        "usb 1-2:1.0 1-2 USB\\VID_0C45&PID_643F&REV_2806&MI_00 USB\\Class_0E&SubClass_01&Prot_00",
        "usb 1-2:1.1 1-2 USB\\VID_0C45&PID_643F&REV_2806&MI_01 USB\\Class_0E&SubClass_00&Prot_00",
        "usb usb1 0000:00:03.0 USB\\ROOT_HUB30&VID1AF4&PID1000&REV0000 -",
        "acpi PNP0303:00 - ACPI\\VEN_DLLK&DEV_0534 *PNP0303",
        "hdaudio hdaudioC0D0 0000:00:03.0 HDAUDIO\\FUNC_01&VEN_10EC&DEV_0256&SUBSYS_10280A1B&REV_1000 \
         HDAUDIO\\FUNC_01&CTLR_VEN_1AF4&CTLR_DEV_1000&VEN_10EC&DEV_0256&REV_1000",
        "disk nvme0n1 0000:00:04.0 SCSI\\DiskNVMe____Fast_Disk_______1.0_ SCSI\\Disk",
        "processor processor - ACPI\\GenuineIntel_-_Intel64_Family_6_Model_141 ACPI\\Processor",
    ];
    assert_eq!(shown, expected);
}

/// Windows starts from a disk by the driver of what it hangs on, so no disk may be without.
#[test]
fn disks_of_every_transport_are_there_with_what_they_hang_on() {
    let made = Made::new();
    let scsi = "0000:00:07.0/virtio2/host1/target1:0:0/1:0:0:0";
    let channel = "LNXSYSTM:00/VMBUS:01/f8b3781b-0001";
    let multipath = "virtual/nvme-subsystem/nvme-subsys0";
    for (name, device, texts) in [
        ("vda", "pci0000:00/0000:00:06.0/virtio1", &[("vendor", "0x1af4\n")][..]),
        (
            "sda",
            &format!("pci0000:00/{scsi}"),
            &[("vendor", "QEMU\n"), ("model", "QEMU HARDDISK\n"), ("rev", "2.5+\n"), ("type", "0\n")],
        ),
        (
            "mmcblk0",
            "platform/80860F14:00/mmc_host/mmc0/mmc0:0001",
            &[
                ("type", "MMC\n"),
                ("manfid", "0x000015\n"),
                ("oemid", "0x0100\n"),
                ("name", "8GME4R\n"),
                ("prv", "0x6\n"),
            ],
        ),
        (
            "mmcblk1",
            "pci0000:00/0000:00:1c.0/0000:01:00.0/mmc_host/mmc1/mmc1:aaaa",
            &[
                ("type", "SD\n"),
                ("manfid", "0x000003\n"),
                ("oemid", "0x5344\n"),
                ("name", "SL16G\n"),
                ("hwrev", "0x8\n"),
                ("fwrev", "0x1\n"),
            ],
        ),
        (
            "sdb",
            &format!("{channel}/host2/target2:0:0/2:0:0:0"),
            &[("vendor", "Msft\n"), ("model", "Virtual Disk\n"), ("rev", "1.0\n")],
        ),
        ("nvme0n1", multipath, &[("model", "Fast Disk\n"), ("firmware_rev", "1.0\n")]),
        ("xvda", "vbd-51712", &[]),
        ("fd0", "platform/floppy.0", &[]),
        ("mmcblk0boot0", "platform/80860F14:00/mmc_host/mmc0/mmc0:0001", &[]),
        ("dm-0", "virtual/none", &[]),
    ] {
        let device = format!("sys/devices/{device}");
        made.texts(&device, texts);
        let dir = if name.starts_with("nvme") { device.clone() } else { format!("{device}/block") };
        let dir = format!("{dir}/{name}");
        made.texts(&dir, &[("dev", "259:0\n"), ("size", "2048\n")]);
        made.link(&format!("{dir}/device"), &device);
        made.link(&format!("sys/block/{name}"), &dir);
        made.link(&format!("sys/class/block/{name}"), &dir);
    }
    let controller = "sys/devices/pci0000:00/0000:00:08.0/nvme/nvme0";
    made.texts(controller, &[("model", "Fast Disk\n")]);
    made.link(&format!("sys/devices/{multipath}/nvme0"), controller);
    made.texts("sys/devices/LNXSYSTM:00/80860F14:00", &[("hid", "80860F14\n"), ("status", "15\n")]);
    made.link("sys/bus/acpi/devices/80860F14:00", "sys/devices/LNXSYSTM:00/80860F14:00");
    made.link("sys/devices/platform/80860F14:00/firmware_node", "sys/devices/LNXSYSTM:00/80860F14:00");
    made.texts("sys/devices/LNXSYSTM:00/VMBUS:01", &[("modalias", "acpi:VMBUS:\n"), ("status", "15\n")]);
    made.link("sys/bus/acpi/devices/VMBUS:01", "sys/devices/LNXSYSTM:00/VMBUS:01");
    let class = "{ba6163d9-04a1-4d29-b605-72e2ffb1dc7f}";
    made.texts(&format!("sys/devices/{channel}"), &[("class_id", class)]);
    made.link("sys/bus/vmbus/devices/f8b3781b-0001", &format!("sys/devices/{channel}"));

    let Collected { inventory, .. } = collect(&made.roots);
    let shown = shown(&inventory);
    let expected = [
        "acpi 80860F14:00 - ACPI\\VEN_8086&DEV_0F14 -",
        "acpi VMBUS:01 - ACPI\\VMBUS -",
        "vmbus f8b3781b-0001 VMBUS:01 VMBUS\\{ba6163d9-04a1-4d29-b605-72e2ffb1dc7f} -",
        "disk mmcblk0 80860F14:00 SD\\VID_15&OID_0100&PID_8GME4R&REV_0.6 SD\\CLASS_MMC",
        "disk mmcblk1 0000:01:00.0 SD\\VID_03&OID_5344&PID_SL16G&REV_8.1 SD\\CLASS_STORAGE",
        "disk nvme0n1 0000:00:08.0 SCSI\\DiskNVMe____Fast_Disk_______1.0_ SCSI\\Disk",
        "disk sda 0000:00:07.0 SCSI\\DiskQEMU____QEMU_HARDDISK___2.5+ SCSI\\Disk",
        "disk sdb f8b3781b-0001 SCSI\\DiskMsft____Virtual_Disk____1.0_ SCSI\\Disk",
        "disk vda 0000:00:06.0 SCSI\\DiskRed_Hat_VirtIO__________0001 SCSI\\Disk",
        "disk xvda - - -",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn aliases_come_from_the_whole_tree() {
    let made = machine();
    let aliases: Vec<String> = modaliases(&made.roots).into_iter().collect();
    assert_eq!(aliases, ["pci:v00001AF4d00001000", "virtio:d00000001v00001AF4"]);
}

#[test]
fn firmware_flags_and_their_absence() {
    let made = Made::new();
    let mut warnings = Vec::new();
    made.file("sys/firmware/efi/fw_platform_size", b"64\n");
    assert_eq!(firmware(&made.roots, &mut warnings).mode, FirmwareMode::Uefi);
    assert_eq!(warnings.len(), 1);
    made.file(&format!("sys/firmware/efi/efivars/SecureBoot-{GLOBAL}"), &[6, 0, 0, 0, 1]);
    made.file(&format!("sys/firmware/efi/efivars/SetupMode-{GLOBAL}"), &[6, 0, 0, 0, 7]);
    let mut warnings = Vec::new();
    let found = firmware(&made.roots, &mut warnings);
    assert_eq!((found.secure_boot, found.setup_mode), (Some(true), None));
    assert!(warnings[0].starts_with("SetupMode: firmware flag"), "{warnings:?}");
    assert_eq!(found.authorities, None);
    // A list with one certificate, of which the name is what counts.
    let certificate = b"....Microsoft UEFI CA 2023....";
    let list = gravure_efi::keys::list(gravure_efi::keys::GLOBAL, certificate);
    let db = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
    made.file(&format!("sys/firmware/efi/efivars/db-{db}"), &[&[0x27, 0, 0, 0][..], &list].concat());
    let found = firmware(&made.roots, &mut warnings).authorities.unwrap();
    assert_eq!((found.microsoft_2011, found.microsoft_2023), (false, true));
}

#[test]
fn an_empty_tree_gives_an_empty_inventory_and_reasons() {
    let made = Made::new();
    let Collected { inventory, warnings } = collect(&made.roots);
    assert!(inventory.disks.is_empty() && inventory.nics.is_empty() && inventory.identity().is_empty());
    assert_eq!(warnings.len(), 2, "memory and SMBIOS: {warnings:?}");
}

#[test]
fn this_machine_has_processors_and_memory() {
    let Collected { inventory, .. } = collect(&Roots::default());
    assert!(inventory.cpu.threads > 0 && inventory.memory.usable_bytes > 1 << 26, "{:?}", inventory.cpu);
    assert!(Path::new("/sys/devices").is_dir());
}
