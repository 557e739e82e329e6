//! What a machine consists of, as the payload reports it. Fields a machine does not tell are `None` or empty.

use serde::{Deserialize, Serialize};

use crate::identity::{Mac, MachineIdentity};

/// Version of this document.
pub const INVENTORY_VERSION: u32 = 1;

/// The whole machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// [`INVENTORY_VERSION`].
    pub version: u32,
    /// How it was started.
    pub firmware: Firmware,
    /// SMBIOS.
    pub smbios: Smbios,
    /// Processors.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Disks, without partitions of others (loop, device mapper, RAM).
    pub disks: Vec<Disk>,
    /// Network adapters.
    pub nics: Vec<Nic>,
    /// PCI devices.
    pub pci: Vec<PciDevice>,
    /// USB devices.
    pub usb: Vec<UsbDevice>,
    /// Devices with the IDs by which Windows finds their drivers. Payloads before 0.2 do not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Computer hardware IDs (CHIDs), most specific first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chids: Vec<String>,
    /// Installations of Windows on its disks; `None` when nobody looked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Vec<InstalledWindows>>,
}

/// An installation of Windows on a disk of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InstalledWindows {
    /// Kernel name of its partition.
    pub partition: String,
    /// Name it gave itself.
    pub computer_name: Option<String>,
    /// SID of the machine, `S-1-5-21-...`; none before its setup went through.
    pub machine_sid: Option<String>,
}

/// Drivers of network adapters on USB, which move between machines. Left out are those that boards solder on
/// (smsc95xx, lan78xx).
const USB_ADAPTER_DRIVERS: [&str; 17] = [
    "aqc111",
    "asix",
    "ax88179_178a",
    "cdc_eem",
    "cdc_ether",
    "cdc_mbim",
    "cdc_ncm",
    "ch9200",
    "dm9601",
    "ipheth",
    "mcs7830",
    "pegasus",
    "r8152",
    "rndis_host",
    "rtl8150",
    "sr9700",
    "sr9800",
];

impl Inventory {
    /// What the server knows the machine by.
    pub fn identity(&self) -> MachineIdentity {
        let Smbios { system, board, chassis, .. } = &self.smbios;
        let on_usb =
            |nic: &&Nic| nic.driver.as_deref().is_some_and(|name| USB_ADAPTER_DRIVERS.contains(&name));
        MachineIdentity::new(
            system.uuid.as_deref(),
            system.serial.as_deref(),
            self.nics.iter().map(|nic| nic.mac),
        )
        .with_serials(board.serial.as_deref(), chassis.serial.as_deref())
        .with_movable(self.nics.iter().filter(on_usb).map(|nic| nic.mac))
    }
}

/// How the machine was started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Firmware {
    /// UEFI or BIOS.
    pub mode: FirmwareMode,
    /// `Some` on UEFI machines that tell.
    pub secure_boot: Option<bool>,
    /// Secure Boot setup mode, on UEFI machines that tell.
    pub setup_mode: Option<bool>,
    /// Which of Microsoft's authorities for loaders its `db` trusts; `None` on machines that do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<LoaderAuthorities>,
}

/// Microsoft's authorities for other people's loaders, shim among them. The one of 2011 has expired and is still trusted; new
/// machines may know that of 2023 alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LoaderAuthorities {
    /// Microsoft Corporation UEFI CA 2011.
    pub microsoft_2011: bool,
    /// Microsoft UEFI CA 2023.
    pub microsoft_2023: bool,
}

/// UEFI or BIOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirmwareMode {
    /// UEFI: boots from an EFI system partition.
    Uefi,
    /// BIOS or compatibility mode: boots from the first sector.
    #[default]
    Bios,
}

impl FirmwareMode {
    /// The word used in messages and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uefi => "uefi",
            Self::Bios => "bios",
        }
    }
}

/// What SMBIOS says (DSP0134, types 0, 1, 2, 3).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Smbios {
    /// Version of the tables, e.g. `3.2`.
    pub version: Option<String>,
    /// Type 0.
    pub bios: SmbiosBios,
    /// Type 1.
    pub system: SmbiosSystem,
    /// Type 2, the first.
    pub board: SmbiosBoard,
    /// Type 3, the first.
    pub chassis: SmbiosChassis,
}

/// SMBIOS type 0.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SmbiosBios {
    /// Vendor.
    pub vendor: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Release date as written there.
    pub date: Option<String>,
    /// System BIOS release, `major.minor`.
    pub release: Option<String>,
}

/// SMBIOS type 1.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SmbiosSystem {
    /// Manufacturer.
    pub manufacturer: Option<String>,
    /// Product name.
    pub product: Option<String>,
    /// Version; Lenovo's product names are here.
    pub version: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// UUID, lower case with dashes, fields in the order SMBIOS 2.6 defines.
    pub uuid: Option<String>,
    /// SKU number.
    pub sku: Option<String>,
    /// Family.
    pub family: Option<String>,
}

/// SMBIOS type 2.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SmbiosBoard {
    /// Manufacturer.
    pub manufacturer: Option<String>,
    /// Product.
    pub product: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
}

/// SMBIOS type 3.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SmbiosChassis {
    /// Manufacturer.
    pub manufacturer: Option<String>,
    /// Chassis type code, lock bit removed (DSP0134 7.4.1).
    pub type_code: Option<u8>,
    /// Serial number.
    pub serial: Option<String>,
    /// Asset tag.
    pub asset_tag: Option<String>,
}

