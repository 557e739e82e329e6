//! The `gravure` program: arguments in, exit code out. What commands do is in the engines; here they are given options,
//! progress is shown, and results are printed.
//!
//! Results go to standard output, everything else to standard error. Exit codes: DESIGN section 5, in `exit`.
#![forbid(unsafe_code)]

mod commands;
mod descriptor;
mod exit;
mod hive_file;
mod imagex;
mod interrupt;
mod keys;
mod limits;
mod mounting;
mod output;
mod patterns;
mod progress;
mod stored;
mod target;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::Failure;
use output::Format;
use progress::Show;

const EXAMPLES: &str = "Examples:
  gravure capture /srv/reference reference.wim      a directory becomes an image
  gravure apply reference.wim:1 /mnt/target         an image becomes a directory
  gravure verify reference.wim                      is every byte what it should be?
  gravure image build images/debian-minimal.toml -o debian.wim

`gravure COMMAND --help` explains each command. Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 refused for safety,
5 integrity failure, 6 I/O, 7 network, 8 permission, 9 unsupported, 10 partial, 130 interrupted.";

/// Captures, builds, serves and applies operating system images
#[derive(Debug, Parser)]
#[command(name = "gravure", version, after_help = EXAMPLES, max_term_width = 110)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options every command has.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Common {
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// How progress is shown: bars on a terminal, lines otherwise; jsonl for programs; none
    #[arg(long, global = true, value_enum, default_value_t = Show::Auto)]
    progress: Show,
    /// Let image files ask for other than the usual amounts: chunk, chunk-table, xml, metadata (bytes, or with K, M, G), depth
    /// (directories), contents (bytes that all files of an image may have together; no bound by default)
    #[arg(long = "limit", global = true, value_name = "WHAT=SIZE", hide_short_help = true)]
    limits: Vec<limits::Limit>,
    /// Stores that are read from afar: keep copies of what is fetched in this directory, for whatever asks next; nothing in it is
    /// removed by itself
    #[arg(long, global = true, value_name = "DIR", hide_short_help = true)]
    store_cache: Option<std::path::PathBuf>,
    /// Another place of the store that is read: what the store itself does not give, or gives wrong, comes from here. Several may be named
    #[arg(long = "store-copy", global = true, value_name = "STORE", hide_short_help = true)]
    store_copies: Vec<String>,
}

/// All commands, in the order of DESIGN section 5.
#[derive(Debug, Subcommand)]
enum Command {
    Capture(commands::capture::Options),
    Apply(commands::apply::Options),
    Info(commands::info::Options),
    Ls(commands::ls::Options),
    Extract(commands::extract::Options),
    Verify(commands::verify::Options),
    Disk(commands::disk::Options),
    Ntfs(commands::ntfs::Options),
    Hive(commands::hive::Options),
    Bcd(commands::bcd::Options),
    Driver(commands::driver::Options),
    Inf(commands::inf::Options),
    Inventory(commands::inventory::Options),
    Edit(commands::edit::Options),
    Export(commands::export::Options),
    Split(commands::split::Options),
    Join(commands::join::Options),
    Optimize(commands::optimize::Options),
    Delete(commands::delete::Options),
    Diff(commands::diff::Options),
    Mount(commands::mount::Options),
    #[command(alias = "umount")]
    Unmount(commands::unmount::Options),
    Image(commands::image::Options),
    Nbd(commands::nbd::Options),
    Init(commands::init::Options),
    Doctor(commands::doctor::Options),
    Media(commands::media::Options),
    Serve(commands::serve::Options),
    Machine(commands::machine::Options),
    Plan(commands::plan::Options),
    Wim(imagex::Options),
    Completions(commands::completions::Options),
}

fn main() -> ExitCode {
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(result) = imagex::run_by_name(&words) {
        init_tracing("warn");
        return finish(result);
    }
    // A reader that goes away (`gravure ls X | head`) is no reason for a panic: writes fail and end the command.
    let arguments = Arguments::parse();
    // What a server does is news to its operator; other commands speak of trouble only.
    init_tracing(if matches!(arguments.command, Command::Serve(_)) { "info" } else { "warn" });
    let common = arguments.common;
    limits::set(&common.limits);
    stored::set_places(common.store_cache.as_deref(), &common.store_copies);
    let result = match arguments.command {
        Command::Capture(options) => commands::capture::run(&options, &common),
        Command::Apply(options) => commands::apply::run(&options, &common),
        Command::Info(options) => commands::info::run(&options, &common),
        Command::Ls(options) => commands::ls::run(&options, &common),
        Command::Extract(options) => commands::extract::run(&options, &common),
        Command::Verify(options) => commands::verify::run(&options, &common),
        Command::Disk(options) => commands::disk::run(&options, &common),
        Command::Ntfs(options) => commands::ntfs::run(&options, &common),
        Command::Hive(options) => commands::hive::run(&options, &common),
        Command::Bcd(options) => commands::bcd::run(&options, &common),
        Command::Driver(options) => commands::driver::run(&options, &common),
        Command::Inf(options) => commands::inf::run(&options, &common),
        Command::Inventory(options) => commands::inventory::run(&options, &common),
        Command::Edit(options) => commands::edit::run(&options, &common),
        Command::Export(options) => commands::export::run(&options, &common),
        Command::Split(options) => commands::split::run(&options, &common),
        Command::Join(options) => commands::join::run(&options, &common),
        Command::Optimize(options) => commands::optimize::run(&options, &common),
        Command::Delete(options) => commands::delete::run(&options, &common),
        Command::Diff(options) => commands::diff::run(&options, &common),
        Command::Mount(options) => commands::mount::run(&options, &common),
        Command::Unmount(options) => commands::unmount::run(&options),
        Command::Image(options) => commands::image::run(&options, &common),
        Command::Nbd(options) => commands::nbd::run(&options, &common),
        Command::Init(options) => commands::init::run(&options, &common),
        Command::Media(options) => commands::media::run(&options, &common),
        Command::Doctor(options) => commands::doctor::run(&options, &common),
        Command::Serve(options) => commands::serve::run(&options),
        Command::Machine(options) => commands::machine::run(&options, &common),
        Command::Plan(options) => commands::plan::run(&options, &common),
        Command::Wim(options) => imagex::run(&options),
        Command::Completions(options) => commands::completions::run(&options),
    };
    finish(result)
}

/// Prints a failure once, with all its causes and its cure.
fn finish(result: Result<ExitCode, Failure>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("gravure: {}", failure.message);
            if let Some(cure) = failure.cure {
                eprintln!("  what to do: {cure}");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Logs go to standard error; `GRAVURE_LOG` chooses what, as `tracing` filters do.
fn init_tracing(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("GRAVURE_LOG");
    let filter =
        filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("{default},fuser=error")));
    let color =
        std::env::var_os("NO_COLOR").is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
    // Fails only when a subscriber is set already, and this is the first place.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(color)
        .try_init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_tree_is_sound_and_every_command_has_examples() {
        let mut tree = Arguments::command();
        tree.build();
        tree.clone().debug_assert();
        let mut todo: Vec<&clap::Command> =
            tree.get_subcommands().filter(|command| command.get_name() != "help").collect();
        while let Some(command) = todo.pop() {
            if command.has_subcommands() {
                todo.extend(command.get_subcommands().filter(|command| command.get_name() != "help"));
                continue;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "`{}` has no examples", command.get_name());
            assert!(command.get_about().is_some(), "`{}` says not what it does", command.get_name());
        }
    }
}
