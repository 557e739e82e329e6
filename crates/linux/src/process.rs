//! What PID 1 and the runners of other programs need: signals as data, reaping, sessions, changed roots.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::Mode;
use rustix::mount::MountPropagationFlags;
use rustix::process::{WaitIdOptions, WaitOptions};

use crate::sys::task::{self, Namespace};
use crate::{Dir, Error, NodeKind};

/// Signals this crate delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// A child ended (`SIGCHLD`).
    Child,
    /// Polite end (`SIGTERM`).
    Terminate,
    /// Ctrl-C, and Ctrl-Alt-Del for PID 1 (`SIGINT`).
    Interrupt,
    /// Terminal gone, or "read your configuration again" (`SIGHUP`).
    HangUp,
    /// `SIGUSR1`.
    User1,
    /// `SIGUSR2`.
    User2,
    /// Power failing (`SIGPWR`).
    Power,
}

const SIGNALS: [(Signal, libc::c_int); 7] = [
    (Signal::Child, libc::SIGCHLD),
    (Signal::Terminate, libc::SIGTERM),
    (Signal::Interrupt, libc::SIGINT),
    (Signal::HangUp, libc::SIGHUP),
    (Signal::User1, libc::SIGUSR1),
    (Signal::User2, libc::SIGUSR2),
    (Signal::Power, libc::SIGPWR),
];

impl Signal {
    fn number(self) -> libc::c_int {
        SIGNALS.iter().find(|(signal, _)| *signal == self).map_or(0, |(_, number)| *number)
    }
}

/// Signals as events to wait for.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Takes `signals` out of normal delivery, in this thread and in threads it makes later, and queues them here. Call
    /// it first thing in `main`. Programs started later inherit that and would, for one, not notice `SIGTERM`: start
    /// them with `with_default_signals` or one of the other functions here that prepare a command.
    pub fn take(signals: &[Signal]) -> Result<Self, Error> {
        let numbers: Vec<_> = signals.iter().map(|signal| signal.number()).collect();
        let fd = task::signal_fd(&numbers).map_err(|e| Error::io("take", "signals", e))?;
        Ok(Self { fd })
    }

    /// The next signal and the process that sent it (0: the kernel); `None` when none came within `timeout`. Several of one kind may
    /// arrive as one.
    pub fn next(&self, timeout: Duration) -> Result<Option<(Signal, u32)>, Error> {
        if !wait_readable(&self.fd, timeout)? {
            return Ok(None);
        }
        match task::read_signal(self.fd.as_fd()) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(Error::io("read", "signals", e)),
            Ok((number, sender)) => {
                let known = SIGNALS.iter().find(|(_, known)| u32::try_from(*known) == Ok(number));
                Ok(known.map(|(signal, _)| (*signal, sender)))
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until `fd` can be read or `timeout` is over; whether it can be read. An interrupted wait counts as over.
pub fn wait_readable(fd: impl AsFd, timeout: Duration) -> Result<bool, Error> {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let timeout = rustix::event::Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    match rustix::event::poll(&mut fds, Some(&timeout)) {
        Err(rustix::io::Errno::INTR) => Ok(false),
        other => other.map(|ready| ready > 0).map_err(|e| Error::io("wait for", "descriptor", e)),
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Collects one ended child, whichever; `None` when no ended one is there (or there are no children at all).
///
/// PID 1 inherits every orphan. Children that another thread waits for would be taken from it: a program that
/// does both asks `ended_child` first and leaves those alone.
pub fn reap() -> Result<Option<(u32, Exit)>, Error> {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Err(rustix::io::Errno::CHILD) => Ok(None),
        Err(e) => Err(Error::io("wait for", "children", e)),
        Ok(None) => Ok(None),
        Ok(Some((pid, status))) => {
            let exit = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, signal) => Exit::Signal(signal.unwrap_or(0)),
            };
            Ok(Some((pid.as_raw_nonzero().get().unsigned_abs(), exit)))
        }
    }
}

/// Whether the child `pid` has ended, without collecting it. `None` when there is no such child.
pub fn has_ended(pid: u32) -> Result<Option<bool>, Error> {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return Ok(None) };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match rustix::process::waitid(rustix::process::WaitId::Pid(pid), options) {
        Err(rustix::io::Errno::CHILD) => Ok(None),
        other => other
            .map(|status| Some(status.is_some()))
            .map_err(|e| Error::io("wait for", pid.as_raw_nonzero().to_string(), e)),
    }
}

/// Sends `signal` to the process `pid`.
pub fn send_signal(pid: u32, signal: Signal) -> Result<(), Error> {
    signal_process(pid, signal.number())
}

