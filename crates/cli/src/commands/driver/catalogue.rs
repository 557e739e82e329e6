//! `gravure driver catalogue`: which driver pack a vendor has for a model.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use gravure_imaging::ErrorKind;
use gravure_windows::drivers::{
    ArchiveKind, PackModel, PackQuestion, Vendor, VendorCatalogue, VendorPack, unpack,
};
use serde::Serialize;

use super::read_inventory;
use crate::Common;
use crate::exit::Failure;
use crate::output::{self, Row};

/// Find the driver packs that vendors have for a model
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Import(Import),
    Find(Find),
}

/// Keep vendors' catalogues in the repository
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Catalogues as vendors publish them: Dell's DriverPackCatalog and HP's HPClientDriverPackCatalog (CAB or the XML file in it), Lenovo's
catalogv2.xml, lists for Surface and Panasonic in JSON. Whose it is, the file tells; it takes the place of an earlier one.

Examples:
  gravure driver catalogue import DriverPackCatalog.cab catalogv2.xml --repository /srv/drivers"
)]
struct Import {
    /// Catalogues
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Directory of the driver repository
    #[arg(long, value_name = "DIR", env = "GRAVURE_DRIVERS")]
    repository: PathBuf,
}

/// Tell which packs there are for a machine
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The key is what `gravure inventory show` calls the vendor key. The pack is downloaded by you, held against its hash, and taken in with
`gravure driver add`.

Examples:
  gravure driver catalogue find --inventory pc.json --windows 11 --repository /srv/drivers
  gravure driver catalogue find --vendor dell --key 0B98 --windows 11 --release 24H2 --repository /srv/drivers --format json"
)]
struct Find {
    /// Directory of the driver repository
    #[arg(long, value_name = "DIR", env = "GRAVURE_DRIVERS")]
    repository: PathBuf,
    /// Inventory of the machine, as `gravure inventory show --format json` prints it
    #[arg(long, value_name = "FILE", required_unless_present = "key", conflicts_with_all = ["vendor", "key"])]
    inventory: Option<PathBuf>,
    /// Whose catalogue: dell, hp, lenovo, surface, panasonic
    #[arg(long, value_name = "VENDOR", requires = "key", value_parser = parse_vendor)]
    vendor: Option<Vendor>,
    /// Key of the model in it
    #[arg(long, value_name = "KEY", requires = "vendor")]
    key: Option<String>,
    /// Windows: 11, 10, 8.1, 7
    #[arg(long, value_name = "VERSION")]
    windows: Option<String>,
    /// Release of Windows, e.g. 24H2
    #[arg(long, value_name = "RELEASE", requires = "windows")]
    release: Option<String>,
    /// Processor: amd64, x86, arm64
    #[arg(long, default_value = "amd64")]
    arch: String,
}

fn parse_vendor(text: &str) -> Result<Vendor, String> {
    let found = Vendor::ALL.into_iter().find(|vendor| vendor.as_str() == text);
    found.ok_or_else(|| format!("expected {}", Vendor::ALL.map(Vendor::as_str).join(", ")))
}

/// A catalogue that was taken in.
#[derive(Debug, Serialize)]
struct Imported {
    file: String,
    vendor: &'static str,
    packs: usize,
}

impl Row for Imported {
    fn columns() -> &'static [&'static str] {
        &["file", "vendor", "packs"]
    }

    fn cells(&self) -> Vec<String> {
        vec![self.file.clone(), self.vendor.to_owned(), self.packs.to_string()]
    }
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct PackRow(VendorPack);

impl Row for PackRow {
    fn columns() -> &'static [&'static str] {
        &["model", "windows", "release", "arch", "version", "date", "bytes", "url", "sha256"]
    }

    fn cells(&self) -> Vec<String> {
        let pack = &self.0;
        vec![
            pack.model.clone(),
            pack.windows.clone(),
            pack.release.clone(),
            pack.arch.clone(),
            pack.version.clone(),
            pack.date.clone(),
            pack.size.map_or_else(String::new, |size| size.to_string()),
            pack.url.clone(),
            pack.sha256.clone(),
        ]
    }
}

