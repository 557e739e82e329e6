//! `wim apply`: whole images become directories, or fill empty NTFS volumes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gravure_imaging::{
    ApplyOptions, DamagedContent, Durability, ErrorKind, Existing, Image, ImageFile, LinkTargets, PipedFile,
    UnixMetadata, Which, apply_to_directory,
};
use gravure_tree::Loss;
use gravure_wim::{HeaderFlags, ImageIndex};

use super::files::{self, CHECK, Images, REF, REFS};
use super::options::{Given, Opt, flag, value};
use super::{Command, Console, check_count, mistake, unsupported, volume};
use crate::exit::{Failure, done_or_partial};
use crate::limits;

const USAGE: &str = "  apply WIMFILE [IMAGE | all] TARGET
      [--check] [--ref=\"GLOB\"] [--rpfix | --norpfix] [--unix-data] [--threads=N] [--recover-data]
      [--no-acls] [--strict-acls] [--no-attributes] [--include-invalid-names]
  WIMFILE may be -: a pipable image comes from standard input
  TARGET is a directory, or a partition or file with an empty NTFS volume";

/// What commands that write files of an image to a directory have in common.
pub(super) const TARGET_OPTIONS: [Opt; 9] = [
    flag("unix-data"),
    flag("no-acls"),
    flag("strict-acls"),
    flag("no-attributes"),
    flag("include-invalid-names"),
    flag("wimboot"),
    value("compact"),
    value("threads"),
    flag("recover-data"),
];

pub(super) const COMMAND: Command = Command {
    name: "apply",
    usage: USAGE,
    run,
    options: &[&[CHECK, REF, REFS, flag("rpfix"), flag("norpfix")], &TARGET_OPTIONS],
};

fn run(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 2, 3, USAGE)?;
    let (which, target) = match given.arguments.as_slice() {
        [_, target] => (None, target),
        _ => (given.argument(1).map_err(mistake)?, &given.arguments[2]),
    };
    let target = Path::new(target);
    let is_volume = volume::is_volume(target);
    if given.arguments[0] == "-" {
        if is_volume {
            return Err(unsupported(
                "a volume is laid out before its content comes, which a pipe cannot tell",
            ));
        }
        return from_pipe(given, which, target, console);
    }
    let file = files::open(&given.arguments[0], given, console)?;
    let images = files::images(&file, which)?;
    if is_volume {
        let Images::One(index) = images else {
            return Err(mistake("a volume takes one image: name it"));
        };
        tell_start(&file, index, "volume", target, console)?;
        let skipped = volume::apply(&file.image(index)?, target, given, console)?;
        console.say("Done applying WIM image.")?;
        return Ok(outcome(given, skipped));
    }
    let options = target_options(given, "apply", links(given, &file))?;
    let mut skipped = 0;
    match images {
        Images::One(index) => skipped += apply(&file, index, target, &options, given, console)?,
        Images::All => {
            if let Err(error) = std::fs::create_dir(target)
                && error.kind() != std::io::ErrorKind::AlreadyExists
            {
                return Err(Failure::io("make directory", target, &error));
            }
            for index in file.wim().images() {
                let target = target.join(directory_name(&file, index));
                skipped += apply(&file, index, &target, &options, given, console)?;
            }
        }
    }
    console.say("Done applying WIM image.")?;
    Ok(outcome(given, skipped))
}

/// Applies an image that comes from standard input.
fn from_pipe(
    given: &Given,
    which: Option<&str>,
    target: &Path,
    console: &Console,
) -> Result<ExitCode, Failure> {
    let which = match which {
        None => Which::Only,
        Some(text) if text.eq_ignore_ascii_case("all") => {
            let message = "all images of a pipe: one is read at a time";
            return Err(
                Failure::new(ErrorKind::Unsupported, message).with_cure("name one image, or the file")
            );
        }
        Some(text) => text.parse().map_or_else(|_| Which::Name(text.to_owned()), Which::Number),
    };
    let links = match given.last_of(&["rpfix", "norpfix"]) {
        Some("rpfix") => LinkTargets::BelowTarget,
        _ => LinkTargets::default(),
    };
    let options = target_options(given, "apply", links)?;
    let pipe = PipedFile::open_within(std::io::stdin(), "standard input", &limits::current())?;
    let (report, _) = pipe.apply(&which, target, &options, &console.ctl, &console.reporter)?;
    tell_losses(&report.losses, given, console);
    require_owners(&report.losses, given, target)?;
    console.say("Done applying WIM image.")?;
    Ok(outcome(given, report.skipped))
}

fn apply(
    file: &ImageFile,
    index: ImageIndex,
    target: &Path,
    options: &ApplyOptions,
    given: &Given,
    console: &Console,
) -> Result<u64, Failure> {
    tell_start(file, index, "directory", target, console)?;
    put(&file.image(index)?, target, options, given, console)
}

