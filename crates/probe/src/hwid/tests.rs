//! Lists as Windows stored them, of made-up and well-known devices.

use gravure_model::inventory::PciDevice;

use super::*;

fn assert_ids(ids: &Ids, hardware: &str, compatible: &str) {
    assert_eq!(ids.hardware.join("|"), hardware);
    assert_eq!(ids.compatible.join("|"), compatible);
}

#[test]
fn pci_devices_with_and_without_subsystem() {
    let mut device = PciDevice {
        vendor: 0x1af4,
        device: 0x1041,
        subsystem_vendor: 0x1af4,
        subsystem_device: 0x1100,
        class: 0x02_0000,
        revision: 1,
        ..PciDevice::default()
    };
    assert_ids(
        &pci::ids(&device, Some(0)),
        "PCI\\VEN_1AF4&DEV_1041&SUBSYS_11001AF4&REV_01|PCI\\VEN_1AF4&DEV_1041&SUBSYS_11001AF4|\
         PCI\\VEN_1AF4&DEV_1041&CC_020000|PCI\\VEN_1AF4&DEV_1041&CC_0200",
        "PCI\\VEN_1AF4&DEV_1041&REV_01|PCI\\VEN_1AF4&DEV_1041|PCI\\VEN_1AF4&CC_020000|PCI\\VEN_1AF4&CC_0200|PCI\\VEN_1AF4|\
         PCI\\CC_020000&DT_0|PCI\\CC_020000|PCI\\CC_0200&DT_0|PCI\\CC_0200",
    );
    (device.subsystem_vendor, device.subsystem_device) = (0, 0);
    assert_ids(
        &pci::ids(&device, None),
        "PCI\\VEN_1AF4&DEV_1041&SUBSYS_00000000&REV_01|PCI\\VEN_1AF4&DEV_1041&SUBSYS_00000000|PCI\\VEN_1AF4&DEV_1041&REV_01|\
         PCI\\VEN_1AF4&DEV_1041|PCI\\VEN_1AF4&DEV_1041&CC_020000|PCI\\VEN_1AF4&DEV_1041&CC_0200",
        "PCI\\VEN_1AF4&CC_020000|PCI\\VEN_1AF4&CC_0200|PCI\\VEN_1AF4|PCI\\CC_020000|PCI\\CC_0200",
    );
}

#[test]
fn the_express_type_is_found_behind_other_capabilities() {
    let mut config = vec![0; 256];
    assert_eq!(pci::express_type(&config), None);
    config[0x06] = 0x10;
    config[0x34] = 0x40;
    config[0x40..0x42].copy_from_slice(&[0x01, 0x50]);
    config[0x50..0x54].copy_from_slice(&[0x10, 0x00, 0x42, 0x00]);
    assert_eq!(pci::express_type(&config), Some(4));
    for len in 0..0x54 {
        assert_eq!(pci::express_type(&config[..len]), None, "{len}");
    }
    // A circle.
    config[0x41] = 0x40;
    assert_eq!(pci::express_type(&config), None);
}

#[test]
fn usb_devices_interfaces_and_hubs() {
    let product = usb::Product { vendor: 0x0c45, product: 0x643f, release: 0x2806 };
    let class = |class, subclass, protocol| usb::Class { class, subclass, protocol };
    let video = usb::Interface { number: 0, class: class(0x0e, 3, 0) };
    let second = usb::Interface { number: 1, class: class(0x0e, 2, 0) };
    assert_ids(
        &usb::interface(product, video),
        "USB\\VID_0C45&PID_643F&REV_2806&MI_00|USB\\VID_0C45&PID_643F&MI_00",
        "USB\\Class_0E&SubClass_03&Prot_00|USB\\Class_0E&SubClass_03|USB\\Class_0E",
    );
    assert_ids(
        &usb::device(product, class(0xef, 2, 1), &[video, second], 1, 480),
        "USB\\VID_0C45&PID_643F&REV_2806|USB\\VID_0C45&PID_643F",
        "USB\\DevClass_EF&SubClass_02&Prot_01|USB\\DevClass_EF&SubClass_02|USB\\DevClass_EF|USB\\COMPOSITE",
    );
    let stick = usb::Interface { number: 0, class: class(8, 6, 0x50) };
    let ids = usb::device(product, class(0, 0, 0), &[stick], 1, 480);
    assert_eq!(ids.compatible[0], "USB\\Class_08&SubClass_06&Prot_50");
    assert!(
        !usb::is_composite(class(8, 0, 0), &[video, second], 1)
            && !usb::is_composite(class(0, 0, 0), &[video, second], 2)
    );
    let hub = usb::device(product, class(9, 0, 3), &[], 1, 10_000);
    assert_eq!(hub.compatible[..2], ["USB\\USB30_HUB", "USB\\Class_09&SubClass_00&Prot_03"]);
    let controller = usb::Product { vendor: 0x8086, product: 0x1e2d, release: 4 };
    assert_ids(
        &usb::root_hub(controller, 480),
        "USB\\ROOT_HUB20&VID8086&PID1E2D&REV0004|USB\\ROOT_HUB20&VID8086&PID1E2D|USB\\ROOT_HUB20",
        "",
    );
    assert_eq!(usb::root_hub(controller, 12).hardware[2], "USB\\ROOT_HUB");
    assert_eq!(usb::root_hub(controller, 20_000).hardware[2], "USB\\ROOT_HUB30");
}

