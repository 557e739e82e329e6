//! `gravure inf`: INF files looked at without Windows.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use gravure_imaging::ErrorKind;
use gravure_inf::{
    Arch, Inf, Install, MAX_FILE_BYTES, Model, OsVersion, ProductType, Report, Severity, Target,
};
use serde::Serialize;

use crate::Common;
use crate::exit::Failure;
use crate::output::{self, Row};

/// Deepest directory below a given one that is looked into.
const MAX_DEPTH: u32 = 32;

/// Look at INF files
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(CheckOptions),
}

/// Check INF files: what they are for, and what they name and do not have
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A directory stands for all .inf files in it. With --os the result has what the file installs on that Windows: files with
source and destination, services, registry entries (all of it with --format json). Exit code 5 when a file is no INF file or
names something that it does not have; warnings do not count.

Examples:
  gravure inf check iaStorVD.inf
  gravure inf check drivers/ --format jsonl
  gravure inf check iaStorVD.inf --os 10.0.22631 --arch amd64 --format json"
)]
struct CheckOptions {
    /// INF files, or directories with such
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    windows: OptionalWindows,
}

/// Which Windows is meant, where it may stay open.
#[derive(Debug, clap::Args)]
struct OptionalWindows {
    /// Say what is installed on this Windows version
    #[arg(long, value_name = "VERSION")]
    os: Option<OsVersion>,
    /// Processor: x86, amd64, arm64, arm, ia64
    #[arg(long, default_value = "amd64", requires = "os")]
    arch: Arch,
    /// A server, not a client
    #[arg(long, requires = "os")]
    server: bool,
}

/// Which Windows is meant.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Windows {
    /// Windows version, e.g. 10.0.22631
    #[arg(long, value_name = "VERSION")]
    os: OsVersion,
    /// Processor: x86, amd64, arm64, arm, ia64
    #[arg(long, default_value = "amd64")]
    arch: Arch,
    /// A server, not a client
    #[arg(long)]
    server: bool,
}

impl Windows {
    pub(crate) fn target(&self) -> Target {
        target(self.os, self.arch, self.server)
    }
}

pub(crate) fn target(version: OsVersion, arch: Arch, server: bool) -> Target {
    let client = Target::client(arch, version);
    if server { Target { product: ProductType::Server, suite: 0, ..client } } else { client }
}

/// An INF file that was read, or why it was not.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) path: PathBuf,
    pub(crate) inf: Result<Inf, gravure_inf::Error>,
}

/// Reads the INF files that `paths` are or have in them.
pub(crate) fn read_all(paths: &[PathBuf]) -> Result<Vec<Read>, Failure> {
    let files = inf_files(paths)?;
    files.into_iter().map(|path| Ok(Read { inf: Inf::parse(&read(&path)?), path })).collect()
}

/// The INF files that `paths` are or have in them, those of a directory in the order of their names.
pub(crate) fn inf_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let start = files.len();
            collect(path, 0, &mut files)?;
            files[start..].sort();
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// A file of at most the size that is parsed; one byte more shows that it is larger.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| Failure::io("read", path, &error);
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn collect(dir: &Path, depth: u32, out: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in fs::read_dir(dir).map_err(|error| Failure::io("list", dir, &error))? {
        let entry = entry.map_err(|error| Failure::io("list", dir, &error))?;
        let kind = entry.file_type().map_err(|error| Failure::io("look at", &entry.path(), &error))?;
        let path = entry.path();
        if kind.is_dir() && depth < MAX_DEPTH {
            collect(&path, depth.saturating_add(1), out)?;
        } else if kind.is_file() && path.extension().is_some_and(|end| end.eq_ignore_ascii_case("inf")) {
            out.push(path);
        }
    }
    Ok(())
}

/// What an install section does, and for which models.
#[derive(Debug, Serialize)]
struct Described {
    models: Vec<Model>,
    install: Option<Install>,
}

/// A file and what was found.
#[derive(Debug, Serialize)]
struct Checked {
    file: String,
    sound: bool,
    error: Option<String>,
    report: Option<Report>,
    installs: Option<Vec<Described>>,
}

impl Checked {
    fn new(read: &Read, target: Option<&Target>) -> Self {
        let file = read.path.display().to_string();
        match &read.inf {
            Err(error) => {
                Self { file, sound: false, error: Some(error.to_string()), report: None, installs: None }
            }
            Ok(inf) => {
                let report = inf.check();
                let installs = target.map(|target| described(inf, target));
                Self { file, sound: report.is_sound(), error: None, report: Some(report), installs }
            }
        }
    }

