//! `gravure driver add`, `list`, `match` and `export`: the driver repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gravure_imaging::{ErrorKind, ServicedImage};
use gravure_inf::DeviceIds;
use gravure_model::inventory::Inventory;
use gravure_windows::drivers::{
    AddOptions, ArchiveKind, Cover, Coverage, DeviceMatch, ImageDriver, Manifest, PackModel,
    PackageSignature, Repository, Unsigned, chosen_packages, coverage, is_better, unpack,
};
use gravure_windows::{ContentResult, Error, Roots, WindowsImage};
use serde::Serialize;

use crate::Common;
use crate::commands::inf::{inf_files, target};
use crate::exit::{Failure, chain, done_or_partial};
use crate::interrupt;
use crate::output::{self, Row};
use crate::target::ImageName;

/// Where the repository is.
#[derive(Debug, clap::Args)]
struct Place {
    /// Directory of the driver repository
    #[arg(long, value_name = "DIR", env = "GRAVURE_DRIVERS")]
    repository: PathBuf,
}

/// Take driver packages into the repository
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A package is an INF file, its catalogue, and all files that it copies; what is there already is not stored twice. The
catalogue must be as it was signed and have the hashes of all files. Packages without one, with another, or with missing files
are refused; the others are taken, and the exit code is 10. Whom a signer's certificate must lead to is said with --trust;
Windows has a list of its own and checks again. With --model or --pack it is noted that the packages are out of the driver pack of these
models (VENDOR:KEY, as `gravure inventory show` has the vendor key), whose machines get all of them with --model-drivers.

Examples:
  gravure driver add ~/packs/dell-latitude --repository /srv/drivers
  gravure driver add ~/unpacked --pack 8640_24h2_win11.exe --repository /srv/drivers
  gravure driver add ~/packs/t14 --model lenovo:20W0 --model lenovo:20W1 --repository /srv/drivers
  gravure driver add e1d68x64.cab pack.zip --repository /srv/drivers --trust MicrosoftRoot2010.cer
  gravure driver add vmxnet3.inf --repository /srv/drivers --allow-unsigned"
)]
pub(crate) struct AddCommand {
    /// INF files, CAB and ZIP files, or directories with such
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Certificate (DER or PEM) that signers must lead to; several for any of them
    #[arg(long, value_name = "FILE")]
    trust: Vec<PathBuf>,
    /// Take packages that are not signed, or not as their files are
    #[arg(long)]
    allow_unsigned: bool,
    /// Model whose driver pack the packages are out of, e.g. dell:0B98, lenovo:20XW, hp:880D, board:X512DA; several for one pack for all of them
    #[arg(long, value_name = "VENDOR:KEY")]
    model: Vec<PackModel>,
    /// Pack of a vendor that they are out of, by the file name in an imported catalogue: noted for all models that it is for
    #[arg(long, value_name = "NAME")]
    pack: Option<String>,
    /// Take packages that lack files; they are not chosen for processors that need these
    #[arg(long)]
    allow_incomplete: bool,
}

/// List the packages of the repository
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure driver list --repository /srv/drivers
  gravure driver list --model dell:0B98 --repository /srv/drivers
  gravure driver list --repository /srv/drivers --format csv")]
pub(crate) struct ListCommand {
    #[command(flatten)]
    place: Place,
    /// Only packages out of the driver pack of this model
    #[arg(long, value_name = "VENDOR:KEY")]
    model: Option<PackModel>,
}

/// Find the packages for the devices of a machine
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The inventory is what `gravure inventory show --format json` prints. For each device the packages are listed as Windows
ranks them: it takes the first that is no extension, and the best extension of each kind. Packages that nobody signed stand behind all
others. With an image its own drivers are listed among them: what stands first is what the device gets.

