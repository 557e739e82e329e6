//! Lists of IDs and computer IDs that Windows itself stored, made again from what Linux would know.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use gravure_model::inventory::PciDevice;
use gravure_probe::hwid::{Ids, acpi, hdaudio, pci, storage, usb};
use gravure_probe::smbios::chid::{Fields, guid_of};

/// Hardware and compatible IDs of every row whose enumerator is `bus`.
fn rows(bus: &str) -> Option<Vec<Ids>> {
    let shared = gravure_testkit::shared_dir()?;
    let table = std::fs::read_to_string(shared.join("corpus/vectors/device_rank.tsv")).unwrap();
    let list = |text: &str| text.split('|').filter(|id| !id.is_empty()).map(str::to_owned).collect();
    let rows = table.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    Some(
        rows.filter(|row| row[1] == bus)
            .map(|row| Ids { hardware: list(row[3]), compatible: list(row[4]) })
            .collect(),
    )
}

/// The text behind `key` up to the next `&`.
fn part<'a>(id: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = id.split_once(key)?;
    rest.split('&').next()
}

fn hex(id: &str, key: &str) -> u32 {
    u32::from_str_radix(part(id, key).unwrap_or_else(|| panic!("{key} in {id}")), 16).unwrap()
}

fn assert_same(ours: &Ids, theirs: &Ids) {
    let upper = |ids: &[String]| ids.iter().map(|id| id.to_uppercase()).collect::<Vec<_>>();
    assert_eq!(upper(&ours.hardware), upper(&theirs.hardware));
    assert_eq!(upper(&ours.compatible), upper(&theirs.compatible));
}

#[test]
fn pci() {
    let Some(rows) = rows("PCI") else { return };
    for row in &rows {
        let first = &row.hardware[0];
        let short = |key| u16::try_from(hex(first, key)).unwrap();
        let subsystem = hex(first, "SUBSYS_");
        let class =
            row.compatible.iter().filter_map(|id| part(id, "PCI\\CC_")).find(|class| class.len() == 6);
        let express = row.compatible.iter().find_map(|id| part(id, "&DT_")).map(|kind| kind.parse().unwrap());
        let device = PciDevice {
            vendor: short("VEN_"),
            device: short("&DEV_"),
            subsystem_device: u16::try_from(subsystem >> 16).unwrap(),
            subsystem_vendor: u16::try_from(subsystem & 0xffff).unwrap(),
            revision: u8::try_from(hex(first, "REV_")).unwrap(),
            class: u32::from_str_radix(class.unwrap(), 16).unwrap(),
            ..PciDevice::default()
        };
        assert_same(&pci::ids(&device, express), row);
    }
    assert_eq!(rows.len(), 61);
}

#[test]
fn usb() {
    let Some(rows) = rows("USB") else { return };
    let mut hubs = 0;
    for row in &rows {
        let first = &row.hardware[0];
        let number = |key| u16::try_from(hex(first, key)).unwrap();
        if first.contains("ROOT_HUB") {
            let controller =
                usb::Product { vendor: number("&VID"), product: number("&PID"), release: number("&REV") };
            let speed = if first.contains("HUB20") { 480 } else { 12 };
            assert_same(&usb::root_hub(controller, speed), row);
            hubs += 1;
            continue;
        }
        let product =
            usb::Product { vendor: number("VID_"), product: number("PID_"), release: number("REV_") };
        // Windows' newer stack reports hubs by its own name alone; the older one by class. We list both.
        if row.compatible == ["USB\\USB20_HUB"] {
            let hub = usb::Class { class: 9, subclass: 0, protocol: 0 };
            assert_eq!(usb::device(product, hub, &[], 1, 480).compatible[0], "USB\\USB20_HUB");
            continue;
        }
        let byte = |key| u8::try_from(hex(&row.compatible[0], key)).unwrap();
        let class =
            usb::Class { class: byte("Class_"), subclass: byte("SubClass_"), protocol: byte("Prot_") };
        let ours = match part(first, "&MI_") {
            Some(number) => {
                let number = u8::from_str_radix(number, 16).unwrap();
                usb::interface(product, usb::Interface { number, class })
            }
            None => {
                let mut ids = usb::device(product, class, &[], 1, 480);
                ids.compatible.retain(|id| !id.ends_with("_HUB"));
                ids
            }
        };
        assert_same(&ours, row);
    }
    assert!(rows.len() >= 19 && hubs >= 3, "{} {hubs}", rows.len());
}

