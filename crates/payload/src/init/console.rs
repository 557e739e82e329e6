//! Every console of the kernel at once: screen and serial lines show the same. The only place that writes to them.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gravure_linux::{kernel, process, sysfs};

use super::ring::{Ring, cut};

/// The open consoles and the log ring behind them.
#[derive(Debug)]
pub(super) struct Consoles {
    inner: Mutex<Inner>,
    paths: Vec<PathBuf>,
}

#[derive(Debug, Default)]
struct Inner {
    outputs: Vec<File>,
    ring: Ring,
}

impl Consoles {
    /// Opens what `/proc/consoles` lists, else `/dev/console`.
    pub(super) fn open() -> Self {
        let list = sysfs::text(Path::new("/proc/consoles")).unwrap_or_default();
        let mut paths: Vec<PathBuf> = parse(&list).iter().map(|name| Path::new("/dev").join(name)).collect();
        let mut outputs: Vec<File> =
            paths.iter().filter_map(|path| process::open_terminal(path).ok()).collect();
        if outputs.is_empty() {
            paths = vec![PathBuf::from("/dev/console")];
            outputs.extend(process::open_terminal(Path::new("/dev/console")).ok());
        }
        Self { inner: Mutex::new(Inner { outputs, ring: Ring::default() }), paths }
    }

    /// Device nodes of the consoles.
    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Shows a line on all consoles and keeps it.
    pub(super) fn say(&self, line: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.ring.push(kernel::uptime(), line);
        // Carriage return as well: somebody may have left the terminal raw.
        let text = format!("{}\r\n", cut(line));
        for output in &mut inner.outputs {
            // A console that is gone must not keep the others from showing the line.
            let _ = output.write_all(text.as_bytes());
        }
    }

    /// Keeps a line without showing it.
    pub(super) fn note(&self, line: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.ring.push(kernel::uptime(), line);
    }

    /// The last `count` lines of the ring.
    pub(super) fn tail(&self, count: usize) -> (u64, Vec<String>) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).ring.tail(count)
    }
}

/// Names of the consoles that can be written, as `ttyS0  -W- (EC p a)  4:64` lists them.
fn parse(list: &str) -> Vec<&str> {
    list.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            let can_write = words.next()?.contains('W');
            (can_write && !name.contains('/')).then_some(name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_consoles_that_can_be_written() {
        let list = "ttyS0                -W- (EC p a)    4:64\n\
                    tty0                 -WU (E  p  )    4:7\n\
                    netcon0              R-- (E  p  )\n../x -W- (E)\n";
        assert_eq!(parse(list), ["ttyS0", "tty0"]);
        assert!(parse("").is_empty());
    }
}
