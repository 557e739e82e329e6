//! Volumes that are measured: the same files on ext4 and NTFS, an update of about a tenth in place, and a rebuilt one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::bench::apply::{Source, empty};
use crate::console::{Step, size};
use crate::process;

/// Room on the volumes, as a multiple of the files, and beside them.
const SIZE_FACTOR: u64 = 2;
const SPARE: u64 = 256 << 20;
/// Files from this size on are patched, every fourth of them until their bytes are this share of the whole.
const PATCHED_BYTES: u64 = 1 << 20;
const PATCHED_SHARE: u64 = 20;
/// Places in a patched file, and bytes of each.
const PATCHES: u64 = 3;
const PATCH_BYTES: usize = 16 << 10;
/// What an update adds, of the whole.
const ADDED_SHARE: u64 = 20;
/// What it deletes, of the whole.
const DELETED_SHARE: u64 = 25;

/// What volumes are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ext4,
    Ntfs,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ntfs => "ntfs",
        }
    }

    fn format(self, path: &Path) -> Result<()> {
        let mut command = match self {
            Self::Ext4 => process::tool("mkfs.ext4")?,
            Self::Ntfs => process::tool("mkntfs")?,
        };
        match self {
            Self::Ext4 => command.args(["-q", "-F"]),
            Self::Ntfs => command.args(["-Q", "-F", "-q"]),
        };
        process::output(command.arg(path)).map(drop)
    }

    fn mount(self, path: &Path, at: &Path) -> Result<Mount> {
        let mut command = match self {
            Self::Ext4 => process::tool("mount")?,
            Self::Ntfs => process::tool("ntfs-3g")?,
        };
        let option = match self {
            Self::Ext4 => "loop",
            Self::Ntfs => "big_writes",
        };
        process::output(command.arg("-o").arg(option).arg(path).arg(at))?;
        Ok(Mount { at: at.to_owned(), is_done: false })
    }
}

/// A mounted volume; unmounted when dropped, with an error when asked for.
struct Mount {
    at: PathBuf,
    is_done: bool,
}

impl Mount {
    fn end(mut self) -> Result<()> {
        self.is_done = true;
        process::output(process::tool("umount")?.arg(&self.at)).map(drop)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !self.is_done {
            // On the way out of an error, which is the one that is told.
            drop(Command::new("umount").arg(&self.at).output());
        }
    }
}

/// All volumes.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) ext4: Volume,
    pub(super) ntfs: Volume,
    /// The updated ext4 made anew, in another order.
    pub(super) rebuilt: PathBuf,
    /// A raw device of the same content, and with scattered places of 64 KiB changed.
    pub(super) raw: [PathBuf; 2],
}

/// A volume before and after its update.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) kind: Kind,
    pub(super) before: PathBuf,
    pub(super) after: PathBuf,
}

impl Input {
    /// Makes what is not there from an earlier run.
    pub(super) fn prepare(source: &Source, dir: &Path) -> Result<Self> {
        let stamp = format!("{}-{}", source.files, source.bytes);
        let volume = |kind: Kind| Volume {
            kind,
            before: dir.join(format!("{stamp}-a.{}", kind.name())),
            after: dir.join(format!("{stamp}-b.{}", kind.name())),
        };
        let at = |name: &str| dir.join(format!("{stamp}-{name}"));
        let input = Self {
            files: source.files,
            bytes: source.bytes,
            ext4: volume(Kind::Ext4),
            ntfs: volume(Kind::Ntfs),
            rebuilt: at("c.ext4"),
            raw: [at("raw-a.img"), at("raw-b.img")],
        };
        let mount = dir.join("mount");
        fs::create_dir_all(&mount).with_context(|| format!("cannot create {}", mount.display()))?;
        for volume in [&input.ext4, &input.ntfs] {
            let (kind, name) = (volume.kind, volume.kind.name());
            make(&volume.before, &format!("{name} volume"), |path| {
                filled(kind, path, &mount, &[&source.dir], source.bytes)
            })?;
            make(&volume.after, &format!("{name} volume, updated"), |path| {
                copy(&volume.before, path)?;
                let mounted = kind.mount(path, &mount)?;
                update(&mount, source.bytes)?;
                mounted.end()
            })?;
        }
        make(&input.rebuilt, "ext4 volume, rebuilt", |path| {
            let old = dir.join("old");
            fs::create_dir_all(&old).with_context(|| format!("cannot create {}", old.display()))?;
            let mounted = Kind::Ext4.mount(&input.ext4.after, &old)?;
            let mut parts = listed(&old)?;
            parts.reverse();
            parts.retain(|part| !part.ends_with("lost+found"));
            filled(
                Kind::Ext4,
                path,
                &mount,
                &parts.iter().map(PathBuf::as_path).collect::<Vec<_>>(),
                source.bytes,
            )?;
            mounted.end()
        })?;
        make(&input.raw[0], "raw device", |path| {
            let mut from = fs::File::open(&input.ext4.before).context("open the volume")?;
            let mut to = fs::File::create(path).context("create")?;
            let len = (source.bytes / 4).next_multiple_of(1 << 20);
            // Behind the first groups of the file system, where files lie.
            std::io::Seek::seek(&mut from, std::io::SeekFrom::Start(64 << 20)).context("seek")?;
            std::io::copy(&mut std::io::Read::take(from, len), &mut to).context("copy").map(drop)
        })?;
        make(&input.raw[1], "raw device, changed", |path| {
            copy(&input.raw[0], path)?;
            let file = fs::OpenOptions::new().write(true).open(path).context("open")?;
            let len = file.metadata().context("look at")?.len();
            // Every tenth piece, at a place of its own.
            let mut numbers = Numbers(7);
            for start in (0..len).step_by(640 << 10) {
                let at = start + (numbers.below(10) << 16);
                let noise: Vec<u8> = (0..64 << 10).map(|_| numbers.below(256) as u8).collect();
                if at + noise.len() as u64 <= len {
                    file.write_all_at(&noise, at).context("write")?;
                }
            }
            Ok(())
        })?;
        Ok(input)
    }
}

