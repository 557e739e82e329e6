//! `gravure image`: images built from recipes, and their descriptors.

pub(crate) mod advise;
mod boot;
pub(in crate::commands) mod export;
mod import;
mod list;
mod on_disk;
mod service;
mod sign;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use gravure_debian::{AptRoot, Recipe, System};
use gravure_imaging::{CaptureOptions, ErrorKind, describe};

use super::capture::{Compress, capture_system, print};
use crate::descriptor::beside;
use crate::exit::Failure;
use crate::output;
use crate::progress::Reporter;
use crate::target::{ImageName, STDIN};
use crate::{Common, interrupt};

/// Package lists younger than this are not fetched again.
const LISTS_FRESH: Duration = Duration::from_secs(3600);

/// Build images from recipes, put drivers and settings into them, describe them, take them into stores and out again
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(BuildOptions),
    List(list::Options),
    Describe(DescribeOptions),
    Service(Box<service::Options>),
    Boot(Box<boot::Options>),
    Import(Box<import::Options>),
    Export(Box<export::Options>),
    Advise(advise::Options),
    Key(sign::KeyOptions),
    Sign(sign::SignOptions),
}

/// Build a Debian system from a recipe and capture it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Needs root and mmdebstrap. With SOURCE_DATE_EPOCH set, two builds of the same recipe from the same
packages give the same bytes.

Examples:
  gravure image build images/debian-minimal.toml -o debian.wim
  SOURCE_DATE_EPOCH=1700000000 gravure image build images/tiny.toml -o tiny.wim --compress xpress"
)]
struct BuildOptions {
    /// Recipe (TOML)
    recipe: PathBuf,
    /// Image file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Compression
    #[arg(long, default_value = "xpress")]
    compress: Compress,
    /// Keep the system in this directory (it must not exist) instead of a temporary one
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Write the BLAKE3 hashes of an image file, which let it travel over plain HTTP
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every content is decoded and held against its SHA-1 first; a damaged image is not described. The descriptor is JSON
with BLAKE3 of every 4 MiB; the server makes it by itself at import. Beside the image, `gravure apply` finds it.

Examples:
  gravure image describe debian.wim                    writes debian.wim.descriptor
  gravure image describe debian.wim -o /srv/x.json
  gravure image describe debian.wim -o - | sha256sum
  gravure image describe debian.wim --format json"
)]
struct DescribeOptions {
    /// Image file
    image: ImageName,
    /// File to write, or - for standard output; IMAGE.descriptor by default
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    match &options.command {
        Command::Build(options) => build(options, common),
        Command::Describe(options) => describe_image(options, common),
        Command::List(options) => list::run(options, common),
        Command::Service(options) => service::run(options, common),
        Command::Boot(options) => boot::run(options, common),
        Command::Import(options) => import::run(options, common),
        Command::Export(options) => export::run(options, common),
        Command::Advise(options) => advise::run(options, common),
        Command::Key(options) => sign::make_key(options, common),
        Command::Sign(options) => sign::sign(options, common),
    }
}

fn build(options: &BuildOptions, common: &Common) -> Result<ExitCode, Failure> {
    if !gravure_linux::process::is_root() {
        return Err(Failure::new(
            ErrorKind::Permission,
            "building a system needs root: packages run scripts as root in it",
        )
        .with_cure("run it with sudo"));
    }
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let recipe = Recipe::read(&options.recipe)?;
    let epoch = epoch()?;
    let apt = AptRoot::prepare(&AptRoot::default_cache_dir(), &recipe.suite)?;
    apt.update(LISTS_FRESH, &mut |_| reporter.say("Fetching package lists"))?;

    let scratch = scratch_dir(&options.output)?;
    let dir = options.keep.clone().unwrap_or_else(|| scratch.path().join("system"));
    let system =
        System::build(&recipe, &apt, &dir, epoch.unwrap_or_default(), &mut |line| reporter.say(line))?;
    ctl.check().map_err(gravure_imaging::Error::from)?;
    reporter.say("Capturing");
    let capture = CaptureOptions {
        name: recipe.name.clone(),
        description: Some(recipe.description.clone()).filter(|text| !text.is_empty()),
        source_date_epoch: epoch,
        ..CaptureOptions::default()
    };
    let report = capture_system(system.dir(), &options.output, capture, options.compress, &reporter, &ctl)?;
    print(&options.output, &report, common)?;
    Ok(ExitCode::SUCCESS)
}

/// A directory beside the output: the system may be larger than what a RAM disk on `/tmp` holds.
fn scratch_dir(output: &Path) -> Result<tempfile::TempDir, Failure> {
    let beside = output.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    tempfile::Builder::new()
        .prefix(".gravure-build-")
        .tempdir_in(beside)
        .map_err(|error| Failure::io("create a directory in", beside, &error))
}

/// `SOURCE_DATE_EPOCH`, when it is set.
pub(crate) fn epoch() -> Result<Option<i64>, Failure> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let parsed = text.to_str().and_then(|text| text.parse::<i64>().ok()).filter(|seconds| *seconds >= 0);
    parsed.map(Some).ok_or_else(|| {
        let found = text.to_string_lossy();
        Failure::new(
            ErrorKind::Usage,
            format!("SOURCE_DATE_EPOCH: expected seconds since 1970, found {found:?}"),
        )
    })
}

fn describe_image(options: &DescribeOptions, common: &Common) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let image = options.image.local()?;
    let descriptor = describe(image, &ctl, &reporter)?;
    let json = serde_json::to_vec(&descriptor)
        .map_err(|error| Failure::new(ErrorKind::Failed, format!("write the descriptor: {error}")))?;
    let is_standard = options.output.as_deref().is_some_and(|path| path.as_os_str() == STDIN);
    if is_standard || (options.output.is_none() && common.format != output::Format::Text) {
        output::document(common.format, &descriptor, |_| String::from_utf8_lossy(&json).into_owned())?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = options.output.clone().unwrap_or_else(|| beside(image));
    // Under another name first: whoever reads the old one meanwhile reads all of it.
    let mut new = path.clone().into_os_string();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = std::fs::write(&new, json).and_then(|()| std::fs::rename(&new, &path));
    written.map_err(|error| Failure::io("write", &path, &error))?;
    let described = Described { descriptor: path.display().to_string(), ranges: descriptor.ranges.len() };
    output::document(common.format, &described, |described| {
        let size = output::bytes(descriptor.size_bytes);
        format!("{}: {size}, all contents checked, {} ranges", described.descriptor, described.ranges)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What was written.
#[derive(Debug, serde::Serialize)]
struct Described {
    descriptor: String,
    ranges: usize,
}