#[test]
fn acpi() {
    let Some(rows) = rows("ACPI") else { return };
    for row in &rows {
        if let Some(rest) = row.hardware[0].strip_prefix("ACPI\\GenuineIntel_-_Intel64_Family_") {
            let (family, model) = rest.split_once("_Model_").unwrap();
            assert_same(
                &acpi::processor("GenuineIntel", family.parse().unwrap(), model.parse().unwrap()),
                row,
            );
            continue;
        }
        let hid = row.hardware.last().unwrap().strip_prefix('*').unwrap();
        let plain = |id: &String| id.trim_start_matches("ACPI\\").trim_start_matches('*').to_owned();
        let mut cids: Vec<String> = row.compatible.iter().map(plain).collect();
        cids.dedup();
        let ours = acpi::ids(hid, &cids.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(ours.hardware, row.hardware);
        // All that Windows lists, in its order; the kernel does not tell numbers from texts, so there may be more.
        let mut rest = ours.compatible.iter();
        assert!(
            row.compatible.iter().all(|id| rest.any(|ours| ours == id)),
            "{:?} {:?}",
            ours.compatible,
            row.compatible
        );
        assert_eq!(ours.compatible.first(), row.compatible.first());
    }
    assert!(rows.len() > 100, "{}", rows.len());
}

#[test]
fn hdaudio() {
    let Some(rows) = rows("HDAUDIO") else { return };
    for row in &rows {
        let first = &row.hardware[0];
        let controller = |key| u16::try_from(hex(&row.compatible[0], key)).unwrap();
        let codec = hdaudio::Codec {
            function: u8::try_from(hex(first, "FUNC_")).unwrap(),
            vendor: (hex(first, "VEN_") << 16) | hex(first, "&DEV_"),
            subsystem: hex(first, "SUBSYS_"),
            revision: hex(first, "REV_") << 8,
            controller_vendor: controller("CTLR_VEN_"),
            controller_device: controller("CTLR_DEV_"),
        };
        assert_same(&hdaudio::ids(&codec), row);
    }
    assert!(rows.len() >= 2, "{}", rows.len());
}

#[test]
fn disks() {
    let (Some(scsi), Some(usb)) = (rows("SCSI"), rows("USBSTOR")) else { return };
    let mut count = 0;
    for (bus, row) in
        scsi.iter().map(|r| (storage::Bus::Scsi, r)).chain(usb.iter().map(|r| (storage::Bus::UsbStorage, r)))
    {
        // NVMe disks have two longer IDs in front of the usual ones.
        let usual = if row.hardware.len() == 8 && bus == storage::Bus::Scsi { 2 } else { 0 };
        let row = Ids { hardware: row.hardware[usual..].to_vec(), compatible: row.compatible.clone() };
        let (_, rest) = row.hardware[0].split_once('\\').unwrap();
        let optical = rest.starts_with("CdRom");
        let fields = rest.trim_start_matches("Disk").trim_start_matches("CdRom");
        let inquiry = storage::Inquiry {
            vendor: fields[..8].to_owned(),
            product: fields[8..24].to_owned(),
            revision: fields[24..].replace('_', " "),
        };
        let ours = if optical { storage::cd_rom(bus, &inquiry) } else { storage::disk(bus, &inquiry) };
        assert_same(&ours, &row);
        count += 1;
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn computer_ids() {
    let Some(shared) = gravure_testkit::shared_dir() else { return };
    let table = std::fs::read_to_string(shared.join("corpus/vectors/computer_ids.tsv")).unwrap();
    let machine = |fields: &[(&str, &str)]| {
        let mut out = Fields::default();
        assert!(fields.iter().all(|(name, value)| out.set(name, value)), "{fields:?}");
        out
    };
    let virtual_box = machine(&[
        ("manufacturer", "innotek GmbH"),
        ("family", "Virtual Machine"),
        ("product", "VirtualBox"),
        ("bios_vendor", "innotek GmbH"),
        ("bios_version", "VirtualBox"),
        ("bios_major", "0"),
        ("bios_minor", "0"),
    ]);
    let dell = machine(&[
        ("manufacturer", "Dell Inc."),
        ("family", ""),
        ("product", "Latitude E6430"),
        ("sku", "Latitude E6430"),
        ("bios_vendor", "Dell Inc."),
        ("bios_version", "A14"),
        ("bios_major", "4"),
        ("bios_minor", "6"),
        ("board_manufacturer", "Dell Inc."),
        ("board_product", "0CDR63"),
        ("enclosure", "9"),
    ]);
    let vmware = |product, vendor, version, major, minor| {
        machine(&[
            ("manufacturer", "VMware, Inc."),
            ("family", ""),
            ("product", product),
            ("bios_vendor", vendor),
            ("bios_version", version),
            ("bios_major", major),
            ("bios_minor", minor),
            ("enclosure", "1"),
        ])
    };
    let old = vmware("VMware Virtual Platform", "Phoenix Technologies LTD", "6.00", "4", "6");
    let new = vmware("VMware7,1", "VMware, Inc.", "VMW71.00V.18452719.B64.2108091906", "255", "255");
    let mut rows = 0;
    for line in table.lines().skip(1) {
        let [hive, source, guid] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let guid = guid.trim_matches(['{', '}']);
        assert_eq!(guid_of(source), guid, "{source}");
        let machine = match hive {
            "SYSTEM_2" => &virtual_box,
            "SYSTEM_B" => &dell,
            "SYSTEM_WIN_10_1709" => &old,
            _ => &new,
        };
        assert!(machine.chids().iter().any(|id| id.guid == guid && id.source == source), "{source}");
        rows += 1;
    }
    assert_eq!(rows, 15);
}

/// Every computer of the vendors' catalogues is found under the key that is made of its SMBIOS.
#[test]
fn catalogue_keys_have_the_shape_we_make() {
    use gravure_model::inventory::{Smbios, SmbiosBoard, SmbiosSystem};
    use gravure_probe::smbios::{Vendor, vendor_key};
    let Some(shared) = gravure_testkit::shared_dir() else { return };
    let read = |name: &str| std::fs::read_to_string(shared.join("corpus/catalogs").join(name)).unwrap();
    let some = |text: &str| Some(text.to_owned());
    let between = |text: &str, start: &str, end: char| -> Vec<String> {
        text.split(start).skip(1).filter_map(|rest| Some(rest.split_once(end)?.0.trim().to_owned())).collect()
    };
    let dell = between(&read("dell.xml"), "systemID=\"", '"');
    let hp: Vec<String> = between(&read("hp.xml"), "<SystemId>", '<')
        .iter()
        .flat_map(|ids| ids.split(',').map(|id| id.trim().to_owned()).collect::<Vec<_>>())
        .collect();
    let lenovo = between(&read("lenovo.xml"), "<Type>", '<');
    for (vendor, keys) in [(Vendor::Dell, &dell), (Vendor::Hp, &hp), (Vendor::Lenovo, &lenovo)] {
        assert!(keys.len() > 500, "{vendor:?}: {}", keys.len());
        let mut found = 0;
        for key in keys {
            let (maker, product, sku, board) = match vendor {
                Vendor::Dell => ("Dell Inc.", some("x"), some(key), some("0ABC")),
                Vendor::Hp => ("HP", some("x"), some("y"), some(key)),
                _ => ("LENOVO", Some(format!("{key}CTO1WW")), None, some("board")),
            };
            let smbios = Smbios {
                system: SmbiosSystem { manufacturer: some(maker), product, sku, ..SmbiosSystem::default() },
                board: SmbiosBoard { product: board, ..SmbiosBoard::default() },
                ..Smbios::default()
            };
            let ours = vendor_key(&smbios).unwrap();
            found += usize::from(ours.vendor == vendor && ours.key.eq_ignore_ascii_case(key));
        }
        // A few entries of the catalogues are slips: names where IDs should be.
        assert!(found * 100 >= keys.len() * 97, "{vendor:?}: {found} of {}", keys.len());
        eprintln!("{vendor:?}: {found} of {} keys", keys.len());
    }
}
