//! The kernel as a whole: modules, name, clock, log, restart.

use std::ffi::CString;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use rustix::system::RebootCommand;

use crate::Error;

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks the module itself (Linux 5.17, if configured).
const COMPRESSED_FILE: i32 = 4;

/// Loads the kernel module `file` with `parameters` (`name=value` separated by blanks). A module that is there already
/// is no error.
///
/// Compressed modules (`.ko.xz`, `.ko.zst`) work only on kernels that unpack modules themselves.
pub fn load_module(file: &Path, parameters: &str) -> Result<(), Error> {
    let what = "load module";
    let text = CString::new(parameters)
        .map_err(|_| Error::Unsupported { what: "module parameters", value: parameters.into() })?;
    let module = File::open(file).map_err(Error::on_path(what, file))?;
    let flags = if file.extension().is_some_and(|end| end == "ko") { 0 } else { COMPRESSED_FILE };
    match rustix::system::finit_module(&module, &text, flags) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        other => other.map_err(Error::on_path(what, file)),
    }
}

/// Release of the running kernel, e.g. `6.12.9-amd64`: the name of its directory of modules.
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Sets the name of this machine.
pub fn set_host_name(name: &str) -> Result<(), Error> {
    rustix::system::sethostname(name.as_bytes()).map_err(|e| Error::io("set host name", name, e))
}

/// Sets the clock to `since_epoch` after 1970-01-01 UTC.
pub fn set_clock(since_epoch: Duration) -> Result<(), Error> {
    let bad = || Error::Unsupported { what: "time", value: format!("{since_epoch:?}") };
    let time = rustix::time::Timespec {
        tv_sec: i64::try_from(since_epoch.as_secs()).map_err(|_| bad())?,
        tv_nsec: i64::from(since_epoch.subsec_nanos()),
    };
    rustix::time::clock_settime(rustix::time::ClockId::Realtime, time)
        .map_err(|e| Error::io("set", "clock", e))
}

/// Time since the machine started, sleep included.
pub fn uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// How to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Start again through the firmware.
    Restart,
    /// Switch the power off.
    PowerOff,
    /// Stop and leave the power on.
    Halt,
}

/// Writes everything to the disks and ends this machine. Returns only when the kernel refuses (`EPERM`), or
/// after `End::Halt` in a virtual machine that has no such state.
pub fn end(how: End) -> Result<(), Error> {
    rustix::fs::sync();
    let command = match how {
        End::Restart => RebootCommand::Restart,
        End::PowerOff => RebootCommand::PowerOff,
        End::Halt => RebootCommand::Halt,
    };
    rustix::system::reboot(command).map_err(|e| Error::io("end", "machine", e))
}

/// Whether Ctrl-Alt-Del reaches PID 1 as `SIGINT` instead of restarting at once.
pub fn catch_ctrl_alt_del() -> Result<(), Error> {
    rustix::system::reboot(RebootCommand::CadOff).map_err(|e| Error::io("catch", "ctrl-alt-del", e))
}

/// Writes one line to the kernel log at `level` (0 emergency to 7 debug); it shows on the consoles below their level.
pub fn log(level: u8, line: &str) -> Result<(), Error> {
    let path = Path::new("/dev/kmsg");
    let record = format!("<{}>gravure: {}\n", level.min(7), line.replace('\n', " "));
    File::options()
        .write(true)
        .open(path)
        .and_then(|mut log| log.write_all(record.as_bytes()))
        .map_err(Error::on_path("write", path))
}

/// Sets which messages show on the consoles: those with a level below `level` (1..=8).
pub fn set_console_level(level: u8) -> Result<(), Error> {
    crate::sysfs::write(Path::new("/proc/sys/kernel/printk"), format!("{}\n", level.clamp(1, 8)).as_bytes())
}
