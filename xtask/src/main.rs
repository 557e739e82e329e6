//! `cargo xtask`: set-up, tests, demo, payload and benchmarks. This file holds the command tree and nothing else.
//!
//! Every command works from any directory of the checkout, says what it does while it does it, and ends with a
//! non-zero exit code and a remedy when it cannot.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program talks to its user")]

mod bench;
mod console;
mod demo;
mod image;
mod payload;
mod process;
mod setup;
mod suite;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Develop Gravure: set up, test, demonstrate, build the payload, measure.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the main job: a blank VM boots from our server and comes up in the system we deployed
    Demo(demo::Options),
    /// Set up, then run what CI runs: format, clippy, tidy, unit, integration and VM tests
    Test(suite::Options),
    /// The quick tier before a commit: format, clippy, tidy, unit tests
    Prepush(suite::PrepushOptions),
    /// Check the rules of the house: layers, dependencies, headers, sizes, names
    Tidy(tidy::Options),
    /// Build what a PC boots from the network: kernel, initramfs, signed boot files
    Payload(payload::Options),
    /// Measure against rivals in the same run
    Bench(bench::Options),
    /// The clients of `bench boot`, in their own network
    #[command(hide = true)]
    BenchClient(bench::boot::client::Options),
    /// Install what building, testing and the demo need (Debian 12 and 13, as root)
    Setup(setup::Options),
}

fn main() -> ExitCode {
    let Some(command) = Cli::parse().command else {
        return match Cli::command().print_long_help() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    };
    let result = match command {
        Command::Demo(options) => demo::run(&options).map(success),
        Command::Test(options) => suite::run(&options),
        Command::Prepush(options) => suite::prepush(&options),
        Command::Tidy(options) => tidy::run(&options).map(success),
        Command::Payload(options) => payload::run(&options).map(|_| ExitCode::SUCCESS),
        Command::Bench(options) => bench::run(&options),
        Command::BenchClient(options) => bench::boot::client::run(&options).map(success),
        Command::Setup(options) => setup::run(&options).map(success),
    };
    result.unwrap_or_else(|error| {
        console::failure(&error);
        ExitCode::FAILURE
    })
}

fn success((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_consistent_and_every_command_shows_examples() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Examples:"), "{} has no examples in its help", command.get_name());
        }
    }
}