/// Ends the process `pid` at once (`SIGKILL`).
pub fn kill(pid: u32) -> Result<(), Error> {
    signal_process(pid, libc::SIGKILL)
}

/// Asks every process but PID 1 to end (`SIGTERM`); refused to anybody but PID 1.
pub fn terminate_all() -> Result<(), Error> {
    everyone(rustix::process::Signal::TERM)
}

/// Ends every process but PID 1 at once (`SIGKILL`), before it unmounts; refused to anybody but PID 1.
pub fn kill_all() -> Result<(), Error> {
    everyone(rustix::process::Signal::KILL)
}

fn everyone(signal: rustix::process::Signal) -> Result<(), Error> {
    if std::process::id() != 1 {
        let why = "only PID 1 may end all processes".to_owned();
        return Err(Error::Refused { what: "signal to", on: "all processes".into(), why });
    }
    // The kernel's `kill(-1)`: rustix has it as the process group of init.
    match rustix::process::kill_process_group(rustix::process::Pid::INIT, signal) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => other.map_err(|e| Error::io("send signal to", "all processes", e)),
    }
}

fn signal_process(pid: u32, number: libc::c_int) -> Result<(), Error> {
    let failed = |e: rustix::io::Errno| Error::io("send signal to", pid.to_string(), e);
    let target = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let target = target.ok_or_else(|| failed(rustix::io::Errno::SRCH))?;
    let signal = rustix::process::Signal::from_named_raw(number)
        .ok_or_else(|| Error::Unsupported { what: "signal", value: number.to_string() })?;
    rustix::process::kill_process(target, signal).map_err(failed)
}

/// Lets `command` start with no signal blocked, whatever `Signals::take` did here. The functions below do it too.
pub fn with_default_signals(command: &mut Command) {
    task::before_exec(command, (), |()| Ok(()));
}

/// Lets `command` start as leader of a new session with `terminal` as its controlling terminal, standard input, output
/// and errors: a shell on a console.
pub fn on_terminal(command: &mut Command, terminal: File) -> Result<(), Error> {
    let copy = || terminal.try_clone().map_err(|e| Error::io("duplicate handle of", "terminal", e));
    command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
    task::before_exec(command, terminal, |terminal| {
        rustix::process::setsid()?;
        Ok(rustix::process::ioctl_tiocsctty(terminal)?)
    });
    Ok(())
}

/// Lets `command` start as leader of a new session without a terminal, so that signals of ours do not reach it.
pub fn in_new_session(command: &mut Command) {
    task::before_exec(command, (), |()| Ok(rustix::process::setsid().map(drop)?));
}

/// Lets `command` run with `root` as its root and working directory. The program is looked up inside.
pub fn in_root(command: &mut Command, root: Dir) {
    task::before_exec(command, root, |root| {
        rustix::process::fchdir(root)?;
        Ok(rustix::process::chroot(c".")?)
    });
}

/// Lets `command` start in a mount namespace of its own: what it mounts vanishes with it.
pub fn in_private_mounts(command: &mut Command) {
    task::before_exec(command, (), |()| {
        task::unshare(Namespace::Mounts)?;
        let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        Ok(rustix::mount::mount_change(c"/", flags)?)
    });
}

/// Lets `command` start in a network namespace of its own, where it sees nothing but a loopback that is down.
pub fn in_private_network(command: &mut Command) {
    task::before_exec(command, (), |()| task::unshare(Namespace::Network));
}

/// Modes given to calls of this process are used as they are: an apply must set exactly what the image says.
pub fn clear_umask() {
    rustix::process::umask(Mode::empty());
}

/// Whether this process has the rights of root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// User and group that this process's files belong to.
pub fn owner() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Lets standard output and errors of this process go to `file` from now on.
pub fn redirect_output(file: &File) -> Result<(), Error> {
    let failed = |e| Error::io("redirect", "standard output", e);
    rustix::stdio::dup2_stdout(file).map_err(failed)?;
    rustix::stdio::dup2_stderr(file).map_err(failed)
}

/// Opens a console or terminal for reading and writing without making it our controlling terminal.
pub fn open_terminal(path: &Path) -> Result<File, Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)
        .map_err(Error::on_path("open terminal", path))?;
    match crate::dir::stat_file(&file)?.kind {
        NodeKind::CharDevice => Ok(file),
        other => Err(Error::Refused {
            what: "opening",
            on: path.display().to_string(),
            why: format!("a terminal was expected, found {other:?}"),
        }),
    }
}
