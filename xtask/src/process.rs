//! Running other programs: found or named with the package that brings them, failed with their last words.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::console::Remedy;

/// Lines of a failed program's output that are shown.
const SHOWN_LINES: usize = 30;

/// Where `program` stands in `PATH` or in the system directories that a plain user's `PATH` lacks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// A command for `program`; when it is missing, an error naming the set-up command.
pub(crate) fn tool(program: &str) -> Result<Command> {
    match find(program) {
        Some(path) => Ok(Command::new(path)),
        None => bail!(Remedy::new(
            format!("{program} is not installed"),
            "run `cargo xtask setup` as root, which installs everything needed",
        )),
    }
}

/// Runs with the user's own standard output and error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", name(command));
    }
    Ok(())
}

/// Runs quietly and returns standard output; on failure the error carries the end of what was printed.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        let said = if stderr.is_empty() { &stdout } else { &stderr };
        bail!("{} ended with {status}:\n{}", name(command), tail(&String::from_utf8_lossy(said)));
    }
    Ok(stdout)
}

/// The last lines of `text`, indented.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().map(|line| format!("    {line}\n")).collect()
}

/// Program and first arguments, short enough for an error line.
fn name(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let args: Vec<_> = command.get_args().take(4).map(|a| a.to_string_lossy().into_owned()).collect();
    format!("`{} {}`", program.to_string_lossy(), args.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_the_set_up_command() {
        let error = tool("no-such-program-anywhere").unwrap_err().to_string();
        assert!(error.contains("remedy: run `cargo xtask setup`"), "{error}");
    }

    #[test]
    fn a_failed_program_is_quoted() {
        let error = output(Command::new("sh").args(["-c", "echo lost >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("lost") && error.contains("exit status: 3"), "{error}");
    }
}
