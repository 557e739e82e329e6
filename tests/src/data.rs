//! Partitions for data beside the system on a machine's disk, of kinds that the kernel of this machine mounts.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use gravure_testkit::{MountedFile, oracle};

/// Blocks of a MiB that stand before the files while these are written.
const FILLER_BLOCKS: u64 = 500;
const MIB: u64 = 1 << 20;
const FILES: u64 = 40;

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataKind {
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl DataKind {
    /// As `mount` calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Xfs => &["mkfs.xfs", "xfs_repair", "sgdisk", "diff"],
            Self::Btrfs => &["mkfs.btrfs", "btrfs", "sgdisk", "diff"],
        }
    }

    /// Whether its programs are there; tells loudly when not.
    pub fn is_known_here(self) -> bool {
        self.needs().iter().all(|program| oracle(program).is_some())
    }
}

/// A volume of files, kept to compare with.
#[derive(Debug)]
pub struct DataVolume {
    kind: DataKind,
    file: PathBuf,
}

impl DataVolume {
    /// Makes a volume of `mib` MiB in `dir`. Its files lie behind half a gigabyte that was removed later.
    pub fn make(kind: DataKind, dir: &Path, mib: u64) -> Result<Self> {
        let file = dir.join(format!("data.{}", kind.name()));
        File::create(&file)?.set_len(mib * MIB)?;
        run(Command::new(format!("mkfs.{}", kind.name())).args(["-q", "-f", "-L", "data"]).arg(&file))?;
        let out = Self { kind, file };
        let mounted = mounted(&out.file, "")?;
        populate(&mounted.root)?;
        if kind == DataKind::Btrfs {
            // Chunks that are empty go now, and not when the driver gets to it.
            run(Command::new("btrfs").args(["balance", "start", "-dusage=0"]).arg(&mounted.root))?;
        }
        drop(mounted);
        Ok(out)
    }

    /// Makes it partition `number` of `disk`, behind those that are there.
    pub fn add_to(&self, disk: &Path, number: u32) -> Result<()> {
        let mib = fs::metadata(&self.file)?.len() / MIB;
        let part = format!("--new={number}:0:+{mib}M");
        run(Command::new("sgdisk").args([&part, &format!("--typecode={number}:8300")]).arg(disk))?;
        let start = crate::partition_start(disk, number)?;
        let mut copy = Command::new("dd");
        copy.arg(format!("if={}", self.file.display())).arg(format!("of={}", disk.display()));
        copy.args(["bs=1M", "conv=notrunc,sparse", "status=none"]).arg(format!("seek={}", start / MIB));
        run(&mut copy)
    }

    /// Fails unless partition `number` of `disk`, of `bytes` from byte `start` on, has a sound file system with the same files.
    pub fn compare(&self, disk: &Path, start: u64, bytes: u64) -> Result<()> {
        let copy = self.file.with_extension("found");
        crate::copy_partition(disk, start, bytes, &copy)?;
        match self.kind {
            DataKind::Xfs => run(Command::new("xfs_repair").args(["-n", "-f"]).arg(&copy))?,
            DataKind::Btrfs => run(Command::new("btrfs").args(["check", "--readonly"]).arg(&copy))?,
        }
        // One after the other: both have one UUID.
        let found = list(&mounted(&copy, "ro")?)?;
        let wanted = list(&mounted(&self.file, "ro")?)?;
        let [found_list, wanted_list] =
            ["found.list", "wanted.list"].map(|name| self.file.with_extension(name));
        fs::write(&found_list, found)?;
        fs::write(&wanted_list, wanted)?;
        run(Command::new("diff").arg(&wanted_list).arg(&found_list))?;
        fs::remove_file(&copy).context("cannot remove a copy")
    }
}

impl DataVolume {
    /// Changes a file of the volume that is kept, to see whether that is noticed.
    pub fn change_a_file(&self) -> Result<()> {
        let mounted = mounted(&self.file, "")?;
        File::options().write(true).open(mounted.root.join("the same"))?.write_all_at(b"x", 7)?;
        run(Command::new("sync").arg("-f").arg(&mounted.root))
    }
}

fn mounted(volume: &Path, options: &str) -> Result<MountedFile> {
    MountedFile::new(volume, options).with_context(|| format!("{} cannot be mounted", volume.display()))
}

fn populate(root: &Path) -> Result<()> {
    let filler = File::create(root.join("filler"))?;
    for block in 0..FILLER_BLOCKS {
        filler.write_all_at(&noise(1 << 20, block), block * MIB)?;
    }
    filler.sync_all()?;
    drop(filler);
    for n in 0..FILES {
        let dir = root.join(format!("dir {}/deep{}", n % 4, n % 3));
        fs::create_dir_all(&dir)?;
        let len = usize::try_from(n * n * 1000)?;
        fs::write(dir.join(format!("file{n}")), noise(len, 1000 + n))?;
    }
    fs::hard_link(root.join("dir 1/deep2/file5"), root.join("the same"))?;
    symlink("dir 1/deep2", root.join("link"))?;
    let holes = File::create(root.join("holes"))?;
    for n in 0..20 {
        holes.write_all_at(&noise(3000, n), n * 1_000_000)?;
    }
    holes.sync_all()?;
    fs::remove_file(root.join("filler"))?;
    run(Command::new("sync").arg("-f").arg(root))
}

/// Bytes that do not compress.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(len).collect()
}

/// Kind, rights, owner, names and length of everything below, and time and content of files.
fn list(mounted: &MountedFile) -> Result<Vec<u8>> {
    let script = "set -e; find . -mindepth 1 -printf '%P %M %U:%G %n %l\\n' | sort
        find . -type f -printf '%P %s %T@\\n' | sort
        find . -type f -print0 | sort -z | xargs -0 sha256sum";
    let output = Command::new("sh").args(["-c", script]).current_dir(&mounted.root).output()?;
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    if !output.status.success() || u64::try_from(lines)? < 3 * FILES {
        bail!("find: {} {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let (said, out) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        bail!("{command:?} ended with {}: {said}{out}", output.status);
    }
    Ok(())
}
