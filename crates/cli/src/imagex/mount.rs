//! `wim mount` and `wim unmount`: an image as a directory. Read-only: images are changed by `update`.

use std::path::Path;
use std::process::ExitCode;

use gravure_imaging::{ErrorKind, MountOptions, StreamNames, UnixMetadata, Unmount};

use super::apply::links;
use super::files::{self, CHECK, REF, REFS};
use super::options::{Given, flag, value};
use super::{Command, Console, check_count, mistake};
use crate::exit::Failure;
use crate::mounting::{self, Ground, ToMount};

const USAGE: &str =
    "  mount WIMFILE [IMAGE] DIRECTORY [--check] [--streams-interface=none|xattr|windows] [--unix-data]
        [--allow-other] [--ref=\"GLOB\"] [--debug]";
const RW_USAGE: &str = "  mountrw WIMFILE [IMAGE] DIRECTORY (not supported: images are changed by update)";
const UNMOUNT_USAGE: &str =
    "  unmount DIRECTORY [--commit] [--force] [--check] [--rebuild] [--new-image] [--lazy]";

pub(super) const MOUNT: Command = Command {
    name: "mount",
    usage: USAGE,
    run,
    options: &[&[
        CHECK,
        REF,
        REFS,
        value("streams-interface"),
        flag("unix-data"),
        flag("allow-other"),
        flag("debug"),
        value("staging-dir"),
    ]],
};

pub(super) const MOUNT_RW: Command =
    Command { name: "mountrw", usage: RW_USAGE, run: refuse, options: MOUNT.options };

pub(super) const UNMOUNT: Command = Command {
    name: "unmount",
    usage: UNMOUNT_USAGE,
    run: run_unmount,
    // All but the last are about changes, which there are none of.
    options: &[&[
        flag("commit"),
        flag("force"),
        flag("check"),
        flag("rebuild"),
        flag("new-image"),
        flag("lazy"),
    ]],
};

fn run(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 2, 3, USAGE)?;
    if given.has("staging-dir") {
        return Err(mistake("--staging-dir is for mountrw"));
    }
    let streams = match given.text("streams-interface").map_err(mistake)? {
        None | Some("xattr") => StreamNames::Xattr,
        Some("none") => StreamNames::None,
        Some("windows") => StreamNames::Windows,
        Some(other) => {
            return Err(mistake(format!("--streams-interface={other}: expected none, xattr or windows")));
        }
    };
    // Checked: there are two or three.
    let (path, dir) = (&given.arguments[0], Path::new(&given.arguments[given.arguments.len() - 1]));
    let which = if given.arguments.len() == 3 { given.argument(1).map_err(mistake)? } else { None };
    let ground = match given.has("debug") {
        true => Ground::Fore,
        false => Ground::Back { log: None, keeps_stdin: false },
    };
    let open = || {
        let file = files::open(path, given, console)?;
        let index = files::image(&file, which)?;
        let options = MountOptions {
            streams,
            unix: if given.has("unix-data") { UnixMetadata::Keep } else { UnixMetadata::Leave },
            plain_mode: Some(0o777),
            links: links(given, &file),
            allow_other: given.has("allow-other"),
            ..MountOptions::default()
        };
        let name = format!("{}:{}", file.name(), index.number());
        Ok(ToMount { image: file.image(index)?, name, options })
    };
    mounting::mount(dir, ground, open, || Ok(()))
}

fn refuse(_: &Given, _: &Console) -> Result<ExitCode, Failure> {
    let message = "mounting for writing: images are mounted read-only";
    let cure = "change the image with `gravure wim update` or `gravure edit`, which need no mount";
    Err(Failure::new(ErrorKind::Unsupported, message).with_cure(cure))
}

fn run_unmount(given: &Given, _: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 1, 1, UNMOUNT_USAGE)?;
    let when = if given.has("lazy") { Unmount::Lazy } else { Unmount::Unused };
    mounting::take_away(Path::new(&given.arguments[0]), when)?;
    Ok(ExitCode::SUCCESS)
}
