//! Keeps the agent running: starts it, shows what it says, restarts it when it aborts, and obeys how it ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gravure_linux::kernel::End;
use gravure_linux::process::Exit;

use super::console::Consoles;
use super::kernel_log;
use super::ring::MAX_LINE_BYTES;
use crate::agent::Leave;
use crate::files;

/// Wait before the first restart; doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// An agent that ran this long had no trouble starting: the waits begin anew.
const STEADY: Duration = Duration::from_secs(300);
/// Lines of the agent that go with the report of its abort.
const ABORT_LINES: usize = 12;
/// Complaints of the kernel that go with it: they tell when memory ran out.
const ABORT_COMPLAINTS: usize = 5;
/// How often the main loop looks when nothing happens.
const IDLE: Duration = Duration::from_secs(60);

/// What an ended agent means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It asks for the end of the machine.
    End(End),
    /// It will be started again.
    Restart,
}

/// The agent's keeper.
#[derive(Debug)]
pub(super) struct Keeper {
    consoles: Arc<Consoles>,
    running: Option<Running>,
    restart_at: Option<Instant>,
    wait: Duration,
}

#[derive(Debug)]
struct Running {
    child: Child,
    since: Instant,
    readers: Vec<JoinHandle<()>>,
}

impl Keeper {
    /// A keeper without an agent.
    pub(super) fn new(consoles: Arc<Consoles>) -> Self {
        Self { consoles, running: None, restart_at: None, wait: FIRST_WAIT }
    }

    /// Starts the agent; a failure is tried again later.
    pub(super) fn start(&mut self) {
        self.restart_at = None;
        let mut command = Command::new("/proc/self/exe");
        command.arg("agent").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        gravure_linux::process::in_new_session(&mut command);
        match command.spawn() {
            Ok(mut child) => {
                let mut readers = Vec::new();
                readers.extend(child.stdout.take().map(|pipe| self.show(pipe)));
                readers.extend(child.stderr.take().map(|pipe| self.show(pipe)));
                self.running = Some(Running { child, since: Instant::now(), readers });
            }
            Err(error) => {
                self.consoles.say(&format!("the agent cannot be started: {error}"));
                self.schedule();
            }
        }
    }

    /// Shows every line that comes through `pipe`.
    fn show(&self, pipe: impl std::io::Read + Send + 'static) -> JoinHandle<()> {
        let consoles = Arc::clone(&self.consoles);
        std::thread::spawn(move || {
            let mut input = BufReader::new(pipe);
            let mut line = Vec::new();
            // The bound keeps a program that never ends its line from filling the memory.
            let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
            loop {
                line.clear();
                match (&mut input).take(limit).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => consoles.say(&String::from_utf8_lossy(&line)),
                }
            }
        })
    }

    /// A child was collected; what it means if it was the agent.
    pub(super) fn ended(&mut self, pid: u32, exit: Exit) -> Option<Verdict> {
        let running = self.running.take_if(|running| running.child.id() == pid)?;
        for reader in running.readers {
            let _ = reader.join();
        }
        if let Some(how) = asked_end(exit) {
            return Some(Verdict::End(how));
        }
        if running.since.elapsed() >= STEADY {
            self.wait = FIRST_WAIT;
        }
        let how = match exit {
            Exit::Code(code) => format!("exit code {code}"),
            Exit::Signal(signal) => format!("signal {signal}"),
        };
        let (_, mut lines) = self.consoles.tail(ABORT_LINES);
        lines.extend(kernel_log::complaints(ABORT_COMPLAINTS));
        // The next agent tells the server; without the file it would not know that it is a second one.
        let report = format!("the agent ended by {how}; last lines:\n{}\n", lines.join("\n"));
        if let Err(error) = files::write_private(std::path::Path::new(files::ABORT_FILE), report.as_bytes()) {
            self.consoles.say(&format!("{}: {error}", files::ABORT_FILE));
        }
        self.consoles.say(&format!("The agent ended by {how}; started again in {} s", self.wait.as_secs()));
        self.schedule();
        Some(Verdict::Restart)
    }

    fn schedule(&mut self) {
        self.restart_at = Some(Instant::now() + self.wait);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    /// How long the main loop may wait for signals.
    pub(super) fn next_wait(&self) -> Duration {
        self.restart_at.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()))
    }

    /// Starts the agent when its wait is over.
    pub(super) fn tick(&mut self) {
        if self.restart_at.is_some_and(|at| at <= Instant::now()) {
            self.start();
        }
    }
}

/// The end of the machine an agent asked for by its exit code.
fn asked_end(exit: Exit) -> Option<End> {
    let Exit::Code(code) = exit else { return None };
    match Leave::from_exit_code(u8::try_from(code).ok()?)? {
        Leave::Restart => Some(End::Restart),
        Leave::PowerOff => Some(End::PowerOff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_agreed_codes_end_the_machine() {
        assert_eq!(asked_end(Exit::Code(Leave::Restart.exit_code().into())), Some(End::Restart));
        assert_eq!(asked_end(Exit::Code(Leave::PowerOff.exit_code().into())), Some(End::PowerOff));
        for exit in [Exit::Code(0), Exit::Code(1), Exit::Code(101), Exit::Code(-1), Exit::Signal(9)] {
            assert_eq!(asked_end(exit), None, "{exit:?}");
        }
    }
}
