//! `gravure extract`: single files and directories out of an image.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gravure_imaging::{
    ApplyOptions, DamagedContent, ErrorKind, Existing, Image, LackOfRoom, NameCase, NoMatch, Parents,
    SelectOptions, Selected, Wanted, Wildcards, extract_selected, extract_selected_to, parse_path_list,
    read_text, read_text_file, select,
};

use crate::exit::{Failure, done_or_partial};
use crate::output::{self, bytes};
use crate::progress::Reporter;
use crate::target::{ImageName, Source};
use crate::{Common, interrupt};

/// Take files and directories out of an image
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure extract debian.wim /etc/os-release --to-stdout
  gravure extract install.wim:1 /Windows/Boot --dest-dir boot
  gravure extract install.wim:1 '/Windows/Fonts/*.ttf' --dest-dir fonts
  gravure extract install.wim:1 @files.txt --dest-dir part    paths and patterns from a list, a line each
  gravure extract debian.wim /etc /boot --dest-dir part --keep-parents
  gravure extract http://server/debian.esd /etc --dest-dir etc     only what is needed is fetched
  gravure extract - /etc/fstab --to-stdout < debian.wim")]
pub(crate) struct Options {
    /// Image file, address or - for standard input, with :NUMBER or :NAME when it holds several
    image: ImageName,
    /// Paths in the image, with * and ? for parts of names; @FILE is a list of them, @- one on standard input, which keep their
    /// directories
    #[arg(required = true)]
    paths: Vec<String>,
    /// Take * and ? as they are
    #[arg(long, visible_alias = "no-wildcards")]
    no_globs: bool,
    /// Go on when nothing matches
    #[arg(long)]
    nullglob: bool,
    /// Find names in any case
    #[arg(long)]
    ignore_case: bool,
    /// Check the integrity table of the image file first, when it has one
    #[arg(long)]
    check: bool,
    /// Threads; one for each processor by default
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Go on although the files have more bytes than the file system says it has room for
    #[arg(long)]
    ignore_space: bool,
    /// Directory to put them into; made when it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    dest_dir: PathBuf,
    /// Keep the directories above each path
    #[arg(long)]
    keep_parents: bool,
    /// Write one file's content to standard output instead
    #[arg(long, conflicts_with_all = ["dest_dir", "keep_parents"])]
    to_stdout: bool,
    /// Further files that content may lie in; FILE may be a pattern with *
    #[arg(long = "ref", value_name = "FILE")]
    references: Vec<PathBuf>,
    /// Keep what can be decoded of damaged files, with zeros where nothing can, and go on; each is a warning, and the exit
    /// code is 10
    #[arg(long, conflicts_with = "to_stdout")]
    recover_data: bool,
}

impl Options {
    /// What is asked for: paths, and the lines of lists.
    fn wanted(&self) -> Result<Vec<Wanted>, Failure> {
        let parents = if self.keep_parents { Parents::Keep } else { Parents::Drop };
        let mut wanted = Vec::new();
        for path in &self.paths {
            let Some(list) = path.strip_prefix('@') else {
                wanted.push(Wanted { path: path.clone(), parents });
                continue;
            };
            let text = match list {
                "-" => read_text(io::stdin().lock(), "standard input")?,
                list => read_text_file(Path::new(list))?,
            };
            let lines = parse_path_list(&text).into_iter();
            wanted.extend(lines.map(|path| Wanted { path, parents: Parents::Keep }));
        }
        Ok(wanted)
    }

    /// What of the image that is.
    fn selected(&self, image: &Image) -> Result<Vec<Selected>, Failure> {
        let options = SelectOptions {
            case: if self.ignore_case { NameCase::Ignore } else { NameCase::Exact },
            wildcards: if self.no_globs { Wildcards::Literal } else { Wildcards::Expand },
            no_match: if self.nullglob { NoMatch::Skip } else { NoMatch::Fail },
        };
        let (selected, unmatched) = select(image.tree(), &self.wanted()?, &options)?;
        unmatched.iter().for_each(|path| eprintln!("warning: nothing matches {path:?}"));
        Ok(selected)
    }

    /// Paths as a pipe takes them: it has gone by before anybody could look for patterns.
    fn plain_paths(&self) -> Result<&[String], Failure> {
        let is_plain =
            |path: &String| !path.starts_with('@') && (self.no_globs || !path.contains(['*', '?']));
        match self.paths.iter().find(|path| !is_plain(path)) {
            None => Ok(&self.paths),
            Some(path) => {
                let message =
                    format!("{path}: from a pipe come paths as they are, without patterns and lists");
                Err(Failure::new(ErrorKind::Unsupported, message)
                    .with_cure("name the file instead of piping it"))
            }
        }
    }
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let which = &options.image.which;
    let source = options.image.open_source(&options.references, &ctl)?;
    if options.check {
        super::apply::check(&source, &ctl, &reporter)?;
    }
    let one = || Failure::new(ErrorKind::Usage, "--to-stdout takes one path");
    if options.to_stdout {
        match source {
            Source::File(file) => {
                let image = file.image(file.find(which)?)?;
                let selected = options.selected(&image)?;
                let [selected] = selected.as_slice() else { return Err(one()) };
                extract_selected_to(&image, selected, &mut io::stdout().lock(), &ctl)?;
            }
            Source::Pipe(pipe) => {
                let [path] = options.plain_paths()? else { return Err(one()) };
                pipe.extract_to(which, path, &mut io::stdout().lock(), &ctl)?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let parents = if options.keep_parents { Parents::Keep } else { Parents::Drop };
    let apply = ApplyOptions {
        stage: "extract".to_owned(),
        threads: options.threads,
        existing: Existing::Beside,
        room: if options.ignore_space { LackOfRoom::Try } else { LackOfRoom::Refuse },
        damaged: if options.recover_data { DamagedContent::Keep } else { DamagedContent::Refuse },
        ..ApplyOptions::default()
    };
    let target = &options.dest_dir;
    let report = match source {
        Source::File(file) => {
            let image = file.image(file.find(which)?)?;
            let selected = options.selected(&image)?;
            extract_selected(&image, &selected, target, &apply, &ctl, &reporter)?
        }
        Source::Pipe(pipe) => {
            pipe.extract(which, options.plain_paths()?, parents, target, &apply, &ctl, &reporter)?
        }
    };
    let result =
        serde_json::json!({ "files": report.files, "bytes": report.bytes, "warnings": report.warnings });
    output::document(common.format, &result, |_| {
        format!("extracted {} files, {}", report.files, bytes(report.bytes))
    })?;
    Ok(done_or_partial(report.skipped))
}
