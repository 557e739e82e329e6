//! A program that runs beside the test and never outlives it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::Console;

/// A started program with its output. Killed when dropped, and by the kernel when the thread that started it ends.
#[derive(Debug)]
pub struct Running {
    child: Child,
    console: Console,
}

/// Wraps a program so that the kernel kills it together with the thread that started it.
pub(crate) fn mortal(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

impl Running {
    /// Starts `command`; standard output and error become one [`Console`], and `log` keeps them.
    pub fn start(command: &mut Command, log: Option<&Path>) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        let console = Console::default();
        let log =
            log.map(|path| File::create(path).with_context(|| format!("cannot create {}", path.display())));
        let log = log.transpose()?;
        let copy = log.as_ref().map(File::try_clone).transpose().context("cannot share the log")?;
        if let Some(stdout) = child.stdout.take() {
            console.follow(stdout, log);
        }
        if let Some(stderr) = child.stderr.take() {
            console.follow(stderr, copy);
        }
        Ok(Self { child, console })
    }

    /// What it prints.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.console.wait_for_end(timeout)?;
        self.child.wait().context("cannot wait for the program")
    }

    /// Asks it to end (SIGTERM) and waits.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, Signal::TERM).context("cannot send SIGTERM")?;
        self.wait(timeout)
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill the program")?;
        self.child.wait().context("cannot wait for the program")?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn output_is_awaited_and_the_exit_code_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let mut running = Running::start(&mut command, None).unwrap();
        assert_eq!(running.wait(SOON).unwrap().code(), Some(3));
        assert!(running.console().text().contains("out\n") && running.console().text().contains("err\n"));
    }

    #[test]
    fn a_program_is_asked_before_it_is_killed() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "trap 'kill $!; echo bye; exit 7' TERM; sleep 60 >/dev/null 2>&1 & echo up; wait"]);
        let mut running = Running::start(&mut command, None).unwrap();
        running.console().wait_for("up", SOON).unwrap();
        assert_eq!(running.terminate(SOON).unwrap().code(), Some(7));
        running.console().wait_for("bye", SOON).unwrap();
    }
}
