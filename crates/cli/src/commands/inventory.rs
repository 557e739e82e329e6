//! `gravure inventory`: what this machine, or a copy of another's sysfs, consists of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use gravure_imaging::ErrorKind;
use gravure_linux::disks::Roots;
use gravure_linux::machine::{Collected, collect};
use gravure_model::inventory::{Device, FirmwareMode, Inventory};
use gravure_probe::smbios::chid::{Chid, Fields};
use gravure_probe::smbios::{self, Version, vendor_key};
use serde::Serialize;

use crate::Common;
use crate::exit::Failure;
use crate::output::{self, Row};

/// Largest SMBIOS dump read: the largest table and its entry point.
const MAX_DUMP_BYTES: u64 = (smbios::MAX_TABLE_BYTES as u64) + 4096;
/// Version taken for a table without entry point: what decides is the order of the UUID's fields, which changed in 2.6.
const ASSUMED_VERSION: Version = Version { major: 3, minor: 0 };

/// Show what a machine consists of
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(ShowOptions),
    Chids(ChidOptions),
}

/// Show the inventory, with each device's hardware IDs in Windows' order
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Runs as any user; as root, disks' contents, serial numbers and PCI Express types are there too.

Examples:
  gravure inventory show
  gravure inventory show --format json > this-machine.json
  gravure inventory show --sysfs /mnt/copy/sys --smbios dump.bin --format json"
)]
struct ShowOptions {
    /// Read SMBIOS from this file: a table, or what `dmidecode --dump-bin` writes
    #[arg(long, value_name = "FILE")]
    smbios: Option<PathBuf>,
    /// Directory that stands for /sys
    #[arg(long, value_name = "DIR")]
    sysfs: Option<PathBuf>,
}

/// Print computer hardware IDs (CHIDs) and the key under which the vendor's driver packs are found
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without options: of this machine (root only). Fields that are not given are absent, and no ID has them; an empty one counts.
Fields: manufacturer family product sku bios_vendor bios_version bios_major bios_minor board_manufacturer board_product enclosure
(numbers decimal).

Examples:
  gravure inventory chids --smbios dump.bin
  gravure inventory chids --fields 'manufacturer=Dell Inc.' 'product=Latitude E6430' --format json"
)]
struct ChidOptions {
    /// Read SMBIOS from this file: a table, or what `dmidecode --dump-bin` writes
    #[arg(long, value_name = "FILE", conflicts_with = "fields")]
    smbios: Option<PathBuf>,
    /// The fields themselves
    #[arg(long, value_name = "NAME=VALUE", num_args = 1..)]
    fields: Vec<String>,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    match &options.command {
        Command::Show(options) => show(options, common),
        Command::Chids(options) => chids(options, common),
    }
}

/// An SMBIOS dump: its version and its table.
struct Dump {
    version: Version,
    table: Vec<u8>,
}

impl Dump {
    fn read(path: &Path) -> Result<Self, Failure> {
        use std::io::Read as _;
        let failed = |error: std::io::Error| Failure::io("read", path, &error);
        let mut bytes = Vec::new();
        fs::File::open(path).map_err(failed)?.take(MAX_DUMP_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        let bad = |error: gravure_probe::Error| {
            Failure::new(ErrorKind::Integrity, format!("{}: {error}", path.display()))
        };
        let (entry, table) = smbios::split(&bytes).map_err(bad)?;
        let version = match entry {
            Some(entry) => smbios::EntryPoint::parse(entry).map_err(bad)?.version,
            None => ASSUMED_VERSION,
        };
        Ok(Self { version, table: table.to_vec() })
    }

    fn tables(&self, path: &Path) -> Result<smbios::Tables, Failure> {
        let tables = smbios::parse_version(self.version, &self.table);
        tables.map_err(|error| Failure::new(ErrorKind::Integrity, format!("{}: {error}", path.display())))
    }
}

/// Key of a vendor's catalogue.
#[derive(Debug, Serialize)]
struct Key {
    vendor: &'static str,
    key: String,
}

impl Key {
    fn of(smbios: &gravure_model::inventory::Smbios) -> Option<Self> {
        vendor_key(smbios).map(|found| Self { vendor: found.vendor.as_str(), key: found.key })
    }
}

/// The inventory and what else is told of it.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    inventory: Inventory,
    vendor_key: Option<Key>,
}

