//! `gravure driver add`, `list`, `match` and `export`: the driver repository.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gravure_imaging::ErrorKind;
use gravure_model::inventory::Inventory;
use gravure_windows::Error;
use gravure_windows::drivers::{AddOptions, DeviceMatch, Manifest, Repository};
use serde::Serialize;

use crate::Common;
use crate::commands::inf::{Windows, inf_files};
use crate::exit::{Failure, chain, done_or_partial};
use crate::output::{self, Row};

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
    after_help = "A package is an INF file, its catalogue, and all files that it copies; what is there already is not stored twice. Packages
without catalogue or with missing files are refused; the others are taken, and the exit code is 10. What a catalogue says is not
checked yet.

Examples:
  gravure driver add ~/packs/dell-latitude --repository /srv/drivers
  gravure driver add vmxnet3.inf --repository /srv/drivers --allow-unsigned"
)]
pub(crate) struct AddCommand {
    /// INF files, or directories with such
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Take packages that have no catalogue
    #[arg(long)]
    allow_unsigned: bool,
    /// Take packages that lack files; they are not chosen for processors that need these
    #[arg(long)]
    allow_incomplete: bool,
}

/// List the packages of the repository
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure driver list --repository /srv/drivers
  gravure driver list --repository /srv/drivers --format csv")]
pub(crate) struct ListCommand {
    #[command(flatten)]
    place: Place,
}

/// Find the packages for the devices of a machine
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The inventory is what `gravure inventory show --format json` prints. For each device the packages are listed as Windows
ranks them: it takes the first that is no extension, and all extensions.

Examples:
  gravure driver match --repository /srv/drivers --inventory pc.json --os 10.0.22631
  gravure driver match --repository /srv/drivers --inventory pc.json --os 10.0.22631 --format json"
)]
pub(crate) struct MatchCommand {
    #[command(flatten)]
    place: Place,
    /// Inventory of the machine
    #[arg(long, value_name = "FILE")]
    inventory: PathBuf,
    #[command(flatten)]
    windows: Windows,
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

fn failure(error: &Error) -> Failure {
    let kind = match error {
        Error::NotFound { .. } => ErrorKind::NotFound,
        Error::Refused { .. } => ErrorKind::Refused,
        Error::Corrupt { .. } | Error::Inf { .. } => ErrorKind::Integrity,
        Error::Io { source, .. } => match source.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            _ => ErrorKind::Io,
        },
        _ => ErrorKind::Failed,
    };
    let failure = Failure::new(kind, chain(error));
    match error {
        Error::NotFound { what: "driver repository", .. } => {
            failure.with_cure("`gravure driver add` makes one with its first package")
        }
        _ => failure,
    }
}

/// What became of the files.
#[derive(Debug, Serialize)]
struct Taken {
    added: usize,
    there_already: usize,
    refused: Vec<String>,
}

pub(crate) fn add(options: &AddCommand, common: &Common) -> Result<ExitCode, Failure> {
    let files = inf_files(&options.files)?;
    if files.is_empty() {
        return Err(Failure::new(ErrorKind::NotFound, "no INF files there"));
    }
    let mut repository = Repository::create(&options.place.repository).map_err(|error| failure(&error))?;
    let how =
        AddOptions { allow_unsigned: options.allow_unsigned, allow_incomplete: options.allow_incomplete };
    let mut taken = Taken { added: 0, there_already: 0, refused: Vec::new() };
    for file in &files {
        match repository.add(file, how) {
            Ok(added) if added.is_new => taken.added += 1,
            Ok(_) => taken.there_already += 1,
            Err(error @ (Error::Refused { .. } | Error::Inf { .. })) if files.len() > 1 => {
                taken.refused.push(chain(&error));
            }
            Err(error) => {
                let failure = failure(&error);
                return Err(if matches!(error, Error::Refused { .. }) {
                    failure.with_cure("--allow-unsigned and --allow-incomplete take such packages")
                } else {
                    failure
                });
            }
        }
    }
    repository.commit().map_err(|error| failure(&error))?;
    output::document(common.format, &taken, |taken| {
        let refused: String = taken.refused.iter().map(|why| format!("refused: {why}\n")).collect();
        let counts = [taken.added, taken.there_already, taken.refused.len()];
        format!("{refused}{} packages added, {} there already, {} refused", counts[0], counts[1], counts[2])
    })?;
    Ok(done_or_partial(u64::try_from(taken.refused.len()).unwrap_or(u64::MAX)))
}

