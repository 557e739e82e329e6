//! IDs of disks, by the strings of SCSI's INQUIRY command, which Windows makes up for ATA and NVMe disks.

use super::Ids;

/// Lengths of the fields.
const VENDOR: usize = 8;
const PRODUCT: usize = 16;
const REVISION: usize = 4;

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

    /// The same for an NVMe disk.
    pub fn of_nvme(model: &str, firmware: &str) -> Self {
        let model = model.trim().to_owned();
        Self { vendor: "NVMe".to_owned(), product: model, revision: firmware.to_owned() }
    }
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