Examples:
  gravure driver match --repository /srv/drivers --inventory pc.json --image install.wim:1
  gravure driver match --repository /srv/drivers --inventory pc.json --os 10.0.22631
  gravure driver match --repository /srv/drivers --inventory pc.json --os 10.0.22631 --format json"
)]
pub(crate) struct MatchCommand {
    #[command(flatten)]
    place: Place,
    /// Inventory of the machine
    #[arg(long, value_name = "FILE")]
    inventory: PathBuf,
    /// Windows image, with :NUMBER or :NAME
    #[arg(long, value_name = "IMAGE", required_unless_present = "os")]
    image: Option<ImageName>,
    /// Windows version without an image, e.g. 10.0.22631
    #[arg(long, value_name = "VERSION", conflicts_with = "image")]
    os: Option<gravure_inf::OsVersion>,
    /// Processor without an image: x86, amd64, arm64, arm, ia64
    #[arg(long, default_value = "amd64", conflicts_with = "image")]
    arch: gravure_inf::Arch,
    /// A server, not a client
    #[arg(long, conflicts_with = "image")]
    server: bool,
}

/// Write packages out of the repository, each into a directory of its own
#[derive(Debug, clap::Args)]
#[command(after_help = "Every file is checked against its hash. Nothing that is there is replaced.

Examples:
  gravure driver export 3f9a --repository /srv/drivers -o driver
  gravure driver export --inventory pc.json --os 10.0.22631 --repository /srv/drivers -o /mnt/target/Drivers")]
pub(crate) struct ExportCommand {
    /// Packages, by the start of their id
    #[arg(value_name = "ID", required_unless_present = "inventory", conflicts_with = "inventory")]
    ids: Vec<String>,
    #[command(flatten)]
    place: Place,
    /// What Windows would take for the machine of this inventory
    #[arg(long, value_name = "FILE", requires = "os")]
    inventory: Option<PathBuf>,
    /// Windows version, e.g. 10.0.22631
    #[arg(long, value_name = "VERSION", requires = "inventory")]
    os: Option<gravure_inf::OsVersion>,
    /// Processor: x86, amd64, arm64, arm, ia64
    #[arg(long, default_value = "amd64")]
    arch: gravure_inf::Arch,
    /// Directory to write to
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// Take packages out of the repository
#[derive(Debug, clap::Args)]
#[command(after_help = "Contents that no other package has go with them.

Examples:
  gravure driver remove 3f9a --repository /srv/drivers")]
pub(crate) struct RemoveCommand {
    /// Packages, by the start of their id
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    place: Place,
}

/// Tell for the devices of many machines what would serve them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Machines of one model count once. With an image, what Windows has itself is told too. When a device has nothing, the
exit code is 10.

Examples:
  gravure driver coverage --inventory a.json --inventory b.json --image install.wim:1 --repository /srv/drivers
  gravure driver coverage --inventory pc.json --os 10.0.22631 --repository /srv/drivers --format csv"
)]
pub(crate) struct CoverageCommand {
    #[command(flatten)]
    place: Place,
    /// Inventory of a machine
    #[arg(long, value_name = "FILE", required = true)]
    inventory: Vec<PathBuf>,
    /// Windows image, with :NUMBER or :NAME
    #[arg(long, value_name = "IMAGE", required_unless_present = "os")]
    image: Option<ImageName>,
    /// Windows version without an image, e.g. 10.0.22631
    #[arg(long, value_name = "VERSION", conflicts_with = "image")]
    os: Option<gravure_inf::OsVersion>,
    /// Processor without an image
    #[arg(long, default_value = "amd64")]
    arch: gravure_inf::Arch,
}

/// What became of the files.
#[derive(Debug, Serialize)]
struct Taken {
    added: usize,
    there_already: usize,
    refused: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    models: Vec<String>,
}

/// Models that the packages are noted for.
fn models_of(options: &AddCommand, repository: &Repository) -> Result<BTreeSet<PackModel>, Failure> {
    let mut models: BTreeSet<PackModel> = options.model.iter().cloned().collect();
    if let Some(pack) = &options.pack {
        let found = repository.models_of_pack(pack)?;
        if found.is_empty() {
            let message = format!("no catalogue in the repository has a pack with the file name {pack}");
            return Err(Failure::new(ErrorKind::NotFound, message).with_cure(
                "`gravure driver catalogue import` takes catalogues in, `catalogue find` tells their packs; or name the models: --model",
            ));
        }
        models.extend(found);
    }
    Ok(models)
}

