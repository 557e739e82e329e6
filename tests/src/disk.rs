//! Looks at a machine's disk from outside, with tools that share no code with ours.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

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

/// Copies `len` bytes from byte `offset` of `disk` on into the new file `to`, with holes where the disk has some: of a disk of many
/// gigabytes little more than what was written to it is read.
pub fn copy_partition(disk: &Path, offset: u64, len: u64, to: &Path) -> Result<()> {
    const STEP: u64 = 1 << 20;
    let said = Command::new("qemu-img").args(["map", "--output=json", "-f", "raw"]).arg(disk).output();
    let said = said.context("cannot start qemu-img")?;
    if !said.status.success() {
        bail!("qemu-img map: {}", String::from_utf8_lossy(&said.stderr));
    }
    let extents: Vec<Extent> =
        serde_json::from_slice(&said.stdout).context("qemu-img map printed no JSON")?;
    let from = File::open(disk).with_context(|| format!("cannot open {}", disk.display()))?;
    let out = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
    out.set_len(len).context("cannot size the copy")?;
    for extent in extents.into_iter().filter(|extent| extent.data && !extent.zero) {
        let (mut at, stop) = (extent.start.max(offset), (extent.start + extent.length).min(offset + len));
        while at < stop {
            let mut bytes = vec![0; usize::try_from(STEP.min(stop - at)).unwrap_or(0)];
            from.read_exact_at(&mut bytes, at).context("cannot read the disk")?;
            out.write_all_at(&bytes, at - offset).context("cannot write the copy")?;
            at += bytes.len() as u64;
        }
    }
    Ok(())
}

/// Copies a whole disk, with its holes.
pub fn copy_disk(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("--sparse=always").arg(from).arg(to).status();
    let copied = copied.context("cannot start cp")?;
    if !copied.success() {
        bail!("{} could not be copied: {copied}", from.display());
    }
    Ok(())
}

/// Whether two disks hold the same bytes.
pub fn is_same_disk(one: &Path, other: &Path) -> Result<bool> {
    let mut compare = Command::new("qemu-img");
    compare.args(["compare", "-f", "raw", "-F", "raw"]).arg(one).arg(other);
    let compared = compare.output().context("cannot start qemu-img")?;
    match compared.status.code() {
        Some(0) => Ok(true),
        Some(1) => {
            println!("{}", String::from_utf8_lossy(&compared.stdout).trim());
            Ok(false)
        }
        _ => bail!("qemu-img compare: {}", String::from_utf8_lossy(&compared.stderr)),
    }
}

/// A line of `qemu-img map`.
#[derive(Debug, Deserialize)]
struct Extent {
    start: u64,
    length: u64,
    zero: bool,
    data: bool,
}

/// A copy of the ext4 file system from byte `offset` to the end of `disk`, as it is after its journal was replayed.
///
/// The machine's plug was pulled: until the journal is replayed its bitmaps may stand without the group descriptors that
/// hold their checksums, and debugfs refuses it. Afterwards e2fsck must find nothing at all to mend.
#[derive(Debug)]
pub struct Replayed {
    file: PathBuf,
}

impl Replayed {
    /// Copies the partition to `file` and replays the journal there; fails when e2fsck finds a fault.
    pub fn new(disk: &Path, offset: u64, file: PathBuf) -> Result<Self> {
        const BLOCK: u64 = 1 << 20;
        let mut copy = Command::new("dd");
        copy.arg(format!("if={}", disk.display())).arg(format!("of={}", file.display()));
        copy.arg(format!("bs={BLOCK}"))
            .arg(format!("skip={}", offset / BLOCK))
            .args(["conv=sparse", "status=none"]);
        let copied = copy.status().context("cannot start dd")?;
        if !offset.is_multiple_of(BLOCK) || !copied.success() {
            bail!("the partition at byte {offset} of {} could not be copied", disk.display());
        }
        // 1: the journal was replayed, or the lists of orphans cleared; that is what every start of the system does.
        e2fsck("-p", &file, &[0, 1])?;
        forget_orphans(&file)?;
        e2fsck("-fn", &file, &[0])?;
        Ok(Self { file })
    }

    /// Blocks of the file system, as debugfs counts them.
    pub fn block_count(&self) -> Result<u64> {
        let output = Command::new("debugfs").args(["-R", "stats"]).arg(&self.file).output();
        let output = output.context("cannot start debugfs")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let count = text.lines().find_map(|line| line.strip_prefix("Block count:")?.trim().parse().ok());
        count.with_context(|| format!("debugfs told no block count: {text}"))
    }

    /// A file, as debugfs reads it.
    pub fn read_text(&self, path: &str) -> Result<String> {
        let output = Command::new("debugfs").args(["-R", &format!("cat {path}")]).arg(&self.file).output();
        let output = output.context("cannot start debugfs")?;
        let said = String::from_utf8_lossy(&output.stderr);
        // It ends with 0 whatever happens; besides its own name it says something only when it fails.
        if !output.status.success() || said.lines().any(|line| !line.starts_with("debugfs ")) {
            bail!("debugfs cannot read {path}: {said}");
        }
        String::from_utf8(output.stdout).with_context(|| format!("{path} is not UTF-8"))
    }
}

/// Takes away the mark that a mounted file system may have orphans.
///
/// The kernel sets it when it mounts and clears it when it unmounts. `e2fsck -p` handles the orphans but, where the journal was all
/// there was to mend, leaves the mark, and `e2fsck -fn` then names it as a fault. Without the mark it looks at the list of orphans all
/// the same and says when it is not empty.
fn forget_orphans(file: &Path) -> Result<()> {
    let mut debugfs = Command::new("debugfs");
    let output = debugfs.args(["-w", "-R", "feature -orphan_present"]).arg(file).output();
    let output = output.context("cannot start debugfs")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || said.lines().any(|line| !line.starts_with("debugfs ")) {
        bail!("debugfs cannot clear the mark of orphans: {said}");
    }
    Ok(())
}

fn e2fsck(mode: &str, file: &Path, accepted: &[i32]) -> Result<()> {
    let output = Command::new("e2fsck").arg(mode).arg(file).output().context("cannot start e2fsck")?;
    if output.status.code().is_some_and(|code| accepted.contains(&code)) {
        return Ok(());
    }
    bail!("e2fsck {mode} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stdout))
}
