//! Commands that change or remake image files: the changing half of `wim info`, and delete, export, join, optimize,
//! split.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gravure_imaging::{
    Boot, Deletion, EditOptions, ErrorKind, ExportOptions, ImageFile, InfoChange, RewriteOptions, Selection,
    Target, Which, delete, edit, export, export_to_pipe, join, optimize, split,
};

use super::compress;
use super::files::{self, CHECK, Images, REF, REFS};
use super::options::{Given, Opt, flag, value};
use super::{Command, Console, check_count, integrity_change, mistake, properties, unsupported};
use crate::exit::{Failure, done_or_partial};
use crate::limits;

const DELETE_USAGE: &str = "  delete WIMFILE IMAGE [--check] [--include-integrity] [--soft]";
const EXPORT_USAGE: &str = "  export SRC_WIMFILE SRC_IMAGE DEST_WIMFILE [DEST_NAME [DEST_DESC]]
      [--boot] [--check] [--nocheck] [--include-integrity] [--compress=TYPE[:LEVEL]] [--chunk-size=SIZE]
      [--recompress] [--threads=N] [--rebuild] [--ref=\"GLOB\"] [--solid] [--solid-compress=TYPE[:LEVEL]]
      [--solid-chunk-size=SIZE] [--pipable] [--not-pipable]";
const JOIN_USAGE: &str = "  join OUT_WIMFILE SPLIT_WIM_PART... [--check] [--include-integrity]";
const OPTIMIZE_USAGE: &str = "  optimize WIMFILE [--check] [--nocheck] [--include-integrity]
      [--recompress] [--compress=TYPE[:LEVEL]] [--chunk-size=SIZE] [--threads=N] [--solid]
      [--solid-compress=TYPE[:LEVEL]] [--solid-chunk-size=SIZE] [--pipable] [--not-pipable]";
const SPLIT_USAGE: &str = "  split WIMFILE SPLIT_WIM_PART_1 PART_SIZE_MIB [--check] [--include-integrity]";

const TABLES: [Opt; 3] = [CHECK, flag("nocheck"), flag("include-integrity")];

pub(super) const DELETE: Command = Command {
    name: "delete",
    usage: DELETE_USAGE,
    run: run_delete,
    options: &[&TABLES, &[flag("soft"), flag("unsafe-compact")]],
};

pub(super) const EXPORT: Command = Command {
    name: "export",
    usage: EXPORT_USAGE,
    run: run_export,
    options: &[
        &TABLES,
        &compress::OPTIONS,
        &[
            REF,
            REFS,
            flag("boot"),
            value("threads"),
            flag("rebuild"),
            flag("not-pipable"),
            flag("wimboot"),
            flag("unsafe-compact"),
            flag("no-solid-sort"),
        ],
    ],
};

pub(super) const JOIN: Command =
    Command { name: "join", usage: JOIN_USAGE, run: run_join, options: &[&TABLES] };

pub(super) const OPTIMIZE: Command = Command {
    name: "optimize",
    usage: OPTIMIZE_USAGE,
    run: run_optimize,
    options: &[
        &TABLES,
        &compress::OPTIONS,
        &[value("threads"), flag("not-pipable"), flag("unsafe-compact"), flag("no-solid-sort")],
    ],
};

pub(super) const SPLIT: Command =
    Command { name: "split", usage: SPLIT_USAGE, run: run_split, options: &[&TABLES] };

/// The changing half of `wim info`.
pub(super) fn info(given: &Given, console: &Console, file: &ImageFile) -> Result<ExitCode, Failure> {
    refuse_split(file)?;
    let path = files::local(&given.arguments[0])?;
    let which = given.argument(1).map_err(mistake)?;
    let mut options = EditOptions {
        rewrite: RewriteOptions {
            integrity: integrity_change(given),
            limits: limits::current(),
            ..RewriteOptions::default()
        },
        ..EditOptions::default()
    };
    if which == Some("0") && given.has("boot") {
        if given.arguments.len() > 2 || given.has("image-property") {
            return Err(mistake("image 0 is for --boot alone"));
        }
        let Some(index) = file.wim().boot_image() else {
            return console.say("No image is bootable: nothing is to be done.").map(|()| ExitCode::SUCCESS);
        };
        options.boot = Boot::Clear;
        edit(path, &Which::Number(index.number()), &options, &console.ctl, &console.reporter)?;
        return Ok(ExitCode::SUCCESS);
    }
    let index = match files::images(file, which)? {
        Images::One(index) => index,
        Images::All if file.image_count() == 1 => files::image(file, None)?,
        Images::All => return Err(mistake("one image is to be changed, not all")),
    };
    let old = file.wim().info().image(index.index()).unwrap_or_default();
    let named = [("NAME", given.argument(2)), ("DESCRIPTION", given.argument(3))];
    let mut changes = Vec::new();
    for (path, value) in named {
        if let Some(value) = value.map_err(mistake)? {
            changes.push((path.to_owned(), value.to_owned()));
        }
    }
    changes.extend(properties(given)?);
    for (path, value) in changes {
        if old.text(&path).unwrap_or_default() == value {
            console.say(&format!(
                "The {path} property of image {} already has value {value:?}.",
                index.number()
            ))?;
            continue;
        }
        console.say(&format!("Setting the {path} property of image {} to {value:?}.", index.number()))?;
        options.info.push(if value.is_empty() {
            InfoChange::Remove(path)
        } else {
            InfoChange::Set(path, value)
        });
    }
    if given.has("boot") && file.wim().boot_image() != Some(index) {
        console.say(&format!("Marking image {} as bootable.", index.number()))?;
        options.boot = Boot::Set;
    }
    let has_table = !file.wim().header().integrity.is_absent();
    let changes_table = options.rewrite.integrity != gravure_imaging::IntegrityChange::Keep
        && (options.rewrite.integrity == gravure_imaging::IntegrityChange::Make) != has_table;
    if options.info.is_empty() && options.boot == Boot::Leave && !changes_table {
        let line = format!("The file {:?} was not modified because nothing needed to be done.", file.name());
        return console.say(&line).map(|()| ExitCode::SUCCESS);
    }
    edit(path, &Which::Number(index.number()), &options, &console.ctl, &console.reporter)?;
    Ok(ExitCode::SUCCESS)
}

fn run_delete(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 2, 2, DELETE_USAGE)?;
    let path = files::local(&given.arguments[0])?;
    let file = files::open(&given.arguments[0], given, console)?;
    refuse_split(&file)?;
    let images = files::images(&file, given.argument(1).map_err(mistake)?)?;
    let numbers: Vec<u32> = files::list(&file, images).iter().map(|index| index.number()).collect();
    drop(file);
    let options = RewriteOptions {
        integrity: integrity_change(given),
        limits: limits::current(),
        ..RewriteOptions::default()
    };
    let last = if given.has("soft") { Deletion::Soft } else { Deletion::Rebuild };
    // From the last to the first, so that numbers hold; only the last step needs to write the file anew.
    for (left, number) in
        numbers.iter().rev().enumerate().map(|(done, number)| (numbers.len() - done - 1, number))
    {
        let how = if left == 0 { last } else { Deletion::Soft };
        delete(path, &Which::Number(*number), how, &options, &console.ctl, &console.reporter)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_export(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 3, 5, EXPORT_USAGE)?;
    let source = files::open(&given.arguments[0], given, console)?;
    let output = PathBuf::from(&given.arguments[2]);
    let selection = match files::images(&source, given.argument(1).map_err(mistake)?)? {
        Images::One(index) => Selection::One(index),
        Images::All => Selection::All,
    };
    if given.has("boot") && selection == Selection::All && source.wim().boot_image().is_none() {
        return Err(mistake(format!("--boot: no image of {} is bootable", source.name())));
    }
    if output.exists() {
        let old = ImageFile::open_path_within(&output, &limits::current())?;
        refuse_split(&old)?;
        if given.has("check") {
            files::check(&old, console)?;
        }
    }
    let to_pipe = output.as_os_str() == "-";
    let is_rebuilt =
        ["rebuild", "unsafe-compact", "not-pipable", "pipable"].iter().any(|option| given.has(option));
    let options = ExportOptions {
        rewrite: compress::rewrite(given, "export", is_rebuilt || to_pipe || !output.exists(), to_pipe)?,
        name: given.argument(3).map_err(mistake)?.map(str::to_owned),
        description: given.argument(4).map_err(mistake)?.map(str::to_owned),
        boot: if given.has("boot") { Boot::Set } else { Boot::Leave },
        target: if is_rebuilt { Target::Rebuild } else { Target::Append },
    };
    if to_pipe {
        let (mut out, name) = (std::io::stdout().lock(), "standard output");
        let report =
            export_to_pipe(&source, selection, &mut out, name, &options, &console.ctl, &console.reporter)?;
        return Ok(done_or_partial(report.skipped));
    }
    let report = export(&source, selection, &output, &options, &console.ctl, &console.reporter)?;
    Ok(done_or_partial(report.skipped))
}

fn run_join(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 2, usize::MAX, JOIN_USAGE)?;
    let output = PathBuf::from(&given.arguments[0]);
    let open = |part: &OsString| files::open_alone(part, console);
    let parts = given.arguments[1..].iter().map(open).collect::<Result<Vec<_>, _>>()?;
    if given.has("check") {
        parts.iter().try_for_each(|part| files::check(part, console))?;
    }
    let set = ImageFile::from_parts(parts)?;
    let options = RewriteOptions {
        integrity: integrity_change(given),
        limits: limits::current(),
        ..RewriteOptions::default()
    };
    join(&set, &output, &options, &console.ctl, &console.reporter)?;
    Ok(ExitCode::SUCCESS)
}