#[test]
fn acpi_devices_and_processors() {
    let (hid, cids) = acpi::from_modalias("acpi:DLLK0534:PNP0303:\n").unwrap();
    assert_ids(
        &acpi::ids(hid, &cids),
        "ACPI\\VEN_DLLK&DEV_0534|ACPI\\DLLK0534|*DLLK0534",
        "*PNP0303|ACPI\\PNP0303|PNP0303",
    );
    assert_ids(&acpi::ids("PNP0501", &["PNP0501"]), "ACPI\\VEN_PNP&DEV_0501|ACPI\\PNP0501|*PNP0501", "");
    assert_ids(
        &acpi::ids("VMW0001", &["VM_Gen_Counter"]),
        "ACPI\\VEN_VMW&DEV_0001|ACPI\\VMW0001|*VMW0001",
        "ACPI\\VM_Gen_Counter|VM_Gen_Counter",
    );
    assert_ids(&acpi::ids("ThermalZone", &[]), "ACPI\\ThermalZone|*ThermalZone", "");
    for other in ["pci:v00008086", "acpi:", "acpi::", "acpi:LNXPWRBN:", ""] {
        assert_eq!(acpi::from_modalias(other), None, "{other}");
    }
    assert_ids(
        &acpi::processor("AuthenticAMD", 23, 1),
        "ACPI\\AuthenticAMD_-_AMD64_Family_23_Model_1|*AuthenticAMD_-_AMD64_Family_23_Model_1|ACPI\\AuthenticAMD_-_AMD64_Family_23|\
         *AuthenticAMD_-_AMD64_Family_23|ACPI\\AuthenticAMD_-_AMD64|*AuthenticAMD_-_AMD64",
        "ACPI\\Processor",
    );
}

#[test]
fn audio_codecs() {
    let codec = hdaudio::Codec {
        function: 1,
        vendor: 0x10ec_0256,
        subsystem: 0x1028_0a1b,
        revision: 0x0010_0002,
        controller_vendor: 0x8086,
        controller_device: 0xa0c8,
    };
    let ids = hdaudio::ids(&codec);
    assert_eq!(
        ids.hardware,
        [
            "HDAUDIO\\FUNC_01&VEN_10EC&DEV_0256&SUBSYS_10280A1B&REV_1000",
            "HDAUDIO\\FUNC_01&VEN_10EC&DEV_0256&SUBSYS_10280A1B"
        ]
    );
    assert_eq!(ids.compatible.len(), 13);
    assert_eq!(ids.compatible[0], "HDAUDIO\\FUNC_01&CTLR_VEN_8086&CTLR_DEV_A0C8&VEN_10EC&DEV_0256&REV_1000");
    assert_eq!(ids.compatible[12], "HDAUDIO\\FUNC_01");
}

#[test]
fn disks() {
    let inquiry = storage::Inquiry {
        vendor: "VMware, ".into(),
        product: "VMware Virtual S".into(),
        revision: "1.0 ".into(),
    };
    assert_ids(
        &storage::disk(storage::Bus::Scsi, &inquiry),
        "SCSI\\DiskVMware__VMware_Virtual_S1.0_|SCSI\\DiskVMware__VMware_Virtual_S|SCSI\\DiskVMware__|SCSI\\VMware__VMware_Virtual_S1|\
         VMware__VMware_Virtual_S1|GenDisk",
        "SCSI\\Disk|SCSI\\RAW",
    );
    let ata = storage::Inquiry::of_ata("Samsung SSD 850 EVO 500GB", "EMT02B6Q");
    assert_eq!(storage::disk(storage::Bus::Scsi, &ata).hardware[0], "SCSI\\DiskSamsung_SSD_850_EVO_500GEMT0");
    let one_word = storage::Inquiry::of_ata("INTELSSDSC2BW240H6", "RG20");
    assert_eq!(
        storage::disk(storage::Bus::Scsi, &one_word).hardware[0],
        "SCSI\\Disk________INTELSSDSC2BW240RG20"
    );
    let nvme = storage::Inquiry::of_nvme("WDC PC SN720 SDAQNTW-512G", "10102120");
    assert_eq!(
        storage::disk(storage::Bus::Scsi, &nvme).hardware[2..4],
        ["SCSI\\DiskNVMe____", "SCSI\\NVMe____WDC_PC_SN720_SDA1"]
    );
    let ids = storage::disk(storage::Bus::UsbStorage, &inquiry);
    assert_eq!(ids.hardware[5..], ["USBSTOR\\GenDisk", "GenDisk"]);
    assert_eq!(ids.compatible, ["USBSTOR\\Disk", "USBSTOR\\RAW", "GenDisk"]);
    assert_eq!(storage::cd_rom(storage::Bus::Scsi, &inquiry).hardware[5], "GenCdRom");
}