pub(crate) fn add(options: &AddCommand, common: &Common) -> Result<ExitCode, Failure> {
    let (places, _unpacked) = unpacked(&options.files)?;
    let files = inf_files(&places)?;
    if files.is_empty() {
        return Err(Failure::new(ErrorKind::NotFound, "no INF files there"));
    }
    let mut repository = Repository::create(&options.place.repository)?;
    if !options.trust.is_empty() {
        let mut roots = Roots::default();
        for path in &options.trust {
            roots.add(&std::fs::read(path).map_err(|error| Failure::io("read", path, &error))?)?;
        }
        repository.require_roots(roots);
    }
    let how =
        AddOptions { allow_unsigned: options.allow_unsigned, allow_incomplete: options.allow_incomplete };
    let models = models_of(options, &repository)?;
    let mut ids = BTreeSet::new();
    let mut taken = Taken { added: 0, there_already: 0, refused: Vec::new(), models: Vec::new() };
    for file in &files {
        match repository.add(file, how) {
            Ok(added) => {
                match added.is_new {
                    true => taken.added += 1,
                    false => taken.there_already += 1,
                }
                ids.insert(added.manifest.id);
            }
            Err(error @ (Error::Refused { .. } | Error::Inf { .. })) if files.len() > 1 => {
                taken.refused.push(chain(&error));
            }
            Err(error) => {
                let is_refused = matches!(error, Error::Refused { .. });
                let failure = Failure::from(error);
                return Err(if is_refused {
                    failure.with_cure("--allow-unsigned and --allow-incomplete take such packages")
                } else {
                    failure
                });
            }
        }
    }
    repository.commit()?;
    for model in models {
        repository.note_model(&model, &ids)?;
        taken.models.push(model.to_string());
    }
    output::document(common.format, &taken, |taken| {
        let refused: String = taken.refused.iter().map(|why| format!("refused: {why}\n")).collect();
        let counts = [taken.added, taken.there_already, taken.refused.len()];
        let models = match taken.models.as_slice() {
            [] => String::new(),
            models => format!("\nof the pack of {}", models.join(", ")),
        };
        format!(
            "{refused}{} packages added, {} there already, {} refused{models}",
            counts[0], counts[1], counts[2]
        )
    })?;
    Ok(done_or_partial(u64::try_from(taken.refused.len()).unwrap_or(u64::MAX)))
}

/// The files, archives among them as the directories they were unpacked into. These go with the second value.
fn unpacked(files: &[PathBuf]) -> Result<(Vec<PathBuf>, Vec<tempfile::TempDir>), Failure> {
    let mut places = Vec::new();
    let mut directories = Vec::new();
    for file in files {
        let kind = if file.is_file() { ArchiveKind::of(file)? } else { None };
        let Some(kind) = kind else {
            places.push(file.clone());
            continue;
        };
        let dir = tempfile::tempdir().map_err(|error| Failure::io("create a directory for", file, &error))?;
        unpack(file, kind, dir.path())?;
        places.push(dir.path().to_owned());
        directories.push(dir);
    }
    Ok((places, directories))
}

fn open(place: &Place) -> Result<Repository, Failure> {
    Ok(Repository::open(&place.repository)?)
}

impl Row for Manifest {
    fn columns() -> &'static [&'static str] {
        &[
            "id",
            "inf",
            "class",
            "provider",
            "date",
            "version",
            "architectures",
            "ids",
            "files",
            "boot_critical",
            "catalog",
            "signer",
        ]
    }

    fn cells(&self) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            self.id.clone(),
            self.inf.clone(),
            text(&self.class),
            text(&self.provider),
            text(&self.date),
            text(&self.driver_version),
            self.architectures.join(" "),
            self.ids.len().to_string(),
            self.files.len().to_string(),
            self.boot_critical.to_string(),
            self.has_catalog.to_string(),
            self.signature.as_ref().map(signer).unwrap_or_default(),
        ]
    }
}

/// Who signed, as far as that is known.
fn signer(signature: &PackageSignature) -> String {
    let word = if signature.verified { "" } else { " (unverified)" };
    format!("{}{word}", signature.signer)
}

/// Enough of an id to tell packages apart.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