fn run_optimize(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 1, 1, OPTIMIZE_USAGE)?;
    let path = files::local(&given.arguments[0])?;
    let file = files::open(&given.arguments[0], given, console)?;
    refuse_split(&file)?;
    let before = std::fs::metadata(&given.arguments[0]).map_or(0, |it| it.len());
    drop(file);
    let mut options = compress::rewrite(given, "optimize", true, false)?;
    if given.has("compress") {
        options.recompress = gravure_imaging::Recompress::Everything;
    }
    let report = optimize(path, &options, &console.ctl, &console.reporter)?;
    console.say(&format!(
        "{:?} optimized: {before} bytes before, {} bytes now",
        path.display(),
        report.file_bytes
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn run_split(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 3, 3, SPLIT_USAGE)?;
    let source = files::open(&given.arguments[0], given, console)?;
    let size = given.argument(2).map_err(mistake)?.unwrap_or_default();
    let bytes = part_bytes(size)
        .ok_or_else(|| Failure::new(ErrorKind::Usage, format!("{size:?} is no size in MiB above zero")))?;
    let options = RewriteOptions {
        integrity: integrity_change(given),
        limits: limits::current(),
        ..RewriteOptions::default()
    };
    let first = Path::new(&given.arguments[1]);
    let report = split(&source, first, bytes, &options, &console.ctl, &console.reporter)?;
    for part in &report.too_large {
        console.warn(&format!(
            "part {part} is larger than {size} MiB: one resource in it is, and cannot be cut"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Bytes of a decimal number of MiB.
fn part_bytes(text: &str) -> Option<u64> {
    let mebibytes = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0)?;
    let bytes = mebibytes * 1_048_576.0;
    // In this range the conversion cuts off a fraction and nothing else.
    (1.0..9e15).contains(&bytes).then_some(bytes as u64)
}

fn refuse_split(file: &ImageFile) -> Result<(), Failure> {
    if file.wim().header().parts == 1 {
        return Ok(());
    }
    Err(unsupported(format!("{} is part of a split set; join it first", file.name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_sizes() {
        assert_eq!(part_bytes("1"), Some(1 << 20));
        assert_eq!(part_bytes("0.01"), Some(10485));
        for text in ["0", "-1", "nan", "inf", "x", "1e30", ""] {
            assert_eq!(part_bytes(text), None, "{text}");
        }
    }
}
