//! The inventory of this machine, collected from sysfs and procfs, and the kernel's news about devices.
//!
//! What the bytes mean is `gravure-probe`'s; here are the places they stand at. Everything takes its roots as data, so
//! that made-up machines are collected in tests. What cannot be read is left out and told as a warning: an inventory
//! with a gap is worth more than none.

mod devices;
mod hwids;
mod network;
mod storage;
mod uevent;

use gravure_model::inventory::{Firmware, FirmwareMode, INVENTORY_VERSION, Inventory, LoaderAuthorities};
use gravure_probe::{procfs, smbios};

use crate::disks::Roots;
use crate::efivars::{EfiVariables, GLOBAL, SECURITY_DATABASE};
use crate::sysfs;

pub use devices::modaliases;
pub use uevent::{DeviceNews, Uevents};

/// Largest `/proc/cpuinfo` read; each hardware thread has some 1.5 KB there.
const MAX_CPUINFO_BYTES: u64 = 16 << 20;

/// An inventory and what was odd while collecting it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// The machine.
    pub inventory: Inventory,
    /// What could not be read, in words; the fields concerned are empty.
    pub warnings: Vec<String>,
}

/// Collects everything. Reads only.
pub fn collect(roots: &Roots) -> Collected {
    let mut warnings = Vec::new();
    let mut inventory = Inventory { version: INVENTORY_VERSION, ..Inventory::default() };
    inventory.firmware = firmware(roots, &mut warnings);
    inventory.disks = storage::disks(roots, &mut warnings);
    inventory.nics = network::nics(roots, &mut warnings);
    inventory.pci = devices::pci(roots, &mut warnings);
    inventory.usb = devices::usb(roots, &mut warnings);
    inventory.devices = hwids::devices(roots, &mut warnings);

    let cpuinfo = sysfs::read_bounded(&roots.proc.join("cpuinfo"), MAX_CPUINFO_BYTES).unwrap_or_default();
    inventory.cpu = procfs::cpu(&String::from_utf8_lossy(&cpuinfo), std::env::consts::ARCH);
    let meminfo = sysfs::text(&roots.proc.join("meminfo")).unwrap_or_default();
    match procfs::usable_memory(&meminfo) {
        Ok(bytes) => inventory.memory.usable_bytes = bytes,
        Err(error) => warnings.push(error.to_string()),
    }
    add_smbios(roots, &mut inventory, &mut warnings);
    Collected { inventory, warnings }
}

/// SMBIOS, and what it knows better than the kernel.
fn add_smbios(roots: &Roots, inventory: &mut Inventory, warnings: &mut Vec<String>) {
    let dir = roots.sys.join("firmware/dmi/tables");
    let (Some(entry), Some(table)) =
        (sysfs::bytes(&dir.join("smbios_entry_point")), sysfs::bytes(&dir.join("DMI")))
    else {
        warnings.push(format!("no SMBIOS tables in {}", dir.display()));
        return;
    };
    let tables = match smbios::parse(&entry, &table) {
        Ok(tables) => tables,
        Err(error) => {
            warnings.push(error.to_string());
            return;
        }
    };
    warnings.extend(tables.damage.map(|damage| damage.to_string()));
    if let Ok(fields) = smbios::chid::Fields::read(&table) {
        inventory.chids = fields.chids().into_iter().map(|id| id.guid).collect();
    }
    inventory.smbios = tables.smbios;
    inventory.memory.installed_bytes =
        tables.modules.iter().fold(0u64, |sum, module| sum.saturating_add(module.size_bytes));
    inventory.memory.modules = tables.modules;
    let cpu = &mut inventory.cpu;
    if cpu.packages == 0 {
        cpu.packages = u32::try_from(tables.processors.len()).unwrap_or(u32::MAX);
    }
    if cpu.cores == 0 {
        cpu.cores = tables.processors.iter().fold(0u32, |sum, processor| sum.saturating_add(processor.cores));
    }
    if let Some(first) = tables.processors.into_iter().next() {
        cpu.model = cpu.model.take().or(first.version);
        cpu.vendor = cpu.vendor.take().or(first.manufacturer);
    }
}

/// UEFI or BIOS, and the firmware's flags.
pub fn firmware(roots: &Roots, warnings: &mut Vec<String>) -> Firmware {
    if !roots.sys.join("firmware/efi").is_dir() {
        return Firmware { mode: FirmwareMode::Bios, ..Firmware::default() };
    }
    let mut out = Firmware { mode: FirmwareMode::Uefi, ..Firmware::default() };
    let Some(variables) = EfiVariables::at(&roots.sys.join("firmware/efi/efivars")) else {
        warnings.push("firmware variables cannot be read: efivarfs is not mounted or empty".to_owned());
        return out;
    };
    let mut flag = |name: &str| match variables.read(name, GLOBAL) {
        Ok(value) => {
            procfs::firmware_flag(&value?.data).map_err(|e| warnings.push(format!("{name}: {e}"))).ok()
        }
        Err(error) => {
            warnings.push(error.to_string());
            None
        }
    };
    out.secure_boot = flag("SecureBoot");
    out.setup_mode = flag("SetupMode");
    out.authorities = authorities(&variables, warnings);
    out
}

/// Whom the firmware's `db` trusts with loaders.
fn authorities(variables: &EfiVariables, warnings: &mut Vec<String>) -> Option<LoaderAuthorities> {
    let db = match variables.read("db", SECURITY_DATABASE) {
        Ok(value) => value?.data,
        Err(error) => {
            warnings.push(error.to_string());
            return None;
        }
    };
    match gravure_efi::keys::microsoft(&db) {
        Ok(found) => Some(LoaderAuthorities { microsoft_2011: found.of_2011, microsoft_2023: found.of_2023 }),
        Err(error) => {
            warnings.push(format!("firmware variable db: {error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests;