pub(crate) fn list(options: &ListCommand, common: &Common) -> Result<ExitCode, Failure> {
    let repository = open(&options.place)?;
    let mut packages = repository.packages()?;
    if let Some(model) = &options.model {
        let ids = repository.of_model(model)?;
        packages.retain(|package| ids.contains(&package.id));
    }
    output::listing(common.format, packages.into_iter(), |m| {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let (class, date, version) = (text(&m.class), text(&m.date), text(&m.driver_version));
        format!("{}  {class}  {date} {version}  {}  {}", short(&m.id), m.architectures.join(" "), m.inf)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A device, the packages for it, and what the image has for it itself.
#[derive(Debug, Serialize)]
struct Matched {
    #[serde(flatten)]
    found: DeviceMatch,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inbox: Vec<ImageDriver>,
}

impl Row for Matched {
    fn columns() -> &'static [&'static str] {
        &["place", "hardware_id", "rank", "package", "inf", "matching_id", "version", "inbox"]
    }

    fn cells(&self) -> Vec<String> {
        let best = self.found.driver();
        let of =
            |get: &dyn Fn(&gravure_windows::drivers::Candidate) -> String| best.map(get).unwrap_or_default();
        let device = &self.found.device;
        vec![
            device.place.clone(),
            device.hardware_ids.first().cloned().unwrap_or_default(),
            of(&|c| c.rank.to_string()),
            of(&|c| c.package.clone()),
            of(&|c| c.inf.clone()),
            of(&|c| c.matching_id.clone()),
            of(&|c| c.driver_version.clone().unwrap_or_default()),
            self.inbox.iter().find(|driver| !driver.extension).map(|d| d.inf.clone()).unwrap_or_default(),
        ]
    }
}

impl Matched {
    /// Lines for people: the image's drivers stand where Windows ranks them.
    fn text(&self) -> String {
        let device = &self.found.device;
        let name = device.name.as_deref().or(device.hardware_ids.first().map(String::as_str)).unwrap_or("-");
        let mut own = self.inbox.iter().peekable();
        let mut lines = vec![format!("{} {name}", device.place)];
        let own_line = |driver: &ImageDriver| {
            let version = driver.driver_version.map(|part| part.to_string()).join(".");
            let word = if driver.extension { " (extension)" } else { "" };
            format!(
                "  {}  Windows' own  {version}  {}{word}  {}",
                driver.rank, driver.inf, driver.matching_id
            )
        };
        for c in &self.found.candidates {
            while let Some(driver) = own.next_if(|driver| !is_better(c, driver)) {
                lines.push(own_line(driver));
            }
            let word = if c.extension { " (extension)" } else { "" };
            let version = c.driver_version.as_deref().unwrap_or("-");
            let package = short(&c.package);
            lines.push(format!("  {}  {package}  {version}  {}{word}  {}", c.rank, c.inf, c.matching_id));
        }
        lines.extend(own.map(own_line));
        lines.join("\n")
    }
}

/// Reads an inventory with or without devices.
pub(crate) fn read_any_inventory(path: &Path) -> Result<Inventory, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::io("read", path, &error))?;
    let bad = |error: serde_json::Error| {
        Failure::new(ErrorKind::Integrity, format!("{}: expected an inventory: {error}", path.display()))
    };
    serde_json::from_slice(&bytes).map_err(bad)
}

pub(crate) fn read_inventory(path: &Path) -> Result<Inventory, Failure> {
    let inventory = read_any_inventory(path)?;
    if inventory.devices.is_empty() {
        let message = format!("{}: no device in it has hardware IDs", path.display());
        return Err(Failure::new(ErrorKind::NotFound, message)
            .with_cure("`gravure inventory show --format json` makes an inventory with them"));
    }
    Ok(inventory)
}

