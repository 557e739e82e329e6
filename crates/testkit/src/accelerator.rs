//! How machines are run: emulated (TCG), or by KVM where that really works and is faster.
//!
//! A `/dev/kvm` is no proof: nested under some hypervisors it runs real mode thirty times slower than emulation.
//! Both are therefore measured with a boot sector that counts down and ends the machine.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Running;

/// A way to run machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// Emulation in QEMU; works everywhere.
    Tcg,
    /// The kernel's virtualisation.
    Kvm,
}

impl Accelerator {
    /// As QEMU names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }

    /// QEMU's `-accel` argument for a whole machine. Emulated processors share one thread: with a thread each, QEMU 7.2
    /// now and then runs into a kernel's half-patched code (`Oops: int3` in `sched_clock_cpu`, seen on a loaded host).
    pub fn argument(self) -> &'static str {
        match self {
            Self::Tcg => "tcg,thread=single",
            Self::Kvm => "kvm",
        }
    }
}

/// Iterations of the probe's loop: a few hundredths of a second emulated.
const LOOPS: u32 = 20_000_000;
/// What the probe writes to the debug port; QEMU then exits with `(code << 1) | 1`.
const EXIT_CODE: u8 = 0x10;
/// The emulated probe has this long, under load too.
const PATIENCE: Duration = Duration::from_secs(60);

/// The faster accelerator that works, measured once per process; `GRAVURE_ACCELERATOR=tcg|kvm` decides without
/// measuring.
pub fn accelerator() -> Accelerator {
    static CHOSEN: OnceLock<Accelerator> = OnceLock::new();
    *CHOSEN.get_or_init(|| match std::env::var("GRAVURE_ACCELERATOR").as_deref() {
        Ok("tcg") => Accelerator::Tcg,
        Ok("kvm") => Accelerator::Kvm,
        _ => measure(),
    })
}

fn measure() -> Accelerator {
    if !Path::new("/dev/kvm").exists() {
        return Accelerator::Tcg;
    }
    let Ok(emulated) = probe(Accelerator::Tcg, PATIENCE) else { return Accelerator::Tcg };
    match probe(Accelerator::Kvm, emulated.max(Duration::from_millis(250))) {
        Ok(native) if native < emulated => Accelerator::Kvm,
        _ => Accelerator::Tcg,
    }
}

/// Time a tiny machine takes from start to end.
fn probe(accelerator: Accelerator, patience: Duration) -> Result<Duration> {
    let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
    let disk = dir.path().join("probe.img");
    std::fs::write(&disk, boot_sector()).context("cannot write the probe's disk")?;
    let start = Instant::now();
    let mut command = Command::new("setpriv");
    command
        .args([
            "--pdeathsig",
            "KILL",
            "qemu-system-x86_64",
            "-machine",
            "q35",
            "-nodefaults",
            "-display",
            "none",
        ])
        .args(["-no-reboot", "-accel", accelerator.name(), "-device", "isa-debug-exit,iobase=0x501,iosize=1"])
        .arg("-drive")
        .arg(format!("file={},format=raw,if=virtio", disk.display()));
    let status = Running::start(&mut command, None)?.wait(patience)?;
    if status.code() != Some(i32::from(EXIT_CODE) << 1 | 1) {
        bail!("the probe ended with {status}");
    }
    Ok(start.elapsed())
}

/// `mov ecx, LOOPS; again: dec ecx; jnz again; mov al, EXIT_CODE; mov dx, 0x501; out dx, al; hlt` in real mode, on a
/// disk large enough for the BIOS to read.
fn boot_sector() -> Vec<u8> {
    const DISK_BYTES: usize = 1 << 20;
    let mut code = vec![0x66, 0xb9];
    code.extend(LOOPS.to_le_bytes());
    code.extend([0x66, 0x49, 0x75, 0xfc, 0xb0, EXIT_CODE, 0xba, 0x01, 0x05, 0xee, 0xf4]);
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    code.resize(DISK_BYTES, 0);
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle;

    #[test]
    fn the_probe_ends_by_itself_under_emulation() {
        if oracle("qemu-system-x86_64").is_none() {
            return;
        }
        assert!(probe(Accelerator::Tcg, PATIENCE).unwrap() < PATIENCE);
    }
}
