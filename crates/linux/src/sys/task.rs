//! Signals as a descriptor, and what a child does between fork and exec.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::thread::UnshareFlags;

use super::{checked, checked_len};

/// Blocks `signals` in the calling thread (threads made later inherit that) and returns a descriptor that delivers
/// them.
pub(crate) fn signal_fd(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    // SAFETY: sigset_t is an array of integers; zeros are a valid value and sigemptyset initialises it anyway.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid sigset_t for all these calls and outlives them; no old set is asked for.
    let fd = unsafe {
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            checked(libc::sigaddset(&raw mut set, signal))?;
        }
        let result = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        checked(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?
    };
    // SAFETY: the kernel has just given us this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes one pending signal from a descriptor of `signal_fd`: its number and the process that sent it.
pub(crate) fn read_signal(fd: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    // SAFETY: signalfd_siginfo is integers only.
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    let len = size_of::<libc::signalfd_siginfo>();
    // SAFETY: `info` is valid for writes of `len` bytes until the call returns, and any bit pattern is valid.
    let got = checked_len(unsafe { libc::read(fd.as_raw_fd(), (&raw mut info).cast(), len) })?;
    if got != len {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    Ok((info.ssi_signo, info.ssi_pid))
}

/// Lets the child of `command` run `step` on `data` after fork and before exec, with no signal blocked.
///
/// `step` must only make system calls: no allocation, no locks, no environment. That is why this is crate-private and
/// takes a function pointer.
pub(crate) fn before_exec<D: Send + Sync + 'static>(
    command: &mut Command,
    data: D,
    step: fn(&D) -> io::Result<()>,
) {
    // SAFETY: the steps handed in by this crate (see `process`) make only system calls through rustix, which neither
    // allocates nor locks, so they are fit for the child of a program with threads. `data` lives in the closure.
    unsafe {
        command.pre_exec(move || {
            unblock_signals()?;
            step(&data)
        })
    };
}

/// Makes the calling thread get all signals again.
fn unblock_signals() -> io::Result<()> {
    // SAFETY: sigset_t is an array of integers; zeros are a valid value and sigemptyset initialises it anyway.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `none` is valid and outlives both calls; no old set is asked for.
    let result = unsafe {
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// Gives the calling child of `before_exec` a namespace of its own.
pub(crate) fn unshare(space: Namespace) -> io::Result<()> {
    let flags = match space {
        Namespace::Mounts => UnshareFlags::NEWNS,
        Namespace::Network => UnshareFlags::NEWNET,
    };
    // SAFETY: the rule of `unshare_unsafe` is about shared descriptor tables (CLONE_FILES); these two keep them.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// What `unshare` can separate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespace {
    Mounts,
    Network,
}

/// Whether the kernel's clock is marked as synchronised (adjtimex(2), `STA_UNSYNC` clear).
pub(crate) fn clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: timex is integers only, and zeros ask for nothing to be changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is valid for reads and writes until the call returns.
    checked(unsafe { libc::adjtimex(&raw mut state) })?;
    Ok(state.status & libc::STA_UNSYNC == 0)
}