/// Makes a file under another name first, so that a broken run leaves none that looks complete.
fn make(path: &Path, what: &str, work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.is_file() {
        return Ok(());
    }
    let step = Step::start(what);
    let partial = path.with_extension("partial");
    work(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    fs::rename(&partial, path).with_context(|| format!("cannot rename {}", partial.display()))?;
    step.done(size(fs::metadata(path).map_or(0, |metadata| metadata.len())));
    Ok(())
}

/// A copy that keeps holes.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    process::output(Command::new("cp").arg("--sparse=always").arg(from).arg(to)).map(drop)
}

/// A new volume with copies of `parts` at its root.
fn filled(kind: Kind, path: &Path, mount: &Path, parts: &[&Path], bytes: u64) -> Result<()> {
    let file = fs::File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    file.set_len((bytes * SIZE_FACTOR + SPARE).next_multiple_of(1 << 20)).context("cannot set the size")?;
    kind.format(path)?;
    let mounted = kind.mount(path, mount)?;
    for part in parts {
        // NTFS keeps no owners here; contents are what counts.
        let flags = if kind == Kind::Ntfs { "-rP" } else { "-a" };
        process::output(Command::new("cp").arg(flags).arg(part).arg(mount))?;
    }
    mounted.end()
}

fn listed(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        out.push(entry.with_context(|| format!("cannot list {}", dir.display()))?.path());
    }
    out.sort();
    Ok(out)
}

/// Regular files with their sizes, sorted by path.
fn files(dir: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut out = Vec::new();
    for path in listed(dir)? {
        let metadata = fs::symlink_metadata(&path).with_context(|| format!("look at {}", path.display()))?;
        if metadata.is_dir() {
            out.extend(files(&path)?);
        } else if metadata.is_file() {
            out.push((path, metadata.len()));
        }
    }
    Ok(out)
}

/// What a month of updates does to a volume: large files are replaced by ones that differ in a few places, some files go, new ones
/// come. A tenth of the whole is written anew.
fn update(dir: &Path, bytes: u64) -> Result<()> {
    let all = files(dir)?;
    let mut numbers = Numbers(42);
    let large = all.iter().filter(|(_, len)| *len >= PATCHED_BYTES);
    let mut patched = 0;
    for (path, len) in large.step_by(4) {
        if patched > bytes / PATCHED_SHARE {
            break;
        }
        patched += len;
        let mut content = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        for _ in 0..PATCHES {
            let at = usize::try_from(numbers.below(len - PATCH_BYTES as u64)).context("place")?;
            content.iter_mut().skip(at).take(PATCH_BYTES).for_each(|byte| *byte = byte.wrapping_add(17));
        }
        // As package managers do it: a new file takes the name.
        let new = path.with_extension("new");
        fs::write(&new, content).with_context(|| format!("write {}", new.display()))?;
        fs::rename(&new, path).with_context(|| format!("rename {}", new.display()))?;
    }
    let mut deleted = 0;
    for (path, len) in all.iter().skip(all.len() / 2) {
        if deleted > bytes / DELETED_SHARE {
            break;
        }
        fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
        deleted += len;
    }
    // Of real content, but not that of any file there.
    let added = dir.join("added");
    fs::create_dir(&added).context("create a directory")?;
    let mut sum = 0;
    for (number, (path, len)) in all.iter().take(all.len() / 2).enumerate().step_by(3) {
        if sum > bytes / ADDED_SHARE {
            break;
        }
        let mut content = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        content.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        let mut file = fs::File::create(added.join(number.to_string())).context("create a file")?;
        file.write_all(&content).context("write a file")?;
        sum += len;
    }
    Ok(())
}

/// The same numbers in every run (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

/// Removes what is there.
pub(super) fn remove(path: &Path) -> Result<()> {
    if path.is_dir() {
        empty(path)?;
        return fs::remove_dir(path).with_context(|| format!("cannot remove {}", path.display()));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