    fn text(&self) -> String {
        let Some(report) = &self.report else {
            return format!("{}: NO INF FILE: {}", self.file, self.error.as_deref().unwrap_or_default());
        };
        let version = &report.version;
        let mut parts: Vec<String> =
            [&version.class, &version.provider].into_iter().flatten().cloned().collect();
        parts.extend(version.date.map(|date| date.to_string()));
        parts.extend(version.version.map(|version| version.to_string()));
        parts.extend(report.architectures.iter().map(ToString::to_string));
        parts.push(format!("{} models, {} ids", report.models, report.ids));
        parts.extend(version.catalogs.iter().map(|catalog| catalog.file.clone()));
        if report.boot_critical {
            parts.push("boot critical".to_owned());
        }
        let mut lines = vec![format!("{}: {}", self.file, parts.join(", "))];
        for note in &report.notes {
            let word = if note.severity == Severity::Error { "ERROR" } else { "warning" };
            lines.push(format!("  line {}: {word}: {}", note.line, note.text));
        }
        if report.more_notes > 0 {
            lines.push(format!("  and {} more", report.more_notes));
        }
        for described in self.installs.iter().flatten() {
            lines.extend(described.text());
        }
        lines.join("\n")
    }
}

impl Described {
    fn text(&self) -> Vec<String> {
        let Some(install) = &self.install else { return Vec::new() };
        let mut lines = vec![format!("  [{}] for {} models", install.section, self.models.len())];
        for model in self.models.iter().take(3) {
            lines.push(format!("    {} ({})", model.ids().collect::<Vec<_>>().join(", "), model.description));
        }
        for file in &install.files {
            let place = match &file.destination {
                gravure_inf::Place::Store(path) => format!("driver store: {path}"),
                place => place.path().to_owned(),
            };
            lines.push(format!("    {} -> {place}", file.source));
        }
        for service in install.services.iter().filter(|service| !service.name.is_empty()) {
            let start = service.start.map_or("?", |start| {
                *["boot", "system", "automatic", "demand", "disabled"].get(start as usize).unwrap_or(&"?")
            });
            lines.push(format!("    service {} ({start})", service.name));
        }
        lines
    }
}

/// Models by install section, in the order of the file.
fn described(inf: &Inf, target: &Target) -> Vec<Described> {
    let mut out: Vec<Described> = Vec::new();
    let mut by_section: HashMap<String, usize> = HashMap::new();
    for model in inf.models(target) {
        let index = *by_section.entry(model.install.to_lowercase()).or_insert(out.len());
        match out.get_mut(index) {
            Some(described) => described.models.push(model),
            None => out.push(Described { install: inf.install(&model, target), models: vec![model] }),
        }
    }
    out
}

impl Row for Checked {
    fn columns() -> &'static [&'static str] {
        &[
            "file",
            "sound",
            "error",
            "class",
            "provider",
            "date",
            "version",
            "models",
            "boot_critical",
            "notes",
        ]
    }

    fn cells(&self) -> Vec<String> {
        let report = self.report.as_ref();
        let of = |get: &dyn Fn(&Report) -> Option<String>| report.and_then(get).unwrap_or_default();
        vec![
            self.file.clone(),
            self.sound.to_string(),
            self.error.clone().unwrap_or_default(),
            of(&|r| r.version.class.clone()),
            of(&|r| r.version.provider.clone()),
            of(&|r| r.version.date.map(|date| date.to_string())),
            of(&|r| r.version.version.map(|version| version.to_string())),
            of(&|r| Some(r.models.to_string())),
            of(&|r| Some(r.boot_critical.to_string())),
            of(&|r| Some(r.notes.len().saturating_add(r.more_notes).to_string())),
        ]
    }
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    match &options.command {
        Command::Check(options) => check(options, common),
    }
}

fn check(options: &CheckOptions, common: &Common) -> Result<ExitCode, Failure> {
    let windows = &options.windows;
    let target = windows.os.map(|os| target(os, windows.arch, windows.server));
    let files = read_all(&options.files)?;
    if files.is_empty() {
        return Err(Failure::new(ErrorKind::NotFound, "no INF files there"));
    }
    let checked: Vec<Checked> = files.iter().map(|read| Checked::new(read, target.as_ref())).collect();
    let (count, bad) = (checked.len(), checked.iter().filter(|checked| !checked.sound).count());
    output::listing(common.format, checked.into_iter(), Checked::text)?;
    if bad > 0 {
        return Err(Failure::new(ErrorKind::Integrity, format!("{bad} of {count} INF files are not sound")));
    }
    Ok(ExitCode::SUCCESS)
}
