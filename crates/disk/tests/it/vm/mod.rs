//! Virtual machines watched through their serial line.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "machines need time and a thread")]

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Says why a test proves nothing here; a failure where oracles are required.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("GRAVURE_REQUIRE_ORACLES").is_none(), "required oracle is missing: {why}");
    eprintln!("SKIPPED: {why}");
}

/// Runs a virtual machine until its console shows `wanted`, and gives everything shown until then. `None` after a loud
/// skip when there is no QEMU. The machine is ended in any case.
pub(crate) fn vm_until(arguments: &[&str], wanted: &str, limit: Duration) -> Option<String> {
    let spawned = Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-m", "256"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            skip("qemu-system-x86_64 is not installed");
            return None;
        }
        other => Running(other.expect("QEMU starts")),
    };
    let mut console = child.0.stdout.take().expect("standard output is piped");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok(len @ 1..) = console.read(&mut buf) {
            if sender.send(buf[..len].to_vec()).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + limit;
    let mut shown = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&shown).into_owned();
        if text.contains(wanted) {
            return Some(text);
        }
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => shown.extend(bytes),
            Err(_) => panic!("the machine did not show {wanted:?}, but:\n{text}"),
        }
    }
}

/// Ends the machine when the test is over, also when it failed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
