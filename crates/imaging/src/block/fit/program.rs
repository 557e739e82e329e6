//! Programs of file systems, run on what is shown to them as a file.

use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::{Error, ErrorKind};

/// Where programs of the system's owner are when the path does not say.
const SYSTEM_PATHS: [&str; 2] = ["/usr/sbin", "/sbin"];
/// Lines that are told of what a failed program said.
const LAST_LINES: usize = 6;

/// Runs a program, however it ends.
pub(super) fn output(program: &str, change: impl FnOnce(&mut Command)) -> Result<Output, Error> {
    let found = SYSTEM_PATHS.iter().map(|dir| Path::new(dir).join(program)).find(|path| path.is_file());
    let mut command = Command::new(found.unwrap_or_else(|| program.into()));
    command.env("LC_ALL", "C").stdin(Stdio::null());
    change(&mut command);
    // The payload blocks signals; a program that inherits that cannot be stopped.
    gravure_linux::process::with_default_signals(&mut command);
    command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::NotFound { what: "program", which: program.to_owned() },
        _ => Error::io("start", program)(error),
    })
}

/// Runs a program on the file; what it says when it ends with one of the codes that are `fine`.
pub(super) fn run(
    program: &str,
    arguments: &[&str],
    file: &Path,
    size: Option<String>,
    fine: &[i32],
) -> Result<String, Error> {
    let output = output(program, |command| {
        command.args(arguments).arg(file).args(size);
    })?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code().is_some_and(|code| fine.contains(&code)) {
        return Ok(said);
    }
    let error = String::from_utf8_lossy(&output.stderr);
    let words = said.lines().chain(error.lines()).map(str::trim).filter(|line| !line.is_empty());
    let words: Vec<&str> = words.collect();
    let last = words[words.len().saturating_sub(LAST_LINES)..].join("; ");
    Err(Error::Other {
        what: format!("{program}: {}", output.status),
        source: last.into(),
        kind: ErrorKind::Failed,
    })
}
