//! IDs of disks, by the strings of SCSI's INQUIRY command, which Windows makes up for ATA and NVMe disks.

use super::Ids;

/// Lengths of the fields.
const VENDOR: usize = 8;
const PRODUCT: usize = 16;
const REVISION: usize = 4;

/// What Windows' driver of virtio disks answers, whoever made the machine.
const VIRTIO: [&str; 3] = ["Red Hat", "VirtIO", "0001"];

/// Strings of INQUIRY, blanks at the end or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inquiry {
    /// Vendor, eight bytes.
    pub vendor: String,
    /// Product, sixteen bytes.
    pub product: String,
    /// Revision, four bytes.
    pub revision: String,
}

impl Inquiry {
    /// What Windows' drivers make of an ATA disk's model and firmware: what stands before the first blank is the vendor.
    pub fn of_ata(model: &str, firmware: &str) -> Self {
        let model = model.trim();
        let (vendor, product) = match model.split_once(' ') {
            Some((vendor, product)) if vendor.len() <= VENDOR => (vendor, product),
            _ => ("", model),
        };
        Self { vendor: vendor.to_owned(), product: product.trim().to_owned(), revision: firmware.to_owned() }
    }

    /// The same for a virtio block device, which says nothing of itself.
    pub fn of_virtio() -> Self {
        let [vendor, product, revision] = VIRTIO.map(str::to_owned);
        Self { vendor, product, revision }
    }

    /// The same for an NVMe disk.
    pub fn of_nvme(model: &str, firmware: &str) -> Self {
        let model = model.trim().to_owned();
        Self { vendor: "NVMe".to_owned(), product: model, revision: firmware.to_owned() }
    }
}

/// What an SD card or eMMC says of itself, its register CID (SD Physical Layer 4.10, 5.2; JEDEC JESD84-B51, 7.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Card {
    /// Soldered to the board (eMMC), and not an SD card.
    pub is_mmc: bool,
    /// Number of the maker.
    pub manufacturer: u8,
    /// Who ordered it.
    pub oem: u16,
    /// Name of the product.
    pub name: String,
    /// Its revision: two digits, the first in the upper half.
    pub revision: u8,
}

/// IDs of a card (WDD identifiers-for-secure-digital--sd--devices). That eMMC has a class of its own is seen in the driver databases of
/// real systems, which name both.
pub fn card(card: &Card) -> Ids {
    let clean = |c: char| if c.is_ascii_graphic() && c != ',' { c } else { '_' };
    let name: String = card.name.chars().map(clean).collect();
    let plain = format!("SD\\VID_{:02X}&OID_{:04X}&PID_{name}", card.manufacturer, card.oem);
    let revision = format!("{plain}&REV_{:X}.{:X}", card.revision >> 4, card.revision & 0xf);
    let class = if card.is_mmc { "SD\\CLASS_MMC" } else { "SD\\CLASS_STORAGE" };
    Ids { hardware: vec![revision, plain], compatible: vec![class.to_owned()] }
}

/// What the disk hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// Any port driver: SCSI, SAS, SATA, NVMe, and USB disks that speak UAS.
    Scsi,
    /// USB disks of the older kind.
    UsbStorage,
}

/// IDs of a disk.
pub fn disk(bus: Bus, inquiry: &Inquiry) -> Ids {
    ids(bus, "Disk", "GenDisk", inquiry)
}

/// IDs of a CD or DVD drive.
pub fn cd_rom(bus: Bus, inquiry: &Inquiry) -> Ids {
    ids(bus, "CdRom", "GenCdRom", inquiry)
}

fn ids(bus: Bus, kind: &str, generic: &str, inquiry: &Inquiry) -> Ids {
    let bus_name = match bus {
        Bus::Scsi => "SCSI",
        Bus::UsbStorage => "USBSTOR",
    };
    let vendor = padded(&inquiry.vendor, VENDOR);
    let product = padded(&inquiry.product, PRODUCT);
    let revision = padded(&inquiry.revision, REVISION);
    let all = format!("{vendor}{product}");
    // The short form skips blanks in front of the revision.
    let first = padded(inquiry.revision.trim_start(), 1);
    let bare = format!("{all}{first}");
    let mut hardware = vec![
        format!("{bus_name}\\{kind}{all}{revision}"),
        format!("{bus_name}\\{kind}{all}"),
        format!("{bus_name}\\{kind}{vendor}"),
        format!("{bus_name}\\{bare}"),
        bare,
    ];
    let mut compatible = vec![format!("{bus_name}\\{kind}"), format!("{bus_name}\\RAW")];
    if bus == Bus::UsbStorage {
        hardware.push(format!("{bus_name}\\{generic}"));
        compatible.push(generic.to_owned());
    }
    hardware.push(generic.to_owned());
    Ids { hardware, compatible }
}

/// Exactly `len` characters: blanks, commas and what does not print become `_`.
fn padded(text: &str, len: usize) -> String {
    let clean = |c: char| if c.is_ascii_graphic() && c != ',' { c } else { '_' };
    text.chars().map(clean).chain(std::iter::repeat('_')).take(len).collect()
}
