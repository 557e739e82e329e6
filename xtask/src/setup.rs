//! `cargo xtask setup`: what building, testing and the demo need, installed on Debian 12 or 13.
//!
//! Every condition is checked before anything is changed, and each failure names its remedy.

mod checks;
mod packages;
mod pip_programs;
pub(crate) mod python;

use std::io::{BufRead, BufReader, IsTerminal};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::console::{self, Remedy, Step};
use crate::{process, workspace};

const EXAMPLES: &str = "Examples:
  cargo xtask setup           install what is missing (needs root)
  cargo xtask setup --list    show the packages and what each is for
  cargo xtask setup --check   only tell what is missing; exit code 1 when something is";

/// Options of `setup`.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Show the packages and what each is for
    #[arg(long)]
    list: bool,
    /// Only tell what is missing
    #[arg(long, conflicts_with = "list")]
    check: bool,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        let mut rows: Vec<Vec<String>> =
            packages::NEEDED.iter().map(|(n, why)| vec![(*n).into(), (*why).into()]).collect();
        rows.extend(python::rows());
        rows.extend(pip_programs::rows());
        console::table(&rows);
        return Ok(());
    }
    if options.check {
        let mut missing = packages::missing()?;
        if !python::is_complete() {
            missing.push("oracles from PyPI");
        }
        missing.extend(pip_programs::missing());
        if missing.is_empty() {
            console::note("everything needed is installed");
            return Ok(());
        }
        bail!(Remedy::new(format!("missing: {}", missing.join(" ")), "run `cargo xtask setup` as root"));
    }
    ensure()
}

/// Makes sure that everything is there; cheap when it is.
pub(crate) fn ensure() -> Result<()> {
    let step = Step::start("set-up");
    checks::root()?;
    checks::debian()?;
    checks::space(&workspace::target())?;
    let missing = packages::missing()?;
    let outcome = if missing.is_empty() {
        format!("all {} packages are installed", packages::NEEDED.len())
    } else {
        console::note(format!("installing {} packages: {}", missing.len(), missing.join(" ")));
        install(&missing)?;
        format!("{} packages installed", missing.len())
    };
    toolchain()?;
    checks::programs()?;
    // Tests say loudly what they skip without them; without the Python package index everything else still works.
    for outcome in [python::ensure(), pip_programs::ensure()] {
        if let Err(error) = outcome {
            console::warning(format!("{error:#}"));
        }
    }
    step.done(outcome);
    Ok(())
}

fn install(names: &[&str]) -> Result<()> {
    apt(&["update"], "refreshing the package lists")?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(names);
    // A plan of apt's that removes something is not taken: what it removes may be of our own list.
    arguments.push("--no-remove");
    if simulated(&arguments) {
        return apt(&arguments, "installing");
    }
    arguments.pop();
    // A package that came from a source which is no longer configured (a backport, say) can stand in the way of the
    // others: QEMU's parts want one version. Packages of our own list go to the version that apt can get.
    let orphans = packages::orphans()?;
    if !orphans.is_empty() {
        let shown: Vec<String> = orphans.iter().map(packages::Orphan::to_string).collect();
        console::warning(format!(
            "installed in versions that no configured source has, set to the ones apt can get: {}",
            shown.join(", ")
        ));
        arguments.push("--allow-downgrades");
    }
    let pinned: Vec<String> = orphans.iter().map(packages::Orphan::pin).collect();
    arguments.extend(pinned.iter().map(String::as_str));
    apt(&arguments, "installing")?;
    let removed = packages::missing()?;
    if removed.is_empty() {
        return Ok(());
    }
    bail!(Remedy::new(
        format!("apt-get installed {} but removed {}", names.join(" "), removed.join(" ")),
        format!("apt-get install {}, or run this again", removed.join(" ")),
    ))
}

/// Whether apt finds a way to carry out `arguments`.
fn simulated(arguments: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    command.args(["-q", "--simulate"]).args(arguments).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command.output().is_ok_and(|output| output.status.success())
}

/// Runs apt-get and shows its progress: one changing line on a terminal, every 25th package in a log.
fn apt(arguments: &[&str], what: &str) -> Result<()> {
    let mut child = Command::new("apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=120"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start apt-get")?;
    let terminal = std::io::stdout().is_terminal();
    let stdout = child.stdout.take().context("apt-get has no output")?;
    let (mut said, mut count) = (String::new(), 0usize);
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read what apt-get prints")?;
        if ["Get:", "Unpacking", "Setting up"].iter().any(|start| line.starts_with(start)) {
            count += 1;
            if terminal {
                print!("\r\x1b[K    {}", line.chars().take(100).collect::<String>());
                std::io::Write::flush(&mut std::io::stdout()).ok();
            } else if count % 25 == 1 {
                console::note(format!("{what}: {line}"));
            }
        }
        said.push_str(&line);
        said.push('\n');
    }
    if terminal && count > 0 {
        println!("\r\x1b[K    {what}: {count} lines of apt-get, done");
    }
    let status = child.wait().context("cannot wait for apt-get")?;
    if !status.success() {
        bail!(Remedy::new(
            format!("apt-get {} ended with {status}:\n{}", arguments[0], process::tail(&said)),
            "see the lines above; often `apt-get update`, the network, or another apt that is still running",
        ));
    }
    Ok(())
}

/// rustfmt and clippy, which rustup's minimal profile leaves out.
fn toolchain() -> Result<()> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let there =
            workspace::cargo().args([subcommand, "--version"]).output().is_ok_and(|o| o.status.success());
        if there {
            continue;
        }
        console::note(format!("adding the toolchain component {component}"));
        let mut rustup = process::tool("rustup").map_err(|_| {
            Remedy::new(
                format!("cargo {subcommand} is missing"),
                format!("install {component} for your toolchain"),
            )
        })?;
        process::output(rustup.args(["component", "add", component]))?;
    }
    Ok(())
}