/// Processors, as one line: mixed processors do not occur in PCs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cpu {
    /// Model name.
    pub model: Option<String>,
    /// Vendor string, e.g. `GenuineIntel`.
    pub vendor: Option<String>,
    /// Physical packages.
    pub packages: u32,
    /// Cores in all.
    pub cores: u32,
    /// Hardware threads in all.
    pub threads: u32,
    /// `x86_64`, `aarch64`.
    pub architecture: String,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// What the kernel has, bytes.
    pub usable_bytes: u64,
    /// What is plugged in by SMBIOS, bytes; 0 when it does not say.
    pub installed_bytes: u64,
    /// Modules by SMBIOS type 17, empty slots left out.
    pub modules: Vec<MemoryModule>,
}

/// A memory module (SMBIOS type 17).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryModule {
    /// Slot name.
    pub locator: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Speed in MT/s.
    pub speed_mts: Option<u32>,
    /// Manufacturer.
    pub manufacturer: Option<String>,
    /// Part number.
    pub part_number: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Disk {
    /// Kernel name, e.g. `nvme0n1`.
    pub name: String,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// World-wide name or NVMe EUI.
    pub wwn: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical sector, bytes: 512 or 4096.
    pub logical_sector_bytes: u32,
    /// Physical sector, bytes.
    pub physical_sector_bytes: u32,
    /// Spinning.
    pub rotational: bool,
    /// Can be taken out (USB sticks, card readers).
    pub removable: bool,
    /// Write-protected.
    pub read_only: bool,
    /// How it is attached: `nvme`, `sata`, `scsi`, `virtio`, `usb`, `mmc`.
    pub transport: Option<String>,
    /// Why it must not be written now: mounted, swap, held by another device. Empty when free.
    pub in_use: Vec<String>,
    /// What was recognised on it, e.g. `partition table gpt`, `ext4 root`. Informative.
    pub content: Vec<String>,
}

/// A network adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Kernel name.
    pub name: String,
    /// Permanent address.
    pub mac: Mac,
    /// Driver.
    pub driver: Option<String>,
    /// Cable plugged in.
    pub carrier: Option<bool>,
    /// Link speed in Mbit/s.
    pub speed_mbits: Option<u32>,
    /// PCI address it hangs on, e.g. `0000:00:02.0`.
    pub pci_address: Option<String>,
}

/// A PCI device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PciDevice {
    /// `0000:00:02.0`
    pub address: String,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem device id.
    pub subsystem_device: u16,
    /// Class, subclass, programming interface: 24 bits.
    pub class: u32,
    /// Revision.
    pub revision: u8,
    /// Driver bound in the payload, if any.
    pub driver: Option<String>,
}

/// A USB device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UsbDevice {
    /// Kernel's bus path, e.g. `1-4.2`.
    pub path: String,
    /// Vendor id.
    pub vendor: u16,
    /// Product id.
    pub product: u16,
    /// Device release, BCD.
    pub release: u16,
    /// Device class.
    pub class: u8,
    /// Product name.
    pub name: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
}

/// What layers may name of every machine, beside facts that are given to them.
pub const MACHINE_FACTS: [&str; 8] =
    ["COMPUTER_NAME", "SERIAL", "UUID", "MAC", "MANUFACTURER", "MODEL", "SKU", "ASSET"];

/// These facts of a machine that is called `name`; what it does not tell is empty.
pub fn machine_facts(
    name: &str,
    identity: &MachineIdentity,
    smbios: &Smbios,
) -> std::collections::BTreeMap<String, String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let values = [
        name.to_owned(),
        text(&identity.serial),
        text(&identity.uuid),
        identity.macs.first().map(|mac| mac.to_string().replace(':', "")).unwrap_or_default(),
        text(&smbios.system.manufacturer),
        text(&smbios.system.product),
        text(&smbios.system.sku),
        text(&smbios.chassis.asset_tag),
    ];
    MACHINE_FACTS.map(str::to_owned).into_iter().zip(values).collect()
}

/// A device as Windows' plug and play would see it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Device {
    /// `pci`, `usb`, `acpi`, `vmbus`, `hdaudio`, `disk`, `processor`.
    pub bus: String,
    /// Where it is: a PCI address, a USB path, a name of the kernel.
    pub place: String,
    /// Place of the device it hangs on; its driver comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Name it gives itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Driver bound in the payload, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Hardware IDs in Windows' order, most specific first.
    pub hardware_ids: Vec<String>,
    /// Compatible IDs in Windows' order.
    pub compatible_ids: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_on_usb_are_named_as_movable() {
        let nic = |last, driver: Option<&str>| Nic {
            name: "eth".into(),
            mac: Mac([2, 0, 0, 0, 0, last]),
            driver: driver.map(str::to_owned),
            carrier: None,
            speed_mbits: None,
            pci_address: Some("0000:00:14.0".into()),
        };
        let mut inventory = Inventory {
            nics: vec![nic(2, Some("e1000e")), nic(1, Some("r8152")), nic(3, None)],
            ..Inventory::default()
        };
        inventory.smbios.board.serial = Some("B1".into());
        inventory.smbios.chassis.serial = Some("Chassis Serial Number".into());
        let identity = inventory.identity();
        assert_eq!(identity.macs.len(), 3);
        assert_eq!(identity.movable, [Mac([2, 0, 0, 0, 0, 1])]);
        assert_eq!((identity.board_serial.as_deref(), identity.chassis_serial), (Some("B1"), None));
    }
}
