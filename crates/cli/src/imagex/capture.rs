//! `wim capture` and `wim append`: directories, lists of them, and NTFS volumes become images.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use gravure_imaging::{
    AppendOptions, Boot, CaptureConfig, CaptureOptions, CaptureSource, Earlier, ErrorKind, Exclusions,
    ImageFile, Integrity, Mounts, RewriteOptions, ScanOptions, SecurityMetadata, Symlinks, UnixMetadata,
    Which, append, capture, capture_sources_to_pipe, is_ntfs_volume, optimize, read_text, read_text_file,
};
use gravure_wim::HeaderFlags;

use super::compress;
use super::files;
use super::options::{Given, Opt, alias, flag, value};
use super::words::{is_blank, words};
use super::{Command, Console, check_count, integrity_change, mistake, name_case, properties, unsupported};
use crate::exit::{Failure, done_or_partial};
use crate::limits;

const CAPTURE_USAGE: &str = "  capture SOURCE WIMFILE [NAME [DESC]]
      [--boot] [--check] [--include-integrity] [--compress=TYPE[:LEVEL]] [--chunk-size=SIZE] [--threads=N]
      [--flags=EDITION] [--image-property NAME=VALUE] [--config=FILE] [--source-list] [--dereference]
      [--unix-data] [--no-acls | --strict-acls] [--rpfix | --norpfix] [--update-of=[WIMFILE:]IMAGE] [--delta-from=WIMFILE] [--wimboot]
      [--pipable] [--solid] [--solid-compress=TYPE] [--solid-chunk-size=SIZE]
  SOURCE is a directory, a list with --source-list, or a partition or file with an NTFS volume
  WIMFILE may be -: a pipable image goes to standard output";

const APPEND_USAGE: &str = "  append SOURCE WIMFILE [NAME [DESC]]
      [--boot] [--check] [--nocheck] [--include-integrity] [--create] [--rebuild] [--threads=N]
      [--flags=EDITION] [--image-property NAME=VALUE] [--config=FILE] [--source-list] [--dereference]
      [--unix-data] [--rpfix | --norpfix] [--update-of=[WIMFILE:]IMAGE] [--delta-from=WIMFILE]";

const DEREFERENCE: Opt = flag("dereference");

/// Options of both.
const BOTH: [Opt; 24] = [
    flag("boot"),
    flag("check"),
    flag("nocheck"),
    flag("include-integrity"),
    value("threads"),
    value("flags"),
    value("image-property"),
    value("config"),
    flag("source-list"),
    DEREFERENCE,
    alias("derefence", DEREFERENCE),
    flag("unix-data"),
    flag("no-acls"),
    alias("noacls", flag("no-acls")),
    flag("strict-acls"),
    flag("rpfix"),
    flag("norpfix"),
    value("update-of"),
    value("delta-from"),
    flag("wimboot"),
    flag("snapshot"),
    flag("rebuild"),
    flag("unsafe-compact"),
    flag("no-solid-sort"),
];

pub(super) const CAPTURE: Command = Command {
    name: "capture",
    usage: CAPTURE_USAGE,
    run: run_capture,
    options: &[&BOTH, &compress::OPTIONS],
};

pub(super) const APPEND: Command = Command {
    name: "append",
    usage: APPEND_USAGE,
    run: run_append,
    options: &[&BOTH, &compress::OPTIONS, &[flag("create"), flag("not-pipable")]],
};

fn run_capture(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 2, 4, CAPTURE_USAGE)?;
    new_file(given, console)
}

fn run_append(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 2, 4, APPEND_USAGE)?;
    let output = files::local(&given.arguments[1])?;
    if given.has("create") && !output.exists() {
        return new_file(given, console);
    }
    let file = ImageFile::open_path_within(output, &limits::current())?;
    if file.wim().header().parts > 1 {
        return Err(unsupported(format!("{} is part of a split set; join it first", output.display())));
    }
    if given.has("check") {
        files::check(&file, console)?;
    }
    let rpfix = match given.last_of(&["rpfix", "norpfix"]) {
        Some(asked) => asked == "rpfix",
        None => file.wim().header().flags.contains(HeaderFlags::LINKS_FIXED),
    };
    let own = Some(output);
    let mut options = AppendOptions {
        capture: capture_options(given, console, rpfix, own)?,
        rewrite: RewriteOptions {
            threads: given.number("threads").map_err(mistake)?,
            integrity: integrity_change(given),
            limits: limits::current(),
            ..RewriteOptions::default()
        },
    };
    if given.arguments.len() < 3 {
        options.capture.name = free_name(&file, &options.capture.name);
    }
    drop(file);
    let sources = sources(given)?;
    let report = append(&sources, output, &options, &console.ctl, &console.reporter)?;
    if given.has("rebuild") || given.has("unsafe-compact") || given.has("not-pipable") {
        optimize(output, &options.rewrite, &console.ctl, &console.reporter)?;
    }
    Ok(done_or_partial(report.skipped))
}

