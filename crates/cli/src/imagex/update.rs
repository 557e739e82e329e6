//! `wim update`: files of an image added, deleted and renamed by a list of commands.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use gravure_imaging::{
    DeleteRule, EditOptions, ErrorKind, ImageRules, Overlay, ScanOptions, Symlinks, Target, TreeChange,
    UnixMetadata, Which, edit, read_text,
};

use super::capture::scan_options;
use super::compress;
use super::files::{self, CHECK, REF, REFS};
use super::options::{Given, flag, value};
use super::script::{self, Command as Line};
use super::{Command, Console, check_count, mistake, name_case};
use crate::exit::{Failure, done_or_partial};

const USAGE: &str = "  update WIMFILE [IMAGE] [--command=STRING] [--wimboot-config=FILE] [< CMDFILE]
      [--check] [--include-integrity] [--rebuild] [--threads=N] [--config=FILE] [--dereference]
      [--unix-data] [--no-replace] [--force] [--recursive]";

pub(super) const COMMAND: Command = Command {
    name: "update",
    usage: USAGE,
    run,
    options: &[&[
        CHECK,
        REF,
        REFS,
        flag("include-integrity"),
        flag("nocheck"),
        flag("rebuild"),
        flag("unsafe-compact"),
        value("threads"),
        value("command"),
        value("wimboot-config"),
        value("config"),
        flag("dereference"),
        flag("unix-data"),
        flag("no-acls"),
        flag("strict-acls"),
        flag("no-replace"),
        flag("force"),
        flag("recursive"),
    ]],
};

/// Where Windows looks for the configuration of WIMBoot.
const WIMBOOT_CONFIG: &str = "/Windows/System32/WimBootCompress.ini";

fn run(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 1, 2, USAGE)?;
    let path = files::local(&given.arguments[0])?;
    let file = files::open(&given.arguments[0], given, console)?;
    let index = files::image(&file, given.argument(1).map_err(mistake)?)?;
    drop(file);
    let lines = lines(given)?;
    if lines.is_empty() && !given.has("rebuild") {
        console.say("There is nothing to be done.")?;
        return Ok(ExitCode::SUCCESS);
    }
    let scan = scan_options(given, console, false)?;
    let tree = lines.into_iter().map(|line| change(line, given, &scan)).collect();
    let is_rebuilt = given.has("rebuild") || given.has("unsafe-compact");
    let options = EditOptions {
        rewrite: compress::rewrite(given, "update", false, false)?,
        tree,
        rules: ImageRules::Fixed(name_case()),
        target: if is_rebuilt { Target::Rebuild } else { Target::Append },
        ..EditOptions::default()
    };
    let report = edit(path, &Which::Number(index.number()), &options, &console.ctl, &console.reporter)?;
    Ok(done_or_partial(report.skipped))
}

/// What is to be done: the configuration first, then the commands of the option; of standard input where there is neither.
fn lines(given: &Given) -> Result<Vec<Line>, Failure> {
    if let Some(source) = given.value("wimboot-config") {
        let source = source.to_str().ok_or_else(|| mistake("--wimboot-config: the path is not text"))?;
        let (source, target) = (source.to_owned(), WIMBOOT_CONFIG.to_owned());
        let mut lines = vec![Line::Add { source, target, options: script::AddOptions::default() }];
        if given.has("command") {
            lines.extend(commands(given)?);
        }
        return Ok(lines);
    }
    commands(given)
}

fn commands(given: &Given) -> Result<Vec<Line>, Failure> {
    let text = match given.values("command").collect::<Vec<&OsStr>>().as_slice() {
        [] => read_text(std::io::stdin().lock(), "standard input")?,
        [_] => given.text("command").map_err(mistake)?.unwrap_or_default().to_owned(),
        _ => return Err(mistake("--command can be given once")),
    };
    let lines = script::parse(&text).map_err(|why| Failure::new(ErrorKind::Usage, why))?;
    if given.has("command") && lines.len() > 1 {
        return Err(mistake("--command takes one command; several go to standard input"));
    }
    Ok(lines)
}

fn change(line: Line, given: &Given, scan: &ScanOptions) -> TreeChange {
    match line {
        Line::Add { source, target, options } => {
            let mut scan = scan.clone();
            if options.dereference {
                scan.symlinks = Symlinks::Follow;
            }
            if options.unix_data {
                scan.unix = UnixMetadata::Keep;
            }
            let keeps = options.no_replace || given.has("no-replace");
            let overlay = if keeps { Overlay::Refuse } else { Overlay::Replace };
            TreeChange::Add { source: PathBuf::from(source), to: target, scan, overlay }
        }
        Line::Delete { path, options } => {
            let rule = DeleteRule {
                recursive: options.recursive || given.has("recursive"),
                force: options.force || given.has("force"),
            };
            TreeChange::Delete { path, rule }
        }
        Line::Rename { from, to } => TreeChange::Rename { from, to },
    }
}
