//! `wim extract`: files and directories out of an image, by path, pattern or list.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gravure_imaging::{
    ApplyOptions, LinkTargets, NoMatch, Parents, RootMetadata, SelectOptions, Wanted, Wildcards,
    extract_selected, extract_selected_to, parse_path_list, read_text, read_text_file, select,
};

use super::apply::{TARGET_OPTIONS, target_options};
use super::files::{self, CHECK, REF, REFS};
use super::options::{Given, alias, flag, value};
use super::{Command, Console, check_count, mistake, name_case};
use crate::exit::Failure;

const USAGE: &str = "  extract WIMFILE IMAGE [(PATH | @LISTFILE)...]
      [--check] [--ref=\"GLOB\"] [--dest-dir=DIR] [--to-stdout] [--no-globs] [--nullglob]
      [--preserve-dir-structure] [--unix-data] [--threads=N]";

pub(super) const COMMAND: Command = Command {
    name: "extract",
    usage: USAGE,
    run,
    options: &[
        &[
            CHECK,
            REF,
            REFS,
            value("dest-dir"),
            flag("to-stdout"),
            flag("no-globs"),
            alias("no-wildcards", flag("no-globs")),
            flag("nullglob"),
            flag("preserve-dir-structure"),
        ],
        &TARGET_OPTIONS,
    ],
};

fn run(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 1, usize::MAX, USAGE)?;
    let file = files::open(&given.arguments[0], given, console)?;
    let image = file.image(files::image(&file, given.argument(1).map_err(mistake)?)?)?;
    let wanted = wanted(given)?;
    let options = SelectOptions {
        case: name_case(),
        wildcards: if given.has("no-globs") { Wildcards::Literal } else { Wildcards::Expand },
        no_match: if given.has("nullglob") { NoMatch::Skip } else { NoMatch::Fail },
    };
    let (selected, unmatched) = select(image.tree(), &wanted, &options)?;
    for path in unmatched {
        console.warn(&format!("nothing matches {path:?}"));
    }
    if given.has("to-stdout") {
        let mut out = std::io::stdout().lock();
        for one in &selected {
            extract_selected_to(&image, one, &mut out, &console.ctl)?;
        }
        let flushed = out.flush();
        flushed.map_err(|error| Failure::io("write", Path::new("standard output"), &error))?;
        return Ok(ExitCode::SUCCESS);
    }
    let target = given.value("dest-dir").map_or_else(|| PathBuf::from("."), PathBuf::from);
    std::fs::create_dir_all(&target).map_err(|error| Failure::io("make directory", &target, &error))?;
    // The whole image is what an apply is; single things leave the directory they go to as it is.
    let is_whole = matches!(selected.as_slice(), [one] if one.names.is_empty());
    let options = ApplyOptions {
        root: if is_whole { RootMetadata::Set } else { RootMetadata::Keep },
        ..target_options(given, "extract", LinkTargets::Keep)?
    };
    let report = extract_selected(&image, &selected, &target, &options, &console.ctl, &console.reporter)?;
    super::apply::tell_losses(&report.losses, given, console);
    super::apply::require_owners(&report.losses, given, &target)?;
    console.say("Done extracting files.")?;
    Ok(super::apply::outcome(given, report.skipped))
}

/// What is asked for: paths, or the lines of lists, which keep their directories.
fn wanted(given: &Given) -> Result<Vec<Wanted>, Failure> {
    let keeps = given.has("preserve-dir-structure");
    let mut wanted = Vec::new();
    for at in 2..given.arguments.len() {
        let argument = given.argument(at).map_err(mistake)?.unwrap_or_default();
        let Some(list) = argument.strip_prefix('@') else {
            let parents = if keeps { Parents::Keep } else { Parents::Drop };
            wanted.push(Wanted { path: argument.to_owned(), parents });
            continue;
        };
        let text = match list {
            "-" => read_text(std::io::stdin().lock(), "standard input")?,
            list => read_text_file(Path::new(list))?,
        };
        let lines = parse_path_list(&text).into_iter();
        wanted.extend(lines.map(|path| Wanted { path, parents: Parents::Keep }));
    }
    if given.arguments.len() <= 2 {
        wanted.push(Wanted { path: "/".to_owned(), parents: Parents::Drop });
    }
    Ok(wanted)
}
