//! `gravure completions` and man pages, generated from the same command tree as `--help`.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::exit::Failure;

/// Write shell completions, or man pages
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure completions bash > /etc/bash_completion.d/gravure
  gravure completions --man /usr/local/share/man/man1")]
pub(crate) struct Options {
    /// Shell the completions are for
    #[arg(required_unless_present = "man")]
    shell: Option<Shell>,
    /// Write a man page for each command into this directory instead
    #[arg(long, value_name = "DIR")]
    man: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let mut tree = crate::Arguments::command();
    if let Some(dir) = &options.man {
        std::fs::create_dir_all(dir).map_err(|error| Failure::io("create", dir, &error))?;
        clap_mangen::generate_to(tree, dir)
            .map_err(|error| Failure::io("write man pages to", dir, &error))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(shell) = options.shell {
        clap_complete::generate(shell, &mut tree, "gravure", &mut io::stdout());
    }
    Ok(ExitCode::SUCCESS)
}