fn new_file(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    let output = Path::new(&given.arguments[1]);
    let rpfix = given.last_of(&["rpfix", "norpfix"]) != Some("norpfix");
    let to_pipe = output == Path::new("-");
    let mut options = capture_options(given, console, rpfix, None)?;
    options.form = compress::form(given, to_pipe)?;
    let (sources, ctl, reporter) = (sources(given)?, &console.ctl, &console.reporter);
    let report = if to_pipe {
        let mut out = std::io::stdout().lock();
        capture_sources_to_pipe(&sources, &mut out, "standard output", &options, ctl, reporter)?
    } else {
        capture(&sources, output, &options, ctl, reporter)?
    };
    Ok(done_or_partial(report.skipped))
}

/// How the sources are captured. `own` is the file that is appended to.
fn capture_options(
    given: &Given,
    console: &Console,
    rpfix: bool,
    own: Option<&Path>,
) -> Result<CaptureOptions, Failure> {
    if given.has("snapshot") {
        return Err(unsupported("--snapshot is for volumes of Windows"));
    }
    let compress = compress::of(given, own.is_none())?;
    let mut properties = properties(given)?;
    if given.has("wimboot") {
        properties.push(("WIMBOOT".to_owned(), "1".to_owned()));
    }
    if let Some(flags) = given.text("flags").map_err(mistake)? {
        properties.insert(0, ("FLAGS".to_owned(), flags.to_owned()));
    }
    let name = match given.argument(2).map_err(mistake)? {
        Some(name) => name.to_owned(),
        None => default_name(&given.arguments[0]),
    };
    let bases = given.values("delta-from").map(|path| files::open_whole(path, &console.ctl));
    let delta_from = bases.collect::<Result<Vec<_>, _>>()?;
    if given.has("check") {
        delta_from.iter().try_for_each(|base| files::check(base, console))?;
    }
    let update_of = earlier(given, own, &delta_from, console)?;
    Ok(CaptureOptions {
        threads: given.number("threads").map_err(mistake)?,
        compression: compress.compression,
        level: compress.level,
        name,
        description: given.argument(3).map_err(mistake)?.filter(|text| !text.is_empty()).map(str::to_owned),
        properties,
        boot: if given.has("boot") { Boot::Set } else { Boot::Leave },
        integrity: if given.has("check") || given.has("include-integrity") {
            Integrity::Table
        } else {
            Integrity::Without
        },
        scan: scan_options(given, console, rpfix)?,
        delta_from,
        update_of,
        ..CaptureOptions::default()
    })
}

/// How directories are read, by the options that several commands have.
pub(super) fn scan_options(given: &Given, console: &Console, rpfix: bool) -> Result<ScanOptions, Failure> {
    let config = match given.value("config") {
        Some(path) => CaptureConfig::read(Path::new(path), name_case())?,
        None => CaptureConfig::windows_default(name_case()),
    };
    config.warnings().iter().for_each(|warning| console.warn(warning));
    let symlinks = match (given.has("dereference"), rpfix) {
        (true, _) => Symlinks::Follow,
        (false, true) => Symlinks::Rebase,
        (false, false) => Symlinks::Keep,
    };
    Ok(ScanOptions {
        mounts: Mounts::Follow,
        symlinks,
        unix: if given.has("unix-data") { UnixMetadata::Keep } else { UnixMetadata::Leave },
        exclude: Exclusions::default().with_config(config),
        // Directories of this system have no such descriptors.
        security: match (given.has("no-acls"), given.has("strict-acls")) {
            (true, true) => return Err(mistake("--no-acls and --strict-acls exclude each other")),
            (true, false) => SecurityMetadata::Leave,
            (false, true) => SecurityMetadata::Require,
            (false, false) => SecurityMetadata::Keep,
        },
        ..ScanOptions::default()
    })
}

