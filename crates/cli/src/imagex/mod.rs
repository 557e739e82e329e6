//! `gravure wim`: the commands, options and printed fields of the imaging programs that came before, for scripts and
//! habits. What is done is done by the same engine as everywhere else; here words are understood and lines printed.
//!
//! Called by another name the program takes its command from it: `wimapply` is `gravure wim apply`, and a link called
//! `wimlib-imagex` is `gravure wim`. Exit codes are those of all other commands (DESIGN section 5), so 0 means the same as
//! ever and any other number a failure.

mod apply;
mod capture;
mod change;
mod compress;
mod dir;
mod extract;
mod fields;
mod files;
mod info;
mod mount;
mod options;
mod script;
mod update;
mod verify;
mod volume;
mod words;

pub(crate) use capture::parse_source_list;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use gravure_imaging::{ErrorKind, IntegrityChange, NameCase};
use gravure_model::Ctl;

use crate::exit::Failure;
use crate::progress::{Reporter, Show};
use crate::{interrupt, limits, output};
use options::{Given, Opt, flag, value};

/// Commands of the wimlib-imagex syntax
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Options may be shortened, and stand anywhere. An image file that is read may be an address, http:// or https://, or -
for standard input; --limit WHAT=SIZE grants one more than usual, as with all commands. `gravure wim COMMAND --help` shows those of a command. Called by a
link named wimapply, wimcapture and so on, the program is that command.

Examples:
  gravure wim capture /srv/reference reference.wim \"Reference\" --compress=LZX --check --unix-data
  gravure wim apply install.swm 2 /mnt/target --ref=\"install*.swm\"
  gravure wim extract boot.wim 1 '/Windows/Fonts/*.ttf' --dest-dir=fonts
  gravure wim info install.wim"
)]
pub(crate) struct Options {
    /// Command and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// A command of this syntax.
struct Command {
    name: &'static str,
    usage: &'static str,
    run: fn(&Given, &Console) -> Result<ExitCode, Failure>,
    options: &'static [&'static [Opt]],
}

const COMMANDS: [Command; 16] = [
    capture::CAPTURE,
    capture::APPEND,
    apply::COMMAND,
    extract::COMMAND,
    update::COMMAND,
    info::COMMAND,
    dir::COMMAND,
    change::EXPORT,
    change::SPLIT,
    change::JOIN,
    change::DELETE,
    change::OPTIMIZE,
    verify::COMMAND,
    mount::MOUNT,
    mount::MOUNT_RW,
    mount::UNMOUNT,
];

const COMMON: [Opt; 4] = [flag("help"), flag("quiet"), flag("version"), value("limit")];

/// Where a command prints, and how it is stopped.
pub(super) struct Console {
    pub(super) ctl: Ctl,
    pub(super) reporter: Reporter,
    is_quiet: bool,
}

impl Console {
    fn new(is_quiet: bool) -> Self {
        let show = if is_quiet { Show::None } else { Show::Auto };
        Self { ctl: interrupt::ctl(), reporter: Reporter::new(show), is_quiet }
    }

    /// Tells what is done or was done, on standard output as programs of this family do.
    pub(super) fn say(&self, line: &str) -> Result<(), Failure> {
        if self.is_quiet { Ok(()) } else { output::write(&format!("{line}\n")) }
    }

    /// Tells what is odd.
    pub(super) fn warn(&self, line: &str) {
        eprintln!("warning: {line}");
    }
}

/// Runs the command of `gravure wim`.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    run_command(&options.arguments)
}

/// Runs what the program was called for, when its name says so or its first argument is `wim`: the arguments of this
/// syntax are no business of the parser of all others.
pub(crate) fn run_by_name(arguments: &[OsString]) -> Option<Result<ExitCode, Failure>> {
    let (program, rest) = arguments.split_first()?;
    let name = Path::new(program).file_name().and_then(OsStr::to_str).unwrap_or_default();
    if name == "wimlib-imagex" {
        return Some(run_command(rest));
    }
    let by_name = name.strip_prefix("wim").filter(|name| COMMANDS.iter().any(|known| known.name == *name));
    if let Some(command) = by_name {
        let arguments: Vec<OsString> =
            std::iter::once(OsString::from(command)).chain(rest.iter().cloned()).collect();
        return Some(run_command(&arguments));
    }
    match rest.split_first() {
        Some((first, rest)) if first == "wim" => Some(run_command(rest)),
        _ => None,
    }
}

