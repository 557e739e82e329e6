//! The only place with `unsafe`: system calls that rustix does not wrap, each behind a safe function.
//!
//! Three families: `ioctl` (numbers paired with the type the kernel reads or writes), `socket` (packet sockets,
//! netlink, control messages), `task` (signals, what a child does between fork and exec). Results are `io::Result`; callers add the
//! names.
#![expect(unsafe_code, reason = "system calls that rustix does not wrap")]

pub(crate) mod ioctl;
pub(crate) mod socket;
pub(crate) mod task;

use std::io;

/// Turns the C convention (-1 and errno) into a result.
fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for calls that return a length.
fn checked_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
