//! A few words a person can type on any console: look at the log, restart, switch off. There is no shell: the payload
//! has nothing to explore, and whoever stands there can switch the machine off anyway.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use gravure_linux::kernel::End;
use gravure_linux::process::{self, Signal};

use super::console::Consoles;
use super::kernel_log;

/// Lines of the log that are shown.
const SHOWN_LINES: usize = 200;
/// Complaints of the kernel that are shown.
const SHOWN_COMPLAINTS: usize = 40;

/// What was typed, for the main loop: 0 nothing, 1 restart, 2 off.
static TAKEN: AtomicU8 = AtomicU8::new(0);

/// Words and what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Log,
    End(End),
    Help,
}

fn parse(line: &str) -> Option<Command> {
    Some(match line.trim() {
        "" => return None,
        "log" => Command::Log,
        "restart" | "reboot" => Command::End(End::Restart),
        "off" | "poweroff" => Command::End(End::PowerOff),
        _ => Command::Help,
    })
}

/// What was asked for since the last call.
pub(super) fn taken() -> Option<End> {
    match TAKEN.swap(0, Ordering::Relaxed) {
        1 => Some(End::Restart),
        2 => Some(End::PowerOff),
        _ => None,
    }
}

/// Listens on all consoles.
pub(super) fn listen(consoles: &Arc<Consoles>) {
    for path in consoles.paths().to_vec() {
        let consoles = Arc::clone(consoles);
        std::thread::spawn(move || {
            // A console without a reading side ends its thread; the others go on.
            if let Ok(terminal) = process::open_terminal(&path) {
                let _ = serve(&consoles, &path, terminal);
            }
        });
    }
}

fn serve(consoles: &Consoles, path: &PathBuf, terminal: File) -> std::io::Result<()> {
    let mut input = BufReader::new(terminal);
    let mut line = String::new();
    while {
        line.clear();
        input.read_line(&mut line)?
    } > 0
    {
        match parse(&line) {
            None => {}
            Some(Command::Log) => show_log(consoles, path)?,
            Some(Command::End(how)) => {
                TAKEN.store(if how == End::PowerOff { 2 } else { 1 }, Ordering::Relaxed);
                // Wakes the main loop, which waits for signals.
                let _ = process::send_signal(1, Signal::Child);
            }
            Some(Command::Help) => {
                let mut output = File::options().write(true).open(path)?;
                output.write_all(b"log: show the last lines   restart   off\r\n")?;
            }
        }
    }
    Ok(())
}

/// Our log, then what the kernel complained about, on the console it was asked on.
fn show_log(consoles: &Consoles, path: &Path) -> std::io::Result<()> {
    let mut output = File::options().write(true).open(path)?;
    let (dropped, lines) = consoles.tail(SHOWN_LINES);
    if dropped > 0 {
        output.write_all(format!("({dropped} older lines are gone)\r\n").as_bytes())?;
    }
    for line in lines.into_iter().chain(kernel_log::complaints(SHOWN_COMPLAINTS)) {
        output.write_all(format!("{line}\r\n").as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(parse("log\r\n"), Some(Command::Log));
        assert_eq!(parse(" off \n"), Some(Command::End(End::PowerOff)));
        assert_eq!(parse("restart\n"), Some(Command::End(End::Restart)));
        assert_eq!(parse("ls -l\n"), Some(Command::Help));
        assert_eq!(parse("\n"), None);
    }
}