fn show(options: &ShowOptions, common: &Common) -> Result<ExitCode, Failure> {
    let mut roots = Roots::default();
    if let Some(sysfs) = &options.sysfs {
        if !sysfs.is_dir() {
            return Err(Failure::new(ErrorKind::NotFound, format!("{}: no such directory", sysfs.display())));
        }
        // Another machine's processes and devices are not at hand.
        roots.proc = sysfs.join("../proc");
        roots.dev = sysfs.join("../dev");
        roots.sys.clone_from(sysfs);
    }
    let Collected { mut inventory, mut warnings } = collect(&roots);
    if let Some(path) = &options.smbios {
        let dump = Dump::read(path)?;
        let tables = dump.tables(path)?;
        warnings.retain(|warning| !warning.starts_with("no SMBIOS tables"));
        warnings.extend(tables.damage.map(|damage| damage.to_string()));
        inventory.smbios = tables.smbios;
        inventory.memory.modules = tables.modules;
        inventory.memory.installed_bytes =
            inventory.memory.modules.iter().fold(0u64, |sum, module| sum.saturating_add(module.size_bytes));
        let fields = Fields::read(&dump.table).unwrap_or_default();
        inventory.chids = fields.chids().into_iter().map(|id| id.guid).collect();
    }
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    let shown = Shown { vendor_key: Key::of(&inventory.smbios), inventory };
    output::document(common.format, &shown, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(shown: &Shown) -> String {
    let inventory = &shown.inventory;
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let system = &inventory.smbios.system;
    let firmware = match inventory.firmware.mode {
        FirmwareMode::Uefi => match inventory.firmware.secure_boot {
            Some(true) => "UEFI, Secure Boot on",
            Some(false) => "UEFI, Secure Boot off",
            None => "UEFI",
        },
        FirmwareMode::Bios => "BIOS",
    };
    let mut lines = vec![
        format!(
            "machine    {} {} ({})",
            or_none(&system.manufacturer),
            or_none(&system.product),
            or_none(&system.version)
        ),
        format!("serial     {}   uuid {}", or_none(&system.serial), or_none(&system.uuid)),
        format!(
            "firmware   {firmware}, {} {}",
            or_none(&inventory.smbios.bios.vendor),
            or_none(&inventory.smbios.bios.version)
        ),
        format!("processor  {}, {} threads", or_none(&inventory.cpu.model), inventory.cpu.threads),
        format!("memory     {}", output::bytes(inventory.memory.usable_bytes)),
    ];
    if let Some(key) = &shown.vendor_key {
        lines.push(format!("packs      {} {}", key.vendor, key.key));
    }
    for disk in &inventory.disks {
        lines.push(format!(
            "disk       {} {} {}",
            disk.name,
            output::bytes(disk.size_bytes),
            or_none(&disk.model)
        ));
    }
    for nic in &inventory.nics {
        lines.push(format!("network    {} {} {}", nic.name, nic.mac, or_none(&nic.driver)));
    }
    lines.extend(inventory.devices.iter().flat_map(device_lines));
    lines.join("\n")
}

fn device_lines(device: &Device) -> Vec<String> {
    let mut head = vec![device.bus.clone(), device.place.clone()];
    head.extend(device.name.clone());
    head.extend(device.driver.as_ref().map(|driver| format!("({driver})")));
    let mut lines = vec![String::new(), head.join(" ")];
    lines.extend(device.hardware_ids.iter().map(|id| format!("  {id}")));
    lines.extend(device.compatible_ids.iter().map(|id| format!("    {id}")));
    lines
}

/// One computer ID.
#[derive(Debug, Serialize)]
struct ChidRow {
    number: usize,
    guid: String,
    source: String,
}

impl Row for ChidRow {
    fn columns() -> &'static [&'static str] {
        &["number", "guid", "source"]
    }

    fn cells(&self) -> Vec<String> {
        vec![self.number.to_string(), self.guid.clone(), self.source.clone()]
    }
}

fn chids(options: &ChidOptions, common: &Common) -> Result<ExitCode, Failure> {
    let mut key = None;
    let fields = if !options.fields.is_empty() {
        given(&options.fields)?
    } else {
        let path =
            options.smbios.clone().unwrap_or_else(|| Roots::default().sys.join("firmware/dmi/tables/DMI"));
        let dump = Dump::read(&path)?;
        key = Key::of(&dump.tables(&path)?.smbios);
        let fields = Fields::read(&dump.table);
        fields.map_err(|error| Failure::new(ErrorKind::Integrity, format!("{}: {error}", path.display())))?
    };
    let ids = fields.chids();
    if ids.is_empty() {
        return Err(Failure::new(ErrorKind::NotFound, "no computer ID: every one needs the manufacturer"));
    }
    let row = |Chid { number, source, guid }| ChidRow { number, guid, source };
    output::listing(common.format, ids.into_iter().map(row), |row| {
        format!("{{{}}}  {}", row.guid, row.source)
    })?;
    if let Some(key) = key {
        eprintln!("driver packs: {} {}", key.vendor, key.key);
    }
    Ok(ExitCode::SUCCESS)
}

/// Fields out of `NAME=VALUE` arguments.
fn given(arguments: &[String]) -> Result<Fields, Failure> {
    let mut fields = Fields::default();
    for argument in arguments {
        let is_set = argument.split_once('=').is_some_and(|(name, value)| fields.set(name.trim(), value));
        if !is_set {
            let message = format!("--fields: expected NAME=VALUE, found {argument:?}");
            return Err(Failure::new(ErrorKind::Usage, message)
                .with_cure(format!("names are {}", Fields::NAMES.join(", "))));
        }
    }
    Ok(fields)
}