pub(super) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    match &options.command {
        Command::Import(options) => import(options, common),
        Command::Find(options) => find(options, common),
    }
}

fn import(options: &Import, common: &Common) -> Result<ExitCode, Failure> {
    let mut rows = Vec::new();
    for file in &options.files {
        let (bytes, name) = catalogue_in(file)?;
        let catalogue = VendorCatalogue::parse(&bytes, &name)?;
        catalogue.keep(&options.repository)?;
        let (vendor, packs) = (catalogue.vendor.as_str(), catalogue.packs.len());
        rows.push(Imported { file: file.display().to_string(), vendor, packs });
    }
    output::listing(common.format, rows.into_iter(), |row| {
        format!("{}: {}, {} packs", row.file, row.vendor, row.packs)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The file, or the only XML or JSON file of an archive.
fn catalogue_in(file: &Path) -> Result<(Vec<u8>, String), Failure> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| Failure::io("read", path, &error));
    let shown = file.display().to_string();
    let Some(kind) = ArchiveKind::of(file)? else { return Ok((read(file)?, shown)) };
    let dir = tempfile::tempdir().map_err(|error| Failure::io("create", Path::new("a directory"), &error))?;
    unpack(file, kind, dir.path())?;
    let entries = std::fs::read_dir(dir.path()).map_err(|error| Failure::io("list", dir.path(), &error))?;
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.retain(|path| {
        path.extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("xml") || ending.eq_ignore_ascii_case("json"))
    });
    match found.as_slice() {
        [one] => Ok((read(one)?, shown)),
        others => {
            let message = format!("{shown}: expected one XML or JSON file in it, found {}", others.len());
            Err(Failure::new(ErrorKind::Integrity, message))
        }
    }
}

fn find(options: &Find, common: &Common) -> Result<ExitCode, Failure> {
    let (vendor, key) = match (&options.inventory, options.vendor, &options.key) {
        (Some(path), ..) => of_machine(path)?,
        (None, Some(vendor), Some(key)) => (vendor, key.clone()),
        _ => {
            return Err(Failure::new(
                ErrorKind::Usage,
                "neither an inventory nor a vendor and a key were given",
            ));
        }
    };
    let catalogue = VendorCatalogue::kept(&options.repository, vendor)?;
    let catalogue = catalogue.ok_or_else(|| {
        let message = format!("no catalogue of {} in {}", vendor.as_str(), options.repository.display());
        Failure::new(ErrorKind::NotFound, message)
            .with_cure("import it: gravure driver catalogue import FILE")
    })?;
    let (windows, release) = (options.windows.clone(), options.release.clone());
    let found = catalogue.find(&key, &PackQuestion { windows, release, arch: Some(options.arch.clone()) });
    if found.is_empty() {
        let message = format!("{} has no such pack for {key}", vendor.as_str());
        return Err(Failure::new(ErrorKind::NotFound, message)
            .with_cure("ask without --windows and --release for all that there is"));
    }
    output::listing(common.format, found.into_iter().cloned().map(PackRow), |row| {
        let pack = &row.0;
        let release = if pack.release.is_empty() { String::new() } else { format!(" {}", pack.release) };
        let hash = if pack.sha256.is_empty() { &pack.md5 } else { &pack.sha256 };
        format!(
            "{}: Windows {}{release} {} {}\n  {}\n  {hash}",
            pack.model, pack.windows, pack.arch, pack.date, pack.url
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn of_machine(path: &Path) -> Result<(Vendor, String), Failure> {
    let inventory = read_inventory(path)?;
    let model = PackModel::of(&inventory.smbios);
    let found = model.and_then(|model| Some((parse_vendor(model.vendor()).ok()?, model.key().to_owned())));
    found.ok_or_else(|| {
        let maker = inventory.smbios.system.manufacturer.as_deref().unwrap_or_default();
        let message = format!("{}: no vendor with a catalogue of driver packs ({maker:?})", path.display());
        Failure::new(ErrorKind::NotFound, message)
    })
}
