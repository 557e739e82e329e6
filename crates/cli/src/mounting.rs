//! Mounted images in the foreground and in the background, for both syntaxes.
//!
//! What serves a mount lives until it is unmounted. In the background that is another process of this program, started with the
//! same arguments: the first one waits until the image is mounted, so that errors and the exit code are what they would
//! be in the foreground.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use gravure_imaging::{Error, ErrorKind, Image, MountLog, MountOptions, MountedImage, Unmount, unmount};
use gravure_linux::process;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::{Failure, chain};

/// Set for the process in the background. An option would have to be put between arguments of two syntaxes.
const IN_BACKGROUND: &str = "GRAVURE_MOUNT_IN_BACKGROUND";
/// What that process says once the image is mounted.
const MOUNTED: &str = "mounted";

/// Where a mount is served.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ground<'a> {
    /// Here, until it is unmounted or a signal comes.
    Fore,
    /// In another process; what could not be read goes to a file, or to the system's log.
    Back {
        /// The file.
        log: Option<&'a Path>,
        /// Whether that process needs the standard input: the image comes from it.
        keeps_stdin: bool,
    },
}

/// An image to be mounted, with the name that the list of mounts shows.
pub(crate) struct ToMount {
    pub(crate) image: Image,
    pub(crate) name: String,
    pub(crate) options: MountOptions,
}

/// Mounts on `dir` what `open` opens. `told` is called once it is mounted.
pub(crate) fn mount(
    dir: &Path,
    ground: Ground<'_>,
    open: impl FnOnce() -> Result<ToMount, Failure>,
    told: impl FnOnce() -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    match ground {
        Ground::Fore => {
            let mounted = start(dir, &open()?, Box::new(|line| tracing::error!("{line}")))?;
            told()?;
            serve(mounted)
        }
        Ground::Back { log, .. } if std::env::var_os(IN_BACKGROUND).is_some() => {
            in_background(dir, log, open)
        }
        Ground::Back { keeps_stdin, .. } => {
            if let Some(code) = start_in_background(keeps_stdin)? {
                return Ok(code);
            }
            told()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Starts this program once more; `None` when the image is mounted, else the exit code. The reason was told.
fn start_in_background(keeps_stdin: bool) -> Result<Option<ExitCode>, Failure> {
    let failed = |error: std::io::Error| Failure::io("start", Path::new("/proc/self/exe"), &error);
    let mut words = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    command.arg0(words.next().unwrap_or_else(|| OsString::from("gravure"))).args(words);
    command.env(IN_BACKGROUND, "1").stdout(Stdio::piped());
    if !keeps_stdin {
        command.stdin(Stdio::null());
    }
    process::in_new_session(&mut command);
    let mut child = command.spawn().map_err(failed)?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line).map_err(failed)?;
    }
    if line.trim_end() == MOUNTED {
        return Ok(None);
    }
    let code = child.wait().map_err(failed)?.code().and_then(|code| u8::try_from(code).ok());
    Ok(Some(ExitCode::from(code.filter(|code| *code != 0).unwrap_or(1))))
}

fn in_background(
    dir: &Path,
    log: Option<&Path>,
    open: impl FnOnce() -> Result<ToMount, Failure>,
) -> Result<ExitCode, Failure> {
    let path = log.unwrap_or(Path::new("/dev/null"));
    let output = File::options().append(true).create(true).open(path);
    let output = output.map_err(|error| Failure::io("open", path, &error))?;
    let lines: MountLog = match log {
        Some(_) => Box::new(|line| tracing::error!("{line}")),
        None => Box::new(to_system_log),
    };
    let mounted = start(dir, &open()?, lines)?;
    let mut out = std::io::stdout();
    if writeln!(out, "{MOUNTED}").and_then(|()| out.flush()).is_err() {
        // Whoever asked is gone; dropped, the mount goes too.
        return Ok(ExitCode::FAILURE);
    }
    process::redirect_output(&output).map_err(|error| Failure::new(ErrorKind::Io, chain(&error)))?;
    // A working directory would keep the volume it is on from being unmounted.
    std::env::set_current_dir("/").map_err(|error| Failure::io("go to", Path::new("/"), &error))?;
    serve(mounted)
}

fn start(dir: &Path, what: &ToMount, log: MountLog) -> Result<MountedImage, Failure> {
    MountedImage::new(&what.image, &what.name, dir, &what.options, log).map_err(|error| {
        let failure = Failure::new(error.kind(), chain(&error));
        match error {
            Error::Io { what: "mount on", .. } => failure.with_cure(
                "FUSE is needed: `modprobe fuse`, and for other users than root the package fuse3",
            ),
            Error::Refused { .. } => failure.with_cure("`gravure unmount DIR` takes it away"),
            _ => failure,
        }
    })
}

/// Serves until somebody unmounts, or a signal asks for it.
fn serve(mounted: MountedImage) -> Result<ExitCode, Failure> {
    let dir = mounted.dir().to_owned();
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]);
    let mut signals = signals.map_err(|error| Failure::io("wait for signals at", &dir, &error))?;
    let handle = signals.handle();
    let waiting = std::thread::spawn(move || {
        for _ in signals.forever() {
            // Open files are served on; a second signal ends the program (`interrupt`).
            if let Err(error) = unmount(&dir, Unmount::Lazy) {
                tracing::error!("{}", chain(&error));
            }
        }
    });
    let served = mounted.serve();
    handle.close();
    // It ends with the handle and panics never.
    let _ = waiting.join();
    served?;
    Ok(ExitCode::SUCCESS)
}

/// One line for the system's log (RFC 3164: facility daemon, severity error). There is nobody left to tell when that fails.
fn to_system_log(line: &str) {
    let text = format!("<27>gravure[{}]: {line}", std::process::id());
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.send_to(text.as_bytes(), "/dev/log");
    }
}

/// Unmounts the image on `dir`.
pub(crate) fn take_away(dir: &Path, when: Unmount) -> Result<(), Failure> {
    unmount(dir, when).map_err(|error| {
        let failure = Failure::new(error.kind(), chain(&error));
        match error.kind() {
            ErrorKind::Refused => failure.with_cure(format!(
                "`fuser -vm {}` names the programs; --lazy takes it away for all that come later",
                dir.display()
            )),
            ErrorKind::NotFound => failure.with_cure("`findmnt -t fuse,fuse.gravure` lists mounted images"),
            _ => failure,
        }
    })
}
