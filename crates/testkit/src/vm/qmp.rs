//! QEMU's monitor protocol (QMP): one JSON object a line over a Unix socket that QEMU connects to.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::Console;

/// QEMU connects right after it started; it is slow only on a machine under heavy load.
const PATIENCE: Duration = Duration::from_secs(60);

/// The socket before QEMU has connected: it exists before QEMU starts, so nothing needs to be retried.
#[derive(Debug)]
pub struct QmpListener {
    listener: UnixListener,
    path: PathBuf,
    /// Holds the directory of the socket.
    _dir: Option<tempfile::TempDir>,
}

impl QmpListener {
    /// Binds `path`, or a short temporary path when that is too long for a socket address (108 bytes).
    pub fn bind(path: &Path) -> Result<Self> {
        const MAX_ADDRESS_BYTES: usize = 107;
        let (path, dir) = if path.as_os_str().len() > MAX_ADDRESS_BYTES {
            let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
            (dir.path().join("qmp"), Some(dir))
        } else {
            (path.to_owned(), None)
        };
        // A socket left by an earlier start of the same machine.
        let _ = std::fs::remove_file(&path);
        let listener =
            UnixListener::bind(&path).with_context(|| format!("cannot bind {}", path.display()))?;
        Ok(Self { listener, path, _dir: dir })
    }

    /// QEMU's `-chardev` argument.
    pub fn argument(&self) -> String {
        format!("socket,id=qmp,server=off,path={}", self.path.display().to_string().replace(',', ",,"))
    }

    /// Takes QEMU's connection and negotiates. Gives up when QEMU ended, which `output` tells.
    pub fn accept(self, output: &Console) -> Result<Qmp> {
        const STEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        let start = Instant::now();
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        while poll(&mut fds, Some(&STEP)).context("cannot wait for QEMU")? == 0 {
            if output.has_ended() || start.elapsed() > PATIENCE {
                bail!("no connection to its monitor within {:?}", start.elapsed());
            }
        }
        let (stream, _) = self.listener.accept().context("cannot accept QEMU's connection")?;
        let _ = std::fs::remove_file(&self.path);
        Qmp::negotiate(stream)
    }
}

/// A connection to the monitor.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    events: Vec<String>,
}

impl Qmp {
    fn negotiate(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE)).context("cannot set a timeout")?;
        let mut qmp = Self { reader: BufReader::new(stream), events: Vec::new() };
        let greeting = qmp.read()?;
        if greeting.get("QMP").is_none() {
            bail!("the monitor greeted with {greeting}");
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns what it returns.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.reader.get_mut().write_all(line.as_bytes()).context("cannot write to the monitor")?;
        loop {
            let mut answer = self.read()?;
            if let Some(error) = answer.get("error") {
                bail!(
                    "{command}: {}",
                    error.get("desc").and_then(Value::as_str).unwrap_or("no reason given")
                );
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(name) = answer.get("event").and_then(Value::as_str) {
                self.events.push(name.to_owned());
            }
        }
    }

    /// Names of the events seen while commands ran, for instance `RESET`; forgotten afterwards.
    pub fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    /// Writes a picture of the screen to `path` (PNG).
    pub fn screenshot(&mut self, path: &Path) -> Result<()> {
        let path = std::path::absolute(path).with_context(|| format!("cannot resolve {}", path.display()))?;
        self.execute("screendump", &json!({ "filename": path, "format": "png" })).map(drop)
    }

    /// Sends a break on the serial line of the character device `chardev`; the next character is a command to the
    /// guest's kernel (SysRq, kernel documentation admin-guide/sysrq).
    pub fn serial_break(&mut self, chardev: &str) -> Result<()> {
        self.execute("chardev-send-break", &json!({ "id": chardev })).map(drop)
    }

    /// Presses the power button.
    pub fn power_button(&mut self) -> Result<()> {
        self.execute("system_powerdown", &json!({})).map(drop)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line).context("cannot read from the monitor")?;
        if count == 0 {
            bail!("QEMU closed its monitor");
        }
        serde_json::from_str(&line).with_context(|| format!("the monitor said {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_qemu_that_ended_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let listener = QmpListener::bind(&dir.path().join("qmp")).unwrap();
        let error = listener.accept(&Console::default()).unwrap_err().to_string();
        assert!(error.starts_with("no connection to its monitor within"), "{error}");
    }

    #[test]
    fn answers_events_and_errors_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let listener = QmpListener::bind(&dir.path().join("qmp")).unwrap();
        let path = listener.path.clone();
        let qemu = thread::spawn(move || {
            let mut stream = UnixStream::connect(path).unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            stream.write_all(b"{\"QMP\": {}}\n").unwrap();
            let mut seen = Vec::new();
            for answer in [
                "{\"return\": {}}\n",
                "{\"event\": \"RESET\"}\n{\"return\": 5}\n",
                "{\"error\": {\"desc\": \"no\"}}\n",
            ] {
                seen.push(lines.next().unwrap().unwrap());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            seen
        });
        let output = Console::default();
        let (reader, writer) = std::io::pipe().unwrap();
        output.follow(reader, None);
        let mut qmp = listener.accept(&output).unwrap();
        drop(writer);
        assert_eq!(qmp.execute("query", &json!({ "a": 1 })).unwrap(), json!(5));
        assert_eq!(qmp.take_events(), ["RESET"]);
        assert_eq!(qmp.execute("stop", &json!({})).unwrap_err().to_string(), "stop: no");
        assert_eq!(qemu.join().unwrap()[1], "{\"arguments\":{\"a\":1},\"execute\":\"query\"}");
        assert_eq!(qmp.execute("cont", &json!({})).unwrap_err().to_string(), "cannot write to the monitor");
    }
}