fn run_command(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let Some((name, rest)) = arguments.split_first() else {
        return Err(usage_failure("a command is needed", &all_usages()));
    };
    match name.to_str() {
        Some("--help" | "-help" | "-h") => {
            output::write(&all_usages())?;
            return Ok(ExitCode::SUCCESS);
        }
        Some("--version" | "-version") => return version(),
        _ => {}
    }
    let Some(command) = COMMANDS.iter().find(|command| OsStr::new(command.name) == name) else {
        return Err(usage_failure(&format!("unknown command {name:?}"), &all_usages()));
    };
    let known: Vec<Opt> = COMMON.iter().chain(command.options.iter().copied().flatten()).copied().collect();
    let given = Given::parse(rest, &known).map_err(|why| usage_failure(&why, command.usage))?;
    if given.has("help") {
        output::write(&format!("Usage:\n{}\n", command.usage))?;
        return Ok(ExitCode::SUCCESS);
    }
    if given.has("version") {
        return version();
    }
    limits::set(&given_limits(&given)?);
    (command.run)(&given, &Console::new(given.has("quiet")))
}

/// What `--limit WHAT=SIZE` asks for.
fn given_limits(given: &Given) -> Result<Vec<limits::Limit>, Failure> {
    let limit =
        |value: &OsStr| value.to_string_lossy().parse().map_err(|why| mistake(format!("--limit: {why}")));
    given.values("limit").map(limit).collect()
}

fn version() -> Result<ExitCode, Failure> {
    output::write(&format!("gravure {} (wimlib-imagex syntax)\n", env!("CARGO_PKG_VERSION")))?;
    Ok(ExitCode::SUCCESS)
}

fn all_usages() -> String {
    let usages: Vec<&str> = COMMANDS.iter().map(|command| command.usage).collect();
    format!("Usage:\n{}\n", usages.join("\n"))
}

/// A mistake in the arguments; `usage` is what would be right.
fn usage_failure(why: &str, usage: &str) -> Failure {
    Failure::new(ErrorKind::Usage, why).with_cure(format!("usage:\n{usage}"))
}

/// A mistake in the arguments, without the whole usage.
fn mistake(why: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Usage, why).with_cure("--help shows what is possible")
}

/// The arguments of a command: at least `least`, at most `most`.
fn check_count(given: &Given, least: usize, most: usize, usage: &str) -> Result<(), Failure> {
    match given.arguments.len() {
        count if count < least => Err(usage_failure("arguments are missing", usage)),
        count if count > most => {
            let why = format!("one argument too many: {:?}", given.arguments[most]);
            Err(usage_failure(&why, usage))
        }
        _ => Ok(()),
    }
}

/// Whether names that differ in case only are equal: as on Windows when `WIMLIB_IMAGEX_IGNORE_CASE` is set to 1.
fn name_case() -> NameCase {
    match std::env::var("WIMLIB_IMAGEX_IGNORE_CASE").as_deref() {
        Ok("1" | "yes") => NameCase::Ignore,
        _ => NameCase::Exact,
    }
}

/// Something that this syntax knows and this program does not do.
fn unsupported(why: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Unsupported, why)
}

/// Whether a changed or remade file has an integrity table.
fn integrity_change(given: &Given) -> IntegrityChange {
    match given.last_of(&["check", "include-integrity", "nocheck"]) {
        Some("nocheck") => IntegrityChange::Drop,
        Some(_) => IntegrityChange::Make,
        None => IntegrityChange::Keep,
    }
}

/// What `--image-property NAME=VALUE` asks for, in order.
fn properties(given: &Given) -> Result<Vec<(String, String)>, Failure> {
    let mut properties = Vec::new();
    for value in given.values("image-property") {
        let text = value.to_str().and_then(|text| text.split_once('='));
        let Some((path, value)) = text.filter(|(path, _)| !path.is_empty()) else {
            return Err(mistake(format!("--image-property {value:?}: NAME=VALUE is needed")));
        };
        properties.push((path.to_owned(), value.to_owned()));
    }
    Ok(properties)
}