/// What is captured: one directory, or what a list names.
fn sources(given: &Given) -> Result<Vec<CaptureSource>, Failure> {
    let source = &given.arguments[0];
    if !given.has("source-list") {
        let path = Path::new(source);
        let metadata = std::fs::metadata(path).map_err(|error| Failure::io("read", path, &error))?;
        if metadata.is_dir() {
            return Ok(vec![CaptureSource::root(path)]);
        }
        if !is_ntfs_volume(path) {
            return Err(unsupported(format!("{} is neither a directory nor an NTFS volume", path.display())));
        }
        for option in ["unix-data", "dereference"] {
            if given.has(option) {
                return Err(unsupported(format!("--{option} with an NTFS volume")));
            }
        }
        return Ok(vec![CaptureSource::root(path)]);
    }
    let text = match source.to_str() {
        Some("-") => read_text(std::io::stdin().lock(), "standard input")?,
        _ => read_text_file(Path::new(source))?,
    };
    let list = parse_source_list(&text)
        .map_err(|why| Failure::new(ErrorKind::Usage, format!("{}: {why}", Path::new(source).display())))?;
    Ok(list)
}

/// A line for each source: its path, and where in the image it goes; without, that is its path too.
pub(crate) fn parse_source_list(text: &str) -> Result<Vec<CaptureSource>, String> {
    let mut sources = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if is_blank(line) {
            continue;
        }
        let words = words(line).map_err(|why| format!("line {number}: {why}"))?;
        let Some(path) = words.first() else { continue };
        let target = words.get(1).unwrap_or(path);
        let names: Vec<&str> =
            target.split(['/', '\\']).filter(|name| !name.is_empty() && *name != ".").collect();
        if names.contains(&"..") {
            return Err(format!("line {number}: {target:?} is no path in an image"));
        }
        let target = names.join("/");
        sources.push(CaptureSource { target, ..CaptureSource::root(Path::new(path)) });
    }
    Ok(sources)
}

/// The image that `--update-of` names.
fn earlier(
    given: &Given,
    own: Option<&Path>,
    delta_from: &[ImageFile],
    console: &Console,
) -> Result<Option<Earlier>, Failure> {
    let Some(text) = given.text("update-of").map_err(mistake)? else { return Ok(None) };
    let (file, image) = match (text.rsplit_once(':'), own, delta_from) {
        (Some((file, image)), _, _) => (files::open_whole(file.as_ref(), &console.ctl)?, image),
        (None, Some(own), _) => (files::open_whole(own.as_os_str(), &console.ctl)?, text),
        (None, None, [only]) => (only.clone(), text),
        _ => return Err(mistake("--update-of needs WIMFILE:IMAGE")),
    };
    let which = match image.parse::<i64>() {
        Ok(number) if number < 0 => {
            let count = i64::from(file.image_count());
            Which::Number(u32::try_from(count + 1 + number).unwrap_or(0))
        }
        Ok(number) => u32::try_from(number).map_or_else(|_| Which::Name(image.to_owned()), Which::Number),
        Err(_) => Which::Name(image.to_owned()),
    };
    Ok(Some(Earlier { file, which }))
}

/// The last name of the source.
fn default_name(source: &OsStr) -> String {
    let path = Path::new(source);
    let name = path.file_name().map(OsStr::to_owned).or_else(|| {
        let whole = path.canonicalize().ok()?;
        whole.file_name().map(OsStr::to_owned)
    });
    name.map_or_else(|| "root".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// `name`, or it with a number that makes it unlike those of all images.
fn free_name(file: &ImageFile, name: &str) -> String {
    let is_taken = |name: &str| file.wim().info().images().any(|image| image.name().as_deref() == Some(name));
    if !is_taken(name) {
        return name.to_owned();
    }
    let numbered = (1..).map(|number: u32| format!("{name} ({number})"));
    numbered.into_iter().find(|name| !is_taken(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_lists_are_read() {
        let text = "# c\n  # d\n\nwinpe  /\n'a b' \"/x y\"\nsrc\\d\n./e\n";
        let list = parse_source_list(text).unwrap();
        let list: Vec<(String, String)> =
            list.into_iter().map(|one| (one.path.display().to_string(), one.target)).collect();
        let expected = [("winpe", ""), ("a b", "x y"), ("src\\d", "src/d"), ("./e", "e")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(list, expected);
        assert!(parse_source_list("a /../b").unwrap_err().starts_with("line 1: "));
        assert!(parse_source_list("a\n'b").unwrap_err().starts_with("line 2: "));
    }

    #[test]
    fn the_last_name_is_the_default() {
        for (source, expected) in [("dir", "dir"), ("a/dir/", "dir"), ("/", "root"), ("-", "-")] {
            assert_eq!(default_name(OsStr::new(source)), expected);
        }
    }
}