fn open(place: &Place) -> Result<Repository, Failure> {
    Repository::open(&place.repository).map_err(|error| failure(&error))
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
        ]
    }
}

/// Enough of an id to tell packages apart.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

pub(crate) fn list(options: &ListCommand, common: &Common) -> Result<ExitCode, Failure> {
    let packages = open(&options.place)?.packages().map_err(|error| failure(&error))?;
    output::listing(common.format, packages.into_iter(), |m| {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let (class, date, version) = (text(&m.class), text(&m.date), text(&m.driver_version));
        format!("{}  {class}  {date} {version}  {}  {}", short(&m.id), m.architectures.join(" "), m.inf)
    })?;
    Ok(ExitCode::SUCCESS)
}

impl Row for DeviceMatch {
    fn columns() -> &'static [&'static str] {
        &["place", "hardware_id", "rank", "package", "inf", "matching_id", "version"]
    }

    fn cells(&self) -> Vec<String> {
        let best = self.chosen().next();
        let of =
            |get: &dyn Fn(&gravure_windows::drivers::Candidate) -> String| best.map(get).unwrap_or_default();
        vec![
            self.device.place.clone(),
            self.device.hardware_ids.first().cloned().unwrap_or_default(),
            of(&|c| c.rank.to_string()),
            of(&|c| c.package.clone()),
            of(&|c| c.inf.clone()),
            of(&|c| c.matching_id.clone()),
            of(&|c| c.driver_version.clone().unwrap_or_default()),
        ]
    }
}

fn inventory(path: &Path) -> Result<Inventory, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::io("read", path, &error))?;
    let bad = |error: serde_json::Error| {
        Failure::new(ErrorKind::Integrity, format!("{}: expected an inventory: {error}", path.display()))
    };
    let inventory: Inventory = serde_json::from_slice(&bytes).map_err(bad)?;
    if inventory.devices.is_empty() {
        let message = format!("{}: no device in it has hardware IDs", path.display());
        return Err(Failure::new(ErrorKind::NotFound, message)
            .with_cure("`gravure inventory show --format json` makes an inventory with them"));
    }
    Ok(inventory)
}

pub(crate) fn matches(options: &MatchCommand, common: &Common) -> Result<ExitCode, Failure> {
    let inventory = inventory(&options.inventory)?;
    let found = open(&options.place)?.matches(&inventory.devices, &options.windows.target());
    output::listing(common.format, found.map_err(|error| failure(&error))?.into_iter(), |found| {
        let device = &found.device;
        let name = device.name.as_deref().or(device.hardware_ids.first().map(String::as_str)).unwrap_or("-");
        let mut lines = vec![format!("{} {name}", device.place)];
        for c in &found.candidates {
            let word = if c.extension { " (extension)" } else { "" };
            let version = c.driver_version.as_deref().unwrap_or("-");
            lines.push(format!(
                "  {}  {}  {version}  {}{word}  {}",
                c.rank,
                short(&c.package),
                c.inf,
                c.matching_id
            ));
        }
        lines.join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn export(options: &ExportCommand) -> Result<ExitCode, Failure> {
    let repository = open(&options.place)?;
    let mut ids: Vec<String> = options.ids.clone();
    if let (Some(path), Some(os)) = (&options.inventory, options.os) {
        let target = gravure_inf::Target::client(options.arch, os);
        let found =
            repository.matches(&inventory(path)?.devices, &target).map_err(|error| failure(&error))?;
        ids = found.iter().flat_map(DeviceMatch::chosen).map(|candidate| candidate.package.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Err(Failure::new(ErrorKind::NotFound, "no package fits any device of the machine"));
        }
    }
    for id in &ids {
        let manifest = repository.find(id).map_err(|error| failure(&error))?;
        // The name tells people what it is, the id keeps packages of one name apart.
        let stem = manifest.inf.rsplit_once('.').map_or(manifest.inf.as_str(), |(stem, _)| stem);
        let dir = options.output.join(format!("{}_{}", stem.to_lowercase(), short(&manifest.id)));
        repository.export(&manifest, &dir).map_err(|error| failure(&error))?;
        println!("{}", dir.display());
    }
    Ok(ExitCode::SUCCESS)
}
