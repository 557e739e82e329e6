//! Looks at a machine's disk from outside, with tools that share no code with ours.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Sector size of the machines' disks, bytes.
const SECTOR_BYTES: u64 = 512;

/// Whether firmware sees nothing to boot: no boot signature in the first sector, no GPT in the second.
pub fn looks_blank(disk: &Path) -> Result<bool> {
    let mut start = [0; 1024];
    let mut file = File::open(disk).with_context(|| format!("cannot open {}", disk.display()))?;
    file.read_exact(&mut start).context("cannot read the first sectors")?;
    Ok(start[510..512] != [0x55, 0xaa] && &start[512..520] != b"EFI PART")
}

/// Where partition `number` starts, bytes, as sgdisk reads the table; fails when sgdisk finds a problem in it.
pub fn partition_start(disk: &Path, number: u32) -> Result<u64> {
    let run = |argument: &str| -> Result<String> {
        let output =
            Command::new("sgdisk").arg(argument).arg(disk).output().context("cannot start sgdisk")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("sgdisk {argument} ended with {}: {text}", output.status);
        }
        Ok(text)
    };
    let verdict = run("--verify")?;
    if !verdict.contains("No problems found") {
        bail!("sgdisk found problems: {verdict}");
    }
    let text = run(&format!("--info={number}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("First sector: "));
    let sector = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(sector.with_context(|| format!("sgdisk told no first sector: {text}"))? * SECTOR_BYTES)
}

/// A file of the ext4 file system that starts at `offset` bytes, as debugfs reads it.
pub fn read_text(disk: &Path, offset: u64, path: &str) -> Result<String> {
    let device = format!("{}?offset={offset}", disk.display());
    let output = Command::new("debugfs").args(["-R", &format!("cat {path}"), &device]).output();
    let output = output.context("cannot start debugfs")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("File not found") || !output.status.success() {
        bail!("debugfs cannot read {path}: {said}");
    }
    String::from_utf8(output.stdout).with_context(|| format!("{path} is not UTF-8"))
}