fn tell_start(
    file: &ImageFile,
    index: ImageIndex,
    kind: &str,
    target: &Path,
    console: &Console,
) -> Result<(), Failure> {
    let name = file.wim().info().image(index.index()).and_then(|info| info.name()).unwrap_or_default();
    let (number, from, target) = (index.number(), file.name(), target.display());
    console.say(&format!("Applying image {number} ({name:?}) from {from:?} to {kind} \"{target}\""))
}

/// Applies `image` and tells what the directory cannot hold of it; returns what was left out.
fn put(
    image: &Image,
    target: &Path,
    options: &ApplyOptions,
    given: &Given,
    console: &Console,
) -> Result<u64, Failure> {
    let report = apply_to_directory(image, target, options, &console.ctl, &console.reporter)?;
    tell_losses(&report.losses, given, console);
    require_owners(&report.losses, given, target)?;
    Ok(report.skipped)
}

/// With --strict-acls and --unix-data it is a failure when an owner or extended attribute could not be set.
pub(super) fn require_owners(losses: &[Loss], given: &Given, target: &Path) -> Result<(), Failure> {
    if !given.has("strict-acls") || !given.has("unix-data") {
        return Ok(());
    }
    let is_unix =
        |loss: &&Loss| loss.what.starts_with("owners") || loss.what.starts_with("extended attributes");
    match losses.iter().find(is_unix) {
        None => Ok(()),
        Some(loss) => {
            let message = format!(
                "{}: --strict-acls: could not set {} of {} files",
                target.display(),
                loss.what,
                loss.count
            );
            Err(Failure::new(ErrorKind::Permission, message))
        }
    }
}

/// The exit code when `skipped` things were left out. Who asked for what decodes of a damaged file got it: scripts of this
/// syntax expect 0 then, and the warnings tell what is missing.
pub(super) fn outcome(given: &Given, skipped: u64) -> ExitCode {
    if given.has("recover-data") { ExitCode::SUCCESS } else { done_or_partial(skipped) }
}

/// Tells what a directory cannot hold, but for what was not to be restored anyway.
pub(super) fn tell_losses(losses: &[Loss], given: &Given, console: &Console) {
    let is_unwanted = |what: &str| {
        (given.has("no-acls") && what == "security descriptors")
            || (given.has("no-attributes") && what == "Windows attributes")
    };
    for loss in losses.iter().filter(|loss| !is_unwanted(loss.what)) {
        console.warn(&format!("not kept by a directory: {} of {} files", loss.what, loss.count));
    }
}

/// How files are written. Other things that this syntax asks for are for volumes of Windows.
pub(super) fn target_options(
    given: &Given,
    stage: &str,
    links: LinkTargets,
) -> Result<ApplyOptions, Failure> {
    for option in ["wimboot", "compact"] {
        if given.has(option) {
            let message = format!("--{option} is for volumes of Windows, not for directories");
            return Err(Failure::new(ErrorKind::Unsupported, message));
        }
    }
    Ok(ApplyOptions {
        stage: stage.to_owned(),
        threads: given.number("threads").map_err(mistake)?,
        existing: Existing::Replace,
        links,
        unix: if given.has("unix-data") { UnixMetadata::Keep } else { UnixMetadata::Leave },
        durability: Durability::Cached,
        damaged: if given.has("recover-data") { DamagedContent::Keep } else { DamagedContent::Refuse },
        ..ApplyOptions::default()
    })
}

/// What becomes of absolute links: as asked for, or as the file was captured.
pub(super) fn links(given: &Given, file: &ImageFile) -> LinkTargets {
    let is_fixed = file.wim().header().flags.contains(HeaderFlags::LINKS_FIXED);
    match given.last_of(&["rpfix", "norpfix"]) {
        Some("rpfix") => LinkTargets::BelowTarget,
        None if is_fixed => LinkTargets::BelowTarget,
        _ => LinkTargets::Keep,
    }
}

/// Under which name an image goes when all are applied: its own, or its number when that is no name for a directory.
fn directory_name(file: &ImageFile, index: ImageIndex) -> PathBuf {
    let info = file.wim().info();
    let name = info.image(index.index()).and_then(|info| info.name()).unwrap_or_default();
    let is_unusual = name.is_empty()
        || name.len() > 200
        || name.starts_with('.')
        || name.contains(['/', '\\', '\0', ':', '*', '?', '"', '<', '>', '|']);
    let is_taken = info.images().take(index.index()).any(|other| other.name().as_deref() == Some(&name));
    let is_number = name.parse::<u32>().is_ok();
    if is_unusual || is_taken || is_number { index.number().to_string().into() } else { name.into() }
}