/// Opens a Windows image for a look.
fn look_into<T>(
    name: &ImageName,
    look: impl FnOnce(&mut WindowsImage<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let source = name.open_file(&[], &interrupt::ctl())?;
    let mut serviced = ServicedImage::open(&source, source.find(&name.which)?)?;
    let reader = serviced.reader();
    let read = |content: &gravure_tree::ContentRef| -> ContentResult { Ok(reader.read(content)?) };
    look(&mut WindowsImage::open(&mut serviced.tree, &read, gravure_nttypes::FileTime::default())?)
}

pub(crate) fn matches(options: &MatchCommand, common: &Common) -> Result<ExitCode, Failure> {
    let devices = read_inventory(&options.inventory)?.devices;
    let repository = open(&options.place)?;
    let without = |found: Vec<DeviceMatch>| {
        found.into_iter().map(|found| Matched { found, inbox: Vec::new() }).collect::<Vec<_>>()
    };
    let rows = match (&options.image, options.os) {
        (Some(name), _) => look_into(name, |image| {
            let target = image.system()?.target();
            let mut rows = without(repository.matches(&devices, &target)?);
            for row in &mut rows {
                let device = &row.found.device;
                let (hardware, compatible) = (device.hardware_ids.clone(), device.compatible_ids.clone());
                row.inbox = image.drivers_for(&DeviceIds { hardware, compatible })?;
            }
            Ok(rows)
        })?,
        (None, Some(os)) => without(repository.matches(&devices, &target(os, options.arch, options.server))?),
        (None, None) => Vec::new(),
    };
    output::listing(common.format, rows.into_iter(), Matched::text)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn export(options: &ExportCommand) -> Result<ExitCode, Failure> {
    let repository = open(&options.place)?;
    let mut ids: Vec<String> = options.ids.clone();
    if let (Some(path), Some(os)) = (&options.inventory, options.os) {
        let target = gravure_inf::Target::client(options.arch, os);
        let devices = read_inventory(path)?.devices;
        ids = chosen_packages(&repository, &devices, &target, Unsigned::Refuse)?.into_iter().collect();
        if ids.is_empty() {
            return Err(Failure::new(ErrorKind::NotFound, "no package fits any device of the machine"));
        }
    }
    for id in &ids {
        let manifest = repository.find(id)?;
        // The name tells people what it is, the id keeps packages of one name apart.
        let stem = manifest.inf.rsplit_once('.').map_or(manifest.inf.as_str(), |(stem, _)| stem);
        let dir = options.output.join(format!("{}_{}", stem.to_lowercase(), short(&manifest.id)));
        repository.export(&manifest, &dir)?;
        println!("{}", dir.display());
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn remove(options: &RemoveCommand) -> Result<ExitCode, Failure> {
    let mut repository = open(&options.place)?;
    // All of them are found before the first goes.
    let found: Vec<Manifest> = options.ids.iter().map(|id| repository.find(id)).collect::<Result<_, _>>()?;
    for manifest in &found {
        repository.remove(manifest)?;
        println!("removed {} {}", short(&manifest.id), manifest.inf);
    }
    repository.commit()?;
    Ok(ExitCode::SUCCESS)
}

impl Row for Coverage {
    fn columns() -> &'static [&'static str] {
        &["model", "place", "hardware_id", "name", "covered", "inf"]
    }

    fn cells(&self) -> Vec<String> {
        let (covered, inf) = match &self.covered {
            Cover::Inbox(inf) => ("inbox", inf.as_str()),
            Cover::Repository(inf) => ("repository", inf.as_str()),
            Cover::Missing => ("missing", ""),
        };
        vec![
            self.model.clone(),
            self.device.place.clone(),
            self.device.hardware_ids.first().cloned().unwrap_or_default(),
            self.device.name.clone().unwrap_or_default(),
            covered.to_owned(),
            inf.to_owned(),
        ]
    }
}

pub(crate) fn cover(options: &CoverageCommand, common: &Common) -> Result<ExitCode, Failure> {
    let repository = open(&options.place)?;
    let machines: Vec<Inventory> =
        options.inventory.iter().map(|path| read_inventory(path)).collect::<Result<_, _>>()?;
    let rows = match (&options.image, options.os) {
        (Some(name), _) => look_into(name, |image| {
            let target = image.system()?.target();
            Ok(coverage(Some(image), &repository, &machines, &target)?)
        })?,
        (None, Some(os)) => {
            let target = gravure_inf::Target::client(options.arch, os);
            coverage(None, &repository, &machines, &target)?
        }
        (None, None) => Vec::new(),
    };
    let missing = rows.iter().filter(|row| row.covered == Cover::Missing).count();
    output::listing(common.format, rows.into_iter(), |row| {
        let device = &row.device;
        let name = device.name.as_deref().or(device.hardware_ids.first().map(String::as_str)).unwrap_or("-");
        let covered = match &row.covered {
            Cover::Inbox(inf) => format!("inbox {inf}"),
            Cover::Repository(inf) => format!("repository {inf}"),
            Cover::Missing => "missing".to_owned(),
        };
        format!("{}  {} {name}: {covered}", row.model, device.place)
    })?;
    Ok(done_or_partial(u64::try_from(missing).unwrap_or(u64::MAX)))
}
